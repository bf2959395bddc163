"""``panoptic:INSTANCES+SEMANTIC``: things one by one, and the stuff around them.

Kirillov et al., "Panoptic Segmentation" (2019), section 6: instances are laid down by falling
score, each on what is still free, and left out where too much of it is taken; what a semantic
segmenter says of the rest fills it where a class has enough pixels there. Of classes that both
know, the instances are believed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers import masks
from embedsearch.enrichers.base import Findings, Pixels, Segmenter
from embedsearch.enrichers.semantic import MIN_SHARE, InstanceSegmenter
from embedsearch.errors import EnricherError
from embedsearch.records import Detection, EnricherInfo
from embedsearch.settings import Device

OVERLAP = 0.5
"""An instance of which less than this share is still free is left out."""
_FORM = re.compile(r"panoptic:(?P<instances>.+)\+(?P<semantic>[^+]+)", re.DOTALL)
_STUFF_SCORE = 1.0
"""Label maps tell no probability."""


def load(spec: str, device: Device) -> Panoptic:
    """Load both. Raises :class:`~embedsearch.errors.EnricherError`."""
    from embedsearch.enrichers import registry

    matched = _FORM.fullmatch(spec)
    if matched is None:
        raise EnricherError(
            f"{spec!r}: name two segmenters, panoptic:INSTANCES+SEMANTIC, for example "
            "panoptic:torchvision:maskrcnn_resnet50_fpn_v2+torchvision:deeplabv3_resnet50"
        )
    instances = registry.load("segment", matched["instances"], device)
    semantic = registry.load("segment", matched["semantic"], device)
    if not isinstance(instances, InstanceSegmenter):
        raise EnricherError(f"{matched['instances']}: does not tell objects of a class apart.")
    if not isinstance(semantic, Segmenter):
        raise EnricherError(f"{matched['semantic']}: does not tell what every pixel shows.")
    return Panoptic(instances, semantic)


class Panoptic:
    """Two segmenters as one: no pixel is of two objects."""

    def __init__(self, instances: InstanceSegmenter, semantic: Segmenter) -> None:
        self._instances, self._semantic = instances, semantic
        one, other = instances.info, semantic.info
        told = hashlib.sha256(f"{one.id}\n{other.id}\n{OVERLAP}\n{MIN_SHARE}".encode()).hexdigest()
        self._info = EnricherInfo(
            id=f"panoptic-{told[:12]}",
            spec=f"panoptic:{one.spec}+{other.spec}",
            stage="segment",
            licence=one.licence
            if one.licence == other.licence
            else f"{one.licence}; {other.licence}",
            weights_hash=hashlib.sha256(
                (one.weights_hash + other.weights_hash).encode()
            ).hexdigest(),
            look=max(one.look, other.look),
            labels=tuple(dict.fromkeys((*one.labels, *other.labels))),
            description=f"{one.description} for things, {other.description} for the rest",
        )

    @property
    def info(self) -> EnricherInfo:
        return self._info

    def enrich(self, picture: Pixels) -> Findings:
        """Instances, and the classes of what is left, one object a class, by falling score."""
        return Findings(objects=self._merged(picture, self._instances.enrich(picture).objects))

    def instances(self, picture: Pixels, threshold: float) -> tuple[Detection, ...]:
        """The same with all instances of at least this score."""
        return self._merged(picture, self._instances.instances(picture, threshold))

    def _merged(self, picture: Pixels, things: Sequence[Detection]) -> tuple[Detection, ...]:
        stuff = self._semantic.label_map(picture)
        known = set(self._instances.info.labels)
        return merged(things, stuff, self._semantic.info.labels, known)

    def label_map(self, picture: Pixels) -> NDArray[np.uint8]:
        numbers = {label: n for n, label in enumerate(self._info.labels, 1)}
        told = np.zeros(picture.shape[:2], np.uint8)
        for each in self.enrich(picture).objects:
            assert each.mask is not None
            told[masks.decode(each.mask)] = numbers[each.label]
        return told


def merged(
    things: Sequence[Detection],
    stuff: NDArray[np.uint8],
    labels: Sequence[str],
    of_things: set[str],
) -> tuple[Detection, ...]:
    """Objects that share no pixel. ``stuff`` is a label map (height, width) with ``labels``, of
    which those ``of_things`` are left to the instances, ``things``, by falling score."""
    height, width = stuff.shape
    taken = np.zeros((height, width), bool)
    laid = []
    for each in things:
        if each.mask is None:
            continue
        bitmap = masks.scaled(masks.decode(each.mask), height, width)
        free = bitmap & ~taken
        if free.sum() <= OVERLAP * bitmap.sum():
            continue
        taken |= free
        laid.append(_object(each.label, each.score, free))
    for number, label in enumerate(labels, 1):
        rest = (stuff == number) & ~taken
        if label not in of_things and rest.sum() >= MIN_SHARE * rest.size:
            laid.append(_object(label, _STUFF_SCORE, rest))
    return tuple(sorted(laid, key=lambda each: -each.score))


def _object(label: str, score: float, bitmap: masks.Bitmap) -> Detection:
    mask = masks.encode(bitmap)
    box = masks.box_of(mask)
    assert box is not None
    return Detection(label, score, box, mask)
