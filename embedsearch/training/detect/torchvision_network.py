"""Detectors of torchvision, to be trained."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from embedsearch.enrichers import detect_torchvision
from embedsearch.enrichers.base import Pixels
from embedsearch.enrichers.detect_folder import CHECKPOINT, TORCHVISION
from embedsearch.enrichers.detect_torchvision import Spec, build, objects_in
from embedsearch.enrichers.detector_file import write_detector
from embedsearch.records import Detection
from embedsearch.training.detect.looks import Sample
from embedsearch.training.detect.network import as_tensors, labels_of
from embedsearch.training.detect.torchvision_repulsion import Watched

_USUAL = {"ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320}
_SIDE = 640
"""Of the square that others are trained on."""


class TorchvisionNetwork:
    """A :class:`~embedsearch.training.detect.network.Network`."""

    def __init__(
        self,
        spec: Spec,
        met: Sequence[str],
        *,
        own: bool = False,
        size: int | None = None,
        scratch: bool = False,
        device: torch.device | None = None,
    ) -> None:
        """Start from the weights that ``spec`` names, for the labels ``met``.

        A head for other labels than the weights know begins anew. Raises
        :class:`~embedsearch.errors.EnricherError`.
        """
        state: Mapping[str, Tensor] = {}
        known: tuple[str, ...] = ()
        if not scratch:
            if spec.file is None:
                state = detect_torchvision.download(spec.model)
                known = detect_torchvision.coco_labels()
            else:
                state, known = detect_torchvision.read_checkpoint(spec.file)
        self.labels = labels_of(known, met, own)
        self._model, self._asked = spec.model, size or spec.size
        self.size = _USUAL.get(spec.model) or self._asked or _SIDE
        self._device = device or torch.device("cpu")
        self.module = Steady(build(spec.model, len(self.labels) + 1, self._asked))
        self._new = set(_fitting(self.module.detector, state, same=self.labels == known))
        self.module.to(self._device)
        self._watched = Watched(self.module.detector)

    def new_parameters(self) -> list[nn.Parameter]:
        named = self.module.detector.named_parameters()
        return [parameter for name, parameter in named if name in self._new]

    def head(self) -> list[nn.Parameter]:
        named = self.module.detector.named_parameters()
        return [parameter for name, parameter in named if not name.startswith("backbone.")]

    def losses(self, samples: Sequence[Sample], repulsion: float) -> dict[str, Tensor]:
        told = [as_tensors(sample, self._device) for sample in samples]
        pictures = [pixels.float() / 255 for pixels, _, _ in told]
        targets = [{"boxes": boxes, "labels": labels + 1} for _, boxes, labels in told]
        parts: dict[str, Tensor] = dict(self.module(pictures, targets))
        if repulsion:
            parts["repulsion"] = repulsion * self._watched.repulsion()
        return parts

    def detect(self, picture: Pixels, threshold: float) -> tuple[Detection, ...]:
        self.module.eval()
        return objects_in(self.module.detector, picture, self.labels, threshold)

    def write(self, folder: Path, about: dict[str, Any]) -> None:
        state = {name: value.cpu() for name, value in self.module.detector.state_dict().items()}
        torch.save({"model": state, "labels": list(self.labels)}, folder / CHECKPOINT)
        told = {TORCHVISION: self._model, "labels": list(self.labels)}
        write_detector(about | told | ({"size": self._asked} if self._asked else {}), folder)


class Steady(nn.Module):
    """A detector whose BatchNorm keeps its statistics: batches are far too small for new ones."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def train(self, mode: bool = True) -> Steady:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
                module.eval()
        return self

    def forward(self, *given: Any) -> Any:
        return self.detector(*given)


def _fitting(model: nn.Module, state: Mapping[str, Tensor], same: bool) -> list[str]:
    """Load what fits, and of a head for other labels nothing; the names of what stays new."""
    mine = model.state_dict()
    fits = {
        name: value
        for name, value in state.items()
        if name in mine and value.shape == mine[name].shape and (same or not _names(name))
    }
    model.load_state_dict(fits, strict=False)
    return [name for name in mine if name not in fits]


def _names(name: str) -> bool:
    """Whether a weight belongs to what gives objects their label."""
    return bool(re.search(r"cls_logits|box_predictor|classification_head\.module_list", name))
