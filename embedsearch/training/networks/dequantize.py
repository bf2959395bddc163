"""A MobileNetV2 of which only the ONNX file is there, 8-bit or not, as a PyTorch network again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import NodeProto
from torch import Tensor, nn

from embedsearch.encoders import text
from embedsearch.encoders.folder import EncoderFolder
from embedsearch.encoders.onnx import IMAGE
from embedsearch.errors import DataError
from embedsearch.training.networks.architecture import folded_architecture
from embedsearch.training.networks.encoder import TrainableEncoder
from embedsearch.training.networks.folding import GREY, FoldedMobileNetV2
from embedsearch.training.networks.mobilenetv2 import FEATURES, STEM, MobileNetV2, take_for
from embedsearch.training.networks.pooling import Pool
from embedsearch.training.networks.shortening import leave_out
from embedsearch.training.networks.stages import mobilenetv2_stages
from embedsearch.training.networks.towers import BagText, FeatureHead, ImageTower
from embedsearch.training.onnx_graph.entry import entry_affine
from embedsearch.training.onnx_graph.graph import Graph, prepare

Array = NDArray[np.float32]
_HEAD = "projection."
"""What the exporter of older versions put before the names of the head's numbers."""
_FOLDED = "head."
"""And what stands before those of a head whose standardisation is folded into its weights."""
_OTHER = (
    "Only a MobileNetV2 as embedsearch writes it can be trained from its ONNX file; train from the "
    "folder that finetune or distill wrote, or from the weights that the encoder was made of."
)


def read_onnx_only(about: EncoderFolder) -> TrainableEncoder:
    """The encoder of a folder that ``training.mini`` or ``quantize`` wrote.

    Weights are what the integers stand for; what 8-bit activations lose is not there any more, so
    embeddings agree closely, not exactly. Raises :class:`~embedsearch.errors.DataError` for any
    other network.
    """
    path = about.path / IMAGE
    try:
        model = onnx.load(path)
        if all(node.op_type != "DequantizeLinear" for node in model.graph.node):
            model = prepare(model)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as ONNX ({error})") from error
    graph = Graph(model)
    nodes = [node for node in graph.nodes if node.op_type == "Conv"]
    without, expanded, stem = _parts(graph, nodes, path)
    network = FoldedMobileNetV2(MobileNetV2(expanded, stem))
    stages = mobilenetv2_stages(network.network)
    image = ImageTower(network, stages, Pool("avg"), nn.Identity(), sequential=True)
    leave_out(image, without, about.input_size)
    for node, layer in zip(nodes, network.convolutions(), strict=True):
        _fill(layer.weight, _real(graph, node.input[1]), node.input[1], path)
        bias = _real(graph, node.input[2]) if len(node.input) > 2 else None
        _fill(cast(nn.Parameter, layer.bias), bias, f"the bias of {node.name}", path)
    _enter(network, graph, nodes[0], path)
    image.head = _head(graph, about.dim, path)
    tower = read_bag_text(about.path, about.dim) if about.has_text else None
    architecture = folded_architecture(
        size=about.input_size,
        dim=about.dim,
        text="bag" if tower is not None else "none",
        licence=about.licence,
        hidden=tower.head.hidden.out_features if tower is not None else 512,
        without=tuple(without),
        expanded=expanded,
        stem=stem,
    )
    return TrainableEncoder(architecture, image, tower)


def _parts(
    graph: Graph, nodes: Sequence[NodeProto], path: Path
) -> tuple[list[str], tuple[int, ...], int]:
    """The blocks that lack, the channels inside each where some are narrower, and those that enter
    the first where they are fewer: a block is three convolutions, between the first and the last.
    """
    weights = [_real(graph, node.input[1]) for node in nodes]
    outputs = [0 if weight is None else len(weight) for weight in weights]
    blocks = [(outputs[place], outputs[place + 2]) for place in range(1, len(nodes) - 3, 3)]
    found = take_for(outputs[0], blocks) if len(nodes) % 3 == 2 else None
    if found is None:
        raise DataError(f"{path}: has {len(nodes)} convolutions. {_OTHER}")
    lacking, expanded = found
    return lacking, expanded, outputs[0] if outputs[0] != STEM else 0


