"""A map written to a file: a page, a picture, or a table, as the name of the file says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedsearch.errors import OutputError, PictureError
from embedsearch.explore.projection import Progress, silent
from embedsearch.records import MapPoint, PictureMap

if TYPE_CHECKING:
    from embedsearch.images.thumbnails import Thumbnails
    from embedsearch.render.colouring import Colour

SUFFIXES = (".html", ".png", ".csv", ".parquet", ".npy")
THUMBNAILED = 100_000
"""Pictures on a page that have a thumbnail, from all over the map; the rest are points. So the page
of any collection can still be opened."""
_KEPT_SIDES = (64, 160)
"""Thumbnails are made in few sizes, so that those kept for one map serve the next."""
_AHEAD = 256
"""Thumbnails made at a time."""
_NAMES = {"tsne": "t-SNE", "pca": "PCA", "umap": "UMAP"}


def check_out(out: Path) -> None:
    """Raises :class:`~embedsearch.errors.OutputError` for a file whose name is of no known kind, or
    in a folder that is not there: before the map is made, which may take minutes."""
    if out.suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"{out} does not say what to write: name a file that ends in {', '.join(SUFFIXES)}."
        )
    if not out.parent.is_dir():
        raise OutputError(f"Cannot write {out}: there is no folder {out.parent}. Make it first.")


def write(
    drawn: PictureMap,
    out: Path,
    thumbnails: Thumbnails,
    *,
    colour: Colour | None = None,
    points_only: bool = False,
    width: int | None = None,
    title: str = "Map",
    workers: int = 1,
    progress: Progress = silent,
) -> int:
    """Write ``drawn`` to ``out`` and tell how many pictures are on it.

    That is all of them, but on a mosaic (``.png`` without ``points_only``), which shows as many
    as have room in ``width`` pixels, evenly chosen. Raises
    :class:`~embedsearch.errors.OutputError`, :class:`~embedsearch.errors.QueryError` for a
    ``colour`` that no picture has, and :class:`~embedsearch.errors.MissingExtraError`.
    """
    check_out(out)
    match out.suffix.lower():
        case ".csv" | ".parquet" | ".npy":
            from embedsearch.render import map_table

            table = {
                ".csv": map_table.write_csv,
                ".parquet": map_table.write_parquet,
                ".npy": map_table.write_npy,
            }
            table[out.suffix.lower()](out, drawn.points)
            return len(drawn.points)
        case ".html":
            return _write_page(
                drawn, out, thumbnails, colour, points_only, title, workers, progress
            )
        case _:
            return _write_picture(
                drawn, out, thumbnails, colour, points_only, width, title, workers, progress
            )


def _write_page(
    drawn: PictureMap,
    out: Path,
    thumbnails: Thumbnails,
    colour: Colour | None,
    points_only: bool,
    title: str,
    workers: int,
    progress: Progress,
) -> int:
    from embedsearch.render.atlas import write_atlas
    from embedsearch.render.colouring import chosen, colourings
    from embedsearch.render.sprites import sheets, tile_side
    from embedsearch.render.wording import counted

    points = _in_levels(drawn.points)
    made = colourings(points)
    first = chosen(made, colour)
    side = tile_side(len(points))
    small = _small(points[:THUMBNAILED], thumbnails, side, workers, progress)
    write_atlas(
        out,
        points,
        [first, *(one for one in made.values() if one is not first)],
        [] if points_only else list(sheets(small, side)),
        tile=side,
        title=title,
        note=f"{counted(len(points), 'picture')} · {_NAMES[drawn.method]}",
    )
    return len(points)


def _write_picture(
    drawn: PictureMap,
    out: Path,
    thumbnails: Thumbnails,
    colour: Colour | None,
    points_only: bool,
    width: int | None,
    title: str,
    workers: int,
    progress: Progress,
) -> int:
    from embedsearch.render.colouring import chosen, colourings
    from embedsearch.render.map_picture import WIDTH, mosaic_cell, room, write_mosaic, write_points
    from embedsearch.render.wording import counted

    width = width or WIDTH
    points = drawn.points
    if not points_only and len(points) > room(width):
        points = _in_levels(points)[: room(width)]  # those of the coarser levels, from all over
    shown = f"{len(points):,} of " if len(points) < len(drawn.points) else ""
    title = f"{title}: {shown}{counted(len(drawn.points), 'picture')}, {_NAMES[drawn.method]}"
    colouring = chosen(colourings(points), colour)
    if points_only:
        write_points(out, points, colouring, width=width, title=title)
    else:
        side = mosaic_cell(len(points), width)
        small = _small(points, thumbnails, side, workers, progress)
        write_mosaic(out, points, small, colouring, width=width, title=title)
    return len(points)


def _in_levels(points: Sequence[MapPoint]) -> tuple[MapPoint, ...]:
    from embedsearch.render.sprites import in_levels

    places = np.array([(point.x, point.y) for point in points], np.float64)
    return tuple(points[at] for at in in_levels(places).tolist())


def _small(
    points: Sequence[MapPoint],
    thumbnails: Thumbnails,
    side: int,
    workers: int,
    progress: Progress,
) -> Iterator[bytes | None]:
    """A thumbnail of each picture, ``side`` pixels or more where it has as many; None where it is
    gone or cannot be read any more."""

    size = next((kept for kept in _KEPT_SIDES if kept >= side), side)

    def one(point: MapPoint) -> bytes | None:
        try:
            return thumbnails.of(point.image, size)
        except PictureError:
            return None  # the map shows its place

    left, done = iter(points), 0
    with ThreadPoolExecutor(workers) as threads:
        while batch := list(islice(left, _AHEAD)):
            progress("thumbnails", done, len(points))
            yield from threads.map(one, batch)
            done += len(batch)
    progress("thumbnails", done, len(points))
