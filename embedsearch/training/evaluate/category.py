"""``category``: are the nearest neighbours of the same kind, and do names find them?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedsearch.encoders.base import Embeddings, Encoder
from embedsearch.training.evaluate.ground_truth import (
    Progress,
    encode_files,
    encode_texts,
    read_csv,
    silent,
)
from embedsearch.training.evaluate.metrics import leave_one_out, retrieval_summary

_CODE = re.compile(r"[A-Za-z]{0,2}[_-]?\d+")
"""Labels such as c1, 17 or h_03 are codes: no text can mean them."""


def category_figures(
    pictures: Embeddings, labels: Sequence[str], names: Embeddings | None
) -> dict[str, float | None]:
    """Figures of one set: ``{"mAP", "R@1", "zero_shot_accuracy"}``.

    ``pictures`` is (N, dim). mAP and R@1 are leave-one-out: each picture asks for the others of
    its label, and those without another ask nothing. ``names`` is (L, dim), the prompts of the
    sorted label names; the accuracy is the share of pictures nearest to their own, and ``None``
    where ``names`` is.
    """
    summary = retrieval_summary(*leave_one_out(pictures, labels))
    accuracy = None
    if names is not None:
        kinds = np.array(sorted(set(labels)))
        accuracy = float((kinds[(pictures @ names.T).argmax(axis=1)] == np.asarray(labels)).mean())
    return {"mAP": summary["mAP"], "R@1": summary["R@1"], "zero_shot_accuracy": accuracy}


def overall_figures(
    sets: dict[str, dict[str, float | None]], sizes: dict[str, int]
) -> dict[str, float | None]:
    """Means over the sets, weighted by their pictures; sets without a figure are left out."""
    overall: dict[str, float | None] = {}
    for figure in ("mAP", "R@1", "zero_shot_accuracy"):
        known = [
            (value, sizes[n]) for n, told in sets.items() if (value := told[figure]) is not None
        ]
        total = sum(size for _, size in known)
        overall[figure] = sum(value * size for value, size in known) / total if known else None
    return overall


def prompt(label: str) -> str:
    """What a label is asked by: ``a photo of a ...``, with ``_`` read as a space."""
    return f"a photo of a {label.replace('_', ' ')}"


def are_codes(labels: Sequence[str]) -> bool:
    """Whether the labels of a set are all codes rather than names."""
    return all(_CODE.fullmatch(label) for label in labels)


def evaluate_category(path: Path, encoder: Encoder, progress: Progress = silent) -> dict[str, Any]:
    """Measure on a CSV with ``file``, ``set`` and ``label``: ``{"overall": {...}, "sets": {NAME:
    {...}}}``, each as :func:`category_figures`. An encoder without a text tower has no zero-shot
    accuracy. Raises :class:`~embedsearch.errors.DataError`."""
    rows = read_csv(path, ("file", "set", "label"))
    names, labels = [row.text("set") for row in rows], [row.text("label") for row in rows]
    pictures = encode_files(encoder, [(row.file(), row.where) for row in rows], progress)
    sets: dict[str, dict[str, float | None]] = {}
    for name in dict.fromkeys(names):
        places = [place for place, other in enumerate(names) if other == name]
        mine = [labels[place] for place in places]
        kinds = sorted(set(mine))
        prompts = None
        if encoder.info.has_text and not are_codes(kinds):
            prompts = encode_texts(encoder, [(prompt(kind), str(path)) for kind in kinds])
        sets[name] = category_figures(pictures[places], mine, prompts)
    return {
        "overall": overall_figures(sets, {name: names.count(name) for name in sets}),
        "sets": sets,
    }
