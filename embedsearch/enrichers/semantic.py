"""From what every pixel shows to objects: the connected parts of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers import masks
from embedsearch.enrichers.base import Findings, Pixels, Segmenter
from embedsearch.records import Detection

MIN_SHARE = 0.002
"""A part smaller than this share of the picture is left out: mostly speckle."""
MIN_SCORE = 0.3
"""A part whose pixels were less certain than this on average is left out."""


@dataclass(frozen=True, slots=True)
class LabelMap:
    """What every pixel of a picture shows, as a network tells it."""

    classes: NDArray[np.uint8]
    """(height, width), 0 is background. It may be smaller than the picture it is of."""
    confidence: NDArray[np.float32]
    """The probability of that class, the same shape, in [0, 1]."""


@runtime_checkable
class SoftSegmenter(Segmenter, Protocol):
    """A segmenter that tells how likely every class is. It can teach."""

    def class_logits(self, picture: Pixels, side: int) -> NDArray[np.float32]:
        """Logits (side, side, 1 + labels), background first: samples over the whole picture, the
        outermost ones at its border."""
        ...


@runtime_checkable
class InstanceSegmenter(Segmenter, Protocol):
    """A segmenter that tells objects of one class apart."""

    def instances(self, picture: Pixels, threshold: float) -> tuple[Detection, ...]:
        """Objects with a mask and at least this score, by falling score."""
        ...


def sampled(maps: NDArray[Any], side: int) -> NDArray[Any]:
    """``side`` x ``side`` samples of maps (h, w, ...), the nearest ones, from corner to corner."""
    rows, columns = (
        np.rint(np.linspace(0, length - 1, side)).astype(np.intp) for length in maps.shape[:2]
    )
    return np.ascontiguousarray(maps[rows[:, None], columns])


def parts(
    told: LabelMap,
    labels: Sequence[str],
    height: int,
    width: int,
    *,
    min_share: float = MIN_SHARE,
    min_score: float = MIN_SCORE,
) -> Findings:
    """The connected parts of each class as objects of a picture of that size, by falling score.

    Pixels that touch at a corner are connected. A part's score is the mean probability of its
    class; its mask keeps the size of the label map, its box is in pixels of the picture.
    """
    import cv2

    rows, columns = told.classes.shape
    least = max(1.0, min_share * rows * columns)
    found = []
    for number in np.unique(told.classes[told.classes > 0]):
        of_class = (told.classes == number).astype(np.uint8)
        count, part_of, stats, _ = cv2.connectedComponentsWithStats(of_class, connectivity=8)
        for part in range(1, count):
            if stats[part, cv2.CC_STAT_AREA] < least:
                continue
            inside = part_of == part
            score = float(told.confidence[inside].mean(dtype=np.float64))
            if score < min_score:
                continue
            x, y, wide, high = (float(value) for value in stats[part, :4])
            across, down = width / columns, height / rows
            box = (x * across, y * down, wide * across, high * down)
            found.append(Detection(labels[number - 1], score, box, masks.encode(inside)))
    return Findings(objects=tuple(sorted(found, key=lambda one: -one.score)))


def from_logits(logits: NDArray[np.float32], height: int, width: int) -> LabelMap:
    """Logits (h, w, classes) scaled bilinearly to that size, then the likeliest class of each
    pixel and its probability."""
    import cv2

    if logits.shape[:2] != (height, width):
        logits = cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR)
    classes = logits.argmax(-1)
    best = np.take_along_axis(logits, classes[..., None], -1)
    total = np.exp(logits - best).sum(-1)
    return LabelMap(classes.astype(np.uint8), (1 / total).astype(np.float32))


def enlarged(classes: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A label map at the size of its picture, by the nearest pixel."""
    import cv2

    if classes.shape == (height, width):
        return classes
    larger: NDArray[np.uint8] = cv2.resize(
        classes, (width, height), interpolation=cv2.INTER_NEAREST_EXACT
    )
    return larger
