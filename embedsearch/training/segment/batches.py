"""What a step is taken on: looks at photos, and what is known of their pixels, drawn by the number
of the step alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from embedsearch.training.looks.drawing import ahead
from embedsearch.training.segment.drawer import Drawer
from embedsearch.training.segment.kept import KeptMaps


@dataclass(frozen=True)
class Batch:
    """N looks at photos."""

    pixels: Tensor | None
    """uint8 (N, size, size, 3); None where ``maps`` are kept."""
    maps: list[Tensor]
    """What the frozen stages gave."""
    truth: Tensor
    """int64 (N, side, side), as :class:`~embedsearch.training.segment.drawer.Drawer` knows it."""
    taught: Tensor | None
    """The teacher's logits, float32 (N, classes, side, side)."""
    has_teacher: Tensor
    """float32 (N,): 1 where there are."""

    def to(self, device: torch.device) -> Batch:
        return replace(
            self,
            pixels=None if self.pixels is None else self.pixels.to(device),
            maps=[each.to(device) for each in self.maps],
            truth=self.truth.to(device),
            taught=None if self.taught is None else self.taught.to(device),
            has_teacher=self.has_teacher.to(device),
        )


class Batches:
    """The batches of a run from any step on."""

    def __init__(self, drawer: Drawer, kept: KeptMaps | None, threads: int) -> None:
        self._drawer, self._kept, self._threads = drawer, kept, threads
        repeat = drawer.recipe.data.repeat
        self._places = np.array(
            [
                place
                for place, sample in enumerate(drawer.samples)
                for _ in range(repeat if sample.is_labelled else 1)
            ]
        )
        settings = drawer.recipe.optimisation
        self._size = min(settings.batch, len(self._places))
        self.an_epoch = len(self._places) // self._size
        self._count = self.an_epoch * settings.epochs

    def __call__(self, first: int) -> Iterator[Batch]:
        return ahead(self._make, range(first, self._count), self._threads)

    def _make(self, step: int) -> Batch:
        epoch, number = divmod(step, self.an_epoch)
        seed = self._drawer.recipe.optimisation.seed
        order = np.random.default_rng((seed, epoch)).permutation(self._places)
        places = order[number * self._size : (number + 1) * self._size].tolist()
        draw = np.random.default_rng((seed, step, 1))
        most = self._kept.looks if self._kept is not None else 2**31
        looks = [int(draw.integers(most)) for _ in places]
        pairs = list(zip(places, looks, strict=True))
        known = [self._drawer.known(*pair) for pair in pairs]
        taught = [each for _, each in known if each is not None]
        return Batch(
            None
            if self._kept is not None
            else torch.from_numpy(np.stack([self._drawer.pixels(*pair) for pair in pairs])),
            [] if self._kept is None else self._kept.read(pairs),
            torch.stack([truth for truth, _ in known]),
            torch.stack([taught[0] * 0 if each is None else each for _, each in known])
            if taught
            else None,
            torch.tensor([float(each is not None) for _, each in known]),
        )
