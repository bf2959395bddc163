"""What is parted among the ranks, put together again: for checkpoints, for what is kept, in the
end."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from embedsearch.encoders.state_dict import with_versions
from embedsearch.training.distributed import collectives, placement
from embedsearch.training.distributed.ranks import ranks

State = dict[str, Any]


def states(module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[State, State]:
    """Weights, and what the optimizer keeps of each, whole and on the CPU, by the names of
    ``module``: the same whatever the strategy and the number of ranks, so that a run can go on with
    others. What was never stepped, as it was frozen, has no state. Every rank must call it.
    """
    foreign = _foreign_names(module)
    mine = {
        name: {key: _on_cpu(value) for key, value in optimizer.state[parameter].items()}
        for name, parameter in module.named_parameters()
        if parameter in optimizer.state and name not in foreign
    }
    if placement.pipeline() is not None:
        merged: State = {}
        for theirs in reversed(collectives.collect(mine)):  # of what all have, the main one's
            merged |= theirs
        mine = merged
    return whole(module.state_dict(), module), mine


def load_states(
    module: nn.Module, optimizer: torch.optim.Optimizer, weights: State, kept: State
) -> None:
    """Put back what :func:`states` gave. Every rank must call it, with the same."""
    foreign = _foreign_names(module)
    fill(module.state_dict(), weights)
    optimizer.state.clear()
    for name, parameter in module.named_parameters():
        if name in kept and name not in foreign:
            optimizer.state[parameter] = {
                key: _kept_for(parameter, value) for key, value in kept[name].items()
            }


def whole(values: dict[str, Any], module: nn.Module) -> dict[str, Any]:
    """The same tensors, named as in ``module``, on the CPU: shards put together, and of a pipeline
    each from the rank that trains it. Every rank must call it, and gets all of them."""
    if placement.pipeline() is not None:
        foreign = _foreign_names(module)
        mine = {n: v.detach().cpu() for n, v in values.items() if n not in foreign}
        merged: dict[str, Any] = {}
        for theirs in reversed(collectives.collect(mine)):  # of what all have, the main one's
            merged |= theirs
        return {name: merged[name] for name in values}
    return {name: _on_cpu(value) for name, value in values.items()}


def fill(targets: dict[str, Any], values: dict[str, Any]) -> None:
    """Copy whole tensors into those of the same name, which may be sharded. Every rank must call
    it."""
    with torch.no_grad():
        for name, value in values.items():
            target = targets[name]
            target.copy_(_like(target, value))


def clip(module: nn.Module, longest: float) -> None:
    """Shorten the gradient, of all parameters on all ranks, to the length ``longest``."""
    pipeline = placement.pipeline()
    own = pipeline.own() if pipeline else set()
    shared, parted = 0.0, 0.0
    pieces: list[Tensor] = []
    for parameter in module.parameters():
        if parameter.grad is None:
            continue
        gradient = parameter.grad
        pieces.append(gradient.to_local() if isinstance(gradient, DTensor) else gradient)
        square = float(pieces[-1].square().sum())
        if isinstance(gradient, DTensor) or id(parameter) in own:
            parted += square
        else:
            shared += square
    length = math.sqrt(shared + sum(collectives.collect(parted)))
    if pieces and length > longest:  # of a pipeline a rank may have frozen stages only
        torch._foreach_mul_(pieces, longest / length)


def complete(module: nn.Module, spare: dict[str, nn.Module]) -> None:
    """In the end: a module that is whole on every rank, as if it had been trained alone.

    ``spare`` is what :func:`spare_parts` gave: with FSDP they take the place of the sharded ones,
    so look again at the children of ``module``. Every rank must call it.
    """
    if placement.pipeline() is None and not spare:
        return
    weights = whole(module.state_dict(), module)
    if placement.leave_pipeline():
        module.cpu()
    for name, part in spare.items():
        setattr(module, name, part)
    module.load_state_dict(with_versions(weights, module))


def spare_parts(module: nn.Module, strategy: str) -> dict[str, nn.Module]:
    """Copies of the children of a module that is going to be sharded, to be whole in the end."""
    if ranks().world == 1 or strategy != "fsdp":
        return {}
    return {name: copy.deepcopy(part) for name, part in module.named_children()}


def _on_cpu(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    full = value.full_tensor() if isinstance(value, DTensor) else value
    return full.detach().cpu().clone()


def _kept_for(parameter: nn.Parameter, value: Any) -> Any:
    """What an optimizer keeps of a parameter: a number for each of its own, parted as they are, or
    others such as the count of steps."""
    if not isinstance(value, Tensor):
        return value
    same = value.shape == parameter.shape
    return _like(parameter, value) if same else value.to(parameter.device)


def _like(target: Tensor, value: Tensor) -> Tensor:
    """A whole tensor as ``target`` is: on its device, and of a sharded one this rank's part."""
    value = value.to(target.device)
    if isinstance(target, DTensor):
        return distribute_tensor(value, target.device_mesh, target.placements)
    return value


def _foreign_names(module: nn.Module) -> set[str]:
    """What other ranks of a pipeline train."""
    pipeline = placement.pipeline()
    foreign = pipeline.foreign() if pipeline else set()
    return {n for n, v in module.state_dict(keep_vars=True).items() if id(v) in foreign}
