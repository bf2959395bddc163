"""Folders that are videos: one picture a frame, numbered, and a file that says so.

``seqinfo.json`` beside ``000001.jpg``, ``000002.jpg``... says how many are shown a second:
``{"fps": 25}``. In the layout of MOTChallenge it is ``seqinfo.ini``, and the frames are in a folder
in there that it names, ``img1``. Without such a file, or with any other picture beside the numbered
ones, a folder is a folder of photos.
"""

from __future__ import annotations

import configparser
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MARK = b"seqinfo.json"
MOT_MARK = b"seqinfo.ini"
MARKS = (MARK, MOT_MARK)
_MOT_SECTION, _MOT_FRAMES = "Sequence", "img1"
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
    inner: bytes
    """The folder in there that holds the frames; empty where they lie in it themselves."""
    rate: float
    """Frames a second."""
    size: int
    """Bytes of all frames."""
    mtime_ns: int
    """When a frame, or the file that says that this is a video, was changed last."""

    def paths(self) -> Iterator[bytes]:
        for name in self.names:
            yield os.path.join(self.path, self.inner, name)


def frame_folder(path: bytes) -> FrameFolder | None:
    """The video that the folder at ``path`` is; None for all else.

    Raises :class:`OSError` where its files cannot be looked at.
    """
    path = path.rstrip(b"/") or path
    if not os.path.isdir(path):  # as nearly all that is asked about
        return None
    told = next((found for mark in MARKS if (found := _told(os.path.join(path, mark)))), None)
    if told is None:
        return None
    mark, rate, inner = told
    place = os.path.join(path, inner)
    if not os.path.isdir(place):
        return None
    with os.scandir(place) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(b".")]
    frames = [name for name in names if _FRAME.fullmatch(name)]
    if len(frames) < 2 or any(_PICTURE.fullmatch(name) for name in set(names) - set(frames)):
        return None
    frames.sort(key=lambda name: int(name.partition(b".")[0]))
    seen = [os.stat(os.path.join(place, name)) for name in frames]
    newest = max(os.stat(mark).st_mtime_ns, *(status.st_mtime_ns for status in seen))
    return FrameFolder(path, tuple(frames), inner, rate, sum(one.st_size for one in seen), newest)


def _open(mark: bytes) -> IO[bytes]:
    return Path(os.fsdecode(mark)).open("rb")


def _told(mark: bytes) -> tuple[bytes, float, bytes] | None:
    """The file itself, frames a second, and the folder that holds them, where it tells them."""
    if not os.path.isfile(mark):
        return None
    with suppress(OSError, ValueError, RecursionError, configparser.Error), _open(mark) as stream:
        content = stream.read(_MARK_BYTES)
        rate, inner = (_of_mot if mark.endswith(MOT_MARK) else _of_json)(content)
        if 0 < rate <= _FASTEST and os.path.basename(inner) == inner and inner not in (".", ".."):
            return mark, rate, os.fsencode(inner)
    return None


def _of_json(content: bytes) -> tuple[float, str]:
    told = json.loads(content)
    rate = told.get("fps") if isinstance(told, dict) else None
    if not isinstance(rate, int | float) or isinstance(rate, bool):
        raise ValueError(rate)
    return float(rate), ""


def _of_mot(content: bytes) -> tuple[float, str]:
    told = configparser.ConfigParser(interpolation=None)
    told.read_string(content.decode("utf-8-sig"))
    inner = told.get(_MOT_SECTION, "imDir", fallback=_MOT_FRAMES)
    return told.getfloat(_MOT_SECTION, "frameRate"), inner


def is_one(path: bytes) -> bool:
    """Whether what is at ``path`` is looked at as one picture or video, be it a folder of frames,
    rather than as a folder that holds some."""
    if not os.path.isdir(path):
        return True
    with suppress(OSError):
        return frame_folder(path) is not None
    return False
