"""Four more numbers in each row, so that what is near every sentence does not answer all of them.

In a space of many dimensions some points are among the nearest of far more others than their share:
hubs (Radovanovic et al., "Hubs in Space", 2010). A sentence asks for one picture, and finds hubs in
its place. Conneau et al. ("Word Translation without Parallel Data", 2018, eq. 2; CSLS) take from a
cosine how near a point is to its ten nearest of the other kind:

    score(text, picture) = cos(text, picture) - (r(picture) - mean of r) / 2

with ``r`` the mean cosine to the ten nearest of some sentences, here the centres of groups of
captions. A row holds what that takes: of a picture the number behind the minus, of a text what it
is multiplied by. So an index, FAISS and whoever else takes cosines need not know of it.

For a word many pictures are right, those that show it plainly most of all, and these are near to
many sentences: the correction grows from none for a text of eight tokens to all of it for twelve.
Two more numbers keep what towers gave at one length in all texts, and in all pictures. So words
find what they find without it, in the same order, and of the scores all is left but a constant
factor. The fourth is nought: rows of a multiple of four numbers are scanned a third faster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Embeddings
from embedsearch.encoders.folder import HUB_NUMBERS, HUBS, EncoderFolder, read_listed
from embedsearch.errors import EncoderError

NEAREST = 10
"""``r`` is the mean over so many centres."""
_SHARE = 0.5
"""How much of ``r`` is taken away: the half that CSLS takes for the picture."""
_TEXT = 0.4
"""Length of what is added to a unit row of a text."""
_PICTURE = 0.25
"""Length of what is added to a unit row of a picture, and so the most that can be taken: a cosine
of ``_TEXT * _PICTURE``."""
_MOST = 0.1
"""Largest number that a picture near no sentence is given: such need not be told apart."""
_WORDS, _SENTENCE = 8, 12
"""Tokens of a text: up to so many it is words, from so many on a sentence."""


class Hubs:
    """What an encoder adds to the rows of its towers."""

    def __init__(self, centres: NDArray[np.int8], mean: float) -> None:
        """``centres``, (groups, dim) with dim as the towers give it, point where the centres are;
        ``mean`` is that of ``r`` over pictures of the kind that sentences are about."""
        self._centres = unit_centres(centres)
        self._mean = mean

    def pictures(self, rows: Embeddings) -> Embeddings:
        """Rows of pictures, float32 (N, dim), unit length: float32 (N, dim + 4), unit length."""
        added = np.zeros((len(rows), HUB_NUMBERS), np.float32)
        for place, row in enumerate(rows):  # one by one: none depends on its neighbours
            wanted = _SHARE / _TEXT * (self._mean - nearness(row, self._centres))
            found = min(max(wanted, -_PICTURE), _MOST)
            added[place, [0, 2]] = found, math.sqrt(_PICTURE**2 - found**2)
        return _unit(rows, added)


def open_hubs(about: EncoderFolder) -> Hubs | None:
    """What the encoder of a folder adds to its rows; ``None`` where that is nothing.

    Raises :class:`~embedsearch.errors.EncoderError` where the file is missing, damaged or does not
    fit.
    """
    if about.hub_mean is None:
        return None
    path, content = about.path / HUBS, read_listed(about, HUBS)
    try:
        centres = np.load(BytesIO(content))
    except (ValueError, EOFError) as error:
        raise EncoderError(f"{path}: cannot be read as a .npy array ({error}).") from error
    if centres.dtype != np.int8 or centres.ndim != 2 or centres.shape[1] != about.dim:
        raise EncoderError(
            f"{path}: {centres.dtype} {centres.shape}, expected int8 (groups, {about.dim})."
        )
    return Hubs(centres, about.hub_mean)


def rows_of_texts(rows: Embeddings, tokens: Sequence[int]) -> Embeddings:
    """Rows of texts, float32 (N, dim), unit length, of so many tokens each: float32 (N, dim + 4),
    unit length."""
    share = np.clip((np.asarray(tokens, np.float32) - _WORDS) / (_SENTENCE - _WORDS), 0, 1)
    added = np.zeros((len(rows), HUB_NUMBERS), np.float32)
    added[:, 0], added[:, 1] = _TEXT * share, _TEXT * np.sqrt(1 - share**2)
    return _unit(rows, added)


def unit_centres(stored: NDArray[np.int8]) -> NDArray[np.float32]:
    """Unit rows (groups, dim) that point where the stored ones do."""
    rows = stored.astype(np.float32)
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def nearness(row: NDArray[np.float32], centres: NDArray[np.float32]) -> float:
    """``r``: the mean cosine of a unit row (dim,) with the :data:`NEAREST` of ``centres``
    (groups, dim), unit rows; of all where there are fewer."""
    cosines = centres @ row
    few = min(NEAREST, len(cosines))
    return float(np.partition(cosines, -few)[-few:].mean())


def _unit(rows: Embeddings, added: NDArray[np.float32]) -> Embeddings:
    whole = np.concatenate([rows, added], axis=1)
    unit: Embeddings = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    return unit
