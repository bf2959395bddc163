"""A map of pictures as one HTML file that needs nothing else: no network, no server, no library.

The page draws on canvases of its own (docs/maps.md tells what else was tried). Thumbnails are in
sheets (:mod:`embedsearch.render.sprites`) that it decodes as far as they are to be seen.
"""

from __future__ import annotations

import base64
import json
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from embedsearch.records import MapPoint
from embedsearch.render.colouring import UNCOLOURED, Colouring
from embedsearch.render.names import file_url, printable
from embedsearch.render.page import write_page
from embedsearch.render.sprites import ACROSS, Sizes

_SCRIPTS = ("atlas_data.js", "atlas_paint.js", "atlas_view.js", "atlas.js")


def write_atlas(
    out: Path,
    points: Sequence[MapPoint],
    colourings: Sequence[Colouring],
    sheets: Sequence[tuple[bytes, Sizes]],
    *,
    tile: int,
    title: str,
    note: str = "",
) -> None:
    """Write the map of ``points`` to the HTML file ``out``.

    ``colourings`` are what it can be coloured by, the one to begin with first. ``sheets`` hold the
    thumbnails of ``points``, in their order, in tiles of ``tile`` pixels, as
    :func:`embedsearch.render.sprites.sheets` makes them; none at all is fine too. Every text may
    hold anything: it is shown, never run. Raises :class:`~embedsearch.errors.OutputError` where
    ``out`` cannot be written.
    """
    write_page(
        out,
        "atlas.html.j2",
        _SCRIPTS,
        "atlas.css",
        title=printable(title),
        note=printable(note),
        colours=[one.name for one in colourings],
        data=Markup(in_script(_data(points, colourings, [sizes for _, sizes in sheets], tile))),
        sheets=(base64.b64encode(sheet).decode() for sheet, _ in sheets),
    )


def in_script(value: Any) -> str:
    """``value`` as JSON that no HTML parser mistakes for the end of a script, or for a comment."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def unit_places(points: Sequence[MapPoint]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """x and y of each, in a square of side 1 whose y points down, as a screen's does."""
    places = np.array([(point.x, -point.y) for point in points], np.float64).reshape(-1, 2)
    if not len(places):
        return places[:, 0].astype("<f4"), places[:, 1].astype("<f4")
    places -= places.min(axis=0)
    places /= places.max() or 1.0
    return places[:, 0].astype("<f4"), places[:, 1].astype("<f4")


def _data(
    points: Sequence[MapPoint],
    colourings: Sequence[Colouring],
    sizes: Sequence[Sizes],
    tile: int,
) -> dict[str, Any]:
    """All that the page's scripts know; numbers as base64 of little-endian arrays."""
    x, y = unit_places(points)
    folders: dict[str, int] = {}
    tag_names: dict[str, int] = {}
    names, folder_of, odd, tags, dates = [], [], {}, {}, {}
    for at, point in enumerate(points):
        folder, name = posixpath.split(point.image.path)
        folder_of.append(folders.setdefault(folder, len(folders)))
        names.append(printable(name))
        if names[-1] != name:  # as it is shown it does not lead to the file
            odd[at] = quote(os.fsencode(name), safe="")
        if point.tags:
            tags[at] = [tag_names.setdefault(tag, len(tag_names)) for tag in point.tags]
        if point.image.taken_at:
            dates[at] = printable(point.image.taken_at.replace("T", " "))
    known = np.concatenate([np.zeros((0, 2), np.uint8), *sizes])
    padded = np.zeros((len(points), 2), np.uint8)
    padded[: len(known)] = known
    return {
        "x": _base64(x),
        "y": _base64(y),
        "names": names,
        "odd": odd,
        # The folder "/" is empty here: a slash is put between folder and name.
        "folders": [
            [printable(folder).rstrip("/"), file_url(folder).rstrip("/")] for folder in folders
        ],
        "folder": _base64(np.array(folder_of, "<i4")),
        "tags": tags,
        "tag_names": [printable(tag) for tag in tag_names],
        "dates": dates,
        "colourings": [
            {
                "name": one.name,
                "labels": one.labels,
                "colours": one.colours,
                "of": _base64(one.of.astype("<i4")),
            }
            for one in colourings
        ],
        "uncoloured": UNCOLOURED,
        "tile": tile,
        "across": ACROSS,
        "sizes": _base64(padded),
    }


def _base64(numbers: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()
