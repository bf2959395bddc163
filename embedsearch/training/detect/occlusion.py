"""Hiding parts of objects: for training at random, for measuring by a fixed share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Boxes = NDArray[np.float32]
"""Left, top, right, bottom in pixels, (N, 4)."""
SHARES = (0.0, 0.25, 0.5)
"""Of each object, covered where detectors are measured."""


def cover(pixels: Pixels, boxes: Boxes, share: float, seed: int = 0) -> Pixels:
    """A copy in which ``share`` of every box is covered, from one of its four sides, by a strip of
    the picture itself, so that what covers looks like something. The same for the same seed."""
    rng = np.random.default_rng([seed, len(boxes)])
    made = pixels.copy()
    for box in boxes:
        part = _strip(box, share, int(rng.integers(4)), pixels.shape)
        _fill(made, part, _texture(pixels, part, rng))
    return made


def erase(
    pixels: Pixels, boxes: Boxes, chance: float, most: float, rng: np.random.Generator
) -> Pixels:
    """A copy in which up to ``most`` of some boxes is noise, grey, or another part of the picture
    (Zhong et al., "Random Erasing Data Augmentation", 2017)."""
    made = pixels.copy()
    for box in boxes:
        if rng.random() >= chance:
            continue
        part = _strip(box, rng.uniform(0.1, most), int(rng.integers(4)), pixels.shape)
        shape = (part[3] - part[1], part[2] - part[0], 3)
        way = rng.integers(3)
        if way == 0:
            filling: Pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        elif way == 1:
            filling = np.full(shape, rng.integers(0, 256, 3), np.uint8)
        else:
            filling = _texture(pixels, part, rng)
        _fill(made, part, filling)
    return made


def paste(
    pixels: Pixels, boxes: Boxes, crop: Pixels, most: float, rng: np.random.Generator
) -> tuple[Pixels, NDArray[np.float32]] | None:
    """An object cut out of another photo, laid beside or over one that is there, scaled to be about
    as large (Ghiasi et al., "Simple Copy-Paste", 2021, with boxes for outlines).

    Returns the picture and the new object's box (4,); None where it would hide more than ``most``
    of any object.
    """
    import cv2

    if not len(boxes) or min(crop.shape[:2]) < 4:
        return None
    target = boxes[rng.integers(len(boxes))]
    height, width = pixels.shape[:2]
    tall = max(8.0, (target[3] - target[1]) * rng.uniform(0.5, 1.2))
    size = [round(tall * crop.shape[1] / crop.shape[0]), round(tall)]
    if max(size[0] / width, size[1] / height) > 1 or min(size) < 8:
        return None
    shift = rng.uniform(0.4, 1.0, 2) * rng.choice([-1, 1], 2)
    middle = (target[:2] + target[2:]) / 2 + shift * (target[2:] - target[:2] + size) / 2 * [1, 0.3]
    left = int(np.clip(middle[0] - size[0] / 2, 0, width - size[0]))
    top = int(np.clip(middle[1] - size[1] / 2, 0, height - size[1]))
    box = np.array([left, top, left + size[0], top + size[1]], np.float32)
    if (hidden_by(box, boxes) > most).any():
        return None
    made = pixels.copy()
    made[top : top + size[1], left : left + size[0]] = cv2.resize(crop, (size[0], size[1]))
    return made, box


def hidden_by(box: NDArray[np.float32], boxes: Boxes) -> NDArray[np.float32]:
    """Share of each of ``boxes`` that lies behind ``box``, (N,)."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    shares: NDArray[np.float32] = sides.clip(0).prod(1) / np.maximum(areas, 1e-6)
    return shares


def _strip(
    box: NDArray[np.float32], share: float, side: int, shape: Sequence[int]
) -> tuple[int, int, int, int]:
    """``share`` of a box from its left, top, right or bottom, inside the picture."""
    left, top, right, bottom = (float(value) for value in box)
    if side == 0:
        right = left + (right - left) * share
    elif side == 1:
        bottom = top + (bottom - top) * share
    elif side == 2:
        left = right - (right - left) * share
    else:
        top = bottom - (bottom - top) * share
    x = np.clip(np.rint([left, right]), 0, shape[1]).astype(int)
    y = np.clip(np.rint([top, bottom]), 0, shape[0]).astype(int)
    return int(x[0]), int(y[0]), int(x[1]), int(y[1])


def _texture(pixels: Pixels, part: tuple[int, int, int, int], rng: np.random.Generator) -> Pixels:
    """Another part of the picture, as large as ``part``."""
    wide, tall = part[2] - part[0], part[3] - part[1]
    x = int(rng.integers(pixels.shape[1] - wide + 1))
    y = int(rng.integers(pixels.shape[0] - tall + 1))
    return pixels[y : y + tall, x : x + wide]


def _fill(pixels: Pixels, part: tuple[int, int, int, int], filling: Pixels) -> None:
    left, top, right, bottom = part
    pixels[top:bottom, left:right] = filling
