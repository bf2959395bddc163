"""Folders that are videos: one picture a frame, numbered, and a file that says so.

``seqinfo.json`` beside ``000001.jpg``, ``000002.jpg``... says how many are shown a second:
``{"fps": 25}``. Without it, or with any other picture beside the numbered ones, a folder is a
folder of photos.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MARK = b"seqinfo.json"
_FRAME = re.compile(rb"\d{4,}\.(?:jpe?g|png|webp|bmp)", re.IGNORECASE)
_PICTURE = re.compile(
    rb".*\.(?:jpe?g|jpe|jfif|mpo|a?png|webp|gif|bmp|dib|tiff?|avifs?|hei[cf]s?|hif)",
    re.IGNORECASE | re.DOTALL,
)
_MARK_BYTES = 1 << 20
_FASTEST = 1000.0


@dataclass(frozen=True, slots=True)
class FrameFolder:
    """A video as a folder of pictures."""

    path: bytes
    names: tuple[bytes, ...]
    """Of its frames, in their order."""
    rate: float
    """Frames a second."""
    size: int
    """Bytes of all frames."""
    mtime_ns: int
    """When a frame, or the file that says that this is a video, was changed last."""

    def paths(self) -> Iterator[bytes]:
        for name in self.names:
            yield os.path.join(self.path, name)


def frame_folder(path: bytes) -> FrameFolder | None:
    """The video that the folder at ``path`` is; None for all else.

    Raises :class:`OSError` where its files cannot be looked at.
    """
    path = path.rstrip(b"/") or path
    mark = os.path.join(path, MARK)
    if not os.path.isfile(mark) or (rate := _rate(mark)) is None:
        return None
    with os.scandir(path) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(b".")]
    frames = [name for name in names if _FRAME.fullmatch(name)]
    if len(frames) < 2 or any(_PICTURE.fullmatch(name) for name in set(names) - set(frames)):
        return None
    frames.sort(key=lambda name: int(name.partition(b".")[0]))
    told = [os.stat(os.path.join(path, name)) for name in frames]
    newest = max(os.stat(mark).st_mtime_ns, *(status.st_mtime_ns for status in told))
    return FrameFolder(path, tuple(frames), rate, sum(one.st_size for one in told), newest)


def _open(mark: bytes) -> IO[bytes]:
    return Path(os.fsdecode(mark)).open("rb")


def _rate(mark: bytes) -> float | None:
    """Frames a second, where the file tells them."""
    with suppress(OSError, ValueError, RecursionError), _open(mark) as stream:
        told = json.loads(stream.read(_MARK_BYTES))
        rate = told.get("fps") if isinstance(told, dict) else None
        if isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate <= _FASTEST:
            return float(rate)
    return None


def is_one(path: bytes) -> bool:
    """Whether what is at ``path`` is looked at as one picture or video, be it a folder of frames,
    rather than as a folder that holds some."""
    if not os.path.isdir(path):
        return True
    with suppress(OSError):
        return frame_folder(path) is not None
    return False
