"""From a video to the few frames that show what is in it.

A frame begins a new shot where the picture changes at once. The measure is that of PySceneDetect's
content-aware detectors (B. Castellano, scenedetect.com, ``ContentDetector`` and
``AdaptiveDetector``): the mean absolute difference of hue, saturation and value from the frame
before, which must be large in itself and against what it was of late, so that a moving camera is
no cut. A shot that lasts is divided, and of neighbours that show the same the later is dropped.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from embedsearch.errors import EmbedSearchError
from embedsearch.images.video import Frame, Pixels, Video

EVERY_VARIABLE = "EMBEDSEARCH_SHOT_SECONDS"
EVERY = 5.0
"""A shot that lasts longer than so many seconds is divided."""
_LOOK_EVERY = 0.08
"""Seconds between frames that are looked at: twelve a second show every cut."""
LOOK_SIDE = 36
"""Shorter side of what is looked at, pixels."""
CUT = 27.0
"""ContentDetector's: the least difference, of 255, that is a cut where nothing is known before."""
CUT_LEAST, CUT_AGAINST = 15.0, 3.0
"""AdaptiveDetector's: the least difference, and the least ratio to the mean of the last
:data:`_RECENT`, that are a cut."""
_RECENT = 4
SAME = 3.0
"""Mean absolute difference of the levels, of 255, below which two frames show the same."""


class Cuts:
    """Tells where the picture changes at once."""

    def __init__(self) -> None:
        self._before: NDArray[np.int16] | None = None
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def between(self, look: NDArray[np.uint8]) -> bool:
        """Whether there is a cut between the look before and this one, a small picture."""
        colours = _hsv(look)
        change = None if self._before is None else _content_change(self._before, colours)
        self._before = colours
        if change is None:
            return False
        enough = CUT
        if self._recent:
            enough = max(CUT_LEAST, CUT_AGAINST * sum(self._recent) / len(self._recent))
        self._recent.append(change)
        return change >= enough


@dataclass(frozen=True, slots=True)
class Shot:
    """A part of a video, and the frame that shows it best."""

    start: float
    """Seconds from the beginning of the video."""
    until: float
    at: float
    """When its frame is shown."""
    pixels: Pixels
    """Of that frame: uint8 (H, W, 3)."""


@dataclass(slots=True)
class _Under:
    """The shot under way."""

    start: float
    clearness: float
    look: NDArray[np.uint8]
    frame: Frame


def find_shots(
    video: Video,
    at_least: int,
    *,
    every: float | None = None,
    go_on: Callable[[], bool] = lambda: True,
) -> Iterator[Shot]:
    """The shots of a video in their order; at least one.

    Frames have a shorter side of at least ``at_least`` pixels, where the video has them. Only one
    frame, and what was seen of the last, is held. ``go_on`` is asked now and then; the shots end
    where it says no. Raises :class:`~embedsearch.errors.PictureError`.
    """
    kept: tuple[Shot, NDArray[np.uint8]] | None = None
    for under, until in _divided(video, every or _every(), go_on):
        if kept is not None and _difference(kept[1], under.look) < SAME:
            kept = replace(kept[0], until=until), kept[1]
            continue
        if kept is not None:
            yield kept[0]
        pixels = under.frame.pixels(at_least)
        kept = Shot(under.start, until, under.frame.time, pixels), under.look
    if kept is not None:
        yield kept[0]


def _divided(
    video: Video, every: float, go_on: Callable[[], bool]
) -> Iterator[tuple[_Under, float]]:
    """Shots with the time of their end, alike or not."""
    under: _Under | None = None
    cuts = Cuts()
    last, looked = 0.0, -1.0
    for frame in video.frames():
        if not go_on():
            return
        last = frame.time
        if frame.time - looked < _LOOK_EVERY and under is not None:
            continue
        looked = frame.time
        look = frame.pixels(LOOK_SIDE)
        cut = cuts.between(look)
        if under is not None and (cut or frame.time - under.start >= every):
            yield under, frame.time
            under = None
        clearness = _clearness(look)
        if under is None:
            under = _Under(frame.time, clearness, look, frame)
        elif clearness > 1.1 * under.clearness:  # a little better is not worth the change
            under = replace(under, clearness=clearness, look=look, frame=frame)
    if under is not None:
        yield under, last + 1 / video.rate


def _hsv(look: NDArray[np.uint8]) -> NDArray[np.int16]:
    return np.asarray(Image.fromarray(look).convert("HSV"), np.int16)


def _content_change(one: NDArray[np.int16], other: NDArray[np.int16]) -> float:
    """PySceneDetect's content value, hue being a circle: the mean over pixels and channels."""
    if one.shape != other.shape:
        return 255.0
    change = np.abs(one - other)
    change[..., 0] = np.minimum(change[..., 0], 256 - change[..., 0])
    # The hue of what is nearly grey or black is noise.
    change[..., 0] = change[..., 0] * np.minimum(one[..., 1], other[..., 1]) // 255
    return float(change.mean())


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    if one.shape != other.shape:
        return 255.0
    return float(np.abs(one.astype(np.int16) - other).mean())


def _clearness(look: NDArray[np.uint8]) -> float:
    """How much there is to be seen: the spread of the grey levels, and of their edges."""
    grey = Image.fromarray(look).convert("L")
    edges = np.asarray(grey.filter(ImageFilter.FIND_EDGES), np.float32)[1:-1, 1:-1]
    return float(np.asarray(grey, np.float32).std() + edges.mean())


def _every() -> float:
    said = os.environ.get(EVERY_VARIABLE)
    if not said:
        return EVERY
    try:
        seconds = float(said)
    except ValueError:
        seconds = 0.0
    if not seconds >= 0.1:
        raise EmbedSearchError(
            f"{EVERY_VARIABLE} is {said!r}; it must be seconds, 0.1 or more, for example {EVERY:g}"
        )
    return seconds
