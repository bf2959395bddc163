"""``torchvision:MODEL``: the segmenters of torchvision, with its weights or with one's own.

Instances: Mask R-CNN (He et al., 2017). Semantic: DeepLabV3 (Chen et al., 2017), FCN (Long et al.,
2015) and LR-ASPP (Howard et al., 2019).
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers import masks
from embedsearch.enrichers.base import Findings, Pixels
from embedsearch.enrichers.class_names import VOC, usual
from embedsearch.enrichers.detect_torchvision import (
    choose_device,
    coco_labels,
    download,
    fill,
    read_checkpoint,
)
from embedsearch.enrichers.detector_file import hashed
from embedsearch.enrichers.semantic import LabelMap, enlarged, from_logits, parts, sampled
from embedsearch.errors import EnricherError
from embedsearch.records import Detection, EnricherInfo
from embedsearch.settings import Device

if TYPE_CHECKING:
    from torch import Tensor, nn

INSTANCES = ("maskrcnn_resnet50_fpn_v2", "maskrcnn_resnet50_fpn")
SEMANTIC = (
    *("deeplabv3_mobilenet_v3_large", "deeplabv3_resnet50", "deeplabv3_resnet101"),
    *("fcn_resnet50", "fcn_resnet101", "lraspp_mobilenet_v3_large"),
)
THRESHOLD = 0.5
"""Score from which an instance counts."""
LOOK = 520
"""Shorter side that the library's semantic weights were measured at."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = 0.5
"""Probability from which a pixel belongs to an instance."""
_FORM = re.compile(r"torchvision:(?P<model>[^@?]+)(?:@(?P<file>[^?]+))?")
_CLASS_WEIGHTS = re.compile(r"classifier\.(\d+|low_classifier)\.weight")


def load(spec: str, device: Device) -> TorchvisionInstances | TorchvisionSemantic:
    """Load ``torchvision:MODEL`` or ``torchvision:MODEL@FILE.pth``.

    Raises :class:`~embedsearch.errors.EnricherError`.
    """
    matched = _FORM.fullmatch(spec)
    if matched is None or matched["model"] not in (*INSTANCES, *SEMANTIC):
        raise EnricherError(
            f"{spec!r}: name one of torchvision's segmenters, torchvision:MODEL or "
            f"torchvision:MODEL@FILE.pth. MODEL is one of {', '.join((*INSTANCES, *SEMANTIC))}."
        )
    model, file = matched["model"], matched["file"]
    path = None if file is None else Path(file).expanduser().absolute()
    if path is not None and not path.is_file():
        raise EnricherError(f"{path}: there is no such checkpoint file ({spec!r} names it).")
    if model in INSTANCES:
        return _instances(model, path, device)
    return _semantic(model, path, device)


class TorchvisionInstances:
    """Mask R-CNN. One picture at a time; calls of several threads take turns."""

    def __init__(
        self, model: nn.Module, labels: Sequence[str], info: EnricherInfo, device: Device
    ) -> None:
        self._model, self._labels = model.eval().to(choose_device(device)), tuple(labels)
        self._info, self._turn = info, threading.Lock()

    @property
    def info(self) -> EnricherInfo:
        return self._info

    def enrich(self, picture: Pixels) -> Findings:
        """Instances with their masks, by falling score."""
        return Findings(objects=self.instances(picture, THRESHOLD))

    def instances(self, picture: Pixels, threshold: float) -> tuple[Detection, ...]:
        """Those with at least this score."""
        with self._turn:
            return instances_in(self._model, picture, self._labels, threshold)

    def label_map(self, picture: Pixels) -> NDArray[np.uint8]:
        """Class of every pixel: that of the surest instance it belongs to."""
        numbers = {label: n for n, label in enumerate(self._info.labels, 1)}
        told = np.zeros(picture.shape[:2], np.uint8)
        for each in reversed(self.enrich(picture).objects):
            assert each.mask is not None
            told[masks.decode(each.mask)] = numbers[each.label]
        return told


class TorchvisionSemantic:
    """DeepLabV3, FCN, LR-ASPP. One picture at a time; calls of several threads take turns."""

    def __init__(self, model: nn.Module, info: EnricherInfo, device: Device) -> None:
        self._model, self._info = model.eval().to(choose_device(device)), info
        self._turn = threading.Lock()

    @property
    def info(self) -> EnricherInfo:
        return self._info

    def enrich(self, picture: Pixels) -> Findings:
        """The connected parts of each class; the score is the mean probability of the pixels."""
        return parts(self._told(picture), self._info.labels, *picture.shape[:2])

    def label_map(self, picture: Pixels) -> NDArray[np.uint8]:
        return enlarged(self._told(picture).classes, *picture.shape[:2])

    def class_logits(self, picture: Pixels, side: int) -> NDArray[np.float32]:
        """As :class:`~embedsearch.enrichers.semantic.SoftSegmenter` says."""
        return sampled(self._logits(picture), side)

    def _told(self, picture: Pixels) -> LabelMap:
        logits = self._logits(picture)
        return from_logits(logits, *logits.shape[:2])

    def _logits(self, picture: Pixels) -> NDArray[np.float32]:
        import torch

        with self._turn, torch.inference_mode():
            logits = self._model(_normalised(self._model, picture))["out"][0]
        told: NDArray[np.float32] = logits.permute(1, 2, 0).float().cpu().numpy()
        return told


