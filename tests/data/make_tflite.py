"""Writes ``tiny.tflite`` anew: ``python tests/data/make_tflite.py`` with the extra ``litert``."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from embedsearch.training.networks.export import export_image_tower
from embedsearch.training.quantize.litert import to_litert

SIZE, DIM = 16, 6


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, DIM, 3, 2, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.maps(pixels).mean((2, 3))


if __name__ == "__main__":
    torch.manual_seed(0)
    tower = export_image_tower(Tiny(), SIZE, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    Path(__file__).with_name("tiny.tflite").write_bytes(to_litert(tower, SIZE))
