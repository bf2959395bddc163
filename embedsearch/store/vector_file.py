"""The vector index file, and how one query is answered from it without importing FAISS.

The file is a FAISS index (``IndexIDMap`` over ``IndexFlatIP``) followed by a trailer that FAISS
does not read: which revision of the catalogue it holds, and where its rows and ids begin. A cold
query scans the rows with numpy: at 100,000 x 256 that takes 13 ms, while importing faiss-gpu takes
over 100 ms and 200 to 300 MB for CUDA libraries before the first comparison
(benchmarks/cold_query.py).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import IndexFormatError

Ids = NDArray[np.int64]
Matrix = NDArray[np.float32]
Vector = NDArray[np.float32]

TRAILER = struct.Struct("<8s16sqqqq")
MAGIC = b"EMBSVEC1"
SCAN_ROWS = 4096
"""Rows read at a time: 4 MB at 256-d, so that the rows stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Trailer:
    """What the trailer says. Offsets are bytes from the beginning of the file."""

    revision: str
    dim: int
    count: int
    rows_offset: int
    ids_offset: int

    def pack(self) -> bytes:
        return TRAILER.pack(
            MAGIC, self.revision.encode(), self.dim, self.count, self.rows_offset, self.ids_offset
        )


class VectorFile:
    """An open vector index file. It stays the same file while a writer puts a newer one in its
    place."""

    def __init__(self, file: FileIO, trailer: Trailer) -> None:
        self._file = file
        self.trailer = trailer

    def close(self) -> None:
        self._file.close()

    @property
    def path(self) -> str:
        """A path to this very file, whatever lies under its name by now."""
        return f"/dev/fd/{self._file.fileno()}"

    def ids(self) -> Ids:
        """Region ids by row, int64 (count,)."""
        ids = np.empty(self.trailer.count, np.int64)
        self._read(ids, self.trailer.ids_offset)
        return ids

    def scores(self, query: Vector) -> Vector:
        """Inner product of every row with ``query`` (dim,): float32 (count,). Holds one chunk of
        rows in memory at a time."""
        found = np.empty(self.trailer.count, np.float32)
        for start, rows in self._rows():
            # Not a matrix product: there, the score of a row depends on the rows around it, and
            # copies of a picture would differ.
            np.vecdot(rows, query, out=found[start : start + len(rows)])
        return found

    def chunks(self) -> Iterator[tuple[Ids, Matrix]]:
        """All ids and rows, a chunk at a time; a chunk is overwritten by the next."""
        ids = self.ids()
        for start, rows in self._rows():
            yield ids[start : start + len(rows)], rows

    def _rows(self) -> Iterator[tuple[int, Matrix]]:
        count, dim = self.trailer.count, self.trailer.dim
        chunk = np.empty((min(SCAN_ROWS, count), dim), np.float32)
        for start in range(0, count, SCAN_ROWS):
            rows = chunk[: count - start]
            self._read(rows, self.trailer.rows_offset + 4 * dim * start)
            yield start, rows

    def _read(self, into: Matrix | Ids, offset: int) -> None:
        rest = into.reshape(-1).view(np.uint8).data
        while len(rest):
            got = os.preadv(self._file.fileno(), [rest], offset)
            if got == 0:
                raise IndexFormatError(
                    f"{os.fsdecode(self._file.name)} ended early. Make it anew: "
                    "embedsearch verify --repair"
                )
            rest, offset = rest[got:], offset + got


def best(ids: Ids, scores: Vector, k: int) -> tuple[Ids, Vector]:
    """The ``k`` best of ``ids`` (n,) by ``scores`` (n,), best first, equal scores by id."""
    if 0 < k < len(scores):
        # All that are as good as the k-th: which of them stay is for their ids to say.
        keep = scores >= np.partition(scores, -k)[-k]
        ids, scores = ids[keep], scores[keep]
    order = np.lexsort((ids, -scores))[:k]
    return ids[order], scores[order]


def vector_path(index_folder: Path, encoder_id: str) -> Path:
    """Where the vector index of an encoder lies."""
    return index_folder / "vectors" / f"{encoder_id}.faiss"


def open_vector_file(path: Path) -> VectorFile | None:
    """Open a vector index; None where there is no file, or not one that we finished writing."""
    try:
        file = FileIO(path)
    except FileNotFoundError:
        return None
    size = os.fstat(file.fileno()).st_size
    tail = os.pread(file.fileno(), TRAILER.size, max(0, size - TRAILER.size))
    if len(tail) == TRAILER.size and tail.startswith(MAGIC):
        _, revision, dim, count, rows, ids = TRAILER.unpack(tail)
        sound = dim > 0 and count >= 0 and rows >= 0 and ids >= 0
        if sound and size - TRAILER.size >= max(rows + 4 * dim * count, ids + 8 * count):
            told = revision.decode(errors="replace")
            return VectorFile(file, Trailer(told, dim, count, rows, ids))
    file.close()
    return None
