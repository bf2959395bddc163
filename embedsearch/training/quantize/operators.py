"""ONNX operators in PyTorch: as many as image towers are made of.

Each function takes what a node is given and the node's attributes, and returns what it gives.
Given are tensors, ``None`` for what is left out, and numpy arrays for shapes and for the constants
of :data:`ARGUED` operators: these are no part of what is computed, and must not be traced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

ARGUED = frozenset(
    [
        "Clip",
        "Slice",
        "Pad",
        "Reshape",
        "Expand",
        "Squeeze",
        "Unsqueeze",
        "Gather",
        "ReduceMean",
        "ReduceSum",
        "ReduceMax",
        "ReduceL2",
        "Resize",
    ]
)
"""Operators whose constant inputs, but for the first, are arguments rather than values."""
Operator = Callable[[list[Any], Mapping[str, Any]], Any]
_DTYPES = {1: torch.float32, 2: torch.uint8, 6: torch.int32, 7: torch.int64, 11: torch.float64}


def _conv(given: list[Any], about: Mapping[str, Any]) -> Tensor:
    maps, weight, bias = (*given, None)[:3]
    maps, padding = _padded(maps, about, 0.0)
    return functional.conv2d(
        maps,
        weight,
        bias,
        about.get("strides", [1, 1]),
        padding,
        about.get("dilations", [1, 1]),
        about.get("group", 1),
    )


def _max_pool(given: list[Any], about: Mapping[str, Any]) -> Tensor:
    maps, padding = _padded(given[0], about, -torch.inf)
    pooled: Tensor = functional.max_pool2d(
        maps,
        about["kernel_shape"],
        about.get("strides", [1, 1]),
        padding,
        about.get("dilations", [1, 1]),
        bool(about.get("ceil_mode", 0)),
    )
    return pooled


def _average_pool(given: list[Any], about: Mapping[str, Any]) -> Tensor:
    maps, padding = _padded(given[0], about, 0.0)
    return functional.avg_pool2d(
        maps,
        about["kernel_shape"],
        about.get("strides", [1, 1]),
        padding,
        bool(about.get("ceil_mode", 0)),
        bool(about.get("count_include_pad", 0)),
    )


def _padded(maps: Tensor, about: Mapping[str, Any], value: float) -> tuple[Tensor, list[int]]:
    """Maps, and the padding that PyTorch's operators are to add: the same at opposite sides."""
    top, left, bottom, right = about.get("pads", [0, 0, 0, 0])
    if (top, left) == (bottom, right):
        return maps, [top, left]
    return functional.pad(maps, (left, right, top, bottom), value=value), [0, 0]


def _gemm(given: list[Any], about: Mapping[str, Any]) -> Tensor:
    rows, weight, bias = (*given, None)[:3]
    rows = rows.T if about.get("transA", 0) else rows
    weight = weight.T if about.get("transB", 0) else weight
    product: Tensor = about.get("alpha", 1.0) * (rows @ weight)
    return product if bias is None else product + about.get("beta", 1.0) * bias


def _clip(given: list[Any], about: Mapping[str, Any]) -> Tensor:
    maps, low, high = (*given, None, None)[:3]
    low = about.get("min") if low is None else float(low)
    high = about.get("max") if high is None else float(high)
    clipped: Tensor = maps.clamp(low, high)
    return clipped


def _reduce(reduce: Callable[..., Tensor]) -> Operator:
    def run(given: list[Any], about: Mapping[str, Any]) -> Tensor:
        axes = about.get("axes") if len(given) < 2 or given[1] is None else given[1].tolist()
        axes = tuple(range(given[0].ndim)) if axes is None else tuple(axes)
        return reduce(given[0], axes, bool(about.get("keepdims", 1)))

    return run


def _slice(given: list[Any], about: Mapping[str, Any]) -> Tensor:
    starts, ends, axes, steps = (*given[1:], None, None)[:4]
    tensor: Tensor = given[0]
    places = range(len(starts)) if axes is None else axes.tolist()
    for place, axis in enumerate(places):
        step = 1 if steps is None else int(steps[place])
        cut = [slice(None)] * tensor.ndim
        end = min(int(ends[place]), tensor.shape[axis])
        cut[axis] = slice(int(starts[place]), end, step)
        tensor = tensor[tuple(cut)]
    return tensor


def _pad(given: list[Any], about: Mapping[str, Any]) -> Tensor:
    tensor, pads = given[0], given[1].tolist()
    value = float(given[2]) if len(given) > 2 and given[2] is not None else 0.0
    half = len(pads) // 2
    both = [side for axis in reversed(range(half)) for side in (pads[axis], pads[axis + half])]
    return functional.pad(tensor, both, about.get("mode", b"constant").decode(), value)


def _reshape(given: list[Any], about: Mapping[str, Any]) -> Tensor:
    tensor, shape = given[0], given[1].tolist()
    reshaped: Tensor = tensor.reshape(
        [tensor.shape[axis] if side == 0 else side for axis, side in enumerate(shape)]
    )
    return reshaped


def _expand(given: list[Any], about: Mapping[str, Any]) -> Tensor:
    expanded: Tensor = given[0].expand(torch.broadcast_shapes(given[0].shape, given[1].tolist()))
    return expanded


def _flatten(given: list[Any], about: Mapping[str, Any]) -> Tensor:
    flat: Tensor = given[0].flatten(about.get("axis", 1))
    return flat


