"""A MobileNetV2 of which only the ONNX file is there, 8-bit or not, as a PyTorch network again."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn

from embedsearch.encoders import text
from embedsearch.encoders.folder import EncoderFolder
from embedsearch.encoders.onnx import IMAGE
from embedsearch.errors import DataError
from embedsearch.training.architecture import folded_architecture
from embedsearch.training.folding import FoldedMobileNetV2
from embedsearch.training.mobilenetv2 import MobileNetV2
from embedsearch.training.pooling import Pool
from embedsearch.training.stages import mobilenetv2_stages
from embedsearch.training.towers import BagText, FeatureHead, ImageTower
from embedsearch.training.trainable import TrainableEncoder

_PREFIX = "network."
"""What the exporter puts before the names of the network's weights."""


def read_onnx_only(about: EncoderFolder) -> TrainableEncoder:
    """The encoder of a folder that ``training.mini`` or ``quantize`` wrote.

    Weights are what the integers stand for; what 8-bit activations lose is not there any more, so
    embeddings agree closely, not exactly. Raises :class:`~embedsearch.errors.DataError` for any
    other network.
    """
    path = about.path / IMAGE
    try:
        arrays = _arrays(onnx.load(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as ONNX ({error})") from error
    network = FoldedMobileNetV2(MobileNetV2())
    for name, parameter in network.named_parameters():
        _fill(parameter, arrays, f"{_PREFIX}{name}", path)
    head = FeatureHead(1280, about.dim)
    if "factors" in arrays:
        _fill(head.factors, arrays, "factors", path)
    # The exported head takes features of length 1, ours those of length sqrt(1280).
    if "head.weight" in arrays:
        arrays["head.weight"] = arrays["head.weight"] / math.sqrt(1280)
    _fill(head.projection.linear.weight, arrays, "head.weight", path)
    _fill(head.projection.linear.bias, arrays, "head.bias", path)
    stages = mobilenetv2_stages(network.network)
    image = ImageTower(network, stages, Pool("avg"), head, sequential=True)
    tower = read_bag_text(about.path, about.dim) if about.has_text else None
    architecture = folded_architecture(
        size=about.input_size,
        dim=about.dim,
        text="bag" if tower is not None else "none",
        licence=about.licence,
        hidden=tower.head.hidden.out_features if tower is not None else 512,
    )
    return TrainableEncoder(architecture, image, tower)


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


def _arrays(model: ModelProto) -> dict[str, NDArray[np.float32]]:
    """Every weight of a graph by its name, 8-bit ones times their steps."""
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    found = {}
    for name, array in stored.items():
        plain = name.removesuffix("_quantized")
        if plain == name:
            found[name] = array
            continue
        step = stored.get(f"{plain}_scale", stored.get(f"{plain}_quantized_scale"))
        if step is not None:
            wide = step.reshape(-1, *[1] * (array.ndim - 1))
            found[plain] = array.astype(np.float32) * wide
    return found


def _fill(
    target: Tensor | nn.Parameter, arrays: dict[str, NDArray[np.float32]], name: str, path: Path
) -> None:
    array = arrays.get(name)
    if array is None or array.shape != tuple(target.shape):
        what = "is not there" if array is None else f"is {array.shape}"
        raise DataError(
            f"{path}: {name} {what}. Only a MobileNetV2 as embedsearch writes it can be trained "
            "from its ONNX file; train from the folder that finetune or distill wrote, or from the "
            "weights that the encoder was made of."
        )
    with torch.no_grad():
        target.copy_(torch.tensor(array, dtype=target.dtype))
