"""What tests of ``distill`` share: a teacher that knows words, a recipe over a small student."""

from __future__ import annotations

from pathlib import Path

import torch
from small_training import SIZE, draw_classes, write_captions, write_table
from torch_models import TIMM, save_timm

from embedsearch.training.networks.loading import load_trainable
from embedsearch.training.networks.trained_folder import write_trained
from embedsearch.training.recipe import Distillation
from embedsearch.training.recipe_files import overridden

DIM = 12
"""Of the teacher."""


def draw_teacher(folder: Path) -> Path:
    """Photos of three classes, their captions, and a teacher that knows words."""
    write_captions(draw_classes(folder / "photos"))
    torch.manual_seed(5)
    teacher = load_trainable(
        f"timm:{TIMM}@{save_timm(folder, 1)}",
        dim=DIM,
        size=SIZE,
        text=write_table(folder / "table"),
        hidden=6,
    )
    write_trained(teacher, folder / "teacher", description="of a test")
    save_timm(folder, 2)
    return folder


def recipe(place: Path, *settings: str) -> Distillation:
    """Fifteen epochs on the photos that :func:`draw_teacher` drew in ``place``."""
    return overridden(
        Distillation(),
        [
            f"model.start=timm:{TIMM}@{place / 'timm-2.safetensors'}",
            f"model.size={SIZE}",
            f"teacher.spec={place / 'teacher'}",
            f"teacher.cache={place / 'cache'}",
            f'data.paths=["{place / "photos"}"]',
            "data.held_out=0.34",
            "data.augmentation=none",
            "optimisation.epochs=15",
            "optimisation.batch=4",
            "optimisation.rate=0.003",
            "optimisation.head_rate=0.01",
            "optimisation.threads=1",
            "optimisation.amp=off",
            *settings,
        ],
    )
