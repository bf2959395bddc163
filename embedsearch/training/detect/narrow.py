"""Weights in 8 bits, computed with in float32.

Each output channel of a convolution has a step of its own. When the model is loaded the weights are
widened once (a Cast and a Mul of constants, which ONNX Runtime folds), so that nothing is slower.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper


def narrowed(model: ModelProto) -> ModelProto:
    """A copy whose convolutions have int8 weights."""
    made = ModelProto()
    made.CopyFrom(model)
    arrays = {item.name: item for item in made.graph.initializer}
    weights = [node.input[1] for node in made.graph.node if node.op_type == "Conv"]
    for name in dict.fromkeys(name for name in weights if name in arrays):
        weight = numpy_helper.to_array(arrays[name])
        rows, step = narrow(weight)
        made.graph.initializer.remove(arrays[name])
        made.graph.initializer.extend(
            [
                numpy_helper.from_array(rows, f"{name}.int8"),
                numpy_helper.from_array(step, f"{name}.step"),
            ]
        )
        widen = [
            helper.make_node("Cast", [f"{name}.int8"], [f"{name}.real"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}.real", f"{name}.step"], [name]),
        ]
        for node in reversed(widen):
            made.graph.node.insert(0, node)
    return made


def narrow(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 and the step of each output channel: their product is ``weight``, to half a step."""
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    step = np.maximum(largest, 1e-12).reshape(-1, *[1] * (weight.ndim - 1)) / 127
    return np.rint(weight / step).astype(np.int8), step.astype(np.float32)


def constants(graph: GraphProto) -> dict[str, NDArray[np.float32]]:
    """Constants by name, widened where :func:`narrowed` made them narrow."""
    found = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    for node in graph.node:
        known = [found.get(name) for name in node.input]
        if node.op_type == "Cast" and known[0] is not None:
            found[node.output[0]] = known[0].astype(np.float32)
        if node.op_type == "Mul" and known[0] is not None and known[1] is not None:
            found[node.output[0]] = known[0] * known[1]
    return found
