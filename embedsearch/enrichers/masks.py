"""Masks: from a bitmap to COCO's run-length code and back, scaled, measured, laid over pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.base import Pixels
from embedsearch.errors import EnricherError
from embedsearch.records import Box, Mask

Bitmap = NDArray[np.bool_]
"""Which pixels of a picture belong, shape (height, width)."""


def encode(bitmap: Bitmap) -> Mask:
    """The mask of a bitmap, bool (height, width)."""
    from pycocotools import mask as coco

    told = coco.encode(np.asfortranarray(bitmap, np.uint8))
    height, width = bitmap.shape
    return Mask(int(height), int(width), told["counts"].decode("ascii"))


def decode(mask: Mask) -> Bitmap:
    """The bitmap of a mask, bool (mask.height, mask.width).

    Raises :class:`~embedsearch.errors.EnricherError` for a code that is none of that size.
    """
    # Not pycocotools: it writes past the end of the bitmap where the runs are longer than it.
    runs = _runs(mask.counts)
    if min(runs, default=0) < 0 or sum(runs) != mask.height * mask.width:
        raise EnricherError(
            f"a mask of {mask.width} x {mask.height} pixels has a code of another length; "
            "find the masks anew: embedsearch index --enrich segment --force"
        )
    signs = np.arange(len(runs)) % 2 == 1
    return np.repeat(signs, runs).reshape((mask.height, mask.width), order="F")


def resized(mask: Mask, height: int, width: int) -> Mask:
    """The mask of the same picture at another size; each pixel is as the nearest one was."""
    if (mask.height, mask.width) == (height, width):
        return mask
    return encode(scaled(decode(mask), height, width))


def scaled(bitmap: Bitmap, height: int, width: int) -> Bitmap:
    """The bitmap at another size, by the nearest pixel."""
    if bitmap.shape == (height, width):
        return bitmap
    rows = _nearest(bitmap.shape[0], height)
    columns = _nearest(bitmap.shape[1], width)
    return bitmap[rows[:, None], columns]


def area(mask: Mask) -> int:
    """How many pixels belong."""
    from pycocotools import mask as coco

    return int(coco.area(_coco(mask)))


def box_of(mask: Mask) -> Box | None:
    """The smallest box around what belongs, in the mask's own pixels; None where nothing does."""
    from pycocotools import mask as coco

    x, y, width, height = (float(value) for value in coco.toBbox(_coco(mask)))
    return (x, y, width, height) if width and height else None


def masked_pixels(
    pixels: Pixels, mask: Mask, box: Box, fill: tuple[int, int, int] = (127, 127, 127)
) -> Pixels:
    """What ``box`` cuts out of a picture, with ``fill`` where the mask is not.

    ``pixels`` is the whole upright picture, uint8 (H, W, 3), and ``box`` is in pixels of it; the
    mask may be of another size and is scaled. Gives a new uint8 array of the pixels that the box
    touches, at least one. With the encoder's mean colour for ``fill``, what is not the object is
    nothing to it. A mask that is empty within the box leaves the cut as it was.
    """
    height, width = pixels.shape[:2]
    x, y, wide, high = box
    left, top = min(max(0, math.floor(x)), width - 1), min(max(0, math.floor(y)), height - 1)
    right = max(left + 1, min(width, math.ceil(x + wide)))
    bottom = max(top + 1, min(height, math.ceil(y + high)))
    cut = np.array(pixels[top:bottom, left:right], np.uint8)
    inside = scaled(decode(mask), height, width)[top:bottom, left:right]
    if inside.any():
        cut[~inside] = fill
    return cut


def _nearest(before: int, after: int) -> NDArray[np.intp]:
    """For each place of ``after``, the place of ``before`` whose middle is nearest."""
    return np.minimum(((np.arange(after) + 0.5) * before / after).astype(np.intp), before - 1)


def _coco(mask: Mask) -> dict[str, Any]:
    return {"size": [mask.height, mask.width], "counts": mask.counts.encode("ascii")}


def _runs(counts: str) -> list[int]:
    """Lengths of the runs: LEB128-like numbers of 6 bits a sign, from the fourth on the
    difference to the one before the last (cocoapi, ``maskApi.c``, ``rleFrString``)."""
    runs: list[int] = []
    value = shift = 0
    for sign in counts:
        bits = ord(sign) - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    return runs
