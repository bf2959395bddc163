"""Looks at photos: decoded, augmented by seed, made ahead of the one who needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from embedsearch.encoders.base import Pixels
from embedsearch.encoders.preprocess import to_square
from embedsearch.training.augment.policies import Augmentation
from embedsearch.training.data.photos import Photo
from embedsearch.training.data.pixels import load_pixels
from embedsearch.training.networks.architecture import Architecture
from embedsearch.training.networks.encoder import TrainableEncoder

Item = TypeVar("Item")
Made = TypeVar("Made")
_AHEAD = 2
"""So many batches are under way."""


@dataclass(frozen=True)
class Looks:
    """The photos of a run, and how they are looked at."""

    photos: Sequence[Photo]
    encoder: TrainableEncoder
    augmentation: Augmentation
    strengths: NDArray[np.float32] | None = None
    """How strongly each photo is augmented, (N,); 1 where there is none."""
    side: int | None = None
    """Of the squares, where it is not the encoder's."""

    @property
    def about(self) -> Architecture:
        """How photos become squares."""
        about = self.encoder.about
        return about if self.side is None else replace(about, size=self.side)

    def plain(self, place: int) -> Pixels:
        """The photo as the encoder will see it in use: uint8 (size, size, 3)."""
        return plain_look(self.photos[place].file, self.about)

    def drawn(self, place: int, seed: int) -> Pixels:
        """An augmented look: uint8 (size, size, 3). The same seed gives the same."""
        pixels = load_pixels(self.photos[place].file, self.about.size)
        return self.augmentation(pixels, seed, self.strength(place))

    def strength(self, place: int) -> float:
        """How strongly a photo is augmented."""
        return 1.0 if self.strengths is None else float(self.strengths[place])


def plain_look(file: Path, about: Architecture) -> Pixels:
    """A photo as an encoder sees it in use: uint8 (size, size, 3)."""
    pixels = load_pixels(file, about.size)
    return to_square(pixels, about.size, about.resize, about.interpolation)


def to_tensor(pixels: Sequence[Pixels]) -> Tensor:
    """uint8 (N, size, size, 3)."""
    return torch.from_numpy(np.stack(pixels))


def resized(pixels: Tensor, size: int) -> Tensor:
    """Pictures brought to another size: uint8 (N, H, W, 3) to float32 (N, size, size, 3) in
    [0, 255]."""
    planes = pixels.permute(0, 3, 1, 2).float()
    sized = interpolate(planes, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return sized.permute(0, 2, 3, 1)


def ahead(
    make: Callable[[Item], Made], items: Iterable[Item], threads: int, waiting: int = _AHEAD
) -> Iterator[Made]:
    """``make`` of every item, in order, computed ahead on one thread of its own, so that photos are
    ready when a step ends. ``make`` may itself use ``threads``."""
    if threads < 1:
        yield from map(make, items)
        return
    pending: list[Future[Made]] = []
    with ThreadPoolExecutor(1) as pool:
        try:
            for item in items:
                pending.append(pool.submit(make, item))
                if len(pending) > waiting:
                    yield pending.pop(0).result()
            while pending:
                yield pending.pop(0).result()
        finally:
            for one in pending:
                one.cancel()
