"""Making a trained MobileNetV2 narrower before it is trained further: channels inside its blocks,
and of its first convolution, are left out, those that the others can best stand in for.

Which these are, and what the others then have to give, follows from how the channels go together
over photos. A block's last convolution is a linear layer on its filtered channels, as the first
block's expansion is one on those of the first convolution. One of its inputs after another is taken
away, each time the one without which its output changes least, all weights being fitted anew to the
output as it was by least squares (Hassibi and Stork, "Second Order Derivatives for Network Pruning:
Optimal Brain Surgeon", 1993, equation 5, for whole channels; He et al., "Channel Pruning for
Accelerating Very Deep Neural Networks", 2017, for convolutions). Between the blocks all channels
stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from embedsearch.errors import DataError
from embedsearch.training.networks.encoder import TrainableEncoder
from embedsearch.training.networks.folding import convolution
from embedsearch.training.networks.mobilenetv2 import STEM, ConvNorm, InvertedResidual

STEP = 16
"""So many channels go at once, and as many stay at least: kernels compute so many together."""
_POSITIONS = 64
"""Of a map so many positions are looked at."""
_RIDGE = 1e-5
"""Added to the variances, as a share of their mean: a channel may be the copy of another."""


def narrow(encoder: TrainableEncoder, pictures: Iterable[Tensor], share: float) -> float:
    """Leave out ``share`` of the multiplications of the image network, in place.

    ``pictures`` are batches of pixels, uint8 (N, size, size, 3), on which it is seen which channels
    others can stand in for; some hundred photos do. Gives the share that was left out, which is
    ``share`` or a little more. Raises :class:`~embedsearch.errors.DataError` for a network that is
    no MobileNetV2 of :mod:`~embedsearch.training.networks.mobilenetv2`, and for a share that cannot
    be had.
    """
    groups = _groups(encoder)
    if not groups:
        raise DataError(f"{encoder.about.model}: only a MobileNetV2 as mini's can be made narrower")
    if not 0 < share < 1:
        raise DataError(f"what is left out is a share between 0 and 1, not {share:g}")
    seen, total = _look(encoder, groups, pictures)
    orders = [_order(group, known) for group, known in zip(groups, seen, strict=True)]
    gone, saved = _choose(seen, orders, share * total)
    for group, known, order, count in zip(groups, seen, orders, gone, strict=True):
        if count:
            _leave_out(group, known, [channel for channel, _ in order[:count]])
    whole = [stage for name, stage in encoder.image.stages if name.startswith("blocks.")]
    told = tuple(b.expanded if isinstance(b, InvertedResidual) else 0 for b in whole)
    stem = groups[0].width
    encoder.about = replace(encoder.about, expanded=told, stem=0 if stem == STEM else stem)
    encoder.is_changed = True
    return saved / total


@dataclass(frozen=True)
class _Group:
    """Channels of which some can go: what makes them, and the linear layer that adds them up."""

    makers: Sequence[ConvNorm]
    """One after another; behind the first each filters every channel by itself."""
    adder: ConvNorm
    given: nn.Module
    """What gives the sum, with all that is added to it."""

    @property
    def width(self) -> int:
        return int(convolution(self.adder).in_channels)


def _groups(encoder: TrainableEncoder) -> list[_Group]:
    """That of the stem, then one for each block; none where it is no MobileNetV2 as mini's."""
    stages = [stage for _, stage in encoder.image.stages]
    blocks = [stage for stage in stages if isinstance(stage, InvertedResidual)]
    if not blocks:
        return []
    units = [[cast(ConvNorm, unit) for unit in block.layers] for block in blocks]
    first = units[0][0]
    inside = [_Group(u[:2], u[2], block) for u, block in zip(units, blocks, strict=True)]
    return [_Group([cast(ConvNorm, stages[0])], first, first[1]), *inside]


@dataclass
class _Seen:
    """What the channels of a group do over photos. Sums until all is seen."""

    rows: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros(()))
    """float64 (channels,)"""
    together: Tensor = field(default_factory=lambda: torch.zeros(()))
    """float64 (channels, channels): their covariance."""
    spread: float = 0.0
    """Variance of what they are added up to, summed over its channels; a mean over batches."""
    cost: int = 0
    """Multiplications that a channel takes."""

    def add(self, channels: Tensor, given: Tensor, places: Tensor) -> None:
        """Maps of some photos: the group's channels, and what they are added up to."""
        values = channels.flatten(2)[:, :, places].transpose(1, 2).flatten(0, 1).double().cpu()
        self.rows += len(values)
        self.mean = self.mean + values.sum(0)
        self.together = self.together + values.T @ values
        self.spread += given.float().var((0, 2, 3)).sum().item()

    def finish(self, batches: int) -> None:
        self.mean = self.mean / self.rows
        self.together = self.together / self.rows - torch.outer(self.mean, self.mean)
        diagonal = self.together.diagonal()
        diagonal += diagonal.mean() * _RIDGE
        self.spread /= batches


