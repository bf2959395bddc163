"""Results as one HTML file that needs nothing else: no network, no server, no other file."""

from __future__ import annotations

import base64
import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedsearch.records import Box, Signal
from embedsearch.render.names import file_url, printable
from embedsearch.render.page import write_page
from embedsearch.render.wording import clock

_NARROWEST, _WIDEST = 0.5, 2.5
"""Bounds of width / height of a tile; a picture beyond them is shown whole, with a margin."""


@dataclass(frozen=True, slots=True)
class Card:
    """One picture of a gallery."""

    path: str
    """Absolute, as ``os.fsdecode`` gives it."""
    rank: int | None = None
    score: float | None = None
    signals: tuple[Signal, ...] = ()
    thumbnail: bytes | None = None
    """JPEG bytes, upright; ``None`` where there is none to show."""
    at: float | None = None
    """Of a video, when the frame of the thumbnail is shown: only boxes of that time lie on it."""
    width: int = 0
    """Of the upright picture, in pixels, as the boxes of ``signals`` are; 0 where not known."""
    height: int = 0
    notes: tuple[str, ...] = ()
    """Anything else to be said of it, in a word or two each."""
    outlines: tuple[tuple[tuple[float, float], ...], ...] = ()
    """Closed lines around what is meant, in the pixels that the boxes are in."""


@dataclass(frozen=True, slots=True)
class Section:
    """Cards under a heading, such as a cluster or a group of duplicates."""

    heading: str
    cards: Sequence[Card]
    note: str = ""


def write_gallery(
    out: Path,
    cards: Sequence[Card],
    *,
    title: str,
    query_summary: str = "",
    examples: Sequence[Card] = (),
    index_folder: Path | None = None,
) -> None:
    """Write the pictures of one result to the HTML file ``out``.

    ``title`` heads the page, ``query_summary`` says below it how the result came about, and
    ``examples`` are the pictures that were asked with. The commands that the page offers for more
    of the same name ``index_folder``. Every text may hold anything: it is shown, never run. Raises
    :class:`~embedsearch.errors.OutputError` where ``out`` cannot be written.
    """
    write_sections(
        out,
        [Section("", cards)],
        title=title,
        query_summary=query_summary,
        examples=examples,
        index_folder=index_folder,
    )


def write_sections(
    out: Path,
    sections: Sequence[Section],
    *,
    title: str,
    query_summary: str = "",
    examples: Sequence[Card] = (),
    index_folder: Path | None = None,
) -> None:
    """Write a gallery of several groups of pictures; else as :func:`write_gallery`.

    The bar under a picture is its score as a part of the best score in its group.
    """
    cards = [card for section in sections for card in section.cards]
    above = _folder_above([card.path for card in cards])
    write_page(
        out,
        "gallery.html.j2",
        ["gallery.js"],
        "gallery.css",
        title=printable(title),
        query_summary=printable(query_summary),
        count=len(cards),
        examples=_shown_cards(examples, above),
        sections=[
            {
                "heading": printable(section.heading),
                "note": printable(section.note),
                "count": len(section.cards),
                "cards": _shown_cards(section.cards, above),
            }
            for section in sections
        ],
        index_url=None if index_folder is None else file_url(os.path.abspath(index_folder)),
    )


def _folder_above(paths: Sequence[str]) -> str:
    """The folder above the one that holds all ``paths``: said of each, it would say nothing."""
    if not paths:
        return ""
    folder = posixpath.dirname(posixpath.commonpath([posixpath.dirname(path) for path in paths]))
    return folder if folder.endswith("/") else f"{folder}/"


def _shown_cards(cards: Sequence[Card], above: str) -> Iterator[dict[str, Any]]:
    best = max((card.score or 0.0 for card in cards), default=0.0)
    for card in cards:
        folder, name = posixpath.split(card.path)
        ratio = card.width / card.height if card.width > 0 and card.height > 0 else 1.0
        tile = min(max(ratio, _NARROWEST), _WIDEST)
        yield {
            "url": file_url(card.path),
            "path": printable(card.path),
            "folder": printable(folder.removeprefix(above)),
            "name": printable(name),
            "kind": printable(posixpath.splitext(name)[1].removeprefix(".").upper()),
            "width": card.width,
            "height": card.height,
            "ratio": round(tile, 4),
            "clipped": tile != ratio,
            "thumbnail": _base64(card.thumbnail),
            "rank": card.rank,
            "score": None if card.score is None else f"{card.score:.3f}",
            "bar": round(max(card.score or 0.0, 0.0) / best, 4) if best > 0 else 0.0,
            "boxes": [
                [*(round(side, 1) for side in signal.box), printable(_signal(signal))]
                for signal in card.signals
                if signal.box is not None
                and not _covers(signal.box, card)
                and (card.at is None or signal.time in (None, card.at))
            ],
            "outlines": [" ".join(f"{x:g},{y:g}" for x, y in line) for line in card.outlines],
            "letters": round(max(card.width, card.height) / 42, 1),
            "notes": [
                printable(text) for text in [*map(_signal, card.signals), *card.notes] if text
            ],
        }


def _base64(thumbnail: bytes | None) -> str | None:
    return None if thumbnail is None else base64.b64encode(thumbnail).decode()


def _covers(box: Box, card: Card) -> bool:
    """Whether a box is the whole picture, give or take a pixel."""
    x, y, width, height = box
    return x <= 1 and y <= 1 and x + width >= card.width - 1 and y + height >= card.height - 1


def _signal(signal: Signal) -> str:
    """What a signal adds to the score of the card; a whole picture adds nothing."""
    if signal.kind == "image":
        return ""
    what = signal.label if signal.text is None else f"“{signal.text}”"
    said = f"{what or ('shot' if signal.kind == 'track' else signal.kind)} {signal.score:.2f}"
    return said if signal.time is None else f"{said} at {clock(signal.time)}"
