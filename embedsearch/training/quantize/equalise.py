"""Evening out the channels of any ReLU network before it is quantised.

What :mod:`embedsearch.training.mini.equalise` does for one architecture, on any graph: Nagel et
al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019). A channel may
be made smaller by the layers that write it and larger by those that read it, as long as all between
passes positive factors through. Channels that are added to each other share one factor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from embedsearch.training.onnx_graph.graph import Graph, attribute, session

BALANCE = 0.5
"""How far a factor evens out the activations (1) rather than the next weights (0)."""
_SMALLEST = 1e-3
"""Channels below this share of the largest are as good as dead; they are not blown up further."""
_PASSING = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "Identity", "Add")
"""What passes a positive factor of a channel through."""
_AVERAGING = ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax")
"""What does so at the end of a tower, where the factors are given back behind it."""
_AT_A_TIME = 24
"""Tensors that are watched in one run."""


@dataclass
class _Seam:
    """Tensors between layers whose channels have one factor, and what stands around them."""

    tensors: list[str] = field(default_factory=list)
    writers: list[NodeProto] = field(default_factory=list)
    readers: list[NodeProto] = field(default_factory=list)
    endings: list[NodeProto] = field(default_factory=list)
    frozen: bool = False


def equalise(graph: Graph, squares: Sequence[NDArray[np.uint8]]) -> int:
    """Rescale channels in place by the ranges they take on ``squares``; what the tower computes
    stays. Returns how many tensors between layers were evened out: none where every layer is
    followed by something that no factor passes through."""
    seams = [seam for seam in _seams(graph) if not seam.frozen and seam.writers]
    watched = [name for seam in seams for name in _measured(graph, seam)]
    peaks = _peaks(graph.model, sorted(set(watched)), squares)
    done = 0
    for seam in seams:
        peak = np.max([peaks[name] for name in _measured(graph, seam)], axis=0)
        if len(peak) != len(graph.weight(seam.writers[0])) or not peak.max() > 0:
            continue
        factors = _factors(graph, peak, seam.readers)
        for writer in seam.writers:
            _divide_outputs(graph, writer, factors)
        for reader in seam.readers:
            _multiply_inputs(graph, reader, factors)
        for ending in seam.endings:
            _give_back(graph, ending, factors)
        done += 1
    graph.refresh()
    return done


def is_depthwise(graph: Graph, layer: NodeProto) -> bool:
    """Whether a convolution filters each channel by itself, giving as many as it takes."""
    weight = graph.weight(layer)
    return bool(weight.shape[1] == 1 and attribute(layer, "group", 1) == len(weight))


def _seams(graph: Graph) -> list[_Seam]:
    """All of them, in no order."""
    group: dict[str, str] = {}

    def root(name: str) -> str:
        while group.setdefault(name, name) != name:
            name = group[name]
        return name

    tail = graph.tail()
    for node in graph.nodes:
        if _passes(graph, node, tail):
            for name in node.input:
                group[root(name)] = root(node.output[0])
    seams: dict[str, _Seam] = {}

    def seam(name: str) -> _Seam:
        return seams.setdefault(root(name), _Seam())

    for node in graph.nodes:
        for name in node.output:
            seam(name).tensors.append(name)
        _enter(graph, node, tail, seam)
    for item in (*graph.model.graph.input, *graph.model.graph.output):
        seam(item.name).frozen = True
    return list(seams.values())


def _passes(graph: Graph, node: NodeProto, tail: set[str]) -> bool:
    computed = all(graph.array(name) is None for name in node.input)
    return node.op_type in _PASSING and computed and node.name not in tail


def _enter(graph: Graph, node: NodeProto, tail: set[str], of: Callable[[str], _Seam]) -> None:
    """Note what a node is to the tensors around it; ``of`` gives a tensor's seam."""
    if _passes(graph, node, tail):
        return
    computed = [name for name in node.input if name and graph.array(name) is None]
    if node.op_type == "Conv" and len(computed) == 1:
        dense = attribute(node, "group", 1) == 1
        known = dense or is_depthwise(graph, node)
        for where, name in (("readers", node.input[0]), ("writers", node.output[0])):
            found = of(name)
            getattr(found, where).append(node)
            found.frozen |= not known
        return
    if node.op_type in _AVERAGING and node.name in tail and _averages_places(graph, node):
        of(computed[0]).endings.append(node)
    else:
        for name in computed:
            of(name).frozen = True
    for name in node.output:
        of(name).frozen = True


