"""``forget``: taking pictures, and encoders, out of an index."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedsearch.commands import options
from embedsearch.commands.output import html_file, print_json, show_gallery

if TYPE_CHECKING:
    from embedsearch.index import Index

SHOWN = 2000
"""Pictures on the page of those to be forgotten; a browser shows these within seconds."""


def forget(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Pictures and folders to remove; without any, pictures that vanished.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them.")] = False,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="SPEC",
            help="Instead of pictures, remove this encoder (its id is best) and its embeddings.",
        ),
    ] = None,
    folder: options.IndexFolder = None,
    wait: options.Wait = 0.0,
    as_json: options.Json = False,
    html: options.Html = None,
    open_html: options.OpenHtml = False,
) -> None:
    """Remove pictures from the index (never from the disk), or an encoder and its embeddings.

    Says what it would remove; --yes removes it. With --html you can look at pictures before.

    \b
    Examples:
      embedsearch forget
      embedsearch forget --yes
      embedsearch forget ~/Pictures/old --html old.html
      embedsearch forget ~/Pictures/old --yes
      embedsearch forget --encoder mini-5b2f0c9d1e7a
    """
    html_file(html, open_html)
    from embedsearch.index import Index

    if encoder is not None:
        if paths or html is not None:
            raise typer.BadParameter("--encoder removes no pictures: no PATH, no --html.")
        _forget_encoder(folder, encoder, yes, wait, as_json)
        return

    with Index(folder) as opened:
        if html is not None:
            _write_gallery(opened, opened.forget(*(paths or []), dry_run=True), html)
        found = opened.forget(*(paths or []), dry_run=not yes, wait_seconds=wait)
    if html is not None:
        show_gallery(html, open_html)
    if as_json:
        print_json({"removed": yes, "pictures": found})
        return
    from embedsearch.render.table import plain_table, show
    from embedsearch.render.wording import counted

    if found:
        show(plain_table(["removed" if yes else "would be removed"], [[path] for path in found]))
    done = "Removed" if yes else "Would remove"
    hint = "" if yes or not found else " To remove: add --yes"
    print(f"{done} {counted(len(found), 'picture')} from the index.{hint}", file=sys.stderr)


def _forget_encoder(
    folder: Path | None, encoder: str, yes: bool, wait: float, as_json: bool
) -> None:
    from embedsearch.index import Index
    from embedsearch.render.wording import counted

    with Index(folder) as opened:
        told = opened.forget_encoder(encoder, dry_run=not yes, wait_seconds=wait)
    if as_json:
        print_json({"removed": yes, **asdict(told)})
        return
    what = f"{told.encoder} and its {counted(told.embeddings, 'embedding')}"
    if told.clusters:
        what += ", and the clusters made of them,"
    if told.last_of:
        print(
            f"No other encoder has embeddings of {counted(told.last_of, 'picture')}: they are not "
            "found until embedsearch index has read them again.",
            file=sys.stderr,
        )
    hint = "" if yes else " To remove: add --yes"
    print(f"{'Removed' if yes else 'Would remove'} {what} from the index.{hint}", file=sys.stderr)


def _write_gallery(index: Index, found: list[str], out: Path) -> None:
    """Pictures to be removed; of those that are gone, what was kept of them."""
    from embedsearch.render.gallery import Card, write_gallery
    from embedsearch.render.wording import counted

    shown = found[:SHOWN]
    looks, sizes = index.last_looks(shown), index.sizes(shown)
    unknown = (0, 0)
    cards = [
        Card(
            path=path,
            rank=rank,
            thumbnail=looks[path],
            width=sizes.get(path, unknown)[0],
            height=sizes.get(path, unknown)[1],
        )
        for rank, path in enumerate(shown, 1)
    ]
    said = f"{counted(len(found), 'picture')} of the index; the files are left alone"
    if len(found) > SHOWN:
        said += f"; the first {SHOWN:,} are shown"
    write_gallery(out, cards, title="To be forgotten", query_summary=f"{said}.")
