"""``detector.json``: what must be known of an exported detector to run it.

::

    {
      "format": 1,
      "name": "yolox-nano",
      "model": "yolox_nano.onnx",
      "licence": "Apache-2.0",
      "input": {"size": 416, "layout": "nchw", "colour": "bgr", "mean": [0, 0, 0],
                "std": [1, 1, 1], "pad": 114, "place": "corner"},
      "output": {"kind": "yolox", "strides": [8, 16, 32]},
      "threshold": 0.3, "nms": 0.45, "most": 100,
      "labels": ["person", "bicycle"]
    }

All but ``labels`` and the kind of output may be left out. Size, layout and number type are the
model's own where it fixes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from embedsearch.errors import EnricherError

FILE = "detector.json"
MODEL = "detector.onnx"
FORMAT = 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Input:
    """How a picture becomes the network's input."""

    size: tuple[int, ...] = ()
    """Height and width, or one side of a square; where the model leaves its input open."""
    layout: Literal["nchw", "nhwc"] = "nchw"
    colour: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Taken off each channel, in 0 to 255, in the order of ``colour``."""
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    """Then each channel is divided by this: 255 for an input in [0, 1]."""
    pad: int = 114
    """Grey of the border beside a picture of another aspect."""
    place: Literal["corner", "middle", "squash"] = "corner"
    """Where the picture lies in its border; squash: its aspect is given up instead."""


@dataclass(frozen=True, slots=True)
class Output:
    """How the network's output becomes boxes; see :mod:`~embedsearch.enrichers.detect_boxes`."""

    kind: Literal["yolox", "ultralytics"]
    strides: tuple[int, ...] = (8, 16, 32)
    """Of yolox: pixels between neighbours of each grid."""
    objectness: bool = False
    """Of ultralytics: a column for "is anything" stands before the classes, as in YOLOv5."""
    end_to_end: bool = False
    """Of ultralytics: rows are corners, score and class, overlaps taken out already."""


@dataclass(frozen=True, slots=True)
class DetectorFile:
    """A detector as its JSON tells it."""

    path: Path
    """The model."""
    labels: tuple[str, ...]
    output: Output
    input: Input = field(default_factory=Input)
    name: str = ""
    licence: str = "see where the weights are from"
    description: str = ""
    threshold: float = 0.3
    """The least score of what is reported."""
    nms: float = 0.45
    """Of two boxes of one label that overlap by more than this (IoU) the better one stays."""
    most: int = 100
    """Objects in a picture."""

    @property
    def settings(self) -> str:
        """All that changes what is found, beside the weights."""
        told = {key: value for key, value in asdict(self).items() if key not in _ABOUT}
        return json.dumps(told, sort_keys=True)


_ABOUT = ("path", "name", "licence", "description")


def read_detector(model_or_folder: Path, about: Path | None = None) -> DetectorFile:
    """Read the JSON of a model: ``about``, or ``MODEL.json`` or ``detector.json`` beside it; of a
    folder, its ``detector.json``.

    Raises :class:`~embedsearch.errors.EnricherError` naming the file and what is wrong in it.
    """
    folder = model_or_folder if model_or_folder.is_dir() else model_or_folder.parent
    beside = [model_or_folder.with_suffix(".json"), folder / FILE]
    told_in = about or next((path for path in beside if path.is_file()), folder / FILE)
    try:
        told = json.loads(told_in.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EnricherError(
            f"{told_in}: there is no such file. It says how to run {model_or_folder}: its input, "
            "its output, its labels; docs/objects.md shows one."
        ) from error
    except (OSError, ValueError) as error:
        raise EnricherError(f"{told_in}: cannot be read as JSON ({error}).") from error
    if not isinstance(told, dict) or told.get("format", FORMAT) != FORMAT:
        raise EnricherError(f"{told_in}: is no description of a detector in format {FORMAT}.")
    model = model_or_folder
    if model.is_dir():
        model = folder / str(told.get("model", MODEL))
    if not model.is_file():
        raise EnricherError(f"{model}: there is no such model ({told_in} tells of it).")
    known = {key: value for key, value in told.items() if key not in ("format", "model", "files")}
    return _made(DetectorFile, {"name": model.stem, **known, "path": model}, str(told_in))


def write_detector(told: Mapping[str, Any], folder: Path) -> None:
    """Write ``detector.json``. Raises :class:`OSError`."""
    text = json.dumps({"format": FORMAT, **told}, indent=2, ensure_ascii=False) + "\n"
    (folder / FILE).write_text(text, encoding="utf-8")


def hashed(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _made(kind: type[T], told: Mapping[str, Any], where: str) -> T:
    hints = get_type_hints(kind)
    unknown = [key for key in told if key not in hints]
    if unknown:
        raise EnricherError(f"{where}: {unknown[0]!r} is not known; known are {', '.join(hints)}.")
    values = {key: _value(hints[key], value, f"{where}, {key}") for key, value in told.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise EnricherError(f"{where}: {error}; labels and output.kind are needed.") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    if hint in (Input, Output):
        if not isinstance(value, dict):
            raise EnricherError(f"{where}: is a section, with values of its own.")
        return _made(hint, value, where)
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        raise EnricherError(f"{where}: {value!r} is none of {', '.join(get_args(hint))}.")
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        values = value if isinstance(value, list) else [value]
        if values and all(_is(item, each) for each in values):
            return tuple(item(each) for each in values)
    elif _is(hint, value):
        return hint(value) if hint is float else value
    raise EnricherError(f"{where}: {value!r} is not what belongs there.")


def _is(kind: Any, value: Any) -> bool:
    if kind is float:
        return type(value) in (int, float)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
