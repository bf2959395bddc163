"""Losses of embeddings and labels, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from embedsearch.errors import DataError, MissingExtraError
from embedsearch.training.losses.classifying import CrossEntropy, Focal

SUPCON_TEMPERATURE = 0.1
TRIPLET_MARGIN = 0.2
MININGS = ("semihard", "hard", "all", "batch-hard")
ARCFACE_MARGIN = 28.6
"""Degrees: the 0.5 of Deng et al. (2019)."""
ARCFACE_SCALE = 64.0


def _supcon(dim: int, classes: int, *, temperature: float = SUPCON_TEMPERATURE) -> nn.Module:
    from embedsearch.training.losses.metric import SupCon

    return SupCon(temperature)


def _triplet(
    dim: int, classes: int, *, margin: float = TRIPLET_MARGIN, mining: str = MININGS[0]
) -> nn.Module:
    from embedsearch.training.losses.metric import Triplet

    if mining not in MININGS:
        raise DataError(f"there is no mining {mining!r}; there are {', '.join(MININGS)}")
    return Triplet(margin, mining)


def _arcface(
    dim: int, classes: int, *, margin: float = ARCFACE_MARGIN, scale: float = ARCFACE_SCALE
) -> nn.Module:
    from embedsearch.training.losses.metric import ArcFace

    return ArcFace(dim, classes, margin, scale)


_MAKERS: dict[str, Callable[..., nn.Module]] = {
    "cross-entropy": CrossEntropy,
    "focal": Focal,
    "supcon": _supcon,
    "triplet": _triplet,
    "arcface": _arcface,
}
LOSSES: dict[str, str] = {
    "cross-entropy": "a classifier on the embedding; label_smoothing, class_weights, scale",
    "focal": "the same, what is easy counts less; gamma, label_smoothing, class_weights, scale",
    "supcon": "pictures of one label together, others apart; temperature",
    "triplet": "nearer to one's own than to others, by a margin; margin, mining "
    f"({', '.join(MININGS)})",
    "arcface": "a classifier with a margin between angles; margin (degrees), scale",
}
"""What there is, and the options of each."""


def make_loss(name: str, *, dim: int, classes: int, **options: Any) -> nn.Module:
    """The loss of that name, to be called as ``loss(embeddings, labels) -> scalar``.

    ``embeddings`` are unit vectors, float (N, ``dim``); ``labels`` int64 (N,) below ``classes``
    or, where :func:`takes_shares` says so, shares of the classes, float (N, ``classes``). A loss
    that classifies has weights of its own to be trained, and ``logits(embeddings)``, float (N,
    ``classes``). ``options`` are those that :data:`LOSSES` names.

    Raises :class:`~embedsearch.errors.DataError` for a name or an option that there is not, and
    :class:`~embedsearch.errors.MissingExtraError` where pytorch-metric-learning is missing.
    """
    if name not in _MAKERS:
        raise DataError(f"there is no loss {name!r}; there are {', '.join(LOSSES)}")
    known = list(inspect.signature(_MAKERS[name]).parameters)[2:]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise DataError(f"the loss {name} has no option {unknown[0]!r}; it has {', '.join(known)}")
    try:
        return _MAKERS[name](dim, classes, **options)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pytorch_metric_learning":
            raise
        raise MissingExtraError(f"the loss {name}", "train") from error


def takes_shares(name: str) -> bool:
    """Whether the loss of that name takes shares of classes, as MixUp and CutMix make them."""
    return name in ("cross-entropy", "focal")
