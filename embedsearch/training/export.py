"""From PyTorch to ONNX: any image tower, or its first stages."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from embedsearch.errors import EncoderError

if TYPE_CHECKING:
    from embedsearch.training.trainable import TrainableEncoder

INPUT = "pixels"
"""Name of the input: uint8 (N, size, size, 3), sRGB."""
FEATURES = "features"
"""Name of what enters a stage."""
OUTPUT = "embedding"
"""Name of the output: float32 (N, dim), rows of unit length."""


class _Stages(nn.Module):
    """Pixels as they are stored to what enters a stage."""

    def __init__(self, encoder: TrainableEncoder, stage: int) -> None:
        super().__init__()
        self.encoder, self.stage = encoder, stage

    def forward(self, pixels: Tensor) -> Tensor:
        entering = self.encoder.normalised(pixels)
        return self.encoder.image.run_stages(entering, 0, self.stage).permute(0, 2, 3, 1)


def export_image_tower(
    module: Callable[[Tensor], Tensor],
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    border: int = 0,
) -> ModelProto:
    """An image tower from ``INPUT`` to ``OUTPUT`` as ONNX, as encoder folders hold it.

    ``module`` takes normalised pixels, float32 (N, 3, size, size), and gives (N, dim) of any
    length; an ``nn.Module`` is put into evaluation mode for the time of the export. The tower takes
    uint8 (N, size + 2 border, size + 2 border, 3) in sRGB, cuts the border off, normalises by
    ``mean`` and ``std`` (of pixels in [0, 1]), and gives rows of unit length. Any batch size.

    Raises :class:`~embedsearch.errors.EncoderError` where PyTorch cannot export the module.
    """
    network = module if isinstance(module, nn.Module) else None
    training = network is not None and network.training
    tower = _Tower(module, mean, std, border).eval()
    try:
        return _export(tower, size + 2 * border, OUTPUT)
    except Exception as error:  # the exporter raises nearly every type there is
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise EncoderError(f"the image tower cannot be exported to ONNX ({first})") from error
    finally:
        if network is not None:
            network.train(training)


def export_tower(encoder: TrainableEncoder) -> ModelProto:
    """The whole image tower from ``INPUT`` to ``OUTPUT`` as ONNX float32, for any batch size."""
    model = export_image_tower(encoder.image, encoder.size, encoder.mean, encoder.std)
    # The exporter loses count of the columns where an operator may have any number of them.
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = encoder.dim
    return model


def export_stages(encoder: TrainableEncoder, stage: int) -> ModelProto:
    """The image network from ``INPUT`` to what enters ``stage``, named ``FEATURES``: float32
    (N, H, W, channels), for any batch size. Its stages must be sequential."""
    return _export(_Stages(encoder, stage).eval(), encoder.size, FEATURES)


class _Tower(nn.Module):
    """Pixels as they are stored to unit vectors."""

    def __init__(
        self,
        module: Callable[[Tensor], Tensor],
        mean: Sequence[float],
        std: Sequence[float],
        border: int,
    ) -> None:
        super().__init__()
        self.module = module
        self.border = border
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        if self.border:
            pixels = pixels[:, self.border : -self.border, self.border : -self.border]
        normalised = (pixels.permute(0, 3, 1, 2).float() - cast(Tensor, self.mean)) / cast(
            Tensor, self.std
        )
        return nn.functional.normalize(self.module(normalised), dim=1)


def _export(module: nn.Module, side: int, output: str) -> ModelProto:
    example = torch.zeros((1, side, side, 3), dtype=torch.uint8)
    written = io.BytesIO()
    with warnings.catch_warnings():
        # PyTorch's other exporter needs the package onnxscript, and wins nothing here.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Libraries ask for shapes, which become constants; what comes out is compared afterwards.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        torch.onnx.export(
            module,
            (example,),
            written,
            dynamo=False,
            input_names=[INPUT],
            output_names=[output],
            dynamic_axes={INPUT: {0: "N"}, output: {0: "N"}},
        )
    return onnx.load_model_from_string(written.getvalue())
