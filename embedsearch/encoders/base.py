"""The contract every encoder keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from embedsearch.records import EncoderInfo

Pixels = NDArray[np.uint8]
"""One upright sRGB picture, shape (height, width, 3)."""
Embeddings = NDArray[np.float32]
"""L2-normalised rows, shape (N, dim)."""


@runtime_checkable
class Encoder(Protocol):
    """Turns pictures, and texts where it has a text tower, into one embedding space.

    Encoding is deterministic, may be called from several threads at once, and a batch of many
    gives what batches of one give.
    """

    @property
    def info(self) -> EncoderInfo: ...

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        """Embed pictures of any sizes; the encoder resizes to its own input.

        Returns float32 (len(images), dim), every row of unit length.
        """
        ...

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed texts. Returns float32 (len(texts), dim), every row of unit length.

        Raises :class:`~embedsearch.errors.EncoderError` where ``info.has_text`` is false, and
        :class:`~embedsearch.errors.QueryError` for a text without any word it knows.
        """
        ...
