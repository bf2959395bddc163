"""What is parted among the ranks, put together again: for checkpoints, for what is kept, in the
end."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict
from torch.distributed.tensor import DTensor, distribute_tensor

from embedsearch.training import distributed


def states(
    module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights and optimizer state, whole, under the names of ``module``.

    Every rank must call it, and the main one gets them, the others nothing. They are the same
    whatever the strategy and the number of ranks, so that a run can go on with others.
    """
    if distributed.pipeline() is not None:
        return _merged(module, optimizer)
    options = state_dict.StateDictOptions(full_state_dict=True, cpu_offload=True)
    found: tuple[dict[str, Any], dict[str, Any]]
    found = state_dict.get_state_dict(module, optimizer, options=options)
    return found


def load_states(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    weights: dict[str, Any],
    steps: dict[str, Any],
) -> None:
    """Put back what :func:`states` gave. Every rank must call it, with the same."""
    # Copies, as PyTorch puts shards in the place of what it is given.
    options = state_dict.StateDictOptions(full_state_dict=True)
    state_dict.set_model_state_dict(module, dict(weights), options=options)
    # Not strict: what was never stepped (frozen still, say) has no state.
    options = state_dict.StateDictOptions(full_state_dict=True, strict=False)
    state = {name: dict(values) for name, values in steps["state"].items()}
    state_dict.set_optimizer_state_dict(
        module, optimizer, {**steps, "state": state}, options=options
    )


def whole(values: dict[str, Any], module: nn.Module) -> dict[str, Any]:
    """The same tensors, named as in ``module``, on the CPU: shards put together, and of a pipeline
    each from the rank that trains it. Every rank must call it, and gets all of them."""
    if distributed.pipeline() is not None:
        foreign = _foreign_names(module)
        mine = {n: v.detach().cpu() for n, v in values.items() if n not in foreign}
        merged: dict[str, Any] = {}
        for theirs in reversed(distributed.collect(mine)):  # of what all have, the main one's
            merged |= theirs
        return {name: merged[name] for name in values}
    return {
        name: (value.full_tensor() if isinstance(value, DTensor) else value).detach().cpu().clone()
        for name, value in values.items()
    }


def fill(targets: dict[str, Any], values: dict[str, Any]) -> None:
    """Copy whole tensors into those of the same name, which may be sharded. Every rank must call
    it."""
    with torch.no_grad():
        for name, value in values.items():
            target = targets[name]
            value = value.to(target.device)
            if isinstance(target, DTensor):
                value = distribute_tensor(value, target.device_mesh, target.placements)
            target.copy_(value)


def clip(module: nn.Module, longest: float) -> None:
    """Shorten the gradient, of all parameters on all ranks, to the length ``longest``."""
    pipeline = distributed.pipeline()
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
    length = math.sqrt(shared + sum(distributed.collect(parted)))
    if length > longest:
        torch._foreach_mul_(pieces, longest / length)


def complete(module: nn.Module, spare: dict[str, nn.Module]) -> None:
    """In the end: a module that is whole on every rank, as if it had been trained alone.

    ``spare`` is what :func:`spare_parts` gave: with FSDP they take the place of the sharded ones,
    so look again at the children of ``module``. Every rank must call it.
    """
    if distributed.pipeline() is None and not spare:
        return
    weights = whole(module.state_dict(), module)
    if distributed.leave_pipeline():
        module.cpu()
    for name, part in spare.items():
        setattr(module, name, part)
    module.load_state_dict(weights)


def spare_parts(module: nn.Module, strategy: str) -> dict[str, nn.Module]:
    """Copies of the children of a module that is going to be sharded, to be whole in the end."""
    if distributed.ranks().world == 1 or strategy != "fsdp":
        return {}
    return {name: copy.deepcopy(part) for name, part in module.named_children()}


def _merged(
    module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The states of a pipelined module: of each part what the rank has that trains it."""
    foreign = _foreign_names(module)
    mine = {
        name: {key: value.cpu() for key, value in optimizer.state[parameter].items()}
        for name, parameter in module.named_parameters()
        if parameter in optimizer.state and name not in foreign
    }
    steps: dict[str, Any] = {}
    for theirs in reversed(distributed.collect(mine)):
        steps |= theirs
    groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    return whole(module.state_dict(), module), {"state": steps, "param_groups": groups}


def _foreign_names(module: nn.Module) -> set[str]:
    """What other ranks of a pipeline train."""
    pipeline = distributed.pipeline()
    foreign = pipeline.foreign() if pipeline else set()
    return {n for n, v in module.state_dict(keep_vars=True).items() if id(v) in foreign}
