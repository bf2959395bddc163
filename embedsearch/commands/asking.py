"""``search`` and ``similar``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedsearch.commands import options
from embedsearch.commands.output import print_hits


def search(
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="What to look for, in English.")
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", metavar="FILE", help="An example picture; may be repeated."),
    ] = None,
    folder: options.IndexFolder = None,
    k: options.Top = 10,
    min_score: options.MinScore = None,
    where: options.Where = None,
    encoder: options.Encoder = None,
    as_json: options.Json = False,
    nul: options.Nul = False,
    html: options.Html = None,
    open_html: options.OpenHtml = False,
) -> None:
    """Find pictures by words, by example, or by both.

    \b
    Examples:
      embedsearch search "a dog jumping over a log"
      embedsearch search --image beach.jpg -k 20 --html beach.html --open
      embedsearch search "at night" --image street.jpg
      embedsearch search "birthday" --where "taken_at like '2023%' and width > height"
    """
    if not text and not image:
        raise typer.BadParameter("Give words to look for, or an example picture with --image.")
    from embedsearch.index import Index

    examples = [str(path) for path in image or []]
    with Index(folder) as opened:
        hits = opened.search(
            text, images=examples, k=k, min_score=min_score, where=where, encoder=encoder
        )
        asked = " + ".join([*([text] if text else []), *examples])
        print_hits(
            opened,
            hits,
            asked,
            as_json=as_json,
            nul=nul,
            html=_html(html, open_html),
            open_html=open_html,
        )


def similar(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The example picture.")],
    folder: options.IndexFolder = None,
    k: options.Top = 10,
    min_score: options.MinScore = None,
    where: options.Where = None,
    encoder: options.Encoder = None,
    as_json: options.Json = False,
    nul: options.Nul = False,
    html: options.Html = None,
    open_html: options.OpenHtml = False,
) -> None:
    """Find the pictures most similar to one, itself left out.

    \b
    Example:
      embedsearch similar photo.jpg
    """
    from embedsearch.index import Index

    with Index(folder) as opened:
        hits = opened.similar(image, k=k, min_score=min_score, where=where, encoder=encoder)
        print_hits(
            opened,
            hits,
            f"Similar to {image}",
            as_json=as_json,
            nul=nul,
            html=_html(html, open_html),
            open_html=open_html,
        )


def _html(html: Path | None, open_html: bool) -> Path | None:
    if open_html and html is None:
        raise typer.BadParameter("--open needs a gallery: --html FILE")
    return html
