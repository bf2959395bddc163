"""When some classes have many pictures and others few: weights, sampling, stronger augmentation,
and invented embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Embeddings
from embedsearch.errors import DataError, MissingExtraError

Labels = NDArray[np.int64]
"""The class of each picture, (N,), counted from 0."""
Weighting = Literal["none", "inverse", "effective"]
Sampling = Literal["none", "balanced", "over", "under"]
Synthesis = Literal["smote", "adasyn"]
WEIGHTINGS: tuple[str, ...] = get_args(Weighting)
SAMPLINGS: tuple[str, ...] = get_args(Sampling)
SYNTHESES: tuple[str, ...] = get_args(Synthesis)

BETA = 0.999
"""Of the effective number: about a thousand pictures of a class tell all there is to know."""
NEIGHBOURS = 5
MOST_STRENGTH = 2.0
_LISTED = 5
"""So many classes are named in an error."""


def class_weights(
    labels: Labels, classes: int, method: Weighting = "inverse", beta: float = BETA
) -> NDArray[np.float32]:
    """How much a picture of each class counts: float32 (classes,), their mean over classes 1.

    ``inverse`` is 1 / n for a class of n pictures; ``effective`` is (1 - beta) / (1 - beta ** n)
    (Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", 2019, equation 4),
    which lies between no weights (beta 0) and the inverse (beta towards 1). A class without
    pictures has weight 0 and is left out of the mean.
    """
    _known(method, WEIGHTINGS, "weights of classes")
    if not 0 <= beta < 1:
        raise DataError(f"beta is from 0 to below 1, not {beta:g}")
    counts = count(labels, classes)
    there = np.maximum(counts, 1)
    if method == "none":
        weights = np.ones(classes)
    elif method == "inverse":
        weights = 1 / there
    else:
        weights = (1 - beta) / (1 - beta**there)
    weights = np.where(counts > 0, weights, 0)
    balanced: NDArray[np.float32] = (weights * (counts > 0).sum() / weights.sum()).astype("f4")
    return balanced


def draw_places(labels: Labels, method: Sampling, seed: int) -> Labels:
    """Places of the pictures of one epoch, shuffled: int64 (M,).

    ``none``: each once. ``balanced``: as many as there are pictures, drawn with every class as
    likely as any other, so that rare pictures come often and of common ones some do not.
    ``over``: all, and pictures of rarer classes again until each class has as many as the largest.
    ``under``: of each class as many as the smallest has. Another seed for each epoch.
    """
    _known(method, SAMPLINGS, "sampling")
    rng = np.random.default_rng(seed)
    everyone = np.arange(len(labels))
    if method == "none":
        return rng.permutation(everyone)
    if method == "balanced":
        counts = np.bincount(labels)
        chances = 1 / counts[labels]
        return rng.choice(everyone, len(labels), p=chances / chances.sum())
    if len(np.unique(labels)) < 2:  # which imbalanced-learn refuses, though nothing is to be done
        return rng.permutation(everyone)
    return rng.permutation(_resampled(labels, method, seed))


def augmentation_strengths(
    labels: Labels, classes: int, most: float = MOST_STRENGTH
) -> NDArray[np.float32]:
    """How strongly to augment pictures of each class: float32 (classes,), from 1 for the largest
    to ``most`` for one with a hundredth of its pictures or fewer, evenly by the logarithm."""
    counts = np.maximum(count(labels, classes), 1)
    rarity = np.log(counts.max() / counts) / np.log(100)
    strengths: NDArray[np.float32] = (1 + (most - 1) * np.minimum(rarity, 1)).astype(np.float32)
    return strengths


@dataclass(frozen=True, slots=True)
class Synthesised:
    """Embeddings with invented ones behind them."""

    embeddings: Embeddings
    labels: Labels
    untouched: tuple[int, ...]
    """Rare classes that got none: ADASYN invents where a class borders on others, and around
    these there are only their own."""


def synthesise(
    embeddings: Embeddings,
    labels: Labels,
    method: Synthesis,
    *,
    seed: int,
    neighbours: int = NEIGHBOURS,
    names: Sequence[str] = (),
) -> Synthesised:
    """Invent embeddings of rare classes until each has (about) as many as the largest.

    They lie between an embedding and one of its nearest ``neighbours`` of the same class, brought
    to unit length: SMOTE (Chawla et al., 2002) anywhere in a class, ADASYN (He et al., 2008) where
    other classes are near. What comes in stays as the first rows. ``names`` of the classes are for
    messages.

    Raises :class:`~embedsearch.errors.DataError` where a class has not more than ``neighbours``
    pictures.
    """
    _known(method, SYNTHESES, "synthesis")
    counts = np.bincount(labels)
    rare = [int(place) for place in np.flatnonzero((counts > 0) & (counts < counts.max()))]
    _enough(counts, rare, method, neighbours, names)
    made, kinds, untouched = [embeddings], [labels], []
    for kind in rare:
        invented = _invented(embeddings, labels, kind, method, neighbours, seed)
        if not len(invented):
            untouched.append(kind)
        made.append(invented)
        kinds.append(np.full(len(invented), kind, labels.dtype))
    rows = np.concatenate(made)
    rows[len(labels) :] /= np.linalg.norm(rows[len(labels) :], axis=1, keepdims=True)
    return Synthesised(rows, np.concatenate(kinds), tuple(untouched))


def count(labels: Labels, classes: int) -> NDArray[np.int64]:
    """Pictures of each class: int64 (classes,)."""
    if len(labels) == 0:
        raise DataError("there is no labelled picture to balance")
    return np.bincount(labels, minlength=classes)


def _known(method: str, methods: Sequence[str], what: str) -> None:
    if method not in methods:
        raise DataError(f"there is no {what} {method!r}; there are {', '.join(methods)}")


def _resampled(labels: Labels, method: Sampling, seed: int) -> Labels:
    over, under = _imblearn("over_sampling"), _imblearn("under_sampling")
    sampler = (over.RandomOverSampler if method == "over" else under.RandomUnderSampler)(
        random_state=seed
    )
    sampler.fit_resample(np.empty((len(labels), 1)), labels)
    places: Labels = sampler.sample_indices_
    return places


def _enough(
    counts: Labels, rare: Sequence[int], method: str, neighbours: int, names: Sequence[str]
) -> None:
    short = [kind for kind in rare if counts[kind] <= neighbours]
    if not short:
        return
    told = [f"{names[kind] if names else f'class {kind}'} {counts[kind]}" for kind in short]
    more = f" and {len(short) - _LISTED} more" if len(short) > _LISTED else ""
    fewest = int(min(counts[kind] for kind in short))
    lower = f"lower the number of neighbours to {fewest - 1}, " if fewest > 1 else ""
    raise DataError(
        f"{method.upper()} with {neighbours} neighbours needs {neighbours + 1} pictures of each "
        f"class; too few: {', '.join(told[:_LISTED])}{more}. Add pictures, {lower}"
        "leave these classes out, or oversample instead."
    )


def _invented(
    embeddings: Embeddings, labels: Labels, kind: int, method: str, neighbours: int, seed: int
) -> Embeddings:
    """New rows of one class, not yet of unit length. Both methods treat classes one by one."""
    over = _imblearn("over_sampling")
    missing = {kind: int(np.bincount(labels).max())}
    sampler = (
        over.SMOTE(sampling_strategy=missing, k_neighbors=neighbours, random_state=seed)
        if method == "smote"
        else over.ADASYN(sampling_strategy=missing, n_neighbors=neighbours, random_state=seed)
    )
    try:
        rows, _ = sampler.fit_resample(embeddings, labels)
    except (RuntimeError, ValueError) as error:
        if method == "adasyn" and str(error).startswith(("Not any neig", "No samples will be")):
            return embeddings[:0]
        raise
    invented: Embeddings = rows[len(labels) :].astype(np.float32)
    return invented


def _imblearn(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"imblearn.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "imblearn":
            raise
        raise MissingExtraError("balancing by resampling", "train") from error
