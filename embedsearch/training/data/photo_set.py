"""The photos of a run: which are trained on, which are held out, and their labels as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsearch.training.data.photo_lists import split, thinned
from embedsearch.training.data.photos import Photo
from embedsearch.training.recipe import Data


@dataclass(frozen=True)
class PhotoSet:
    """Photos, and places among them."""

    photos: Sequence[Photo]
    kept: NDArray[np.int64]
    """Places of those to train on, in order."""
    held: NDArray[np.int64]
    """Places of those held out, in order."""
    names: Sequence[str]
    """Of each label the usual name, in alphabetical order of the labels."""
    labels: NDArray[np.int64]
    """(photos,): a place in ``names``; -1 without a label."""

    @property
    def held_photos(self) -> list[Photo]:
        """Those held out."""
        return [self.photos[place] for place in self.held]

    @property
    def kept_labels(self) -> NDArray[np.int64]:
        """Labels of the photos to train on that have one."""
        labels = self.labels[self.kept]
        return labels[labels >= 0]

    @property
    def has_texts(self) -> bool:
        """Whether every photo has captions or a name."""
        return all(photo.captions or photo.names for photo in self.photos)


def photo_set(photos: Sequence[Photo], data: Data) -> PhotoSet:
    """Hold photos out and number the labels, as ``data`` says.

    Raises :class:`~embedsearch.errors.DataError`.
    """
    kept, held = split(photos, data.held_out, data.split_seed)
    if data.per_class:
        kept = thinned(photos, kept, data.per_class, data.split_seed)
    first: dict[str, str] = {}
    for photo in photos:
        if photo.label is not None:
            first.setdefault(photo.label, photo.names[0])
    place = {label: number for number, label in enumerate(sorted(first))}
    labels = [-1 if photo.label is None else place[photo.label] for photo in photos]
    return PhotoSet(
        photos,
        np.array(kept, np.int64),
        np.array(held, np.int64),
        [first[label] for label in sorted(first)],
        np.array(labels, np.int64),
    )
