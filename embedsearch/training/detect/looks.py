"""What training makes of photos with boxes: zoomed, mirrored, coloured, put together, covered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from embedsearch.training.detect.occlusion import Boxes, Pixels, erase, hidden_by, paste
from embedsearch.training.detect.recipe import Looks, Occlusion

GREY = 114
_SMALLEST = 4
"""Pixels: smaller boxes are nothing that could be learned."""
_SEEN = 0.3
"""An object stays one while so much of its box is in the look."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture and its objects."""

    pixels: Pixels
    boxes: Boxes
    labels: NDArray[np.int64]
    """From 0."""


Draw = Callable[[np.random.Generator], Sample]
"""Another photo, at random."""


def look(
    sample: Sample,
    size: int,
    draw: Draw,
    looks: Looks,
    occlusion: Occlusion,
    rng: np.random.Generator,
) -> Sample:
    """One look at a photo: a square of ``size``."""
    if rng.random() < looks.mosaic:
        others = [draw(rng) for _ in range(3)]
        made = _mosaic([sample, *others], size, looks, rng)
    else:
        made = _zoomed(sample, size, rng.uniform(looks.least, looks.largest), rng)
    if rng.random() < looks.mirror:
        made = _mirrored(made)
    if rng.random() < occlusion.paste:
        made = _pasted(made, draw(rng), occlusion, rng)
    if occlusion.erase:
        covered = erase(made.pixels, made.boxes, occlusion.erase, occlusion.most, rng)
        made = Sample(covered, made.boxes, made.labels)
    return Sample(_coloured(made.pixels, looks.colour, rng), made.boxes, made.labels)


def _zoomed(sample: Sample, size: int, zoom: float, rng: np.random.Generator) -> Sample:
    """The photo ``zoom`` times as large as it just fits, somewhere in or over the square."""
    height, width = sample.pixels.shape[:2]
    scale = size / max(height, width) * zoom
    wide, tall = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    resized = cv2.resize(sample.pixels, (wide, tall), interpolation=way)
    x, y = (_offset(side, size, rng) for side in (wide, tall))
    canvas = np.full((size, size, 3), GREY, np.uint8)
    inside = resized[max(0, -y) : size - y, max(0, -x) : size - x]
    canvas[max(0, y) : max(0, y) + inside.shape[0], max(0, x) : max(0, x) + inside.shape[1]] = (
        inside
    )
    factors = np.array([wide / width, tall / height] * 2, np.float32)
    return _within(canvas, sample.boxes * factors + np.array([x, y, x, y]), sample.labels)


def _offset(side: int, size: int, rng: np.random.Generator) -> int:
    low, high = sorted((0, size - side))
    return int(rng.integers(low, high + 1))


def _mosaic(samples: Sequence[Sample], size: int, looks: Looks, rng: np.random.Generator) -> Sample:
    """Four photos, a quarter of the square each (Bochkovskiy et al., "YOLOv4", 2020)."""
    half = size // 2
    canvas = np.full((size, size, 3), GREY, np.uint8)
    boxes, labels = [], []
    for place, sample in enumerate(samples):
        zoom = rng.uniform(1.0, max(1.0, looks.largest))
        quarter = _zoomed(sample, half, zoom, rng)
        x, y = half * (place % 2), half * (place // 2)
        canvas[y : y + half, x : x + half] = quarter.pixels
        boxes.append(quarter.boxes + np.array([x, y, x, y], np.float32))
        labels.append(quarter.labels)
    return Sample(canvas, np.concatenate(boxes), np.concatenate(labels))


def _mirrored(sample: Sample) -> Sample:
    width = sample.pixels.shape[1]
    boxes = sample.boxes.copy()
    boxes[:, [0, 2]] = width - sample.boxes[:, [2, 0]]
    return Sample(np.ascontiguousarray(sample.pixels[:, ::-1]), boxes, sample.labels)


def _pasted(
    sample: Sample, other: Sample, occlusion: Occlusion, rng: np.random.Generator
) -> Sample:
    """With one object of another photo; what it hides almost all of is there no longer."""
    if not len(other.boxes):
        return sample
    chosen = int(rng.integers(len(other.boxes)))
    left, top, right, bottom = (max(0, int(value)) for value in other.boxes[chosen])
    made = paste(
        sample.pixels, sample.boxes, other.pixels[top:bottom, left:right], occlusion.most, rng
    )
    if made is None:
        return sample
    pixels, box = made
    stay = hidden_by(box, sample.boxes) <= 1 - _SEEN
    return Sample(
        pixels,
        np.concatenate([sample.boxes[stay], box[None]]),
        np.append(sample.labels[stay], other.labels[chosen]),
    )


def _coloured(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Saturation, contrast, brightness, each by up to ``strength``."""
    if not strength:
        return pixels
    saturation, contrast, brightness = 1 + rng.uniform(-strength, strength, 3)
    real = pixels.astype(np.float32)
    grey = real.mean(2, keepdims=True)
    real = (grey + (real - grey) * saturation) * brightness
    middle = real.mean()
    coloured: Pixels = (middle + (real - middle) * contrast).clip(0, 255).astype(np.uint8)
    return coloured


def _within(pixels: Pixels, boxes: Boxes, labels: NDArray[np.int64]) -> Sample:
    """Boxes cut at the border; those that are mostly outside are left out."""
    size = np.array([pixels.shape[1], pixels.shape[0]] * 2, np.float32)
    cut = np.clip(boxes, 0, size).astype(np.float32)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    sides = cut[:, 2:] - cut[:, :2]
    stay = (sides.min(1, initial=np.inf) >= _SMALLEST) & (sides.prod(1) >= _SEEN * areas)
    return Sample(pixels, cut[stay], labels[stay])