def _averages_places(graph: Graph, node: NodeProto) -> bool:
    if node.op_type.startswith("Global"):
        return True
    axes = attribute(node, "axes", None)
    if axes is None and len(node.input) > 1:
        array = graph.array(node.input[1])
        axes = None if array is None else array.tolist()
    return axes is not None and sorted(axis % 4 for axis in axes) == [2, 3]


def _measured(graph: Graph, seam: _Seam) -> list[str]:
    """The tensors that will be quantised: what only enters a ReLU never is."""
    found = []
    for name in seam.tensors:
        readers = graph.readers.get(name, [])
        if not (len(readers) == 1 and readers[0].op_type in ("Relu", "LeakyRelu")):
            found.append(name)
    return found


def _peaks(
    model: ModelProto, names: Sequence[str], squares: Sequence[NDArray[np.uint8]]
) -> dict[str, NDArray[np.float32]]:
    """Largest magnitude of each channel of the tensors, over photos and places."""
    peaks: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(names), _AT_A_TIME):
        part = names[start : start + _AT_A_TIME]
        for values in watch(model, part, squares):
            for name, value in zip(part, values, strict=True):
                peak = np.abs(value).max(axis=(0, *range(2, value.ndim)))
                peaks[name] = np.maximum(peaks[name], peak) if name in peaks else peak
    return peaks


def watch(
    model: ModelProto, names: Sequence[str], squares: Sequence[NDArray[np.uint8]]
) -> Iterable[list[NDArray[np.float32]]]:
    """The values of inner tensors, photo by photo."""
    watched = ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    running = session(watched)
    entering = running.get_inputs()[0].name
    for square in squares:
        yield running.run(list(names), {entering: square[None]})


def _factors(
    graph: Graph, peak: NDArray[np.float32], readers: Sequence[NodeProto]
) -> NDArray[np.float32]:
    """What each channel is divided by. Depthwise readers have a scale a channel anyway, and what
    follows the pooling is float: before these the activations are evened out in full."""
    peak = np.maximum(peak, peak.max() * _SMALLEST)
    dense = [graph.weight(reader) for reader in readers if attribute(reader, "group", 1) == 1]
    if not dense:
        return _of_the_largest(peak)
    weight = np.max([np.abs(w).max(axis=(0, 2, 3)) for w in dense], axis=0)
    if not weight.max() > 0:  # readers that are all zeros, as some training begins with
        return _of_the_largest(peak)
    weight = np.maximum(weight, weight.max() * _SMALLEST)
    return _of_the_largest(peak**BALANCE / weight ** (1 - BALANCE))


def _of_the_largest(values: NDArray[np.float32]) -> NDArray[np.float32]:
    shares: NDArray[np.float32] = values / values.max()
    return shares


def _divide_outputs(graph: Graph, layer: NodeProto, factors: NDArray[np.float32]) -> None:
    graph.set_input(layer, 1, graph.weight(layer) / factors.reshape(-1, 1, 1, 1))
    if len(layer.input) > 2 and layer.input[2]:
        bias = graph.array(layer.input[2])
        assert bias is not None
        graph.set_input(layer, 2, bias / factors)


def _multiply_inputs(graph: Graph, layer: NodeProto, factors: NDArray[np.float32]) -> None:
    shape = (1, -1, 1, 1) if attribute(layer, "group", 1) == 1 else (-1, 1, 1, 1)
    graph.set_input(layer, 1, graph.weight(layer) * factors.reshape(shape))


def _give_back(graph: Graph, pooling: NodeProto, factors: NDArray[np.float32]) -> None:
    """Multiply what a pooling at the end gives, so that what follows sees what it saw."""
    kept = pooling.op_type.startswith("Global") or attribute(pooling, "keepdims", 1)
    shape = (1, -1, 1, 1) if kept else (1, -1)
    name, even = pooling.output[0], f"{pooling.output[0]}.even"
    nodes = graph.model.graph.node
    place = next(n for n, node in enumerate(nodes) if node.name == pooling.name)
    pooling.output[0] = even
    graph.model.graph.initializer.append(
        numpy_helper.from_array(factors.reshape(shape).astype(np.float32), f"{name}.factors")
    )
    given = helper.make_node("Mul", [even, f"{name}.factors"], [name], f"{pooling.name}.factors")
    nodes.insert(place + 1, given)
