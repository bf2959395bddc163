"""R-ASPP, the decoder of DeepLabV3 on MobileNetV2 (Sandler et al., "MobileNetV2", 2018, section
6.3): beside the last maps their mean over the whole picture, and no other dilations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

REDUCED = "raspp"
Numbers = tuple[Tensor, Tensor]
"""Weight and bias of a convolution."""


class ReducedSegmenter(nn.Module):
    """Normalised pixels (N, 3, H, W) to logits (N, classes, h, w), as large as the last maps."""

    first_map = 5
    """Of the encoder's maps the first that is used: the last."""

    def __init__(
        self,
        encoder_name: str,
        encoder_weights: str | None = None,
        classes: int = 1,
        decoder_channels: int = 256,
        encoder_output_stride: int = 16,
    ) -> None:
        super().__init__()
        self.encoder = smp.encoders.get_encoder(
            encoder_name, weights=encoder_weights, output_stride=encoder_output_stride
        )
        self.decoder = ReducedDecoder(self.encoder.out_channels[-1], decoder_channels)
        self.segmentation_head = nn.Conv2d(decoder_channels, classes, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        return cast(Tensor, self.segmentation_head(self.decoder(self.encoder(pixels))))

    def take(self, read: Sequence[Numbers]) -> None:
        """Have these numbers of decoder and head, if they are of such a one."""
        layers = [
            self.decoder.everywhere,
            self.decoder.picture,
            self.decoder.projection,
            self.segmentation_head,
        ]
        wanted = [each.weight.shape for each in layers]
        if [weight.shape for weight, _ in read] != wanted:
            return
        with torch.no_grad():
            for layer, (weight, bias) in zip(layers, read, strict=True):
                layer.weight.copy_(weight)
                cast(Tensor, layer.bias).copy_(bias)


class ReducedDecoder(nn.Module):
    """The encoder's maps to maps of ``channels``, as large as the last of them."""

    def __init__(self, deepest: int, channels: int) -> None:
        super().__init__()
        self.everywhere = nn.Conv2d(deepest, channels, 1)
        self.picture = nn.Conv2d(deepest, channels, 1)
        self.projection = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        everywhere = torch.relu(self.everywhere(maps[-1]))
        whole = torch.relu(self.picture(nn.functional.adaptive_avg_pool2d(maps[-1], 1)))
        both = torch.cat([whole.expand_as(everywhere), everywhere], 1)
        return torch.relu(self.projection(both))
