"""A float32 graph and the ranges of its activations to a graph of 8-bit integers (ONNX QDQ)."""

from __future__ import annotations

import io
from collections.abc import Collection
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from embedsearch.training.onnx_graph.entry import enter_as_pixels, entry_override
from embedsearch.training.onnx_graph.graph import Graph, attribute
from embedsearch.training.quantize.calibrate import QUANTISED
from embedsearch.training.quantize.weights import weight_scales


def quantize_graph(
    model: ModelProto,
    ranges: TensorsData,
    *,
    grey: int | None,
    keep_float: Collection[str] = (),
    only: str | None = None,
) -> ModelProto:
    """Quantise a prepared model: uint8 activations, int8 weights with a scale for each channel.

    ``grey`` is what :func:`~embedsearch.training.onnx_graph.entry.fold_entry` returned. Layers
    named in ``keep_float`` stay float32, with the activation behind them; so does all that follows
    the last feature map. With ``only``, nothing but this layer is quantised.
    """
    copied = ModelProto()
    copied.CopyFrom(model)
    graph = Graph(copied)
    first = next(node for node in graph.nodes if node.op_type == "Conv")
    excluded = graph.tail()
    for layer in graph.layers():
        if layer.name in keep_float or (only is not None and layer.name != only):
            excluded |= {layer.name, *_activation(graph, layer)}
    if only is not None:
        layer = next(node for node in graph.nodes if node.name == only)
        included = {only, *_activation(graph, layer)}
        excluded |= {node.name for node in graph.nodes} - included
    overrides = _weight_overrides(graph, excluded)
    as_pixels = grey is not None and first.name not in excluded
    if grey is not None and as_pixels:
        overrides[first.input[0]] = entry_override(grey)
    quantizer = QDQQuantizer(
        copied,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=sorted(excluded),
        op_types_to_quantize=QUANTISED,
        extra_options={"TensorQuantOverrides": overrides},
    )
    with redirect_stdout(io.StringIO()):
        quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantised = quantizer.model.model
    if as_pixels:
        enter_as_pixels(quantised, first.input[0])
    onnx.checker.check_model(quantised)
    return quantised


def _activation(graph: Graph, layer: NodeProto) -> set[str]:
    """Names of the activation that a layer's output goes through, if to nothing else."""
    readers = graph.readers.get(layer.output[0], [])
    if len(readers) == 1 and readers[0].op_type in ("Relu", "Clip", "LeakyRelu", "PRelu"):
        return {readers[0].name}
    return set()


def _weight_overrides(graph: Graph, excluded: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Steps of the weights, by the name of the weight."""
    overrides = {}
    for layer in graph.layers("Conv"):
        if layer.name not in excluded:
            depthwise = attribute(layer, "group", 1) > 1
            scales = weight_scales(graph.weight(layer), depthwise=depthwise)
            overrides[layer.input[1]] = [
                {"axis": 0, "scale": np.array(scale), "zero_point": np.array(0, np.int8)}
                for scale in scales
            ]
    return overrides
