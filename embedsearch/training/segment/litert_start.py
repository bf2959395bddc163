"""The MobileNetV2 inside a LiteRT file, 8-bit or not, as a PyTorch network again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedsearch.errors import DataError, MissingExtraError
from embedsearch.training.segment.pyramid import tensorflow_mobilenetv2

PREFIX = "litert:"
_BYTE = 255


@dataclass(frozen=True)
class LiteRTStart:
    """What an encoder starts from."""

    network: nn.Sequential
    """Stem and 17 blocks, in evaluation mode, BatchNorm folded into the convolutions' numbers."""
    mean: tuple[float, float, float]
    """Of RGB in [0, 1]."""
    std: tuple[float, float, float]
    behind: list[tuple[Tensor, Tensor]]
    """Weights and biases of the convolutions behind it, as PyTorch has them."""


def read_mobilenetv2(file: Path) -> LiteRTStart:
    """The first 51 convolutions of a file whose network begins with MobileNetV2 1.0 in
    TensorFlow's layout, as its classifiers, DeepLab and SSD do. Weights are what the integers stand
    for; strides and dilations are not read, as they are the decoder's to choose.

    Raises :class:`~embedsearch.errors.DataError` naming what does not fit and, without
    ``ai-edge-litert``, :class:`~embedsearch.errors.MissingExtraError`.
    """
    model = _model(file)
    graph = model.subgraphs[0]
    network, read = tensorflow_mobilenetv2(), list(_convolutions(model))
    units = _units(network)
    if len(read) < len(units):
        raise DataError(f"{file}: has {len(read)} convolutions, MobileNetV2 1.0 has {len(units)}")

    def numbers(place: int) -> tuple[Tensor, Tensor]:
        weight, bias, depthwise = read[place]
        order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
        kernels = _real(graph.tensors[weight], model.buffers).transpose(order)
        return torch.tensor(kernels), torch.tensor(_real(graph.tensors[bias], model.buffers))

    for place, (layer, norm) in enumerate(units):
        weight, bias = numbers(place)
        if weight.shape != layer.weight.shape:
            raise DataError(
                f"{file}: convolution {place} is {tuple(weight.shape)} where MobileNetV2 1.0 has "
                f"{tuple(layer.weight.shape)}"
            )
        with torch.no_grad():
            layer.weight.copy_(weight)
            norm.bias.copy_(bias)
            norm.weight.fill_((1 + norm.eps) ** 0.5)  # so that the unit leaves values alone
    mean, std = _scaling(graph.tensors[graph.inputs[0]])
    behind = [numbers(place) for place in range(len(units), len(read))]
    return LiteRTStart(network.eval(), mean, std, behind)


def _model(file: Path) -> Any:
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise MissingExtraError("litert:FILE", "litert") from error
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    if content[4:8] != b"TFL3":
        raise DataError(f"{file}: is no LiteRT file")
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def _convolutions(model: Any) -> Iterator[tuple[int, int, bool]]:
    """Numbers of the tensors of weights and biases, and whether each channel is by itself, in the
    order in which they run."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    for step in model.subgraphs[0].operators:
        kind = codes[step.opcodeIndex]
        if kind in (BuiltinOperator.CONV_2D, BuiltinOperator.DEPTHWISE_CONV_2D):
            yield step.inputs[1], step.inputs[2], kind == BuiltinOperator.DEPTHWISE_CONV_2D


def _units(network: nn.Sequential) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    layers = [each for each in network.modules() if isinstance(each, nn.Conv2d | nn.BatchNorm2d)]
    return cast(
        list[tuple[nn.Conv2d, nn.BatchNorm2d]], list(zip(layers[::2], layers[1::2], strict=True))
    )


def _real(tensor: Any, buffers: Any) -> NDArray[np.float32]:
    """A stored tensor, its integers as the numbers they stand for."""
    from ai_edge_litert.schema_py_generated import TensorType

    kinds: dict[int, Any] = {
        TensorType.FLOAT32: np.float32,
        TensorType.INT32: np.int32,
        TensorType.UINT8: np.uint8,
        TensorType.INT8: np.int8,
    }
    data = buffers[tensor.buffer].data
    if data is None or tensor.type not in kinds:
        return np.empty(0, np.float32)
    stored = np.frombuffer(np.asarray(data, np.uint8).tobytes(), kinds[tensor.type])
    values = stored.reshape(tensor.shape).astype(np.float64)
    steps = tensor.quantization
    if steps is not None and steps.scale is not None and len(steps.scale):
        wide = [1] * values.ndim
        wide[steps.quantizedDimension if len(steps.scale) > 1 else 0] = len(steps.scale)
        zero = np.asarray(steps.zeroPoint, np.float64).reshape(wide)
        values = (values - zero) * np.asarray(steps.scale, np.float64).reshape(wide)
    return values.astype(np.float32)


def _scaling(pixels: Any) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and deviation, of RGB in [0, 1], by which bytes become what the network takes: of a file
    that takes bytes its own, else those of TensorFlow's MobileNets, which take -1 to 1."""
    steps = pixels.quantization
    mean, std = 0.5, 0.5
    if steps is not None and steps.scale is not None and len(steps.scale):
        mean = float(steps.zeroPoint[0]) / _BYTE
        std = 1 / (float(steps.scale[0]) * _BYTE)
    return (mean, mean, mean), (std, std, std)
