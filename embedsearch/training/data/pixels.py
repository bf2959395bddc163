"""The pixels of a photo on disk, and plain views of it: mirrored, a part."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from embedsearch.encoders.base import Pixels
from embedsearch.errors import DataError, PictureError
from embedsearch.images.decode import decode

_CROP_AREA = (0.4, 1.0)
_CROP_ASPECT = (3 / 4, 4 / 3)
_TRIES = 20


def load_pixels(file: Path, size: int) -> Pixels:
    """The pixels that indexing would see: uint8 (H, W, 3), the shorter side ``size`` or more where
    the photo has that much. Raises :class:`~embedsearch.errors.DataError` naming the file."""
    try:
        return decode(file, size).pixels
    except PictureError as error:
        raise DataError(f"{file}: {error}") from error


def view_pixels(pixels: Pixels, view: int, rng: np.random.Generator) -> Pixels:
    """View 0 is the picture, 1 its mirror image, and any other a random part of it.

    A part has 40 to 100 % of the area and 3/4 to 4/3 of the aspect, and is mirrored half the
    time (Szegedy et al., "Going Deeper with Convolutions", 2014, section 6).
    """
    if view == 0:
        return pixels
    if view == 1:
        return pixels[:, ::-1]
    height, width = pixels.shape[:2]
    for _ in range(_TRIES):
        area = rng.uniform(*_CROP_AREA) * height * width
        aspect = width / height * math.exp(rng.uniform(*np.log(_CROP_ASPECT)))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            left = int(rng.integers(width - across + 1))
            top = int(rng.integers(height - down + 1))
            pixels = pixels[top : top + down, left : left + across]
            break
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels
