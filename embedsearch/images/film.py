"""Video files through PyAV (FFmpeg): frames turned upright, with square pixels, one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import PictureError
from embedsearch.images.decode import max_pixels
from embedsearch.images.files import FileBytes

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Pixels = NDArray[np.uint8]
_THREADS = min(4, os.cpu_count() or 1)
_MOST_FAULTS = 100
"""Damaged packets after which the rest of a film is given up."""
_EARLY = 1e-3
"""Seconds by which the time of a frame may be off for being rounded."""


@contextmanager
def open_film(file: FileBytes, name: str) -> Iterator[Film]:
    """Open a video file of format ``name``.

    Raises :class:`~embedsearch.errors.PictureError` of stage ``"decode"`` where there is nothing
    in it to be seen.
    """
    import av

    with file.open() as stream:
        try:
            # A file that refers to others, or to the network, gets nothing.
            container = av.open(stream, options={"protocol_whitelist": "pipe"})
        except (av.error.FFmpegError, OSError, ValueError) as fault:
            raise _explained(fault, name) from fault
        with container:
            yield Film(container, name)


class Film:
    """An opened video file; see :class:`embedsearch.images.video.Video`."""

    def __init__(self, container: InputContainer, name: str) -> None:
        pictures = [one for one in container.streams.video if one.codec_context is not None]
        if not len(container.streams):
            raise PictureError("decode", f"the {name} is cut short: part of the file is missing")
        if not pictures:
            raise PictureError("decode", f"the {name} holds no moving picture, only sound or data")
        self._container, self._stream, self.format = container, pictures[0], name
        stream = pictures[0]
        held = stream.codec_context.width * stream.codec_context.height
        if held > max_pixels():
            raise PictureError(
                "decode",
                f"each frame of the {name} has {held:,} pixels, more than the limit of "
                f"{max_pixels():,}; set EMBEDSEARCH_MAX_PIXELS to a larger number and index again "
                "with --force",
            )
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = _THREADS
        self.rate = float(stream.average_rate or stream.guessed_rate or 25)
        self.taken_at = _taken_at(container.metadata.get("creation_time"))
        self.declared = _declared(container, stream)
        self._begin = _begin(stream)
        self._turned, self._size = self._look()
        self.width, self.height = self._size

    def _look(self) -> tuple[int, tuple[int, int]]:
        """Quarter turns of the frames, and the size that they are shown in."""
        for frame in self._decoded(0.0):
            return frame.turns, frame.size
        raise PictureError("decode", f"the {self.format} is damaged: no frame of it can be decoded")

    def frames(self, start: float = 0.0) -> Iterator[FilmFrame]:
        """See :class:`embedsearch.images.video.Video`."""
        some, last = False, None
        for frame in self._decoded(start):
            if frame.time < start - _EARLY:
                last = frame
                continue
            if last is not None and frame.time > start + _EARLY:
                yield last  # it is still shown at ``start``
            last, some = None, True
            yield frame
        if last is not None:
            some = True
            yield last
        if not some:
            raise PictureError(
                "decode", f"the {self.format} is damaged: no frame of it can be decoded"
            )

    def _decoded(self, start: float) -> Iterator[FilmFrame]:
        from av.error import FFmpegError

        self._seek(start)
        number, faults = 0, 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, FFmpegError, OSError):
                return  # the end, or where the file is cut short
            try:
                frames = packet.decode()
            except (FFmpegError, OSError):
                faults += 1
                if faults > _MOST_FAULTS:
                    return
                continue
            for frame in frames:
                yield FilmFrame(frame, self._time(frame, number))
                number += 1

    def _seek(self, start: float) -> None:
        from av.error import FFmpegError

        base = float(self._stream.time_base or 0)
        place = int((self._begin + start) / base) if base else 0
        with suppress(FFmpegError, OSError):  # then frames are read from where it stands
            self._container.seek(place, stream=self._stream, backward=True)

    def _time(self, frame: VideoFrame, number: int) -> float:
        time = number / self.rate if frame.time is None else frame.time - self._begin
        return max(float(time), 0.0)


@dataclass(frozen=True, slots=True)
class FilmFrame:
    """A decoded frame; see :class:`embedsearch.images.video.Frame`."""

    frame: Any
    time: float

    @property
    def turns(self) -> int:
        """Quarter turns, counter-clockwise, that make it upright."""
        return round((self.frame.rotation or 0) / 90) % 4

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright frame, as it is shown."""
        width, height = self._shown()
        return (height, width) if self.turns % 2 else (width, height)

    def _shown(self) -> tuple[int, int]:
        aspect = getattr(self.frame, "sample_aspect_ratio", None)
        stretch = float(aspect) if aspect else 1.0
        if not 0.1 < stretch < 10:
            stretch = 1.0
        return max(round(self.frame.width * stretch), 1), self.frame.height

    def pixels(self, at_least: int) -> Pixels:
        """See :class:`embedsearch.images.video.Frame`."""
        width, height = self._shown()
        factor = min(at_least / min(width, height), 1.0)
        see_through = self.frame.format.name in ("bgra", "rgba", "argb", "abgr", "yuva420p")
        array = self.frame.to_ndarray(
            width=max(round(width * factor), 1),
            height=max(round(height * factor), 1),
            format="rgba" if see_through else "rgb24",
            interpolation="AREA",
        )
        if see_through:  # over white, as in pictures
            alpha = array[..., 3:].astype(np.float32) / 255
            array = np.rint(array[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
        return np.ascontiguousarray(np.rot90(array, self.turns))


def _begin(stream: VideoStream) -> float:
    return float((stream.start_time or 0) * (stream.time_base or 0))


def _declared(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def _taken_at(told: str | None) -> str | None:
    if not told:
        return None
    try:
        moment = datetime.fromisoformat(told)
    except ValueError:
        return None
    # Cameras without a clock write the beginning of QuickTime's or of Unix's time.
    return moment.replace(microsecond=0).isoformat() if moment.year > 1970 else None


def _explained(fault: Exception, name: str) -> PictureError:
    said = str(getattr(fault, "strerror", None) or fault).strip() or type(fault).__name__
    if isinstance(fault, EOFError) or "moov" in said:
        return PictureError("decode", f"the {name} is cut short: part of the file is missing")
    return PictureError("decode", f"the {name} is damaged, or cut short ({said})")
