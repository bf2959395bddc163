"""``segmenter.json``: what a segmenter folder says of itself.

::

    {
      "format": 1,
      "name": "raspp", "licence": "...", "description": "...",
      "model": "segmenter.onnx", "sha256": "...",
      "size": 288, "fit": "pad",
      "labels": ["airplane", "bicycle"]
    }

The model takes uint8 (1, size, size, 3), sRGB, and gives two maps of uint8 (1, h, w): the class of
every pixel, 0 for background and n for ``labels[n - 1]``, and its probability in 255ths.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from embedsearch.enrichers.square import FITS, Fit
from embedsearch.errors import EnricherError

FILE = "segmenter.json"
MODEL = "segmenter.onnx"
FORMAT = 1
_MOST = 254
"""Labels, as 255 means "not known" in maps of classes."""


@dataclass(frozen=True, slots=True)
class SegmenterFile:
    """A segmenter as its JSON tells it."""

    path: Path
    """The model."""
    name: str
    licence: str
    description: str
    labels: tuple[str, ...]
    size: int
    """Side of the square it takes, pixels."""
    fit: Fit
    """How a picture becomes that square."""
    sha256: str = ""
    """Of the model as it was written."""

    @property
    def settings(self) -> str:
        """All that decides what is found, beside the weights."""
        return json.dumps([self.labels, self.size, self.fit])

    def write(self) -> None:
        """Write ``segmenter.json`` beside the model, which is there. Raises :class:`OSError`."""
        told = {
            "format": FORMAT,
            "name": self.name,
            "licence": self.licence,
            "description": self.description,
            "model": self.path.name,
            "sha256": hashlib.sha256(self.path.read_bytes()).hexdigest(),
            "size": self.size,
            "fit": self.fit,
            "labels": list(self.labels),
        }
        text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
        (self.path.parent / FILE).write_text(text, encoding="utf-8")


def read_segmenter(folder: Path) -> SegmenterFile:
    """Read ``segmenter.json``.

    Raises :class:`~embedsearch.errors.EnricherError` naming the file and what is wrong in it.
    """
    file = folder / FILE
    try:
        told: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EnricherError(
            f"{folder}: holds no {FILE}, so it is no segmenter; write one: embedsearch finetune "
            f"--task segment PHOTOS --out {folder}"
        ) from error
    except (OSError, ValueError) as error:
        raise EnricherError(f"{file}: cannot be read as JSON ({error}).") from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise EnricherError(f"{file}: is no description of a segmenter in format {FORMAT}.")
    try:
        made = SegmenterFile(
            path=folder / _text(told, "model"),
            name=_text(told, "name"),
            licence=_text(told, "licence"),
            description=str(told.get("description", "")),
            labels=tuple(str(label) for label in told["labels"]),
            size=int(told["size"]),
            fit=cast(Fit, _text(told, "fit")),
            sha256=_text(told, "sha256"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise EnricherError(f"{file}: {error} is missing or not what it should be.") from error
    if made.fit not in FITS or made.size < 1 or not 0 < len(made.labels) <= _MOST:
        raise EnricherError(
            f"{file}: fit is one of {', '.join(FITS)}, size is 1 or more, and there are 1 to "
            f"{_MOST} labels."
        )
    return made


def _text(told: dict[str, Any], key: str) -> str:
    value = told[key]
    if not isinstance(value, str) or not value:
        raise ValueError(repr(key))
    return value
