"""The vector index: the only module that speaks FAISS.

It is derived from the catalogue and can be made anew at any time. Exact inner-product search over
L2-normalised rows, so a score is a cosine. Rows are float32 as read back from float16.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import IndexFormatError
from embedsearch.store.vector_file import (
    Ids,
    Matrix,
    Vector,
    VectorFile,
    best,
)


class FaissSearcher:
    """Searches a vector index file through FAISS; the file is mapped, not read."""

    def __init__(self, file: VectorFile) -> None:
        self._index = _read(file, faiss.IO_FLAG_MMAP_IFC)

    def search(
        self, query: Vector, k: int, *, allowed: Ids | None = None, excluded: Ids | None = None
    ) -> tuple[Ids, Vector]:
        """The ``k`` rows of largest inner product with ``query`` (dim,): ids and scores, best
        first, equal scores by id; fewer where fewer are allowed."""
        selector = _selector(allowed, excluded)
        parameters = None if selector is None else faiss.SearchParameters(sel=selector)
        if min(k, self._index.ntotal) < 1:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        wanted = min(k + 1, self._index.ntotal)  # the next one tells whether the cut is clear
        score_rows, id_rows = self._index.search(query[None], wanted, params=parameters)
        ids, scores = id_rows[0][id_rows[0] >= 0], score_rows[0][id_rows[0] >= 0]
        if len(ids) > k and scores[k] == scores[k - 1]:
            # FAISS keeps any of those that are equal; take them all and choose by id.
            least = float(scores[k])
            radius = least - _ROUNDING * max(1.0, abs(least))
            _, scores, ids = self._index.range_search(query[None], radius, params=parameters)
        return best(ids, scores, k)


def spherical_kmeans(rows: Matrix, start: Matrix, iterations: int) -> Matrix:
    """Centroids of unit length that fit ``rows`` (N, dim), begun at ``start`` (K, dim): float32
    (K, dim). I. Dhillon and D. Modha, "Concept decompositions for large sparse text data using
    clustering", 2001. The same input gives the same centroids."""
    count, dim = rows.shape
    means = faiss.Kmeans(
        dim,
        len(start),
        niter=iterations,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=count,
        seed=0,
    )
    means.train(np.ascontiguousarray(rows), init_centroids=np.ascontiguousarray(start))
    return np.asarray(means.centroids, np.float32)


def nearest_rows(rows: NDArray[np.floating[Any]], targets: Matrix) -> tuple[Ids, Vector]:
    """For each of ``rows`` (N, dim) the position of the most similar of ``targets`` (K, dim) and
    the cosine: int64 (N,), float32 (N,)."""
    index = faiss.IndexFlatIP(targets.shape[1])
    index.add(np.ascontiguousarray(targets))
    positions = np.empty(len(rows), np.int64)
    cosines = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        found, position = index.search(rows[block].astype(np.float32), 1)
        cosines[block], positions[block] = found[:, 0], position[:, 0]
    return positions, cosines.clip(-1, 1)


def nearest_by_distance(rows: Matrix, queries: Matrix, k: int) -> tuple[Ids, Vector]:
    """The ``k`` rows nearest to each query by Euclidean distance.

    ``rows`` are (N, dim) and ``queries`` (M, dim), both float32. Up to :data:`NEAREST_EXACT_ROWS`
    all rows are compared; beyond, those of the :data:`PROBES` nearest of 4 sqrt(N) cells. Returns
    positions of rows, int64 (M, min(k, N)), nearest first, and distances, float32 of that shape.
    """
    count, dim = rows.shape
    k = min(k, count)
    index = faiss.IndexFlatL2(dim)
    if count > NEAREST_EXACT_ROWS:
        cells = 4 * int(np.sqrt(count))
        index = faiss.IndexIVFFlat(index, dim, cells)
        index.cp.niter = 8
        index.nprobe = PROBES
        sample = np.random.default_rng(0).permutation(count)[: _TRAINING_ROWS * cells]
        index.train(rows[np.sort(sample)])
    index.add(rows)
    squares, found = index.search(queries, k)
    short = np.flatnonzero((found < 0).any(axis=1))
    if len(short):  # the cells that were looked at hold fewer than k rows
        exact = faiss.IndexFlatL2(dim)
        exact.add(rows)
        squares[short], found[short] = exact.search(queries[short], k)
    return found, np.sqrt(squares.clip(0))


BLOCK_ROWS = 4096
NEAREST_EXACT_ROWS = 20_000
PROBES = 16
_TRAINING_ROWS = 50
"""For each cell; FAISS warns below 39."""
_ROUNDING = 1e-6
"""More than two ways to sum the same products differ."""


def read_rows(file: VectorFile) -> tuple[Ids, Matrix]:
    """All ids and rows through FAISS itself (for checking): (N,) and (N, dim).

    Raises :class:`IndexFormatError` where FAISS cannot read the file.
    """
    index = FaissSearcher(file)._index
    rows = faiss.downcast_index(index.index).reconstruct_n(0, index.ntotal)
    return faiss.vector_to_array(index.id_map), rows


def _read(file: VectorFile, flags: int = 0) -> faiss.IndexIDMap:
    try:
        return faiss.read_index(file.path, flags)
    except RuntimeError as error:
        raise IndexFormatError(
            f"FAISS cannot read the vector index ({_first_line(error)}). "
            "Make it anew: embedsearch verify --deep --repair"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _selector(allowed: Ids | None, excluded: Ids | None) -> faiss.IDSelector | None:
    if allowed is not None:
        if excluded is not None and len(excluded):
            allowed = np.setdiff1d(allowed, excluded)
        return faiss.IDSelectorBatch(allowed)
    if excluded is not None and len(excluded):
        return faiss.IDSelectorNot(faiss.IDSelectorBatch(excluded))
    return None
