"""WiSE-FT: weights between those before and after training, which keep what was known before.

Wortsman et al., "Robust fine-tuning of zero-shot models" (2022): on the straight line between the
two there are often encoders that are as good at the new task and have forgotten less.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from embedsearch.encoders.state_dict import with_versions
from embedsearch.errors import DataError

SHARES = tuple(n / 10 for n in range(11))
"""What is tried where the share is to be chosen."""


def parse_share(written: str) -> float | None:
    """0 to 1, or ``None`` for ``auto``. Raises :class:`~embedsearch.errors.DataError`."""
    if written == "auto":
        return None
    try:
        share = float(written)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise DataError(f"wise-ft is from 0 (as before) to 1 (as trained), or auto, not {written}")
    return share


def interpolate(
    module: nn.Module, before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float
) -> None:
    """Give ``module`` the weights ``(1 - share) * before + share * after``; counters are taken from
    ``after``."""
    mixed = {
        name: torch.lerp(before[name].to(value), value, share)
        if value.is_floating_point()
        else value
        for name, value in after.items()
    }
    module.load_state_dict(with_versions(mixed, module))


def choose(
    module: nn.Module,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    score: Callable[[], dict[str, float]],
    name: str,
) -> tuple[float, list[dict[str, float]]]:
    """The share at which ``score()[name]`` is largest, and the figures of all that were tried.
    ``module`` is left with the weights of that share; of equals the larger share counts."""
    tried = []
    for share in SHARES:
        interpolate(module, before, after, share)
        tried.append({"share": share, **score()})
    best = max(tried, key=lambda told: (told[name], told["share"]))["share"]
    interpolate(module, before, after, best)
    return best, tried


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
