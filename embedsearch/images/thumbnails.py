"""Small JPEGs of pictures and frames of videos, or of regions of them, for galleries and pages."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from PIL import Image

from embedsearch.errors import PictureError
from embedsearch.images.decode import Decoded, Source, decode
from embedsearch.images.files import FileBytes, content_hash, read, status
from embedsearch.images.region import region_pixels
from embedsearch.records import Image as IndexedImage

SIZE = 320
"""Longer side of a thumbnail, pixels."""
QUALITY = 80
"""Of its JPEG, 1 to 95."""

Box = Sequence[float]
"""x, y, width, height in pixels of the upright, full-size picture."""


def thumbnail(
    picture: bytes | str | Path | FileBytes,
    size: int = SIZE,
    *,
    box: Box | None = None,
    at: float | None = None,
    quality: int = QUALITY,
) -> bytes:
    """A JPEG of the upright picture, or of the region ``box`` of it, for one who looks. Of a video
    it shows the frame ``at`` seconds from the beginning, by default the first that shows something.

    Its longer side is ``size`` pixels, or less where there are no more: nothing is enlarged. A box
    that reaches over the edge is cut at the edge.

    Raises :class:`~embedsearch.errors.PictureError` where the picture cannot be shown, or the box
    lies outside it.
    """
    file = picture if isinstance(picture, FileBytes) else read(picture)
    source = file if at is None else _frame(file, at, None if box else size)
    decoded = decode(source, size)
    small = Image.fromarray(decoded.pixels) if box is None else _region(source, decoded, box, size)
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    stream = BytesIO()
    small.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def _frame(file: FileBytes, at: float, at_least: int | None) -> Source:
    """A frame of a video, all of its pixels or ``at_least`` so many; a picture as it is."""
    from embedsearch.images.video import frame_at, is_video

    if not is_video(file):
        return file
    return frame_at(file, at, at_least or sys.maxsize)


def _region(source: Source, decoded: Decoded, box: Box, size: int) -> Image.Image:
    """The part ``box`` of a picture, with ``size`` pixels or more where it has as many."""
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    right = min(box[0] + box[2], decoded.width)
    bottom = min(box[1] + box[3], decoded.height)
    if not (right > left and bottom > top):
        raise PictureError(
            "decode",
            f"the region {','.join(f'{side:g}' for side in box)} lies outside the picture of "
            f"{decoded.width} x {decoded.height} pixels",
        )
    width, height = right - left, bottom - top
    shorter_side = size * min(width, height) / max(width, height)
    return Image.fromarray(region_pixels(source, decoded, (left, top, width, height), shorter_side))


class Thumbnails:
    """Thumbnails that are kept in a folder, by the content of the picture.

    A picture that moves keeps its thumbnail, one that changes gets another. Where ``folder`` is
    ``None`` or cannot be written (an index on read-only media) they are made anew each time.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(
        self,
        path: bytes | str | Path,
        size: int = SIZE,
        *,
        box: Box | None = None,
        at: float | None = None,
    ) -> bytes:
        """As :func:`thumbnail`, from the folder if it is there."""
        file = read(path)
        if self._folder is None:
            return thumbnail(file, size, box=box, at=at)
        kept = self._folder / _name(content_hash(file), size, box, at)
        if (small := _whole(kept)) is not None:
            return small
        small = thumbnail(file, size, box=box, at=at)
        with suppress(OSError):
            _write(kept, small)
        return small

    def of(self, image: IndexedImage, size: int = SIZE, *, at: float | None = None) -> bytes:
        """As :meth:`get`, of a picture of the index: while its file is as it was indexed, one whose
        thumbnail is kept is not read."""
        if self._folder is not None:
            with suppress(OSError):
                if status(image.path) == (image.size, image.mtime_ns):
                    small = self.kept(image, size, at=at)
                    if small is not None:
                        return small
        return self.get(image.path, size, at=at)

    def kept(
        self, image: IndexedImage, size: int = SIZE, *, at: float | None = None
    ) -> bytes | None:
        """The thumbnail that was kept of a picture as it was indexed, be its file there or not;
        None where nobody looked at it before."""
        if self._folder is None:
            return None
        return _whole(self._folder / _name(image.hash, size, None, at))


def _whole(kept: Path) -> bytes | None:
    """The JPEG that is kept there. A crash of the system may leave a file without its content."""
    with suppress(OSError):
        small = kept.read_bytes()
        if small.startswith(b"\xff\xd8") and small.endswith(b"\xff\xd9"):
            return small
    return None


def _name(content: str, size: int, box: Box | None, at: float | None) -> Path:
    region = "" if box is None else "-" + "_".join(f"{side:g}" for side in box)
    time = "" if at is None else f"-at{at:.3f}"
    return Path(content[:2]) / f"{content}-{size}{region}{time}.jpg"


def _write(path: Path, data: bytes) -> None:
    """Write beside and rename, so that other readers see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
