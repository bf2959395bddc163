"""Tiny videos that are rendered here, in whatever container is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

RATE = 10
SIZE = (96, 64)
CODECS = {".mp4": "libx264", ".mkv": "libx264", ".webm": "libvpx", ".mov": "mpeg4", ".gif": "gif"}
Pixels = NDArray[np.uint8]


def scene(seed: int, size: tuple[int, int] = SIZE) -> Pixels:
    """A chequered picture unlike that of any other seed."""
    width, height = size
    blocks = np.random.default_rng(seed).integers(0, 255, (height // 16, width // 16, 3), np.uint8)
    return blocks.repeat(16, 0).repeat(16, 1)


def moving_square(
    count: int, *, seed: int = 0, start: int = 0, size: tuple[int, int] = SIZE
) -> list[Pixels]:
    """A red square that walks to the right over a scene, two pixels a frame."""
    frames = []
    for number in range(start, start + count):
        frame = scene(seed, size)
        frame[20:36, 2 * number : 2 * number + 16] = (255, 0, 0)
        frames.append(frame)
    return frames


def cuts(*seeds: int, each: int = 20) -> Iterator[Pixels]:
    """Scenes of ``each`` frames, one after another."""
    for seed in seeds:
        yield from moving_square(each, seed=seed)


def write_clip(
    path: Path, frames: Sequence[Pixels] | Iterator[Pixels], *, rate: int = RATE, **metadata: str
) -> Path:
    """Encode frames; the suffix of ``path`` says how."""
    frames = list(frames)
    suffix = path.suffix.lower()
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata)
        stream = container.add_stream(CODECS[suffix], rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "rgb8" if suffix == ".gif" else "yuv420p"
        if suffix != ".gif":
            stream.bit_rate = 1_000_000
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    return path


def write_frames(
    folder: Path, frames: Sequence[Pixels] | Iterator[Pixels], *, fps: object = RATE
) -> Path:
    """A folder of frames with the file that says that it is a video."""
    folder.mkdir(parents=True)
    for number, pixels in enumerate(frames, 1):
        Image.fromarray(pixels).save(folder / f"{number:06d}.png")
    (folder / "seqinfo.json").write_text(json.dumps({"fps": fps}))
    return folder


def turn(path: Path) -> None:
    """Write into an MP4 that it is to be shown turned by a quarter, as phones do held upright."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # version 0: the matrix stands 40 bytes into the box
    fixed = 1 << 16
    matrix = (0, fixed, 0, -fixed, 0, 0, 0, 0, 1 << 30)
    data[place : place + 36] = b"".join(part.to_bytes(4, "big", signed=True) for part in matrix)
    path.write_bytes(data)
