"""The loss of YOLOX, with its way to tell which cells are to find an object.

Ge et al., "YOLOX", 2021, and "OTA: Optimal Transport Assignment for Object Detection", 2021: SimOTA
gives each object the few cells that find it most cheaply already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits, one_hot
from torchvision.ops import box_iou

from embedsearch.training.detect.repulsion import repulsion
from embedsearch.training.detect.yolox import STRIDES

BOX_WEIGHT = 5.0
_RADIUS = 2.5
"""Cells around the middle of an object that may find it, in strides."""
_BEST = 10
"""Overlaps of so many cells add up to how many an object gets."""
_IOU_COST, _OUTSIDE_COST = 3.0, 1e5


@dataclass(frozen=True, slots=True)
class Match:
    """Which cells are to find what."""

    cells: Tensor
    """Places of the cells, (P,)."""
    objects: Tensor
    """The object of each, (P,)."""
    overlaps: Tensor
    """IoU of each cell's box with its object."""


def grid(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Column and row of every cell (N, 2), and its stride (N, 1)."""
    cells, strides = [], []
    for stride in STRIDES:
        side = torch.arange(size // stride, device=device)
        y, x = torch.meshgrid(side, side, indexing="ij")
        cells.append(torch.stack([x, y], 2).reshape(-1, 2))
        strides.append(torch.full((x.numel(), 1), stride, device=device))
    return torch.cat(cells).float(), torch.cat(strides).float()


def corners(rows: Tensor, cells: Tensor, strides: Tensor) -> Tensor:
    """Boxes (..., N, 4) as corners in pixels, of rows as the network gives them."""
    middle = (rows[..., :2] + cells) * strides
    half = rows[..., 2:4].clamp(max=10).exp() * strides / 2
    return torch.cat([middle - half, middle + half], -1)


def yolox_loss(
    rows: Tensor,
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    size: int,
    repulsion_weight: float = 0.0,
) -> dict[str, Tensor]:
    """Parts of the loss of a batch: ``box``, ``anything``, ``label`` and, with a weight,
    ``repulsion``; each is divided by the number of cells that are to find something.

    ``rows`` (B, N, 5 + C) are the network's; ``boxes`` (G, 4) corners and ``labels`` (G,) of each
    picture.
    """
    rows = rows.float()
    cells, strides = grid(size, rows.device)
    placed = corners(rows, cells, strides)
    wanted = torch.zeros_like(rows[..., 4])
    parts = {name: rows.sum() * 0 for name in ("box", "label", "repulsion")}
    found = 0
    for at in range(len(rows)):
        if not len(boxes[at]):
            continue
        with torch.no_grad():
            match = assign(rows[at], placed[at], boxes[at], labels[at], cells, strides)
        wanted[at, match.cells] = 1
        found += len(match.cells)
        mine = placed[at, match.cells]
        overlap = _paired_iou(mine, boxes[at][match.objects])
        parts["box"] = parts["box"] + (1 - overlap**2).sum() * BOX_WEIGHT
        target = one_hot(labels[at][match.objects], rows.shape[2] - 5) * match.overlaps[:, None]
        parts["label"] = parts["label"] + binary_cross_entropy_with_logits(
            rows[at, match.cells, 5:], target, reduction="sum"
        )
        if repulsion_weight:
            away = repulsion(mine, match.objects, boxes[at])
            parts["repulsion"] = parts["repulsion"] + away * len(match.cells) * repulsion_weight
    parts["anything"] = binary_cross_entropy_with_logits(rows[..., 4], wanted, reduction="sum")
    if not repulsion_weight:
        del parts["repulsion"]
    return {name: value / max(1, found) for name, value in parts.items()}


def assign(
    rows: Tensor, placed: Tensor, boxes: Tensor, labels: Tensor, cells: Tensor, strides: Tensor
) -> Match:
    """SimOTA for one picture: rows (N, 5 + C), their boxes (N, 4), objects (G, 4) and (G,)."""
    middles = (cells + 0.5) * strides
    inside = _inside(middles, boxes)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = (middles[:, None] - centre[None]).abs().amax(2) < _RADIUS * strides
    usable = (inside | near).any(1).nonzero()[:, 0]
    overlap = box_iou(placed[usable], boxes)
    scores = (rows[usable, 5:].sigmoid() * rows[usable, 4:5].sigmoid()).sqrt()
    cost = _label_cost(scores, labels) - _IOU_COST * (overlap + 1e-8).log()
    cost = cost + _OUTSIDE_COST * ~(inside & near)[usable]
    chosen = torch.zeros_like(cost, dtype=torch.bool)
    counts = overlap.topk(min(_BEST, len(usable)), 0).values.sum(0).int().clamp(min=1).tolist()
    for number, count in enumerate(counts):
        best = cost[:, number].topk(min(count, len(usable)), largest=False).indices
        chosen[best, number] = True
    twice = chosen.sum(1) > 1
    chosen[twice] = one_hot(cost[twice].argmin(1), len(boxes)).bool()
    at, objects = chosen.nonzero(as_tuple=True)
    return Match(usable[at], objects, overlap[at, objects])


def _label_cost(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of every cell with every object's label, (cells, objects)."""
    wanted = one_hot(labels, scores.shape[1]).float()
    pairs = (len(scores), len(labels), scores.shape[1])
    return binary_cross_entropy(
        scores[:, None].expand(pairs), wanted[None].expand(pairs), reduction="none"
    ).sum(2)


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether points (N, 2) lie in boxes (G, 4): (N, G)."""
    return ((points[:, None] > boxes[None, :, :2]) & (points[:, None] < boxes[None, :, 2:])).all(2)


def _paired_iou(one: Tensor, other: Tensor) -> Tensor:
    sides = torch.minimum(one[:, 2:], other[:, 2:]) - torch.maximum(one[:, :2], other[:, :2])
    common = sides.clamp(min=0).prod(1)
    areas = [(each[:, 2:] - each[:, :2]).clamp(min=0).prod(1) for each in (one, other)]
    return common / (areas[0] + areas[1] - common).clamp(min=1e-6)
