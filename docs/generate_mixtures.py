"""Write the tables of docs/mixtures.md anew: below each block of commands that all rank the demo's
pictures, what they find, a column for each.

python docs/generate_mixtures.py
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from embedsearch.commands.demo_pictures import make_pictures
from embedsearch.index import Index

PAGE = Path(__file__).with_name("mixtures.md")
COMMANDS = r"(?:embedsearch (?:search|similar) [^\n]*-k 5[^\n]*\n)+"
BLOCK = re.compile(rf"```sh\n({COMMANDS})```\n(?:\n(?:\|[^\n]*\n)+)?")


def with_tables(text: str, folder: Path) -> str:
    """``text`` with a fresh table below each block; ``folder`` holds ``demo/``."""

    def block(found: re.Match[str]) -> str:
        lines = found[1].splitlines()
        return f"```sh\n{found[1]}```\n\n{table(lines, folder)}\n"

    return BLOCK.sub(block, text)


def table(lines: list[str], folder: Path) -> str:
    """Rank against command, in Markdown."""
    columns = [ranking(shlex.split(line), folder) for line in lines]
    rows = [
        ["", *(f"`{heading(line)}`" for line in lines)],
        ["---"] * (len(lines) + 1),
        *([str(rank), *found] for rank, found in enumerate(zip(*columns, strict=True), 1)),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def ranking(command: list[str], folder: Path) -> list[str]:
    """Name and score of each hit."""
    program = str(Path(sys.executable).with_name(command[0]))
    done = subprocess.run(
        [program, *command[1:], "--json"], cwd=folder, capture_output=True, check=True
    )
    hits = [json.loads(line) for line in done.stdout.splitlines()]
    photos = folder / "demo/photos"
    return [f"{Path(hit['path']).relative_to(photos)} {hit['score']:.2f}" for hit in hits]


def heading(line: str) -> str:
    """What differs from command to command."""
    for said in ("embedsearch search ", "embedsearch similar ", " --index demo/index", " -k 5"):
        line = line.replace(said, "")
    return re.sub(r"(\./)?demo/photos/\w+/", lambda found: found[1] or "", line)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        make_pictures(folder / "demo/photos")
        with Index(folder / "demo/index") as index:
            index.add(folder / "demo/photos")
        PAGE.write_text(with_tables(PAGE.read_text("utf-8"), folder), "utf-8")


if __name__ == "__main__":
    main()
