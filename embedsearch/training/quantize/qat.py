"""Quantisation-aware training: the network learns to live with 8 bits.

The float32 tower is the teacher and its embeddings the target, so that photos are all it takes: no
labels, no captions. Weights, biases and the steps of the activations are trained; the steps come
out as the scales of the ONNX file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor

from embedsearch.encoders.folder import EncoderFolder
from embedsearch.encoders.preprocess import to_square
from embedsearch.training.data.pixels import load_pixels, view_pixels
from embedsearch.training.onnx_graph.graph import session
from embedsearch.training.quantize.simulate import OnnxModule

_CROPPED = 2
"""The first view that is a random part; before it come the photo and its mirror image."""
_REAL_SHARE = 0.02
"""A weight has some 40 steps; scales and float weights move by as small a share of their size."""


@dataclass(frozen=True)
class Training:
    """How long and how fast."""

    epochs: int = 0
    photos: int = 1024
    """Photos of an epoch, at most."""
    batch: int = 8
    rate: float = 0.01
    """How far a weight moves in an update at most, in steps of its own 8 bits."""
    warm_up: int = 20
    """Steps."""


Told = Callable[[int, int, float], object]
"""Told the epoch, how many there are, and the mean of 1 - cosine to the teacher."""


def train(
    quantised: ModelProto,
    teacher: ModelProto,
    photos: Sequence[Path],
    about: EncoderFolder,
    training: Training,
    seed: int,
    told: Told = lambda epoch, epochs, loss: None,
) -> ModelProto:
    """The quantised model after training on ``photos`` towards the embeddings of ``teacher``.

    Raises :class:`~embedsearch.errors.DataError` for operators that cannot be trained, and for a
    photo that cannot be read.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    module = OnnxModule(quantised)
    target = _Teacher(teacher)
    photos = list(photos[: training.photos])
    steps = training.epochs * math.ceil(len(photos) / training.batch)
    optimizer = _optimizer(module, training.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _share(step, steps, training.warm_up)
    )
    for epoch in range(1, training.epochs + 1):
        losses = []
        for squares in _batches(photos, about, training.batch, rng):
            rows = torch.nn.functional.normalize(module(torch.from_numpy(squares)), dim=1)
            loss = 1 - (rows * target(squares)).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            module.hold()
            losses.append(loss.item())
        told(epoch, training.epochs, float(np.mean(losses)))
    return module.to_onnx()


class _Teacher:
    """Embeddings of the float32 tower, float32 (N, dim) of unit length."""

    def __init__(self, model: ModelProto) -> None:
        self._session = session(model)
        self._name = self._session.get_inputs()[0].name

    def __call__(self, squares: NDArray[np.uint8]) -> Tensor:
        rows = torch.from_numpy(self._session.run(None, {self._name: squares})[0])
        return torch.nn.functional.normalize(rows, dim=1)


def _batches(
    photos: Sequence[Path], about: EncoderFolder, batch: int, rng: np.random.Generator
) -> Iterator[NDArray[np.uint8]]:
    """One epoch: every photo once, as it is, mirrored, or a random part of it."""
    order = rng.permutation(len(photos))
    for start in range(0, len(order), batch):
        views = []
        for place in order[start : start + batch]:
            pixels = load_pixels(photos[place], about.input_size)
            pixels = view_pixels(pixels, int(rng.integers(_CROPPED + 1)), rng)
            views.append(to_square(pixels, about.input_size, about.resize, about.interpolation))
        yield np.stack(views)


def _optimizer(module: OnnxModule, rate: float) -> torch.optim.Optimizer:
    whole, real = module.trained()
    return torch.optim.Adam(
        [{"params": whole, "lr": rate}, {"params": real, "lr": rate * _REAL_SHARE}]
    )


def _share(step: int, steps: int, warm_up: int) -> float:
    """Linear warm-up, then half a cosine down to 0."""
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))
