"""An ONNX image tower as a PyTorch module: what training, exports and corrections work on.

Quantisation is simulated as ONNX Runtime does it: activations rounded half to even on a step of
their own, held to 0..255; weights rounded on a step a channel; sums of products not rounded. The
steps are parameters, learned as in Esser et al., "Learned Step Size Quantization" (2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper
from torch import Tensor, nn

from embedsearch.errors import DataError
from embedsearch.training.quantize.operators import ARGUED, OPERATORS
from embedsearch.training.quantize.weights import safe_bounds

_TRAINED = ("Conv", "Gemm", "MatMul")
_QUANTISE, _DEQUANTISE = "QuantizeLinear", "DequantizeLinear"
_MIDDLING = 128
_LEAST = 1e-12
"""Units of dead channels are next to nothing, and would be divided by."""
_LEAST_SHARE = 0.05
"""Of what it was, a step may shrink to."""
Watch = Callable[[NodeProto, Any], Any]
"""Sees what a node gives, and returns what is to be gone on with."""


class OnnxModule(nn.Module):
    """A float32 or QDQ model that computes in PyTorch what ONNX Runtime computes.

    Weights, biases and steps are parameters, all other constants buffers. ``forward`` takes the
    model's input, uint8 (N, size, size, 3), and gives its output.
    """

    def __init__(self, model: ModelProto) -> None:
        """Raises :class:`~embedsearch.errors.DataError` naming operators that are not known."""
        super().__init__()
        self.model = model
        graph = model.graph
        self.nodes: list[NodeProto] = list(graph.node)
        unknown = {n.op_type for n in self.nodes} - {*OPERATORS, _QUANTISE, _DEQUANTISE, "Constant"}
        if unknown:
            raise DataError(
                "the image tower has operators that are not known here: "
                + ", ".join(sorted(unknown))
            )
        self._attributes = {
            id(node): {item.name: helper.get_attribute_value(item) for item in node.attribute}
            for node in self.nodes
        }
        self.constants: dict[str, Tensor] = {}
        self._arguments: dict[str, NDArray[Any]] = {}
        self._names: dict[str, str] = {}
        self._units: dict[str, Tensor] = {}
        arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        self._take_in(arrays)
        self._input, self._output = graph.input[0].name, graph.output[0].name
        self._last_use = self._find_last_uses()

    # What the arrays become

    def _take_in(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.quantised: dict[str, NodeProto] = {}
        """Constants that a node dequantises: weights and biases, by the name of their integers."""
        self.bounds: dict[str, tuple[Tensor, Tensor]] = {}
        steps = set()
        for node in self.nodes:
            if node.op_type == _DEQUANTISE and node.input[0] in arrays:
                self.quantised[node.input[0]] = node
            elif node.op_type in (_QUANTISE, _DEQUANTISE):
                steps.add(node.input[1])
        trained = {n for node in self.nodes if node.op_type in _TRAINED for n in node.input[1:]}
        for name, array in arrays.items():
            if name in self.quantised:
                self._take_quantised(name, array, arrays)
            elif name in steps or (name in trained and array.dtype == np.float32):
                size = np.sqrt(np.mean(np.square(array)))
                self._parameter(name, array, np.array(size).reshape((1,) * array.ndim))
            else:
                self._constant(name, array)
        for node in self.nodes:
            if node.op_type == "Constant":
                value = helper.get_attribute_value(node.attribute[0])
                self._constant(node.output[0], numpy_helper.to_array(value))

    def _constant(self, name: str, array: NDArray[Any]) -> None:
        self._arguments[name] = array
        self.constants[name] = torch.from_numpy(array.copy())

    def _take_quantised(
        self, name: str, whole: NDArray[Any], arrays: dict[str, NDArray[Any]]
    ) -> None:
        node = self.quantised[name]
        scale = arrays[node.input[1]]
        shape = self._step_shape(node, whole.ndim, scale)
        # A weight is trained in its own steps. A bias moves as one weight does that sees a middling
        # activation: equalised channels differ by orders of magnitude, and so must their updates.
        unit = scale.reshape(shape) * (1 if whole.dtype == np.int8 else _MIDDLING)
        self._parameter(name, whole.astype(np.float32) * scale.reshape(shape), unit)
        if whole.dtype == np.int8:
            depthwise = any(
                node.output[0] in other.input and self._attributes[id(other)].get("group", 1) > 1
                for other in self.nodes
            )
            low, high = safe_bounds(whole, depthwise=depthwise)
            self.bounds[name] = torch.from_numpy(low), torch.from_numpy(high)

    def _step_shape(self, node: NodeProto, ndim: int, scale: NDArray[Any]) -> tuple[int, ...]:
        if scale.size == 1:
            return (1,) * ndim
        axis = self._attributes[id(node)].get("axis", 1) % ndim
        return tuple(scale.size if place == axis else 1 for place in range(ndim))

    def _parameter(self, name: str, array: NDArray[Any], unit: NDArray[Any]) -> None:
        """Train ``array`` in multiples of ``unit``."""
        key = f"p{len(self._names)}"
        self._names[name] = key
        self._units[name] = torch.tensor(np.maximum(unit, _LEAST), dtype=torch.float32)
        start = torch.from_numpy(array.astype(np.float32)) / self._units[name]
        self.register_parameter(key, nn.Parameter(start))

    def value(self, name: str) -> Tensor:
        """What a parameter stands for, by its name in the model."""
        return cast(Tensor, getattr(self, self._names[name])) * self._units[name]

    def shift(self, name: str, by: Tensor) -> None:
        """Add to what a parameter stands for."""
        getattr(self, self._names[name]).data += by / self._units[name]

    def trained(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Weights and biases of integer layers, in steps; and what is trained as a share of its
        size: the steps of the activations, and all that stays float."""
        of_pixels = {n.input[1] for n in self.nodes if n.op_type == _DEQUANTISE}
        of_pixels -= {n.input[1] for n in self.nodes if n.op_type == _QUANTISE}
        whole, real = [], []
        for name, key in self._names.items():
            if name in self.quantised:
                whole.append(getattr(self, key))
            elif name not in of_pixels:
                real.append(getattr(self, key))
        return whole, real

    def hold(self) -> None:
        """Keep steps above 0, where an update pushed one below."""
        with torch.no_grad():
            for node in self.nodes:
                if node.op_type == _QUANTISE:
                    getattr(self, self._names[node.input[1]]).clamp_(min=_LEAST_SHARE)

    # Running

    def forward(self, pixels: Tensor) -> Tensor:
        return self.run(pixels)

    def run(self, pixels: Tensor, watch: Watch | None = None) -> Tensor:
        """From pixels to the output; ``watch`` sees, and may replace, what every node gives."""
        known: dict[str, Any] = {self._input: pixels}
        for place, node in enumerate(self.nodes):
            if node.op_type == "Constant":
                continue
            given = self._compute(node, known)
            if watch is not None:
                given = watch(node, given)
            known[node.output[0]] = given
            for name in self._last_use.get(place, ()):
                known.pop(name, None)
        return cast(Tensor, known[self._output])

    def _compute(self, node: NodeProto, known: dict[str, Any]) -> Any:
        if node.op_type == _QUANTISE:
            return self._quantise(node, known[node.input[0]])
        if node.op_type == _DEQUANTISE:
            if node.input[0] in self.quantised:
                return self._dequantised(node)
            zero = self.constants[node.input[2]].float()
            return (known[node.input[0]].float() - zero) * self.value(node.input[1])
        argued = node.op_type in ARGUED
        given = [
            self._given(name, known, argument=argued and place > 0)
            for place, name in enumerate(node.input)
        ]
        return OPERATORS[node.op_type](given, self._attributes[id(node)])

    def _given(self, name: str, known: dict[str, Any], *, argument: bool) -> Any:
        if not name:
            return None
        if name in known:
            return known[name]
        if name in self._names:
            return self.value(name)
        array = self._arguments[name]
        return array if argument or array.dtype == np.int64 else self.constants[name]

    def _quantise(self, node: NodeProto, values: Tensor) -> Tensor:
        zero = self.constants[node.input[2]].float()
        step = _gently(self.value(node.input[1]), values[0].numel(), 255)
        return (_round(values / step) + zero).clamp(0, 255)

    def _dequantised(self, node: NodeProto) -> Tensor:
        name = node.input[0]
        value = self.value(name)
        if name not in self.bounds:  # a bias: 32 bits are as good as a float
            return value
        scale = self.constants[node.input[1]]
        shape = self._step_shape(node, value.ndim, scale.numpy())
        step = scale.view(shape)
        low, high = (end * step for end in self.bounds[name])
        held = torch.maximum(torch.minimum(value, high), low)
        # No gradient through the division: the step of a dead channel is next to nothing.
        return held + ((held.detach() / step).round() * step - held).detach()

    def _find_last_uses(self) -> dict[int, list[str]]:
        """Which tensors are not needed any more after a node."""
        last = {name: place for place, node in enumerate(self.nodes) for name in node.input}
        uses: dict[int, list[str]] = {}
        for name, place in last.items():
            if name != self._output:
                uses.setdefault(place, []).append(name)
        return uses

    # Back to ONNX

    def to_onnx(self) -> ModelProto:
        """The model with the parameters as they are now, rounded as they were simulated."""
        made = ModelProto()
        made.CopyFrom(self.model)
        arrays = {item.name: item for item in made.graph.initializer}
        values = {name: self.value(name).detach().numpy() for name in self._names}
        for name, value in values.items():
            if name not in self.quantised:
                _put(arrays[name], value)
        for name, node in self.quantised.items():
            if name in self.bounds:
                step = self.constants[node.input[1]].numpy()
                whole = np.rint(
                    values[name] / step.reshape(self._step_shape(node, values[name].ndim, step))
                )
                low, high = self.bounds[name]
                _put(arrays[name], np.clip(whole, low.numpy(), high.numpy()).astype(np.int8))
        for layer in self.nodes:
            if layer.op_type in _TRAINED and len(layer.input) > 2:
                self._put_bias(layer, arrays, values)
        return made

    def _put_bias(
        self, layer: NodeProto, arrays: dict[str, Any], values: dict[str, NDArray[np.float32]]
    ) -> None:
        """A bias counts in products of the steps of activation and weight."""
        writers = {node.output[0]: node for node in self.nodes if node.op_type == _DEQUANTISE}
        entering, weight, bias = (writers.get(name) for name in list(layer.input)[:3])
        if entering is None or weight is None or bias is None:
            return
        step = values[entering.input[1]] * self.constants[weight.input[1]].numpy()
        whole = np.rint(values[bias.input[0]].astype(np.float64) / step)
        limits = np.iinfo(np.int32)
        _put(arrays[bias.input[1]], step.astype(np.float32))
        _put(arrays[bias.input[0]], np.clip(whole, limits.min, limits.max).astype(np.int32))


def _put(item: Any, array: NDArray[Any]) -> None:
    item.CopyFrom(numpy_helper.from_array(np.asarray(array, order="C"), item.name))


def _round(values: Tensor) -> Tensor:
    """Rounded, half to even; gradients pass as if it were not."""
    return values + (values.round() - values).detach()


def _gently(step: Tensor, count: int, levels: int) -> Tensor:
    """The step, its gradient scaled down as in section 2.2 of the paper."""
    share = 1 / math.sqrt(count * levels)
    return step * share + (step * (1 - share)).detach()
