"""Static 8-bit quantisation of the image tower: uint8 activations, int8 weights a channel, QDQ.

Weights are chosen so that no kernel can saturate. On x86 processors without VNNI, uint8 x int8
products are added two by two in 16 bits (VPMADDUBSW), which overflows at 255 * (w0 + w1) > 32767;
the sum is then clipped silently and embeddings differ from machine to machine. The usual cure is
7-bit weights; here only the sums of two neighbours are held to 128, which leaves most channels
nearly their full 8 bits.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
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

_LARGEST = 127
_SAFE_SUM = 127
"""Of two weights before rounding, which may add 1: 255 * 128 is the most that 16 bits can hold."""
_NEIGHBOURS = 4
"""Kernels read input channels in aligned groups of four and add two of each group."""


def weight_scales(weight: NDArray[np.float32], *, depthwise: bool) -> NDArray[np.float32]:
    """Step sizes of an int8 weight (outputs, inputs, h, w): float32 (outputs,).

    Each is the smallest that neither clips a weight nor can saturate.
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    peak = np.maximum(np.abs(rows).max(axis=1), np.finfo(np.float32).tiny)
    if depthwise:  # these kernels add in 32 bits
        safe = peak / _LARGEST
    elif weight.shape[2:] == (1, 1) and rows.shape[1] % _NEIGHBOURS == 0:
        safe = np.maximum(peak / _LARGEST, _neighbour_sums(rows) / _SAFE_SUM)
    else:  # the order in which a larger kernel is read is the library's own business
        safe = peak / (_LARGEST // 2)
    scales: NDArray[np.float32] = safe.astype(np.float32)
    return scales


def round_weight(layer: nn.Conv2d) -> Tensor:
    """The weight of a convolution as it is after quantisation, float32 of the same shape."""
    weight = layer.weight.detach().numpy()
    scales = weight_scales(weight, depthwise=layer.groups > 1).reshape(-1, 1, 1, 1)
    return torch.from_numpy(np.clip(np.rint(weight / scales), -_LARGEST, _LARGEST) * scales)


def quantize_backbone(backbone: ModelProto, photos: Iterable[NDArray[np.uint8]]) -> ModelProto:
    """Quantise an exported backbone; activation ranges are the least and largest values seen.

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
        quantize_static(
            source,
            target,
            _Photos(photos),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["Conv", "Relu", "Add"],
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"TensorQuantOverrides": overrides},
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


def _neighbour_sums(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest sum of two weights of one sign within a group of four, for each row."""
    groups = rows.reshape(len(rows), -1, _NEIGHBOURS)

    def two_largest(parts: NDArray[np.float64]) -> NDArray[np.float64]:
        sums: NDArray[np.float64] = np.sort(np.maximum(parts, 0), axis=2)[..., -2:].sum(2).max(1)
        return sums

    return np.maximum(two_largest(groups), two_largest(-groups))


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
