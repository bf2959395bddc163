"""Parts of photos, stretched, mirrored and in other light, and the same parts of what their pixels
show."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedsearch.enrichers.base import Pixels
from embedsearch.training.segment.recipe import Looks

_GREY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class Cut:
    """Which part of a photo is shown, in shares of its width and height."""

    left: float
    top: float
    width: float
    height: float
    mirrored: bool

    def pixels(self, length: int, start: float, share: float) -> tuple[int, int]:
        """The part as whole places of an axis of ``length``: first, and behind the last."""
        first = min(int(start * length), length - 1)
        return first, min(length, max(first + 1, round((start + share) * length)))


def draw_cut(looks: Looks, rng: np.random.Generator) -> Cut:
    """A part with a share of the area from ``looks.least`` to ``looks.most``, stretched by up to
    ``looks.aspect``."""
    area = rng.uniform(looks.least, looks.most)
    stretch = math.exp(rng.uniform(-1, 1) * math.log(looks.aspect) / 2)
    width, height = (min(1.0, math.sqrt(area) * factor) for factor in (stretch, 1 / stretch))
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return Cut(float(left), float(top), width, height, bool(rng.random() < 0.5))


def shown(pixels: Pixels, cut: Cut, looks: Looks, rng: np.random.Generator) -> Pixels:
    """The part in other light: uint8 (size, size, 3)."""
    height, width = pixels.shape[:2]
    top, bottom = cut.pixels(height, cut.top, cut.height)
    left, right = cut.pixels(width, cut.left, cut.width)
    part = np.ascontiguousarray(pixels[top:bottom, left:right])
    smaller = min(part.shape[:2]) > looks.size
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    square = cv2.resize(part, (looks.size, looks.size), interpolation=how)
    square = square[:, ::-1] if cut.mirrored else square
    return _relit(square, looks.colour, rng)


def shown_labels(truth: NDArray[np.uint8], cut: Cut, side: int) -> NDArray[np.uint8]:
    """The part of a label map by the nearest pixel: uint8 (side, side)."""
    height, width = truth.shape
    top, bottom = cut.pixels(height, cut.top, cut.height)
    left, right = cut.pixels(width, cut.left, cut.width)
    part = np.ascontiguousarray(truth[top:bottom, left:right])
    square = cv2.resize(part, (side, side), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.ascontiguousarray(square[:, ::-1] if cut.mirrored else square)


def shown_logits(logits: NDArray[np.float32], cut: Cut, side: int) -> Tensor:
    """The part of samples (h, w, classes) that go from border to border, bilinearly: float32
    (classes, side, side)."""
    across = cut.left + (np.arange(side, dtype=np.float32) + 0.5) / side * cut.width
    down = cut.top + (np.arange(side, dtype=np.float32) + 0.5) / side * cut.height
    if cut.mirrored:
        across = across[::-1]
    grid = np.stack(np.broadcast_arrays(across[None], down[:, None]), -1) * 2 - 1
    maps = torch.from_numpy(logits).permute(2, 0, 1)[None]
    at = torch.from_numpy(np.ascontiguousarray(grid, np.float32))[None]
    return torch.nn.functional.grid_sample(
        maps, at, mode="bilinear", padding_mode="border", align_corners=True
    )[0]


def _relit(pixels: NDArray[np.uint8], by: float, rng: np.random.Generator) -> Pixels:
    """Brightness, contrast and saturation changed by up to the share ``by``."""
    light, contrast, saturation = 1 + rng.uniform(-by, by, 3).astype(np.float32)
    values = pixels.astype(np.float32) * light
    values = (values - values.mean()) * contrast + values.mean()
    grey = (values @ _GREY)[..., None]
    relit: Pixels = np.clip(grey + (values - grey) * saturation, 0, 255).astype(np.uint8)
    return relit
