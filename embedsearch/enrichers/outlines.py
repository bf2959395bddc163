"""From a mask to the lines around it, as one draws them."""

from __future__ import annotations

import numpy as np

from embedsearch.enrichers.masks import decode
from embedsearch.records import Mask

Outline = tuple[tuple[float, float], ...]
"""Corners (x, y) of a closed line, in pixels of the upright picture."""
LEAST_SHARE = 0.002
"""Pieces smaller than this share of the mask's box are specks."""


def outlines(mask: Mask, width: int, height: int) -> list[Outline]:
    """The lines around a mask, holes left out, in a picture of ``width`` x ``height`` pixels; the
    longest first. Corners that a line of one pixel of the mask hides are dropped (Douglas and
    Peucker, 1973)."""
    import cv2

    bitmap = decode(mask).astype(np.uint8)
    found, _ = cv2.findContours(bitmap, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    scale = np.array([width / mask.width, height / mask.height])
    least = LEAST_SHARE * bitmap.sum()
    lines = []
    for one in sorted(found, key=len, reverse=True):
        corners = cv2.approxPolyDP(one, 1.0, True)[:, 0]
        if len(corners) >= 3 and cv2.contourArea(one) >= least:
            # The middle of a pixel, not its corner.
            places = (corners + 0.5) * scale
            lines.append(tuple((round(float(x), 1), round(float(y), 1)) for x, y in places))
    return lines
