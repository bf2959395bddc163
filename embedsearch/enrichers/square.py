"""The square a network takes, and the part of its answer that is the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from embedsearch.enrichers.base import Pixels

Fit = Literal["squash", "pad"]
FITS: tuple[str, ...] = get_args(Fit)
"""squash gives up the aspect; pad keeps it, with a border to the right of or below the picture."""
BORDER = 127
"""Grey: what networks were trained to see behind the border."""


@dataclass(frozen=True, slots=True)
class Square:
    """A picture as a network takes it."""

    pixels: Pixels
    """(size, size, 3)."""
    rows: int
    """So many rows from the top, and columns from the left, are the picture; the rest is border."""
    columns: int

    def inner(self, answer: Any) -> Any:
        """The part of an answer (h, w, ...) at any resolution that is the picture."""
        size = self.pixels.shape[0]
        high, wide = answer.shape[:2]
        return answer[
            : max(1, round(high * self.rows / size)), : max(1, round(wide * self.columns / size))
        ]


def fitted(picture: Pixels, size: int, fit: Fit) -> Square:
    """A picture of any size as a square of ``size`` pixels, resized bicubically with
    antialiasing."""
    from PIL import Image

    height, width = picture.shape[:2]
    rows = columns = size
    if fit == "pad":
        scale = size / max(height, width)
        rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    image = Image.fromarray(np.ascontiguousarray(picture))
    resized = np.asarray(image.resize((columns, rows), Image.Resampling.BICUBIC))
    if (rows, columns) == (size, size):
        return Square(resized, rows, columns)
    square = np.full((size, size, 3), BORDER, np.uint8)
    square[:rows, :columns] = resized
    return Square(square, rows, columns)
