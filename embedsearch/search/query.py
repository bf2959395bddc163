"""What is asked for, and the one vector that stands for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Encoder
from embedsearch.errors import EncoderError, PictureError, QueryError


@dataclass(frozen=True, slots=True)
class Query:
    """Words and example pictures; each counts the same."""

    texts: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    """Paths of example pictures."""

    @classmethod
    def of(cls, text: str | Sequence[str] | None, images: Sequence[str] = ()) -> Query:
        """Raises :class:`QueryError` where nothing is asked for."""
        texts = (text,) if isinstance(text, str) else tuple(text or ())
        texts = tuple(part for part in texts if part.strip())
        if not texts and not images:
            raise QueryError(
                'Nothing to search for. Give words, for example embedsearch search "a red car", '
                "or a picture: embedsearch search --image photo.jpg"
            )
        return cls(texts, tuple(images))

    def __str__(self) -> str:
        return " + ".join([*self.texts, *self.images])


def embed(query: Query, encoder: Encoder) -> NDArray[np.float32]:
    """The query's embedding: the mean of its parts' embeddings, normalised. float32 (dim,).

    Raises :class:`QueryError` where a picture cannot be used or the parts cancel out, and
    :class:`EncoderError` where the encoder has no text tower.
    """
    parts = []
    if query.texts:
        if not encoder.info.has_text:
            raise EncoderError(
                f"{encoder.info.spec} knows pictures only, no words. Ask by example (--image), or "
                "index with an encoder that has a text tower, such as mini."
            )
        parts.append(encoder.encode_texts(query.texts))
    if query.images:
        parts.append(encoder.encode_images([_pixels(path, encoder) for path in query.images]))
    return unit(np.concatenate(parts).mean(axis=0))


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """``vector`` (dim,) at length 1. Raises :class:`QueryError` where it has none."""
    length = float(np.linalg.norm(vector))
    if length < 1e-6:
        raise QueryError("The parts of this query cancel each other out; leave one of them away.")
    return np.asarray(vector / length, np.float32)


def _pixels(path: str, encoder: Encoder) -> NDArray[np.uint8]:
    from embedsearch.images.decode import decode

    try:
        return decode(path, encoder.info.input_size).pixels
    except PictureError as error:
        raise QueryError(f"{path} cannot be used as an example: {error.reason}.") from error
