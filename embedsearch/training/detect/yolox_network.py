"""YOLOX-nano, to be trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedsearch.enrichers.base import Pixels
from embedsearch.enrichers.detect_yolo import objects_in
from embedsearch.enrichers.detector_file import (
    MODEL,
    DetectorFile,
    Input,
    Output,
    write_detector,
)
from embedsearch.errors import DataError
from embedsearch.records import Detection
from embedsearch.training.detect.looks import Sample
from embedsearch.training.detect.narrow import narrowed
from embedsearch.training.detect.network import as_tensors, carried, labels_of
from embedsearch.training.detect.yolox import STRIDES, Yolox, export, from_onnx
from embedsearch.training.detect.yolox_loss import yolox_loss

_RARE = 0.01
"""How likely a new label is thought to be at first."""


class YoloxNetwork:
    """A :class:`~embedsearch.training.detect.network.Network`."""

    def __init__(
        self,
        file: DetectorFile,
        met: Sequence[str],
        *,
        own: bool = False,
        size: int | None = None,
        scratch: bool = False,
        device: torch.device | None = None,
    ) -> None:
        """Start from the weights of ``file``, an export of YOLOX-nano, for the labels ``met``.

        Raises :class:`~embedsearch.errors.DataError`.
        """
        if file.output.kind != "yolox":
            raise DataError(f"{file.path}: only a YOLOX can be trained further, not {file.output}")
        self.labels = labels_of(file.labels, met, own)
        self.size = size or max(file.input.size, default=416)
        if self.size % max(STRIDES):
            raise DataError(f"model.size={self.size}: must be a multiple of {max(STRIDES)}")
        start = from_onnx(file.path)
        places = carried(file.labels, self.labels)
        self.module: Yolox = Yolox(len(self.labels)) if scratch else start
        if scratch:
            _anew(self.module)
        elif places != list(range(start.classes)):
            _with_labels(start, places)
        self._new = not scratch and any(place < 0 for place in places)
        self._device = device or torch.device("cpu")
        self.module.to(self._device)
        self._file = DetectorFile(
            path=file.path,
            labels=self.labels,
            output=Output("yolox", STRIDES),
            input=Input(size=(self.size,), layout="nhwc"),
            threshold=file.threshold,
            nms=file.nms,
        )

    def new_parameters(self) -> list[nn.Parameter]:
        if not self._new:
            return []
        return [p for level in self.module.levels for p in level.classes.parameters()]

    def head(self) -> list[nn.Parameter]:
        return list(self.module.levels.parameters())

    def losses(self, samples: Sequence[Sample], repulsion: float) -> dict[str, Tensor]:
        told = [as_tensors(sample, self._device) for sample in samples]
        rows = self.module(torch.stack([pixels for pixels, _, _ in told]).float())
        boxes, labels = [each[1] for each in told], [each[2] for each in told]
        return yolox_loss(rows, boxes, labels, self.size, repulsion)

    def detect(self, picture: Pixels, threshold: float) -> tuple[Detection, ...]:
        running = _Running(self.module, (self.size, self.size), self._device)
        return objects_in(picture, self._file, running, threshold)

    def write(self, folder: Path, about: dict[str, Any]) -> None:
        module = self.module.cpu().eval()
        path = folder / MODEL
        export(module, path, self.size)
        onnx.save(narrowed(onnx.load(path)), path)
        told = asdict(self._file)
        del told["path"]
        write_detector(told | about, folder)
        self.module.to(self._device)


class _Running:
    """A :class:`~embedsearch.enrichers.detect_yolo.Network` in PyTorch."""

    def __init__(self, module: nn.Module, size: tuple[int, int], device: torch.device) -> None:
        self._module, self.size, self._device = module, size, device

    def run(self, entered: NDArray[Any]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(entered).to(self._device).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            rows = self._module(pixels)[0].float()
        rows[:, 4:].sigmoid_()
        given: NDArray[np.float32] = rows.cpu().numpy()
        return given


def _with_labels(network: Yolox, places: Sequence[int]) -> None:
    """Other labels: each keeps the weights at its place, new ones (-1) begin at nothing."""
    with torch.no_grad():
        for level in network.levels:
            old = level.classes
            new = nn.Conv2d(old.in_channels, len(places), 1)
            assert new.bias is not None and old.bias is not None
            for at, place in enumerate(places):
                new.weight[at] = old.weight[place] if place >= 0 else 0.0
                new.bias[at] = old.bias[place] if place >= 0 else math.log(_RARE / (1 - _RARE))
            level.classes = new
    network.classes = len(places)


def _anew(network: Yolox) -> None:
    """Weights for a network without BatchNorm (He et al., "Delving Deep into Rectifiers", 2015),
    which finds nothing at first, or the loss of all the empty cells is all there is."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        for level in network.levels:
            for layer in (level.classes, level.anything, level.box):
                layer.weight.mul_(0.1)
            for layer in (level.classes, level.anything):
                layer.bias.fill_(math.log(_RARE / (1 - _RARE)))
