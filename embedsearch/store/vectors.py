"""The vector index: the only module that speaks FAISS.

It is derived from the catalogue and can be made anew at any time. Exact inner-product search over
L2-normalised rows, so a score is a cosine. Rows are float32 as read back from float16.
"""

from __future__ import annotations

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


def nearest_rows(rows: Matrix, queries: Matrix, k: int) -> tuple[Ids, Vector]:
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


NEAREST_EXACT_ROWS = 20_000
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
