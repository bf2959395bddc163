"""Boxes that keep away from what is not theirs (Wang et al., "Repulsion Loss: Detecting Pedestrians
in a Crowd", 2018)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

_SIGMA = 0.5
"""Where the penalty turns from logarithmic to linear."""


def repulsion(boxes: Tensor, matched: Tensor, truths: Tensor) -> Tensor:
    """RepGT + RepBox of one picture, a scalar.

    ``boxes`` (P, 4) are what is predicted for objects, ``matched`` (P,) the object of each, and
    ``truths`` (G, 4) all objects; corners in pixels.
    """
    if len(truths) < 2 or not len(boxes):
        return boxes.sum() * 0
    return _from_truths(boxes, matched, truths) + _from_boxes(boxes, matched)


def _from_truths(boxes: Tensor, matched: Tensor, truths: Tensor) -> Tensor:
    """Equation 4: how much of the nearest other object a box covers."""
    overlap = box_iou(boxes.detach(), truths)
    overlap[torch.arange(len(boxes)), matched] = -1
    score, other = overlap.max(1)
    covered = _intersection(boxes, truths[other]) / _area(truths[other]).clamp(min=1e-6)
    penalties = _smooth(covered)[score > 0]
    return penalties.sum() / max(1, len(boxes))


def _from_boxes(boxes: Tensor, matched: Tensor) -> Tensor:
    """Equation 6: how much boxes of different objects overlap."""
    overlap = box_iou(boxes, boxes)
    pairs = torch.triu(matched[:, None] != matched[None, :], diagonal=1) & (overlap > 0)
    return _smooth(overlap[pairs]).sum() / max(1, int(pairs.sum()))


def _smooth(value: Tensor) -> Tensor:
    """Equation 5: -ln(1 - x), and its tangent beyond sigma."""
    inside = -torch.log1p(-value.clamp(max=_SIGMA))
    beyond = (value - _SIGMA) / (1 - _SIGMA) - torch.log(torch.tensor(1 - _SIGMA))
    return torch.where(value <= _SIGMA, inside, beyond)


def _intersection(one: Tensor, other: Tensor) -> Tensor:
    """Of pairs (N, 4), (N, 4): (N,)."""
    sides = torch.minimum(one[:, 2:], other[:, 2:]) - torch.maximum(one[:, :2], other[:, :2])
    return sides.clamp(min=0).prod(1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
