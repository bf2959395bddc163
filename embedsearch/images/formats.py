"""Which format a file is in, told by its content and never by its name."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from functools import lru_cache
from typing import IO, Literal

from PIL import Image, ImageFile, _imaging

from embedsearch.errors import PictureError

HEAD = 64
"""Bytes from the start of a file that :func:`sniff` wants."""

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
VIDEOS = ("MP4", "MOV", "MKV", "WebM")

_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # BigTIFF
    (b"MM\0+", "TIFF"),
)
_EBML = b"\x1aE\xdf\xa3"
"""What Matroska begins with; WebM is the kind of it that says so."""
_OLD_QUICKTIME = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip"})
"""First boxes of films from before they named a brand."""
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
_OTHER_BRANDS = {b"M4A ": "sound", b"M4B ": "sound", b"crx ": "a camera's raw picture"}


def sniff(head: bytes) -> str:
    """The format, one of :data:`FORMATS` or :data:`VIDEOS`, of a file that starts with ``head``.

    Raises :class:`~embedsearch.errors.PictureError` saying what the file is instead.
    """
    for start, name in _STARTS:
        if head.startswith(start):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp":
        return _sniff_iso_media(head)
    if head.startswith(_EBML):
        return "WebM" if b"webm" in head else "MKV"
    if head[4:8] in _OLD_QUICKTIME:
        return "MOV"
    raise PictureError("decode", f"it is not a picture: {_looks_like(head)}")


@lru_cache
def opener(name: str) -> Callable[[IO[bytes], str], ImageFile.ImageFile]:
    """Pillow's class (or factory) for one of :data:`FORMATS`.

    ``Image.open`` would try every plugin it has, some of which start other programs, and warn
    or fail by its own limit of pixels, which is global; one plugin is asked directly instead.
    """
    if name == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    else:
        if name == "TIFF":
            _hush_libtiff()
        module = {"WebP": "WebP", "AVIF": "Avif"}.get(name, name.capitalize())
        importlib.import_module(f"PIL.{module}ImagePlugin")
    return Image.OPEN[name.upper()][0]


def cut_short(name: str, head: bytes, size: int) -> bool:
    """Whether a file of ``size`` bytes says in its head that it should be longer.

    Told only of the formats whose decoders do not tell themselves: WebP and classic TIFF.
    """
    if name == "WebP":
        return int.from_bytes(head[4:8], "little") + 8 > size
    if name == "TIFF" and head[2:4] in (b"*\0", b"\0*"):
        order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
        return int.from_bytes(head[4:8], order) >= size  # where the directory of tags begins
    return False


def _hush_libtiff() -> None:
    """Keep libtiff from writing to stderr, in the middle of a progress bar, what it returns too.

    Pillow offers no switch for it. Where the library cannot be reached, its lines stay.
    """
    try:
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (OSError, AttributeError):
        return
    set_handler.restype = ctypes.c_void_p
    set_handler.argtypes = [ctypes.c_void_p]
    set_handler(None)


def _sniff_iso_media(head: bytes) -> str:
    """HEIF, AVIF and MP4 share one container; its first box lists the brands (ISO/IEC 14496-12)."""
    box = head[: int.from_bytes(head[:4], "big")]
    brands = {box[8:12], *(box[at : at + 4] for at in range(16, len(box), 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    if brands & _HEIF_BRANDS:
        return "HEIF"
    if other := _OTHER_BRANDS.get(head[8:12]):
        raise PictureError("decode", f"it is not a picture: it looks like {other}")
    return "MOV" if b"qt  " in brands else "MP4"


def _looks_like(head: bytes) -> str:
    if not head.strip(b"\0"):
        return "it starts with nothing but zeros, as an interrupted copy does"
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as fault:
        text = head[: fault.start].decode("utf-8") if fault.start > len(head) - 4 else ""
    if text and all(letter.isprintable() or letter.isspace() for letter in text):
        return "it looks like text"
    return f"it is in none of the formats {', '.join(FORMATS + VIDEOS)}"
