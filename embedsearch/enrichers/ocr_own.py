"""A recogniser that ``finetune --task ocr`` wrote, in the place of rapidocr's.

A folder holds ``reader.onnx``, uint8 (N, height, W) grey words to float32 (N, W / 4, signs + 1)
likelihoods, sign 0 the blank, and ``reader.json``::

    {"format": 1, "name": "words", "licence": "Apache-2.0", "description": "...", "height": 32,
     "signs": " 0123456789", "model": "SHA-256 of reader.onnx"}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.base import Pixels
from embedsearch.enrichers.ocr_engine import spaced
from embedsearch.errors import EnricherError

FILE, MODEL = "reader.json", "reader.onnx"
FORMAT = 1
COLUMN = 4
"""Pixels across that one column of the output sees."""
NARROWEST = 32
"""No word is narrower, pixels."""


@dataclass(frozen=True, slots=True)
class ReaderFile:
    """A recogniser as its JSON tells it."""

    folder: Path
    name: str
    licence: str
    description: str
    height: int
    signs: str
    model_hash: str


def is_reader(spec: str) -> bool:
    """Whether ``spec`` names such a folder."""
    return (Path(spec).expanduser() / FILE).is_file()


def read_reader(folder: Path) -> ReaderFile:
    """Read ``reader.json``. Raises :class:`~embedsearch.errors.EnricherError`."""
    path = folder / FILE
    try:
        told = json.loads(path.read_text("utf-8"))
        if told["format"] > FORMAT:
            raise EnricherError(f"{path}: written by a newer version. pip install -U embedsearch")
        return ReaderFile(
            folder,
            str(told["name"]),
            str(told["licence"]),
            str(told["description"]),
            int(told["height"]),
            str(told["signs"]),
            str(told["model"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnricherError(f"{path}: cannot be read as a reader ({error!r}).") from error


def write_reader(folder: Path, about: dict[str, Any]) -> None:
    """Write ``reader.json`` beside the model that lies there already."""
    digest = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
    told = {"format": FORMAT, **about, "model": digest}
    text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    (folder / FILE).write_text(text, encoding="utf-8")


class OwnRecogniser:
    """Reads words that are cut out already. It may be shared by any number of threads."""

    def __init__(self, about: ReaderFile) -> None:
        """Load the model. Raises :class:`~embedsearch.errors.EnricherError`."""
        import onnxruntime

        path = about.folder / MODEL
        try:
            model = path.read_bytes()
        except OSError as error:
            raise EnricherError(f"{path}: cannot be read ({error.strerror}).") from error
        if hashlib.sha256(model).hexdigest() != about.model_hash:
            raise EnricherError(f"{path}: damaged, its SHA-256 is not that of {FILE}.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self._signs = ["", *about.signs]
        self._height = about.height

    def read(self, crops: Sequence[Pixels]) -> list[tuple[str, float]]:
        """What each crop (BGR) says, and the mean likelihood of its signs."""
        return [self._one(crop) for crop in crops]

    def _one(self, crop: Pixels) -> tuple[str, float]:
        import cv2

        grey = to_height(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), self._height)
        (columns,) = self._session.run(None, {self._session.get_inputs()[0].name: grey[None]})
        space = self._signs.index(" ") if " " in self._signs else 0
        if not space:
            return best_path(columns[0], self._signs)
        return spaced(columns[0], self._signs, space)


def best_path(columns: NDArray[np.float32], signs: Sequence[str]) -> tuple[str, float]:
    """As :func:`~embedsearch.enrichers.ocr_engine.spaced`, where no sign is a space."""
    best = columns.argmax(axis=1)
    kept = best != 0
    kept[1:] &= best[1:] != best[:-1]
    places = np.flatnonzero(kept)
    text = "".join(signs[best[place]] for place in places)
    return text, float(columns[places, best[places]].mean()) if text else 0.0


def to_height(grey: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    """A grey word (H, W) as the network takes it: (height, W'), W' a multiple of COLUMN, not under
    NARROWEST; what it lacks to that continues its last column."""
    import cv2

    width = max(1, round(grey.shape[1] * height / grey.shape[0]))
    way = cv2.INTER_AREA if grey.shape[0] > height else cv2.INTER_LINEAR
    scaled = cv2.resize(grey, (width, height), interpolation=way)
    full = max(NARROWEST, -(-width // COLUMN) * COLUMN)
    made: NDArray[np.uint8] = cv2.copyMakeBorder(
        scaled, 0, 0, 0, full - width, cv2.BORDER_REPLICATE
    )
    return made
