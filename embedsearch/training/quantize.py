"""Static 8-bit quantisation of the image tower: uint8 activations, int8 weights a channel, QDQ.

Weights are chosen so that no kernel can saturate. On x86 processors without VNNI, uint8 x int8
products are added two by two in 16 bits (VPMADDUBSW), which overflows at 255 * (w0 + w1) > 32767;
the sum is then clipped silently and embeddings differ from machine to machine. The usual cure is
7-bit weights; here only the sums of two neighbours are held to 128, which keeps most of the 8 bits.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from torch import Tensor, nn

from embedsearch.errors import DataError
from embedsearch.training.export import INPUT
from embedsearch.training.folding import GREY

_RANGE = (-128, 127)
_SAFE_SUM = 128
"""255 * 128 is the largest product sum that fits into 16 bits."""
_NEIGHBOURS = 4
"""Of a 1x1 convolution, kernels read input channels in aligned groups of four, and add two of a
group. The order in which they read larger ones is their own business: there any two may meet."""
_SHARES = np.geomspace(2.0, 0.6, 40)
"""Steps that are tried, as shares of the one by which the largest weight becomes 127. At 2, any two
weights are safe; below 1, the largest are clipped, which pays where they are few."""
_PERCENTILE = 99.99
"""Share of the values seen that an activation's range covers. Else a few outliers would decide how
coarse all other values become."""


def weight_scales(weight: NDArray[np.float32], *, depthwise: bool) -> NDArray[np.float32]:
    """Step sizes of an int8 weight (outputs, inputs, h, w): float32 (outputs,).

    Of the steps that cannot saturate, the one with the least squared error, each output channel
    for itself. The sums of ``depthwise`` kernels have 32 bits and cannot.
    """
    rows = weight.reshape(len(weight), -1)
    inputs = rows.shape[1]
    group = _NEIGHBOURS if weight.shape[2:] == (1, 1) and inputs % _NEIGHBOURS == 0 else inputs
    widest = np.maximum(np.abs(rows).max(axis=1), np.finfo(np.float32).tiny) / 127
    best: NDArray[np.float32] = widest.astype(np.float32)
    least = np.full(len(rows), np.inf)
    for share in _SHARES:
        steps = (widest * share).astype(np.float32)
        rounded = _rounded(rows, steps[:, None])
        error = ((rounded * steps[:, None] - rows) ** 2).sum(axis=1)
        better = error < least
        if not depthwise:
            better &= _largest_sums(rounded, group) <= _SAFE_SUM
        best[better], least[better] = steps[better], error[better]
    return best


def round_weight(layer: nn.Conv2d) -> Tensor:
    """The weight of a convolution as it is after quantisation, float32 of the same shape."""
    weight = layer.weight.detach().numpy()
    steps = weight_scales(weight, depthwise=layer.groups > 1).reshape(-1, 1, 1, 1)
    return torch.from_numpy(_rounded(weight, steps) * steps)


def quantize_backbone(backbone: ModelProto, photos: Iterable[NDArray[np.uint8]]) -> ModelProto:
    """Quantise an exported backbone; activation ranges are what nearly all values seen fall in.

    ``photos`` are uint8 (size, size, 3) training photos. Pooling stays float32. Pixels enter the
    first convolution as the 8-bit numbers they are: zero point ``GREY``, step 1/255.
    """
    entry = _entry(backbone)
    overrides = {
        name: [
            {"axis": 0, "scale": np.array(s), "zero_point": np.array(0, np.int8)} for s in scales
        ]
        for name, scales in _scales_by_name(backbone)
    }
    overrides[entry] = [
        {"scale": np.array(1 / 255, np.float32), "zero_point": np.array(GREY, np.uint8)}
    ]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        onnx.save(backbone, source)
        with redirect_stdout(io.StringIO()):  # the library prints its histogram settings
            quantize_static(
                source,
                target,
                _Photos(photos),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                op_types_to_quantize=["Conv", "Relu", "Add"],
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={
                    "TensorQuantOverrides": overrides,
                    "CalibPercentile": _PERCENTILE,
                },
            )
        quantised = onnx.load(target)
    _enter_as_pixels(quantised, entry)
    onnx.checker.check_model(quantised)
    return quantised


class _Photos(CalibrationDataReader):
    def __init__(self, photos: Iterable[NDArray[np.uint8]]) -> None:
        self._photos = iter(photos)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        photo = next(self._photos, None)
        return None if photo is None else {INPUT: photo[None]}


def _rounded(weight: NDArray[np.float32], steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whole steps, as ONNX's QuantizeLinear counts them."""
    whole: NDArray[np.float32] = np.clip(np.rint(weight / steps), *_RANGE)
    return whole


def _largest_sums(rows: NDArray[np.float32], group: int) -> NDArray[np.float32]:
    """The largest sum of two weights of one sign within an aligned group, for each row."""

    def of_positive(parts: NDArray[np.float32]) -> NDArray[np.float32]:
        grouped = np.maximum(parts, 0).reshape(len(rows), -1, group)
        top = np.partition(grouped, -2, axis=2)[..., -2:] if group > 1 else grouped
        sums: NDArray[np.float32] = top.sum(axis=2).max(axis=1)
        return sums

    return np.maximum(of_positive(rows), of_positive(-rows))


def _scales_by_name(backbone: ModelProto) -> Iterator[tuple[str, NDArray[np.float32]]]:
    arrays = {item.name: item for item in backbone.graph.initializer}
    for node in backbone.graph.node:
        if node.op_type == "Conv":
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            weight = numpy_helper.to_array(arrays[node.input[1]])
            yield node.input[1], weight_scales(weight, depthwise=groups > 1)


def _entry(backbone: ModelProto) -> str:
    """Name of the tensor that enters the first convolution."""
    for node in backbone.graph.node:
        if node.op_type == "Conv":
            return str(node.input[0])
    raise DataError("the network to be quantised has no convolution")


def _enter_as_pixels(quantised: ModelProto, entry: str) -> None:
    """Cut out what turns pixels to floats and back: quantised, that is the pixels themselves."""
    graph = quantised.graph
    writer: dict[str, Any] = {name: node for node in graph.node for name in node.output}
    quantise = next(n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == entry)
    superfluous = [quantise]
    tensor = quantise.input[0]
    while writer[tensor].op_type != "Transpose":
        superfluous.append(writer[tensor])
        tensor = writer[tensor].input[0]
    for node in graph.node:
        node.input[:] = [tensor if name == quantise.output[0] else name for name in node.input]
    for node in superfluous:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for item in [item for item in graph.initializer if item.name not in used]:
        graph.initializer.remove(item)
    del graph.value_info[:]
