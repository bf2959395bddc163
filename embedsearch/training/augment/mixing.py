"""Pictures of a batch mixed with one another, and their labels likewise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class MixMethod:
    """A way to mix, and the parameter of the Beta distribution that it is usually done with."""

    does: str
    alpha: float


MIXES = {
    "mixup": MixMethod("two pictures laid over each other, their labels shared likewise", 0.2),
    "cutmix": MixMethod("a rectangle of another picture, its label in proportion", 1.0),
}
"""Methods by name. Zhang et al., "mixup: Beyond Empirical Risk Minimization" (2017), recommend
alpha 0.1 to 0.4; Yun et al., "CutMix" (2019), 1."""


def mix_batch(
    pixels: Tensor,
    targets: Tensor,
    method: str,
    alpha: float,
    generator: np.random.Generator,
    *,
    before: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mix every picture with the one before it in the batch, the first with the last.

    ``pixels`` is float (N, C, H, W), ``targets`` the shares of the classes, float (N, classes):
    one-hot for labels. Returns both mixed, as new tensors. ``method`` is a name in :data:`MIXES`;
    one share, from Beta(alpha, alpha), is drawn for the batch, as torchvision's ``v2.MixUp`` and
    ``v2.CutMix`` do, whose chance cannot be given a generator. Where ``pixels`` are a process's own
    part of a batch and ``targets`` those of all, ``before`` is the picture before each of
    ``pixels``.
    """
    if targets.ndim != 2 or not targets.is_floating_point():
        raise ValueError(f"targets must be shares, float (N, classes): {tuple(targets.shape)}")
    mixed, share = mix_pictures(pixels, method, alpha, generator, before=before)
    return mixed, torch.lerp(targets.roll(1, 0), targets, share)


def mix_pictures(
    pixels: Tensor,
    method: str,
    alpha: float,
    generator: np.random.Generator,
    *,
    before: Tensor | None = None,
) -> tuple[Tensor, float]:
    """Pictures mixed as :func:`mix_batch` does it, float (N, C, H, W), and the share that each has
    left of itself."""
    share = float(generator.beta(alpha, alpha))
    before = pixels.roll(1, 0) if before is None else before
    if method == "mixup":
        mixed = share * pixels + (1 - share) * before
    elif method == "cutmix":
        mixed = pixels.clone()
        height, width = pixels.shape[2:]
        top, bottom, left, right = _box(height, width, share, generator)
        mixed[..., top:bottom, left:right] = before[..., top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (height * width)
    else:
        raise ValueError(f"there is no mix {method!r}; there are {', '.join(MIXES)}")
    return mixed, share


def _box(
    height: int, width: int, share: float, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Of ``1 - share`` of the area where it does not reach over an edge; its middle anywhere."""
    half = 0.5 * math.sqrt(1 - share)
    row, column = int(generator.integers(height)), int(generator.integers(width))
    high, wide = int(half * height), int(half * width)
    return (
        max(0, row - high),
        min(height, row + high),
        max(0, column - wide),
        min(width, column + wide),
    )
