"""The student as its recipe wants it to begin: its network, and whose text tower it has."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from embedsearch.errors import DataError, EmbedSearchError
from embedsearch.training.networks.encoder import TrainableEncoder
from embedsearch.training.networks.loading import load_trainable
from embedsearch.training.networks.start import start_from
from embedsearch.training.networks.towers import BagText
from embedsearch.training.recipe import Distillation

TEXTS = ("auto", "copy", "train", "none")


@dataclass(frozen=True)
class Student:
    """An encoder that has not learned yet."""

    encoder: TrainableEncoder
    frozen_text: bool
    """Whether its text tower stays as it is: a copy of the teacher's, or as the recipe says."""


def start_student(recipe: Distillation, dim: int) -> Student:
    """Load the student and, where it takes that over, the teacher's text tower. ``dim`` are the
    dimensions of the teacher.

    Raises :class:`~embedsearch.errors.EmbedSearchError` for what cannot be had or joined.
    """
    model, wanted = recipe.model, recipe.teacher.text
    if model.narrower:
        raise DataError(
            "make the student narrower first, and name what that writes: embedsearch finetune "
            f"DATA --encoder {model.start} --epochs 0 --set model.narrower={model.narrower:g}"
        )
    if model.hubs:
        raise DataError(
            "let the rows of what is taught tell hubs apart afterwards: embedsearch finetune DATA "
            f"--encoder STUDENT --epochs 0 --set model.hubs={model.hubs}"
        )
    if wanted not in TEXTS:
        raise DataError(f"the student's text tower is {', '.join(TEXTS)}, not {wanted!r}")
    torch.manual_seed(recipe.optimisation.seed)
    theirs = None if wanted == "none" or model.text else _text_of(recipe.teacher.spec)
    if wanted == "copy" and theirs is None:
        raise DataError(
            f"the text tower of {recipe.teacher.spec} cannot be copied: it is no bag of "
            "tokens, or not of one encoder alone. Start one: --text DIR"
        )
    student = start_from(model, model.dim if model.dim is not None else dim)
    copies = theirs is not None and theirs.head.output.out_features == student.dim
    if wanted == "copy" and not copies:
        raise DataError(
            f"a copied text tower gives {dim} dimensions, the student {student.dim}; leave --dim "
            "out"
        )
    if wanted == "none":
        student.text, student.about = None, replace(student.about, text="none")
    elif copies and (wanted != "train" or student.text is None):
        assert theirs is not None
        student.text = theirs
        hidden = theirs.head.hidden.out_features
        student.about = replace(student.about, text="bag", hidden=hidden)
    return Student(student, recipe.freeze.text or (copies and wanted != "train"))


def _text_of(spec: str) -> BagText | None:
    """The teacher's text tower, where it is one that can be copied."""
    try:
        tower = load_trainable(spec).text
    except EmbedSearchError:  # nothing that PyTorch trains; it still teaches
        return None
    return tower if isinstance(tower, BagText) else None
