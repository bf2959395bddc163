"""A decoder for small machines: the maps of three resolutions, added from the coarsest on.

After LR-ASPP (Howard et al., "Searching for MobileNetV3", 2019, section 6.4), whose gate over the
whole picture it has, with one more resolution and depthwise convolutions between them.
"""

from __future__ import annotations

from typing import cast

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

LIGHT = "light"


class LightSegmenter(nn.Module):
    """Normalised pixels (N, 3, H, W) to logits (N, classes, H / 8, W / 8)."""

    first_map = 3
    """Of the encoder's maps the first, of an eighth of the picture, that is used."""

    def __init__(
        self,
        encoder_name: str,
        encoder_weights: str | None = None,
        classes: int = 1,
        decoder_channels: int = 128,
        encoder_output_stride: int = 32,
    ) -> None:
        super().__init__()
        self.encoder = smp.encoders.get_encoder(
            encoder_name, weights=encoder_weights, output_stride=encoder_output_stride
        )
        self.decoder = LightDecoder(self.encoder.out_channels, decoder_channels)
        self.segmentation_head = nn.Conv2d(decoder_channels, classes, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        return cast(Tensor, self.segmentation_head(self.decoder(self.encoder(pixels))))


class LightDecoder(nn.Module):
    """Maps at a thirty-second, a sixteenth and an eighth of the picture to maps at an eighth."""

    def __init__(self, encoder_channels: list[int], channels: int) -> None:
        super().__init__()
        eighth, sixteenth, deepest = encoder_channels[-3:]
        self.deepest = _unit(deepest, channels)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(deepest, channels, 1), nn.Sigmoid()
        )
        self.sixteenth = _unit(sixteenth, channels, relu=False)
        self.eighth = _unit(eighth, channels, relu=False)
        self.middle, self.last = _separable(channels), _separable(channels)

    def forward(self, maps: list[Tensor]) -> Tensor:
        eighth, sixteenth, deepest = maps[-3:]
        values = self.deepest(deepest) * self.gate(deepest)
        if deepest.shape[-1] != sixteenth.shape[-1]:
            values = _doubled(values)
        values = self.middle(torch.relu(values + self.sixteenth(sixteenth)))
        return cast(Tensor, self.last(torch.relu(_doubled(values) + self.eighth(eighth))))


def _doubled(maps: Tensor) -> Tensor:
    return nn.functional.interpolate(maps, scale_factor=2.0, mode="nearest")


def _unit(inputs: int, outputs: int, *, relu: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


def _separable(channels: int) -> nn.Sequential:
    """3x3 within each channel, then 1x1 across."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        _unit(channels, channels),
    )
