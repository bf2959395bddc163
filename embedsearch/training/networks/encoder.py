"""An encoder as PyTorch trains it: both towers, and how pictures are prepared for them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from embedsearch.encoders.folder import EncoderFolder
from embedsearch.training.networks.architecture import Architecture
from embedsearch.training.networks.towers import FeatureHead, ImageTower


class TrainableEncoder(nn.Module):
    """Both towers, how pictures are prepared for them, and how they are built anew."""

    grey: Tensor
    spread: Tensor

    def __init__(self, about: Architecture, image: ImageTower, text: nn.Module | None) -> None:
        super().__init__()
        self.about, self.image, self.text = about, image, text
        self.has_new_head = False
        """Whether the head is drawn at random, and has yet to see features."""
        self.told_hubs: EncoderFolder | None = None
        """A folder that it is from, where rows of that tell hubs apart. Its own do not."""
        self.is_changed = False
        """Whether it is another encoder than that folder holds before anything was trained: of
        other weights, or of fewer."""
        self.register_buffer("grey", torch.tensor(about.mean), persistent=False)
        self.register_buffer("spread", torch.tensor(about.std), persistent=False)

    @property
    def size(self) -> int:
        return self.about.size

    @property
    def mean(self) -> tuple[float, float, float]:
        return self.about.mean

    @property
    def std(self) -> tuple[float, float, float]:
        return self.about.std

    @property
    def dim(self) -> int:
        """Of the embeddings."""
        return channels(self.image, self.size)

    def normalised(self, pixels: Tensor) -> Tensor:
        """From uint8 (N, H, W, 3) to what the image tower takes, float32 (N, 3, H, W)."""
        grey, spread = self.grey.to(pixels.device), self.spread.to(pixels.device)
        scaled = (pixels.float() / 255 - grey) / spread
        # The strides stay those of NHWC, which is PyTorch's channels_last.
        return scaled.permute(0, 3, 1, 2)

    def entering(self, images: Tensor) -> Tensor:
        """What enters the first stage that is run: pixels normalised, activations as they are."""
        return self.normalised(images) if images.dtype == torch.uint8 else images


def channels(image: ImageTower, size: int) -> int:
    """Columns of what the tower gives."""
    head = image.head
    if isinstance(head, FeatureHead):
        return cast(int, head.projection.linear.out_features)
    training = image.training
    with torch.no_grad():
        device = next(image.parameters()).device
        found: int = image.eval()(torch.zeros((1, 3, size, size), device=device)).shape[1]
    image.train(training)
    return found


def used_at(encoder: TrainableEncoder, size: int | None) -> TrainableEncoder:
    """The same encoder, to be used on squares of ``size`` where one is given."""
    if size is not None:
        encoder.about = replace(encoder.about, size=size)
    return encoder


def copied(encoder: TrainableEncoder) -> TrainableEncoder:
    """A copy that shares no weight."""
    return copy.deepcopy(encoder)
