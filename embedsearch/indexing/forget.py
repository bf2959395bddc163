"""Removing pictures from an index for good."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from embedsearch.encoders.registry import drop_copies
from embedsearch.errors import QueryError
from embedsearch.indexing.sync import sync_vectors
from embedsearch.records import ForgottenEncoder
from embedsearch.store.catalogue import Catalogue, StoredEncoder, is_inside
from embedsearch.store.clusterings import clustering, drop_clustering
from embedsearch.store.coverage import only_embedded_by
from embedsearch.store.ledger import Ledger
from embedsearch.store.vector_file import vector_path


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


def forget_encoder(catalogue: Catalogue, index_folder: Path, named: str) -> ForgottenEncoder:
    """Take out an encoder (its id, or a spec), its embeddings and its copy in the index; with a
    plain :class:`Catalogue` only say what that would be. Pictures stay.

    Raises :class:`~embedsearch.errors.EncoderMismatchError` where there is no such encoder, and
    :class:`~embedsearch.errors.QueryError` where it is the only one, or several are meant.
    """
    going = _the_one(catalogue, named)
    kept = [one for one in catalogue.encoders() if one.key != going.key]
    made = clustering(catalogue)
    clusters = made is not None and made.encoder.key == going.key
    told = ForgottenEncoder(
        encoder=going.info.id,
        embeddings=catalogue.embedding_counts()[going.info.id],
        last_of=only_embedded_by(catalogue, going),
        clusters=clusters,
    )
    if isinstance(catalogue, Ledger):
        with catalogue.transaction():
            if clusters:
                drop_clustering(catalogue)
            catalogue.drop_encoder(going)
        vector_path(index_folder, going.info.id).unlink(missing_ok=True)
        drop_copies(going.info.id, [one.info.id for one in kept], index_folder)
        catalogue.checkpoint()
    return told


def _the_one(catalogue: Catalogue, named: str) -> StoredEncoder:
    """Of two encoders with one spec a query means the newer; what is to be taken out must be
    named."""
    going, all_ = catalogue.encoder(named), catalogue.encoders()
    alike = [one.info.id for one in all_ if one.info.spec == going.info.spec]
    if named != going.info.id and len(alike) > 1:
        raise QueryError(f"{named} may be {' or '.join(alike)}: name one of these.")
    if len(all_) == 1:
        raise QueryError(
            f"{going.info.id} is the only encoder of this index. Encode the pictures with another "
            "one first: embedsearch index --re-encode --encoder SPEC"
        )
    return going


def _meant(path: bytes, paths: Sequence[bytes]) -> bool:
    return any(path == under or is_inside(path, under) for under in paths)
