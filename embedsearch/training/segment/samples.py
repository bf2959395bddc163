"""What a segmenter is trained and measured on: photos, and what their pixels show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.class_names import usual
from embedsearch.errors import DataError
from embedsearch.training.data.photo_lists import read_photo_list
from embedsearch.training.data.photos import Photo
from embedsearch.training.evaluate.detection import Half, half_of
from embedsearch.training.evaluate.ground_truth import read_json_lines
from embedsearch.training.evaluate.outlines import (
    IGNORED,
    Outlined,
    mask_values,
    read_outlined,
)
from embedsearch.training.segment.recipe import Data

IMAGES, MASKS = "images", "masks"
ONE_CLASS = "object"
"""The label of a mask's pixels where none is named."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A photo, and where it is told what its pixels show: objects, a mask, or nowhere."""

    file: Path
    outlined: Outlined | None = None
    mask: Path | None = None

    @property
    def is_labelled(self) -> bool:
        return self.outlined is not None or self.mask is not None

    def truth(self, labels: Sequence[str]) -> NDArray[np.uint8] | None:
        """Class of every pixel, uint8 (height, width), n + 1 for ``labels[n]``, or
        :data:`IGNORED`; None where nobody tells.

        Raises :class:`~embedsearch.errors.DataError` for a mask that has other values.
        """
        if self.outlined is not None:
            return self.outlined.label_map(labels)
        if self.mask is None:
            return None
        values = mask_values(self.mask, str(self.mask))
        if len(labels) == 1:
            return (values > 0).astype(np.uint8)
        beyond = values[(values > len(labels)) & (values != IGNORED)]
        if beyond.size:
            raise DataError(
                f"{self.mask}: a pixel is {beyond[0]}, and {len(labels)} labels are named; name "
                "all of them in the order of their values: --set data.labels=..."
            )
        return values


def read_samples(paths: Sequence[Path], half: Half | None) -> tuple[list[Sample], list[Photo]]:
    """Photos with what their pixels show, and photos without, of folders with ``images`` and
    ``masks``, JSON lines with objects, and all that encoders are trained on.

    Raises :class:`~embedsearch.errors.DataError` naming the file.
    """
    labelled: list[Sample] = []
    bare: list[Photo] = []
    for path in paths:
        if (path / MASKS).is_dir():
            labelled += _of_folders(path, half)
        elif path.suffix == ".jsonl" and "objects" in read_json_lines(path)[0].values:
            labelled += [Sample(each.file, outlined=each) for each in read_outlined(path, half)]
        else:
            bare += read_photo_list(path)
    return labelled, bare


def chosen_photos(photos: Sequence[Photo], data: Data) -> list[Path]:
    """Those for the teacher: of the sources, shuffled; two with one of the words, then one
    without, and so on; as many as are wanted."""
    known = [each for each in photos if not data.sources or each.source in data.sources]
    try:
        holds = re.compile(data.words or "", re.IGNORECASE)
    except re.error as error:
        raise DataError(f"data.words: no regular expression ({error})") from error
    named: list[Path] = []
    others: list[Path] = []
    for photo in known:
        told = " ".join([*photo.names, *photo.captions])
        (named if holds.search(told) else others).append(photo.file)
    rng = np.random.default_rng(data.split_seed)
    named = [named[place] for place in rng.permutation(len(named))]
    others = [others[place] for place in rng.permutation(len(others))]
    mixed = []
    while named or others:
        mixed += [*named[:2], *others[:1]]
        named, others = named[2:], others[1:]
    return mixed[: data.photos or None]


def labels_of(data: Data, samples: Sequence[Sample], teacher: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes from 1 on: those of the recipe, the teacher, or the objects."""
    if data.labels:
        return tuple(usual(label) for label in data.labels)
    if teacher:
        return tuple(usual(label) for label in teacher)
    things = {t.label for s in samples if s.outlined is not None for t in s.outlined.things}
    return tuple(sorted(things)) or (ONE_CLASS,)


def hold_out(
    samples: Sequence[Sample], share: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Samples to train on, and to measure on: at least one of each where there are two."""
    count = round(share * len(samples))
    if share and len(samples) > 1:
        count = min(max(1, count), len(samples) - 1)
    held = set(np.random.default_rng(seed).permutation(len(samples))[:count].tolist())
    kept = [each for place, each in enumerate(samples) if place not in held]
    return kept, [each for place, each in enumerate(samples) if place in held]


def _of_folders(path: Path, half: Half | None) -> list[Sample]:
    masks = {each.stem: each for each in sorted((path / MASKS).iterdir()) if each.suffix == ".png"}
    files = sorted((path / IMAGES).iterdir()) if (path / IMAGES).is_dir() else []
    found = [Sample(file, mask=masks[file.stem]) for file in files if file.stem in masks]
    if not found:
        raise DataError(
            f"{path}: no file in {IMAGES} has a mask of the same name in {MASKS} ({len(masks)} PNG)"
        )
    wanted = [each for each in found if half is None or half_of(each.file) == half]
    if not wanted:
        raise DataError(f"{path}: none of its files is in the {half} half")
    return wanted
