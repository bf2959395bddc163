"""Blocks of picture tiles under headings, as one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from embedsearch.render.output import written_whole

TILE = 112
"""Side of a tile, pixels."""
GAP, MARGIN, TITLE, HEADING = 6, 20, 34, 22
TITLE_FONT, HEADING_FONT = 18, 13
PAPER, INK, FAINT = "#ffffff", "#1c1c1c", "#666666"


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of pictures. Where there are headings, each stands above a column."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[NDArray[np.uint8]]]
    """uint8 (H, W, 3), square."""

    @property
    def height(self) -> int:
        return TITLE + HEADING + len(self.rows) * (TILE + GAP) + MARGIN


def write_tiles(blocks: Sequence[Block], out: Path) -> None:
    """Write the blocks one below the other.

    Raises :class:`~embedsearch.errors.OutputError` where ``out`` cannot be written.
    """
    columns = max(len(row) for block in blocks for row in block.rows)
    width = 2 * MARGIN + columns * (TILE + GAP) - GAP
    sheet = Image.new("RGB", (width, MARGIN + sum(block.height for block in blocks)), PAPER)
    top = MARGIN
    for block in blocks:
        _draw(sheet, block, top)
        top += block.height
    with written_whole(out) as stream:
        sheet.save(stream, "PNG", optimize=True)


def _draw(sheet: Image.Image, block: Block, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, top), block.title, INK, ImageFont.load_default(TITLE_FONT))
    heading = ImageFont.load_default(HEADING_FONT)
    for place, text in enumerate(block.headings):
        draw.text((MARGIN + place * (TILE + GAP), top + TITLE), text, FAINT, heading)
    first = top + TITLE + HEADING
    for number, row in enumerate(block.rows):
        for place, pixels in enumerate(row):
            tile = Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.LANCZOS)
            at = (MARGIN + place * (TILE + GAP), first + number * (TILE + GAP))
            sheet.paste(tile, at)
