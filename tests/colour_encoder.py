"""A small real encoder for tests: what a picture's embedding says is where it has which colours.

It keeps the contract of :mod:`embedsearch.encoders.base` in full, needs no weights and no training,
and its answers can be foreseen: the word "red" finds the reddest picture.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedsearch.encoders.base import Embeddings, Pixels
from embedsearch.errors import QueryError
from embedsearch.records import EncoderInfo

GRID = 4
DIM = 3 * GRID * GRID + 1
INPUT_SIZE = 32
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (30, 50, 210),
    "yellow": (235, 220, 50),
    "orange": (245, 140, 20),
    "purple": (130, 40, 160),
    "cyan": (40, 210, 220),
    "brown": (110, 70, 30),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "black": (0, 0, 0),
}


class ColourEncoder:
    """Embeds the mean colours of a 4 x 4 grid, and a constant. Each ``seed`` is an encoder of its
    own, with its own id; all but 0 are rotated, so that their spaces cannot be mistaken for one
    another."""

    def __init__(self, seed: int = 0) -> None:
        digest = hashlib.sha256(f"colour {seed}".encode()).hexdigest()
        self._rotation = _rotation(seed)
        self._info = EncoderInfo(
            id=f"colour-{digest[:12]}",
            spec=f"colour:{seed}" if seed else "colour",
            dim=DIM,
            has_text=True,
            licence="Apache-2.0",
            weights_hash=digest,
            input_size=INPUT_SIZE,
            mean=(0.5, 0.5, 0.5),
            std=(1.0, 1.0, 1.0),
            description="Mean colours of a 4 x 4 grid",
        )

    @property
    def info(self) -> EncoderInfo:
        return self._info

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        """Embed uint8 (H, W, 3) pictures of any sizes: float32 (N, 49), rows of unit length."""
        return _rows([self._embedding(image) for image in images])

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed texts by the colour words in them: float32 (N, 49), rows of unit length.

        Raises :class:`QueryError` for a text without any colour word.
        """
        return _rows([self._text_embedding(text) for text in texts])

    def _embedding(self, image: Pixels) -> NDArray[np.float32]:
        grid = Image.fromarray(image).resize((GRID, GRID), Image.Resampling.BOX)
        centred = np.asarray(grid, np.float32).ravel() / 255 - 0.5
        values = np.array([*centred, 0.5], np.float32) @ self._rotation
        return np.asarray(values / np.linalg.norm(values), np.float32)

    def _text_embedding(self, text: str) -> NDArray[np.float32]:
        known = [COLOURS[word] for word in re.findall(r"\w+", text.lower()) if word in COLOURS]
        if not known:
            raise QueryError(
                f"{text!r} holds no word that this encoder knows: {', '.join(COLOURS)}."
            )
        total = np.sum([self._embedding(np.full((1, 1, 3), c, np.uint8)) for c in known], axis=0)
        return np.asarray(total / np.linalg.norm(total), np.float32)


def load(spec: str, device: str) -> ColourEncoder:
    """What the entry point of a package that brings this encoder calls: ``colour`` or
    ``colour:SEED``."""
    seed = spec.partition(":")[2]
    return ColourEncoder(int(seed or 0))


def _rotation(seed: int) -> NDArray[np.float32]:
    if not seed:
        return np.eye(DIM, dtype=np.float32)
    orthogonal, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(DIM, DIM)))
    return orthogonal.astype(np.float32)


def _rows(rows: list[NDArray[np.float32]]) -> Embeddings:
    return np.array(rows, np.float32).reshape(len(rows), DIM)
