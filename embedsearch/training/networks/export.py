"""From PyTorch to ONNX: any image tower; and, for ``mini``, its backbone and the head behind it."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from embedsearch.errors import EncoderError
from embedsearch.training.networks.encoder import TrainableEncoder
from embedsearch.training.networks.folding import GREY, FoldedMobileNetV2
from embedsearch.training.networks.towers import FeatureHead, ImageTower

INPUT = "pixels"
"""Name of the input: uint8 (N, size, size, 3), sRGB."""
FEATURES = "features"
"""Name of the pooled features: float32 (N, 1280)."""
OUTPUT = "embedding"
"""Name of the output: float32 (N, dim), rows of unit length."""
GEM_FLOOR = 1e-6
"""Keeps the root's derivative finite where a channel is 0 everywhere."""


class _PooledBackbone(nn.Module):
    """Pixels as they are stored to pooled features."""

    def __init__(self, network: FoldedMobileNetV2, factors: Tensor, gem: float) -> None:
        super().__init__()
        self.network = network
        self.gem = gem
        self.register_buffer("factors", factors)

    def forward(self, pixels: Tensor) -> Tensor:
        centred = (pixels.permute(0, 3, 1, 2).float() - GREY) / 255
        return pool(self.network(centred), self.gem) * cast(Tensor, self.factors)


class _Stages(nn.Module):
    """Pixels as they are stored to what enters a stage."""

    def __init__(self, encoder: TrainableEncoder, stage: int) -> None:
        super().__init__()
        self.encoder, self.stage = encoder, stage

    def forward(self, pixels: Tensor) -> Tensor:
        entering = self.encoder.normalised(pixels)
        return self.encoder.image.run_stages(entering, 0, self.stage).permute(0, 2, 3, 1)


def pool(maps: Tensor, gem: float) -> Tensor:
    """Generalised mean over the places of non-negative maps (N, C, H, W): float32 (N, C).

    Radenović et al., "Fine-tuning CNN Image Retrieval with No Human Annotation" (2018), eq. 3;
    ``gem`` is the exponent, 1 the plain average.
    """
    if gem == 1:
        return maps.mean((2, 3))
    return maps.clamp_min(GEM_FLOOR).pow(gem).mean((2, 3)).pow(1 / gem)


def export_backbone(
    network: FoldedMobileNetV2, size: int, factors: Tensor, gem: float = 1.0
) -> ModelProto:
    """The network from ``INPUT`` to ``FEATURES`` as ONNX, for any batch size.

    ``factors``, float32 (1280,), is what equalisation returned; ones where there was none.
    """
    return _export(_PooledBackbone(network, factors, gem).eval(), size, FEATURES)


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
    image = encoder.image
    has_head = isinstance(image.head, FeatureHead)
    tower = _FoldedHead(image).train(image.training) if has_head else image
    model = export_image_tower(tower, encoder.size, encoder.mean, encoder.std)
    # The exporter loses count of the columns where an operator may have any number of them.
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = encoder.dim
    return model


def export_stages(encoder: TrainableEncoder, stage: int) -> ModelProto:
    """The image network from ``INPUT`` to what enters ``stage``, named ``FEATURES``: float32
    (N, H, W, channels), for any batch size. Its stages must be sequential."""
    return _export(_Stages(encoder, stage).eval(), encoder.size, FEATURES)


class _FoldedHead(nn.Module):
    """An image tower whose head is one linear layer on features of length 1: what standardises them
    stands in its weights, and rows are brought to one length by who exports it."""

    def __init__(self, image: ImageTower) -> None:
        super().__init__()
        self.image, head = image, cast(FeatureHead, image.head)
        weight, bias = head.projection.folded()
        self.head = nn.Linear(head.inputs, len(bias))
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(weight) * math.sqrt(head.inputs))
            self.head.bias.copy_(torch.from_numpy(bias))
        self.register_buffer("factors", head.factors, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.image.pool(self.image.maps(pixels)) * self.factors
        return cast(Tensor, self.head(nn.functional.normalize(features, dim=1)))


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
    with warnings.catch_warnings(), _plain_attention():
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


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention that is not trained runs as one operator in PyTorch, which ONNX does not have."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def attach_head(
    backbone: ModelProto, weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> ModelProto:
    """The backbone followed by a linear head, from ``INPUT`` to ``OUTPUT``.

    ``weight`` is float32 (dim, 1280), ``bias`` float32 (dim,). The head takes features of length
    sqrt(1280), as :func:`~embedsearch.training.mini.fit.scale_features` makes them.
    """
    model = ModelProto()
    model.CopyFrom(backbone)
    graph = model.graph
    scaled = weight * np.float32(math.sqrt(weight.shape[1]))
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.ascontiguousarray(scaled), "head.weight"),
            numpy_helper.from_array(np.ascontiguousarray(bias), "head.bias"),
        ]
    )
    graph.node.extend(
        [
            _unit_rows(FEATURES, "unit_features"),
            helper.make_node(
                "Gemm", ["unit_features", "head.weight", "head.bias"], ["projected"], transB=1
            ),
            _unit_rows("projected", OUTPUT),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", len(bias)]))
    onnx.checker.check_model(model)
    return model


def _unit_rows(source: str, target: str) -> NodeProto:
    """Divide each row by its length."""
    return helper.make_node("LpNormalization", [source], [target], axis=1, p=2)
