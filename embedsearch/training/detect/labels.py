"""Photos with boxes, in the three forms that are common: COCO's JSON, VOC's XML, JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from embedsearch.errors import DataError
from embedsearch.training.evaluate.detection import Half, Photo, Thing, half_of, read_photos


def read_labelled(path: Path, half: Half | None = None) -> list[Photo]:
    """The photos of a COCO file (``.json``), of a folder with VOC's XML files at any depth, or of
    JSON lines as :func:`~embedsearch.training.evaluate.detection.evaluate_detection` takes.

    Raises :class:`~embedsearch.errors.DataError`.
    """
    if path.is_dir():
        photos = _voc(path)
    elif path.suffix.lower() == ".json":
        photos = _coco(path)
    else:
        photos = read_photos(path)
    wanted = [photo for photo in photos if half is None or half_of(photo.file) == half]
    if not wanted:
        raise DataError(f"{path}: holds no photos with labels{f', none {half}' if half else ''}")
    return wanted


def _coco(path: Path) -> list[Photo]:
    """Lin et al. (2014): ``images``, ``annotations``, ``categories``."""
    try:
        told = json.loads(path.read_text(encoding="utf-8-sig"))
        names = {each["id"]: str(each["name"]) for each in told["categories"]}
        things: dict[Any, list[Thing]] = {each["id"]: [] for each in told["images"]}
        for each in told["annotations"]:
            x, y, width, height = map(float, each["bbox"])
            crowd = bool(each.get("iscrowd"))
            if width > 0 and height > 0:
                label = names[each["category_id"]]
                things[each["image_id"]].append(Thing(label, (x, y, width, height), crowd))
        return [
            Photo(
                _beside(path, str(each["file_name"])),
                str(path),
                tuple(things[each["id"]]),
                int(each["width"]),
                int(each["height"]),
            )
            for each in told["images"]
        ]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as COCO's JSON ({error})") from error
    except KeyError as error:
        raise DataError(f"{path}: is not as COCO's JSON is ({error} is missing)") from error
    except TypeError as error:
        raise DataError(f"{path}: is not as COCO's JSON is ({error})") from error


def _beside(path: Path, name: str) -> Path:
    """A photo by its name: beside the JSON, or in one of the folders there and above."""
    near = [path.parent, path.parent.parent]
    folders = [folder for place in near for folder in (place, *_folders(place))]
    return next((f / name for f in folders if (f / name).is_file()), path.parent / name)


def _folders(place: Path) -> Sequence[Path]:
    return sorted(each for each in place.iterdir() if each.is_dir())


def _voc(folder: Path) -> list[Photo]:
    """Everingham et al., "The PASCAL Visual Object Classes Challenge", 2010: a file a photo."""
    return [_voc_photo(file) for file in sorted(folder.rglob("*.xml"))]


def _voc_photo(file: Path) -> Photo:
    try:
        root = ElementTree.parse(file).getroot()
        name = _text(root, "filename")
        width, height = (int(float(_text(root, f"size/{side}"))) for side in ("width", "height"))
        things = tuple(_voc_thing(each) for each in root.iter("object"))
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as VOC's XML ({error})") from error
    near = [file.parent / name, file.parent.parent / "JPEGImages" / name]
    near += [file.parent.parent / "images" / name]
    photo = next((each for each in near if each.is_file()), near[0])
    return Photo(photo, str(file), things, width, height)


def _voc_thing(told: ElementTree.Element) -> Thing:
    x, y, right, bottom = (
        float(_text(told, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")
    )
    # VOC counts pixels from 1, and the last one belongs to the object.
    box = (x - 1, y - 1, right - x + 1, bottom - y + 1)
    if min(box[2:]) <= 0:
        raise ValueError("a box without an inside")
    return Thing(_text(told, "name"), box, crowd=told.findtext("difficult", "0").strip() == "1")


def _text(root: ElementTree.Element, where: str) -> str:
    found = root.findtext(where)
    if found is None or not found.strip():
        raise ValueError(f"{where} is missing")
    return found.strip()
