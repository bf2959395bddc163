"""The places of a map as csv, Parquet or NumPy, for other programs."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedsearch.errors import MissingExtraError
from embedsearch.records import MapPoint
from embedsearch.render.names import printable
from embedsearch.render.output import written_whole

_COLUMNS = ("path", "x", "y", "cluster", "cluster_name", "label", "taken_at", "tags")


def write_csv(out: Path, points: Sequence[MapPoint]) -> None:
    """RFC 4180 with a header; a path is written as its own bytes, UTF-8 or not."""
    with written_whole(out) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
        writer = csv.DictWriter(text, _COLUMNS)
        writer.writeheader()
        for point in points:
            writer.writerow(_row(point) | {"tags": ", ".join(point.tags)})
        text.detach()


def write_npy(out: Path, points: Sequence[MapPoint]) -> None:
    """The matrix of x and y, float32 (N, 2), and beside it ``OUT.paths.jsonl``, what is known of
    each picture, in the same order."""
    places = np.array([(point.x, point.y) for point in points], np.float32).reshape(-1, 2)
    with (
        written_whole(out) as matrix,
        written_whole(out.with_name(f"{out.name}.paths.jsonl")) as paths,
    ):
        np.save(matrix, places)
        for point in points:
            row = {name: value for name, value in _row(point).items() if name not in ("x", "y")}
            paths.write(json.dumps(row).encode("ascii") + b"\n")


def write_parquet(out: Path, points: Sequence[MapPoint]) -> None:
    """The printable ``path``, the raw ``path_bytes``, x and y as float32, the rest as it is.

    Raises :class:`~embedsearch.errors.MissingExtraError` without pyarrow.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("Writing Parquet", "parquet") from error
    schema = pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            pa.field("path_bytes", pa.binary(), nullable=False),
            pa.field("x", pa.float32(), nullable=False),
            pa.field("y", pa.float32(), nullable=False),
            pa.field("cluster", pa.int64()),
            pa.field("cluster_name", pa.string()),
            pa.field("label", pa.string()),
            pa.field("taken_at", pa.string()),
            pa.field("tags", pa.list_(pa.string()), nullable=False),
        ]
    )
    rows = [
        _row(point)
        | {"path": printable(point.image.path), "path_bytes": os.fsencode(point.image.path)}
        for point in points
    ]
    table = pa.table(
        [pa.array([row[field.name] for row in rows], field.type) for field in schema],
        schema=schema,
    )
    with written_whole(out) as stream:
        pq.write_table(table, stream)


def _row(point: MapPoint) -> dict[str, Any]:
    return {
        "path": point.image.path,
        "x": round(point.x, 6),
        "y": round(point.y, 6),
        "cluster": point.cluster,
        "cluster_name": point.cluster_name,
        "label": point.label,
        "taken_at": point.image.taken_at,
        "tags": list(point.tags),
    }
