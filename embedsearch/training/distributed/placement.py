"""Where an encoder is: whole on each rank, in shards, or in a pipeline a part on each."""

from __future__ import annotations

from typing import Any, Literal, cast, get_args

import torch
from torch import distributed, nn

from embedsearch.errors import DataError
from embedsearch.training.distributed.pipelining import Pipeline

Strategy = Literal["ddp", "fsdp", "pipeline"]
STRATEGIES = get_args(Strategy)
"""How the work is parted: photos (a whole copy each), photos and weights, or the layers."""

_pipelines: list[Pipeline] = []
"""The one that is in use, if one is."""


def place(module: nn.Module, device: torch.device, strategy: str, pieces: int = 4) -> None:
    """Move an encoder to the device of this rank: all of it, or of a pipeline its part, or (FSDP)
    nothing yet, as :func:`~embedsearch.training.distributed.replicas.wrap` moves shards only.

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


def forget_pipeline() -> None:
    """There is none any more, whatever became of the run that it was made for."""
    _pipelines.clear()
