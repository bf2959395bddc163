"""The table of token embeddings that the text tower starts from, and its 8-bit form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from embedsearch.encoders.text import UNKNOWN
from embedsearch.errors import DataError

_LARGEST = 127


@dataclass(frozen=True)
class TokenTable:
    """A WordPiece vocabulary with a row for each token."""

    tokens: list[str]
    rows: NDArray[np.float32]
    """(tokens, width), of mean length 1."""


def read_potion(folder: Path) -> TokenTable:
    """Read a model2vec folder: ``tokenizer.json`` (BERT's WordPiece) and ``model.safetensors``.

    The rows are scaled to a mean length of 1, so that learning rates mean the same for any table.
    Raises :class:`~embedsearch.errors.DataError` where a file is missing or not of that kind.
    """
    tokenizer, weights = folder / "tokenizer.json", folder / "model.safetensors"
    try:
        told = json.loads(tokenizer.read_bytes())
        model, normalizer = told["model"], told["normalizer"]
        vocabulary: dict[str, int] = model["vocab"]
        kinds = (model["type"], normalizer["type"], normalizer["lowercase"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{tokenizer}: cannot be read as a tokeniser ({error!r})") from error
    if kinds != ("WordPiece", "BertNormalizer", True) or UNKNOWN not in vocabulary:
        raise DataError(f"{tokenizer}: not the lower-case WordPiece tokeniser of BERT")
    try:
        rows = load_file(weights)["embeddings"].astype(np.float32)
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"{weights}: cannot be read as token embeddings ({error!r})") from error
    if sorted(vocabulary.values()) != list(range(len(rows))):
        raise DataError(f"{weights}: {len(rows)} rows for a vocabulary of {len(vocabulary)} tokens")
    rows /= np.linalg.norm(rows, axis=1).mean()
    return TokenTable(sorted(vocabulary, key=vocabulary.__getitem__), rows)


def quantize_rows(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round each row to int8 by a scale of its own: int8 (tokens, width), float32 (tokens,).

    A row is its integers times its scale; the error is at most half a scale. Rows of zeros have
    scale 0.
    """
    scales = (np.abs(rows).max(axis=1) / _LARGEST).astype(np.float32)
    steps = np.where(scales > 0, scales, 1)[:, None]
    return np.rint(rows / steps).astype(np.int8), scales
