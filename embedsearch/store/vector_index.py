"""Nearest-neighbour search over one encoder's embeddings, right even where the file lags behind.

A writer that was killed, or is at work, leaves the file behind the catalogue. The catalogue is the
truth: what the file lacks is searched from memory, what it has too much is passed over.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedsearch.store.catalogue import Catalogue, StoredEncoder
from embedsearch.store.vector_file import Ids, Matrix, Vector, best, open_vector_file

if TYPE_CHECKING:
    from embedsearch.store.vectors import FaissSearcher

SCAN_LIMIT = 1 << 28
"""Up to this many values (a million rows of 256-d) a first query is faster by a scan than through
importing FAISS."""


class VectorIndex:
    """Opened inside a snapshot of the catalogue; searches that state until it is closed."""

    def __init__(self, catalogue: Catalogue, encoder: StoredEncoder, path: Path) -> None:
        dim = encoder.info.dim
        self._file = open_vector_file(path)
        self._searches = 0
        self._faiss: FaissSearcher | None = None
        self._stale = np.empty(0, np.int64)
        self._extra_ids = np.empty(0, np.int64)
        self._extra_rows: Matrix = np.empty((0, dim), np.float32)
        if self._file is not None and self._file.trailer.dim != dim:
            self._file.close()
            self._file = None
        if self._file is None or self._file.trailer.revision != encoder.revision:
            self._catch_up(catalogue, encoder)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def lag(self) -> int:
        """How many rows the file lacks or has too many."""
        return len(self._stale) + len(self._extra_ids)

    def _catch_up(self, catalogue: Catalogue, encoder: StoredEncoder) -> None:
        known = catalogue.region_ids(encoder)
        held = self._file.ids() if self._file is not None else np.empty(0, np.int64)
        self._stale = np.setdiff1d(held, known)
        chunks = list(catalogue.embeddings(encoder, np.setdiff1d(known, held)))
        if chunks:
            self._extra_ids = np.concatenate([ids for ids, _ in chunks])
            self._extra_rows = np.concatenate([rows for _, rows in chunks])

    def search(
        self, query: Vector, k: int, *, allowed: Ids | None = None, excluded: Ids | None = None
    ) -> tuple[Ids, Vector]:
        """The ``k`` regions most similar to ``query``.

        ``query`` is float32 (dim,), L2-normalised. ``allowed`` restricts the answer to these
        region ids, ``excluded`` leaves some out. Returns ids int64 (n,) and cosines float32 (n,),
        n <= k, best first, equal scores by id.
        """
        if excluded is not None and len(excluded):
            stale = np.union1d(self._stale, excluded)
        else:
            stale = self._stale
        ids, scores = self._search_file(query, k, allowed, stale)
        if len(self._extra_ids):
            extra = _masked(self._extra_ids, allowed, stale)
            ids = np.concatenate([ids, self._extra_ids[extra]])
            scores = np.concatenate([scores, np.vecdot(self._extra_rows[extra], query)])
        return best(ids, scores, k)

    def search_apart(
        self,
        query: Vector,
        k: int,
        parts: Ids,
        *,
        allowed: Ids | None = None,
        excluded: Ids | None = None,
    ) -> tuple[tuple[Ids, Vector], tuple[Ids, Vector]]:
        """Two answers of :meth:`search`: the ``k`` best regions that are not among ``parts``, and
        the ``k`` best of ``parts``. ``parts`` is ascending."""
        stale = self._stale if excluded is None else np.union1d(self._stale, excluded)
        of_parts = parts if allowed is None else np.intersect1d(parts, allowed)
        if self._scans():
            self._searches += 1
            ids, scores = self._all_scores(query)
            keep = _masked(ids, allowed, stale)
            ids, scores = ids[keep], scores[keep]
            is_part = np.isin(ids, parts)
            return best(ids[~is_part], scores[~is_part], k), best(ids[is_part], scores[is_part], k)
        apart = np.union1d(stale, parts)
        return (
            self.search(query, k, allowed=allowed, excluded=apart),
            self.search(query, k, allowed=of_parts, excluded=excluded),
        )

    def _scans(self) -> bool:
        """Whether the next search is one over all rows in numpy, or there is nothing to search."""
        if self._file is None:
            return True
        trailer = self._file.trailer
        return self._searches == 0 and trailer.count * trailer.dim <= SCAN_LIMIT

    def _all_scores(self, query: Vector) -> tuple[Ids, Vector]:
        """Ids and cosines of all rows, those of the file and those that it lacks."""
        ids, scores = self._extra_ids, np.vecdot(self._extra_rows, query)
        if self._file is not None:
            ids = np.concatenate([self._file.ids(), ids])
            scores = np.concatenate([self._file.scores(query), scores])
        return ids, scores

    def _search_file(
        self, query: Vector, k: int, allowed: Ids | None, excluded: Ids
    ) -> tuple[Ids, Vector]:
        if self._file is None:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        scans = self._scans()
        self._searches += 1
        if scans:
            ids, scores = self._file.ids(), self._file.scores(query)
            if allowed is not None or len(excluded):
                keep = _masked(ids, allowed, excluded)
                ids, scores = ids[keep], scores[keep]
            return best(ids, scores, k)
        if self._faiss is None:
            from embedsearch.store.vectors import FaissSearcher

            self._faiss = FaissSearcher(self._file)
        return self._faiss.search(query, k, allowed=allowed, excluded=excluded)


def _masked(ids: Ids, allowed: Ids | None, excluded: Ids) -> NDArray[np.bool_]:
    keep = np.ones(len(ids), bool)
    if allowed is not None:
        keep &= np.isin(ids, allowed)
    if len(excluded):
        keep &= ~np.isin(ids, excluded)
    return keep
