"""8-bit weights that no kernel can saturate on.

On x86 processors without VNNI, uint8 x int8 products are added two by two in 16 bits (VPMADDUBSW),
which overflows at 255 * (w0 + w1) > 32767; the sum is then clipped silently and embeddings differ
from machine to machine. The usual cure is 7-bit weights; here only the sums of two neighbours are
held to 128, which keeps most of the 8 bits.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

RANGE = (-128, 127)
SAFE_SUM = 128
"""255 * 128 is the largest product sum that fits into 16 bits."""
_NEIGHBOURS = 4
"""Of a 1x1 convolution, kernels read input channels in aligned groups of four, and add two of a
group. The order in which they read larger ones is their own business: there any two may meet."""
_SHARES = np.geomspace(2.0, 0.6, 40)
"""Steps that are tried, as shares of the one by which the largest weight becomes 127. At 2, any two
weights are safe; below 1, the largest are clipped, which pays where they are few."""


def weight_scales(weight: NDArray[np.float32], *, depthwise: bool) -> NDArray[np.float32]:
    """Step sizes of an int8 weight (outputs, inputs, h, w): float32 (outputs,).

    Of the steps that cannot saturate, the one with the least squared error, each output channel
    for itself. The sums of ``depthwise`` kernels have 32 bits and cannot.
    """
    rows = weight.reshape(len(weight), -1)
    group = neighbours(weight.shape)
    widest = np.maximum(np.abs(rows).max(axis=1), np.finfo(np.float32).tiny) / 127
    best: NDArray[np.float32] = widest.astype(np.float32)
    least = np.full(len(rows), np.inf)
    for share in _SHARES:
        steps = (widest * share).astype(np.float32)
        rounded = _rounded(rows, steps[:, None])
        error = ((rounded * steps[:, None] - rows) ** 2).sum(axis=1)
        better = error < least
        if not depthwise:
            better &= _largest_sums(rounded, group) <= SAFE_SUM
        best[better], least[better] = steps[better], error[better]
    return best


def round_weight(layer: nn.Conv2d) -> Tensor:
    """The weight of a convolution as it is after quantisation, float32 of the same shape."""
    return torch.from_numpy(rounded_weight(layer.weight.detach().numpy(), layer.groups > 1))


def rounded_weight(weight: NDArray[np.float32], depthwise: bool) -> NDArray[np.float32]:
    """A weight (outputs, inputs, h, w) as it is after quantisation, float32 of the same shape."""
    steps = weight_scales(weight, depthwise=depthwise).reshape(-1, *[1] * (weight.ndim - 1))
    return _rounded(weight, steps) * steps


def safe_bounds(
    whole: NDArray[np.int8], *, depthwise: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How far each weight in whole steps may move so that no two that meet leave 16 bits.

    Lowest and highest, float32 in the shape of ``whole``. Half of :data:`SAFE_SUM` is safe for
    any; where one is larger already, its neighbours are held to what it leaves.
    """
    if depthwise:
        return (
            np.full(whole.shape, RANGE[0], np.float32),
            np.full(whole.shape, RANGE[1], np.float32),
        )
    group = neighbours(whole.shape)
    rows = whole.astype(np.float32).reshape(-1, group)
    low, high = -_highest(-rows), _highest(rows)
    return (
        np.maximum(low, RANGE[0]).reshape(whole.shape),
        np.minimum(high, RANGE[1]).reshape(whole.shape),
    )


def _highest(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far the positive ones among weights that meet, (groups, weights), may go."""
    half = np.float32(SAFE_SUM / 2)
    top = np.maximum(rows.max(axis=1), half)
    bounds = np.repeat(SAFE_SUM - top[:, None], rows.shape[1], axis=1)
    bounds[np.arange(len(rows)), rows.argmax(axis=1)] = top
    return bounds


def neighbours(shape: tuple[int, ...]) -> int:
    """How many weights of a row, aligned, may meet in one sum of 16 bits."""
    inputs = int(np.prod(shape[1:]))
    return _NEIGHBOURS if shape[2:] == (1, 1) and inputs % _NEIGHBOURS == 0 else inputs


def _rounded(weight: NDArray[np.float32], steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whole steps, as ONNX's QuantizeLinear counts them."""
    whole: NDArray[np.float32] = np.clip(np.rint(weight / steps), *RANGE)
    return whole


def _largest_sums(rows: NDArray[np.float32], group: int) -> NDArray[np.float32]:
    """The largest sum of two weights of one sign within an aligned group, for each row."""

    def of_positive(parts: NDArray[np.float32]) -> NDArray[np.float32]:
        grouped = np.maximum(parts, 0).reshape(len(rows), -1, group)
        top = np.partition(grouped, -2, axis=2)[..., -2:] if group > 1 else grouped
        sums: NDArray[np.float32] = top.sum(axis=2).max(axis=1)
        return sums

    return np.maximum(of_positive(rows), of_positive(-rows))
