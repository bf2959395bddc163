"""Which rows of a collection are near one another: a self-join by inner product.

Exact for small collections. Large ones are put into cells (an inverted file; J. Sivic and A.
Zisserman, "Video Google", 2003), and each row is compared with those of the few cells nearest to
it. Unlike a search for row after row this goes cell by cell: all rows that ask a cell are one
product of matrices, many times as fast.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embedsearch.store.vector_file import Ids, Matrix, Vector

Rows = NDArray[np.float16]

EXACT_ROWS = 20_000
"""Up to this many rows comparing all with all takes seconds."""
PROBES = 16
"""Cells that each row asks. A pair may be found from either side."""
_CELLS = 4
"""Times the root of the number of rows: finding the cells then costs as much as asking them."""
_TRAINING_ROWS = 50
"""For each cell."""
_ROUNDS = 4
"""Of k-means. Further ones change little of what the cells hold."""
_GRAIN = 2.0**-18
"""What the same product comes to depends on its place in a matrix. Cosines that differ by less than
this are the same, or the last bits would choose among many copies."""
_PRODUCTS = 4_000_000
"""At a time; 16 MB, and as much again for what is sorted."""


def neighbour_pairs(rows: Rows, least: float, k: int) -> tuple[Ids, Ids, Vector]:
    """Pairs of rows whose cosine is at least ``least``, each once, by falling cosine.

    ``rows`` are (N, dim), L2-normalised. Of each row only the ``k`` nearest others are looked at,
    so there are at most N x k pairs however alike the rows are. Beside ``rows`` little is held:
    8 k bytes a row, and the pairs. Returns the positions of the rows, int64 (P,) twice, the first
    below the second, and cosines, float32 (P,).
    """
    return _compared(rows, least, k).pairs()


def nearest_neighbours(rows: Rows, k: int) -> Ids:
    """Positions of the ``k`` other rows most similar to each of ``rows`` (N, dim), the most similar
    first: int64 (N, k); -1 where the cells of a row hold fewer. Copies of a row have the same
    neighbours, however many they are."""
    return _compared(rows, -np.inf, k, grain=_GRAIN).others()


def _compared(rows: Rows, least: float, k: int, grain: float = 0.0) -> _Nearest:
    nearest = _Nearest(len(rows), least, k + 1)
    for asking, asked in _all_with_all(len(rows)) if len(rows) <= EXACT_ROWS else _by_cells(rows):
        theirs = rows[asked].astype(np.float32).T
        step = max(1, _PRODUCTS // len(asked))
        for start in range(0, len(asking), step):
            block = asking[start : start + step]
            cosines = rows[block].astype(np.float32) @ theirs
            if grain:
                np.rint(cosines / grain, out=cosines)
            nearest.offer(block, asked, cosines)
    return nearest


class _Nearest:
    """The ``k`` nearest of each row so far, itself among them."""

    def __init__(self, count: int, least: float, k: int) -> None:
        self._least = least
        self._cosines = np.full((count, k), -np.inf, np.float32)
        self._positions = np.zeros((count, k), np.int32)

    def offer(self, asking: Ids, asked: Ids, cosines: Matrix) -> None:
        """``cosines`` (A, B) are of the rows ``asking`` with those ``asked``."""
        good = np.flatnonzero(cosines.max(1) >= self._least)
        asking, cosines = asking[good], cosines[good]
        k = self._cosines.shape[1]
        places = _largest(cosines, k)
        cosines = np.hstack([self._cosines[asking], np.take_along_axis(cosines, places, 1)])
        positions = np.hstack([self._positions[asking], asked[places].astype(np.int32)])
        places = _largest(cosines, k)
        self._cosines[asking] = np.take_along_axis(cosines, places, 1)
        self._positions[asking] = np.take_along_axis(positions, places, 1)

    def others(self) -> Ids:
        order = np.argsort(-self._cosines, axis=1, kind="stable")
        cosines = np.take_along_axis(self._cosines, order, 1)
        found = np.take_along_axis(self._positions, order, 1).astype(np.int64)
        own = (found == np.arange(len(found))[:, None]) & np.isfinite(cosines)
        own[~own.any(1), -1] = True  # more than k copies of a row: it may not find itself
        found[np.isneginf(cosines)] = -1
        others: Ids = found[~own].reshape(len(found), -1)
        return others

    def pairs(self) -> tuple[Ids, Ids, Vector]:
        count = len(self._positions)
        row, column = np.nonzero(self._cosines >= self._least)
        other = self._positions[row, column].astype(np.int64)
        cosines = self._cosines[row, column]
        unlike = row != other
        row, other, cosines = row[unlike], other[unlike], cosines[unlike]
        keys, first = np.unique(
            np.minimum(row, other) * count + np.maximum(row, other), return_index=True
        )
        cosines = cosines[first].clip(-1, 1)
        order = np.lexsort((keys, -cosines))
        return keys[order] // max(count, 1), keys[order] % max(count, 1), cosines[order]


def _largest(values: Matrix, k: int) -> NDArray[np.intp]:
    """Columns of the ``k`` largest values of each row, in no order; all where there are fewer."""
    width = values.shape[1]
    if width <= k:
        return np.broadcast_to(np.arange(width), values.shape)
    return np.argpartition(values, width - k, axis=1)[:, width - k :]


def _all_with_all(count: int) -> Iterator[tuple[Ids, Ids]]:
    every = np.arange(count)
    if count:
        yield every, every


def _by_cells(rows: Rows) -> Iterator[tuple[Ids, Ids]]:
    """For each cell the rows that ask it, and those that are in it."""
    probed = _probed_cells(rows)
    # By cell; stable, so that each cell's rows are ascending and lie near one another on disk.
    asking = np.argsort(probed.ravel(), kind="stable")
    ends = np.bincount(probed.ravel()).cumsum()
    inside = probed[:, 0]
    for cell, (start, end) in enumerate(zip(np.append(0, ends[:-1]), ends, strict=True)):
        asks = asking[start:end] // PROBES
        members = asks[inside[asks] == cell]
        if len(members):
            yield asks, members


def _probed_cells(rows: Rows) -> NDArray[np.int32]:
    """The :data:`PROBES` cells nearest to each row, (N, PROBES); the first is the one it is in."""
    from embedsearch.store.vectors import spherical_kmeans

    count = _CELLS * int(np.sqrt(len(rows)))
    sample = np.random.default_rng(0).permutation(len(rows))[: _TRAINING_ROWS * count]
    taught = rows[np.sort(sample)].astype(np.float32)
    centres = spherical_kmeans(taught, rows[sample[:count]].astype(np.float32), _ROUNDS).T
    probed = np.empty((len(rows), PROBES), np.int32)
    step = max(1, _PRODUCTS // count)
    for start in range(0, len(rows), step):
        cosines = rows[start : start + step].astype(np.float32) @ centres
        cells = _largest(cosines, PROBES)
        order = np.argsort(-np.take_along_axis(cosines, cells, 1), axis=1)
        probed[start : start + step] = np.take_along_axis(cells, order, 1)
    return probed
