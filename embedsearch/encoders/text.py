"""The text tower of an encoder folder: numpy and tokenizers, quick to load and to run.

A text is the mean of its tokens' rows (Tulkens and van Dongen, "Model2Vec", 2024), followed by a
small network: one hidden layer, whose outputs and inputs together enter the second. The table stays
on disk, mapped into memory: a query touches a dozen of its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Embeddings
from embedsearch.errors import EncoderError, QueryError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece

VOCABULARY = "vocab.txt"
"""One WordPiece token a line, lower case; the line number is the row of the table."""
ROWS = "token_rows.npy"
"""int8 (tokens, width)."""
SCALES = "token_scales.npy"
"""float32 (tokens,): a token's row is its int8 row times its scale."""
HIDDEN_WEIGHT = "text_hidden_weight.npy"
"""float32 or float16 (width, hidden)."""
HIDDEN_BIAS = "text_hidden_bias.npy"
"""float32 (hidden,)."""
OUTPUT_WEIGHT = "text_output_weight.npy"
"""float32 or float16 (hidden + width, dim)."""
OUTPUT_BIAS = "text_output_bias.npy"
"""float32 (dim,)."""
FILES = (VOCABULARY, ROWS, SCALES, HIDDEN_WEIGHT, HIDDEN_BIAS, OUTPUT_WEIGHT, OUTPUT_BIAS)

NETWORK = (HIDDEN_WEIGHT, OUTPUT_WEIGHT)
"""The weights of the small network."""

UNKNOWN = "[UNK]"

Number = TypeVar("Number", bound=np.generic)


class TextTower:
    """Texts to unit vectors. Loading takes some 20 ms, a text some 50 microseconds."""

    def __init__(self, folder: Path, dim: int) -> None:
        """Open the files of :data:`FILES` in ``folder``.

        Raises :class:`~embedsearch.errors.EncoderError` where one is missing or does not fit.
        """
        self._rows = _array(folder / ROWS, np.int8, 2)
        self._scales = _array(folder / SCALES, np.float32, 1)
        self._hidden_weight = _weights(folder / HIDDEN_WEIGHT)
        self._hidden_bias = _array(folder / HIDDEN_BIAS, np.float32, 1)
        self._output_weight = _weights(folder / OUTPUT_WEIGHT)
        self._output_bias = _array(folder / OUTPUT_BIAS, np.float32, 1)
        tokens, width = self._rows.shape
        hidden = len(self._hidden_bias)
        for name, array, shape in (
            (SCALES, self._scales, (tokens,)),
            (HIDDEN_WEIGHT, self._hidden_weight, (width, hidden)),
            (OUTPUT_WEIGHT, self._output_weight, (hidden + width, dim)),
            (OUTPUT_BIAS, self._output_bias, (dim,)),
        ):
            if array.shape != shape:
                raise EncoderError(f"{folder / name}: shape {array.shape}, expected {shape}.")
        self._tokenizer = load_tokenizer(folder / VOCABULARY)
        self._unknown = self._tokenizer.token_to_id(UNKNOWN)
        if self._tokenizer.get_vocab_size() != tokens:
            raise EncoderError(
                f"{folder / VOCABULARY}: {self._tokenizer.get_vocab_size()} tokens, but {ROWS} has "
                f"{tokens} rows."
            )

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """Unit vectors, float32 (len(texts), dim).

        Each text is computed by itself, so that it never depends on its neighbours in the batch.
        Raises :class:`~embedsearch.errors.QueryError` for a text without any known token.
        """
        return self.encode_counted(texts)[0]

    def encode_counted(self, texts: Sequence[str]) -> tuple[Embeddings, list[int]]:
        """The same, and of how many known tokens each text is."""
        vectors = np.empty((len(texts), len(self._output_bias)), np.float32)
        counts = []
        for place, text in enumerate(texts):
            vectors[place], count = self._encode_one(text)
            counts.append(count)
        return vectors, counts

    def _encode_one(self, text: str) -> tuple[NDArray[np.float32], int]:
        ids = [i for i in token_ids(self._tokenizer, text) if i != self._unknown]
        if not ids:
            raise QueryError(
                f"{text!r} holds no word that the encoder knows; it understands English."
            )
        mean = (self._scales[ids] @ self._rows[ids].astype(np.float32)) / np.float32(len(ids))
        hidden = np.maximum(mean @ self._hidden_weight + self._hidden_bias, 0)
        output = np.concatenate([hidden, mean]) @ self._output_weight + self._output_bias
        unit: NDArray[np.float32] = output / np.linalg.norm(output)
        return unit, len(ids)


def load_tokenizer(vocabulary: Path) -> Tokenizer:
    """BERT's tokenisation (lower case, accents stripped, WordPiece) over a vocabulary file.

    Built from the bare list because that loads in half the time of a ``tokenizer.json``.
    Raises :class:`~embedsearch.errors.EncoderError` where the file is missing or no such list.
    """
    from tokenizers import models

    try:
        # The library reports a missing file and one that is not UTF-8 alike, as bare Exceptions.
        model = models.WordPiece.from_file(str(vocabulary), unk_token=UNKNOWN)
    except Exception as error:
        raise EncoderError(f"{vocabulary}: cannot be read as a vocabulary ({error}).") from error
    tokenizer = _bert(model)
    if tokenizer.token_to_id(UNKNOWN) is None:
        raise EncoderError(f"{vocabulary}: holds no {UNKNOWN}; it is cut short or no vocabulary.")
    return tokenizer


def wordpiece(tokens: Sequence[str]) -> Tokenizer:
    """The same tokenisation over a list of tokens; a token's place is its id."""
    from tokenizers import models

    vocabulary = {token: place for place, token in enumerate(tokens)}
    return _bert(models.WordPiece(vocabulary, unk_token=UNKNOWN))


def _bert(model: WordPiece) -> Tokenizer:
    from tokenizers import Tokenizer, normalizers, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def token_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Rows of the tokens of one text, without special tokens, unknown ones included.

    Lone surrogates, as file names may bring, are dropped.
    """
    readable = text.encode("utf-8", "ignore").decode("utf-8")
    ids: list[int] = tokenizer.encode(readable, add_special_tokens=False).ids
    return ids


def _weights(path: Path) -> NDArray[np.float32]:
    """A matrix of weights; of those stored in 16 bits a copy in float32."""
    return _array(path, (np.float32, np.float16), 2).astype(np.float32, copy=False)


def _array(
    path: Path, dtype: type[Number] | tuple[type[Number], ...], dimensions: int
) -> NDArray[Number]:
    kinds = dtype if isinstance(dtype, tuple) else (dtype,)
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise EncoderError(f"{path}: cannot be read as a .npy array ({error}).") from error
    if array.dtype not in kinds or array.ndim != dimensions:
        raise EncoderError(
            f"{path}: {array.dtype} of {array.ndim} dimensions, expected "
            f"{' or '.join(str(np.dtype(kind)) for kind in kinds)} of {dimensions}."
        )
    return np.asarray(array)  # a plain view of the mapping; np.memmap itself indexes slowly
