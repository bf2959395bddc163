"""An image tower as an ONNX graph: who writes a tensor, who reads it, and what is constant."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper
from onnxruntime.quantization import quant_pre_process

from embedsearch.errors import DataError

LAYERS = ("Conv", "Gemm", "MatMul")
"""What has weights worth naming in a table."""
_POOLING = (
    *("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2"),
    *("LpNormalization", "Pow", "Flatten", "Reshape"),
)
_ERRORS_ONLY = 3


class Graph:
    """A model that is looked at and changed in place. After nodes were added or taken away,
    :meth:`refresh`."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.refresh()

    def refresh(self) -> None:
        graph = self.model.graph
        self._arrays = {item.name: item for item in graph.initializer}
        self.writers: dict[str, NodeProto] = {n: node for node in graph.node for n in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    @property
    def nodes(self) -> list[NodeProto]:
        return list(self.model.graph.node)

    def layers(self, *kinds: str) -> list[NodeProto]:
        """The nodes of these kinds, :data:`LAYERS` by default, whose weights are constant."""
        return [
            node
            for node in self.model.graph.node
            if node.op_type in (kinds or LAYERS) and self.array(node.input[1]) is not None
        ]

    @property
    def names(self) -> list[str]:
        """Of all constants."""
        return list(self._arrays)

    def array(self, name: str) -> NDArray[Any] | None:
        """A constant; ``None`` for what is computed."""
        item = self._arrays.get(name)
        return None if item is None else numpy_helper.to_array(item)

    def weight(self, layer: NodeProto) -> NDArray[np.float32]:
        """The weight of a layer, outputs first."""
        weight = self.array(layer.input[1])
        assert weight is not None
        if layer.op_type == "MatMul" or (
            layer.op_type == "Gemm" and not attribute(layer, "transB", 0)
        ):
            weight = weight.T
        return weight

    def set_input(self, node: NodeProto, place: int, array: NDArray[Any]) -> None:
        """Give ``node`` a constant input of its own; others that read the old one keep it."""
        while len(node.input) <= place:
            node.input.append("")
        old = node.input[place]
        shared = old and sum(name == old for n in self.nodes for name in n.input) > 1
        name = old if old in self._arrays and not shared else f"{node.name}.{place}.own"
        node.input[place] = name
        made = numpy_helper.from_array(np.ascontiguousarray(array), name)
        if name in self._arrays:
            self._arrays[name].CopyFrom(made)
        else:
            self.model.graph.initializer.append(made)
            self._arrays[name] = self.model.graph.initializer[-1]

    def followers(self, node: NodeProto) -> Iterator[NodeProto]:
        """Every node that computes with what ``node`` gives, at any distance."""
        seen: set[str] = set()
        todo = list(node.output)
        while todo:
            for reader in self.readers.get(todo.pop(), []):
                if reader.name not in seen:
                    seen.add(reader.name)
                    todo += reader.output
                    yield reader

    def tail(self) -> set[str]:
        """Names of the nodes behind the last feature map: pooling, head and normalisation."""
        found: set[str] = set()
        for node in self.nodes:
            if node.op_type in _POOLING and node.name not in found:
                behind = list(self.followers(node))
                if not any(follower.op_type == "Conv" for follower in behind):
                    found |= {node.name, *(follower.name for follower in behind)}
        return found

    def drop_unused(self) -> None:
        """Take out nodes and constants that nothing reads."""
        graph = self.model.graph
        while True:
            used = {name for node in graph.node for name in node.input}
            used |= {item.name for item in graph.output}
            idle = [node for node in graph.node if not used & set(node.output)]
            if not idle:
                break
            for node in idle:
                graph.node.remove(node)
        for item in [item for item in graph.initializer if item.name not in used]:
            graph.initializer.remove(item)
        self.refresh()


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """An attribute of a node, or ``default`` where it has none of that name."""
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default


def prepare(model: ModelProto) -> ModelProto:
    """What quantisation starts from: constants folded, BatchNorm too, shapes known, nodes named.

    Raises :class:`~embedsearch.errors.DataError` for a model that is quantised already, or has no
    convolution.
    """
    kinds = {node.op_type for node in model.graph.node}
    if kinds & {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"}:
        raise DataError(
            "the image tower is quantised already; name the float32 encoder it was made of"
        )
    if "Conv" not in kinds:
        raise DataError("the network to be quantised has no convolution")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "given.onnx"), Path(folder, "prepared.onnx")
        onnx.save(model, source)
        quant_pre_process(source, target, skip_symbolic_shape=True)
        prepared = onnx.load(target)
    for place, node in enumerate(prepared.graph.node):
        node.name = f"{place:03d}" if not node.name else node.name
    names = [node.name for node in prepared.graph.node]
    for place, node in enumerate(prepared.graph.node):
        if names.count(node.name) > 1:
            node.name = f"{node.name}#{place}"
    return prepared


def session(model: ModelProto, threads: int = 0) -> onnxruntime.InferenceSession:
    """The model ready to run on so many threads of the CPU; 0 for all there are."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def embed(model: ModelProto, squares: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Unit rows of pictures (size, size, 3) that have the tower's size: float32 (N, dim)."""
    running = session(model)
    name = running.get_inputs()[0].name
    rows = np.concatenate([running.run(None, {name: square[None]})[0] for square in squares])
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def quiet() -> None:
    """Keep advice of the quantisation library, which is taken already, off the terminal."""
    logging.getLogger().setLevel(max(logging.getLogger().level, logging.ERROR))
    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
