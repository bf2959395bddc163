"""Reading what to train on, whatever form it has: a folder a class, a table of labels, captions."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from embedsearch.errors import DataError
from embedsearch.images.scan import scan
from embedsearch.training.data.photos import Photo, parse_photo
from embedsearch.training.data.pixels import load_pixels

_SMALL = 32
"""Side in pixels to decode to where only that it can be matters."""
_LABEL_COLUMNS = ("label", "class", "category")


def read_photo_list(path: Path, only: str | None = None) -> list[Photo]:
    """Photos of a folder with a folder for each class, of a CSV with ``file`` and ``label`` (or
    ``class``, ``category``), or of JSON lines with ``file`` and ``label`` or ``captions``.

    File names are relative to the list. ``only``, ``COLUMN=VALUE``, leaves lines of tables out.
    Raises :class:`~embedsearch.errors.DataError` naming the file and the line.
    """
    if path.is_dir():
        if only is not None:
            raise DataError(f"{path}: a folder has no columns for --only {only}")
        return _of_folders(path)
    photos = [
        _photo(path, number, told)
        for number, told in _lines(path)
        if only is None or _chosen(path, number, told, only)
    ]
    if not photos:
        raise DataError(f"{path}: holds no photo" + (f" with {only}" if only else ""))
    return photos


def read_photos_to_look_at(path: Path, only: str | None = None) -> list[Photo]:
    """The same, and of a folder without folders of classes all photos, which then have no label.

    Raises :class:`~embedsearch.errors.DataError`.
    """
    if path.is_dir() and not any(each.is_dir() and each.name[:1] != "." for each in path.iterdir()):
        found = scan(os.fsencode(path.absolute()), on_failure=_refuse)
        photos = [Photo(path / os.fsdecode(each.path), "", (), ()) for each in found]
        if not photos:
            raise DataError(f"{path}: holds no photo")
        return photos
    return read_photo_list(path, only)


def readable(photos: Sequence[Photo], threads: int, tell: Callable[[str], None]) -> list[Photo]:
    """The photos that can be decoded; ``tell`` hears of each that cannot. Better now than in the
    middle of a night's training. Raises :class:`~embedsearch.errors.DataError` where none can."""

    def fault(photo: Photo) -> str | None:
        try:
            load_pixels(photo.file, _SMALL)
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(threads) as pool:
        faults = list(pool.map(fault, photos))
    for said in faults:
        if said is not None:
            tell(f"left out: {said}")
    kept = [photo for photo, said in zip(photos, faults, strict=True) if said is None]
    if not kept:
        raise DataError(f"none of {len(photos)} photos can be read; the first: {faults[0]}")
    return kept


def split(photos: Sequence[Photo], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Places of the photos to train on and of those held out, each in order.

    Of the photos of every label, and of those with captions, ``share`` is held out: at least one
    of a label that has two or more. Raises :class:`~embedsearch.errors.DataError`.
    """
    if not 0 <= share < 1:
        raise DataError(f"the share held out is from 0 to below 1, not {share:g}")
    groups: dict[str | None, list[int]] = {}
    for place, photo in enumerate(photos):
        groups.setdefault(photo.label, []).append(place)
    held: set[int] = set()
    for number, members in enumerate(groups[key] for key in sorted(groups, key=str)):
        wanted = round(len(members) * share)
        if share and len(members) > 1:
            wanted = max(1, wanted)
        drawn = np.random.default_rng([seed, number]).permutation(members)[:wanted]
        held.update(drawn.tolist())
    kept = [place for place in range(len(photos)) if place not in held]
    if not kept:
        raise DataError("no photo is left to train on; hold a smaller share out")
    return kept, sorted(held)


def thinned(photos: Sequence[Photo], places: Sequence[int], most: int, seed: int) -> list[int]:
    """Of ``places`` at most so many of each label, in order; photos with captions all stay."""
    order = np.random.default_rng(seed).permutation(np.asarray(places, np.int64)).tolist()
    seen: dict[str, int] = {}
    kept = []
    for place in order:
        label = photos[place].label
        if label is not None:
            seen[label] = seen.get(label, 0) + 1
            if seen[label] > most:
                continue
        kept.append(place)
    return sorted(kept)


def _of_folders(folder: Path) -> list[Photo]:
    photos = []
    for found in scan(os.fsencode(folder.absolute()), on_failure=_refuse):
        file = os.fsdecode(found.path)
        label, slash, _ = file.partition("/")
        if slash:
            photos.append(parse_photo(folder, {"file": file, "label": label}))
    if not photos:
        raise DataError(
            f"{folder}: holds no folder with photos. Make one for each class, named after it, or "
            "name a CSV or JSONL file of labels or captions."
        )
    return photos


def _refuse(path: bytes, reason: str) -> None:
    raise DataError(f"{os.fsdecode(path)}: cannot be read ({reason})")


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if path.suffix.casefold() == ".csv":
        reader = csv.DictReader(text.splitlines())
        columns = reader.fieldnames or ()
        if "file" not in columns or not set(_LABEL_COLUMNS) & set(columns):
            raise DataError(f"{path}: the first line must name the columns file and label")
        for row in reader:
            label = next(row[name] for name in _LABEL_COLUMNS if name in row)
            yield reader.line_num, {**row, "label": label}
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            told = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(told, dict):
            raise DataError(f"{path}, line {number}: not a JSON object")
        yield number, told


def _photo(path: Path, number: int, told: dict[str, Any]) -> Photo:
    try:
        return parse_photo(path.parent, told)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}, line {number}: not a training photo ({error!r})") from error


def _chosen(path: Path, number: int, told: dict[str, Any], only: str) -> bool:
    column, equals, value = only.partition("=")
    if not equals:
        raise DataError(f"--only {only}: write COLUMN=VALUE")
    if column not in told:
        raise DataError(f"{path}, line {number}: has no {column!r}, which --only asks for")
    return str(told[column]) == value
