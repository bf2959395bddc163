"""What tests of training share: pictures of three kinds, a small network, a few words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from torch_models import TIMM, save_timm

from embedsearch.training.augment.policies import augmentation
from embedsearch.training.data.photo_lists import read_photo_list
from embedsearch.training.looks.drawing import Looks
from embedsearch.training.networks.loading import load_trainable
from embedsearch.training.recipe import Recipe
from embedsearch.training.recipe_files import overridden

KINDS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 60, 220)}
WORDS = ["[UNK]", "a", "photo", "of", "the", "picture", "red", "green", "blue", "thing"]
SIZE = 32


def draw_looks(folder: Path) -> Looks:
    """Two pictures of each kind, for a small network."""
    photos = read_photo_list(draw_classes(folder / "photos", each=2))
    encoder = load_trainable(f"timm:{TIMM}@{save_timm(folder)}", size=SIZE)
    return Looks(photos, encoder, augmentation("standard", SIZE))


def draw_classes(folder: Path, each: int = 6) -> Path:
    """A folder a class: noisy pictures of one colour."""
    rng = np.random.default_rng(0)
    for name, colour in KINDS.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            noise = rng.normal(0, 40, (40, 48, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def write_captions(photos: Path) -> Path:
    """Captions of the same pictures."""
    path = photos.parent / "captions.jsonl"
    lines = [
        {
            "file": str(file.relative_to(photos.parent)),
            "captions": [f"a {file.parent.name} thing", f"the {file.parent.name} picture"],
        }
        for file in sorted(photos.rglob("*.png"))
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_table(folder: Path, width: int = 8) -> Path:
    """A model2vec folder of a few words."""
    folder.mkdir()
    told = {
        "model": {"type": "WordPiece", "vocab": {word: n for n, word in enumerate(WORDS)}},
        "normalizer": {"type": "BertNormalizer", "lowercase": True},
    }
    (folder / "tokenizer.json").write_text(json.dumps(told))
    rows = np.random.default_rng(1).normal(size=(len(WORDS), width)).astype(np.float32)
    save_file({"embeddings": rows}, folder / "model.safetensors")
    return folder


def small_recipe(folder: Path, data: Path, *settings: str) -> Recipe:
    """A recipe over timm's smallest network at 32 pixels, two epochs of small steps."""
    checkpoint = folder / "timm-0.safetensors"
    if not checkpoint.is_file():
        save_timm(folder)
    return overridden(
        Recipe(),
        [
            f"model.start=timm:{TIMM}@{checkpoint}",
            f"model.size={SIZE}",
            f'data.paths=["{data}"]',
            "data.held_out=0.34",
            "optimisation.epochs=2",
            "optimisation.batch=4",
            "optimisation.threads=1",
            *settings,
        ],
    )
