"""``search`` and ``similar``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedsearch.commands import options
from embedsearch.commands.output import html_file, print_hits, say_newer

if TYPE_CHECKING:
    from embedsearch.records import Box


def search(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="[TEXT]",
            help="What to look for, in English; may be a mixture, as in the examples.",
        ),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", metavar="FILE", help="An example picture; may be repeated."),
    ] = None,
    negative: Annotated[
        list[str] | None,
        typer.Option("--not", metavar="TEXT", help="What to take away; may be repeated."),
    ] = None,
    region: options.Region = None,
    literal: Annotated[
        bool,
        typer.Option(
            "--literal", help="Take each TEXT as words: no parts, weights or pictures in it."
        ),
    ] = False,
    text_in_image: Annotated[
        str | None,
        typer.Option(
            "--text-in-image",
            metavar="TEXT",
            help="Only pictures in which this stands: words, their beginnings or parts, roughly; a "
            '"phrase" in quotes, just so.',
        ),
    ] = None,
    objects: Annotated[
        list[str] | None,
        typer.Option(
            "--object", metavar="WORDS", help="Only pictures that hold this; may be repeated."
        ),
    ] = None,
    count: Annotated[
        list[str] | None,
        typer.Option(
            "--count", metavar="LABEL>=N", help="Only pictures with so many; may be repeated."
        ),
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
    """Find pictures by words, by example, or by a mixture of both.

    TEXT is split at ' + ' and ' - ', spaces included. A part may begin with its weight, such as
    2: or 0.5:, and one that begins with ./, ../, / or ~ is a picture. Where the index knows what is
    in its pictures (embedsearch index --enrich all), objects and written words are looked for too.

    \b
    Examples:
      embedsearch search "a dog jumping over a log"
      embedsearch search --image beach.jpg -k 20 --html beach.html --open
      embedsearch search "at night" --image street.jpg
      embedsearch search "2:beach + ./sunset.jpg - people"
      embedsearch search "a dog" --not grass
      embedsearch search "a helicopter" --min-score auto
      embedsearch search --image street.jpg --region 120,80,200,150
      embedsearch search "a dog" --text-in-image "happy birthday"
      embedsearch search --object "red umbrella" --count "person>=2"
      embedsearch search "birthday" --where "taken_at like '2023%' and width > height"
    """
    if not (text or image or negative or text_in_image or objects or count):
        raise typer.BadParameter("Give words to look for, or an example picture with --image.")
    from embedsearch.index import Index
    from embedsearch.search.query import Query

    query = Query.of(
        text,
        [str(path) for path in image or []],
        negatives=negative or [],
        region=_region(region),
        literal=literal,
        objects=objects or (),
        counts=count or (),
        words=text_in_image,
    )
    with Index(folder) as opened:
        hits = opened.ask(
            query, k=k, min_score=options.min_score(min_score), where=where, encoder=encoder
        )
        print_hits(
            opened,
            hits,
            query,
            as_json=as_json,
            nul=nul,
            html=html_file(html, open_html),
            open_html=open_html,
        )
        say_newer(opened, encoder)


def similar(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The example picture.")],
    region: options.Region = None,
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
    Examples:
      embedsearch similar photo.jpg
      embedsearch similar photo.jpg --region 120,80,200,150
    """
    from embedsearch.index import Index
    from embedsearch.search.query import Query

    box = _region(region)
    with Index(folder) as opened:
        hits = opened.similar(
            image,
            region=box,
            k=k,
            min_score=options.min_score(min_score),
            where=where,
            encoder=encoder,
        )
        print_hits(
            opened,
            hits,
            Query.of(None, [str(image)], region=box),
            title=f"Similar to {image}",
            as_json=as_json,
            nul=nul,
            html=html_file(html, open_html),
            open_html=open_html,
        )
        say_newer(opened, encoder)


def _region(given: str | None) -> Box | None:
    """``x,y,w,h`` as numbers."""
    if given is None:
        return None
    try:
        x, y, width, height = map(float, given.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"--region takes four numbers, x,y,w,h in pixels, such as 120,80,200,150; not {given!r}"
        ) from None
    return x, y, width, height
