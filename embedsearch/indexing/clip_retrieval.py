"""Reading a folder in the layout of clip-retrieval, whoever wrote it.

``img_emb/img_emb_N.npy`` holds a matrix of float16 or float32, ``metadata/metadata_N.parquet`` as
many rows with ``image_path``. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import DataError, MissingExtraError

CHUNK = 4096
"""Rows that are read at a time."""
_UNIT = 0.01
"""Rows whose length is off 1 by less, by rounding, are taken as they are."""


@dataclass(frozen=True, slots=True)
class GivenRow:
    """A picture and the embedding that the folder has of it."""

    path: bytes
    """Absolute."""
    vector: NDArray[np.float32]
    """float32 (dim,), of unit length."""
    size: int | None
    """Bytes of the file when it was embedded; None where the folder does not say."""
    mtime_ns: int | None


@dataclass(frozen=True, slots=True)
class ClipRetrievalFolder:
    """A folder whose files were found to fit together. Made by :func:`read_folder`."""

    path: Path
    partitions: tuple[tuple[Path, Path], ...]
    """Matrix and metadata."""
    dim: int
    encoder_id: str | None
    """Of the encoder that made the embeddings, where the folder says."""
    encoder_spec: str | None

    def paths(self) -> Iterator[bytes]:
        """Absolute paths of the pictures, in their order."""
        for _, metadata in self.partitions:
            for _, told in _metadata(metadata):
                yield from (path for path, *_ in told if path is not None)

    def rows(self) -> Iterator[GivenRow]:
        """What there is of whole pictures, in their order."""
        for matrix, metadata in self.partitions:
            numbers = _open_matrix(matrix)
            for start, told in _metadata(metadata):
                vectors = _unit_rows(numbers[start : start + len(told)])
                for (path, size, mtime_ns), vector in zip(told, vectors, strict=True):
                    if path is not None:
                        yield GivenRow(path, vector, size, mtime_ns)


def read_folder(folder: Path) -> ClipRetrievalFolder:
    """See whether the files of a folder are there and fit together, and every row is an embedding
    (no NaN, no infinity, not all zeros): what is broken is found before anything is written.

    Raises :class:`~embedsearch.errors.DataError` naming the file and what is wrong, and
    :class:`~embedsearch.errors.MissingExtraError` without pyarrow.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("Reading a folder of clip-retrieval", "parquet") from error

    partitions = _pairs(folder)
    dims: dict[int, Path] = {}
    for matrix, metadata in partitions:
        rows, dim = _open_matrix(matrix).shape
        dims.setdefault(dim, matrix)
        try:
            about = pq.read_metadata(metadata)
            names = set(pq.read_schema(metadata).names)
        except (OSError, ValueError) as error:  # pyarrow's own errors are of these
            raise DataError(f"{metadata}: no Parquet file that can be read ({error}).") from error
        if "image_path" not in names:
            raise DataError(
                f"{metadata} has no column image_path, so nobody knows whose embeddings these are. "
                "Make the folder with clip-retrieval inference --enable_image True."
            )
        if about.num_rows != rows:
            raise DataError(
                f"{matrix} has {rows} rows and {metadata} has {about.num_rows}: they do not belong "
                "together. Make the folder anew."
            )
    for matrix, _ in partitions:
        _check_rows(matrix)
    if len(dims) > 1:
        told = ", ".join(f"{dim} in {file.name}" for dim, file in sorted(dims.items()))
        raise DataError(f"{folder}: embeddings of several dimensions ({told}).")
    id_, spec = _encoder(folder / "embedsearch.json")
    return ClipRetrievalFolder(folder, partitions, next(iter(dims)), id_, spec)


def _pairs(folder: Path) -> tuple[tuple[Path, Path], ...]:
    found: list[dict[str, Path]] = []
    for kind, suffix in (("img_emb", ".npy"), ("metadata", ".parquet")):
        files = sorted((folder / kind).glob(f"{kind}_*{suffix}"))
        if not files:
            raise DataError(
                f"{folder / kind} holds no {kind}_0{suffix}. What clip-retrieval inference and "
                "embedsearch export --format clip-retrieval write has img_emb/ and metadata/."
            )
        found.append({file.stem.removeprefix(f"{kind}_"): file for file in files})
    matrices, metadata = found
    for number in sorted(matrices.keys() ^ metadata.keys()):
        there = matrices.get(number) or metadata[number]
        kind, suffix = ("metadata", "parquet") if number in matrices else ("img_emb", "npy")
        raise DataError(f"{there} has no partner {kind}/{kind}_{number}.{suffix} in {folder}.")
    return tuple((matrices[number], metadata[number]) for number in sorted(matrices))


def _open_matrix(path: Path) -> Any:
    """The matrix, mapped into memory."""
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path}: no matrix of numbers that can be read ({error}). Python objects are never "
            "unpickled."
        ) from error
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.dtype.kind != "f":
        what = f"{matrix.dtype} {matrix.shape}" if isinstance(matrix, np.ndarray) else "an archive"
        raise DataError(f"{path} holds {what}, not a matrix of float16 or float32.")
    return matrix


def _check_rows(path: Path) -> None:
    matrix = _open_matrix(path)
    for start in range(0, len(matrix), CHUNK):
        lengths = np.linalg.norm(np.asarray(matrix[start : start + CHUNK], np.float32), axis=1)
        bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
        if len(bad):
            raise DataError(
                f"{path}: row {start + bad[0]} is no embedding (NaN, infinite, or all zeros). Make "
                "the folder anew."
            )


def _unit_rows(some: Any) -> NDArray[np.float32]:
    rows = np.array(some, np.float32)
    lengths = np.linalg.norm(rows, axis=1)
    off = np.abs(lengths - 1) >= _UNIT
    rows[off] /= lengths[off, None]
    return rows


def _metadata(path: Path) -> Iterator[tuple[int, list[tuple[bytes | None, Any, Any]]]]:
    """(first row, [(path, size, mtime_ns)]), chunk by chunk; the path is None for a region that is
    not the whole picture."""
    import pyarrow.parquet as pq

    wanted = ("image_path", "image_path_bytes", "kind", "size", "mtime_ns")
    with pq.ParquetFile(path) as file:
        there = [name for name in wanted if name in file.schema_arrow.names]
        start = 0
        for batch in file.iter_batches(CHUNK, columns=there):
            told = [_row(path, start + place, row) for place, row in enumerate(batch.to_pylist())]
            yield start, told
            start += len(told)


def _row(metadata: Path, number: int, row: dict[str, Any]) -> tuple[bytes | None, Any, Any]:
    if row.get("kind", "image") != "image":
        return None, None, None
    path = row.get("image_path_bytes") or row["image_path"]
    if not isinstance(path, str | bytes) or not path:
        raise DataError(f"{metadata}: row {number} names no picture (image_path is {path!r}).")
    return os.path.abspath(os.fsencode(path)), row.get("size"), row.get("mtime_ns")


def _encoder(path: Path) -> tuple[str | None, str | None]:
    if not path.exists():
        return None, None
    try:
        told = json.loads(path.read_bytes())["encoder"]
        return str(told["id"]), str(told["spec"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} cannot be understood ({error}). Name the encoder with --encoder and take the "
            "file away."
        ) from error
