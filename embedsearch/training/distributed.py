"""Training in several processes: who is who, data parallel or sharded, and what crosses over.

A process that ``torchrun`` started finds its number in the environment; any other is alone, and
everything here then does what it does without others. Each rank takes its share of a batch
(:func:`share`), embeds it, and sees the embeddings of all (:func:`gather_with_gradient`), so that
a contrastive loss has the whole batch's negatives. Every rank computes the loss of the whole batch,
and the mean of their gradients is the gradient that one process would have found.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from ipaddress import ip_address
from typing import Any, Literal, TypeVar, cast, get_args
from uuid import uuid4

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from embedsearch.errors import DataError
from embedsearch.training.pipelining import Pipeline

Strategy = Literal["ddp", "fsdp", "pipeline"]
STRATEGIES = get_args(Strategy)
"""How the work is parted: photos (a whole copy each), photos and weights, or the layers."""
Value = TypeVar("Value")
Result = TypeVar("Result")

_pipelines: list[Pipeline] = []
"""The one that is in use, if one is."""
_STALLED = timedelta(minutes=30)
"""A rank that waits so long for the others gives up. The first batches are slow on cold disks."""
_PAUSE = 0.05
"""Seconds between two looks at what others have said."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of how many processes this one is."""

    rank: int = 0
    world: int = 1
    local: int = 0
    """Number among those on this machine: which of its GPUs is ours."""
    here: int = 1
    """How many there are on this machine."""
    restarts: int = 0
    """How often torchrun has started the processes anew. Over 0: go on from the checkpoint."""

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes files and talks."""
        return self.rank == 0


def ranks() -> Ranks:
    """What torchrun told this process; one alone where it told nothing.

    Raises :class:`~embedsearch.errors.DataError` where a variable of it is no number.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
    try:
        told = [
            int(os.environ.get(name, usual)) for name, usual in zip(names, "01010", strict=True)
        ]
    except ValueError as error:
        raise DataError(f"{', '.join(names)} in the environment: {error}. Use torchrun.") from error
    return Ranks(*told)


