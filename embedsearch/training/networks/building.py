"""From an architecture to an encoder with weights of no meaning, and new heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from embedsearch.errors import DataError, EncoderError
from embedsearch.training.networks.architecture import FOLDED, MOBILENETV2, Architecture
from embedsearch.training.networks.encoder import TrainableEncoder, channels
from embedsearch.training.networks.folding import FoldedMobileNetV2
from embedsearch.training.networks.mobilenetv2 import MobileNetV2
from embedsearch.training.networks.pooling import make_pool
from embedsearch.training.networks.shortening import leave_out
from embedsearch.training.networks.stages import mobilenetv2_stages, split
from embedsearch.training.networks.towers import BagText, FeatureHead, ImageTower, OpenClipText

PROBED = 64
"""Side of the picture of noise by which the number of channels is found out."""


def build(about: Architecture, tokens: Sequence[str] = (), width: int = 0) -> TrainableEncoder:
    """An encoder of this architecture with weights of no meaning. ``tokens`` and ``width`` are of
    the table of a text tower of kind ``bag``."""
    network, run = _bare(about)
    clip = network if about.kind == "openclip" else None
    if clip is not None:
        network, run = cast(nn.Module, clip.visual), "forward"
    image = image_tower(about, network, run)
    leave_out(image, about.without, max(about.size, PROBED))
    image.head = new_head(image, about)
    text: nn.Module | None = None
    if about.text == "bag":
        text = BagText(tokens, torch.zeros(len(tokens), width), about.hidden, about.dim)
    elif clip is not None and about.text == "openclip":
        del clip.visual
        text = OpenClipText(clip, about.model)
    return TrainableEncoder(about, image, text)


def new_head(image: ImageTower, about: Architecture) -> nn.Module:
    """What stands behind the pooling: a linear head, or nothing."""
    if not about.dim or about.kind == "openclip":
        return nn.Identity()
    image.head = nn.Identity()
    return FeatureHead(channels(image, max(about.size, PROBED)), about.dim, about.dropout)


def image_tower(about: Architecture, network: nn.Module, run: str) -> ImageTower:
    """``network`` in stages, with its pooling and no head; its method ``run`` gives the maps."""
    if about.kind in (MOBILENETV2, FOLDED):
        inner = network.network if isinstance(network, FoldedMobileNetV2) else network
        stages, sequential = mobilenetv2_stages(cast(MobileNetV2, inner)), True
    else:
        own = about.kind == "openclip"
        size = max(about.size, PROBED) if not own else about.size
        stages, sequential = split(network, run, size, last=about.last or None, whole=own)
        if about.last and not sequential:
            raise EncoderError(
                f"torchvision:{about.model}: its parts do not follow one another, so it cannot be "
                "trained here; timm has most networks too."
            )
    pool = nn.Identity() if about.pool == "own" else make_pool(about.pool)
    return ImageTower(network, stages, pool, nn.Identity(), run=run, sequential=sequential)


def forget(network: nn.Module) -> None:
    """Draw all weights anew, as their layers do when they are made."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif hasattr(module, "reset_parameters"):
            module.reset_parameters()


def _bare(about: Architecture) -> tuple[nn.Module, str]:
    """A network without trained weights, and the method that gives its maps."""
    if about.kind == MOBILENETV2:
        return MobileNetV2(about.expanded, about.stem), "forward"
    if about.kind == FOLDED:
        return FoldedMobileNetV2(MobileNetV2(about.expanded, about.stem)), "forward"
    if about.kind == "timm":
        from embedsearch.encoders import timm

        return timm.bare(about.model), "forward_features"
    if about.kind == "torchvision":
        from embedsearch.encoders import torchvision

        return torchvision.bare(about.model), "forward"
    if about.kind == "openclip":
        import open_clip

        return open_clip.create_model(about.model), "forward"
    raise DataError(f"there is no architecture {about.kind!r}")
