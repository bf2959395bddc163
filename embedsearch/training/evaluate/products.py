"""``products``: does a shop photo find its packshot, other photos of it, a text its photos?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embedsearch.encoders.base import Embeddings, Encoder
from embedsearch.errors import DataError
from embedsearch.training.evaluate.ground_truth import (
    Progress,
    encode_files,
    encode_texts,
    read_csv,
    read_json_lines,
    silent,
)
from embedsearch.training.evaluate.metrics import leave_one_out, retrieval_summary

Figures = dict[str, dict[str, float] | None]


def products_figures(
    photos: Embeddings,
    photo_classes: Sequence[str],
    packshots: Embeddings,
    descriptions: Embeddings | None,
    classes: Sequence[str],
) -> Figures:
    """``{"photo_to_packshot": {"R@1", "mAP"}, "photo_to_photo": {...}, "text_to_photo": {...}}``.

    ``photos`` is (N, dim) with N ``photo_classes``; ``packshots`` and ``descriptions`` are
    (K, dim), one for each of the ``classes``. Each photo asks among the packshots, then among the
    other photos; each description asks among the photos, and has null figures where it is
    ``None``. Relevant is what has the query's class.
    """
    same = np.asarray(photo_classes)[:, None] == np.asarray(classes)[None, :]
    text = None
    if descriptions is not None:
        text = retrieval_summary(descriptions @ photos.T, same.T)
    return {
        "photo_to_packshot": retrieval_summary(photos @ packshots.T, same),
        "photo_to_photo": retrieval_summary(*leave_one_out(photos, photo_classes)),
        "text_to_photo": text,
    }


def evaluate_products(folder: Path, encoder: Encoder, progress: Progress = silent) -> Figures:
    """Measure on a folder with ``photos.csv`` (``file``, ``class``) and ``classes.jsonl``
    (``cls``, ``iconic``, ``description``); the figures of :func:`products_figures`.

    The text query is the description as the shop wrote it, without the class's name in front: the
    names are file names (``God-Morgon-Apple-Juice``), most descriptions say what the thing is, and
    a query that a person would type is a text of that kind.
    Raises :class:`~embedsearch.errors.DataError`.
    """
    photo_rows = read_csv(folder / "photos.csv", ("file", "class"))
    class_rows = read_json_lines(folder / "classes.jsonl")
    classes = [row.text("cls") for row in class_rows]
    for row in photo_rows:
        if row.text("class") not in classes:
            raise DataError(f"{row.where}: classes.jsonl has no class {row.text('class')!r}")
    files = [(row.file(), row.where) for row in photo_rows]
    files += [(row.file("iconic"), row.where) for row in class_rows]
    descriptions = None
    if encoder.info.has_text:
        texts = [(row.text("description"), row.where) for row in class_rows]
        descriptions = encode_texts(encoder, texts)
    embeddings = encode_files(encoder, files, progress)
    return products_figures(
        embeddings[: len(photo_rows)],
        [row.text("class") for row in photo_rows],
        embeddings[len(photo_rows) :],
        descriptions,
        classes,
    )
