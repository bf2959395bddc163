"""Embeddings that follow from those of other encoders, made inside the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from embedsearch.store.catalogue import CHUNK, Catalogue, Ids, Matrix, StoredEncoder
from embedsearch.store.ledger import Ledger

Derive = Callable[[Sequence[Matrix]], Matrix]
"""From the rows (N, its dim) of each source to rows (N, dim); a row of zeros is no embedding."""


def all_embeddings(catalogue: Catalogue, encoder: StoredEncoder) -> Iterator[Matrix]:
    """Every embedding of ``encoder``, float32, a few thousand rows at a time."""
    for _, rows in catalogue.embeddings(encoder, catalogue.region_ids(encoder)):
        yield rows


def derive_embeddings(
    ledger: Ledger, target: StoredEncoder, sources: Sequence[StoredEncoder], derive: Derive
) -> int:
    """Give ``target`` an embedding of every region that has one of each of ``sources`` and none
    of ``target``. Returns how many. What is made is kept batch by batch."""
    ids = _lacking(ledger, target, sources)
    made = 0
    for start in range(0, len(ids), CHUNK):
        some = ids[start : start + CHUNK]
        rows = [_rows(ledger, source, some) for source in sources]
        derived = derive(rows)
        real = derived.any(axis=1)
        with ledger.transaction():
            ledger.embed_regions(some[real], derived[real], target)
        made += int(real.sum())
    return made


def _lacking(ledger: Ledger, target: StoredEncoder, sources: Sequence[StoredEncoder]) -> Ids:
    lacking = ledger.region_ids(sources[0])
    for source in sources[1:]:
        lacking = np.intersect1d(lacking, ledger.region_ids(source))
    return np.setdiff1d(lacking, ledger.region_ids(target))


def _rows(ledger: Ledger, source: StoredEncoder, ids: Ids) -> Matrix:
    ((found, rows),) = ledger.embeddings(source, ids)
    assert np.array_equal(found, ids)
    return rows
