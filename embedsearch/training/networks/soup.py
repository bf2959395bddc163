"""Model soups: one network whose weights are the mean of those of several.

Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy
without increasing inference time" (2022): networks that were trained further from the same weights
often lie in one valley, and their mean does better than each, at the cost of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from embedsearch.errors import EncoderError
from embedsearch.training.networks.architecture import Architecture
from embedsearch.training.networks.encoder import TrainableEncoder
from embedsearch.training.networks.interpolation import interpolate
from embedsearch.training.networks.towers import BagText


def mean_of_weights(
    encoders: Sequence[TrainableEncoder], weights: Sequence[float], specs: Sequence[str]
) -> TrainableEncoder:
    """The first of ``encoders`` with the mean of the weights of all, each counting as much as its
    share of ``weights``; squares are as large as the first has them.

    Whether they lie in one valley only measuring shows; that they are the same network is checked.
    Raises :class:`~embedsearch.errors.EncoderError`, which names them by ``specs``.
    """
    mean = encoders[0]
    mean.is_changed = True
    mean.told_hubs = next((one.told_hubs for one in encoders if one.told_hubs is not None), None)
    total = weights[0]
    for encoder, weight, spec in zip(encoders[1:], weights[1:], specs[1:], strict=True):
        if not _alike(mean, encoder):
            raise EncoderError(
                f"{specs[0]} and {spec} are not the same network, so that there is no mean of "
                "their weights. It takes encoders that were trained further from the same one."
            )
        total += weight
        interpolate(mean, mean.state_dict(), encoder.state_dict(), weight / total)
    return mean


def _alike(one: TrainableEncoder, other: TrainableEncoder) -> bool:
    return _built(one.about) == _built(other.about) and _tokens(one) == _tokens(other)


def _built(about: Architecture) -> Architecture:
    """All that weights depend on."""
    return replace(about, size=0, licence="", dropout=0.0)


def _tokens(encoder: TrainableEncoder) -> Sequence[str]:
    return encoder.text.tokens if isinstance(encoder.text, BagText) else ()
