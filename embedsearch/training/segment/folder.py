"""A segmenter folder from a trained network: ONNX, in 8 bits where it is wanted."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from embedsearch.enrichers.base import Pixels
from embedsearch.enrichers.segmenter_file import MODEL, SegmenterFile
from embedsearch.enrichers.square import Fit, fitted
from embedsearch.errors import OutputError
from embedsearch.training.data.pixels import load_pixels
from embedsearch.training.onnx_graph.entry import fold_entry
from embedsearch.training.onnx_graph.graph import Graph, prepare, quiet
from embedsearch.training.quantize.biases import correct_biases
from embedsearch.training.quantize.calibrate import activation_ranges
from embedsearch.training.quantize.equalise import equalise
from embedsearch.training.quantize.static import quantize_graph
from embedsearch.training.segment.network import SegmentationNetwork
from embedsearch.training.segment.recipe import Recipe

_PIXELS, _LOGITS = "pixels", "logits"
_BYTE = 255.0
_OPSET = 18


def write_segmenter(
    network: SegmentationNetwork,
    out: Path,
    recipe: Recipe,
    labels: Sequence[str],
    photos: Sequence[Path],
) -> Path:
    """Write the folder and give the file of the network. ``photos`` are calibrated on.

    Raises :class:`~embedsearch.errors.OutputError`.
    """
    size = recipe.model.size
    model = float32(network, size)
    if recipe.export.int8:
        rng = np.random.default_rng(recipe.optimisation.seed)
        chosen = rng.permutation(len(photos))[: recipe.export.calibration]
        fit = cast(Fit, recipe.model.fit)
        squares = [fitted(load_pixels(photos[n], size), size, fit).pixels for n in chosen]
        model = int8(model, squares)
    about = SegmenterFile(
        path=out / MODEL,
        name=_slug(recipe.about.name or out.resolve().name),
        licence=recipe.about.licence or "that of what it was trained from and on",
        description=recipe.about.description
        or f"{recipe.model.start} and {recipe.model.decoder}, trained on {len(photos):,} photos",
        labels=tuple(labels),
        size=size,
        fit=cast(Fit, recipe.model.fit),
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        about.path.write_bytes(answering(model, size).SerializeToString())
        about.write()
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror})") from error
    return about.path


def float32(network: SegmentationNetwork, size: int) -> ModelProto:
    """The network as ONNX: uint8 (1, size, size, 3) to logits (1, classes, h, w)."""
    written = io.BytesIO()
    with warnings.catch_warnings():
        # PyTorch's other exporter needs the package onnxscript, and wins nothing here.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Libraries ask for shapes, which become constants, as they are to.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        torch.onnx.export(
            _Plain(network).eval(),
            (torch.zeros((1, size, size, 3), dtype=torch.uint8),),
            written,
            dynamo=False,
            opset_version=_OPSET,
            input_names=[_PIXELS],
            output_names=[_LOGITS],
        )
    return onnx.load_model_from_string(written.getvalue())


def int8(model: ModelProto, squares: Sequence[Pixels]) -> ModelProto:
    """The same with 8-bit activations and weights, ranges seen on ``squares``."""
    quiet()
    prepared = prepare(model)
    grey = fold_entry(Graph(prepared))
    equalise(Graph(prepared), squares)
    ranges = activation_ranges(prepared, squares)
    quantised = quantize_graph(prepared, ranges, grey=grey)
    return correct_biases(quantised, prepared, squares)


def answering(model: ModelProto, size: int) -> ModelProto:
    """The model with logits scaled bilinearly to half the side, and out of it the likeliest class
    of every pixel and its probability in 255ths, both uint8 (1, size / 2, size / 2)."""
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    side = size // 2
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([side, side], np.int64), "answer.side"),
            numpy_helper.from_array(np.array(_BYTE, np.float32), "answer.byte"),
            numpy_helper.from_array(np.array([1], np.int64), "answer.axis"),
        ]
    )
    logits = graph.output[0].name
    sides = [each.dim_value for each in graph.output[0].type.tensor_type.shape.dim][2:]
    scales = np.array([1, 1, *(side / each for each in sides)], np.float32)
    graph.initializer.append(numpy_helper.from_array(scales, "answer.scales"))
    nodes = [
        helper.make_node(
            "Resize", [logits, "", "answer.scales"], ["scaled"], "answer.scale", mode="linear"
        ),
        helper.make_node("ArgMax", ["scaled"], ["likeliest"], "answer.which", axis=1, keepdims=0),
        helper.make_node(
            "Cast", ["likeliest"], ["classes"], "answer.classes", to=TensorProto.UINT8
        ),
        helper.make_node("Softmax", ["scaled"], ["shares"], "answer.shares", axis=1),
        helper.make_node(
            "ReduceMax", ["shares", "answer.axis"], ["share"], "answer.share", keepdims=0
        ),
        helper.make_node("Mul", ["share", "answer.byte"], ["bytes"], "answer.bytes"),
        helper.make_node("Round", ["bytes"], ["whole"], "answer.round"),
        helper.make_node(
            "Cast", ["whole"], ["confidence"], "answer.confidence", to=TensorProto.UINT8
        ),
    ]
    graph.node.extend(nodes)
    del graph.output[:]
    for name in ("classes", "confidence"):
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.UINT8, [1, side, side]))
    Graph(made).drop_unused()
    onnx.checker.check_model(made)
    return made


class _Plain(nn.Module):
    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        network = self.network
        scaled = (pixels.permute(0, 3, 1, 2).float() / 255 - network.grey.view(1, 3, 1, 1)) / (
            network.spread.view(1, 3, 1, 1)
        )
        return network.decoded(network.encoder(scaled))


def _slug(name: str) -> str:
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in name.lower())
    return plain.lstrip("_.-") or "segmenter"
