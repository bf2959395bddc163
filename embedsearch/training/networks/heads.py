"""The trainable part of ``mini``: a head on pooled image features, and the text tower."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from embedsearch.training.networks.mobilenetv2 import FEATURES

SMALLEST_DEVIATION = 1e-3
"""Channels that hardly ever change are not blown up to matter."""
MAX_SCALE = 100.0
"""The inverse temperature is held below this, as in CLIP (Radford et al., 2021, section 2.5)."""


class ImageHead(nn.Module):
    """Features (N, inputs) to unit vectors (N, dim): standardisation and one linear layer."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int, dropout: float, inputs: int = FEATURES) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(inputs, dim)
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))

    def standardise(self, features: Tensor) -> None:
        """Take over mean and deviation of each channel of ``features``, float32 (N, inputs)."""
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0).clamp_min(SMALLEST_DEVIATION))

    def forward(self, features: Tensor) -> Tensor:
        standard = (features - self.mean) / self.deviation
        return normalize(self.linear(self.dropout(standard)), dim=1)

    def folded(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight (dim, inputs) and bias (dim,) of the one linear layer that this is, float32."""
        with torch.no_grad():
            weight = self.linear.weight / self.deviation
            bias = self.linear.bias - weight @ self.mean
        return weight.numpy(), bias.numpy()


class TextHead(nn.Module):
    """Bags of token rows to unit vectors; what ``encoders.text`` runs without PyTorch."""

    def __init__(self, rows: Tensor, hidden: int, dim: int) -> None:
        """``rows`` is float32 (tokens, width), the table to start from."""
        super().__init__()
        width = rows.shape[1]
        self.table = nn.EmbeddingBag.from_pretrained(rows.clone(), freeze=False, mode="mean")
        self.hidden = nn.Linear(width, hidden)
        self.output = nn.Linear(hidden + width, dim)

    def forward(self, ids: Tensor, offsets: Tensor) -> Tensor:
        """``ids`` int64 (tokens of all texts), ``offsets`` int64 (N,): where each text begins."""
        mean = self.table(ids, offsets)
        joined = torch.cat([self.hidden(mean).relu(), mean], dim=1)
        return normalize(self.output(joined), dim=1)


class Heads(nn.Module):
    """Both heads and the temperature that their contrast is taken at."""

    def __init__(
        self, rows: Tensor, *, dim: int, hidden: int, dropout: float, temperature: float
    ) -> None:
        super().__init__()
        self.image = ImageHead(dim, dropout)
        self.text = TextHead(rows, hidden, dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))

    def scale(self) -> Tensor:
        """The inverse temperature."""
        return self.log_scale.exp().clamp(max=MAX_SCALE)
