"""Pictures whose objects have outlines: polygons, or a number in a picture of masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.class_names import usual
from embedsearch.enrichers.masks import Bitmap
from embedsearch.errors import DataError
from embedsearch.records import Box
from embedsearch.training.evaluate.detection import Half, half_of
from embedsearch.training.evaluate.ground_truth import Row, read_json_lines

IGNORED = 255
"""In a label map: counts neither way."""
MASKS = "masks"
"""Folder of the pictures of masks, beside the file that names the photos."""


@dataclass(frozen=True, slots=True)
class Thing:
    """An object in a picture."""

    label: str
    """In the usual spelling."""
    box: Box
    crowd: bool
    polygons: tuple[tuple[float, ...], ...]
    """x and y in turn, pixels."""
    mask_value: int | None
    """Of its pixels in the picture of masks."""

    @property
    def is_outlined(self) -> bool:
        return bool(self.polygons) or self.mask_value is not None


@dataclass(frozen=True, slots=True)
class Outlined:
    """A picture, and the objects in it."""

    file: Path
    where: str
    """File and line it is named in."""
    width: int
    height: int
    things: tuple[Thing, ...]
    masks: Path
    """The picture of masks, where there is one."""

    def bitmap(self, thing: Thing) -> Bitmap:
        """The pixels of an object: its outline, or its box where it has none."""
        if thing.polygons:
            return _inside(thing.polygons, self.height, self.width)
        if thing.mask_value is not None:
            values = mask_values(self.masks, self.where)
            return np.asarray(values == thing.mask_value)
        x, y, width, height = thing.box
        bitmap = np.zeros((self.height, self.width), bool)
        bitmap[max(0, round(y)) : round(y + height), max(0, round(x)) : round(x + width)] = True
        return bitmap

    def label_map(self, labels: Sequence[str]) -> NDArray[np.uint8]:
        """Class of every pixel, uint8 (height, width): n + 1 for ``labels[n]``, 0 where none of
        them is; smaller objects lie on larger ones. Crowds, and what has a box only, are
        :data:`IGNORED`."""
        numbers = {label: number for number, label in enumerate(labels, 1)}
        told = np.zeros((self.height, self.width), np.uint8)
        whole = [thing for thing in self.things if thing.is_outlined and not thing.crowd]
        for thing in sorted(whole, key=lambda one: -one.box[2] * one.box[3]):
            told[self.bitmap(thing)] = numbers.get(thing.label, 0)
        for thing in self.things:
            if thing.label in numbers and (thing.crowd or not thing.is_outlined):
                bitmap = self.bitmap(thing)
                told[bitmap & (told == 0)] = IGNORED
        return told


def read_outlined(path: Path, half: Half | None = None) -> list[Outlined]:
    """Read JSON lines with ``file``, ``width``, ``height`` and ``objects`` (``label``, ``bbox`` =
    x, y, width, height in pixels, ``iscrowd``, and ``polygons`` or ``mask_value``).

    ``half``: only files whose name has an odd or even SHA-1. Raises
    :class:`~embedsearch.errors.DataError` naming file and line.
    """
    read = [_picture(row) for row in read_json_lines(path)]
    wanted = [picture for picture in read if half is None or half_of(picture.file) == half]
    if not wanted:
        raise DataError(f"{path}: none of its files is in the {half} half")
    return wanted


def mask_values(path: Path, where: str) -> NDArray[np.uint8]:
    """A picture of masks as it is stored, uint8 (height, width).

    Raises :class:`~embedsearch.errors.DataError`.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except OSError as error:
        raise DataError(f"{where}: {path} cannot be read as a mask ({error})") from error
    if values.ndim != 2 or values.dtype not in (np.uint8, np.bool_):
        raise DataError(
            f"{where}: {path} is a picture of {values.dtype} {values.shape}; a mask has one "
            "channel of 8 bits, the number of the class in each pixel"
        )
    return values.astype(np.uint8)


def _inside(polygons: Iterable[Sequence[float]], height: int, width: int) -> Bitmap:
    """COCO's way to fill polygons (``pycocotools.mask``)."""
    from pycocotools import mask as coco

    from embedsearch.enrichers.masks import decode
    from embedsearch.records import Mask

    told = coco.merge(coco.frPyObjects([list(each) for each in polygons], height, width))
    return decode(Mask(height, width, told["counts"].decode("ascii")))


def _picture(row: Row) -> Outlined:
    objects = row.values.get("objects")
    try:
        things = tuple(_thing(each) for each in objects)  # type: ignore[union-attr]
        width, height = int(row.values["width"]), int(row.values["height"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{row.where}: width, height and objects with label and bbox are needed ({error!r})"
        ) from error
    name = row.text("file")
    masks = row.path.parent / MASKS / f"{Path(name).stem}.png"
    return Outlined(row.file(), row.where, width, height, things, masks)


def _thing(told: dict[str, Any]) -> Thing:
    x, y, width, height = (float(value) for value in told["bbox"])
    polygons = tuple(
        tuple(float(value) for value in each)
        for each in told.get("polygons") or ()
        if len(each) > 5
    )
    value = told.get("mask_value")
    return Thing(
        usual(told["label"]),
        (x, y, width, height),
        bool(told.get("iscrowd", 0)),
        polygons,
        None if value is None else int(value),
    )
