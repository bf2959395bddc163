"""Printing results: JSON, NUL-separated paths, tables, galleries. Results go to stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from embedsearch.records import Hit

if TYPE_CHECKING:
    from embedsearch.images.thumbnails import Thumbnails
    from embedsearch.index import Index
    from embedsearch.records import Box
    from embedsearch.render.gallery import Card
    from embedsearch.search.query import Query


def print_json(value: Any) -> None:
    """One line of ASCII JSON; a byte of a path that is not UTF-8 is a surrogate escape."""
    sys.stdout.write(json.dumps(value) + "\n")


def print_paths(paths: Iterable[str]) -> None:
    """Raw bytes of each path, each ended by NUL."""
    for path in paths:
        sys.stdout.buffer.write(os.fsencode(path) + b"\0")
    sys.stdout.buffer.flush()


def print_hits(
    index: Index,
    hits: Sequence[Hit],
    query: Query,
    *,
    title: str | None = None,
    as_json: bool,
    nul: bool,
    html: Path | None,
    open_html: bool,
) -> None:
    """Hits as the user wants them; with ``html`` a gallery is written beside."""
    if html is not None:
        write_hit_gallery(index, [("", hits)], title or str(query), html, query)
    if as_json:
        for hit in hits:
            print_json(hit_json(hit))
    elif nul:
        print_paths(hit.path for hit in hits)
    elif not hits:
        print("Nothing matches.", file=sys.stderr)
    else:
        from embedsearch.render.table import hits_table, show

        show(hits_table(hits))
    if html is not None:
        show_gallery(html, open_html)


def hit_json(hit: Hit) -> dict[str, Any]:
    """A hit as JSON tells it; only a signal from a video has a ``time``."""
    told = asdict(hit)
    for signal in told["signals"]:
        if signal["time"] is None:
            del signal["time"]
    return told


def say_newer(index: Index, encoder: str | None = None) -> None:
    """Say, on stderr, that there is a newer encoder than the one that queries use."""
    from embedsearch.render.names import printable

    newer = index.newer(encoder)
    if newer is not None:
        said = (
            f"A newer encoder is to be had: {newer}. This index goes on with its own until its "
            f'pictures are encoded anew: embedsearch index --re-encode --index "{index.folder}"'
        )
        print(printable(said), file=sys.stderr)


def show_gallery(html: Path, open_html: bool) -> None:
    """Say where a gallery is, and open it if that is wanted."""
    print(f"Gallery: {html}", file=sys.stderr)
    if open_html:
        import webbrowser

        webbrowser.open(html.absolute().as_uri())


def html_file(html: Path | None, open_html: bool) -> Path | None:
    """``html``; raises :class:`typer.BadParameter` where there is none to open."""
    if open_html and html is None:
        raise typer.BadParameter("--open needs a gallery: --html FILE")
    return html


def write_hit_gallery(
    index: Index,
    results: Sequence[tuple[str, Sequence[Hit]]],
    title: str,
    out: Path,
    query: Query | None = None,
) -> None:
    """One HTML file with a thumbnail of every hit; each result of several has its heading. With
    ``query`` it shows what was asked with."""
    from embedsearch.render.gallery import Section, write_sections

    sections = [Section(heading, _cards(index, hits)) for heading, hits in results]
    write_sections(
        out,
        sections,
        title=title,
        query_summary=query.summary() if query else "",
        examples=_examples(index, query) if query else (),
        index_folder=index.folder,
    )


def _examples(index: Index, query: Query) -> list[Card]:
    """The pictures that were asked with, or the region of the one that was."""
    from embedsearch.render.gallery import Card

    thumbnails = index.thumbnails()
    return [
        Card(
            path=os.path.abspath(path),
            thumbnail=thumbnail_of(thumbnails, path, query.region),
        )
        for path in query.pictures
    ]


def thumbnail_of(
    thumbnails: Thumbnails, path: str, box: Box | None = None, at: float | None = None
) -> bytes | None:
    """Of a picture, or of the frame of a video at a time. ``None``, of which the card says so,
    where the picture has gone since it was indexed."""
    from embedsearch.errors import PictureError

    try:
        return thumbnails.get(os.fsencode(path), box=box, at=at)
    except PictureError:
        return None


def _cards(index: Index, hits: Sequence[Hit]) -> list[Card]:
    from embedsearch.render.gallery import Card

    thumbnails = index.thumbnails()
    sizes = index.sizes([hit.path for hit in hits])
    outlines = index.outlines(hits)
    cards = []
    for hit in hits:
        width, height = sizes.get(hit.path, (0, 0))
        # The frame that speaks most for a video, which is the first of its signals with a time.
        at = next((one.time for one in hit.signals if one.time is not None), None)
        cards.append(
            Card(
                path=hit.path,
                rank=hit.rank,
                score=hit.score,
                signals=hit.signals,
                thumbnail=thumbnail_of(thumbnails, hit.path, at=at),
                at=at,
                width=width,
                height=height,
                outlines=outlines.get(hit.path, ()),
            )
        )
    return cards
