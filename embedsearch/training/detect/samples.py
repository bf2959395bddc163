"""The photos of a run: which are trained on, which are measured on, and looks at them by number."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import DataError, PictureError
from embedsearch.images.decode import decode
from embedsearch.records import Detection
from embedsearch.training.data.photo_lists import read_photos_to_look_at
from embedsearch.training.detect.labels import read_labelled
from embedsearch.training.detect.looks import Sample, look
from embedsearch.training.detect.recipe import Data, Looks, Occlusion
from embedsearch.training.evaluate.detection import Half, Photo, Thing, pixels_of

_KEPT_BYTES = 2_000_000_000
"""Decoded photos that stay in memory."""


@dataclass(frozen=True)
class Split:
    """What a run learns from, and what it is measured on."""

    learned: tuple[Photo, ...]
    measured: tuple[Photo, ...]


def split(data: Data) -> Split:
    """Read the labels and part the photos. Raises :class:`~embedsearch.errors.DataError`."""
    if not data.paths:
        raise DataError("name photos with boxes to train on: COCO's JSON, VOC's XML or JSON lines")
    photos = [p for path in data.paths for p in read_labelled(Path(path), _half(data.half))]
    if data.check:
        return Split(tuple(photos), tuple(read_labelled(Path(data.check), _half(data.check_half))))
    held = [_is_held(photo, data) for photo in photos]
    parts = Split(
        tuple(photo for photo, out in zip(photos, held, strict=True) if not out),
        tuple(photo for photo, out in zip(photos, held, strict=True) if out),
    )
    if not parts.learned:
        raise DataError("all photos are held out; lower data.held_out")
    return parts


def _half(named: str) -> Half | None:
    if named == "odd":
        return "odd"
    if named == "even":
        return "even"
    if named:
        raise DataError(f"data.half={named}: is neither odd nor even")
    return None


def _is_held(photo: Photo, data: Data) -> bool:
    told = f"{data.split_seed} {photo.file.name}".encode()
    return zlib.crc32(told) / 2**32 < data.held_out


def guessed(
    data: Data, find: Callable[[Photo], Sequence[Detection]], tell: Callable[[int, int], None]
) -> list[Photo]:
    """The photos without labels, with what ``find`` is sure of in them; those in which it is sure
    of nothing are left out."""
    named = [each for path in data.photos for each in read_photos_to_look_at(Path(path))]
    if data.most:
        chosen = np.random.default_rng(data.split_seed).permutation(len(named))[: data.most]
        named = [named[at] for at in sorted(chosen)]
    photos = []
    for done, each in enumerate(named, 1):
        blank = _blank(each.file)
        found = [one for one in find(blank) if one.score >= data.sure]
        things = tuple(Thing(one.label, one.box) for one in found)
        if things:
            photos.append(replace(blank, things=things))
        tell(done, len(named))
    return photos


def _blank(file: Path) -> Photo:
    """A photo of which nothing is known yet. Raises :class:`~embedsearch.errors.DataError`."""
    try:
        read = decode(file, 1)
    except PictureError as error:
        raise DataError(f"{file}: cannot be used: {error}") from error
    return Photo(file, str(file), (), read.width, read.height)


class Batches:
    """Batches of looks, each drawn by its number alone."""

    def __init__(
        self,
        photos: Sequence[Photo],
        labels: Sequence[str],
        size: int,
        batch: int,
        looks: Looks,
        occlusion: Occlusion,
        seed: int,
    ) -> None:
        self._photos, self._size, self._batch = photos, size, min(batch, len(photos))
        self._places = {label: place for place, label in enumerate(labels)}
        self._looks, self._occlusion, self._seed = looks, occlusion, seed
        self._kept: dict[int, Sample] = {}
        self._bytes = 0

    def __len__(self) -> int:
        """Batches in an epoch."""
        return max(1, len(self._photos) // self._batch)

    def __call__(self, step: int) -> Iterator[list[Sample]]:
        """Batches from that one on, without end."""
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> list[Sample]:
        epoch, place = divmod(step, len(self))
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._photos))
        chosen = order[place * self._batch : (place + 1) * self._batch]
        return [
            look(
                self.sample(int(at)),
                self._size,
                self._draw,
                self._looks,
                self._occlusion,
                np.random.default_rng([self._seed, step, number]),
            )
            for number, at in enumerate(chosen)
        ]

    def _draw(self, rng: np.random.Generator) -> Sample:
        return self.sample(int(rng.integers(len(self._photos))))

    def sample(self, at: int) -> Sample:
        """A photo as it is, with its objects in its own pixels."""
        if at in self._kept:
            return self._kept[at]
        photo = self._photos[at]
        pixels, factor = pixels_of(photo, self._size)
        things = [thing for thing in photo.things if not thing.crowd]
        made = Sample(
            pixels,
            boxes_of(things, factor),
            np.array([self._places[thing.label] for thing in things], np.int64),
        )
        if self._bytes + pixels.nbytes <= _KEPT_BYTES:
            self._kept[at] = made
            self._bytes += pixels.nbytes
        return made


def boxes_of(things: Sequence[Thing], factor: tuple[float, float]) -> NDArray[np.float32]:
    """Corners (N, 4) in pixels of the decoded picture."""
    boxes = np.array([thing.box for thing in things], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return (boxes / np.array([*factor, *factor], np.float32)).astype(np.float32)
