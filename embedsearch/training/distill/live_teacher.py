"""A teacher that is asked at every step, about the looks that the student learns from.

What Beyer et al. ("Knowledge distillation: A good teacher is patient and consistent", 2022) found
to matter: both see the same crop, looks are new each time, and mixed with one another, so that a
teacher has something new to say of photos that are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from embedsearch.encoders.base import Encoder
from embedsearch.training.augment.mixing import mix_pictures
from embedsearch.training.augment.policies import Mix
from embedsearch.training.distill.principal_axes import Axes, on_axes
from embedsearch.training.distributed import collectives
from embedsearch.training.looks.batches import Batch
from embedsearch.training.looks.drawing import resized
from embedsearch.training.teachers.teacher import in_groups

_AT_ONCE = 8


class LiveTeacher:
    """Mixes the looks of a batch, and says what it makes of them."""

    def __init__(
        self,
        teacher: Encoder | None,
        *,
        size: int,
        mixes: tuple[Mix, ...] = (),
        threads: int = 1,
        seed: int = 0,
        axes: Axes | None = None,
    ) -> None:
        """Without a ``teacher``, where nothing is learned from what one says, looks are only mixed.
        ``size`` is that of the student, ``axes`` are those on which it learns the rows, where not
        on all."""
        self._teacher, self._size, self._seed, self._axes = teacher, size, seed, axes
        self.mixes, self._threads = mixes, max(1, threads)

    def looked(self, batch: Batch, device: torch.device) -> tuple[Batch, Tensor | None]:
        """The batch as the student sees it, on ``device``, and what the teacher makes of this
        rank's part of it: unit rows, float32 (N, dim). What is mixed has no label, as none says
        what it shows."""
        pixels, labels = batch.images.to(device), batch.labels
        if self.mixes:
            drawn = [self._drawn(batch.step, place) for place in range(len(batch.looks))]
            pixels = _mixed(pixels, collectives.share(drawn))
            is_mixed = torch.tensor([mix is not None for mix, _ in drawn])
            labels = labels.masked_fill(is_mixed.to(labels.device), -1)
        said = None if self._teacher is None else self._said(self._teacher, pixels)
        if pixels.shape[1] != self._size:
            pixels = resized(pixels, self._size).round().clamp(0, 255).to(torch.uint8)
        return replace(batch, images=pixels, labels=labels), said

    def _said(self, teacher: Encoder, pixels: Tensor) -> Tensor:
        seen = list(pixels.cpu().numpy())
        rows = np.concatenate(
            in_groups(
                len(seen),
                lambda group: teacher.encode_images(seen[group.start : group.stop]),
                self._threads,
                at_once=_AT_ONCE,
            )
        )
        if self._axes is not None:
            rows = on_axes(rows, self._axes).astype(np.float32)
        return normalize(torch.from_numpy(rows).to(pixels.device), dim=1)

    def _drawn(self, step: int, place: int) -> tuple[Mix | None, np.random.Generator]:
        """How a photo of the batch is mixed, each for itself: of a batch mixed as a whole, by one
        share, steps differ more than a student can follow."""
        rng = np.random.default_rng([self._seed, 4, step, place])
        return next((mix for mix in self.mixes if rng.random() < mix.chance), None), rng


def _mixed(images: Tensor, drawn: Sequence[tuple[Mix | None, np.random.Generator]]) -> Tensor:
    """Those of ``images``, uint8 (N, H, W, 3), for which a mix was drawn, with the ones before."""
    earlier, laid = collectives.before(images), images.clone()
    for row, (mix, rng) in enumerate(drawn):
        if mix is not None:
            own, before = _planes(images[row : row + 1]), _planes(earlier[row : row + 1])
            found, _ = mix_pictures(own, mix.method, mix.alpha, rng, before=before)
            laid[row] = found[0].round().to(torch.uint8).permute(1, 2, 0)
    return laid


def _planes(pixels: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W)."""
    return pixels.permute(0, 3, 1, 2).float()
