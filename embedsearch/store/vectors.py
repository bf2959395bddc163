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


def neighbour_pairs(rows: NDArray[np.float16], least: float, k: int) -> tuple[Ids, Ids, Vector]:
    """Pairs of rows whose cosine is at least ``least``, each once, by falling cosine.

    ``rows`` are (N, dim), L2-normalised. Of each row only the ``k`` nearest others are looked at,
    so there are at most N x k pairs however alike the rows are. Up to :data:`EXACT_ROWS` rows all
    are compared with all; beyond, each with those of the :data:`PROBES` nearest of 4 sqrt(N)
    cells (IVF; J. Sivic and A. Zisserman, "Video Google", 2003), which holds the rows once more as
    float16. Returns the positions of the rows, int64 (P,) twice, the first below the second, and
    cosines, float32 (P,).
    """
    count, dim = rows.shape
    if count < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    index = faiss.IndexFlatIP(dim) if count <= EXACT_ROWS else _cells(rows)
    for start in range(0, count, BLOCK_ROWS):
        index.add(rows[start : start + BLOCK_ROWS].astype(np.float32))
    keys, cosines = [], []
    for start in range(0, count, BLOCK_ROWS):
        queries = rows[start : start + BLOCK_ROWS].astype(np.float32)
        scores, found = index.search(queries, min(k + 1, count))
        own = np.arange(start, start + len(queries))[:, None]
        keep = (found >= 0) & (found != own) & (scores >= least)
        own = np.broadcast_to(own, found.shape)[keep]
        keys.append(np.minimum(own, found[keep]) * count + np.maximum(own, found[keep]))
        cosines.append(scores[keep])
    unique, first = np.unique(np.concatenate(keys), return_index=True)
    similar = np.concatenate(cosines)[first].clip(-1, 1)
    order = np.lexsort((unique, -similar))
    return unique[order] // count, unique[order] % count, similar[order]


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


def nearest_neighbours(rows: NDArray[np.float16], k: int) -> Ids:
    """Positions of the ``k`` other rows most similar to each of ``rows`` (N, dim), the most similar
    first: int64 (N, k). Above :data:`EXACT_NEIGHBOURS` rows they are sought in the nearest cells
    only (as :func:`neighbour_pairs`); -1 where these hold fewer.
    """
    count, dim = rows.shape
    index = faiss.IndexFlatIP(dim) if count <= EXACT_NEIGHBOURS else _cells(rows)
    for start in range(0, count, BLOCK_ROWS):
        index.add(rows[start : start + BLOCK_ROWS].astype(np.float32))
    neighbours = np.full((count, k), -1, np.int64)
    for start in range(0, count, BLOCK_ROWS):
        queries = rows[start : start + BLOCK_ROWS].astype(np.float32)
        _, found = index.search(queries, min(k + 1, count))
        own = found == np.arange(start, start + len(queries))[:, None]
        own[~own.any(1), -1] = True  # more than k copies of a row: it may not find itself
        others = found[~own].reshape(len(queries), -1)
        neighbours[start : start + len(queries), : others.shape[1]] = others
    return neighbours


EXACT_NEIGHBOURS = 20_000
EXACT_ROWS = 50_000
"""Up to this many rows comparing all with all takes seconds."""
BLOCK_ROWS = 4096
PROBES = 16
_TRAINING_ROWS = 50
"""For each cell; FAISS warns below 39."""


def _cells(rows: NDArray[np.float16]) -> faiss.IndexIVFScalarQuantizer:
    """An empty inverted file whose cells are those of ``rows``."""
    count, dim = rows.shape
    cells = 4 * int(np.sqrt(count))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim),
        dim,
        cells,
        faiss.ScalarQuantizer.QT_fp16,
        faiss.METRIC_INNER_PRODUCT,
        False,  # rows as they are, not what is left after their cell: they are float16 already
    )
    index.cp.niter = 8
    index.cp.spherical = True
    index.nprobe = PROBES
    sample = np.random.default_rng(0).permutation(count)[: _TRAINING_ROWS * cells]
    index.train(rows[np.sort(sample)].astype(np.float32))
    return index


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
