"""Photos as the network that is trained sees them now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedsearch.encoders.base import Embeddings
from embedsearch.training.looks.drawing import Looks, ahead, to_tensor
from embedsearch.training.looks.frozen_cache import FrozenCache

_AT_ONCE = 32


@dataclass(frozen=True)
class Eye:
    """Embeds photos as the encoder is now, from the cache where there is one."""

    looks: Looks
    cache: FrozenCache | None
    first: int
    """Stage that the cache's activations enter."""
    threads: int

    def embed(self, places: Sequence[int] | NDArray[np.int64]) -> Embeddings:
        """Unit vectors of the photos themselves, float32 (len(places), dim)."""
        encoder = self.looks.encoder
        image = encoder.image.eval()
        device = encoder.grey.device
        with torch.no_grad():
            rows = [
                image.forward_from(encoder.entering(batch.to(device)), self.first).cpu().numpy()
                for batch in self.batches(places)
            ]
        return np.concatenate(rows) if rows else np.zeros((0, encoder.dim), np.float32)

    def batches(self, places: Sequence[int] | NDArray[np.int64]) -> Iterator[Tensor]:
        """The photos themselves, or the activations that the cache has of them."""
        groups = [[*map(int, places[n : n + _AT_ONCE])] for n in range(0, len(places), _AT_ONCE)]
        return ahead(self._images, groups, self.threads)

    def _images(self, places: list[int]) -> Tensor:
        if self.cache is not None:
            return self.cache.batch(places, [0] * len(places))
        return to_tensor([self.looks.plain(place) for place in places])