def read_bag_text(folder: Path, dim: int) -> BagText:
    """The text tower of an encoder folder. Raises :class:`~embedsearch.errors.EncoderError`."""
    text.TextTower(folder, dim)  # says what is missing or does not fit
    tokens = (folder / text.VOCABULARY).read_text(encoding="utf-8").split("\n")[:-1]
    rows = np.load(folder / text.ROWS).astype(np.float32) * np.load(folder / text.SCALES)[:, None]
    hidden = np.load(folder / text.HIDDEN_WEIGHT).shape[1]
    tower = BagText(tokens, torch.from_numpy(rows), hidden, dim)
    with torch.no_grad():
        for layer, weight, bias in (
            (tower.head.hidden, text.HIDDEN_WEIGHT, text.HIDDEN_BIAS),
            (tower.head.output, text.OUTPUT_WEIGHT, text.OUTPUT_BIAS),
        ):
            layer.weight.copy_(torch.from_numpy(np.load(folder / weight).T))
            layer.bias.copy_(torch.from_numpy(np.load(folder / bias)))
    return tower


def _head(graph: Graph, dim: int, path: Path) -> FeatureHead:
    """The linear layer behind pooling, and what its features are standardised by."""
    head = FeatureHead(FEATURES, dim)
    casts = [node.output[0] for node in graph.nodes if node.op_type == "Cast"]
    arrays = {name: _real(graph, name) for name in (*graph.names, *casts)}
    wanted = {
        "linear.weight": head.projection.linear.weight,
        "linear.bias": head.projection.linear.bias,
        "mean": head.projection.mean,
        "deviation": head.projection.deviation,
    }
    if any(name.endswith(f"{_HEAD}linear.weight") for name in arrays):
        for name, target in wanted.items():
            _fill(target, _ending(arrays, _HEAD + name), _HEAD + name, path)
    else:  # one layer that takes features of length 1, and ours those of sqrt(1280)
        weight = _ending(arrays, _FOLDED + "weight")
        scaled = None if weight is None else weight / math.sqrt(FEATURES)
        _fill(head.projection.linear.weight, scaled, _FOLDED + "weight", path)
        _fill(
            head.projection.linear.bias, _ending(arrays, _FOLDED + "bias"), _FOLDED + "bias", path
        )
    # What channels were evened out by, in training and when it was quantised.
    for name, array in arrays.items():
        if name.endswith("factors") and array is not None and array.size == FEATURES:
            head.factors.mul_(torch.tensor(array.reshape(FEATURES)))
    return head


def _enter(network: FoldedMobileNetV2, graph: Graph, first: NodeProto, path: Path) -> None:
    """Let the first convolution take (pixels - ``GREY``) / 255 where it took bytes otherwise scaled
    and shifted."""
    writer = graph.writers.get(first.input[0])
    if writer is not None and writer.op_type == "DequantizeLinear":
        step, zero = (_real(graph, name) for name in writer.input[1:3])
        slope = np.full(3, step, np.float32)
        shift = -slope * np.float32(0 if zero is None else zero)
    else:
        found = entry_affine(graph, first)
        if found is None:
            raise DataError(f"{path}: its first layer takes no pixels. {_OTHER}")
        slope, shift = found
    stem = network.stem
    with torch.no_grad():
        taken = torch.from_numpy(shift + slope * GREY).view(1, 3, 1, 1)
        cast(Tensor, stem.bias).add_((stem.weight * taken).sum((1, 2, 3)))
        stem.weight.mul_(torch.from_numpy(slope * 255).view(1, 3, 1, 1))


def _ending(arrays: dict[str, Array | None], end: str) -> Array | None:
    return next((array for name, array in arrays.items() if name.endswith(end)), None)


def _real(graph: Graph, name: str) -> Array | None:
    """A tensor that is stored, its 8-bit integers as the numbers they stand for."""
    stored = graph.array(name)
    if stored is not None:
        return np.asarray(stored, np.float32)
    writer = graph.writers.get(name)
    if writer is not None and writer.op_type == "Cast":
        return _real(graph, writer.input[0])
    if writer is None or writer.op_type != "DequantizeLinear":
        return None
    integers, step = graph.array(writer.input[0]), graph.array(writer.input[1])
    if integers is None or step is None:
        return None
    zero = graph.array(writer.input[2]) if len(writer.input) > 2 else None
    wide = (-1, *[1] * (integers.ndim - 1))
    centred = integers.astype(np.float32) - (0 if zero is None else zero.reshape(wide))
    found: Array = (centred * step.reshape(wide)).astype(np.float32)
    return found


def _fill(target: Tensor | nn.Parameter, array: Array | None, name: str, path: Path) -> None:
    if array is None or array.shape != tuple(target.shape):
        what = "is not there" if array is None else f"is {array.shape}"
        raise DataError(f"{path}: {name} {what}. {_OTHER}")
    with torch.no_grad():
        target.copy_(torch.tensor(array, dtype=target.dtype))
