"""Words for what pictures show: what clusters are named by and pictures are tagged with."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def words() -> tuple[str, ...]:
    """English words and short phrases in lower case, each once, in alphabetical order.

    Made by :mod:`embedsearch.training.vocabulary`.
    """
    text = files("embedsearch.explore").joinpath("vocabulary.txt").read_text("utf-8")
    return tuple(text.splitlines())
