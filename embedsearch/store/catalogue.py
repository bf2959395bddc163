"""The catalogue as readers see it: the truth about pictures, regions, embeddings and failures.

Only the standard library's sqlite3 is imported here: this module lies on the path of a cold query.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import EncoderMismatchError, IndexFormatError, IndexNotFoundError
from embedsearch.records import Box, EncoderInfo, ExportRow, Failure, Image, Region
from embedsearch.store import database

Ids = NDArray[np.int64]
Matrix = NDArray[np.float32]
CHUNK = 4096
"""Rows fetched at a time where all of an index is walked."""


@dataclass(frozen=True, slots=True)
class StoredEncoder:
    """An encoder that has embeddings in this index. ``key`` is its row in the catalogue."""

    key: int
    info: EncoderInfo
    revision: str
    """Random text, new with every change to the embeddings of this encoder."""


@dataclass(frozen=True, slots=True)
class Root:
    """A folder that was indexed. ``path`` is absolute, as ``os.fsencode`` gives it."""

    id: int
    path: bytes
    device: int

    def absolute(self, relative: bytes) -> bytes:
        """The absolute path of what lies at ``relative``; where that is empty, of the root."""
        return self.path.rstrip(b"/") + b"/" + relative if relative else self.path

    def relative(self, absolute: bytes) -> bytes:
        """The other way round; for a path that is the root or lies inside it."""
        return absolute[len(self.path.rstrip(b"/")) + 1 :]


class Catalogue:
    """Reads one ``catalogue.db``. Use :meth:`snapshot` around reads that must agree."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self.path = path

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open read-only. Raises IndexNotFoundError and IndexFormatError."""
        return cls(database.open_reader(path), path)

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read inside sees one and the same state, whatever a writer does meanwhile."""
        self.connection.execute("begin")
        try:
            yield
        finally:
            self.connection.execute("rollback")

    @property
    def knows_findings(self) -> bool:
        """Whether the catalogue has a place for what enrichers find: those before format 4, which
        are read as they are, have none."""
        version = self.connection.execute("pragma user_version").fetchone()[0]
        return bool(version >= 4)

    # Encoders

    def encoders(self) -> list[StoredEncoder]:
        """The encoders of this index: first the one that is used where none is named, which is the
        first that was used, unless another was made so; then in the order they came."""
        # An index of format 2 has no such column; it is read as it is.
        has_first = self.connection.execute(
            "select 1 from pragma_table_info('encoders') where name = 'first'"
        ).fetchone()
        order = "first desc, id" if has_first else "id"
        rows = self.connection.execute(f"select id, info, revision from encoders order by {order}")
        return [StoredEncoder(key, encoder_info(text), revision) for key, text, revision in rows]

    def encoder(self, named: str | None = None) -> StoredEncoder:
        """The encoder with the id or spec ``named`` (the last one added with it), or the first.

        Raises :class:`EncoderMismatchError` where the index has no such encoder.
        """
        stored = self.encoders()
        if not stored:
            raise IndexNotFoundError(
                f"The index at {self.path.parent} has no pictures yet. Add some: "
                f'embedsearch index FOLDER --index "{self.path.parent}"'
            )
        if named is None:
            return stored[0]
        # The spec of a folder is its absolute path, however it was named.
        meant = (named, os.path.realpath(os.path.expanduser(named)))
        # Of two with one spec the newer weights are meant.
        for one in sorted(stored, key=lambda one: one.key, reverse=True):
            if one.info.id == named or one.info.spec in meant:
                return one
        known = ", ".join(f"{one.info.spec} ({one.info.id})" for one in stored)
        raise EncoderMismatchError(
            f"The index at {self.path.parent} was not made with the encoder {named}; it has "
            f"{known}. Name one of these, or add yours: embedsearch index FOLDER --encoder {named}"
        )

    # Embeddings

    def region_ids(self, encoder: StoredEncoder) -> Ids:
        """Ids of all regions that have an embedding of ``encoder``, ascending, shape (N,)."""
        rows = self.connection.execute(
            "select region_id from embeddings where encoder = ? order by region_id", (encoder.key,)
        )
        return np.fromiter((row[0] for row in rows), np.int64)

    def embeddings(self, encoder: StoredEncoder, ids: Ids) -> Iterator[tuple[Ids, Matrix]]:
        """Embeddings of the regions ``ids`` in chunks of (ids, float32 matrix); unknown ids are
        left out."""
        for start in range(0, len(ids), CHUNK):
            wanted = json.dumps(ids[start : start + CHUNK].tolist())
            rows = self.connection.execute(
                "select region_id, vector from embeddings where encoder = ? and region_id in "
                "(select value from json_each(?)) order by region_id",
                (encoder.key, wanted),
            ).fetchall()
            yield (
                np.fromiter((row[0] for row in rows), np.int64, len(rows)),
                matrix([row[1] for row in rows], encoder.info.dim),
            )

    def embedding_of(self, image: Image, encoder: StoredEncoder) -> NDArray[np.float32] | None:
        """Embedding of the whole picture, float32 (dim,), or None where it has none."""
        row = self.connection.execute(
            "select vector from embeddings join regions on regions.id = region_id "
            "where image_id = ? and kind = 'image' and encoder = ?",
            (image.id, encoder.key),
        ).fetchone()
        return None if row is None else matrix([row[0]], encoder.info.dim)[0]

    def embedding_counts(self) -> dict[str, int]:
        """Number of embeddings by encoder id."""
        rows = self.connection.execute(
            "select encoder_id, (select count(*) from embeddings where encoder = encoders.id) "
            "from encoders order by id"
        )
        return dict(rows.fetchall())

    # Pictures and regions

    def image_at(self, path: bytes) -> Image | None:
        """The picture at the absolute ``path`` (``os.fsencode`` bytes), or None."""
        for root in self.roots():
            if is_inside(path, root.path):
                relative = root.relative(path)
                row = self.connection.execute(
                    f"{_IMAGES} where root_id = ? and images.path = ?", (root.id, relative)
                ).fetchone()
                if row is not None:
                    return _image(row)
        return None

    def knows_under(self, path: bytes) -> bool:
        """Whether the absolute ``path`` is a root, or inside one with pictures at or under it."""
        for root in self.roots():
            if path == root.path:
                return True
            if is_inside(path, root.path):
                below = root.relative(path)
                row = self.connection.execute(
                    f"select 1 from images where root_id = :root and {UNDER} limit 1",
                    {"root": root.id, **under_arguments(below)},
                ).fetchone()
                if row is not None:
                    return True
        return False

    def images(self, status: str | None = None) -> Iterator[Image]:
        """All pictures, or those of one status, by id, without holding a cursor open."""
        last = 0
        condition = "" if status is None else " and status = :status"
        while True:
            rows = self.connection.execute(
                f"{_IMAGES} where images.id > :last{condition} order by images.id limit {CHUNK}",
                {"last": last, "status": status},
            ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield from map(_image, rows)

    def images_where(self, condition: str, arguments: Sequence[Any]) -> Iterator[Image]:
        """Pictures for which our own SQL ``condition`` over images and roots is true."""
        return map(_image, self.connection.execute(f"{_IMAGES} where {condition}", arguments))

    def regions(self, ids: Iterable[int]) -> dict[int, Region]:
        """Regions by id; those unknown, and those of pictures that are not there, are left out."""
        rows = self.connection.execute(
            "select regions.id, roots.path, images.path, kind, x, y, w, h, label, score, "
            f"{self._times} "
            # CROSS JOIN keeps this order: without statistics SQLite would walk all pictures.
            "from json_each(?) as wanted cross join regions on regions.id = wanted.value "
            "join images on images.id = image_id join roots on roots.id = root_id "
            "where status = 'ok'",
            (json.dumps(list(ids)),),
        )
        return {
            id_: Region(id_, stored_path(root, path), kind, (x, y, w, h), *rest)
            for id_, root, path, kind, x, y, w, h, *rest in rows
        }

    @property
    def _times(self) -> str:
        """Columns that older indexes lack."""
        return "start, until, at" if self.knows_findings else "null, null, null"

    def region_ids_of_images(self, image_ids: Sequence[int]) -> Ids:
        """Ids of all regions of the given pictures, ascending, shape (N,)."""
        rows = self.connection.execute(
            "select id from regions where image_id in (select value from json_each(?)) order by id",
            (json.dumps(image_ids),),
        )
        return np.fromiter((row[0] for row in rows), np.int64)

    def hidden_region_ids(self) -> Ids:
        """Ids of regions whose picture has vanished, ascending, shape (N,)."""
        rows = self.connection.execute(
            "select regions.id from images join regions on image_id = images.id "
            "where status = 'vanished' order by regions.id"
        )
        return np.fromiter((row[0] for row in rows), np.int64)

    def export_rows(self, encoder: StoredEncoder) -> Iterator[ExportRow]:
        """Every region of a present picture with its embedding, by region id."""
        last = 0
        while True:
            rows = self.connection.execute(
                "select regions.id, roots.path, images.path, kind, x, y, w, h, label, width, "
                f"height, taken_at, {self._times}, size, mtime_ns, hash, number, vector "
                "from regions "
                "join images on images.id = image_id join roots on roots.id = root_id "
                "join embeddings on embeddings.region_id = regions.id and encoder = ? "
                "left join cluster_members on cluster_members.region_id = regions.id "
                f"where status = 'ok' and regions.id > ? order by regions.id limit {CHUNK}",
                (encoder.key, last),
            ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            vectors = matrix([row[-1] for row in rows], encoder.info.dim)
            for row, vector in zip(rows, vectors, strict=True):
                _, root, path, kind, x, y, w, h, label, width, height, taken_at, *rest = row
                box: Box = (x, y, w, h)
                start, until, at, size, mtime_ns, content_hash, cluster, _ = rest
                yield ExportRow(
                    path=stored_path(root, path),
                    kind=kind,
                    box=box,
                    label=label,
                    cluster=cluster,
                    width=width,
                    height=height,
                    taken_at=taken_at,
                    embedding=vector,
                    size=size,
                    mtime_ns=mtime_ns,
                    hash=content_hash,
                    start=start,
                    until=until,
                    at=at,
                )

    # The index as a whole

    def roots(self) -> list[Root]:
        """The indexed folders, by path."""
        rows = self.connection.execute("select id, path, device from roots order by path")
        return [Root(*row) for row in rows]

    def picture_counts(self) -> dict[str, int]:
        """Number of pictures by status."""
        rows = self.connection.execute("select status, count(*) from images group by status")
        return {"ok": 0, "failed": 0, "vanished": 0} | dict(rows.fetchall())

    def region_count(self) -> int:
        row = self.connection.execute("select count(*) from regions").fetchone()
        return int(row[0])

    def failures(self, under: bytes | None = None) -> list[Failure]:
        """Pictures that cannot be used, by path; those at or under ``under`` where given."""
        condition, arguments = "", {}
        if under is not None:
            condition, arguments = f"where {UNDER}", under_arguments(under)
        rows = self.connection.execute(
            f"select path, stage, reason from failures {condition} order by path", arguments
        )
        return [Failure(os.fsdecode(path), stage, reason) for path, stage, reason in rows]

    def last_run(self) -> dict[str, Any] | None:
        """When the last run began and ended and what it counted; ``finished_at`` is None where
        it was killed."""
        row = self.connection.execute(
            "select started_at, finished_at, version, counts from runs order by id desc limit 1"
        ).fetchone()
        if row is None:
            return None
        started, finished, version, counts = row
        return {
            "started_at": started,
            "finished_at": finished,
            "version": version,
            "counts": json.loads(counts) if counts else None,
        }

    def content_known(self, size: int, content_hash: str, encoder: StoredEncoder) -> bool:
        """Whether some picture of this very content has an embedding of ``encoder``."""
        row = self.connection.execute(
            "select 1 from images where hash = ? and size = ? and exists (select 1 from regions "
            "join embeddings on region_id = regions.id and encoder = ? "
            "where image_id = images.id and kind = 'image') limit 1",
            (content_hash, size, encoder.key),
        ).fetchone()
        return row is not None


UNDER = "(path = :exact or (path > :below and path < :above))"
"""SQL for: the BLOB column ``path`` is :exact or lies under it."""


def under_arguments(folder: bytes) -> dict[str, bytes]:
    """Arguments of :data:`UNDER`. "0" is the byte after "/"."""
    stem = folder.rstrip(b"/")
    return {"exact": folder, "below": stem + b"/", "above": stem + b"0"}


def is_inside(path: bytes, folder: bytes) -> bool:
    """Whether ``path`` lies under ``folder`` (and is not ``folder`` itself)."""
    return path.startswith(folder.rstrip(b"/") + b"/") and path != folder


def encoder_info(text: str) -> EncoderInfo:
    """Read an EncoderInfo back from the JSON that :func:`encoder_json` wrote."""
    fields = json.loads(text)
    fields["mean"], fields["std"] = tuple(fields["mean"]), tuple(fields["std"])
    return EncoderInfo(**fields)


def encoder_json(info: EncoderInfo) -> str:
    return json.dumps(asdict(info))


_IMAGES = (
    "select images.id, roots.path, images.path, size, mtime_ns, hash, width, height, taken_at, "
    "status from images join roots on roots.id = root_id"
)


def _image(row: tuple[Any, ...]) -> Image:
    id_, root, path, *rest = row
    return Image(id_, stored_path(root, path), *rest)


def stored_path(root: bytes, relative: bytes) -> str:
    """The absolute path of what lies at ``relative`` in ``root``, as ``os.fsdecode`` gives it."""
    return os.fsdecode(root.rstrip(b"/") + b"/" + relative)


def matrix(blobs: list[bytes], dim: int) -> Matrix:
    """Embeddings as they are stored, to float32 (N, dim). Raises :class:`IndexFormatError`."""
    if any(len(blob) != 2 * dim for blob in blobs):
        raise IndexFormatError(
            f"The catalogue holds an embedding that is not of {dim} numbers. Find it and take it "
            "out: embedsearch verify --repair"
        )
    return np.frombuffer(b"".join(blobs), np.float16).reshape(len(blobs), dim).astype(np.float32)
