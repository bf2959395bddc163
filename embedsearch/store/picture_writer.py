"""How the rows of pictures come, change and go, inside transactions of the ledger.

An embedding is never changed in place: a picture whose content changed loses its region and gets a
new one, so that a vector index lags exactly where its ids differ from the catalogue's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import PictureError
from embedsearch.store.catalogue import (
    UNDER,
    Root,
    StoredEncoder,
    under_arguments,
)
from embedsearch.store.picture_rows import PictureRows, printable
from embedsearch.store.shots import (
    Kept,
    ShotContent,
    embeddings_of_shots,
    shots_of_twin,
    store_shots,
)

Outcome = Literal["new", "changed", "moved", "copies", "unchanged"]
TWINS = 32
"""Pictures of the same content that are asked whether they moved: there may be thousands, such as
"this photo is no longer available"."""
TO_EMBEDDING = ("scan", "read", "decode", "encode")
"""Stages of failure up to a picture's embedding; the others are those of enrichers."""
IsGone = Callable[[Root, bytes], bool]
"""Whether the file at (root, relative path) is certainly no longer there."""


@dataclass(frozen=True, slots=True)
class Content:
    """What was read from one picture or video file.

    ``vector`` is float32 (dim,), or None where the same content has an embedding already.
    """

    size: int
    mtime_ns: int
    hash: str
    width: int = 0
    height: int = 0
    format: str = ""
    taken_at: str | None = None
    exif: dict[str, Any] | None = None
    vector: NDArray[np.float32] | None = None
    duration: float | None = None
    """Of a video, seconds."""
    shots: tuple[ShotContent, ...] = ()
    """Of a video whose ``vector`` is not None."""


