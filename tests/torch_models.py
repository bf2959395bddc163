"""Tiny models of other libraries, each saved in that library's own format."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import timm
import torch
import torchvision
from safetensors.torch import save_file

ARCH = "tiny-resnet"
TRANSFORMER = "tiny-transformer"
TIMM = "test_resnet"
TORCHVISION = "squeezenet1_1"
_TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
_CONFIGS = {
    ARCH: {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
        "text_cfg": _TEXT,
    },
    TRANSFORMER: {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 16,
        },
        "text_cfg": _TEXT,
    },
}


def add_tiny_architecture(folder: Path, arch: str = ARCH) -> None:
    """Let open_clip know an architecture of its own kinds (ResNet, transformer), but tiny."""
    config = folder / f"{arch}.json"
    config.write_text(json.dumps(_CONFIGS[arch]))
    open_clip.add_model_config(config)


def save_openclip(folder: Path, seed: int = 0, arch: str = ARCH) -> Path:
    """A training checkpoint as open_clip writes it."""
    add_tiny_architecture(folder, arch)
    torch.manual_seed(seed)
    model = open_clip.create_model(arch)
    path = folder / f"openclip-{seed}.pt"
    torch.save({"epoch": 1, "name": "test", "state_dict": model.state_dict()}, path)
    return path


def save_timm(folder: Path, seed: int = 0, model: str = TIMM) -> Path:
    """A classifier of 10 classes in safetensors."""
    torch.manual_seed(seed)
    path = folder / f"timm-{seed}.safetensors"
    save_file(timm.create_model(model, num_classes=10).state_dict(), path)
    return path


def save_torchvision(folder: Path, seed: int = 0) -> Path:
    """A state dict of ``torch.save``."""
    torch.manual_seed(seed)
    path = folder / f"torchvision-{seed}.pth"
    torch.save(torchvision.models.get_model(TORCHVISION, weights=None).state_dict(), path)
    return path
