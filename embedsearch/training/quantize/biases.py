"""Taking out of the biases what rounding shifts on average.

Nagel et al. (2019), section 4.2: rounded weights and clipped activations shift the mean of what a
layer gives, which the bias can make up for. Here the shift is seen, not computed, layer by layer:
each is corrected on inputs that come out of layers corrected already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto
from torch import Tensor

from embedsearch.training.quantize.simulate import OnnxModule

PHOTOS = 24
"""So many go through the network together, all at the same layer."""


def correct_biases(
    quantised: ModelProto, float32: ModelProto, squares: Sequence[NDArray[np.uint8]]
) -> ModelProto:
    """The quantised model with its biases corrected, by what the float32 model it was made of gives
    on up to :data:`PHOTOS` of ``squares``."""
    pixels = torch.from_numpy(np.stack(squares[:PHOTOS]))
    expected = _mean_outputs(OnnxModule(float32), pixels)
    module = OnnxModule(quantised)

    def correct(node: NodeProto, given: Any) -> Any:
        bias = _bias_of(module, node)
        if bias is None or node.name not in expected:
            return given
        shift = given.mean((0, 2, 3)) - expected[node.name]
        module.shift(bias, -shift)
        return given - shift.view(1, -1, 1, 1)

    with torch.no_grad():
        module.run(pixels, correct)
    return module.to_onnx()


def _mean_outputs(module: OnnxModule, pixels: Tensor) -> dict[str, Tensor]:
    """Mean of each channel of what the convolutions give, by name of the convolution."""
    means: dict[str, Tensor] = {}

    def see(node: NodeProto, given: Any) -> Any:
        if node.op_type == "Conv":
            means[node.name] = given.mean((0, 2, 3))
        return given

    with torch.no_grad():
        module.run(pixels, see)
    return means


def _bias_of(module: OnnxModule, node: NodeProto) -> str | None:
    """Name of the bias of a quantised convolution, if it has one."""
    if node.op_type != "Conv" or len(node.input) < 3:
        return None
    for name, reader in module.quantised.items():
        if reader.output[0] == node.input[2]:
            return name
    return None
