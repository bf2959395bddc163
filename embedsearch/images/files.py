"""Reading a file once, so that the same bytes are hashed and decoded."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO

import xxhash

from embedsearch.errors import PictureError
from embedsearch.images.frame_folder import FrameFolder, frame_folder

LARGE_FILE = 256 * 1024 * 1024
"""Files over this many bytes are not held in memory; they are hashed by samples."""
SAMPLE = 4 * 1024 * 1024
"""Bytes of each of the three samples of a large file."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_CHANGED = "the file changed while it was being read; index again when it is complete"


@dataclass(frozen=True, slots=True)
class FileBytes:
    """A file as it was at one moment."""

    path: bytes
    size: int
    mtime_ns: int
    data: bytes | None = field(repr=False)
    """All of it; ``None`` for a file over :data:`LARGE_FILE`, which is read as it is decoded."""
    samples: bytes = field(default=b"", repr=False)
    """Start, middle and end of a large file, one after another; empty for others."""
    frames: FrameFolder | None = None
    """For a folder that is a video; its pictures are read one by one."""

    def open(self) -> IO[bytes]:
        """A stream over the bytes; a large file is opened again."""
        if self.data is not None:
            return BytesIO(self.data)
        try:
            return _open(self.path)
        except OSError as fault:
            raise PictureError("read", explain(fault)) from fault


def read(path: bytes | str | os.PathLike[str]) -> FileBytes:
    """Read a regular file, following links to it, or look at a folder of frames.

    Raises :class:`~embedsearch.errors.PictureError` of stage ``"read"`` when it is missing, may
    not be read, is empty, is no regular file (a named pipe is not waited for), or changes while
    it is read.
    """
    path = os.fsencode(path)
    try:
        if (frames := frame_folder(path)) is not None:
            return FileBytes(path, frames.size, frames.mtime_ns, None, frames=frames)
        with _open(path) as stream:
            before = os.fstat(stream.fileno())
            if before.st_size > LARGE_FILE:
                data, samples, length = None, _samples(stream, before.st_size), before.st_size
            else:
                data, samples = stream.read(), b""
                length = len(data)
            after = os.fstat(stream.fileno())
    except OSError as fault:
        raise PictureError("read", explain(fault)) from fault
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise PictureError("read", _CHANGED)
    if length != before.st_size:
        raise PictureError("read", _CHANGED)
    if length == 0:
        raise PictureError("read", "the file is empty (0 bytes)")
    return FileBytes(path, before.st_size, before.st_mtime_ns, data, samples)


def content_hash(file: FileBytes) -> str:
    """XXH3-128 of the content, 32 hex digits; over :data:`LARGE_FILE` of size and samples.

    It tells copies apart from new pictures; it does not resist someone who makes collisions. The
    frames of a folder are read for it: that may raise :class:`~embedsearch.errors.PictureError`.
    """
    if file.frames is not None:
        whole = xxhash.xxh3_128(repr(file.frames.rate).encode())
        for frame in file.frames.paths():
            whole.update(content_hash(read(frame)).encode())
        return whole.hexdigest()
    if file.data is not None:
        return xxhash.xxh3_128_hexdigest(file.data)
    return xxhash.xxh3_128_hexdigest(file.size.to_bytes(8, "little") + file.samples)


def status(path: bytes | str | os.PathLike[str]) -> tuple[int, int]:
    """Size and mtime_ns of a file, or of a folder that is a video, as the catalogue keeps them.

    Raises :class:`OSError`.
    """
    if (frames := frame_folder(os.fsencode(path))) is not None:
        return frames.size, frames.mtime_ns
    told = os.stat(path)
    return told.st_size, told.st_mtime_ns


def explain(fault: OSError) -> str:
    """The operating system's error in words for the one who reads the list of failures."""
    if isinstance(fault, FileNotFoundError):
        return "it is not there (any more)"
    if isinstance(fault, PermissionError):
        return "permission denied"
    if fault.errno == errno.ELOOP:
        return "the link leads in a circle"
    said = fault.strerror or str(fault) or type(fault).__name__
    return f"it cannot be read: {said[0].lower()}{said[1:]}"


def no_picture(mode: int) -> str:
    """Why what has ``mode`` (``st_mode``), no regular file, is not read."""
    return f"it is {_KINDS.get(stat.S_IFMT(mode), 'no regular file')}, not a picture file"


def _open(path: bytes) -> IO[bytes]:
    # O_NONBLOCK: opening a named pipe would wait for a writer. It means nothing to regular files.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise PictureError("read", no_picture(mode))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _samples(stream: IO[bytes], size: int) -> bytes:
    parts = []
    for start in (0, (size - SAMPLE) // 2, size - SAMPLE):
        stream.seek(start)
        parts.append(stream.read(SAMPLE))
    return b"".join(parts)
