"""Regions and their embeddings as csv, JSON lines, NumPy or Parquet, written as they come.

No more than one batch of rows is held in memory, however many there are.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import MissingExtraError, OutputError
from embedsearch.records import ExportRow
from embedsearch.render.names import printable
from embedsearch.render.output import written_whole

Format = Literal["csv", "jsonl", "npy", "parquet"]
TIMES = ("start", "until", "at")
COLUMNS = ("path", "kind", "box", "label", "cluster", "width", "height", "taken_at", *TIMES)
_BATCH_BYTES = 4 * 1024 * 1024
_BATCH_ROWS = 4096


def write_export(rows: Iterable[ExportRow], fmt: Format, out: Path | BinaryIO, dim: int) -> int:
    """Write ``rows`` to ``out``, a file or an open binary stream, and tell how many there were.

    Every format has ``path``, ``kind``, ``box`` (x, y, width, height in pixels), ``label``,
    ``cluster``, ``width``, ``height``, ``taken_at`` and, of regions of a video, ``start``,
    ``until`` and ``at`` (seconds); all but csv have the embedding, float32 of shape (``dim``,),
    which each row must then carry.

    - ``csv``: RFC 4180 with a header, no embeddings; the box is ``x,y,w,h``; a path is written
      as its own bytes, UTF-8 or not.
    - ``jsonl``: one ASCII object a line; ``os.fsencode(json.loads(line)["path"])`` gives the bytes
      of the path; the embedding is a list.
    - ``npy``: the matrix (rows, ``dim``), and beside it ``OUT.paths.jsonl``, the rows in the same
      order without their embeddings. Needs a file.
    - ``parquet``: the printable ``path``, the raw ``path_bytes``, the embedding as
      ``fixed_size_list<float>[dim]``.

    A file appears whole or not at all. Raises
    :class:`~embedsearch.errors.OutputError` where it cannot be written,
    :class:`~embedsearch.errors.MissingExtraError` for parquet without pyarrow, and ``ValueError``
    for an embedding that is not ``dim`` finite numbers.
    """
    if fmt == "npy":
        return _write_npy(rows, out, dim)
    if fmt == "parquet":
        require_pyarrow()
    write = {"csv": _write_csv, "jsonl": _write_jsonl, "parquet": _write_parquet}[fmt]
    with _opened(out) as stream:
        return write(rows, stream, dim)


def _opened(out: Path | BinaryIO) -> AbstractContextManager[BinaryIO]:
    return written_whole(out) if isinstance(out, Path) else nullcontext(out)


def _write_csv(rows: Iterable[ExportRow], stream: BinaryIO, dim: int) -> int:
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    count = 0
    for row in rows:
        writer.writerow(facts(row) | {"box": ",".join(map(str, _box(row)))})
        count += 1
    text.detach()  # flushes, and leaves the stream open to its owner
    return count


def _write_jsonl(rows: Iterable[ExportRow], stream: BinaryIO, dim: int) -> int:
    # Nine digits give every float32 back; json.dumps takes four times as long over a float and
    # writes the digits of a double.
    array = ", ".join(["%.9g"] * dim)
    count = 0
    for row in rows:
        numbers = array % tuple(embedding_of(row, dim).tolist())
        stream.write(_json(facts(row))[:-1] + f', "embedding": [{numbers}]}}\n'.encode("ascii"))
        count += 1
    return count


def _write_npy(rows: Iterable[ExportRow], out: Path | BinaryIO, dim: int) -> int:
    if not isinstance(out, Path):
        raise OutputError("The npy format makes two files: name the first one with --out FILE.npy.")
    count = 0
    with (
        written_whole(out) as matrix,
        written_whole(out.with_name(f"{out.name}.paths.jsonl")) as paths,
    ):
        if not matrix.seekable():
            raise OutputError(f"{out} cannot hold the npy format: name a file.")
        write_npy_header(matrix, 0, dim)
        for row in rows:
            matrix.write(embedding_of(row, dim).tobytes())
            paths.write(_json(facts(row)) + b"\n")
            count += 1
        matrix.seek(0)
        write_npy_header(matrix, count, dim)
    return count


def write_npy_header(stream: BinaryIO, count: int, dim: int, dtype: str = "<f4") -> None:
    """The header of a matrix (count, dim), as long for any ``count``."""
    # NumPy leaves room for the first axis to grow to 21 digits, so a later header fits over this.
    header = {"descr": dtype, "fortran_order": False, "shape": (count, dim)}
    np.lib.format.write_array_header_1_0(stream, header)


def require_pyarrow(what: str = "Exporting to Parquet") -> None:
    """Raises :class:`~embedsearch.errors.MissingExtraError` where it is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(what, "parquet") from error


def fact_fields() -> list[Any]:
    """Parquet columns of what :func:`facts` tells of a region, but for its path."""
    import pyarrow as pa

    return [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("box", pa.list_(pa.float64(), 4), nullable=False),
        pa.field("label", pa.string()),
        pa.field("cluster", pa.int64()),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("taken_at", pa.string()),
        *(pa.field(name, pa.float64()) for name in TIMES),
    ]


def _write_parquet(rows: Iterable[ExportRow], stream: BinaryIO, dim: int) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            pa.field("path_bytes", pa.binary(), nullable=False),
            *fact_fields(),
            pa.field("embedding", pa.list_(pa.float32(), dim), nullable=False),
        ]
    )
    count = 0
    with pq.ParquetWriter(stream, schema, use_dictionary=["kind", "label"]) as writer:
        for batch in batches(rows, dim):
            told = [
                facts(row)
                | {
                    "path": printable(row.path),
                    "path_bytes": os.fsencode(row.path),
                    "label": None if row.label is None else printable(row.label),
                }
                for row in batch
            ]
            embeddings = np.stack([embedding_of(row, dim) for row in batch])
            columns = [
                pa.FixedSizeListArray.from_arrays(embeddings.ravel(), dim)
                if field.name == "embedding"
                else pa.array([fact[field.name] for fact in told], field.type)
                for field in schema
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            count += len(batch)
    return count


def batches(rows: Iterable[ExportRow], dim: int) -> Iterator[list[ExportRow]]:
    """``rows`` in lists that take a few megabytes each."""
    size = max(1, min(_BATCH_ROWS, _BATCH_BYTES // (4 * dim)))
    left = iter(rows)
    while batch := list(islice(left, size)):
        yield batch


def facts(row: ExportRow) -> dict[str, Any]:
    """What every format tells of a region."""
    return {
        "path": row.path,
        "kind": row.kind,
        "box": _box(row),
        "label": row.label,
        "cluster": row.cluster,
        "width": row.width,
        "height": row.height,
        "taken_at": row.taken_at,
        "start": row.start,
        "until": row.until,
        "at": row.at,
    }


def _box(row: ExportRow) -> list[float]:
    """The box, whole pixels as integers: 640, not 640.0."""
    return [int(value) if float(value).is_integer() else float(value) for value in row.box]


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, allow_nan=False).encode("ascii")


def embedding_of(row: ExportRow, dim: int) -> NDArray[np.float32]:
    """The embedding, little-endian. Raises ``ValueError`` unless it is ``dim`` finite numbers."""
    embedding = np.asarray(row.embedding, dtype="<f4")
    if embedding.shape != (dim,) or not np.isfinite(embedding).all():
        raise ValueError(
            f"{printable(row.path)}: its embedding has shape {embedding.shape} or holds NaN; "
            f"{dim} finite numbers are needed"
        )
    return embedding