def _look(
    encoder: TrainableEncoder, groups: Sequence[_Group], pictures: Iterable[Tensor]
) -> tuple[list[_Seen], int]:
    """What each group does over ``pictures``, and the multiplications of all the network."""
    image, device = encoder.image, next(encoder.image.parameters()).device
    seen = [_Seen() for _ in groups]
    draw = torch.Generator().manual_seed(0)
    batches, training = 0, image.training
    image.eval()
    with torch.no_grad(), _watched(image.network, groups) as maps:
        for pixels in pictures:
            image.maps(encoder.normalised(pixels.to(device)))
            batches += 1
            for group, known in zip(groups, seen, strict=True):
                channels, _ = maps[convolution(group.adder)]
                positions = torch.randperm(channels[0, 0].numel(), generator=draw)[:_POSITIONS]
                known.add(channels, maps[group.given][1], positions.to(device))
        if not batches:
            raise DataError("there is no photo on which to see what can be left out")
        costs = {part: _multiplications(part, given) for part, (_, given) in maps.items()}
    image.train(training)
    for group, known in zip(groups, seen, strict=True):
        known.finish(batches)
        layers = [convolution(unit) for unit in (*group.makers, group.adder)]
        known.cost = sum(costs[layer] for layer in layers) // group.width
    return seen, sum(costs.values())


@contextmanager
def _watched(
    network: nn.Module, groups: Sequence[_Group]
) -> Iterator[dict[nn.Module, tuple[Tensor, Tensor]]]:
    """Within it, what every convolution of ``network``, and what gives the sums, last took and
    gave."""
    maps: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(part: nn.Module, taken: Any, given: Tensor) -> None:
        maps[part] = (taken[0], given)

    parts = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
    parts += [group.given for group in groups]
    hooks = [part.register_forward_hook(keep) for part in parts]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


def _multiplications(part: nn.Module, given: Tensor) -> int:
    """Of a convolution for one photo."""
    if not isinstance(part, nn.Conv2d):
        return 0
    return int(part.weight.numel() * given.shape[2] * given.shape[3])


def _order(group: _Group, known: _Seen) -> list[tuple[int, float]]:
    """The channels of a group in the order in which they can go, and with each how far their sum
    is off once it and those before it are gone: squared, as a share of its variance."""
    weight, norm = _matrix(group.adder), group.adder[1]
    if isinstance(norm, nn.BatchNorm2d):
        weight = weight * (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None]
    weight = weight.detach().double().cpu().clone()
    inverse = torch.linalg.inv(known.together)
    stays = torch.ones(len(inverse), dtype=torch.bool)
    order, off = [], 0.0
    while stays.sum() > STEP:
        loss = weight.square().sum(0) / inverse.diagonal().clamp_min(torch.finfo().tiny)
        channel = int(loss.masked_fill(~stays, float("inf")).argmin())
        off += float(loss[channel]) / known.spread
        order.append((channel, off))
        stays[channel] = False
        # Without it, the others' weights and the inverse of what remains of the covariance.
        share = inverse[channel] / inverse[channel, channel]
        weight.addr_(weight[:, channel].clone(), share, alpha=-1)
        inverse.addr_(inverse[:, channel].clone(), share, alpha=-1)
    return order


def _choose(
    seen: Sequence[_Seen], orders: Sequence[list[tuple[int, float]]], wanted: float
) -> tuple[list[int], int]:
    """How many channels of each group go, and the multiplications that this saves: always those
    next by which the sums are off least for what they save."""
    gone, saved = [0] * len(seen), 0
    while saved < wanted:
        prices = []
        for number, (known, order) in enumerate(zip(seen, orders, strict=True)):
            then = gone[number] + STEP
            if then <= len(order):
                before = order[gone[number] - 1][1] if gone[number] else 0.0
                prices.append(((order[then - 1][1] - before) / known.cost, number))
        if not prices:
            most = saved / wanted
            raise DataError(
                f"so much cannot be left out: with {STEP} channels in each block, the most is "
                f"{most:.2f} of it"
            )
        _, number = min(prices)
        gone[number] += STEP
        saved += STEP * seen[number].cost
    return gone, saved


def _leave_out(group: _Group, known: _Seen, channels: Sequence[int]) -> None:
    """Take ``channels`` out of a group; the others give their sum as nearly as they can."""
    last, gone = group.adder, set(channels)
    rest = torch.tensor([c for c in range(group.width) if c not in gone])
    weight = _matrix(last).detach().double().cpu()
    within = known.together[rest][:, rest]
    fitted = torch.linalg.solve(within, known.together[rest] @ weight.T).T
    # What is lost of the mean goes where the output's mean is told.
    shift = (weight @ known.mean - fitted @ known.mean[rest]).float()
    place = last[0].weight.device
    with torch.no_grad():
        if isinstance(last[1], nn.BatchNorm2d):
            last[1].running_mean -= shift.to(place)
        else:
            cast(Tensor, last[0].bias).add_(shift.to(place))
    for unit in group.makers:
        _keep(unit, rest.to(place))
    for unit in group.makers[1:]:
        unit[0].groups = unit[0].in_channels = len(rest)
    last[0].weight = nn.Parameter(fitted.float().to(place)[:, :, None, None])
    last[0].in_channels = len(rest)


def _keep(unit: ConvNorm, rest: Tensor) -> None:
    """Of a convolution, and the BatchNorm behind it, these outputs."""
    for layer in unit:
        for name, values in [*layer.named_parameters(), *layer.named_buffers()]:
            if values.ndim:
                kept = values.detach()[rest].clone()
                setattr(layer, name, nn.Parameter(kept) if name in ("weight", "bias") else kept)
    unit[0].out_channels = len(rest)
    if isinstance(unit[1], nn.BatchNorm2d):
        unit[1].num_features = len(rest)


def _matrix(last: ConvNorm) -> Tensor:
    """The weight of a 1x1 convolution, (outputs, inputs)."""
    return cast(Tensor, last[0].weight)[:, :, 0, 0]
