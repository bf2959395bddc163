"""What a step is taken on: photos, texts and labels, drawn by the number of the step alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedsearch.errors import DataError
from embedsearch.training.data.balance import Sampling, draw_places
from embedsearch.training.data.photos import Photo, draw_text
from embedsearch.training.distributed import collectives
from embedsearch.training.distributed.ranks import ranks
from embedsearch.training.looks.drawing import Looks, ahead, to_tensor
from embedsearch.training.looks.frozen_cache import FrozenCache
from embedsearch.training.networks.encoder import TrainableEncoder


@dataclass(frozen=True)
class Batch:
    """Photos of one step, N of them, of which this rank has its share."""

    step: int
    images: Tensor
    """This rank's: pixels, uint8 (N, size, size, 3), or what enters the first trained stage."""
    others: Tensor | None
    """Another look at each, where a loss wants it."""
    texts: list[str]
    """This rank's; empty where no loss reads."""
    groups: Tensor
    """int64 (N,), of all ranks; photos about the same thing share a number."""
    weights: Tensor
    """float32 (N,), of all ranks: how much each counts against its text."""
    labels: Tensor
    """int64 (N,), of all ranks; -1 without a label."""
    looks: NDArray[np.int64]
    """(N,), of all ranks: which of the kept looks at a photo it is; 0 where none are kept."""

    def to(self, device: torch.device, encoder: TrainableEncoder) -> Batch:
        """The same on a device, pixels normalised there as ``encoder`` wants them."""
        others = None if self.others is None else encoder.entering(self.others.to(device))
        return replace(
            self,
            images=encoder.entering(self.images.to(device)),
            others=others,
            groups=self.groups.to(device),
            weights=self.weights.to(device),
            labels=self.labels.to(device),
        )


@dataclass(frozen=True)
class Plan:
    """Which photos each step is taken on."""

    photos: Sequence[Photo]
    labels: NDArray[np.int64]
    """(N,); -1 without a label."""
    captioned: NDArray[np.int64]
    """Places to train on."""
    labelled: NDArray[np.int64]
    batch: int
    share: float
    """Of a batch, photos with captions, where there are both."""
    sampling: str
    seed: int

    def __post_init__(self) -> None:
        if not len(self.captioned) + len(self.labelled):
            raise DataError("there is no photo to train on")

    @property
    def sizes(self) -> tuple[int, int]:
        """Photos with captions and with labels in a batch."""
        if not len(self.labelled):
            return min(self.batch, len(self.captioned)), 0
        if not len(self.captioned):
            return 0, min(self.batch, len(self.labelled))
        first = min(max(1, round(self.batch * self.share)), len(self.captioned))
        return first, min(max(1, self.batch - first), len(self.labelled))

    @property
    def batches(self) -> int:
        """In an epoch, which is a pass over the photos with captions, or else all with labels."""
        captioned, labelled = self.sizes
        if captioned:
            return len(self.captioned) // captioned
        return max(1, len(self._order(0)) // labelled)

    def places(self, number: int) -> NDArray[np.int64]:
        """Photos of one batch, those with captions first; ``number`` counts over all epochs."""
        captioned, labelled = self.sizes
        epoch, within = divmod(number, self.batches)
        if not captioned:
            return self._order(epoch)[within * labelled : (within + 1) * labelled]
        order = np.random.default_rng([self.seed, 1, epoch]).permutation(self.captioned)
        chosen = order[within * captioned : (within + 1) * captioned]
        if not labelled:
            return chosen
        # Labelled photos go round by themselves, however long an epoch of captions is.
        start = number * labelled
        length = len(self._order(0))
        rounds = range(start // length, (start + labelled - 1) // length + 1)
        along = np.concatenate([self._order(turn) for turn in rounds])
        first = start - rounds.start * length
        return np.concatenate([chosen, along[first : first + labelled]])

    def _order(self, turn: int) -> NDArray[np.int64]:
        """One round over the photos with labels."""
        seed = int(np.random.SeedSequence([self.seed, 2, turn]).generate_state(1)[0])
        labels = self.labels[self.labelled]
        _, compact = np.unique(labels, return_inverse=True)
        return self.labelled[draw_places(compact, cast(Sampling, self.sampling), seed)]


@dataclass(frozen=True)
class Batches:
    """The batches of a run, from any step on."""

    plan: Plan
    looks: Looks
    cache: FrozenCache | None
    reads: bool
    """Whether a loss wants texts."""
    twice: bool
    """Whether a loss wants two looks at each photo."""
    label_weight: float
    threads: int

    def __call__(self, first: int) -> Iterator[Batch]:
        """Batches without end, made ahead."""
        with ThreadPoolExecutor(max(1, self.threads)) as pool:
            numbers = iter(range(first, 2**62))
            yield from ahead(lambda number: self._make(number, pool), numbers, self.threads)

    def _make(self, number: int, pool: ThreadPoolExecutor) -> Batch:
        places = self.plan.places(number)
        rng = np.random.default_rng([self.plan.seed, 3, number])
        photos = [self.looks.photos[place] for place in places]
        texts = [draw_text(photo, rng) for photo in photos] if self.reads else []
        about = [p.label or (texts[n] if texts else str(n)) for n, p in enumerate(photos)]
        numbers: dict[str, int] = {}
        groups = [numbers.setdefault(what, len(numbers)) for what in about]
        weights = [1.0 if photo.captions else self.label_weight for photo in photos]
        seeds = rng.integers(2**32, size=(2, len(places)))
        mine = slice(None) if ranks().world == 1 else _share(len(places))
        others = self._images(places[mine], seeds[1][mine], pool) if self.twice else None
        return Batch(
            number,
            self._images(places[mine], seeds[0][mine], pool),
            others,
            texts[mine],
            torch.tensor(groups),
            torch.tensor(weights),
            torch.from_numpy(self.plan.labels[places]),
            self._views(seeds[0]),
        )

    def _views(self, seeds: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which of the kept looks the seeds choose."""
        return seeds % (1 if self.cache is None else self.cache.views)

    def _images(
        self, places: NDArray[np.int64], seeds: NDArray[np.int64], pool: ThreadPoolExecutor
    ) -> Tensor:
        if self.cache is not None:
            return self.cache.batch(places.tolist(), self._views(seeds).tolist())
        pairs = zip(places.tolist(), seeds.tolist(), strict=True)
        return to_tensor(list(pool.map(lambda pair: self.looks.drawn(*pair), pairs)))


def _share(count: int) -> slice:
    """This rank's part of a batch."""
    part = collectives.share(range(count))
    return slice(part[0], part[-1] + 1)
