"""A convolutional network with a CTC output: likelihoods of signs for every four pixels across."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from embedsearch.enrichers.ocr_own import COLUMN


class WordNetwork(nn.Module):
    """Grey words to signs. All strides across together are COLUMN; downwards nothing is left.

    Convolutions alone, with a wide one along the word at the end in the place of the recurrent
    layers of Shi et al., "An End-to-End Trainable Neural Network for Image-based Sequence
    Recognition" (2015).
    """

    def __init__(self, height: int, signs: int, width: int, dropout: float) -> None:
        super().__init__()
        if height % 16:
            raise ValueError(f"height must be a multiple of 16, not {height}")
        self.stages = nn.Sequential(
            _block(1, width, (2, 2)),
            _block(width, 2 * width, (2, 2)),
            _block(2 * width, 4 * width, (1, 1)),
            _block(4 * width, 4 * width, (2, 1)),
            _block(4 * width, 6 * width, (1, 1)),
            _block(6 * width, 6 * width, (2, 1)),
            _block(6 * width, 8 * width, (1, 1), kernel=(height // 16, 1), padding=(0, 0)),
        )
        self.along = nn.Sequential(
            nn.Conv1d(8 * width, 8 * width, 5, padding=2, bias=False),
            nn.BatchNorm1d(8 * width),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Conv1d(8 * width, signs + 1, 3, padding=1),
        )

    def forward(self, grey: Tensor) -> Tensor:
        """uint8 (N, height, W), W a multiple of COLUMN: logits (N, W / COLUMN, signs + 1)."""
        entered = (grey[:, None].float() - 127.5) / 64
        logits: Tensor = self.along(self.stages(entered).squeeze(2)).transpose(1, 2)
        return logits


class _Likely(nn.Module):
    def __init__(self, network: WordNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, grey: Tensor) -> Tensor:
        return self.network(grey).softmax(2)


def export(network: WordNetwork, height: int, path: Path) -> None:
    """Write ONNX: uint8 (N, height, W) to likelihoods, for any N and W."""
    made = io.BytesIO()
    words = torch.zeros(1, height, 16 * COLUMN, dtype=torch.uint8)
    with warnings.catch_warnings():
        # PyTorch's other exporter needs the package onnxscript, and wins nothing here.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            _Likely(network).eval(),
            (words,),
            made,
            dynamo=False,
            input_names=["words"],
            output_names=["signs"],
            dynamic_axes={"words": {0: "N", 2: "W"}, "signs": {0: "N", 1: "columns"}},
        )
    onnx.save(onnx.load_model_from_string(made.getvalue()), path)


def _block(
    entering: int,
    leaving: int,
    stride: tuple[int, int],
    kernel: tuple[int, int] = (3, 3),
    padding: tuple[int, int] = (1, 1),
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(entering, leaving, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(leaving),
        nn.ReLU(inplace=True),
    )
