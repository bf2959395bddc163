"""The repulsion loss for detectors of torchvision, whose boxes are seen on their way.

Of Faster R-CNN the boxes are those of proposals that were given an object; of detectors in one step
those that overlap an object by at least a half already, which is theirs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from embedsearch.training.detect.repulsion import repulsion

_THEIRS = 0.5


class Watched:
    """Sees what a detector predicts in training."""

    def __init__(self, detector: nn.Module) -> None:
        self._detector = detector
        self._two_steps = hasattr(detector, "roi_heads")
        self._seen: dict[str, Any] = {}
        if self._two_steps:
            heads = detector.roi_heads
            self._after(heads, "select_training_samples", "samples")
            self._after(heads, "box_predictor", "predicted", hook=True)
            heads.register_forward_pre_hook(self._see_targets)
        else:
            self._around(detector, "compute_loss")

    def repulsion(self) -> Tensor:
        """Of the batch that went through last."""
        parts = self._of_proposals() if self._two_steps else self._of_anchors()
        return torch.stack(parts).mean()

    def _after(self, owner: Any, name: str, key: str, hook: bool = False) -> None:
        """Keep what ``owner.name`` gives."""
        if hook:
            getattr(owner, name).register_forward_hook(
                lambda module, given, made: self._seen.update({key: made})
            )
            return
        call = getattr(owner, name)

        def seeing(*given: Any, **named: Any) -> Any:
            made = call(*given, **named)
            self._seen[key] = made
            return made

        setattr(owner, name, seeing)

    def _around(self, owner: Any, name: str) -> None:
        """Keep what ``owner.name`` is given."""
        call = getattr(owner, name)

        def seeing(targets: Any, outputs: Any, anchors: Any, *more: Any) -> Any:
            self._seen.update(targets=targets, outputs=outputs, anchors=anchors)
            return call(targets, outputs, anchors, *more)

        setattr(owner, name, seeing)

    def _see_targets(self, module: nn.Module, given: Any) -> None:
        self._seen["targets"] = given[3] if len(given) > 3 else None

    def _of_proposals(self) -> list[Tensor]:
        proposals, matched, labels, _ = self._seen["samples"]
        shifts = self._seen["predicted"][1]
        decoded = self._detector.roi_heads.box_coder.decode(shifts, proposals)
        parts, start = [], 0
        for at, label in enumerate(labels):
            end = start + len(label)
            mine = label > 0
            boxes = decoded[start:end][mine, label[mine]]
            parts.append(repulsion(boxes, matched[at][mine], self._seen["targets"][at]["boxes"]))
            start = end
        return parts

    def _of_anchors(self) -> list[Tensor]:
        shifts = self._seen["outputs"]["bbox_regression"]
        parts = []
        for at, target in enumerate(self._seen["targets"]):
            boxes = _decoded(self._detector.box_coder, shifts[at], self._seen["anchors"][at])
            truths = target["boxes"]
            if not len(truths):
                parts.append(boxes.sum() * 0)
                continue
            overlap, matched = box_iou(boxes.detach(), truths).max(1)
            mine = overlap >= _THEIRS
            parts.append(repulsion(boxes[mine], matched[mine], truths))
        return parts


def _decoded(coder: Any, shifts: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (N, 4) of what is predicted for anchors."""
    way = coder.decode_single if hasattr(coder, "decode_single") else coder.decode
    boxes: Tensor = way(shifts, anchors)
    return boxes
