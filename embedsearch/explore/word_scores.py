"""How well words fit embeddings of pictures, by the text tower of the encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedsearch.encoders.base import Encoder
from embedsearch.errors import QueryError
from embedsearch.explore.vocabulary import words
from embedsearch.store.catalogue import Matrix

PROMPT = "a photo of a {}"
BATCH = 64


def embedded_words(encoder: Encoder, about: int | None = None) -> tuple[tuple[str, ...], Matrix]:
    """The words of the vocabulary that ``encoder`` knows and their embeddings, float32 (W, dim);
    or ``about`` so many of them, evenly taken.

    Both are empty for an encoder without a text tower.
    """
    known: list[str] = []
    rows: list[Matrix] = []
    if encoder.info.has_text:
        step = 1 if about is None else max(1, len(words()) // about)
        wanted = words()[::step]
        for start in range(0, len(wanted), BATCH):
            some, matrix = _embedded(encoder, wanted[start : start + BATCH])
            known += some
            rows.append(matrix)
    none = np.empty((0, encoder.info.dim), np.float32)
    return tuple(known), np.concatenate([none, *rows])


def standardised(cosines: Matrix) -> Matrix:
    """How many standard deviations each word is above the mean of all words, by picture: both
    (N, W)."""
    spread = np.maximum(cosines.std(axis=1, keepdims=True), 1e-6)
    return np.asarray((cosines - cosines.mean(axis=1, keepdims=True)) / spread, np.float32)


def _embedded(encoder: Encoder, some: Sequence[str]) -> tuple[list[str], Matrix]:
    try:
        return list(some), encoder.encode_texts([PROMPT.format(word) for word in some])
    except QueryError:
        if len(some) == 1:  # a word that this encoder does not know
            return [], np.empty((0, encoder.info.dim), np.float32)
    middle = len(some) // 2
    one, other = _embedded(encoder, some[:middle]), _embedded(encoder, some[middle:])
    return one[0] + other[0], np.concatenate([one[1], other[1]])
