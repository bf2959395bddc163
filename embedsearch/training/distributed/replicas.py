"""Losses whose gradients are those of all ranks: data parallel (DDP) or sharded (FSDP)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from embedsearch.training.distributed.collectives import world
from embedsearch.training.distributed.placement import Strategy

Result = TypeVar("Result")


class Replica(nn.Module):
    """A module and the way to compute a loss through it that the other ranks can follow.

    Losses call parts of a module, which neither DDP nor FSDP would notice: the call goes through
    :meth:`forward`, and is free to call whatever it likes within.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, loss: Callable[..., Result], *arguments: Any) -> Result:
        return loss(*arguments)


def wrap(module: nn.Module, strategy: Strategy = "ddp") -> nn.Module:
    """A :class:`Replica` of ``module`` for ``strategy``: call it as ``replica(loss, *arguments)``.

    To be called before the optimizer is made: FSDP replaces the parameters by its shards. Buffers
    (BatchNorm's) are those of the main process at every step; statistics of a batch are each
    rank's own unless the module uses ``SyncBatchNorm``. A process alone gets a plain replica, and
    so does a pipelined tower, which does its own talking.
    """
    replica = Replica(module)
    if world() == 1 or strategy == "pipeline":
        return replica
    with _all_trainable(replica):  # both only exchange what could learn when they were made
        if strategy == "ddp":
            return DistributedDataParallel(replica, find_unused_parameters=True)
        module.to(memory_format=torch.contiguous_format)  # no others are parted
        # A single number cannot be parted: every rank keeps it, and the mean of its gradients.
        single = {parameter for parameter in module.parameters() if not parameter.ndim}
        for parameter in single:
            parameter.register_post_accumulate_grad_hook(_average_gradient)
        for stage in _stages(module):
            fully_shard(stage, ignored_params=single)
        # Also what belongs to no stage is parted after each pass, so that it can be read then.
        whole = fully_shard(replica, ignored_params=single, reshard_after_forward=True)
        return cast(nn.Module, whole)


@contextmanager
def syncing(replica: nn.Module, wanted: bool) -> Iterator[None]:
    """Whether gradients are exchanged in this block: not needed before the last of several
    backward passes that make one step."""
    if wanted:
        yield
    elif isinstance(replica, DistributedDataParallel):
        with replica.no_sync():
            yield
    elif isinstance(replica, FSDPModule):
        replica.set_requires_gradient_sync(False)
        yield
        replica.set_requires_gradient_sync(True)
    else:
        yield


@contextmanager
def _all_trainable(module: nn.Module) -> Iterator[None]:
    """Frozen parameters ask for gradients too while the block runs. They may be replaced in it."""
    frozen = {name for name, value in module.named_parameters() if not value.requires_grad}
    module.requires_grad_(True)
    yield
    for name, value in module.named_parameters():
        value.requires_grad = name not in frozen


def _average_gradient(parameter: Tensor) -> None:
    """What earlier backward passes of a step have left there is a mean already, and stays so."""
    distributed.all_reduce(parameter.grad)
    cast(Tensor, parameter.grad).div_(world())


def _stages(module: nn.Module) -> list[nn.Module]:
    """What to shard by itself: the stages that an image tower names, in order."""
    found: list[nn.Module] = []
    for part in module.modules():
        named = getattr(part, "stages", None)
        if isinstance(named, list):
            found += [stage for _, stage in named if any(True for _ in stage.parameters())]
    return found
