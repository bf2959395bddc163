"""Batches of drawn words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedsearch.enrichers.ocr_own import COLUMN, to_height
from embedsearch.errors import DataError, PictureError
from embedsearch.images.decode import decode
from embedsearch.training.ocr.drawing import Grey, draw_word
from embedsearch.training.ocr.recipe import Data, Drawing, Model
from embedsearch.training.ocr.words import Words, draw_text, spelled

POOL = 4
"""So many batches are drawn together."""
WIDEST = 256
"""A word as the network sees it in training, pixels; longer ones are squeezed."""
PHOTOS = 0.3
"""Share of photographed words in a batch, where there are any."""


@dataclass(frozen=True)
class Batch:
    """Words side by side."""

    words: Tensor
    """uint8 (N, height, W)."""
    columns: Tensor
    """int64 (N,): so many columns of each word are its own."""
    signs: Tensor
    """int64: the signs of all words, one after the other, from 1 on."""
    lengths: Tensor
    """int64 (N,): how many each has."""


class Batches:
    """Batches, each drawn by its number alone."""

    def __init__(
        self,
        words: Words,
        fonts: Sequence[str],
        model: Model,
        data: Data,
        drawing: Drawing,
        batch: int,
        seed: int,
    ) -> None:
        self._words, self._fonts, self._model = words, fonts, model
        self._data, self._drawing = data, drawing
        self._batch, self._seed = batch, seed

    def __len__(self) -> int:
        """Batches in an epoch."""
        return max(1, self._data.words // self._batch)

    def __call__(self, step: int) -> Iterator[Batch]:
        """Batches from that one on, without end."""
        while True:
            pool, place = divmod(step, POOL)
            for batch in self._pool(pool)[place:]:
                yield together(batch, self._model)
                step += 1

    def _pool(self, pool: int) -> list[list[tuple[Grey, str]]]:
        """POOL batches, each of words of like width: little is spent on what is beside them."""
        drawn = [self._word(pool, number) for number in range(POOL * self._batch)]
        drawn.sort(key=lambda word: word[0].shape[1] / word[0].shape[0])
        batches = [
            drawn[start : start + self._batch] for start in range(0, len(drawn), self._batch)
        ]
        order = np.random.default_rng([self._seed, pool]).permutation(POOL)
        return [batches[int(at)] for at in order]

    def _word(self, pool: int, number: int) -> tuple[Grey, str]:
        rng = np.random.default_rng([self._seed, pool, number])
        if self._words.photos and rng.random() < PHOTOS:
            photo = self._words.photos[int(rng.integers(len(self._words.photos)))]
            return _photographed(photo.file, rng), photo.text
        text = draw_text(self._words.learned, self._model.signs, self._data, rng)
        drawing = self._drawing.eased(pool * POOL / len(self))
        return draw_word(text, self._fonts, drawing, rng), text

    def check(self) -> list[tuple[Grey, str]]:
        """Words of the part that is held out, always the same."""
        made = []
        for number in range(self._data.checked):
            rng = np.random.default_rng([self._data.split_seed, number])
            text = draw_text(self._words.held, self._model.signs, self._data, rng)
            made.append((draw_word(text, self._fonts, self._drawing, rng), text))
        return made


def together(drawn: Sequence[tuple[Grey, str]], model: Model) -> Batch:
    """One batch; narrower words go on with their last column."""
    pictures, signs = [], []
    for picture, text in drawn:
        signs.append(spelled(text, model.signs))
        pictures.append(_fitting(to_height(picture, model.height), len(signs[-1])))
    widest = max(picture.shape[1] for picture in pictures)
    padded = [
        cv2.copyMakeBorder(each, 0, 0, 0, widest - each.shape[1], cv2.BORDER_REPLICATE)
        for each in pictures
    ]
    return Batch(
        torch.from_numpy(np.stack(padded)),
        torch.tensor([each.shape[1] // COLUMN for each in pictures]),
        torch.tensor([sign for each in signs for sign in each]),
        torch.tensor([len(each) for each in signs]),
    )


def _fitting(picture: Grey, length: int) -> Grey:
    """Not wider than WIDEST, and with room for CTC: a column a sign, and a blank between two."""
    width = min(max(picture.shape[1], (2 * length + 1) * COLUMN), max(WIDEST, 3 * COLUMN * length))
    width -= width % COLUMN
    if width == picture.shape[1]:
        return picture
    made: Grey = cv2.resize(picture, (width, picture.shape[0]), interpolation=cv2.INTER_LINEAR)
    return made


def _photographed(file: Path, rng: np.random.Generator) -> Grey:
    """A photographed word, a little lighter or darker, and cut a little differently."""
    grey = _grey(file)
    height, width = grey.shape
    cut = (rng.uniform(0, 0.06, 4) * height).astype(int)
    part = grey[cut[0] : height - cut[1], cut[2] : width - cut[3]].astype(np.float32)
    part = (part - 127.5) * rng.uniform(0.6, 1.3) + 127.5 + rng.uniform(-30, 30)
    if rng.random() < 0.3:
        part = 255 - part
    made: Grey = part.clip(0, 255).astype(np.uint8)
    return made


@cache
def _grey(file: Path) -> NDArray[np.uint8]:
    try:
        pixels = decode(file, 64).pixels
    except PictureError as error:
        raise DataError(f"{file}: cannot be used: {error}") from error
    made: NDArray[np.uint8] = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return made
