"""A teacher on a GPU: encoder folders run there by PyTorch, as ONNX Runtime has them on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import nn

from embedsearch.encoders.base import Embeddings, Encoder, Pixels
from embedsearch.encoders.compound import JoinedEncoder
from embedsearch.encoders.preprocess import to_square
from embedsearch.encoders.towers import joined_again
from embedsearch.errors import EncoderError
from embedsearch.records import EncoderInfo
from embedsearch.training.evaluate.held_out import embed_texts
from embedsearch.training.looks.drawing import resized
from embedsearch.training.loop.steps import Precision
from embedsearch.training.networks.encoder import TrainableEncoder
from embedsearch.training.networks.loading import load_trainable


class TorchTeacher:
    """Both towers of an encoder that can be trained, for asking only."""

    def __init__(self, encoder: TrainableEncoder, info: EncoderInfo, device: torch.device) -> None:
        """``info`` is that of the same encoder where others run it."""
        self._encoder = encoder.requires_grad_(False).eval().to(device)
        self._encoder.image.to(memory_format=torch.channels_last)
        self._info, self._device = info, device
        self._precision = Precision("auto", device)
        self._running = threading.Lock()

    @property
    def info(self) -> EncoderInfo:
        return self._info

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        """Embed pictures, uint8 (H, W, 3): float32 (len(images), dim), unit rows. Squares of one
        size, as kept looks are, are brought to that of the encoder on the device."""
        about = self._encoder.about
        if len({image.shape for image in images}) > 1 or images[0].shape[0] != images[0].shape[1]:
            images = [
                to_square(image, about.size, about.resize, about.interpolation) for image in images
            ]
        with self._running, torch.no_grad(), self._precision.autocast():
            pixels = torch.from_numpy(np.stack(images)).to(self._device)
            if pixels.shape[1] != about.size:
                pixels = resized(pixels, about.size)
            rows: Embeddings = self._encoder.image(self._encoder.normalised(pixels)).cpu().numpy()
        return rows

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed texts: float32 (len(texts), dim), unit rows."""
        with self._running:
            return embed_texts(self._encoder, texts)


def on_device(encoder: Encoder, device: torch.device) -> Encoder:
    """The same encoder with those of its parts on ``device`` that PyTorch can train; on a CPU it
    stays as it is."""
    if device.type == "cpu":
        return encoder
    if isinstance(encoder, JoinedEncoder):
        return joined_again(encoder, [on_device(part, device) for part in encoder.parts])
    if getattr(encoder, "runs_on", "CPU") != "CPU":
        return encoder
    try:
        trainable = load_trainable(encoder.info.spec)
    except EncoderError:  # nothing that PyTorch has; it teaches from where it is
        return encoder
    if encoder.info.has_text and not isinstance(trainable.text, nn.Module):
        return encoder
    return cast(Encoder, TorchTeacher(trainable, encoder.info, device))
