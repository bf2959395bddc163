"""A map as one PNG: thumbnails side by side, or points; names of categories, and a legend."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from embedsearch.records import MapPoint
from embedsearch.render.atlas import unit_places
from embedsearch.render.colouring import UNCOLOURED, Colouring
from embedsearch.render.grid import to_grid
from embedsearch.render.output import written_whole
from embedsearch.render.sprites import opened

WIDTH = 3200
"""Pixels, unless told otherwise."""
LARGEST_CELL, SMALLEST_CELL = 160, 28
_FILLED = 0.6
"""So much of a mosaic is pictures; the rest keeps the groups apart."""
_PAPER, _INK, _SOFT = "#fafaf8", "#1d1d1f", "#6b6b70"
_LEGEND_LINES = 40
_Box = tuple[float, float, float, float]


def mosaic_cell(count: int, width: int) -> int:
    """Side of the cell of each of ``count`` thumbnails, in pixels."""
    cell = int(math.sqrt(_FILLED * width * width * 0.625 / max(count, 1)))
    return max(SMALLEST_CELL, min(LARGEST_CELL, cell))


def room(width: int) -> int:
    """How many thumbnails a mosaic holds at most."""
    return int(_FILLED * (width // SMALLEST_CELL) * (int(width * 0.625) // SMALLEST_CELL))


def write_mosaic(
    out: Path,
    points: Sequence[MapPoint],
    pictures: Iterator[bytes | None],
    colouring: Colouring,
    *,
    width: int = WIDTH,
    title: str = "",
) -> None:
    """Thumbnails in the order of ``points``, none over another, each framed in its colour.

    At most :func:`room` of them. Raises :class:`~embedsearch.errors.OutputError`.
    """
    cell = mosaic_cell(len(points), width)
    columns, rows = _shape(len(points))
    x, y = unit_places(points)
    cells = to_grid(np.stack([x, y], axis=1).astype(np.float64), columns, rows)
    sheet = _Sheet(columns * cell, rows * cell, colouring, title)
    frame = 2 if cell >= 40 else 1
    for (column, row), of, picture in zip(
        cells.tolist(), colouring.of.tolist(), pictures, strict=True
    ):
        left, top = sheet.left + column * cell, sheet.top + row * cell
        colour = UNCOLOURED if of < 0 else colouring.colours[of]
        if picture is None:
            sheet.draw.rectangle((left + 1, top + 1, left + cell - 2, top + cell - 2), None, colour)
            continue
        small = opened(picture, cell - 2 * frame - 2)
        at = left + (cell - small.width) // 2, top + (cell - small.height) // 2
        sheet.draw.rectangle(
            (at[0] - frame, at[1] - frame, at[0] + small.width + frame - 1,
             at[1] + small.height + frame - 1), colour,
        )  # fmt: skip
        sheet.image.paste(small, at)
    sheet.names((cells + 0.5) * cell)
    sheet.save(out)


def write_points(
    out: Path,
    points: Sequence[MapPoint],
    colouring: Colouring,
    *,
    width: int = WIDTH,
    title: str = "",
) -> None:
    """One point a picture. Raises :class:`~embedsearch.errors.OutputError`."""
    x, y = unit_places(points)
    extent = np.array([max(float(x.max()), 0.2), max(float(y.max()), 0.2)])
    scale = (width - 100) / extent[0]
    places = np.stack([x, y], axis=1) * scale + 50
    sheet = _Sheet(width, int(extent[1] * scale) + 100, colouring, title)
    radius = min(12.0, max(1.6, width / math.sqrt(max(len(points), 1)) / 9))
    order = np.argsort(colouring.of >= 0, kind="stable")  # those without a colour lie below
    for at in order.tolist():
        left, top = places[at, 0] + sheet.left, places[at, 1] + sheet.top
        of = colouring.of[at]
        sheet.dot(left, top, radius, UNCOLOURED if of < 0 else colouring.colours[of])
    sheet.names(places)
    sheet.save(out)


def _shape(count: int) -> tuple[int, int]:
    """Columns and rows of a mosaic, about 8 to 5, of which the pictures fill a part."""
    columns = max(1, math.ceil(math.sqrt(count / _FILLED * 1.6)))
    return columns, max(1, math.ceil(count / _FILLED / columns))


class _Sheet:
    """The paper: a title above, the map, a legend to its right."""

    def __init__(self, width: int, height: int, colouring: Colouring, title: str) -> None:
        self.colouring = colouring
        self._unit = max(14, round(width / 110))
        self.left, self.top = self._unit, self._unit * (4 if title else 1)
        self._size = width, height
        self._discs: dict[int, Image.Image] = {}
        counts = colouring.counts()
        self._entries = sorted(range(len(counts)), key=lambda at: -counts[at])[:_LEGEND_LINES]
        if colouring.name in ("date", "cluster"):
            self._entries.sort()
        aside = self._unit * 17 if self._entries else self._unit
        tall = max(height, int((len(self._entries) + 2) * self._unit * 1.7))
        self.image = Image.new("RGB", (self.left + width + aside, self.top + tall + self._unit))
        self.draw = ImageDraw.Draw(self.image)
        self.draw.rectangle((0, 0, *self.image.size), _PAPER)
        if title:
            self.draw.text((self.left, self._unit), title, _INK, _font(self._unit * 1.6))
        if self._entries:
            self._legend(counts)

    def _legend(self, counts: Sequence[int]) -> None:
        unit, font = self._unit, _font(self._unit)
        left, top = self.left + self._size[0] + unit, float(self.top)
        for at in self._entries:
            self.dot(left + unit * 0.5, top + unit * 0.6, unit * 0.45, self.colouring.colours[at])
            text = f"{_fitting(self.colouring.labels[at], font, unit * 10)}  {counts[at]:,}"
            self.draw.text((left + unit * 1.4, top), text, _INK, font)
            top += unit * 1.7
        if more := len(counts) - len(self._entries):
            self.draw.text((left + unit * 1.4, top), f"and {more:,} more", _SOFT, font)

    def dot(self, x: float, y: float, radius: float, colour: str) -> None:
        """A disc with soft edges; Pillow's own have stairs."""
        side = math.ceil(2 * radius) + 2
        if (mask := self._discs.get(side)) is None:
            large = Image.new("L", (side * 4, side * 4))
            rim = 2 * side - 4 * radius
            ImageDraw.Draw(large).ellipse((rim, rim, 4 * side - rim, 4 * side - rim), 255)
            mask = self._discs[side] = large.resize((side, side), Image.Resampling.BOX)
        self.image.paste(colour, (round(x - side / 2), round(y - side / 2)), mask)

    def names(self, places: NDArray[np.floating[Any]]) -> None:
        """Write the name of each category where the middle of its members is, the largest first,
        none over another."""
        counts, of = self.colouring.counts(), self.colouring.of
        written: list[_Box] = []
        for at in sorted(range(len(counts)), key=lambda at: -counts[at]):
            size = self._unit * (1.1 + min(1.0, 2.5 * math.sqrt(counts[at] / len(of))))
            font = _font(size)
            text = _fitting(self.colouring.labels[at], font, self._unit * 18)
            x, y = np.median(places[of == at], axis=0)
            half = font.getlength(text) / 2 + size * 0.3
            x = min(max(x, half), self._size[0] - half) + self.left
            y = min(max(y, size), self._size[1] - size) + self.top
            box = (x - half, y - size * 0.75, x + half, y + size * 0.75)
            if any(_meet(box, other) for other in written):
                continue
            written.append(box)
            self.draw.text(
                (x, y), text, _INK, font, "mm", stroke_width=max(2, round(size / 6)),
                stroke_fill=_PAPER,
            )  # fmt: skip

    def save(self, out: Path) -> None:
        with written_whole(out) as stream:
            self.image.save(stream, "PNG")


def _meet(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _font(size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(round(size))  # type: ignore[return-value]


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
