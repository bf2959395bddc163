"""Training on the worst that can happen to a picture: small changes made to mislead the network
(FGSM, PGD), or the worst of several occlusions or lights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from embedsearch.errors import DataError
from embedsearch.training.augment.steps import STEPS

Losses = Callable[[Tensor], Tensor]
"""From pixels, float (N, C, H, W), to the loss of each picture, (N,)."""
Kind = Literal["fgsm", "pgd", "occlusion", "light"]
KINDS: tuple[str, ...] = get_args(Kind)
OF_GRADIENT = ("fgsm", "pgd")
"""Those that follow the gradient of the pixels."""
EPSILON = 4 / 255
"""How far a value may be changed, of the range of values."""
PGD_STEPS = 3
TRIES = 4
"""Occlusions or lights of which the worst is taken."""


@dataclass(frozen=True, slots=True)
class PixelScale:
    """How pixels, shares of full brightness, were normalised: ``(pixels - mean) / std``."""

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def normalised(self, pixels: Tensor | float, like: Tensor) -> Tensor:
        """(N, C, H, W), or what fits it, of the type and on the device of ``like``."""
        mean, std = (like.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (pixels - mean) / std

    def shares(self, normalised: Tensor) -> Tensor:
        """The inverse of :meth:`normalised`."""
        mean, std = (normalised.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        return normalised * std + mean


@dataclass(frozen=True, slots=True)
class Attack:
    """How pictures are made worse before a network is trained on them."""

    kind: Kind
    epsilon: float = EPSILON
    """Of ``fgsm`` and ``pgd``: the largest change, as a share of full brightness."""
    steps: int = PGD_STEPS
    """Of ``pgd``."""
    tries: int = TRIES
    """Of ``occlusion`` and ``light``: so many are tried."""
    strength: float = 1.0
    """Of ``occlusion`` and ``light``, as in a policy of augmentation."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"there is no attack {self.kind!r}; there are {', '.join(KINDS)}")
        if not 0 <= self.epsilon <= 1:
            raise DataError(f"epsilon is a share of full brightness, 0 to 1, not {self.epsilon:g}")
        if self.steps < 1 or self.tries < 1 or self.strength < 0:
            raise DataError("an attack needs at least one step or try, and no negative strength")

    def __call__(self, losses: Losses, pixels: Tensor, scale: PixelScale, seed: int) -> Tensor:
        """Pixels of the same shape that make ``losses`` large; no gradient is kept.

        ``pixels`` are float (N, C, H, W), normalised by ``scale``. Wrap the call in
        :func:`frozen_statistics`, so that what is tried does not move the network's averages.
        """
        if self.kind == "fgsm":
            return fgsm(losses, pixels, scale, self.epsilon, seed)
        if self.kind == "pgd":
            return pgd(losses, pixels, scale, self.epsilon, self.steps, seed)
        return worst_of(losses, variants(pixels, scale, self, seed))


def fgsm(losses: Losses, pixels: Tensor, scale: PixelScale, epsilon: float, seed: int) -> Tensor:
    """One step along the sign of the gradient (Goodfellow et al., "Explaining and Harnessing
    Adversarial Examples", 2014), from a random start, without which a network learns to hide its
    gradient (Wong et al., "Fast is better than free", 2020, whose step of 1.25 epsilon this is)."""
    return _ascended(losses, pixels, scale, epsilon, 1, 1.25 * epsilon, seed)


def pgd(
    losses: Losses, pixels: Tensor, scale: PixelScale, epsilon: float, steps: int, seed: int
) -> Tensor:
    """Several smaller steps, each time brought back to within ``epsilon`` of the picture and to
    what can be seen (Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks",
    2017). A step is 2.5 epsilon over their number, so that the edge can be reached from any start.
    """
    return _ascended(losses, pixels, scale, epsilon, steps, 2.5 * epsilon / steps, seed)


def worst_of(losses: Losses, tried: Tensor) -> Tensor:
    """Of each picture the variant with the largest loss: from (k, N, C, H, W) to (N, C, H, W)
    (Engstrom et al., "Exploring the Landscape of Spatial Robustness", 2017, section 5)."""
    with torch.no_grad():
        found = torch.stack([losses(variant) for variant in tried])
    return tried[found.argmax(0), torch.arange(tried.shape[1], device=tried.device)]


def variants(pixels: Tensor, scale: PixelScale, attack: Attack, seed: int) -> Tensor:
    """``attack.tries`` occlusions or lights of each picture: (k, N, C, H, W), normalised."""
    step = STEPS[attack.kind]
    shares = scale.shares(pixels.detach().float())
    whole = (shares * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    made = np.stack(
        [
            [
                step.change(picture, attack.strength, np.random.default_rng([seed, place, number]))
                for place, picture in enumerate(whole)
            ]
            for number in range(attack.tries)
        ]
    )
    tried = torch.from_numpy(made).to(pixels.device).permute(0, 1, 4, 2, 3).to(pixels.dtype) / 255
    return scale.normalised(tried, pixels)


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Within it the module runs as in use: no dropout, and its running averages stay."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def drift(embed: Callable[[Tensor], Tensor], pixels: Tensor) -> Losses:
    """Losses that need no label: how far embeddings move from those of ``pixels``, 1 - cosine.

    ``embed`` is from pixels to unit vectors (N, dim).
    """
    with torch.no_grad():
        there = embed(pixels)
    return lambda changed: 1 - (embed(changed) * there).sum(1)


def _ascended(
    losses: Losses,
    pixels: Tensor,
    scale: PixelScale,
    epsilon: float,
    steps: int,
    step: float,
    seed: int,
) -> Tensor:
    pixels = pixels.detach()
    unit = scale.normalised(1.0, pixels) - scale.normalised(0.0, pixels)
    black, white = scale.normalised(0.0, pixels), scale.normalised(1.0, pixels)
    low = torch.maximum(pixels - epsilon * unit, black)
    high = torch.minimum(pixels + epsilon * unit, white)
    # Drawn on the CPU, so that every device starts from the same place.
    start = torch.rand(pixels.shape, generator=torch.Generator().manual_seed(seed)).to(pixels)
    changed = low + (high - low) * start
    for _ in range(steps):
        changed.requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(losses(changed).sum(), changed)
        moved = changed.detach() + step * unit * gradient.sign()
        changed = torch.minimum(torch.maximum(moved, low), high)
    return changed
