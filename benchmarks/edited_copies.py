"""Edited copies of photos, made here: what people do to a picture before they save it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance, ImageOps

Picture = Image.Image


def cropped(photo: Picture) -> Picture:
    """Three quarters of each side, off the middle."""
    width, height = photo.size
    left, top = round(0.2 * width), round(0.05 * height)
    return photo.crop((left, top, left + round(0.75 * width), top + round(0.75 * height)))


def halved(photo: Picture) -> Picture:
    return photo.resize((photo.width // 2, photo.height // 2), Image.Resampling.LANCZOS)


def warmed(photo: Picture) -> Picture:
    red, green, blue = photo.split()
    warm = Image.merge("RGB", (red.point(lambda v: v * 1.15), green, blue.point(lambda v: v * 0.8)))
    return ImageEnhance.Contrast(warm).enhance(1.2)


def captioned(photo: Picture) -> Picture:
    """A white border, and words below the picture."""
    framed = ImageOps.expand(photo, (6, 6, 6, 26), "white")
    ImageDraw.Draw(framed).text((10, framed.height - 20), "holidays 2023, day one", "black")
    return framed


def stickered(photo: Picture) -> Picture:
    """A disc over a corner, about a tenth of the picture."""
    edited, size = photo.copy(), round(0.36 * min(photo.size))
    place = (photo.width - size - 4, photo.height - size - 4, photo.width - 4, photo.height - 4)
    ImageDraw.Draw(edited).ellipse(place, fill=(250, 210, 40))
    return edited


def screenshot(photo: Picture) -> Picture:
    """As a telephone shows it: bars above and below."""
    screen = ImageOps.expand(photo, (0, photo.height // 5, 0, photo.height // 4), (18, 18, 20))
    ImageDraw.Draw(screen).text((6, 4), "12:34", "white")
    return screen


def turned(photo: Picture) -> Picture:
    return photo.rotate(4, Image.Resampling.BICUBIC)


EDITS: dict[str, tuple[Callable[[Picture], Picture], int]] = {
    "cropped": (cropped, 90),
    "halved": (halved, 90),
    "jpeg30": (lambda photo: photo, 30),
    "mirrored": (ImageOps.mirror, 85),
    "warmed": (warmed, 90),
    "captioned": (captioned, 90),
    "stickered": (stickered, 90),
    "screenshot": (screenshot, 90),
    "turned": (turned, 90),
    "brightened": (lambda photo: ImageEnhance.Brightness(photo).enhance(1.3), 95),
}
"""What is done, and the quality of the JPEG that is written then."""


def write_edits(original: Path, folder: Path) -> dict[str, Path]:
    """Write every edit of ``original`` below ``folder``: their paths by name."""
    written = {}
    with Image.open(original) as opened:
        photo = opened.convert("RGB")
    for name, (edit, quality) in EDITS.items():
        path = folder / f"{original.stem}--{name}.jpg"
        edit(photo).save(path, quality=quality)
        written[name] = path
    return written
