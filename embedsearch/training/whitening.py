"""Whitening within classes: axes on which photos of one kind differ count less, so that the nearest
neighbour of a photo is more often of its kind.

Hatch, Kajarekar and Stolcke, "Within-class covariance normalization" (2006), for pictures; what is
new is that the text tower gets the inverse, so that the products of texts and pictures stay as they
are. Both maps are folded into the last layers: nothing becomes slower.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embedsearch.encoders.base import Embeddings
from embedsearch.errors import DataError
from embedsearch.training.balance import Labels
from embedsearch.training.towers import BagText, FeatureHead
from embedsearch.training.trainable import TrainableEncoder

Map = NDArray[np.float64]
"""Symmetric, (dim, dim)."""
NONE, AUTO = "none", "auto"
SHRINKS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
"""What is tried where it is to be chosen."""
_FOLDS = 4
_BLOCK = 1024


def parse_shrink(written: str) -> float | None:
    """How much of the mean variance is added to that of every axis before it is evened out;
    ``None`` for ``auto``. Raises :class:`~embedsearch.errors.DataError`."""
    if written == AUTO:
        return None
    try:
        shrink = float(written)
    except ValueError:
        shrink = -1.0
    if not 0 < shrink < np.inf:
        raise DataError(f"whiten is none, auto, or a number over 0 such as 0.3, not {written}")
    return shrink


def within_classes(embeddings: Embeddings, labels: Labels) -> Map:
    """Covariance of ``embeddings`` (N, dim) around the mean of their class, by ``labels`` (N,).

    Raises :class:`~embedsearch.errors.DataError` where no class has two photos.
    """
    rows = embeddings.astype(np.float64)
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), rows.shape[1]))
    np.add.at(sums, classes, rows)
    apart = rows - (sums / counts[:, None])[classes]
    freedom = len(rows) - len(counts)
    if freedom < 1:
        raise DataError("whiten needs photos with labels, two or more of a label")
    covariance: Map = apart.T @ apart / freedom
    return covariance


def whitening(covariance: Map, shrink: float) -> tuple[Map, Map]:
    """The map of pictures, (covariance / mean variance + shrink)^(-1/2), and its inverse, that of
    texts. Both leave what is of mean variance about as it was, up to one factor."""
    variances, axes = np.linalg.eigh(covariance)
    scales = np.sqrt(np.maximum(variances, 0) / variances.mean() + shrink)
    return (axes / scales) @ axes.T, (axes * scales) @ axes.T


def choose_shrink(
    embeddings: Embeddings, labels: Labels, seed: int
) -> tuple[float, list[dict[str, float]]]:
    """The best of :data:`SHRINKS` for classes that whitening did not see: in four folds of classes,
    each left out once, the share of their photos whose nearest other photo is of their class. And
    that share without and, by ``shrink``, with each."""
    known = np.unique(labels)
    parts = np.array_split(np.random.default_rng(seed).permutation(known), _FOLDS)
    if min(map(len, parts)) < 2:
        raise DataError(f"whiten auto needs {2 * _FOLDS} labels; name a number such as 0.3")
    outside = [np.isin(labels, part) for part in parts]
    seen = [within_classes(embeddings[~held], labels[~held]) for held in outside]

    def score(shrink: float | None) -> float:
        told = []
        for held, covariance in zip(outside, seen, strict=True):
            rows: NDArray[np.floating] = embeddings[held]
            if shrink is not None:
                rows = rows @ whitening(covariance, shrink)[0]
            told.append(neighbours_of_one_class(rows, labels[held]))
        return float(np.mean(told))

    tried = [{"R@1": score(None)}]
    tried += [{"shrink": shrink, "R@1": score(shrink)} for shrink in SHRINKS]
    best = max(tried[1:], key=lambda told: (told["R@1"], told["shrink"]))["shrink"]
    return best, tried


def neighbours_of_one_class(rows: NDArray[np.floating], labels: Labels) -> float:
    """The share of ``rows`` (N, dim) whose nearest other row by cosine has their label."""
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    right = 0
    for start in range(0, len(unit), _BLOCK):
        cosines = unit[start : start + _BLOCK] @ unit.T
        here = np.arange(len(cosines))
        cosines[here, start + here] = -np.inf
        right += int((labels[cosines.argmax(axis=1)] == labels[start + here]).sum())
    return right / len(unit)


def whiten(encoder: TrainableEncoder, pictures: Map, texts: Map) -> None:
    """Fold the two maps into the last layers of the towers.

    Raises :class:`~embedsearch.errors.DataError` where one ends in no linear layer of ours.
    """
    head, text = encoder.image.head, encoder.text
    if not isinstance(head, FeatureHead) or not (text is None or isinstance(text, BagText)):
        raise DataError("whiten changes the last layers of our own heads; this encoder has others")
    _fold(cast(nn.Linear, head.projection.linear), pictures)
    if text is not None:
        _fold(text.head.output, texts)


def _fold(layer: nn.Linear, by: Map) -> None:
    matrix = torch.tensor(by, dtype=layer.weight.dtype, device=layer.weight.device)
    with torch.no_grad():
        layer.weight.copy_(matrix @ layer.weight)
        layer.bias.copy_(matrix @ layer.bias)
