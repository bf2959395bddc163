"""Nearest neighbours the slow and certain way, and vectors for which every way is exact.

Inner products of small whole numbers are exact in float32, in whatever order they are summed, so
that answers can be compared number for number; and many of them are equal, so that ties are common.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedsearch.store.vector_file import Ids, Matrix, Vector

LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Rows:
    """``ids`` int64 (n,), not sorted, and ``vectors`` float32 (n, dim)."""

    ids: Ids
    vectors: Matrix

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    def __repr__(self) -> str:
        return f"Rows({self.ids.tolist()}, {self.vectors.tolist()})"


@st.composite
def some_rows(draw: st.DrawFn, largest: int = 300) -> Rows:
    """Whole numbers from -2 to 2 under any positive ids."""
    ids = draw(st.lists(st.integers(1, LARGEST), unique=True, max_size=largest))
    dim = draw(st.integers(1, 64))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    vectors = rng.integers(-2, 3, (len(ids), dim)).astype(np.float32)
    return Rows(np.array(ids, np.int64), vectors)


@st.composite
def some_of(draw: st.DrawFn, ids: Ids) -> Ids:
    """Some of ``ids``, and some that are not among them."""
    kept = draw(st.lists(st.sampled_from(ids.tolist()), unique=True)) if len(ids) else []
    others = draw(st.lists(st.integers(1, LARGEST), unique=True, max_size=5))
    return np.array(kept + [id_ for id_ in others if id_ not in kept], np.int64)


def whole_query(dim: int, seed: int) -> Vector:
    return np.random.default_rng(seed).integers(-2, 3, dim).astype(np.float32)


def nearest(
    rows: Rows, query: NDArray[np.float32], k: int, allowed: Ids | None, excluded: Ids | None
) -> tuple[list[int], list[float]]:
    """Ids and scores of the ``k`` best, equal scores by id: every row, one after another."""
    found = []
    for id_, vector in zip(rows.ids.tolist(), rows.vectors, strict=True):
        if allowed is not None and id_ not in allowed:
            continue
        if excluded is not None and id_ in excluded:
            continue
        score = sum(a * b for a, b in zip(vector.tolist(), query.tolist(), strict=True))
        found.append((-score, id_))
    found.sort()
    return [id_ for _, id_ in found[:k]], [-negative for negative, _ in found[:k]]