class PictureWriter(PictureRows):
    """Writes pictures, regions, embeddings and failures."""

    def store(
        self,
        root: Root,
        path: bytes,
        content: Content,
        encoder: StoredEncoder,
        *,
        anew: bool,
        is_gone: IsGone,
    ) -> Outcome | None:
        """Record what was read at (root, relative path).

        With ``anew`` the picture's embedding is replaced although its content is the same.
        Returns what happened, or None where ``content`` has no vector and the one that it relied
        on is gone meanwhile: then encode the picture and call again.
        """
        vector = self._vector(content, encoder)
        if vector is None or (anew and content.vector is None):
            return None
        own = self.connection.execute(
            "select id, size, hash from images where root_id = ? and path = ?", (root.id, path)
        ).fetchone()
        outcome: Outcome
        if own and not anew and own[1:] == (content.size, content.hash):
            # New times, and an embedding where it lacks one.
            self._complete(own[0], vector, encoder, content)
            self._place(own[0], root, path, content)
            outcome = "unchanged"
        elif not anew and (twin := self._twin(own, content, is_gone)):
            self._complete(twin[0], vector, encoder, content)
            outcome = self._from_twin(*twin, own, root, path, content)
        else:
            self._replace(own, root, path, content, vector, encoder)
            outcome = "changed" if own else "new"
        self._clear_failure(root, path, of_enrichers=outcome != "unchanged")
        return outcome

    def fail(
        self,
        root: Root,
        path: bytes,
        error: PictureError,
        read_as: tuple[int, int] | None,
        run_id: int,
    ) -> None:
        """Record that the file at (root, relative path) cannot be used.

        Bytes that are no picture are remembered with the size and mtime_ns they were ``read_as``,
        so that they are not tried again until they change; a picture that was there before them is
        gone. Everything else is tried again by the next run, and what is known of it stays.
        """
        self.add_failure(root.absolute(path), error.stage, error.reason, run_id)
        if error.stage != "decode" or read_as is None:
            return
        own = self.connection.execute(
            "select id from images where root_id = ? and path = ?", (root.id, path)
        ).fetchone()
        if own:
            self._delete_regions(own[0])
        self.connection.execute(
            "insert into images (root_id, path, name, size, mtime_ns, hash, width, height, format, "
            "status) values (?, ?, ?, ?, ?, '', 0, 0, '', 'failed') on conflict (root_id, path) "
            "do update set size = excluded.size, mtime_ns = excluded.mtime_ns, hash = '', "
            "status = 'failed'",
            (root.id, path, printable(path), *read_as),
        )

    def add_failure(self, path: bytes, stage: str, reason: str, run_id: int) -> None:
        """Record a failure at the absolute ``path``. Of the stages up to an embedding the last one
        counts; each enricher's stands by itself."""
        if stage in TO_EMBEDDING:
            self.connection.execute(
                f"delete from failures where path = ? and stage in {TO_EMBEDDING}", (path,)
            )
        self.connection.execute(
            "insert or replace into failures (path, name, stage, reason, run_id) "
            "values (?, ?, ?, ?, ?)",
            (path, printable(path), stage, reason, run_id),
        )

    def fail_stage(self, path: str, error: PictureError, run_id: int) -> None:
        """Record that a stage of enriching failed on the picture at an absolute path."""
        self.add_failure(os.fsencode(path), error.stage, error.reason, run_id)

    def clear_failure_of_stage(self, path: str, stage: str) -> None:
        """Drop the failure of one stage at an absolute path."""
        self.connection.execute(
            "delete from failures where path = ? and stage = ?", (os.fsencode(path), stage)
        )

    def clear_failures(self, under: bytes) -> None:
        """Drop the failures at or under an absolute path."""
        self.connection.execute(f"delete from failures where {UNDER}", under_arguments(under))

    def mark_vanished(self, paths: Iterable[bytes]) -> None:
        """Mark pictures, by absolute path, as no longer there; their embeddings are kept."""
        for path in paths:
            if (image := self.image_at(path)) is not None:
                self.connection.execute(
                    "update images set status = 'vanished' where id = ?", (image.id,)
                )

    def drop(self, path: bytes) -> None:
        """Take a picture out, by absolute path, so that the next run indexes it anew."""
        if (image := self.image_at(path)) is not None:
            self._delete_image(image.id)

    # How a picture's rows change

    def _vector(self, content: Content, encoder: StoredEncoder) -> bytes | None:
        """The float16 embedding of ``content``: its own, else that of a picture of the same
        content."""
        if content.vector is not None:
            return content.vector.astype(np.float16).tobytes()
        row = self.connection.execute(
            "select vector from images join regions on image_id = images.id and kind = 'image' "
            "join embeddings on region_id = regions.id and encoder = ? "
            "where hash = ? and size = ? limit 1",
            (encoder.key, content.hash, content.size),
        ).fetchone()
        return None if row is None else bytes(row[0])

    def _twin(
        self, own: tuple[Any, ...] | None, content: Content, is_gone: IsGone
    ) -> tuple[int, bool] | None:
        """A picture of the same content elsewhere, and whether that one is gone (moved here)."""
        rows: list[tuple[Any, ...]] = []
        for status in ("vanished", "ok"):
            rows += self.connection.execute(
                "select images.id, roots.id, roots.path, device, images.path "
                "from images join roots on roots.id = root_id "
                "where hash = ? and size = ? and status = ? and images.id is not ? "
                f"order by images.id limit {TWINS}",
                (content.hash, content.size, status, own[0] if own else None),
            )
        for id_, root_id, root_path, device, path in rows:
            if is_gone(Root(root_id, root_path, device), path):
                return id_, True
        return (rows[0][0], False) if rows else None

    def _from_twin(
        self,
        twin_id: int,
        moved: bool,
        own: tuple[Any, ...] | None,
        root: Root,
        path: bytes,
        content: Content,
    ) -> Outcome:
        given = self._given_tags(own[0]) if own else []
        if own:
            self._delete_image(own[0])
        if moved:
            self._place(twin_id, root, path, content)
        else:
            self._copy(twin_id, root, path, content.mtime_ns)
        self.connection.executemany(
            "insert into tags (image_id, tag, score) select id, ?, null from images "
            "where root_id = ? and path = ? "
            "on conflict (image_id, tag) do update set score = null",
            [(tag, root.id, path) for tag in given],
        )
        return "moved" if moved else "changed" if own else "copies"

    def _replace(
        self,
        own: tuple[Any, ...] | None,
        root: Root,
        path: bytes,
        content: Content,
        vector: bytes,
        encoder: StoredEncoder,
    ) -> None:
        """New content under this path, or the same looked at anew: a new region, and no trace of
        the old one. What other encoders and enrichers made of the same content is kept."""
        exif = json.dumps(content.exif) if content.exif else None
        facts = (content.size, content.mtime_ns, content.hash, content.width, content.height)
        vectors = {encoder.key: vector}
        kept: Kept = {}
        if own:
            image_id = int(own[0])
            if own[1:] == (content.size, content.hash):
                vectors = self._vectors_of(image_id) | vectors
                kept = embeddings_of_shots(self.connection, image_id)
                self._delete_regions(image_id, and_findings=False)
            else:
                self._delete_regions(image_id)
            self.connection.execute(
                "update images set size = ?, mtime_ns = ?, hash = ?, width = ?, height = ?, "
                "format = ?, taken_at = ?, exif = ?, duration = ?, status = 'ok' where id = ?",
                (*facts, content.format, content.taken_at, exif, content.duration, image_id),
            )
        else:
            cursor = self.connection.execute(
                "insert into images (root_id, path, name, size, mtime_ns, hash, width, height, "
                "format, taken_at, exif, duration, status) "
                "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'ok')",
                (
                    *(root.id, path, printable(path), *facts),
                    *(content.format, content.taken_at, exif, content.duration),
                ),
            )
            image_id = int(cursor.lastrowid or 0)
        region_id = self._add_region(image_id)
        for key, blob in vectors.items():
            self._embed(region_id, key, blob)
        store_shots(self.connection, image_id, content.shots, encoder.key, kept)

    def _vectors_of(self, image_id: int) -> dict[int, bytes]:
        """The embeddings of the whole picture by encoder key."""
        rows = self.connection.execute(
            "select encoder, vector from embeddings join regions on regions.id = region_id "
            "where image_id = ? and kind = 'image'",
            (image_id,),
        )
        return dict(rows.fetchall())

    def _complete(
        self, image_id: int, vector: bytes, encoder: StoredEncoder, content: Content
    ) -> None:
        """See to it that the picture has a region, and that this has an embedding; and so the shots
        of a video."""
        row = self.connection.execute(
            "select regions.id, exists (select 1 from embeddings where region_id = regions.id "
            "and encoder = ?) from regions where image_id = ? and kind = 'image'",
            (encoder.key, image_id),
        ).fetchone()
        if row is None:
            row = self._add_region(image_id), False
        region_id, embedded = row
        if not embedded:
            self._embed(region_id, encoder.key, vector)
            known = content.size, content.hash, encoder.key
            shots = content.shots or shots_of_twin(self.connection, *known)
            store_shots(self.connection, image_id, shots, encoder.key, {})
            self.connection.execute(
                "update images set duration = ifnull(duration, ?) where id = ?",
                (content.duration, image_id),
            )

    def _place(self, image_id: int, root: Root, path: bytes, content: Content) -> None:
        self.connection.execute(
            "update images set root_id = ?, path = ?, name = ?, mtime_ns = ?, status = 'ok' "
            "where id = ?",
            (root.id, path, printable(path), content.mtime_ns, image_id),
        )

    def _given_tags(self, image_id: int) -> list[str]:
        """Tags that a person gave to what lies at a path, whatever its content."""
        rows = self.connection.execute(
            "select tag from tags where image_id = ? and score is null", (image_id,)
        )
        return [tag for (tag,) in rows]

    def _clear_failure(self, root: Root, path: bytes, *, of_enrichers: bool) -> None:
        which = "" if of_enrichers else f" and stage in {TO_EMBEDDING}"
        self.connection.execute(
            f"delete from failures where path = ?{which}", (root.absolute(path),)
        )
