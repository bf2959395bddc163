"""What a classifier takes photos for: pseudo-labels for photos that have captions, or none at all.

A classifier trained on many classes names things that no caption mentions. Its guesses are taken as
shares, not as labels: a photo of a dog on a sofa is a bit of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders import registry
from embedsearch.errors import DataError
from embedsearch.training.data.photos import label_names
from embedsearch.training.teachers.teacher import Progress, teach_photos

PROMPT = "a photo of a {}"
BACKGROUND = "background"
"""A class of this name, which some classifiers have for what is none of the others, is left out."""
_OTHER_NAME_SHARE = 0.4
_VIEWS = ("plain", "mirror")


@dataclass(frozen=True)
class Guesses:
    """Shares of C classes in each of N photos."""

    shares: NDArray[np.float16]
    """(N, C); each row sums to 1."""
    names: Sequence[tuple[str, ...]]
    """Of each class, the usual name first."""

    def prompts(self, rng: np.random.Generator) -> list[str]:
        """A text for each class: mostly around its usual name, else around another of its names."""
        chosen = (
            names[rng.integers(len(names))] if rng.random() < _OTHER_NAME_SHARE else names[0]
            for names in self.names
        )
        return [PROMPT.format(name) for name in chosen]


def read_class_names(path: Path) -> list[tuple[str, ...]]:
    """Names of classes, one class a line, its names parted by commas.

    Raises :class:`~embedsearch.errors.DataError` naming the file.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    names = [label_names(line) for line in lines]
    for number, of_class in enumerate(names, 1):
        if not of_class:
            raise DataError(f"{path}, line {number}: holds no name of a class")
    if len(names) < 2:
        raise DataError(f"{path}: holds no list of classes, one a line")
    return names


def guess(
    spec: str,
    names: Sequence[tuple[str, ...]],
    files: Sequence[Path],
    *,
    cache: Path,
    progress: Progress = lambda what, done, total: None,
) -> Guesses:
    """Ask a classifier about photos and their mirror images.

    ``spec`` is an encoder without a text tower whose numbers are probabilities of classes, as
    ``litert:FILE`` of an image classifier is. Answers are kept in the folder ``cache``. Raises
    :class:`~embedsearch.errors.DataError` where there are other numbers than names, or they cannot
    be probabilities, and :class:`~embedsearch.errors.EncoderError`.
    """
    classifier = registry.load(spec)
    if classifier.info.dim != len(names):
        raise DataError(
            f"{spec} knows {classifier.info.dim} classes, and {len(names)} are named; the names "
            "are one class a line, in the classifier's order"
        )
    rows = teach_photos(classifier, files, _VIEWS, cache=cache, progress=progress)
    if rows.min() < 0:
        raise DataError(f"{spec}: what it gives are no probabilities; it must end in a softmax")
    kept = [place for place, of_class in enumerate(names) if of_class[0].casefold() != BACKGROUND]
    shares = rows[:, kept].astype(np.float32)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-6)
    return Guesses(shares.astype(np.float16), [names[place] for place in kept])
