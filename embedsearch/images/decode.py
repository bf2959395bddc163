"""From a picture file to upright sRGB pixels, no larger than they need be."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from embedsearch.errors import EmbedSearchError, PictureError
from embedsearch.images.colour import averageable, to_srgb
from embedsearch.images.exif import read_exif
from embedsearch.images.files import FileBytes, content_hash, explain, read
from embedsearch.images.formats import HEAD, VIDEOS, cut_short, opener, sniff

__all__ = ["DEFAULT_MAX_PIXELS", "Decoded", "FileBytes", "content_hash", "decode", "read"]

Source = bytes | str | Path | FileBytes | Image.Image | NDArray[Any]

MAX_PIXELS_VARIABLE = "EMBEDSEARCH_MAX_PIXELS"
DEFAULT_MAX_PIXELS = 200_000_000
"""Enough for the largest phone cameras; a bitmap of that size takes 0.8 GB."""
_LARGE_PIXELS = 16_000_000
_large = threading.Lock()
"""Held while a bitmap of more than ``_LARGE_PIXELS`` exists: of n threads one has such a thing."""

_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# Without a handler Python would print Pillow's errors; who sets logging up still gets them.
logging.getLogger("PIL").addHandler(logging.NullHandler())
_PILLOW = r"PIL\."
_SILENT = ("ignore", None, Warning, re.compile(_PILLOW), 0)
"""The filter as the module ``warnings`` keeps it."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded picture."""

    pixels: NDArray[np.uint8]
    """(H, W, 3), upright, sRGB, C-contiguous; smaller than the original where that was large."""
    width: int
    """Of the whole upright picture, pixels."""
    height: int
    format: str | None
    """``"JPEG"``, ``"PNG"`` ... by content; ``None`` for pixels that came from no file."""
    taken_at: str | None = None
    """ISO 8601, with the offset from UTC where the picture gives it."""
    exif: Mapping[str, Any] = field(default_factory=dict)
    """The fields of :class:`~embedsearch.images.exif.Exif`; safe to write as JSON."""


def decode(source: Source, at_least: int) -> Decoded:
    """Decode a picture, reduced as far as its shorter side stays at least ``at_least`` pixels.

    ``source`` is the path of a file, a file from :func:`read`, a Pillow image, or an upright sRGB
    array: uint8 of shape (H, W), (H, W, 3) or (H, W, 4). When the original is larger than
    ``at_least``, the shorter side of the result is less than twice that. Nothing is enlarged. Of
    an animation or a file of several pages the first is taken, of a video the first frame that
    shows something.

    Raises :class:`~embedsearch.errors.PictureError` for whatever cannot be shown.
    """
    if at_least < 1:
        raise ValueError(f"at_least must be 1 or more, not {at_least}")
    _silence_pillow()
    if isinstance(source, np.ndarray):
        return _decode_image(_from_array(source), None, at_least)
    if isinstance(source, Image.Image):
        try:
            # A copy: scaled decoding and turning upright would change the caller's picture.
            return _decode_image(source.copy(), source.format, at_least)
        except EmbedSearchError:
            raise
        except Exception as fault:
            raise _explained(fault, source.format or "picture") from fault
    return _decode_file(source if isinstance(source, FileBytes) else read(source), at_least)


def _decode_file(file: FileBytes, at_least: int) -> Decoded:
    if file.frames is not None:
        return _decode_video(file, at_least)
    with file.open() as stream:
        head = stream.read(HEAD)
        stream.seek(0)
        name = sniff(head)
        if name in VIDEOS:
            return _decode_video(file, at_least)
        try:
            image = opener(name)(stream, "")
            return _decode_image(image, image.format, at_least)
        except EmbedSearchError:
            raise
        except Exception as fault:  # the plugins of Pillow raise nearly every type there is
            if cut_short(name, head, file.size):
                raise _explained(EOFError(), name) from fault
            raise _explained(fault, name) from fault


def _decode_video(file: FileBytes, at_least: int) -> Decoded:
    from embedsearch.images.video import decoded_video

    pixels, about = decoded_video(file, at_least)
    return Decoded(pixels, **about)


