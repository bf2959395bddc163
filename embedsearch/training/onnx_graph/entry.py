"""Pixels enter the first convolution as the bytes they are.

Towers begin by turning bytes into normalised floats. Quantised, that is a detour: the bytes are an
8-bit tensor already. Scale and mean are folded into the first convolution.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from embedsearch.training.onnx_graph.graph import Graph, attribute, session

_ALLOWED = frozenset(["Transpose", "Cast", "Slice", "Sub", "Add", "Mul", "Div", "Identity"])
_STEP = 255.0


def fold_entry(graph: Graph) -> int | None:
    """Let the first convolution take (pixels - grey) / 255 where it took normalised pixels.

    Returns ``grey``, which is also what its zero padding means from then on: where the channels
    have means of their own, the outermost row and column see one grey behind the border where they
    saw the mean colour. ``None``, and nothing changed, where the way from the pixels to the first
    convolution is none of scaling and shifting channels.
    """
    first = next(node for node in graph.nodes if node.op_type == "Conv")
    chain = _chain(graph, first)
    affine = entry_affine(graph, first)
    if chain is None or affine is None or attribute(first, "group", 1) != 1:
        return None
    slope, shift = affine
    grey = int(np.clip(np.rint(-(shift / slope).mean()), 0, 255))
    weight = graph.weight(first)
    bias = graph.array(first.input[2]) if len(first.input) > 2 and first.input[2] else None
    constant = np.einsum("oihw,i->o", weight, shift + slope * grey)
    graph.set_input(first, 1, (weight * (slope * _STEP)[None, :, None, None]).astype(np.float32))
    graph.set_input(first, 2, (constant + (0 if bias is None else bias)).astype(np.float32))
    _replace_chain(graph, chain, first, grey)
    return grey


def entry_affine(
    graph: Graph, first: NodeProto
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Slope and shift of each channel, float32 (3,), by which pixels become what ``first`` takes;
    ``None`` where it takes anything else."""
    chain = _chain(graph, first)
    return None if chain is None else _affine(graph, chain, first.input[0])


def entry_override(grey: int) -> list[dict[str, Any]]:
    """How the tensor of :func:`fold_entry` is to be quantised."""
    return [{"scale": np.array(1 / _STEP, np.float32), "zero_point": np.array(grey, np.uint8)}]


def _chain(graph: Graph, first: NodeProto) -> list[NodeProto] | None:
    """The nodes from the pixels to ``first``, each read by the next alone."""
    chain: list[NodeProto] = []
    tensor = first.input[0]
    while tensor != graph.model.graph.input[0].name:
        node = graph.writers.get(tensor)
        if node is None or node.op_type not in _ALLOWED or len(graph.readers[tensor]) != 1:
            return None
        chain.insert(0, node)
        computed = [name for name in node.input if graph.array(name) is None]
        if len(computed) != 1:
            return None
        tensor = computed[0]
    kinds = [node.op_type for node in chain]
    return chain if kinds.count("Transpose") == 1 else None


def _affine(
    graph: Graph, chain: list[NodeProto], tensor: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Slope and shift of each channel over the pixel's value; ``None`` if it is anything else."""
    made = helper.make_graph(
        chain,
        "entry",
        list(graph.model.graph.input),
        [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None)],
        list(graph.model.graph.initializer),
    )
    model = helper.make_model(
        made, opset_imports=graph.model.opset_import, ir_version=graph.model.ir_version
    )
    running = session(model)
    entering = running.get_inputs()[0]
    name, shape = entering.name, entering.shape[1:]
    at = [
        running.run(None, {name: np.full((1, *shape), value, np.uint8)})[0][0].astype(np.float64)
        for value in (0, 100, 255)
    ]
    low, middle, high = (values.reshape(len(values), -1) for values in at)
    slope, shift = (high[:, 0] - low[:, 0]) / 255, low[:, 0]
    straight = np.allclose(middle[:, 0], shift + slope * 100, atol=1e-4)
    even = all(np.ptp(values, axis=1).max() == 0 for values in (low, middle, high))
    if not (straight and even and (slope > 0).all() and len(slope) == 3):
        return None
    return slope.astype(np.float32), shift.astype(np.float32)


def _replace_chain(graph: Graph, chain: list[NodeProto], first: NodeProto, grey: int) -> None:
    """Cutting and transposing stay, on bytes; then comes what is folded away when quantised."""
    nodes = graph.model.graph.node
    tensor = graph.model.graph.input[0].name
    made: list[NodeProto] = []
    for node in chain:
        if node.op_type in ("Transpose", "Slice"):
            kept = NodeProto()
            kept.CopyFrom(node)
            kept.input[0] = tensor
            tensor = kept.output[0] = f"{node.name}.bytes"
            made.append(kept)
        nodes.remove(node)
    graph.model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(grey, np.float32), "entry.grey"),
            numpy_helper.from_array(np.array(_STEP, np.float32), "entry.step"),
        ]
    )
    made += [
        helper.make_node("Cast", [tensor], ["entry.real"], "entry.cast", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["entry.real", "entry.grey"], ["entry.even"], "entry.sub"),
        helper.make_node("Div", ["entry.even", "entry.step"], ["entry"], "entry.div"),
    ]
    first.input[0] = "entry"
    for node in reversed(made):
        nodes.insert(0, node)
    del graph.model.graph.value_info[:]
    graph.drop_unused()


def enter_as_pixels(quantised: ModelProto, entry: str) -> None:
    """Cut out what turns pixels to floats and back: quantised, that is the pixels themselves."""
    graph = quantised.graph
    writer: dict[str, Any] = {name: node for node in graph.node for name in node.output}
    quantise = next(n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == entry)
    superfluous = [quantise]
    tensor = quantise.input[0]
    while writer[tensor].op_type not in ("Transpose", "Slice"):
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
