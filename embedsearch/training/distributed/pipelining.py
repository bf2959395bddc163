"""An image tower that is too large for one device: each rank has some of its stages.

The loss needs the embeddings of the whole batch, and a pipeline works on pieces of it. So the batch
goes through twice: forward only, for embeddings that every rank gets and takes the same loss of;
then, when that loss is taken back to the embeddings, forward and backward with what it says about
them. That is gradient caching (Gao et al., "Scaling Deep Contrastive Learning Batch Size under
Memory Limited Setup", 2021): the gradients are those of the whole batch in one piece, and
activations are kept only of pieces that are under way.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

from embedsearch.errors import DataError
from embedsearch.training.networks.towers import ImageTower


class Pipeline:
    """The stages of ``tower`` parted among the ranks, in order and by the weights they have.

    Once made, ``tower(pixels)`` gives the embeddings of the whole batch on every rank, and must be
    called by all of them with the same pixels. Other parts of an encoder are whole on every rank.
    """

    def __init__(self, tower: ImageTower, device: torch.device, pieces: int) -> None:
        """A batch passes in ``pieces``. The part of this rank is
        moved to ``device``.

        Raises :class:`~embedsearch.errors.DataError` where the tower cannot be parted so.
        """
        if tower.pieces > 1:
            raise DataError("a pipeline has pieces of its own: leave optimisation.pieces out")
        self._rank, self._world = distributed.get_rank(), distributed.get_world_size()
        if not tower.sequential:
            raise DataError("the stages of this network do not follow one another; take fsdp")
        if len(tower.stages) < self._world:
            raise DataError(
                f"{len(tower.stages)} stages cannot be parted among {self._world} processes"
            )
        if not tower.frozen_norm:
            raise DataError(
                "a pipeline sees a batch in pieces, and twice: keep the statistics of BatchNorm "
                "(norm = frozen), or take ddp"
            )
        self._tower, self._device, self._pieces = tower, device, pieces
        sizes = [sum(p.numel() for p in stage.parameters()) for _, stage in tower.stages]
        self._bounds = cut(sizes, self._world)
        first, last = self._bounds[self._rank : self._rank + 2]
        self._part = _Part(tower, first, last, self._rank == self._world - 1).to(device)
        self._schedules: dict[tuple[Any, ...], ScheduleGPipe] = {}
        self._anchor = torch.zeros((), device=device, requires_grad=True)
        tower.forward = self  # type: ignore[method-assign]

    def __call__(self, pixels: Tensor) -> Tensor:
        count = len(pixels)
        missing = -count % self._pieces
        if missing:  # pieces are of one size: fill up, and forget what becomes of that
            pixels = torch.cat([pixels, pixels[-1:].expand(missing, *pixels.shape[1:])])
        return cast(Tensor, _Through.apply(self, pixels, self._anchor))[:count]

    def leave(self) -> None:
        """Give the tower back as it was: it runs here, alone."""
        del self._tower.__dict__["forward"]

    def foreign(self) -> set[int]:
        """Ids of the parameters and buffers that other ranks train."""
        stages = [module for _, module in self._tower.stages]
        first, last = self._bounds[self._rank : self._rank + 2]
        others = stages[:first] + stages[last:]
        if self._rank != self._world - 1:
            others += [self._tower.pool, self._tower.head]
        found = {id(value) for part in others for value in part.parameters()}
        return found | {id(value) for part in others for value in part.buffers()}

    def own(self) -> set[int]:
        """Ids of the parameters that this rank trains."""
        return {id(value) for value in self._part.parameters()}

    def embed(self, pixels: Tensor) -> Tensor:
        """Forward only: the embeddings, on every rank."""
        schedule = self._schedule("forward", pixels)
        rows = schedule.eval(*self._given(pixels))
        last = self._world - 1
        about: list[Any] = [None if rows is None else (rows.shape, rows.dtype)]
        distributed.broadcast_object_list(about, src=last)
        if rows is None:
            rows = torch.empty(about[0][0], dtype=about[0][1], device=self._device)
        rows = rows.detach().contiguous()
        distributed.broadcast(rows, src=last)
        return cast(Tensor, rows)

    def take_back(self, pixels: Tensor, gradient: Tensor) -> None:
        """Forward anew, and backward from ``gradient``, that of the embeddings."""
        schedule = self._schedule("backward", pixels)
        last = self._rank == self._world - 1
        schedule.step(*self._given(pixels), target=gradient if last else None, return_outputs=False)

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision that is in force now, to be in force again on the way back."""
        kind = self._device.type
        return torch.autocast(  # type: ignore[no-any-return]
            kind, dtype=torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind)
        )

    def random_state(self) -> tuple[Tensor, Tensor | None]:
        """Where random numbers are: both passes must drop out alike."""
        cuda = self._device.type == "cuda"
        return torch.get_rng_state(), torch.cuda.get_rng_state(self._device) if cuda else None

    def set_random_state(self, state: tuple[Tensor, Tensor | None]) -> None:
        """Go back, or forth again."""
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.cuda.set_rng_state(state[1], self._device)

    def _given(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return (pixels,) if self._rank == 0 else ()

    def _schedule(self, way: str, pixels: Tensor) -> ScheduleGPipe:
        """Shapes are agreed on once by a schedule, so each shape of batch has its own."""
        key = (way, *pixels.shape, torch.is_autocast_enabled(self._device.type))
        if key not in self._schedules:
            stage = PipelineStage(self._part, self._rank, self._world, self._device)
            loss = _weighed if way == "backward" else None
            self._schedules[key] = ScheduleGPipe(
                stage, self._pieces, loss_fn=loss, scale_grads=False
            )
        return self._schedules[key]


def cut(sizes: list[int], parts: int) -> list[int]:
    """Where to cut ``sizes`` into ``parts`` runs so that the largest sum is smallest: parts + 1
    places, from 0 to the end. No run is empty."""
    ends = range(1, len(sizes) + 1)
    best: dict[int, tuple[int, list[int]]] = {end: (sum(sizes[:end]), [0, end]) for end in ends}
    for part in range(2, parts + 1):
        best = {
            end: min(
                (max(best[start][0], sum(sizes[start:end])), [*best[start][1], end])
                for start in range(part - 1, end)
            )
            for end in range(part, len(sizes) + 1)
        }
    return best[len(sizes)][1]


class _Part(nn.Module):
    """What one rank runs: some stages, and behind the last one pooling and head."""

    def __init__(self, tower: ImageTower, first: int, last: int, ends: bool) -> None:
        super().__init__()
        self.run = nn.Sequential(*(module for _, module in tower.stages[first:last]))
        self.behind = nn.ModuleList([tower.pool, tower.head] if ends else [])

    def forward(self, values: Tensor) -> Tensor:
        """In what is sent to the next rank, and in the gradient that is sent back, the numbers lie
        in their usual order, as nothing else is sent."""
        if values.requires_grad:
            values = values.view_as(values)
            values.register_hook(Tensor.contiguous)
        values = self.run(values)
        if not len(self.behind):
            values = values.contiguous()
            # A gradient comes back also where nothing up to here is trained.
            return values.requires_grad_() if torch.is_grad_enabled() else values
        pool, head = self.behind
        return nn.functional.normalize(head(pool(values)).float(), dim=1)


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pipeline: Pipeline, pixels: Tensor, anchor: Tensor) -> Tensor:
        """``anchor`` is what makes the result ask for a gradient: the weights are not given."""
        ctx.pipeline, ctx.pixels = pipeline, pixels
        ctx.autocast, ctx.random = pipeline.autocast(), pipeline.random_state()
        return pipeline.embed(pixels)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[None, None, Tensor]:
        kept = cast(Any, ctx)
        pipeline: Pipeline = kept.pipeline
        now = pipeline.random_state()
        pipeline.set_random_state(kept.random)
        with torch.enable_grad(), kept.autocast:
            pipeline.take_back(kept.pixels, gradients[0])
        pipeline.set_random_state(now)
        return None, None, torch.zeros((), device=gradients[0].device)


def _weighed(rows: Tensor, gradient: Tensor) -> Tensor:
    """A number whose gradient by ``rows`` is ``gradient``."""
    return (rows * gradient).sum()
