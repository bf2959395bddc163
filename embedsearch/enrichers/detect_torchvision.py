"""``torchvision:MODEL``: the detectors of torchvision, with its weights or with one's own.

Faster R-CNN (Ren et al., 2015), RetinaNet (Lin et al., 2017), FCOS (Tian et al., 2019), SSD (Liu et
al., 2016) and SSDlite (Sandler et al., 2018).
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import numpy as np

from embedsearch.enrichers.base import Findings, Pixels
from embedsearch.enrichers.detector_file import hashed
from embedsearch.errors import EnricherError
from embedsearch.records import Detection, EnricherInfo
from embedsearch.settings import Device

if TYPE_CHECKING:
    from torch import nn

MODELS = (
    *("fasterrcnn_resnet50_fpn_v2", "fasterrcnn_mobilenet_v3_large_320_fpn"),
    *("fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_resnet50_fpn"),
    *("retinanet_resnet50_fpn_v2", "retinanet_resnet50_fpn", "fcos_resnet50_fpn"),
    *("ssd300_vgg16", "ssdlite320_mobilenet_v3_large"),
)
THRESHOLD = 0.5
LEAST = 0.005
"""Boxes with less are not made at all: each costs time where boxes take one another out."""
_CLASS_WEIGHTS = re.compile(
    r"roi_heads\.box_predictor\.cls_score\.weight|head\.classification_head\."
    r"(cls_logits|module_list\.0(\.1)?)\.weight"
)
_FORM = re.compile(r"torchvision:(?P<model>[^@?]+)(?:@(?P<file>[^?]+))?(?:\?(?P<options>.*))?")


@dataclass(frozen=True, slots=True)
class Spec:
    """``torchvision:MODEL@FILE.pth?threshold=0.5&size=800``, taken apart."""

    model: str
    file: Path | None
    threshold: float = THRESHOLD
    size: int | None = None
    """Shorter side that pictures are brought to; the model's own where none is given."""

    def __str__(self) -> str:
        """The spec that leads to the same detector from any working folder."""
        file = "" if self.file is None else f"@{self.file}"
        size = "" if self.size is None else f"&size={self.size}"
        return f"torchvision:{self.model}{file}?threshold={self.threshold:g}{size}"


def parse(spec: str) -> Spec:
    """Raises :class:`~embedsearch.errors.EnricherError`."""
    matched = _FORM.fullmatch(spec)
    if matched is None or matched["model"] not in MODELS:
        raise EnricherError(
            f"{spec!r}: name one of torchvision's detectors, torchvision:MODEL or "
            f"torchvision:MODEL@FILE.pth. MODEL is one of {', '.join(MODELS)}."
        )
    options = dict(parse_qsl(matched["options"] or "", keep_blank_values=True))
    file = Path(matched["file"]).expanduser().absolute() if matched["file"] else None
    if file is not None and not file.is_file():
        raise EnricherError(f"{file}: there is no such checkpoint file ({spec!r} names it).")
    try:
        size = int(options.pop("size")) if "size" in options else None
        threshold = float(options.pop("threshold", THRESHOLD))
    except ValueError as error:
        raise EnricherError(f"{spec!r}: {error}.") from error
    if options or (size is not None and size < 32):
        raise EnricherError(f"{spec!r}: after the ? may stand threshold=0.5 and size=800.")
    return Spec(matched["model"], file, threshold, size)


def load(spec: str, device: Device) -> TorchvisionDetector:
    """Load a detector. Raises :class:`~embedsearch.errors.EnricherError`."""
    asked = parse(spec)
    if asked.file is None:
        labels, model = _from_library(asked)
        digest, licence = _state_hash(model), "BSD-3-Clause; weights see torchvision"
    else:
        state, labels = read_checkpoint(asked.file)
        model = build(asked.model, len(labels) + 1, asked.size)
        fill(model, state, asked.file)
        digest, licence = hashed(asked.file), "see where the weights are from"
    return TorchvisionDetector(model, asked, labels, digest, licence, device)


class TorchvisionDetector:
    """One picture at a time; calls of several threads take turns."""

    def __init__(
        self,
        model: nn.Module,
        asked: Spec,
        labels: Sequence[str],
        digest: str,
        licence: str,
        device: Device,
    ) -> None:
        self._model = model.eval().to(choose_device(device))
        self._labels, self._threshold = tuple(labels), asked.threshold
        self._turn = threading.Lock()
        told = json.dumps([digest, asked.model, asked.threshold, asked.size, list(labels)])
        size = model.transform.min_size
        self._info = EnricherInfo(
            id=f"{asked.model.replace('_', '-')}-{hashlib.sha256(told.encode()).hexdigest()[:12]}",
            spec=str(asked),
            stage="detect",
            licence=licence,
            weights_hash=digest,
            look=int(size[-1] if isinstance(size, list | tuple) else size),
            labels=tuple(label for label in labels if label),
            description=f"torchvision {asked.model}",
        )

    @property
    def info(self) -> EnricherInfo:
        return self._info

    def enrich(self, picture: Pixels) -> Findings:
        return Findings(objects=self.detect(picture, self._threshold))

    def detect(self, picture: Pixels, threshold: float) -> tuple[Detection, ...]:
        """Objects with at least this score, the best first."""
        with self._turn:
            return objects_in(self._model, picture, self._labels, threshold)


