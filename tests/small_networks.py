"""Image towers small enough to quantise in a test, as encoder folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto
from PIL import Image
from torch import Tensor, nn

from embedsearch.encoders.folder import EncoderFolder, hash_file
from embedsearch.training.networks.export import export_image_tower

SIZE, DIM = 32, 8
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Block(nn.Module):
    """Expand, filter each channel, project; the input added."""

    def __init__(self, width: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.expand = nn.Sequential(
            nn.Conv2d(width, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width), activation()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width), activation()
        )
        self.project = nn.Conv2d(2 * width, width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.project(self.depthwise(self.expand(maps)))


class Network(nn.Module):
    """A MobileNet of three layers and a head; channels as uneven as trained ones are."""

    def __init__(self, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16))
        self.start = activation()
        self.block = Block(16, activation)
        self.last = nn.Sequential(nn.Conv2d(16, 32, 1), activation())
        self.head = nn.Linear(32, DIM)

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.last(self.block(self.start(self.stem(pixels))))
        return self.head(maps.mean((2, 3)))


def network(activation: type[nn.Module] = nn.ReLU, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    made = Network(activation)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            module.running_var.data = torch.exp(torch.randn(module.num_features))
            module.weight.data = torch.exp(torch.randn(module.num_features))
    return made.eval()


def tower(made: nn.Module) -> ModelProto:
    return export_image_tower(made, SIZE, MEAN, STD)


def blobs(count: int, size: int = SIZE, seed: int = 3) -> list[np.ndarray]:
    """Soft blobs of colour, uint8 (size, size, 3)."""
    coarse = torch.from_numpy(np.random.default_rng(seed).uniform(0, 255, (count, 3, 6, 6)))
    large = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")
    return list(large.clamp(0, 255).permute(0, 2, 3, 1).numpy().astype(np.uint8))


def write_photos(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for place, pixels in enumerate(blobs(count, 48)):
        Image.fromarray(pixels).save(folder / f"{place:02d}.png")
    return folder


def write_encoder(folder: Path, made: nn.Module) -> Path:
    folder.mkdir(parents=True)
    onnx.save(tower(made), folder / "image.onnx")
    EncoderFolder(
        path=folder,
        name="small",
        licence="Apache-2.0",
        description="Three layers",
        dim=DIM,
        input_size=SIZE,
        resize="squash",
        interpolation="bilinear",
        mean=MEAN,
        std=STD,
        pooling="avg",
        has_text=False,
        hashes={"image.onnx": hash_file(folder / "image.onnx")},
    ).write()
    return folder
