"""``captions``: do texts find their pictures, and pictures their texts?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Embeddings, Encoder
from embedsearch.training.evaluate.ground_truth import (
    Progress,
    encode_files,
    encode_texts,
    read_json_lines,
    silent,
)
from embedsearch.training.evaluate.metrics import first_ranks, recall_summary

Figures = dict[str, dict[str, float]]


def captions_figures(
    pictures: Embeddings, captions: Embeddings, owners: NDArray[np.int64]
) -> Figures:
    """Recall in both directions: ``{"text_to_image": {...}, "image_to_text": {...}}``, each with
    ``R@1``, ``R@5``, ``R@10`` and ``median_rank``.

    ``pictures`` is (P, dim), ``captions`` (C, dim), ``owners`` (C,) the picture of each caption;
    every picture has one. Each caption is a query for its picture. A picture is a query for
    captions, and the best-ranked of its own counts (Hodosh, Young and Hockenmaier, "Framing Image
    Description as a Ranking Task", 2013, section 4).
    """
    similarities = captions @ pictures.T
    relevant = owners[:, None] == np.arange(len(pictures))[None, :]
    return {
        "text_to_image": recall_summary(first_ranks(similarities, relevant)),
        "image_to_text": recall_summary(first_ranks(similarities.T, relevant.T)),
    }


def evaluate_captions(path: Path, encoder: Encoder, progress: Progress = silent) -> Figures:
    """Measure on JSON lines with ``file`` and ``captions``; the figures of
    :func:`captions_figures`. Raises :class:`~embedsearch.errors.DataError`."""
    rows = read_json_lines(path)
    texts = [(caption, row.where) for row in rows for caption in row.texts("captions")]
    owners = np.repeat(np.arange(len(rows)), [len(row.texts("captions")) for row in rows])
    pictures = encode_files(encoder, [(row.file(), row.where) for row in rows], progress)
    return captions_figures(pictures, encode_texts(encoder, texts), owners)
