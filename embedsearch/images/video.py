"""Videos as upright frames with their times, and the one frame that stands for all.

Files are decoded by PyAV (FFmpeg); a folder of frames, see
:mod:`~embedsearch.images.frame_folder`, is a video too, and so is a GIF of more than one frame.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import PictureError
from embedsearch.images.decode import decode
from embedsearch.images.files import FileBytes, read
from embedsearch.images.formats import HEAD, VIDEOS, opener, sniff
from embedsearch.images.frame_folder import FrameFolder

Pixels = NDArray[np.uint8]

FRAMES = "frames"
"""The format of a folder of frames."""
_BLANK = 8.0
"""Standard deviation of the levels, of 255: a frame below it shows nothing."""
_SOMETHING_WITHIN = 3.0
"""Seconds in which a first frame that is not blank is looked for."""


class Frame(Protocol):
    """One frame of a video. It holds its pixels only while it is held."""

    @property
    def time(self) -> float:
        """Seconds from the beginning of the video."""
        ...

    def pixels(self, at_least: int) -> Pixels:
        """uint8 (H, W, 3), upright, sRGB; reduced as far as the shorter side stays ``at_least``.

        Raises :class:`~embedsearch.errors.PictureError`."""
        ...


class Video(Protocol):
    """An opened video."""

    @property
    def width(self) -> int:
        """Of an upright frame as it is shown, pixels."""
        ...

    @property
    def height(self) -> int: ...

    @property
    def format(self) -> str:
        """One of :data:`~embedsearch.images.formats.VIDEOS`, ``"GIF"``, or :data:`FRAMES`."""
        ...

    @property
    def declared(self) -> float | None:
        """Seconds it should last, as it says of itself."""
        ...

    @property
    def rate(self) -> float:
        """Frames a second, on the average."""
        ...

    @property
    def taken_at(self) -> str | None:
        """ISO 8601."""
        ...

    def frames(self, start: float = 0.0) -> Iterator[Frame]:
        """Frames in the order of their times, from the one that is shown at ``start``. What is
        damaged is left out; where nothing is left, a
        :class:`~embedsearch.errors.PictureError` is raised."""
        ...


def is_video(file: FileBytes) -> bool:
    """Whether a file, or a folder that was read, is a video rather than a picture."""
    if file.frames is not None:
        return True
    try:
        with file.open() as stream:
            name = sniff(stream.read(HEAD))
            if name != "GIF":
                return name in VIDEOS
            stream.seek(0)
            return bool(getattr(opener(name)(stream, ""), "is_animated", False))
    except PictureError:
        return False
    except Exception:  # whatever Pillow's plugin raises: it is no sound GIF, and decode says why
        return False


def open_video(file: FileBytes) -> AbstractContextManager[Video]:
    """Open a video for as long as the context lasts.

    Raises :class:`~embedsearch.errors.PictureError` where it cannot be opened as one.
    """
    if file.frames is not None:
        return nullcontext(_OpenedFolder(file.frames))
    from embedsearch.images.film import open_film

    with file.open() as stream:
        name = sniff(stream.read(HEAD))
    return open_film(file, name)


def first_frame(video: Video, at_least: int) -> Pixels:
    """The first frame that shows something: films often begin black."""
    first: Pixels | None = None
    for frame in video.frames():
        pixels = frame.pixels(at_least)
        if pixels.std() >= _BLANK:
            return pixels
        first = pixels if first is None else first
        if frame.time > _SOMETHING_WITHIN:
            break
    assert first is not None  # frames() raises where there are none
    return first


def frame_at(file: FileBytes, seconds: float, at_least: int) -> Pixels:
    """The frame that is shown ``seconds`` from the beginning: uint8 (H, W, 3).

    Raises :class:`~embedsearch.errors.PictureError`.
    """
    with open_video(file) as video:
        return next(video.frames(seconds)).pixels(at_least)


@dataclass(frozen=True, slots=True)
class _FileFrame:
    path: bytes
    time: float

    def pixels(self, at_least: int) -> Pixels:
        try:
            return decode(os.fsdecode(self.path), at_least).pixels
        except PictureError as fault:
            raise PictureError(
                fault.stage, f"frame {os.fsdecode(os.path.basename(self.path))}: {fault.reason}"
            ) from fault


class _OpenedFolder:
    def __init__(self, folder: FrameFolder) -> None:
        self._folder = folder
        self.format = FRAMES
        self.rate = folder.rate
        self.declared: float | None = len(folder.names) / folder.rate
        first = decode(read(next(folder.paths())), 1)
        self.width, self.height = first.width, first.height
        self.taken_at = first.taken_at

    def frames(self, start: float = 0.0) -> Iterator[Frame]:
        skipped = min(max(int(start * self.rate + 1e-6), 0), len(self._folder.names) - 1)
        for number, path in enumerate(self._folder.paths()):
            if number >= skipped:
                yield _FileFrame(path, number / self.rate)


def decoded_video(file: FileBytes, at_least: int) -> tuple[Pixels, dict[str, Any]]:
    """What :func:`~embedsearch.images.decode.decode` tells of a video: the first frame that shows
    something, and width, height, format and taken_at."""
    with open_video(file) as video:
        about = {name: getattr(video, name) for name in ("width", "height", "format", "taken_at")}
        return first_frame(video, at_least), about
