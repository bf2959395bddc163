"""Picture files for tests: sound ones in every format and colour, and every kind of broken one.

All sound files show the same four quarters, so one check tells whether a file came out upright
and in the right colours::

    red    | green
    -------+-------
    blue   | yellow

``GOOD`` and ``BAD`` name a maker for each kind of file; a maker writes one file to a path.
"""

from __future__ import annotations

import io
import os
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, TiffImagePlugin

RED, GREEN, BLUE, YELLOW = (200, 40, 40), (40, 160, 60), (40, 60, 200), (230, 220, 80)
WHITE = (255, 255, 255)
WIDTH, HEIGHT = 96, 64

Colour = tuple[int, int, int]
Corners = tuple[Colour, Colour, Colour, Colour]
"""Colours of the quarters: top left, top right, bottom left, bottom right."""
QUARTERS: Corners = (RED, GREEN, BLUE, YELLOW)


def luma(colour: Colour) -> int:
    """The grey that Pillow makes of a colour (ITU-R BT.601)."""
    red, green, blue = colour
    return round(0.299 * red + 0.587 * green + 0.114 * blue)


GREYS: Corners = tuple((luma(c),) * 3 for c in QUARTERS)  # type: ignore[assignment]


def quarters(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """The test picture, RGB."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = RED
    pixels[: height // 2, width // 2 :] = GREEN
    pixels[height // 2 :, : width // 2] = BLUE
    pixels[height // 2 :, width // 2 :] = YELLOW
    return Image.fromarray(pixels)


def corners(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The mean colours of the middles of the four quarters, shape (4, 3)."""
    height, width, _ = pixels.shape
    found = []
    for top in (height // 8, height // 2 + height // 8):
        for left in (width // 8, width // 2 + width // 8):
            part = pixels[top : top + height // 4 + 1, left : left + width // 4 + 1]
            found.append(part.reshape(-1, 3).mean(axis=0).round())
    return np.asarray(found, np.int64)


def photograph(name: Literal["china", "flower"] = "china") -> Image.Image:
    """A real photograph, 640 x 427, that comes with scikit-learn."""
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image(f"{name}.jpg"))


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    """The bytes of a picture file."""
    if format == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


# Sound files


@dataclass(frozen=True)
class Good:
    """A sound file: what it is called, how it is made, what it must look like."""

    name: str
    make: Callable[[Path], object]
    format: str
    shows: Corners = QUARTERS
    tolerance: int = 3
    """Levels of 255 that a quarter's colour may be off (lossy formats, rounding)."""


def _saved(
    name: str,
    format: str,
    image: Callable[[], Image.Image] = quarters,
    *,
    shows: Corners = QUARTERS,
    tolerance: int = 3,
    **options: Any,
) -> Good:
    def make(path: Path) -> None:
        path.write_bytes(encoded(image(), format, **options))

    return Good(name, make, format, shows, tolerance)


def deep_grey() -> Image.Image:
    """The quarters in 16-bit greyscale, full range."""
    return Image.fromarray(np.asarray(quarters().convert("L"), np.uint16) * 257)


def _deep_grey_big_endian() -> Image.Image:
    return Image.fromarray(np.asarray(deep_grey()).astype(">u2"))


def with_alpha(mode: Literal["RGBA", "LA"] = "RGBA") -> Image.Image:
    """The quarters, the top left one fully transparent."""
    image = quarters().convert(mode)
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[: HEIGHT // 2, : WIDTH // 2] = 0
    image.putalpha(Image.fromarray(alpha))
    return image


def _palette() -> Image.Image:
    return quarters().quantize(8)


def _one_bit() -> Image.Image:
    return Image.fromarray(np.asarray(quarters().convert("L")) > 100)


def _32_bit() -> Image.Image:
    return Image.fromarray(np.asarray(quarters().convert("L"), np.int32) * 257)


def _float() -> Image.Image:
    return Image.fromarray(np.asarray(quarters().convert("L"), np.float32) / 255)


def _writer(data: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data())


def _frames() -> dict[str, Any]:
    return {"save_all": True, "append_images": [Image.new("RGB", (WIDTH, HEIGHT), "black")]}


def png(header: bytes, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG from the 13 bytes of its header, its raw rows and chunks to go before them."""
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def deep_rgb_png() -> bytes:
    """The quarters as a PNG of 16 bits a channel, which Pillow does not write."""
    deep = (np.asarray(quarters(), np.uint16) * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    return png(struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0), rows)


def tiff(width: int, height: int, bits: tuple[int, ...], photometric: int, data: bytes) -> bytes:
    """An uncompressed little-endian TIFF, for the kinds that Pillow does not write.

    ``bits`` are those of each sample of a pixel; ``photometric`` is 0 (white is zero), 1 (black
    is zero) or 2 (RGB).
    """
    entries = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, len(bits), 200 if len(bits) > 2 else bits[0]),  # three do not fit, see below
        (259, 3, 1, 1),  # no compression
        (262, 3, 1, photometric),
        (273, 4, 1, 256),  # the rows start at byte 256
        (277, 3, 1, len(bits)),
        (278, 3, 1, height),
        (279, 4, 1, len(data)),
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    head += b"".join(struct.pack("<HHII", *entry) for entry in entries) + b"\0\0\0\0"
    return (head.ljust(200, b"\0") + struct.pack(f"<{len(bits)}H", *bits)).ljust(256, b"\0") + data


def deep_rgb_tiff() -> bytes:
    """The quarters as a TIFF of 16 bits a channel."""
    deep = (np.asarray(quarters(), np.uint16) * 257).astype("<u2")
    return tiff(WIDTH, HEIGHT, (16, 16, 16), 2, deep.tobytes())


def inverted_grey_tiff() -> bytes:
    """The quarters as a 16-bit TIFF that counts from white, as scanners write."""
    grey = np.asarray(deep_grey())
    return tiff(WIDTH, HEIGHT, (16,), 0, (65535 - grey).astype("<u2").tobytes())


def twelve_bit_tiff() -> bytes:
    """The quarters as a 12-bit TIFF, two pixels packed in three bytes."""
    grey = np.asarray(deep_grey(), np.uint32).reshape(-1, 2) >> 4
    pairs = (grey[:, 0] << 12) | grey[:, 1]
    packed = np.stack([pairs >> 16, pairs >> 8 & 255, pairs & 255], axis=1).astype(np.uint8)
    return tiff(WIDTH, HEIGHT, (12,), 1, packed.tobytes())


def oriented(orientation: int, format: str = "JPEG") -> bytes:
    """The quarters, stored turned as EXIF ``orientation`` says; upright they are the quarters."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = quarters()
    if orientation in undo:
        image = image.transpose(undo[orientation])
    if format == "TIFF":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[274] = orientation
        return encoded(image, format, tiffinfo=tags)
    exif = Image.Exif()
    exif[274] = orientation
    # As bytes: pillow-heif overlooks an Exif object when it notes how to turn the picture.
    return encoded(image, format, exif=exif.tobytes(), quality=95)


# ICC profiles, written out by hand (ICC.1:2001-04), as no library makes odd ones


def icc_profile(device: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC version 2 profile of class ``device`` from its tags' contents."""
    offset, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    size = offset + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"test", 0x02100000, device, space, connection)
    head += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp").ljust(68 - len(head), b"\0")
    head += struct.pack(">3i", 63190, 65536, 54061)  # the D50 illuminant
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (x, y, z)))


def _description(text: bytes) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" * 79


def swapped_rgb_profile() -> bytes:
    """sRGB with red and green exchanged, under the name of sRGB: an applied profile shows."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256))
    return icc_profile(
        b"mntr",
        b"RGB ",
        b"XYZ ",
        {
            b"desc": _description(b"sRGB IEC61966-2.1"),
            b"wtpt": _xyz(0.9642, 1.0, 0.8249),
            b"rXYZ": _xyz(0.3851, 0.7169, 0.0971),
            b"gXYZ": _xyz(0.4361, 0.2225, 0.0139),
            b"bXYZ": _xyz(0.1431, 0.0606, 0.7139),
            b"rTRC": curve,
            b"gTRC": curve,
            b"bTRC": curve,
        },
    )


def inky_cmyk_profile() -> bytes:
    """A CMYK profile in which every ink is grey: colours vanish where it is applied.

    Each of the four inks takes a quarter of the lightness, so the converted picture has
    L* = 100 - 25 (C + M + Y + K).
    """
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    ramp = bytes(range(256))
    grid = b"".join(
        bytes((round(255 * (1 - bin(corner).count("1") / 4)), 128, 128)) for corner in range(16)
    )
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + ramp * 4 + grid + ramp * 3
    return icc_profile(
        b"prtr",
        b"CMYK",
        b"Lab ",
        {b"desc": _description(b"inky"), b"wtpt": _xyz(0.9642, 1.0, 0.8249), b"A2B0": table},
    )


def srgb_profile() -> bytes:
    """The profile that most photographs carry."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _black_and_white(threshold: int = 100) -> Corners:
    return tuple(  # type: ignore[return-value]
        WHITE if luma(colour) > threshold else (0, 0, 0) for colour in QUARTERS
    )


_HOLED: Corners = (WHITE, GREEN, BLUE, YELLOW)
_HOLED_GREY: Corners = (WHITE, *GREYS[1:])
_EXCHANGED: Corners = ((40, 200, 40), (160, 40, 60), (60, 40, 200), (220, 230, 80))

GOOD: tuple[Good, ...] = (
    _saved("plain.jpg", "JPEG", quality=95),
    _saved("progressive.jpg", "JPEG", quality=95, progressive=True),
    _saved("grey.jpg", "JPEG", lambda: quarters().convert("L"), shows=GREYS, quality=95),
    _saved("cmyk.jpg", "JPEG", lambda: quarters().convert("CMYK"), tolerance=5, quality=95),
    _saved("srgb.jpg", "JPEG", quality=95, icc_profile=srgb_profile()),
    _saved(
        "swapped.jpg",
        "JPEG",
        shows=_EXCHANGED,
        tolerance=8,
        quality=95,
        icc_profile=swapped_rgb_profile(),
    ),
    _saved("broken profile.jpg", "JPEG", quality=95, icc_profile=b"no profile at all"),
    _saved("profile of another space.jpg", "JPEG", quality=95, icc_profile=inky_cmyk_profile()),
    _saved("two views.mpo", "MPO", quality=95, **_frames()),
    _saved("plain.png", "PNG"),
    _saved("a png named.jpg", "PNG"),
    _saved("alpha.png", "PNG", with_alpha, shows=_HOLED),
    _saved("grey alpha.png", "PNG", lambda: with_alpha("LA"), shows=_HOLED_GREY),
    _saved("palette.png", "PNG", _palette),
    _saved("1 bit.png", "PNG", _one_bit, shows=_black_and_white()),
    _saved("16 bit grey.png", "PNG", deep_grey, shows=GREYS),
    Good("16 bit colour.png", _writer(deep_rgb_png), "PNG"),
    _saved("animated.png", "PNG", **_frames()),
    _saved("plain.gif", "GIF"),
    _saved("animated.gif", "GIF", **_frames()),
    _saved("see-through.gif", "GIF", with_alpha, shows=_HOLED),
    _saved("plain.bmp", "BMP"),
    _saved("palette.bmp", "BMP", _palette),
    _saved("plain.webp", "WEBP", tolerance=6, quality=95),
    _saved("lossless alpha.webp", "WEBP", with_alpha, shows=_HOLED, lossless=True),
    _saved("animated.webp", "WEBP", tolerance=6, quality=95, **_frames()),
    _saved("plain.tif", "TIFF"),
    _saved("lzw.tiff", "TIFF", compression="tiff_lzw"),
    _saved("jpeg.tif", "TIFF", compression="jpeg", quality=95),
    _saved("fax.tif", "TIFF", _one_bit, shows=_black_and_white(), compression="group4"),
    _saved("pages.tif", "TIFF", **_frames()),
    _saved("cmyk.tif", "TIFF", lambda: quarters().convert("CMYK")),
    _saved("lab.tif", "TIFF", lambda: quarters().convert("LAB"), tolerance=9),
    _saved("16 bit grey.tif", "TIFF", deep_grey, shows=GREYS),
    _saved("16 bit grey, big end first.tif", "TIFF", _deep_grey_big_endian, shows=GREYS),
    _saved("32 bit.tif", "TIFF", _32_bit, shows=GREYS),
    _saved("float.tif", "TIFF", _float, shows=GREYS),
    Good("16 bit white is zero.tif", _writer(inverted_grey_tiff), "TIFF", GREYS),
    Good("12 bit.tif", _writer(twelve_bit_tiff), "TIFF", GREYS),
    Good("16 bit colour.tif", _writer(deep_rgb_tiff), "TIFF"),
    _saved("plain.avif", "AVIF", tolerance=6, quality=95),
    _saved("plain.heic", "HEIF", tolerance=6, quality=95),
    _saved("alpha.heif", "HEIF", with_alpha, shows=_HOLED, tolerance=8, quality=95),
)


# Broken files


@contextmanager
def folder_of_nobody() -> Iterator[Path]:
    """An empty folder, and a process that may not read everything: root would, in containers."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if root:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)


@dataclass(frozen=True)
class Bad:
    """A file that cannot be used: the stage at which that shows, and words of the reason."""

    name: str
    make: Callable[[Path], object]
    stage: Literal["read", "decode"]
    says: str


def _written(name: str, data: Callable[[], bytes], says: str, stage: Any = "decode") -> Bad:
    return Bad(name, _writer(data), stage, says)


def cut(data: bytes, share: float = 0.6) -> bytes:
    """The first part of a file, as a broken download leaves it."""
    return data[: int(len(data) * share)]


def bomb(width: int = 50_000, height: int = 50_000) -> bytes:
    """A PNG of a few bytes that claims, and would fill, ``width * height`` pixels."""
    return png(struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"\0" * 1000)


def huge_text() -> bytes:
    """A PNG with a text chunk that unpacks to 64 MB."""
    packed = b"Comment\0\0" + zlib.compress(b"a" * 2**26)
    rows = b"".join(b"\0" + bytes(3 * 8) for _ in range(8))
    return png(struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0), rows, (b"zTXt", packed))


def _truncated(extension: str, format: str, says: str = "cut short", **options: Any) -> Bad:
    return _written(
        f"truncated.{extension}", lambda: cut(encoded(photograph(), format, **options)), says
    )


BAD: tuple[Bad, ...] = (
    _written("empty.jpg", lambda: b"", "empty", "read"),
    Bad("folder.jpg", lambda path: path.mkdir(), "read", "a folder"),
    Bad("missing.jpg", lambda path: None, "read", "not there"),
    _written("text.jpg", lambda: b"Dear diary,\nno picture today.\n", "looks like text"),
    _written("zeros.jpg", lambda: bytes(5000), "zeros"),
    _written("noise.png", lambda: np.random.default_rng(0).bytes(5000), "none of the formats"),
    _written(
        "film.heic", lambda: b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(99), "MP4 is damaged"
    ),
    _written("header only.jpg", lambda: b"\xff\xd8\xff\xe0", "cut short|damaged"),
    _written("header only.png", lambda: b"\x89PNG\r\n\x1a\n", "cut short|damaged"),
    _truncated("jpg", "JPEG"),
    _truncated("png", "PNG"),
    _truncated("gif", "GIF"),
    _truncated("bmp", "BMP"),
    _truncated("tif", "TIFF"),
    _truncated("lzw.tif", "TIFF", compression="tiff_lzw"),
    _truncated("webp", "WEBP"),
    _truncated("avif", "AVIF", "damaged"),
    _truncated("heic", "HEIF"),
    _written("bomb.png", bomb, "2,500,000,000 pixels"),
    _written("huge text.png", huge_text, "damaged"),
)
