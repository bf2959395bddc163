"""Clusters for people: a table, and a contact sheet (PNG)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from rich import box
from rich.table import Table
from rich.text import Text

from embedsearch.records import Cluster, TagCount
from embedsearch.render.names import printable
from embedsearch.render.output import written_whole
from embedsearch.render.table import Shortened

TILE = 96
"""Side of the square of one picture of a contact sheet, pixels."""
GAP, MARGIN, HEADER, FONT = 6, 24, 30, 17
PAPER, INK, FAINT, BLANK = "#ffffff", "#1c1c1c", "#777777", "#e4e4e4"


@dataclass(frozen=True, slots=True)
class Strip:
    """One cluster of a contact sheet. ``thumbnails`` are JPEG bytes, or None where a picture
    cannot be shown; the medoid comes first."""

    number: int
    name: str
    size: int
    thumbnails: Sequence[bytes | None]


def clusters_table(clusters: Sequence[Cluster]) -> Table:
    """One line a cluster, with the picture that shows it best."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    table.add_column("cluster", justify="right", no_wrap=True)
    table.add_column("name", no_wrap=True)
    table.add_column("pictures", justify="right", no_wrap=True)
    table.add_column("medoid")
    for one in clusters:
        table.add_row(
            str(one.cluster), Text(printable(one.name)), f"{one.size:,}", Shortened(one.medoid)
        )
    return table


def tags_table(tags: Sequence[TagCount]) -> Table:
    """One line a tag; how many pictures have it, and how many of them got it from a person."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    table.add_column("tag", no_wrap=True)
    table.add_column("pictures", justify="right", no_wrap=True)
    table.add_column("given", justify="right", no_wrap=True)
    for one in tags:
        given = f"{one.given:,}" if one.given else ""
        table.add_row(Text(printable(one.tag)), f"{one.pictures:,}", given)
    return table


def write_sheet(strips: Sequence[Strip], out: Path) -> None:
    """Write a PNG with a strip of pictures for each cluster, in columns.

    Raises :class:`~embedsearch.errors.OutputError` where ``out`` cannot be written.
    """
    tiles = max((len(strip.thumbnails) for strip in strips), default=1)
    width, height = tiles * (TILE + GAP) - GAP, HEADER + TILE + MARGIN
    between = 2 * MARGIN
    columns = _columns(len(strips), width + between, height)
    rows = -(-len(strips) // columns)
    sheet = Image.new(
        "RGB",
        (columns * (width + between), MARGIN + max(1, rows) * height),
        PAPER,
    )
    for place, strip in enumerate(strips):
        column, row = divmod(place, rows)
        _draw(sheet, strip, MARGIN + column * (width + between), MARGIN + row * height, width)
    with written_whole(out) as stream:
        sheet.save(stream, "PNG", optimize=True)


def _columns(count: int, width: int, height: int) -> int:
    """So many that the sheet is about as high as wide; one for a few."""
    if count <= 6:
        return 1
    return max(1, min(6, round(math.sqrt(count * height / width))))


def _draw(sheet: Image.Image, strip: Strip, left: int, top: int, width: int) -> None:
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT)
    draw.text((left, top), str(strip.number), FAINT, font)
    size = f"{strip.size:,}"
    draw.text((left + width - draw.textlength(size, font), top), size, FAINT, font)
    start = left + draw.textlength(f"{strip.number}  ", font)
    room = left + width - start - draw.textlength(f"  {size}", font)
    draw.text((start, top), _fitting(draw, printable(strip.name), font, room), INK, font)
    for place, thumbnail in enumerate(strip.thumbnails):
        at = (left + place * (TILE + GAP), top + HEADER - 4)
        sheet.paste(_tile(thumbnail), at)


def _fitting(
    draw: ImageDraw.ImageDraw,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    room: float,
) -> str:
    if draw.textlength(text, font) <= room:
        return text
    while text and draw.textlength(f"{text}…", font) > room:
        text = text[:-1]
    return f"{text}…"


def _tile(thumbnail: bytes | None) -> Image.Image:
    """The middle of a picture as a square."""
    if thumbnail is None:
        return Image.new("RGB", (TILE, TILE), BLANK)
    picture = Image.open(BytesIO(thumbnail)).convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = (left, top, left + side, top + side)
    return picture.resize((TILE, TILE), Image.Resampling.LANCZOS, square)
