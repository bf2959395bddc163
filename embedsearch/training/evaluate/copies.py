"""``copies``: does an edited picture find its original?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedsearch.encoders.base import Embeddings, Encoder
from embedsearch.errors import DataError
from embedsearch.training.evaluate.ground_truth import (
    Progress,
    Row,
    encode_files,
    read_csv,
    silent,
)
from embedsearch.training.evaluate.metrics import average_precisions, first_ranks

KINDS = ("copy", "corruption")
ORIGINAL = "original"
PICTURE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")
)


def copies_figures(
    edited: Embeddings,
    gallery: Embeddings,
    originals: Sequence[int],
    kinds: Sequence[str],
    transforms: Sequence[str],
) -> dict[str, Any]:
    """Figures by kind: ``{"copy": {"R@1", "mAP", "by_transform": {T: R@1}}, "corruption": ...}``.

    ``edited`` is (E, dim), the queries; ``gallery`` (G, dim), originals and distractors;
    ``originals`` names the place in the gallery that each query must find, ``kinds`` and
    ``transforms`` what was done to it. With one right answer, mAP is the mean reciprocal rank.
    A kind without queries has null figures.
    """
    relevant = np.asarray(originals)[:, None] == np.arange(len(gallery))[None, :]
    similarities = edited @ gallery.T
    first = first_ranks(similarities, relevant) == 1
    precisions = average_precisions(similarities, relevant)
    figures: dict[str, Any] = {}
    for kind in KINDS:
        mine = np.array([other == kind for other in kinds])
        of_kind = sorted({t for t, k in zip(transforms, kinds, strict=True) if k == kind})
        figures[kind] = {
            "R@1": float(first[mine].mean()) if mine.any() else None,
            "mAP": float(precisions[mine].mean()) if mine.any() else None,
            "by_transform": {
                transform: float(first[mine & (np.asarray(transforms) == transform)].mean())
                for transform in of_kind
            },
        }
    return figures


def evaluate_copies(
    path: Path, encoder: Encoder, *, distractors: Path | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Measure on a CSV with ``file``, ``original_id``, ``kind`` and ``transform``; the figures of
    :func:`copies_figures`.

    Rows of kind ``original`` are the gallery, together with all pictures anywhere under the
    folder ``distractors``. Raises :class:`~embedsearch.errors.DataError`.
    """
    rows = read_csv(path, ("file", "original_id", "kind", "transform"))
    places = _gallery_places(rows)
    queries = [row for row in rows if row.text("kind") != ORIGINAL]
    for row in queries:
        if row.text("kind") not in KINDS:
            raise DataError(f"{row.where}: kind {row.text('kind')!r} is none of {', '.join(KINDS)}")
        if row.text("original_id") not in places:
            raise DataError(f"{row.where}: no original has the id {row.text('original_id')!r}")
    if not queries:
        raise DataError(f"{path}: holds originals, but no edited picture to find them by")
    files = [(row.file(), row.where) for row in rows if row.text("kind") == ORIGINAL]
    files += [(file, str(distractors)) for file in _pictures_under(distractors)]
    asked = [(row.file(), row.where) for row in queries]
    embeddings = encode_files(encoder, files + asked, progress)
    return copies_figures(
        embeddings[len(files) :],
        embeddings[: len(files)],
        [places[row.text("original_id")] for row in queries],
        [row.text("kind") for row in queries],
        [row.text("transform") for row in queries],
    )


def _gallery_places(rows: Sequence[Row]) -> dict[str, int]:
    """Place of each original in the gallery, by its id."""
    places: dict[str, int] = {}
    for row in rows:
        if row.text("kind") == ORIGINAL:
            if row.text("original_id") in places:
                raise DataError(f"{row.where}: two originals have the id {row.text('original_id')}")
            places[row.text("original_id")] = len(places)
    return places


def _pictures_under(folder: Path | None) -> list[Path]:
    """Pictures by their suffix, in the order of their paths, hidden folders left out."""
    if folder is None:
        return []
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder of distractors")
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name) for name in names if Path(name).suffix.lower() in PICTURE_SUFFIXES
        ]
    if not found:
        raise DataError(f"{folder}: holds no pictures")
    return sorted(found)
