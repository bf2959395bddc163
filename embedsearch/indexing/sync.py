"""Bringing the vector index file up to the catalogue."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from embedsearch.store.catalogue import StoredEncoder
from embedsearch.store.ledger import Ledger
from embedsearch.store.vector_file import open_vector_file, vector_path
from embedsearch.store.vector_writer import write


def sync_vectors(ledger: Ledger, index_folder: Path, encoder: StoredEncoder) -> int:
    """Make the file hold just what the catalogue knows. Returns how many rows changed.

    The caller holds the index lock. Nothing is written where nothing changed.
    """
    path = vector_path(index_folder, encoder.info.id)
    encoder = ledger.encoder(encoder.info.id)  # its revision as of now
    held = np.empty(0, np.int64)
    if (file := open_vector_file(path)) is not None:
        try:
            if file.trailer.revision == encoder.revision:
                return 0
            if file.trailer.dim == encoder.info.dim:
                held = file.ids()
        finally:
            file.close()
    known = ledger.region_ids(encoder)
    missing, stale = np.setdiff1d(known, held), np.setdiff1d(held, known)
    write(
        path,
        dim=encoder.info.dim,
        revision=encoder.revision,
        added=ledger.embeddings(encoder, missing),
        removed=stale,
    )
    return len(missing) + len(stale)
