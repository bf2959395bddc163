"""How well words fit embeddings of pictures, by the text tower of the encoder."""

from __future__ import annotations

import numpy as np

from embedsearch.encoders.base import Encoder
from embedsearch.encoders.known_texts import known_texts
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
            some = wanted[start : start + BATCH]
            places, matrix = known_texts(encoder, [PROMPT.format(word) for word in some])
            known += [some[place] for place in places]
            rows.append(matrix)
    none = np.empty((0, encoder.info.dim), np.float32)
    return tuple(known), np.concatenate([none, *rows])


def standardised(cosines: Matrix) -> Matrix:
    """How many standard deviations each word is above the mean of all words, by picture: both
    (N, W)."""
    spread = np.maximum(cosines.std(axis=1, keepdims=True), 1e-6)
    return np.asarray((cosines - cosines.mean(axis=1, keepdims=True)) / spread, np.float32)
