"""A run of training from the command line: its recipe, how it tells of itself, how it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import typer

INTERRUPTED = 130
R = TypeVar("R")


def recipe_of(
    type_: type[R], file: Path | None, given: dict[str, Any], settings: Sequence[str]
) -> R:
    """The recipe of the file with the options, then ``--set``, laid over it.

    Raises :class:`~embedsearch.errors.DataError` for what the recipe has no place for.
    """
    from embedsearch.training.recipe_files import changed, overridden, read_recipe

    made = type_() if file is None else read_recipe(type_, file)
    for name, value in given.items():
        if value is not None:
            plain = str(value) if isinstance(value, Path | StrEnum) else value
            made = changed(made, name.split("."), plain, name)
    return overridden(made, settings)


def tell(line: str) -> None:
    """A line beside what is printed; of several processes one talks."""
    from embedsearch.training.distributed.ranks import is_main

    if is_main():
        print(line, file=sys.stderr)


@contextmanager
def interruptible(out: Path) -> Iterator[None]:
    """A run that writes to ``out``: Ctrl-C ends it, and says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"Interrupted; go on with --resume --out {out}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def figure(value: float | None) -> str:
    """For a table; a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"
