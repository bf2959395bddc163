"""An index as a folder in the layout of clip-retrieval, which autofaiss and embedding-reader read
as well: ``img_emb/img_emb_0.npy``, ``metadata/metadata_0.parquet``, and so on, row by row alike.

The layout is that of the writer of https://github.com/rom1504/clip-retrieval (2.44): float16
matrices, ``image_path`` in the metadata, and numbers filled up with zeros so that names sort.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from embedsearch.errors import OutputError
from embedsearch.records import EncoderInfo, ExportRow
from embedsearch.render.export import (
    batches,
    embedding_of,
    fact_fields,
    facts,
    require_pyarrow,
    write_npy_header,
)
from embedsearch.render.names import printable

PARTITION = 250_000
"""Rows a file. The readers map them into memory, or read them whole."""
ENCODER_FILE = "embedsearch.json"
"""Which encoder made the embeddings; readers that know nothing of it do not look at it."""


def write_clip_retrieval(
    rows: Iterable[ExportRow], out: Path, encoder: EncoderInfo, at_most: int
) -> int:
    """Write ``rows`` into the folder ``out`` and tell how many there were; ``at_most`` is known of
    their number beforehand.

    The folder appears whole or not at all. Raises :class:`~embedsearch.errors.OutputError` where
    it holds something already or cannot be written, and
    :class:`~embedsearch.errors.MissingExtraError` without pyarrow.
    """
    require_pyarrow("Exporting for clip-retrieval")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} is there already; name a new folder.")
    beside = out.absolute().with_name(f".embedsearch-{secrets.token_hex(8)}.partial")
    try:
        beside.mkdir()
        for folder in ("img_emb", "metadata"):
            (beside / folder).mkdir()
        count = _write_partitions(iter(rows), beside, encoder.dim, at_most)
        told = {"format": 1, "rows": count, "encoder": asdict(encoder)}
        (beside / ENCODER_FILE).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        beside.rename(out)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"Cannot write {out}: {reason}. Name a new folder in one that exists and is yours."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return count


def _write_partitions(rows: Iterator[ExportRow], folder: Path, dim: int, at_most: int) -> int:
    partitions = max(1, -(-at_most // PARTITION))
    total = 0
    for number in range(partitions):
        # As many digits as clip-retrieval gives them.
        name = str(number).zfill(len(str(partitions)))
        written = _write_partition(
            islice(rows, PARTITION),
            folder / "img_emb" / f"img_emb_{name}.npy",
            folder / "metadata" / f"metadata_{name}.parquet",
            dim,
        )
        total += written
        if written < PARTITION:
            break
    return total


def _write_partition(rows: Iterable[ExportRow], matrix: Path, metadata: Path, dim: int) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema()
    count = 0
    with matrix.open("wb") as stream, pq.ParquetWriter(metadata, schema) as table:
        write_npy_header(stream, 0, dim, "<f2")
        for batch in batches(rows, dim):
            for row in batch:
                stream.write(embedding_of(row, dim).astype("<f2").tobytes())
            table.write_batch(pa.RecordBatch.from_pylist([_told(row) for row in batch], schema))
            count += len(batch)
        stream.seek(0)
        write_npy_header(stream, count, dim, "<f2")
    return count


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("image_path", pa.string(), nullable=False),
            pa.field("image_path_bytes", pa.binary(), nullable=False),
            *fact_fields(),
            pa.field("size", pa.int64(), nullable=False),
            pa.field("mtime_ns", pa.int64(), nullable=False),
            pa.field("hash", pa.string(), nullable=False),
        ]
    )


def _told(row: ExportRow) -> dict[str, Any]:
    raw = os.fsencode(row.path)
    told = facts(row) | {
        # A name that is no text stands there as it can be shown; the bytes beside it open the file.
        "image_path": raw.decode("utf-8", "backslashreplace"),
        "image_path_bytes": raw,
        "label": None if row.label is None else printable(row.label),
        "box": np.asarray(row.box, np.float64).tolist(),
        "size": row.size,
        "mtime_ns": row.mtime_ns,
        "hash": row.hash,
    }
    del told["path"]
    return told
