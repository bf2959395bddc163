"""Reading ground truth, and encoding the pictures it names."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embedsearch.encoders.base import Embeddings, Encoder
from embedsearch.errors import DataError, PictureError, QueryError
from embedsearch.images.decode import decode

Progress = Callable[[int, int], None]
"""Told how many of how many pictures are encoded."""


def silent(done: int, total: int) -> None:
    """A progress that tells nobody."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a ground-truth file, and where it stands."""

    path: Path
    line: int
    values: dict[str, Any]

    @property
    def where(self) -> str:
        return f"{self.path}, line {self.line}"

    def text(self, key: str) -> str:
        """A value that must be a text with something in it.

        Raises :class:`~embedsearch.errors.DataError` naming file and line.
        """
        value = self.values.get(key)
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{self.where}: {key!r} is missing")
        return value

    def texts(self, key: str) -> list[str]:
        """A value that must be a list of at least one text, none of them empty.

        Raises :class:`~embedsearch.errors.DataError` naming file and line.
        """
        value = self.values.get(key)
        if not isinstance(value, list) or not value:
            raise DataError(f"{self.where}: {key!r} is missing")
        if not all(isinstance(item, str) and item.strip() for item in value):
            raise DataError(f"{self.where}: {key!r} holds something that is no text")
        return value

    def file(self, key: str = "file") -> Path:
        """A file, named relative to the folder of the ground truth."""
        return self.path.parent / self.text(key)


def read_json_lines(path: Path) -> list[Row]:
    """Read one object a line. Raises :class:`~embedsearch.errors.DataError`."""
    rows = []
    for number, line in enumerate(_read(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(values, dict):
            raise DataError(f"{path}, line {number}: not a JSON object")
        rows.append(Row(path, number, values))
    return _some(rows, path)


def read_csv(path: Path, columns: Sequence[str]) -> list[Row]:
    """Read a CSV whose first line names at least ``columns``.

    Raises :class:`~embedsearch.errors.DataError`.
    """
    reader = csv.DictReader(io.StringIO(_read(path), newline=""))
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise DataError(f"{path}: the first line names no column {', '.join(missing)}")
    return _some([Row(path, reader.line_num, dict(values)) for values in reader], path)


def encode_files(
    encoder: Encoder, files: Sequence[tuple[Path, str]], progress: Progress = silent
) -> Embeddings:
    """Embed pictures as indexing does: float32 (len(files), dim).

    ``files`` are pairs of a file and where it is named. Raises
    :class:`~embedsearch.errors.DataError` for one that cannot be read or shown.
    """
    rows = []
    for done, (file, where) in enumerate(files, 1):
        try:
            pixels = decode(file, encoder.info.input_size).pixels
        except PictureError as error:
            raise DataError(f"{where}: {file} cannot be used: {error}") from error
        rows.append(encoder.encode_images([pixels])[0])
        progress(done, len(files))
    return np.stack(rows)


def encode_texts(encoder: Encoder, texts: Sequence[tuple[str, str]]) -> Embeddings:
    """Embed texts: float32 (len(texts), dim). ``texts`` are pairs of a text and where it stands.

    Raises :class:`~embedsearch.errors.DataError` for one that the encoder does not understand.
    """
    rows = []
    for text, where in texts:
        try:
            rows.append(encoder.encode_texts([text])[0])
        except QueryError as error:
            raise DataError(f"{where}: {error}") from error
    return np.stack(rows)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except IsADirectoryError as error:
        raise DataError(f"{path}: a folder; name the file of the ground truth in it") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _some(rows: list[Row], path: Path) -> list[Row]:
    if not rows:
        raise DataError(f"{path}: holds no ground truth")
    return rows