def is_main() -> bool:
    """Whether this is the process that writes files and talks."""
    return ranks().is_main


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Meet the other ranks for as long as the block runs: NCCL between GPUs, gloo between CPUs.

    Does nothing in a process alone. The ranks that it gives know of every restart: torchrun counts
    those of each machine by itself, and a machine that takes another's place begins with 0.
    """
    me = ranks()
    if me.world == 1 or distributed.is_initialized():
        yield me
        return
    device = device_of(device, me)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if backend == "gloo" and me.world > me.here:
        _check_address()
    store, rank, world = next(distributed.rendezvous("env://", timeout=_STALLED))
    store = distributed.PrefixStore(_agree_on_prefix(store, rank, world), store)
    distributed.init_process_group(
        backend, store=store, rank=rank, world_size=world, timeout=_STALLED
    )
    _pipelines.clear()
    try:
        yield replace(me, restarts=max(collect(me.restarts)))
        distributed.barrier()  # nobody leaves while another may still want something of it
    finally:
        distributed.destroy_process_group()


def device_of(wanted: torch.device, me: Ranks) -> torch.device:
    """The device of this rank, where ``wanted`` names only its kind."""
    if wanted.type != "cuda" or wanted.index is not None or me.world == 1:
        return wanted
    device = torch.device("cuda", me.local % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def place(module: nn.Module, device: torch.device, strategy: str, pieces: int = 4) -> None:
    """Move an encoder to the device of this rank: all of it, or of a pipeline its part, or (FSDP)
    nothing yet, as :func:`wrap` moves shards only.

    From here on a pipelined ``module.image`` takes and gives whole batches, ``pieces`` at a time.
    Raises :class:`~embedsearch.errors.DataError` for a strategy that there is not.
    """
    if strategy not in STRATEGIES:
        raise DataError(f"there is no strategy {strategy!r}; there are {', '.join(STRATEGIES)}")
    if not distributed.is_initialized() or strategy == "ddp":
        module.to(device)
    elif strategy == "pipeline":
        for name, part in module.named_children():
            if name != "image":
                part.to(device)
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
        _pipelines[:] = [Pipeline(cast(Any, module).image, device, pieces)]


def pipeline() -> Pipeline | None:
    """The pipeline that is in use, if one is."""
    return _pipelines[0] if _pipelines else None


def leave_pipeline() -> bool:
    """The tower runs in this process alone again. Returns whether there was a pipeline."""
    if not _pipelines:
        return False
    _pipelines.pop().leave()
    return True


def share(batch: Sequence[Value]) -> Sequence[Value]:
    """This rank's part of a batch that every rank has drawn alike: the rank-th of equal slices.

    All of it in a pipeline. Raises :class:`~embedsearch.errors.DataError` where the batch does not
    divide evenly: parts of unequal size would not count alike.
    """
    if _parts() == 1:
        return batch
    each, over = divmod(len(batch), _parts())
    if over:
        raise DataError(
            f"a batch of {len(batch)} cannot be shared by {_parts()} processes; take a multiple"
        )
    return batch[_rank() * each : (_rank() + 1) * each]


def gather_with_gradient(rows: Tensor) -> Tensor:
    """The rows (N, ...) of all ranks in the order of ranks: (world * N, ...).

    Backwards, each rank gets the sum of what all ranks' losses say about its rows. ``torch`` had
    this in ``distributed.nn`` (deprecated in 2.14). N must be the same everywhere.
    """
    return cast(Tensor, _Gather.apply(rows)) if _parts() > 1 else rows


def gather(rows: Tensor) -> Tensor:
    """The same for labels and the like, without gradient."""
    if _parts() == 1:
        return rows
    rows = rows.detach().contiguous()
    gathered = [torch.empty_like(rows) for _ in range(_parts())]
    distributed.all_gather(gathered, rows)
    return torch.cat(gathered)


def before(rows: Tensor) -> Tensor:
    """What is before each of ``rows`` (N, ...) in the batch of all ranks, and the last of it before
    the first. Without gradient; only one row of each rank travels."""
    rows = rows.detach()
    lasts = gather(rows[-1:])
    nearest = (_rank() - 1) % len(lasts)
    return torch.cat([lasts[nearest : nearest + 1], rows[:-1]])


def mean(value: float) -> float:
    """The mean over the ranks of a number, for figures that are told and decided by."""
    return sum(collect(value)) / _world()


def collect(value: Value) -> list[Value]:
    """What each rank has, in their order. Any value that pickles."""
    if _world() == 1:
        return [value]
    gathered: list[Any] = [None] * _world()
    distributed.all_gather_object(gathered, value)
    return gathered


def from_main(value: Value) -> Value:
    """What the main process has, on every rank."""
    if _world() == 1:
        return value
    values: list[Any] = [value]
    distributed.broadcast_object_list(values, src=0)
    return cast(Value, values[0])


@contextmanager
def main_first() -> Iterator[None]:
    """The main process runs the block before the others do, who find what it left on disk."""
    if _world() > 1 and _rank():
        distributed.barrier()
    yield
    if _world() > 1 and not _rank():
        distributed.barrier()


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
    if _world() == 1 or strategy == "pipeline":
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


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor) -> Tensor:
        return gather(rows)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total.chunk(_world())[_rank()]


def _average_gradient(parameter: Tensor) -> None:
    """What earlier backward passes of a step have left there is a mean already, and stays so."""
    distributed.all_reduce(parameter.grad)
    cast(Tensor, parameter.grad).div_(_world())


def _stages(module: nn.Module) -> list[nn.Module]:
    """What to shard by itself: the stages that an image tower names, in order."""
    found: list[nn.Module] = []
    for part in module.modules():
        named = getattr(part, "stages", None)
        if isinstance(named, list):
            found += [stage for _, stage in named if any(True for _ in stage.parameters())]
    return found


def _agree_on_prefix(store: distributed.Store, rank: int, world: int) -> str:
    """A prefix of the keys in ``store`` that all ranks have, and no ranks before them had.

    torchrun may keep a store when it starts the processes anew. Addresses that earlier ones left in
    it must not be taken for those of now: two gloo ranks would each wait for the other to call. So
    each rank leaves a number of its own, the first answers with the numbers it found and a prefix,
    until all have taken it. An answer that names a rank's number was made for it.
    """
    others = range(1, world)
    mine = uuid4().hex
    until = time.monotonic() + _STALLED.total_seconds()
    if rank:
        store.set(f"number/{rank}", mine)
        while mine not in (answer := json.loads(store.get("answer")))["numbers"]:
            _wait(until)
        store.set(f"taken/{rank}", answer["prefix"])
        return str(answer["prefix"])
    taken: list[str] = []
    while taken != [mine] * len(others):
        numbers = [store.get(f"number/{other}").decode() for other in others]
        store.set("answer", json.dumps({"numbers": numbers, "prefix": mine}))
        _wait(until)
        there = [f"taken/{other}" for other in others]
        taken = [store.get(key).decode() for key in there if store.check([key])]
    return mine


def _wait(until: float) -> None:
    if time.monotonic() > until:
        raise DataError("the processes that torchrun started have not found each other")
    time.sleep(_PAUSE)


def _check_address() -> None:
    """Whether gloo would tell other machines an address at which they reach this one: that of its
    name, unless it is told an interface. They would wait in vain, and not say for what."""
    if "GLOO_SOCKET_IFNAME" in os.environ:
        return
    name = socket.gethostname()
    try:
        address = ip_address(socket.gethostbyname(name))
    except OSError as error:
        found = f"has no address ({error})"
    else:
        if not address.is_loopback:
            return
        found = f"stands for {address}, which other machines cannot reach (see /etc/hosts)"
    raise DataError(
        f"the name of this machine, {name}, {found}. Say by which network interface the others "
        "reach it: GLOO_SOCKET_IFNAME=eth0 torchrun ..."
    )


def _world() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _parts() -> int:
    """Among how many a batch is parted: in a pipeline everyone sees all of it."""
    return 1 if _pipelines else _world()


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0
