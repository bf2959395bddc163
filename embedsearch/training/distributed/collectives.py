"""What crosses over between ranks: rows with and without their gradients, figures, decisions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed
from torch.autograd.function import FunctionCtx

from embedsearch.errors import DataError
from embedsearch.training.distributed.placement import pipeline

Value = TypeVar("Value")


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
    return sum(collect(value)) / world()


def collect(value: Value) -> list[Value]:
    """What each rank has, in their order. Any value that pickles."""
    if world() == 1:
        return [value]
    gathered: list[Any] = [None] * world()
    distributed.all_gather_object(gathered, value)
    return gathered


def from_main(value: Value) -> Value:
    """What the main process has, on every rank."""
    if world() == 1:
        return value
    values: list[Any] = [value]
    distributed.broadcast_object_list(values, src=0)
    return cast(Value, values[0])


@contextmanager
def main_first() -> Iterator[None]:
    """The main process runs the block before the others do, who find what it left on disk."""
    if world() > 1 and _rank():
        distributed.barrier()
    yield
    if world() > 1 and not _rank():
        distributed.barrier()


def world() -> int:
    """How many processes have met; 1 for one alone."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor) -> Tensor:
        return gather(rows)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total.chunk(world())[_rank()]


def _parts() -> int:
    """Among how many a batch is parted: in a pipeline everyone sees all of it."""
    return 1 if pipeline() is not None else world()


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0