def _decode_image(image: Image.Image, name: str | None, at_least: int) -> Decoded:
    """Decode an opened picture, and close it."""
    full_size = image.size
    # Scaled decoding costs nothing but the pixels left out, and is several times faster.
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        image.draft(None, (at_least, at_least))
    with _room_for(image, full_size):
        try:
            drafted = image.size != full_size
            image.load()
            if not drafted:  # some formats know their true size only now
                full_size = image.size
            return _reduced(image, full_size, name, at_least)
        finally:
            # Some plugins' objects refer to themselves; the bitmap would wait for the collector.
            image.close()


def _reduced(
    image: Image.Image, full_size: tuple[int, int], name: str | None, at_least: int
) -> Decoded:
    width, height = full_size
    reduced = averageable(image)
    factor = min(reduced.size) // at_least
    if factor > 1:
        reduced = reduced.reduce(factor)
    upright = to_srgb(reduced)
    exif = read_exif(image)
    if exif.orientation != 1 and image.format != "TIFF":  # Pillow turns those as it loads
        upright = upright.transpose(_TO_UPRIGHT[exif.orientation])
        if exif.orientation >= 5:
            width, height = height, width
    # np.array, not np.asarray: torch takes only writable arrays without complaint.
    return Decoded(np.array(upright), width, height, name, exif.taken_at, exif.fields)


def _room_for(image: Image.Image, full_size: tuple[int, int]) -> AbstractContextManager[Any]:
    """Refuse a picture of too many pixels, and let large ones pass one at a time.

    What counts is the pixels that will be held in memory: those left by scaled decoding, unless
    the JPEG is progressive, whose coefficients are all held.
    """
    scaled = isinstance(image, JpegImagePlugin.JpegImageFile) and "progressive" not in image.info
    held = math.prod(image.size if scaled else full_size)
    most = max_pixels()
    if held > most:
        raise PictureError(
            "decode",
            f"it would take {held:,} pixels in memory, more than the limit of {most:,}; "
            f"set {MAX_PIXELS_VARIABLE} to a larger number and index again with --force",
        )
    return _alone() if held > _LARGE_PIXELS else nullcontext()


@contextmanager
def _alone() -> Iterator[None]:
    with _large:
        try:
            yield
        finally:
            _return_freed_memory()


def _return_freed_memory() -> None:
    """Hand freed bitmaps back to the system where the C library is glibc.

    It would keep up to 64 MB for each thread that ever decoded a large picture.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def max_pixels() -> int:
    """The most pixels of one picture that may be held in memory."""
    said = os.environ.get(MAX_PIXELS_VARIABLE)
    if not said:
        return DEFAULT_MAX_PIXELS
    try:
        most = int(said)
    except ValueError:
        most = 0
    if most < 1:
        raise EmbedSearchError(
            f"{MAX_PIXELS_VARIABLE} is {said!r}; it must be a whole number of pixels, "
            f"for example {DEFAULT_MAX_PIXELS}"
        )
    return most


def _from_array(array: NDArray[Any]) -> Image.Image:
    shape = array.shape
    if array.dtype != np.uint8 or 0 in shape or shape[2:] not in ((), (3,), (4,)) or len(shape) < 2:
        raise PictureError(
            "decode",
            f"an array of shape {shape} and type {array.dtype} is not a picture; "
            "give uint8 of shape (height, width), (height, width, 3) or (height, width, 4)",
        )
    return Image.fromarray(array)


def _explained(fault: Exception, name: str) -> PictureError:
    if isinstance(fault, OSError) and fault.errno is not None:
        return PictureError("read", explain(fault))
    if isinstance(fault, MemoryError):
        return PictureError("decode", f"there is not enough memory to decode this {name}")
    if isinstance(fault, Image.DecompressionBombError):
        said = str(fault).split(",", 1)[0]
        return PictureError("decode", f"the {name} has more pixels than Pillow takes: {said}")
    said = str(fault).split("\n", 1)[0].strip() or type(fault).__name__
    if isinstance(fault, EOFError) or re.search("truncated|unexpected end", said, re.IGNORECASE):
        return PictureError("decode", f"the {name} is cut short: part of the file is missing")
    said = said.removesuffix(" when reading image file").replace(
        "decoder error -2", "its data cannot be decompressed"
    )
    return PictureError("decode", f"the {name} is damaged ({said})")


def _silence_pillow() -> None:
    """Keep Pillow's warnings off stderr: what they tell is mended, or reported, here.

    ``warnings.catch_warnings`` is not for threads; so the filter stays, for Pillow alone.
    """
    if not warnings.filters or warnings.filters[0] != _SILENT:
        warnings.filterwarnings("ignore", module=_PILLOW)
