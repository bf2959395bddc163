"""Removing pictures from an index for good."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from embedsearch.indexing.sync import sync_vectors
from embedsearch.store.catalogue import Catalogue, is_inside
from embedsearch.store.ledger import Ledger


def forget(catalogue: Catalogue, index_folder: Path, paths: Sequence[bytes]) -> list[str]:
    """Pictures at or under the absolute ``paths``, or all that vanished: their paths.

    With a :class:`Ledger` (the caller holds the index lock) they are removed, with a plain
    :class:`Catalogue` they are only named.
    """
    found = [
        image.path
        for image in catalogue.images(None if paths else "vanished")
        if not paths or _meant(os.fsencode(image.path), paths)
    ]
    if isinstance(catalogue, Ledger):
        with catalogue.transaction():
            for path in found:
                catalogue.drop(os.fsencode(path))
            for under in paths:
                catalogue.clear_failures(under)
            catalogue.drop_empty_roots()
        for encoder in catalogue.encoders():
            sync_vectors(catalogue, index_folder, encoder)
        catalogue.checkpoint()
    return found


def _meant(path: bytes, paths: Sequence[bytes]) -> bool:
    return any(path == under or is_inside(path, under) for under in paths)
