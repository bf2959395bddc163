"""Folding what is constant at inference into the convolutions: BatchNorm and the normalisation."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from embedsearch.training.networks.mobilenetv2 import (
    MEAN,
    STD,
    ConvNorm,
    InvertedResidual,
    MobileNetV2,
)

GREY = 114
"""The pixel value that becomes 0 at the input of a folded network, and so what its zero padding
means. Near the mean of natural pictures, and one value for the three channels, as an 8-bit
tensor has one zero point."""


class FoldedMobileNetV2(nn.Module):
    """Convolutions with biases and nothing else to estimate.

    Takes (pixels - ``GREY``) / 255 of shape (N, 3, H, W), gives what the network it was folded from
    gives on normalised pixels, but for the outermost row and column: these see ``GREY`` behind the
    border where they saw the mean colour.
    """

    def __init__(self, network: MobileNetV2) -> None:
        super().__init__()
        folded = copy.deepcopy(network).eval()
        for _, _, unit in folded.units():
            unit[0] = fuse_conv_bn_eval(cast(nn.Conv2d, unit[0]), cast(nn.BatchNorm2d, unit[1]))
            unit[1] = nn.Identity()
        self.network = folded
        _fold_normalisation(self.stem)

    @property
    def stem(self) -> nn.Conv2d:
        return convolution(self.network.stem)

    @property
    def last(self) -> nn.Conv2d:
        return convolution(self.network.last)

    @property
    def blocks(self) -> list[InvertedResidual]:
        """Those that are not left out."""
        return [block for block in self.network.blocks if isinstance(block, InvertedResidual)]

    def convolutions(self) -> list[nn.Conv2d]:
        """All convolutions, in the order in which they run."""
        return [convolution(unit) for _, _, unit in self.network.units()]

    def forward(self, centred: Tensor) -> Tensor:
        return cast(Tensor, self.network(centred))


def convolution(unit: nn.Module) -> nn.Conv2d:
    """The convolution of a unit."""
    return cast(nn.Conv2d, cast(ConvNorm, unit)[0])


def _fold_normalisation(stem: nn.Conv2d) -> None:
    """Let ``stem`` take (pixels - GREY) / 255 where it took (pixels / 255 - MEAN) / STD."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        weight = stem.weight / std
        cast(Tensor, stem.bias).add_((weight * (GREY / 255 - mean)).sum((1, 2, 3)))
        stem.weight.copy_(weight)
