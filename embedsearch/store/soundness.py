"""What is wrong with a catalogue: SQLite's own checks, and the rules of its rows."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator

import numpy as np

from embedsearch.store.catalogue import Catalogue, StoredEncoder, matrix, stored_path


def structural_faults(catalogue: Catalogue) -> list[str]:
    """What SQLite's own checks and the catalogue's rules find wrong, in plain words."""
    found = []
    try:
        for (said,) in catalogue.connection.execute("pragma integrity_check(20)"):
            if said != "ok":
                found.append(f"SQLite: {said}")
        for table, _, parent, _ in catalogue.connection.execute("pragma foreign_key_check"):
            found.append(f"a row of {table} points at a row of {parent} that is not there")
    except sqlite3.DatabaseError as error:  # too damaged for the checks themselves
        found.append(f"SQLite: {error}")
    return found


def pictures_without_region(catalogue: Catalogue) -> list[bytes]:
    """Absolute paths of pictures that lack the region of the whole picture."""
    rows = catalogue.connection.execute(
        "select roots.path, images.path from images join roots on roots.id = root_id "
        "where status = 'ok' and not exists (select 1 from regions where image_id = images.id "
        "and kind = 'image')"
    )
    return [os.fsencode(stored_path(*row)) for row in rows]


def bad_embeddings(catalogue: Catalogue, encoder: StoredEncoder) -> Iterator[tuple[bytes, str]]:
    """Absolute paths of pictures with an embedding of the wrong size, not finite, or not of
    unit length, and what is wrong."""
    dim = encoder.info.dim
    rows = catalogue.connection.execute(
        "select roots.path, images.path, vector from embeddings "
        "join regions on regions.id = region_id join images on images.id = image_id "
        "join roots on roots.id = root_id where encoder = ?",
        (encoder.key,),
    )
    for root, path, blob in rows:
        if len(blob) != 2 * dim:
            what = f"embedding of {len(blob)} bytes, not {2 * dim}"
        elif not abs(float(np.linalg.norm(matrix([blob], dim))) - 1) < 0.01:
            what = "embedding is not of unit length"
        else:
            continue
        yield os.fsencode(stored_path(root, path)), what
