"""``map``: a collection laid out in the plane."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedsearch.commands import options
from embedsearch.commands.output import print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedsearch.records import PictureMap


class MethodChoice(StrEnum):
    tsne = "tsne"
    pca = "pca"
    umap = "umap"


class ColourChoice(StrEnum):
    cluster = "cluster"
    folder = "folder"
    date = "date"
    label = "label"
    tag = "tag"
    none = "none"


def map_(
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE",
            help="What to write: .html (a page to explore), .png, or the places as .csv, .parquet "
            "or .npy.",
        ),
    ],
    method: Annotated[
        MethodChoice,
        typer.Option(
            "--method",
            help="tsne: the clearest groups. umap: groups and what lies between them. pca: fast, "
            "and needs no optional part, but shows only the coarsest differences.",
        ),
    ] = MethodChoice.tsne,
    colour: Annotated[
        ColourChoice | None,
        typer.Option(
            "--colour", help="Colour by this. Default: cluster where there are some, else folder."
        ),
    ] = None,
    points: Annotated[
        bool, typer.Option("--points", help="Points, no thumbnails (.html and .png).")
    ] = False,
    width: Annotated[
        int | None,
        typer.Option(
            "--width", metavar="PIXELS", min=400, max=20_000, help=".png: how wide the map is."
        ),
    ] = None,
    where: options.Where = None,
    folder: options.IndexFolder = None,
    encoder: options.Encoder = None,
    anew: Annotated[
        bool,
        typer.Option("--anew", help="Lay out all pictures again, not only those that are new."),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=1, help="Threads. Default: all cores."),
    ] = None,
    wait: options.Wait = 0.0,
    as_json: options.Json = False,
    open_out: Annotated[
        bool, typer.Option("--open", help="Open the file when it is done.")
    ] = False,
) -> None:
    """Draw a map of the pictures: those that look alike lie close together.

    The map is kept in the index. Run again, it places the pictures that are new into it, and the
    others stay where they are; --anew lays out all of them again. --where shows a part of the map.

    \b
    Examples:
      embedsearch map --out map.html --open
      embedsearch map --out map.png --colour folder
      embedsearch map --out dogs.html --where "tags like '%dog%'"
      embedsearch map --method pca --out places.csv
    """
    from embedsearch.explore.atlas import check_out
    from embedsearch.index import Index

    check_out(out)
    with Index(folder) as opened, _bar() as progress:
        found = opened.map(
            method=method.value,
            where=where,
            encoder=encoder,
            anew=anew,
            workers=workers,
            wait_seconds=wait,
            progress=progress,
        )
        drawn = opened.draw_map(
            found,
            out,
            colour=None if colour is None else colour.value,
            points_only=points,
            width=width,
            workers=workers,
            progress=progress,
        )
    _say(found, drawn, out, as_json)
    if open_out:
        import webbrowser

        webbrowser.open(out.absolute().as_uri())


def _say(found: PictureMap, drawn: int, out: Path, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "out": str(out),
                "method": found.method,
                "encoder": found.encoder,
                "made_at": found.made_at,
                "pictures": len(found.points),
                "drawn": drawn,
                "placed": found.placed,
                "kept": found.kept,
                "not_kept": found.not_kept,
            }
        )
    else:
        shown = f"{drawn:,} of " if drawn < len(found.points) else ""
        from embedsearch.render.wording import counted

        print(f"Map of {shown}{counted(len(found.points), 'picture')}: {out}", file=sys.stderr)
    if found.placed:
        new = "1 new picture was" if found.placed == 1 else f"{found.placed:,} new pictures were"
        print(
            f"{new} placed into the map of {found.made_at[:10]}. Lay out all of them again: --anew",
            file=sys.stderr,
        )
    if found.not_kept:
        print(
            f"The map was drawn, but not kept for the next time: {found.not_kept}", file=sys.stderr
        )


def _bar() -> AbstractContextManager[Callable[[str, int, int], None]]:
    """A bar on stderr where that is a terminal, else nothing."""
    from embedsearch.explore.projection import silent

    if not sys.stderr.isatty():
        return nullcontext(silent)
    from embedsearch.commands.progress import step_bar

    return step_bar()
