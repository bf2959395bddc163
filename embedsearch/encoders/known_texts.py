"""Texts that an encoder knows, of many that may hold words it does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedsearch.encoders.base import Embeddings, Encoder
from embedsearch.errors import QueryError


def known_texts(encoder: Encoder, texts: Sequence[str]) -> tuple[list[int], Embeddings]:
    """Embed those of ``texts`` that hold a word which ``encoder`` knows: their places, ascending,
    and float32 (len(places), dim)."""
    if not texts:
        return [], np.empty((0, encoder.info.dim), np.float32)
    try:
        return list(range(len(texts))), encoder.encode_texts(texts)
    except QueryError:
        if len(texts) == 1:
            return [], np.empty((0, encoder.info.dim), np.float32)
    middle = len(texts) // 2
    first, rows = known_texts(encoder, texts[:middle])
    second, more = known_texts(encoder, texts[middle:])
    return [*first, *(middle + place for place in second)], np.concatenate([rows, more])
