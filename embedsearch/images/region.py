"""A part of a picture, with as many pixels as are wanted of it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from embedsearch.images.decode import Decoded, Source, decode
from embedsearch.records import Box


def region_pixels(source: Source, whole: Decoded, box: Box, at_least: float) -> NDArray[np.uint8]:
    """The part ``box`` of a picture: uint8 (h, w, 3), h and w of at least 1.

    ``whole`` is ``source`` as it was decoded before, and ``box`` lies inside it. Where the shorter
    side of the part would have less than ``at_least`` pixels, and the picture has more of them,
    it is decoded again. Raises :class:`~embedsearch.errors.PictureError` where that fails.
    """
    left, top, width, height = box
    shorter = min(whole.width, whole.height)
    needed = math.ceil(min(shorter * at_least / min(width, height), shorter))
    if needed > min(whole.pixels.shape[:2]):
        whole = decode(source, needed)
    rows, columns = whole.pixels.shape[:2]
    across, down = columns / whole.width, rows / whole.height
    first_column = min(math.floor(left * across), columns - 1)
    first_row = min(math.floor(top * down), rows - 1)
    part = whole.pixels[
        first_row : max(round((top + height) * down), first_row + 1),
        first_column : max(round((left + width) * across), first_column + 1),
    ]
    return np.ascontiguousarray(part)
