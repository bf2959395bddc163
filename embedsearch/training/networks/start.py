"""The encoder that a run starts from, as the table ``[model]`` of its recipe wants it."""

from __future__ import annotations

from pathlib import Path

from embedsearch.errors import DataError
from embedsearch.training.networks.encoder import TrainableEncoder
from embedsearch.training.networks.loading import load_trainable
from embedsearch.training.recipe import Model

_NORMS = ("frozen", "batch")


def start_from(model: Model, dim: int | None) -> TrainableEncoder:
    """Load ``model.start``, and change what the recipe changes. ``dim`` are the dimensions of its
    embeddings, as :func:`~embedsearch.training.networks.loading.load_trainable` takes them.

    Raises :class:`~embedsearch.errors.EncoderError` and :class:`~embedsearch.errors.DataError`.
    """
    if model.norm not in _NORMS:
        raise DataError(f"norm is {' or '.join(_NORMS)}, not {model.norm!r}")
    encoder = load_trainable(
        model.start,
        pool=model.pool,
        dim=dim,
        text=None if model.text is None else Path(model.text).expanduser(),
        hidden=model.hidden,
        dropout=model.dropout,
        size=model.size,
        scratch=model.scratch,
        without=model.without,
    )
    encoder.image.frozen_norm = encoder.image.frozen_norm and model.norm == "frozen"
    return encoder
