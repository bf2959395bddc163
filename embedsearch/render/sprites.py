"""Many small pictures in few files: sheets of tiles, and an order in which few sheets are needed.

A page that shows a part of a map at some magnification needs as many thumbnails as have room, from
anywhere in that part. So the first sheets hold a few pictures from all over, later ones more and
more from the gaps between these, each sheet from one neighbourhood.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ACROSS = 16
"""Tiles in a row, and rows in a sheet."""
QUALITY = 60
_COARSEST = 4
"""The first level takes one picture from each of 16 x 16 cells."""
_FINEST = 14

Sizes = NDArray[np.uint8]


def tile_side(count: int) -> int:
    """Longer side of a thumbnail, in pixels, so that ``count`` of them stay below 40 MB."""
    return 64 if count <= 20_000 else 48 if count <= 40_000 else 32


def in_levels(places: NDArray[np.float64]) -> NDArray[np.int64]:
    """An order of ``places`` (N, 2), coarse levels first, neighbours together within a level."""
    low, extent = places.min(axis=0), float(np.ptp(places, axis=0).max()) or 1.0
    unit = (places - low) / extent * (1 - 1e-9)
    level = np.full(len(places), _FINEST + 1)
    for depth in range(_COARSEST, _FINEST + 1):
        cells = (unit * 2**depth).astype(np.int64)
        keys = cells[:, 0] << 32 | cells[:, 1]
        left = np.flatnonzero(level > _FINEST)
        if not len(left):
            break
        free = left[~np.isin(keys[left], keys[level <= _FINEST])]
        _, first = np.unique(keys[free], return_index=True)
        level[free[first]] = depth
    return np.lexsort((_along_the_z_curve(unit), level))


def _along_the_z_curve(unit: NDArray[np.float64]) -> NDArray[np.int64]:
    """Position on the Z-order curve (G. M. Morton, 1966): near on it is near in the plane."""
    cells = (unit * 2**16).astype(np.int64)
    along = np.zeros(len(unit), np.int64)
    for bit in range(16):
        along |= (cells[:, 0] >> bit & 1) << 2 * bit | (cells[:, 1] >> bit & 1) << 2 * bit + 1
    return along


def sheets(pictures: Iterable[bytes | None], side: int) -> Iterator[tuple[bytes, Sizes]]:
    """WebP sheets of ``ACROSS`` x ``ACROSS`` tiles of ``side`` pixels, and the widths and heights
    of their pictures, uint8 (n, 2); 0 x 0 where there is none to show. A picture lies at the top
    left of its tile."""
    left = iter(pictures)
    while batch := list(islice(left, ACROSS * ACROSS)):
        yield _sheet(batch, side)


def _sheet(batch: Sequence[bytes | None], side: int) -> tuple[bytes, Sizes]:
    rows = -(-len(batch) // ACROSS)
    sheet = Image.new("RGB", (ACROSS * side, rows * side), (128, 128, 128))
    sizes = np.zeros((len(batch), 2), np.uint8)
    for at, picture in enumerate(batch):
        if picture is not None:
            tile = opened(picture, side)
            sheet.paste(tile, (at % ACROSS * side, at // ACROSS * side))
            sizes[at] = tile.size
    stream = io.BytesIO()
    sheet.save(stream, "WEBP", quality=QUALITY, method=4)
    return stream.getvalue(), sizes


def opened(picture: bytes, side: int) -> Image.Image:
    """A thumbnail as RGB, within ``side`` x ``side`` pixels."""
    with Image.open(io.BytesIO(picture)) as image:
        small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small