def _squeeze(given: list[Any], about: Mapping[str, Any]) -> Tensor:
    axes = about.get("axes") if len(given) < 2 else given[1].tolist()
    squeezed: Tensor = given[0].squeeze() if axes is None else given[0].squeeze(tuple(axes))
    return squeezed


def _unsqueeze(given: list[Any], about: Mapping[str, Any]) -> Any:
    tensor = given[0]
    for axis in sorted(about["axes"] if len(given) < 2 else given[1].tolist()):
        shape = isinstance(tensor, np.ndarray)
        tensor = np.expand_dims(tensor, axis) if shape else tensor.unsqueeze(axis)
    return tensor


def _gather(given: list[Any], about: Mapping[str, Any]) -> Any:
    values, places = given[0], np.asarray(given[1])
    axis = about.get("axis", 0)
    if isinstance(values, np.ndarray):
        return np.take(values, places, axis)
    taken = values.index_select(axis, torch.from_numpy(places.reshape(-1)).to(values.device))
    return taken.reshape(*values.shape[:axis], *places.shape, *values.shape[axis + 1 :])


def _concat(given: list[Any], about: Mapping[str, Any]) -> Any:
    if isinstance(given[0], np.ndarray):
        return np.concatenate(given, about["axis"])
    return torch.cat(given, about["axis"])


def _resize(given: list[Any], about: Mapping[str, Any]) -> Tensor:
    """By the nearest pixel or bilinearly, as PyTorch does and exports it."""
    maps, _, scales, sizes = (*given, None, None)[:4]
    mode = {b"nearest": "nearest", b"linear": "bilinear"}[about.get("mode", b"nearest")]
    how = about.get("coordinate_transformation_mode", b"half_pixel")
    if sizes is None:
        sizes = np.floor(np.array(maps.shape) * scales)
    sides = [int(side) for side in sizes[2:]]
    corners = how == b"align_corners" if mode == "bilinear" else None
    resized: Tensor = functional.interpolate(maps, sides, mode=mode, align_corners=corners)
    return resized


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda given, about: function(given[0])


def _binary(function: Callable[[Any, Any], Any]) -> Operator:
    return lambda given, about: function(given[0], given[1])


def _normalise(given: list[Any], about: Mapping[str, Any]) -> Tensor:
    return functional.normalize(given[0], about.get("p", 2), about.get("axis", -1))


def _layer_norm(given: list[Any], about: Mapping[str, Any]) -> Tensor:
    tensor, weight, bias = (*given, None)[:3]
    shape = tensor.shape[about.get("axis", -1) :]
    return functional.layer_norm(tensor, shape, weight, bias, about.get("epsilon", 1e-5))


OPERATORS: dict[str, Operator] = {
    "Conv": _conv,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _unary(lambda maps: maps.mean((2, 3), keepdim=True)),
    "GlobalMaxPool": _unary(lambda maps: maps.amax((2, 3), keepdim=True)),
    "Gemm": _gemm,
    "MatMul": _binary(torch.matmul),
    "Relu": _unary(torch.relu),
    "LeakyRelu": lambda given, about: functional.leaky_relu(given[0], about.get("alpha", 0.01)),
    "PRelu": lambda given, about: given[0].clamp(min=0) + given[1] * given[0].clamp(max=0),
    "Clip": _clip,
    "Sigmoid": _unary(torch.sigmoid),
    "HardSigmoid": lambda given, about: (
        given[0] * about.get("alpha", 0.2) + about.get("beta", 0.5)
    ).clamp(0, 1),
    "HardSwish": _unary(functional.hardswish),
    "Gelu": lambda given, about: functional.gelu(
        given[0], approximate=about.get("approximate", b"none").decode()
    ),
    "Erf": _unary(torch.erf),
    "Tanh": _unary(torch.tanh),
    "Exp": _unary(torch.exp),
    "Log": _unary(torch.log),
    "Sqrt": _unary(torch.sqrt),
    "Abs": _unary(torch.abs),
    "Neg": _unary(torch.neg),
    "Reciprocal": _unary(torch.reciprocal),
    "Identity": _unary(lambda tensor: tensor),
    "Softmax": lambda given, about: given[0].softmax(about.get("axis", -1)),
    "Add": _binary(lambda one, other: one + other),
    "Sub": _binary(lambda one, other: one - other),
    "Mul": _binary(lambda one, other: one * other),
    "Div": _binary(lambda one, other: one / other),
    "Pow": _binary(lambda one, other: one**other),
    "Max": _binary(torch.maximum),
    "Min": _binary(torch.minimum),
    "Concat": _concat,
    "Resize": _resize,
    "Cast": lambda given, about: given[0].to(_DTYPES[about["to"]]),
    "Transpose": lambda given, about: given[0].permute(about["perm"]),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Expand": _expand,
    "Shape": lambda given, about: np.array(given[0].shape, np.int64),
    "Gather": _gather,
    "Slice": _slice,
    "Pad": _pad,
    "ReduceMean": _reduce(lambda tensor, axes, keep: tensor.mean(axes, keepdim=keep)),
    "ReduceSum": _reduce(lambda tensor, axes, keep: tensor.sum(axes, keepdim=keep)),
    "ReduceMax": _reduce(lambda tensor, axes, keep: tensor.amax(axes, keepdim=keep)),
    "ReduceL2": _reduce(lambda tensor, axes, keep: tensor.norm(dim=axes, keepdim=keep)),
    "LpNormalization": _normalise,
    "LayerNormalization": _layer_norm,
}
