"""Which parameters are trained, from when on, and in how large steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from torch import nn

from embedsearch.training.loop.steps import Group
from embedsearch.training.networks.encoder import TrainableEncoder
from embedsearch.training.networks.towers import BagText
from embedsearch.training.recipe import Freeze, Optimisation


class Objective(Protocol):
    """What is trained: an encoder, a temperature, and what losses learn."""

    encoder: TrainableEncoder
    losses: nn.ModuleDict
    log_scale: nn.Parameter

    def requires_grad_(self, requires_grad: bool = ...) -> Any: ...


def parameter_groups(
    objective: Objective, first: int, freeze: Freeze, settings: Optimisation
) -> list[Group]:
    """Freeze the stages before ``first``, and group the rest.

    The last stage takes steps of ``settings.rate``, each before it ``freeze.layer_decay`` times
    those of the next (Howard and Ruder, "Universal Language Model Fine-tuning for Text
    Classification", 2018, section 3.2, who also unfreeze from the top down). Biases, the scales of
    normalisation and single numbers are not decayed.
    """
    encoder = objective.encoder
    image = encoder.image
    objective.requires_grad_(False)
    image.first_trained = first
    count = len(image.stages)
    groups: list[Group] = []
    staged: set[int] = set()
    for number, (_, stage) in enumerate(image.stages):
        staged.update(map(id, stage.parameters()))
        if number >= first:
            above = count - 1 - number
            rate = settings.rate * freeze.layer_decay**above
            opens = freeze.unfreeze_every * (above + 1)
            groups += _by_decay(stage.parameters(), rate, settings.decay, opens)
    if first == 0:
        # What belongs to no stage, such as the positions of a transformer, is before them all.
        others = [p for p in image.network.parameters() if id(p) not in staged]
        rate = settings.rate * freeze.layer_decay ** max(0, count - 1)
        groups += _by_decay(others, rate, settings.decay, freeze.unfreeze_every * count)
    heads: list[nn.Parameter] = [objective.log_scale]
    heads += [*image.pool.parameters(), *image.head.parameters(), *objective.losses.parameters()]
    if isinstance(encoder.text, BagText) and not freeze.text:
        table = encoder.text.head.table.weight
        heads += [p for p in encoder.text.parameters() if p is not table]
        groups.append(Group([table], settings.table_rate))
    elif encoder.text is not None and not freeze.text:
        groups += _by_decay(encoder.text.parameters(), settings.text_rate, settings.decay, 0.0)
    return groups + _by_decay(heads, settings.head_rate, settings.head_decay, 0.0)


def _by_decay(
    parameters: Iterable[nn.Parameter], rate: float, decay: float, opens: float
) -> list[Group]:
    listed = list(parameters)
    flat = [p for p in listed if p.ndim < 2]
    return [
        group
        for group in (
            Group([p for p in listed if p.ndim >= 2], rate, decay, opens),
            Group(flat, rate, 0.0, opens),
        )
        if group.parameters
    ]
