"""Groups of duplicates for people: a table, and a shell script to review."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich import box, filesize
from rich.table import Table
from rich.text import Text

from embedsearch.records import Duplicate, DuplicateGroup
from embedsearch.render.names import printable
from embedsearch.render.output import written_whole
from embedsearch.render.table import Shortened

HEAD = """\
#!/usr/bin/env bash
# Written by embedsearch duplicates. It removes nothing as it is: every rm is commented out.
# Look at each group, take the "# " off the rm of each picture that may go, then run this file.
# "keep" is a proposal. Of every group leave at least one picture.
set -eu
"""


def duplicates_table(groups: Iterable[DuplicateGroup]) -> Table:
    """One line a picture, a rule between groups; the best of a group comes first, in bold."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    table.add_column("kind", no_wrap=True)
    for name in ("similarity", "hash distance", "size", "pixels"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("picture")
    table.add_column("changed")
    for group in groups:
        for picture in group.pictures:
            is_best = picture.path == group.best
            distance = "" if picture.hash_distance is None else str(picture.hash_distance)
            table.add_row(
                Text(group.kind if is_best else ""),
                Text("best" if is_best else f"{picture.similarity:.3f}", "bold" if is_best else ""),
                "" if is_best else distance,
                f"{picture.size:,}",
                f"{picture.width} x {picture.height}",
                Shortened(picture.path),
                Text(picture.changed),
                end_section=picture is group.pictures[-1],
            )
    return table


def write_script(groups: Sequence[DuplicateGroup], out: Path) -> None:
    """Write a Bash script with a commented ``rm`` for every picture that is not the best.

    Names are quoted so that each is one line of ASCII, whatever is in it. Raises
    :class:`~embedsearch.errors.OutputError` where ``out`` cannot be written.
    """
    with written_whole(out) as stream:
        for line in _script(groups):
            stream.write(line.encode("ascii", "backslashreplace"))


def quoted(path: str) -> str:
    r"""``path`` as one Bash word of printable ASCII: ``'a b'``, or ``$'a\012b\377'``."""
    if path.isascii() and path.isprintable():
        return shlex.quote(path)
    shown = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\{byte:03o}"
        for byte in os.fsencode(path)
    )
    return f"$'{shown}'"


def short_facts(picture: Duplicate, is_best: bool) -> tuple[str, ...]:
    """What is to be said of a picture, in a word or two each, for the notes of a card."""
    distance = picture.hash_distance
    said = [
        "best" if is_best else "",
        "" if is_best or distance is None else f"{distance} of 64 bits differ",
        picture.changed,
        f"{picture.width} × {picture.height}",
        filesize.decimal(picture.size),
    ]
    return tuple(text for text in said if text)


def _script(groups: Sequence[DuplicateGroup]) -> Iterator[str]:
    yield HEAD
    for number, group in enumerate(groups, 1):
        yield f"\n# Group {number}: {group.kind}\n"
        yield f"# keep  {quoted(group.best)}  ({_facts(group.pictures[0])})\n"
        for picture in group.pictures:
            if picture.path != group.best:
                yield f"# {printable(_likeness(picture))}\n"
                yield f"# rm -- {quoted(picture.path)}\n"


def _facts(picture: Duplicate) -> str:
    return f"{picture.width} x {picture.height}, {picture.size:,} bytes"


def _likeness(picture: Duplicate) -> str:
    said = [f"similarity {picture.similarity:.3f}"]
    if picture.hash_distance is not None:
        said.append(f"hash distance {picture.hash_distance} of 64")
    if picture.changed:
        said.append(picture.changed.replace("°", " degrees"))
    return ", ".join([*said, _facts(picture)])
