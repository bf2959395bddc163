"""What one worker thread does with a handful of files: read, hash, decode, encode; videos one by
one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embedsearch.encoders.base import Embeddings, Encoder, Pixels
from embedsearch.errors import EmbedSearchError, PictureError
from embedsearch.images.decode import Decoded, decode
from embedsearch.images.files import FileBytes, content_hash, read
from embedsearch.images.video import is_video
from embedsearch.indexing.video_worker import StoppedError, look_at_video
from embedsearch.store.catalogue import Catalogue, StoredEncoder
from embedsearch.store.picture_writer import Content
from embedsearch.store.scan_plan import Pending


@dataclass(frozen=True, slots=True)
class Looked:
    """What came of one file: its content, or the error and (for bytes that are no picture) the
    size and mtime_ns of the file that they were; and what its owner should know of it."""

    item: Pending
    content: Content | None = None
    error: PictureError | None = None
    read_as: tuple[int, int] | None = None
    warning: str | None = None


class Worker:
    """Shared by all threads; each has a reading connection of its own."""

    def __init__(
        self,
        encoder: Encoder,
        stored: StoredEncoder,
        catalogue: Catalogue,
        stop: threading.Event | None = None,
    ) -> None:
        self._stop = stop or threading.Event()
        self._encoder = encoder
        self._stored = stored
        self._catalogue_path = catalogue.path
        self._own = threading.local()
        self._readers: list[Catalogue] = []

    def close(self) -> None:
        for reader in self._readers:
            reader.close()

    def look(self, items: Sequence[Pending], *, encode_known: bool = False) -> list[Looked]:
        """Look at files, in their order. One that fails does not touch the others; a video in whose
        middle the run is told to stop is left out.

        Content that the index knows is not encoded again, unless ``encode_known``.
        """
        found: list[Looked] = []
        waiting: list[tuple[int, FileBytes, str, Decoded]] = []
        for item in items:
            try:
                file = read(item.root.absolute(item.path))
                digest = content_hash(file)
            except PictureError as error:
                found.append(Looked(item, error=error))
                continue
            if not (item.anew or encode_known) and self._known(file.size, digest):
                found.append(Looked(item, Content(file.size, file.mtime_ns, digest)))
                continue
            if is_video(file):
                found += self._video(item, file, digest)
                continue
            try:
                decoded = decode(file, self._encoder.info.input_size)
            except PictureError as error:
                found.append(Looked(item, error=error, read_as=(file.size, file.mtime_ns)))
                continue
            waiting.append((len(found), file, digest, decoded))
            found.append(Looked(item))
        vectors = self._encode([decoded.pixels for *_, decoded in waiting])
        for (place, file, digest, decoded), vector in zip(waiting, vectors, strict=True):
            item = found[place].item
            if isinstance(vector, PictureError):
                found[place] = Looked(item, error=vector)
            else:
                found[place] = Looked(item, content_of(file, digest, decoded, vector))
        return found

    def _video(self, item: Pending, file: FileBytes, digest: str) -> list[Looked]:
        side = self._encoder.info.input_size
        try:
            seen = look_at_video(file, digest, self._encode, side, lambda: not self._stop.is_set())
        except StoppedError:
            return []
        except PictureError as error:
            read_as = (file.size, file.mtime_ns) if error.stage == "decode" else None
            return [Looked(item, error=error, read_as=read_as)]
        return [Looked(item, seen.content, warning=seen.warning)]

    def _known(self, size: int, digest: str) -> bool:
        reader: Catalogue | None = getattr(self._own, "reader", None)
        if reader is None:
            reader = self._own.reader = Catalogue.open(self._catalogue_path)
            self._readers.append(reader)
        return reader.content_known(size, digest, self._stored)

    def _encode(self, pictures: list[Pixels]) -> list[Embeddings | PictureError]:
        """One row or one error a picture. A batch that fails is tried picture by picture."""
        if not pictures:
            return []
        try:
            rows = self._encoder.encode_images(pictures)
            if rows.shape != (len(pictures), self._encoder.info.dim) or not np.isfinite(rows).all():
                raise ValueError("it gave numbers that are no embedding")
            return list(rows)
        except EmbedSearchError:
            raise
        except Exception as error:
            if len(pictures) > 1:
                return [row for one in pictures for row in self._encode([one])]
            return [PictureError("encode", f"the encoder failed on it: {in_short(error)}")]


def in_short(error: Exception) -> str:
    """What an error says in its first line, else its name."""
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def content_of(file: FileBytes, digest: str, decoded: Decoded, vector: Embeddings) -> Content:
    """What is stored of a file that was read, hashed, decoded and encoded."""
    return Content(
        size=file.size,
        mtime_ns=file.mtime_ns,
        hash=digest,
        width=decoded.width,
        height=decoded.height,
        format=decoded.format or "",
        taken_at=decoded.taken_at,
        exif=dict(decoded.exif),
        vector=vector,
    )
