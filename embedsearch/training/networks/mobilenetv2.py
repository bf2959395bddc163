"""The MobileNetV2 whose ImageNet weights ``mini`` starts from, as a PyTorch network.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (2018), in the layout of
MXNet's model zoo, which is *not* torchvision's: block 0 has an expansion too (of factor 1), the
activations are plain ReLU, the strides of 2 sit in blocks 1, 3, 10 and 13, and every block whose
input and output agree in shape adds its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from embedsearch.errors import DataError

MEAN = (0.485, 0.456, 0.406)
"""Mean of the pixels the weights were trained on, RGB in [0, 1]."""
STD = (0.229, 0.224, 0.225)
"""Standard deviation of the same."""
FEATURES = 1280
"""Channels of the last feature map."""

STEM = 32
"""Channels that enter the first block, as a rule."""

# (expanded channels, output channels, stride) of the 17 blocks.
_BLOCKS = (
    (32, 16, 1),
    (96, 24, 2),
    (144, 24, 1),
    (144, 32, 2),
    (192, 32, 1),
    (192, 32, 1),
    (192, 64, 1),
    (384, 64, 1),
    (384, 64, 1),
    (384, 64, 1),
    (384, 96, 2),
    (576, 96, 1),
    (576, 96, 1),
    (576, 160, 2),
    (960, 160, 1),
    (960, 160, 1),
    (960, 320, 1),
)


class ConvNorm(nn.Sequential):
    """Convolution and BatchNorm, with a ReLU where ``relu``. Keeps the size at stride 1."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        *,
        relu: bool,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(
                inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
            ),
            nn.BatchNorm2d(outputs),
        ]
        super().__init__(*layers, nn.ReLU()) if relu else super().__init__(*layers)


class InvertedResidual(nn.Module):
    """Expand (1x1), filter each channel (3x3), project (1x1, linear); ``adds`` its input or not."""

    def __init__(
        self, inputs: int, expanded: int, outputs: int, stride: int, *, adds: bool
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ConvNorm(inputs, expanded, 1, relu=True),
            ConvNorm(expanded, expanded, 3, stride, groups=expanded, relu=True),
            ConvNorm(expanded, outputs, 1, relu=False),
        )
        self.residual = adds

    @property
    def expanded(self) -> int:
        """Channels inside the block."""
        return cast(int, cast(ConvNorm, self.layers[0])[0].out_channels)

    def forward(self, maps: Tensor) -> Tensor:
        filtered = self.layers(maps)
        return cast(Tensor, maps + filtered if self.residual else filtered)


class MobileNetV2(nn.Module):
    """Normalised pixels (N, 3, H, W) to feature maps (N, 1280, H/32, W/32), all at least 0."""

    def __init__(self, expanded: Sequence[int] = (), stem: int = 0) -> None:
        """``expanded`` are the channels inside each of the 17 blocks, 0 for the usual number; where
        it is empty, all have that. ``stem`` are those that enter the first block, 0 for 32."""
        super().__init__()
        inputs = stem or STEM
        self.stem = ConvNorm(3, inputs, 3, stride=2, relu=True)
        blocks = []
        narrowed = expanded or [0] * len(_BLOCKS)
        before = STEM  # as a rule: a narrower stem does not let the first block add its input
        for inside, (usual, outputs, stride) in zip(narrowed, _BLOCKS, strict=True):
            adds = stride == 1 and before == outputs
            blocks.append(InvertedResidual(inputs, inside or usual, outputs, stride, adds=adds))
            inputs = before = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = ConvNorm(inputs, FEATURES, 1, relu=True)

    def forward(self, pixels: Tensor) -> Tensor:
        return cast(Tensor, self.last(self.blocks(self.stem(pixels))))

    def units(self) -> list[tuple[str, str, ConvNorm]]:
        """The convolutions in order: (name of the weight, name of its BatchNorm, unit)."""
        found = [("features_conv0", "features_batchnorm0", self.stem)]
        for number, block in enumerate(self.blocks):
            if not isinstance(block, InvertedResidual):  # left out
                continue
            prefix = f"features_linearbottleneck{number}"
            found += [
                (f"{prefix}_conv{i}", f"{prefix}_batchnorm{i}", cast(ConvNorm, unit))
                for i, unit in enumerate(block.layers)
            ]
        return [*found, ("features_conv1", "features_batchnorm1", self.last)]


def take_for(
    stem: int, blocks: Sequence[tuple[int, int]]
) -> tuple[list[str], tuple[int, ...]] | None:
    """Which network these ``blocks`` make, which ``stem`` channels enter, a block being (expanded
    channels, output channels): the stages that it lacks, and ``expanded`` as :class:`MobileNetV2`
    takes it, empty where no block is narrower than usual. Of like blocks in a row the last are
    taken for those that lack. None where it is no part of this network, or lacks a block that gives
    maps of another shape than it takes.
    """
    lacking: list[str] = []
    inside: list[int] = []
    rest, inputs = list(blocks), stem
    for number, (usual, outputs, stride) in enumerate(_BLOCKS):
        if rest and rest[0][1] == outputs and rest[0][0] <= usual:
            inside.append(rest.pop(0)[0])
        elif stride == 1 and inputs == outputs:
            lacking.append(f"blocks.{number}")
            inside.append(0)
        else:
            return None
        inputs = outputs
    if rest:
        return None
    narrower = any(0 < mine < usual for mine, (usual, _, _) in zip(inside, _BLOCKS, strict=True))
    return lacking, tuple(inside) if narrower else ()


def load_mobilenetv2(path: Path) -> MobileNetV2:
    """Build the network with the weights of an ``.npz`` in MXNet's names, in evaluation mode.

    Raises :class:`~embedsearch.errors.DataError` where the file is missing or no ``.npz``, or an
    array is missing, superfluous or of the wrong shape.
    """
    try:
        # Opened here, as np.load leaves a broken archive open.
        with path.open("rb") as stream, np.lib.npyio.NpzFile(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as an .npz of weights ({error})") from error
    network = MobileNetV2()
    with torch.no_grad():
        for convolution, norm, unit in network.units():
            _fill(unit[0].weight, arrays, f"{convolution}_weight", path)
            _fill(unit[1].weight, arrays, f"{norm}_gamma", path)
            _fill(unit[1].bias, arrays, f"{norm}_beta", path)
            _fill(unit[1].running_mean, arrays, f"{norm}_running_mean", path)
            _fill(unit[1].running_var, arrays, f"{norm}_running_var", path)
    if arrays:
        raise DataError(f"{path}: MobileNetV2 1.0 has no place for the array {min(arrays)}")
    network.eval()
    return network


def _fill(target: Tensor, arrays: dict[str, np.ndarray], name: str, path: Path) -> None:
    """Move one array out of ``arrays`` into ``target``."""
    array = arrays.pop(name, None)
    if array is None:
        raise DataError(f"{path}: the array {name} is missing; is this MobileNetV2 1.0?")
    if array.shape != tuple(target.shape):
        raise DataError(f"{path}: {name} is {array.shape}, expected {tuple(target.shape)}")
    target.copy_(torch.from_numpy(array))
