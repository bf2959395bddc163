"""``duplicates``: what a collection has twice."""

from __future__ import annotations

import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedsearch.commands import options
from embedsearch.commands.output import html_file, print_json, show_gallery, thumbnail_of

if TYPE_CHECKING:
    from embedsearch.index import Index
    from embedsearch.records import DuplicateGroup, DuplicateReport
    from embedsearch.render.gallery import Card


class KindChoice(StrEnum):
    exact = "exact"
    near = "near"
    burst = "burst"


def duplicates(
    kind: Annotated[
        list[KindChoice] | None,
        typer.Option("--kind", help="Only groups of this kind; may be repeated. Default: all."),
    ] = None,
    folder: options.IndexFolder = None,
    where: options.Where = None,
    min_similarity: Annotated[
        float,
        typer.Option(
            "--min-similarity",
            metavar="S",
            min=-1,
            max=1,
            help="near: the cosine of the embeddings must be at least S, 0.6 unless given. Higher "
            "is faster, and finds fewer.",
        ),
    ] = 0.6,
    max_distance: Annotated[
        int,
        typer.Option(
            "--max-distance",
            metavar="BITS",
            min=0,
            max=64,
            help="near: at most so many of the 64 bits of the perceptual hashes may differ, 10 "
            "unless given. Unrelated pictures differ in about 32; over 12, more and more that only "
            "look alike come in.",
        ),
    ] = 10,
    burst_seconds: Annotated[
        float,
        typer.Option(
            "--burst-seconds",
            metavar="SECONDS",
            min=0,
            help="burst: shots at most so far apart, 3 unless given.",
        ),
    ] = 3.0,
    encoder: options.Encoder = None,
    as_json: options.Json = False,
    html: options.Html = None,
    open_html: options.OpenHtml = False,
    script: Annotated[
        Path | None,
        typer.Option(
            "--script",
            metavar="FILE",
            help="Write a shell script with a commented rm for every picture but the best of its "
            "group, to review and run yourself.",
        ),
    ] = None,
) -> None:
    """Find pictures that are there more than once. Nothing is ever removed.

    exact: the files are the same, byte for byte. near: edited, resized, cropped, mirrored or
    slightly turned copies; the embeddings and the perceptual hashes both have to agree. burst:
    shots of one moment that look alike.

    The best picture of each group is proposed: by resolution, sharpness, exposure, age.

    \b
    Examples:
      embedsearch duplicates
      embedsearch duplicates --kind exact --json
      embedsearch duplicates --html twice.html --open
      embedsearch duplicates --where "path like '%/Downloads/%'" --script review.sh
    """
    html_file(html, open_html)
    from embedsearch.index import Index

    with Index(folder) as opened:
        found = opened.duplicates(
            kinds=[one.value for one in kind or KindChoice],
            where=where,
            min_similarity=min_similarity,
            max_distance=max_distance,
            burst_seconds=burst_seconds,
            encoder=encoder,
            progress=_said_progress if sys.stderr.isatty() else None,
        )
        if html is not None:
            _write_gallery(opened, found.groups, html)
    if script is not None:
        from embedsearch.render.duplicates import write_script

        write_script(found.groups, script)
        print(f"Script to review: {script}", file=sys.stderr)
    _print(found, as_json)
    if html is not None:
        show_gallery(html, open_html)


def _print(found: DuplicateReport, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "groups": [asdict(group) for group in found.groups],
                "skipped": [asdict(failure) for failure in found.skipped],
                "pictures": found.pictures,
            }
        )
        return
    from embedsearch.render.names import printable
    from embedsearch.render.table import show
    from embedsearch.render.wording import counted

    if found.groups:
        from embedsearch.render.duplicates import duplicates_table

        show(duplicates_table(found.groups))
    extra = sum(len(group.pictures) - 1 for group in found.groups)
    print(
        f"{counted(len(found.groups), 'group')}; {extra:,} of "
        f"{counted(found.pictures, 'picture')} are not the best of theirs. Nothing was removed.",
        file=sys.stderr,
    )
    for failure in found.skipped[:20]:
        print(f"Skipped {printable(failure.path)}: {printable(failure.reason)}", file=sys.stderr)
    if len(found.skipped) > 20:
        print(f"and {len(found.skipped) - 20:,} more: --json", file=sys.stderr)


def _said_progress(done: int, total: int) -> None:
    end = "\r" if done < total else "\x1b[2K\r"
    print(f"comparing: {done:,} of {total:,} pairs", end=end, file=sys.stderr, flush=True)


def _write_gallery(index: Index, groups: tuple[DuplicateGroup, ...], out: Path) -> None:
    """One section a group, the best picture first."""
    from embedsearch.render.gallery import Section, write_sections
    from embedsearch.render.wording import counted

    summary = f"{counted(len(groups), 'group')}; the score is the cosine with the best picture"
    write_sections(
        out,
        [
            Section(f"{number}. {group.kind}", _cards(index, group))
            for number, group in enumerate(groups, 1)
        ],
        title="Duplicates",
        query_summary=summary,
        index_folder=index.folder,
    )


def _cards(index: Index, group: DuplicateGroup) -> list[Card]:
    from embedsearch.render.duplicates import short_facts
    from embedsearch.render.gallery import Card

    thumbnails = index.thumbnails()
    return [
        Card(
            path=one.path,
            rank=rank,
            score=one.similarity,
            thumbnail=thumbnail_of(thumbnails, one.path),
            width=one.width,
            height=one.height,
            notes=short_facts(one, one.path == group.best),
        )
        for rank, one in enumerate(group.pictures, 1)
    ]
