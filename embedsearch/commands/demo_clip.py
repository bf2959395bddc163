"""A short clip for ``demo``: a motorcycle passes a wall. Drawn of photos that libraries bring."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from embedsearch.commands.demo_pictures import open_example, write_if_other

NAME = "garage/passing by.mp4"
WIDTH, HEIGHT = 384, 288
RATE = 12
"""Frames a second."""
FRAMES = 60


def make_clip(folder: Path) -> Path:
    """Write the clip into ``folder`` and give its path; one with the same bytes is left as it is.

    Raises :class:`~embedsearch.errors.MissingExtraError` where a library that brings photos is
    missing.
    """
    path = folder / NAME
    write_if_other(path, _encoded())
    return path


def _encoded() -> bytes:
    import av

    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=RATE)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.options = {"crf": "26", "threads": "1", "preset": "fast"}
        for frame in _frames():
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode(None))
    return stream.getvalue()


def _frames() -> list[np.ndarray]:
    """A wall, a while alone; then the motorcycle crosses it from left to right."""
    from PIL import ImageDraw, ImageFilter

    wall = open_example("skimage", "brick.png").convert("RGB").resize((WIDTH, WIDTH))
    wall = wall.crop((0, 0, WIDTH, HEIGHT)).filter(ImageFilter.GaussianBlur(1.5))
    ImageDraw.Draw(wall).rectangle((0, HEIGHT - 50, WIDTH, HEIGHT), fill=(92, 92, 96))
    rider = open_example("skimage", "motorcycle_right.png").convert("RGB")
    rider = rider.crop((110, 60, 690, 460)).resize((203, 140))
    frames = []
    for number in range(FRAMES):
        shown = wall.copy()
        left = round(-203 + (WIDTH + 203) * (number - 6) / (FRAMES - 12))
        shown.paste(rider, (left, HEIGHT - 150))
        frames.append(np.asarray(shown))
    return frames
