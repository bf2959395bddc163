"""From a feature map of a CNN to one vector a picture.

Every function takes a float map (N, channels, height, width) and returns (N, channels).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

GEM_POWER = 3.0
"""Where the learned powers of Radenović et al. start, and about where they end."""
RMAC_LEVELS = 3
RMAC_OVERLAP = 0.4
"""Neighbouring regions share at least so much of their area, along the longer side of a map."""
_TINY = 1e-6


def avg(maps: Tensor) -> Tensor:
    """Mean over the places: SPoC without its centre prior (Babenko and Lempitsky, "Aggregating
    Deep Convolutional Features for Image Retrieval", 2015)."""
    return maps.mean(dim=(2, 3))


def max_(maps: Tensor) -> Tensor:
    """Largest activation: MAC (Tolias, Sicre and Jégou, "Particular object retrieval with integral
    max-pooling of CNN activations", 2016)."""
    return maps.amax(dim=(2, 3))


def l2(maps: Tensor) -> Tensor:
    """Root of the mean square: Lp pooling with p = 2 (Sermanet, Chintala and LeCun, "Convolutional
    Neural Networks Applied to House Numbers Digit Classification", 2012). Signs are lost."""
    return maps.square().mean(dim=(2, 3)).sqrt()


def gem(maps: Tensor, power: float = GEM_POWER) -> Tensor:
    """Generalised mean, between average and maximum (Radenović, Tolias and Chum, "Fine-tuning CNN
    Image Retrieval with No Human Annotation", 2018, equation 3). Activations below 1e-6 count as
    1e-6."""
    return maps.clamp(min=_TINY).pow(power).mean(dim=(2, 3)).pow(1 / power)


def rmac(maps: Tensor, levels: int = RMAC_LEVELS) -> Tensor:
    """Regional maxima: the maximum of every region of a grid at ``levels`` scales, each of unit
    length, summed (Tolias, Sicre and Jégou, 2016, section 4; without the PCA whitening)."""
    height, width = maps.shape[2:]
    total = maps.new_zeros(maps.shape[:2])
    for top, left, side in regions(height, width, levels):
        region = maps[:, :, top : top + side, left : left + side].amax(dim=(2, 3))
        total = total + torch.nn.functional.normalize(region, dim=1, eps=_TINY)
    return total


def regions(height: int, width: int, levels: int = RMAC_LEVELS) -> Iterator[tuple[int, int, int]]:
    """The square regions of R-MAC as (top, left, side), in cells of the map.

    At level l they have the side 2 min(height, width) / (l + 1), and there are l of them along the
    shorter side of the map. Regions smaller than a cell are left out.
    """
    shorter = min(height, width)
    more = math.ceil((max(height, width) - shorter) / ((1 - RMAC_OVERLAP) * shorter))
    for level in range(1, levels + 1):
        side = 2 * shorter // (level + 1)
        if side < 1:
            return
        for top in _starts(height, side, level + (more if height > width else 0)):
            for left in _starts(width, side, level + (more if width > height else 0)):
                yield top, left, side


def _starts(length: int, side: int, count: int) -> list[int]:
    """Where ``count`` regions begin so that they are spread evenly over ``length``."""
    if count == 1:
        return [(length - side) // 2]
    return [(length - side) * place // (count - 1) for place in range(count)]


POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "avg": avg,
    "max": max_,
    "gem": gem,
    "l2": l2,
    "rmac": rmac,
}
