"""Poolings as modules, of which GeM learns its power."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from embedsearch.encoders.pooling import GEM_POWER, POOLINGS, gem
from embedsearch.errors import DataError


class Pool(nn.Module):
    """One of :data:`~embedsearch.encoders.pooling.POOLINGS`: maps (N, C, H, W) to (N, C)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, maps: Tensor) -> Tensor:
        return POOLINGS[self.name](maps)


LEAST_POWER, MOST_POWER = 1.0, 10.0
"""From the average to nearly the maximum; a larger power would overflow, a smaller one favour what
is small."""


class LearnedGem(nn.Module):
    """Generalised mean with a learned power (Radenović et al., 2018, equation 3), which stays
    between :data:`LEAST_POWER` and :data:`MOST_POWER`. Computed in float32."""

    def __init__(self, power: float = GEM_POWER) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power))

    def forward(self, maps: Tensor) -> Tensor:
        power = self.power.clamp(LEAST_POWER, MOST_POWER)
        return gem(maps.float(), cast(float, power))


def make_pool(name: str) -> nn.Module:
    """The pooling of that name. Raises :class:`~embedsearch.errors.DataError`."""
    if name not in POOLINGS:
        raise DataError(f"there is no pooling {name!r}; there are {', '.join(POOLINGS)}")
    return LearnedGem() if name == "gem" else Pool(name)