def objects_in(
    model: nn.Module, picture: Pixels, labels: Sequence[str], threshold: float
) -> tuple[Detection, ...]:
    """What a detector in evaluation finds. Class n is ``labels[n - 1]``; one without a name is left
    out."""
    import torch

    device = next(model.parameters()).device
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).to(device).permute(2, 0, 1)
    with torch.inference_mode():
        (found,) = model([pixels.float() / 255])
    boxes, scores = found["boxes"].cpu().tolist(), found["scores"].cpu().tolist()
    objects = [
        _detection(box, score, labels[place - 1])
        for box, score, place in zip(boxes, scores, found["labels"].tolist(), strict=True)
        if score >= threshold and 0 < place <= len(labels) and labels[place - 1]
    ]
    kept = [each for each in objects if each.box[2] >= 1 and each.box[3] >= 1]
    return tuple(sorted(kept, key=lambda each: -each.score))


def _detection(box: Sequence[float], score: float, label: str) -> Detection:
    left, top, right, bottom = box  # the library has cut them at the picture's border
    return Detection(label, score, (left, top, right - left, bottom - top))


def build(model: str, classes: int, size: int | None = None) -> nn.Module:
    """One of :data:`MODELS` without weights, for ``classes`` with the background among them."""
    from torchvision.models import get_model

    options: dict[str, Any] = {}
    if size is not None and not model.startswith("ssd"):
        options = {"min_size": size, "max_size": size * 5 // 3}
    threshold = "box_score_thresh" if model.startswith("fasterrcnn") else "score_thresh"
    made: nn.Module = get_model(
        model,
        weights=None,
        weights_backbone=None,
        num_classes=classes,
        **{threshold: LEAST},
        **options,
    )
    return made


def coco_labels() -> tuple[str, ...]:
    """COCO's names by torchvision's numbers from 1 on; empty where the number means nothing."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_V2_Weights

    names = FasterRCNN_ResNet50_FPN_V2_Weights.DEFAULT.meta["categories"]
    return tuple("" if name == "N/A" else name for name in names[1:])


def read_checkpoint(file: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Weights and labels of a checkpoint: a state dict, alone or under ``model`` as torchvision's
    own training script has it, with ``labels`` beside it as our training has it. One of 91 classes
    without labels has COCO's.

    Raises :class:`~embedsearch.errors.EnricherError`.
    """
    import torch

    try:
        read = torch.load(file, map_location="cpu", weights_only=True)
        state = read.get("model", read)
        labels = read.get("labels")
        head = next(name for name in state if _CLASS_WEIGHTS.fullmatch(name))
    except StopIteration:
        raise EnricherError(f"{file}: holds no detector of torchvision.") from None
    except Exception as error:  # PyTorch raises many types for what is no checkpoint
        raise EnricherError(f"{file}: cannot be read as a checkpoint ({error}).") from error
    if labels is None:
        beside = file.with_suffix(".json")
        if beside.is_file():
            labels = _labels_beside(beside)
        elif state[head].shape[0] % 91 == 0:
            labels = coco_labels()
        else:
            raise EnricherError(
                f"{file}: does not say what its classes are called; write their names, the "
                f'background left out, to {beside}: {{"labels": ["dog", ...]}}'
            )
    return state, tuple(str(label) for label in labels)


def _labels_beside(path: Path) -> list[str]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))["labels"]
        return [str(label) for label in told]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnricherError(f'{path}: is not {{"labels": [...]}} ({error!r}).') from error


def fill(model: nn.Module, state: Mapping[str, Any], where: object) -> None:
    """Load weights, all of them. Raises :class:`~embedsearch.errors.EnricherError`."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        told = " ".join(str(error).split())[:300]
        raise EnricherError(
            f"{where}: does not fit: {told} ... Are model and labels those it was trained with?"
        ) from error


def download(model: str) -> Mapping[str, Any]:
    """torchvision's own weights, from where it keeps them or from its site.

    Raises :class:`~embedsearch.errors.EnricherError` where they cannot be had.
    """
    import torch
    from torchvision.models import get_model_weights

    weights = get_model_weights(model)["DEFAULT"]
    try:
        state: Mapping[str, Any] = weights.get_state_dict(progress=True, check_hash=True)
    except Exception as error:  # network, disk and format each raise errors of their own
        kept = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        raise EnricherError(
            f"torchvision:{model}: its weights cannot be downloaded ({error}). Fetch {weights.url} "
            f"elsewhere and lay it at {kept}, or name it: torchvision:{model}@FILE.pth"
        ) from error
    return state


def choose_device(device: Device) -> Any:
    """A GPU where there is one and it is wanted."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise EnricherError("--device cuda: PyTorch sees no GPU here.")
    return torch.device(device)


def _from_library(asked: Spec) -> tuple[tuple[str, ...], nn.Module]:
    labels = coco_labels()
    model = build(asked.model, len(labels) + 1, asked.size)
    fill(model, download(asked.model), asked.model)
    return labels, model


def _state_hash(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()