def instances_in(
    model: nn.Module, picture: Pixels, labels: Sequence[str], threshold: float
) -> tuple[Detection, ...]:
    """What Mask R-CNN in evaluation finds, by falling score. Class n is ``labels[n - 1]``; one
    without a name is left out."""
    import torch

    device = next(model.parameters()).device
    pixels = torch.tensor(np.ascontiguousarray(picture)).to(device).permute(2, 0, 1)
    with torch.inference_mode():
        (found,) = model([pixels.float() / 255])
    objects = []
    for score, place, mask in zip(
        found["scores"].tolist(), found["labels"].tolist(), found["masks"], strict=True
    ):
        if score < threshold or not labels[place - 1]:
            continue
        code = masks.encode((mask[0] >= _HALF).cpu().numpy())
        box = masks.box_of(code)
        if box is not None:
            objects.append(Detection(labels[place - 1], float(score), box, code))
    return tuple(sorted(objects, key=lambda each: -each.score))


def build(model: str, classes: int) -> nn.Module:
    """One of :data:`INSTANCES` or :data:`SEMANTIC` without weights, for ``classes`` with the
    background among them."""
    from torchvision.models import get_model

    made: nn.Module = get_model(model, weights=None, weights_backbone=None, num_classes=classes)
    return made


def _normalised(model: nn.Module, picture: Pixels) -> Tensor:
    """The picture with its shorter side at :data:`LOOK`, float32 (1, 3, H, W)."""
    import torch
    from PIL import Image

    height, width = picture.shape[:2]
    scale = LOOK / min(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(np.ascontiguousarray(picture))
    scaled = torch.tensor(np.asarray(image.resize(size, Image.Resampling.BILINEAR)))
    values = (scaled.float() / 255 - torch.tensor(_MEAN)) / torch.tensor(_STD)
    return values.permute(2, 0, 1)[None].to(next(model.parameters()).device)


def _instances(model: str, file: Path | None, device: Device) -> TorchvisionInstances:
    if file is None:
        state, labels = download(model), coco_labels()
    else:
        state, labels = read_checkpoint(file)
    made = build(model, len(labels) + 1)
    fill(made, state, file or model)
    info = _info(
        model, file, state, [label for label in labels if label], min(made.transform.min_size)
    )
    return TorchvisionInstances(made, labels, info, device)


def _semantic(model: str, file: Path | None, device: Device) -> TorchvisionSemantic:
    if file is None:
        state: Mapping[str, Any] = download(model)
        labels: tuple[str, ...] = VOC
    else:
        state, labels = _read_semantic(file)
    made = build(model, len(labels) + 1)
    # The second head is for training only.
    fill(made, {name: v for name, v in state.items() if not name.startswith("aux")}, file or model)
    return TorchvisionSemantic(made, _info(model, file, state, labels, LOOK), device)


def _read_semantic(file: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Weights and labels of a checkpoint: a state dict, alone or under ``model``, with ``labels``
    beside it; one of 21 classes without labels has VOC's."""
    import torch

    try:
        read = torch.load(file, map_location="cpu", weights_only=True)
        state, labels = read.get("model", read), read.get("labels")
        heads = [name for name in state if _CLASS_WEIGHTS.fullmatch(name)]
        classes = int(state[heads[-1]].shape[0])
    except IndexError:
        raise EnricherError(f"{file}: holds no semantic segmenter of torchvision.") from None
    except Exception as error:  # PyTorch raises many types for what is no checkpoint
        raise EnricherError(f"{file}: cannot be read as a checkpoint ({error}).") from error
    if labels is None and classes != len(VOC) + 1:
        raise EnricherError(
            f"{file}: does not say what its {classes - 1} classes are called; save it as "
            '{"model": STATE_DICT, "labels": ["dog", ...]}, the background left out'
        )
    return state, tuple(usual(str(label)) for label in labels or VOC)


def _info(
    model: str, file: Path | None, state: Mapping[str, Any], labels: Sequence[str], look: int
) -> EnricherInfo:
    digest = _state_hash(state) if file is None else hashed(file)
    told = json.dumps([digest, model, THRESHOLD, list(labels)])
    named = f"torchvision:{model}" + ("" if file is None else f"@{file}")
    return EnricherInfo(
        id=f"{model.replace('_', '-')}-{hashlib.sha256(told.encode()).hexdigest()[:12]}",
        spec=named,
        stage="segment",
        licence="BSD-3-Clause; weights see torchvision"
        if file is None
        else "see where the weights are from",
        weights_hash=digest,
        look=int(look),
        labels=tuple(labels),
        description=f"torchvision {model}",
    )


def _state_hash(state: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()
