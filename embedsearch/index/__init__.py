"""``class Index``: the public face of an index folder. It only delegates."""

from __future__ import annotations

from embedsearch.index.asking import Asking
from embedsearch.index.exploring import Exploring
from embedsearch.index.opened import AnyPath, check_k
from embedsearch.index.telling import Telling
from embedsearch.index.writing import Writing

__all__ = ["AnyPath", "Index", "check_k", "open"]


class Index(Writing, Asking, Exploring, Telling):
    """A folder of embeddings to search. Made by the first :meth:`add`.

    ::

        index = embedsearch.open("indexes/photos")
        index.add("photos/")
        for hit in index.search("red car", k=10):
            print(hit.score, hit.path)

    Readers never write, so any number of processes may search while one adds. One object is for
    one thread at a time.
    """


def open(folder: AnyPath | None = None) -> Index:
    """Open the index in ``folder`` (by default the one that the command line would use)."""
    return Index(folder)
