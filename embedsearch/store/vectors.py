"""The vector index: the only module that speaks FAISS.

It is derived from the catalogue and can be made anew at any time. Exact inner-product search over
L2-normalised rows, so a score is a cosine. Rows are float32 as read back from float16.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import faiss
import numpy as np

from embedsearch.errors import IndexFormatError, OutputError
from embedsearch.store.vector_file import (
    Ids,
    Matrix,
    Trailer,
    Vector,
    VectorFile,
    best,
    open_vector_file,
)


def write(
    path: Path,
    *,
    dim: int,
    revision: str,
    added: Iterable[tuple[Ids, Matrix]],
    removed: Ids | None = None,
) -> None:
    """Write the vector index: the rows it has, without ``removed``, and with ``added``.

    The file is written beside, fsynced and renamed: a reader sees the old one or the new one.
    Holds all rows in memory (4 x dim bytes each). The caller holds the index lock.

    Raises :class:`OutputError` where it cannot be written, and :class:`IndexFormatError` where
    the old file is damaged.
    """
    index = _load(path, dim)
    if removed is not None and len(removed):
        index.remove_ids(faiss.IDSelectorBatch(removed))
    for ids, rows in added:
        if len(ids):
            index.add_with_ids(np.ascontiguousarray(rows), ids)
    # The writer is alone: what a killed one left under this name is overwritten.
    beside = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        faiss.write_index(index, os.fspath(beside))
        _add_trailer(index, beside, revision, dim)
        beside.replace(path)
        _sync(path.parent)
    except (OSError, RuntimeError) as error:
        said = getattr(error, "strerror", None) or _first_line(error)
        raise OutputError(
            f"The vector index {path} cannot be written ({said}). Nothing is lost: make room, then "
            "run embedsearch verify --repair"
        ) from error
    finally:
        beside.unlink(missing_ok=True)


class FaissSearcher:
    """Searches a vector index file through FAISS; the file is mapped, not read."""

    def __init__(self, file: VectorFile) -> None:
        self._index = _read(file, faiss.IO_FLAG_MMAP_IFC)

    def search(
        self, query: Vector, k: int, *, allowed: Ids | None = None, excluded: Ids | None = None
    ) -> tuple[Ids, Vector]:
        """The ``k`` rows of largest inner product with ``query`` (dim,): ids and scores, best
        first, equal scores by id; fewer where fewer are allowed."""
        selector = _selector(allowed, excluded)
        parameters = None if selector is None else faiss.SearchParameters(sel=selector)
        if min(k, self._index.ntotal) < 1:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        wanted = min(k + 1, self._index.ntotal)  # the next one tells whether the cut is clear
        score_rows, id_rows = self._index.search(query[None], wanted, params=parameters)
        ids, scores = id_rows[0][id_rows[0] >= 0], score_rows[0][id_rows[0] >= 0]
        if len(ids) > k and scores[k] == scores[k - 1]:
            # FAISS keeps any of those that are equal; take them all and choose by id.
            least = float(scores[k])
            radius = least - _ROUNDING * max(1.0, abs(least))
            _, scores, ids = self._index.range_search(query[None], radius, params=parameters)
        return best(ids, scores, k)


_ROUNDING = 1e-6
"""More than two ways to sum the same products differ."""


def read_rows(file: VectorFile) -> tuple[Ids, Matrix]:
    """All ids and rows through FAISS itself (for checking): (N,) and (N, dim).

    Raises :class:`IndexFormatError` where FAISS cannot read the file.
    """
    index = FaissSearcher(file)._index
    rows = faiss.downcast_index(index.index).reconstruct_n(0, index.ntotal)
    return faiss.vector_to_array(index.id_map), rows


def _load(path: Path, dim: int) -> faiss.IndexIDMap:
    if (file := open_vector_file(path)) is not None:
        try:
            if file.trailer.dim == dim:
                return _read(file)
        finally:
            file.close()
    return faiss.IndexIDMap(faiss.IndexFlatIP(dim))


def _read(file: VectorFile, flags: int = 0) -> faiss.IndexIDMap:
    try:
        return faiss.read_index(file.path, flags)
    except RuntimeError as error:
        raise IndexFormatError(
            f"FAISS cannot read the vector index ({_first_line(error)}). "
            "Make it anew: embedsearch verify --deep --repair"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _add_trailer(index: faiss.IndexIDMap, path: Path, revision: str, dim: int) -> None:
    """Append the trailer, after checking that FAISS put rows and ids where it says."""
    count = index.ntotal
    ids_offset = path.stat().st_size - 8 * count
    rows_offset = ids_offset - 8 - 4 * dim * count
    flat = faiss.downcast_index(index.index)
    with path.open("r+b") as stream:
        for row in {0, count - 1} if count else ():
            stream.seek(rows_offset + 4 * dim * row)
            stored_row = np.frombuffer(stream.read(4 * dim), np.float32)
            stream.seek(ids_offset + 8 * row)
            stored_id = int.from_bytes(stream.read(8), "little")
            if stored_id != index.id_map.at(row) or not np.array_equal(
                stored_row, flat.reconstruct(row)
            ):
                raise IndexFormatError(
                    f"FAISS {faiss.__version__} lays its files out in a way this version does not "
                    "know. Update embedsearch, or install an older FAISS."
                )
        stream.seek(0, os.SEEK_END)
        stream.write(Trailer(revision, dim, count, rows_offset, ids_offset).pack())
        stream.flush()
        os.fsync(stream.fileno())


def _selector(allowed: Ids | None, excluded: Ids | None) -> faiss.IDSelector | None:
    if allowed is not None:
        if excluded is not None and len(excluded):
            allowed = np.setdiff1d(allowed, excluded)
        return faiss.IDSelectorBatch(allowed)
    if excluded is not None and len(excluded):
        return faiss.IDSelectorNot(faiss.IDSelectorBatch(excluded))
    return None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
