"""Files, catalogue, vector index and encoders held against each other, and mended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from embedsearch.encoders import registry
from embedsearch.errors import EmbedSearchError, PictureError
from embedsearch.indexing.scopes import is_gone
from embedsearch.indexing.sync import sync_vectors
from embedsearch.records import Image, Problem
from embedsearch.store import soundness
from embedsearch.store.catalogue import Catalogue, StoredEncoder, is_inside
from embedsearch.store.clusterings import clustering_faults, drop_clustering
from embedsearch.store.ledger import Ledger
from embedsearch.store.vector_file import VectorFile, open_vector_file, vector_path


def check(catalogue: Catalogue, index_folder: Path, *, deep: bool) -> list[Problem]:
    """Everything that does not agree. ``deep`` also reads every file and every vector."""
    found = [Problem("catalogue", fault) for fault in soundness.structural_faults(catalogue)]
    found += [Problem("catalogue", f"{_CLUSTERS}{fault}") for fault in clustering_faults(catalogue)]
    found += _check_files(catalogue, deep)
    for encoder in catalogue.encoders():
        damaged = list(_check_embeddings(catalogue, encoder))
        found += damaged
        path = vector_path(index_folder, encoder.info.id)
        # Rows cannot be held against embeddings that are not sound themselves.
        found += _check_vectors(catalogue, encoder, path, deep and not damaged)
        found += _check_encoder(encoder, index_folder)
    return found


def repair(ledger: Ledger, index_folder: Path, problems: list[Problem]) -> list[Problem]:
    """Mend what can be mended without reading pictures; the rest is left for ``index``.

    The caller holds the index lock. Returns the problems, those that were mended marked as such.
    """
    mended: set[Problem] = set()
    with ledger.transaction():
        missing = {p.path for p in problems if p.where == "files" and p.path and _GONE in p.what}
        ledger.mark_vanished([os.fsencode(path) for path in missing])
        mended |= {p for p in problems if p.path in missing and p.where == "files"}
        bad = [p for p in problems if p.where == "catalogue" and p.path]
        for problem in bad:
            ledger.drop(os.fsencode(problem.path or ""))
            mended.add(problem)
        wrong = {p for p in problems if p.what.startswith(_CLUSTERS)}
        if wrong:  # derived: embedsearch cluster makes them anew
            drop_clustering(ledger)
            mended |= wrong
    for encoder in ledger.encoders():
        if any(p.where == "vectors" and encoder.info.id in p.what for p in problems):
            vector_path(index_folder, encoder.info.id).unlink(missing_ok=True)
        if any(p.where == "encoders" and encoder.info.id in p.what for p in problems):
            mended |= _restore_encoder(encoder, index_folder, problems)
        sync_vectors(ledger, index_folder, encoder)
    mended |= {p for p in problems if p.where == "vectors"}
    ledger.checkpoint()
    return [replace(p, repaired=True) if p in mended else p for p in problems]


_GONE = "the file is not there"
_CLUSTERS = "clusters: "


def _check_files(catalogue: Catalogue, deep: bool) -> Iterator[Problem]:
    roots = catalogue.roots()
    for root in roots:
        if not os.path.isdir(root.path):
            yield Problem("files", "the indexed folder is not there", os.fsdecode(root.path))
    for image in catalogue.images("ok"):
        if (what := _file_fault(image, deep)) is None:
            continue
        path = os.fsencode(image.path)
        root = next(root for root in roots if is_inside(path, root.path))
        relative = root.relative(path)
        if what != _GONE:
            yield Problem("files", what, image.path)
        elif is_gone(root, relative):
            yield Problem("files", f"{_GONE} (any more)", image.path)


def _file_fault(image: Image, deep: bool) -> str | None:
    from embedsearch.images.files import content_hash, read, status

    try:
        as_it_is = status(image.path)
    except OSError as error:
        return (
            _GONE if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        )
    if as_it_is != (image.size, image.mtime_ns):
        return "has changed since it was indexed; run embedsearch index again"
    if not deep:
        return None
    try:
        same = content_hash(read(image.path)) == image.hash
    except PictureError as error:
        return error.reason
    return None if same else "has other content at the same size and time; run index --force"


def _check_embeddings(catalogue: Catalogue, encoder: StoredEncoder) -> Iterator[Problem]:
    for path in soundness.pictures_without_region(catalogue):
        yield Problem("catalogue", "has no region", os.fsdecode(path))
    for path, what in soundness.bad_embeddings(catalogue, encoder):
        yield Problem("catalogue", f"{what} ({encoder.info.id})", os.fsdecode(path))


def _check_vectors(
    catalogue: Catalogue, encoder: StoredEncoder, path: Path, deep: bool
) -> Iterator[Problem]:
    name = f"vectors/{path.name}"
    if (file := open_vector_file(path)) is None:
        state = "is damaged" if path.exists() else "is missing"
        yield Problem("vectors", f"{name} {state}")
        return
    try:
        yield from _compare(catalogue, encoder, file, name, deep)
    finally:
        file.close()


def _compare(
    catalogue: Catalogue, encoder: StoredEncoder, file: VectorFile, name: str, deep: bool
) -> Iterator[Problem]:
    held, known = file.ids(), catalogue.region_ids(encoder)
    missing, stale = len(np.setdiff1d(known, held)), len(np.setdiff1d(held, known))
    if missing or stale:
        yield Problem("vectors", f"{name} lacks {missing} rows and has {stale} too many")
    if len(np.unique(held)) != len(held):
        yield Problem("vectors", f"{name} holds some rows twice")
    if not deep:
        return
    from embedsearch.store.vectors import read_rows

    try:
        ids, rows = read_rows(file)
    except EmbedSearchError as error:
        yield Problem("vectors", f"{name}: {error}")
        return
    order = np.argsort(ids)
    ids, rows = ids[order], rows[order]
    wrong = 0
    for some, expected in catalogue.embeddings(encoder, ids):
        wrong += int((rows[np.searchsorted(ids, some)] != expected).any(axis=1).sum())
    if wrong:
        yield Problem("vectors", f"{name} has {wrong} rows that differ from the catalogue")


def _check_encoder(encoder: StoredEncoder, index_folder: Path) -> Iterator[Problem]:
    try:
        registry.verify_copy(encoder.info.id, index_folder)
        registry.load_stored(encoder.info, index_folder)
    except EmbedSearchError as error:
        yield Problem("encoders", f"encoders/{encoder.info.id}: {error}")


def _restore_encoder(
    encoder: StoredEncoder, index_folder: Path, problems: list[Problem]
) -> set[Problem]:
    """Copy the encoder anew from where its spec leads, where that is the same encoder."""
    try:
        if not registry.restore_copy(encoder.info, index_folder):
            return set()
    except EmbedSearchError:
        return set()
    return {p for p in problems if p.where == "encoders" and encoder.info.id in p.what}
