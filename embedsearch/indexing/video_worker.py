"""From one video to what is stored of it: its shots, each embedded, and one embedding of all."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from embedsearch.encoders.base import Embeddings, Pixels
from embedsearch.errors import PictureError
from embedsearch.images.files import FileBytes
from embedsearch.images.shots import Shot, find_shots
from embedsearch.images.video import Video, open_video
from embedsearch.store.picture_writer import Content
from embedsearch.store.shots import ShotContent

BATCH = 8
"""Shots that are encoded at a time: no more frames are held."""
_MISSING = 0.95
"""A video of which a smaller part of its length was seen is said to be cut short ..."""
_MISSING_SECONDS = 1.0
""" ... where that is more than so much."""

Encode = Callable[[list[Pixels]], Sequence[Embeddings | PictureError]]


class StoppedError(Exception):
    """The run was told to stop in the middle of a video."""


@dataclass(frozen=True, slots=True)
class LookedAtVideo:
    """What is stored of a video, and what its owner should know of it."""

    content: Content
    warning: str | None = None


def look_at_video(
    file: FileBytes,
    digest: str,
    encode: Encode,
    at_least: int,
    go_on: Callable[[], bool] = lambda: True,
) -> LookedAtVideo:
    """Look at a whole video.

    ``digest`` is its content hash, ``encode`` the encoder, which takes frames whose shorter side
    has ``at_least`` pixels where the video has them. Raises
    :class:`~embedsearch.errors.PictureError`, and :class:`StoppedError` once ``go_on`` says no.
    """
    stored: list[ShotContent] = []
    with open_video(file) as video:
        waiting: list[Shot] = []
        for shot in find_shots(video, at_least, go_on=go_on):
            waiting.append(shot)
            if len(waiting) == BATCH:
                stored += _encoded(waiting, encode)
                waiting = []
        if not go_on():
            raise StoppedError
        stored += _encoded(waiting, encode)
        mean = np.mean([shot.vector for shot in stored], axis=0)
        content = Content(
            size=file.size,
            mtime_ns=file.mtime_ns,
            hash=digest,
            width=video.width,
            height=video.height,
            format=video.format,
            taken_at=video.taken_at,
            vector=(mean / max(float(np.linalg.norm(mean)), 1e-9)).astype(np.float32),
            duration=round(stored[-1].until, 3),
            shots=tuple(stored),
        )
        return LookedAtVideo(content, _cut_short(file, video, stored[-1].until))


def _encoded(shots: Sequence[Shot], encode: Encode) -> list[ShotContent]:
    encoded = []
    for shot, vector in zip(shots, encode([shot.pixels for shot in shots]), strict=True):
        if isinstance(vector, PictureError):
            raise vector
        start, until, at = (round(time, 3) for time in (shot.start, shot.until, shot.at))
        encoded.append(ShotContent(start, until, at, vector))
    return encoded


def _cut_short(file: FileBytes, video: Video, seen: float) -> str | None:
    told = video.declared
    if told is None or seen >= min(_MISSING * told, told - _MISSING_SECONDS):
        return None
    return (
        f"{os.fsdecode(file.path)} is damaged or cut short: of its {told:.1f} seconds, only "
        f"{seen:.1f} can be seen. They are indexed."
    )
