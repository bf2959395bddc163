"""From whatever colours a file holds to 8-bit sRGB over white."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from PIL import ImageCms

_AVERAGED = frozenset({"L", "LA", "RGB", "RGBA", "CMYK"})
"""Modes of 8 bits a channel in which neighbouring pixels can be averaged."""
_PROFILE_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
"""Modes, and what an ICC profile for them calls its colour space."""
_SRGB_TOLERANCE = 2
"""Levels of 255. A profile that moves no colour further than this is taken as sRGB itself."""


def averageable(image: Image.Image) -> Image.Image:
    """Bring a loaded picture to L, LA, RGB, RGBA or CMYK, 8 bits a channel.

    Palettes are looked up, 1-bit pixels become 0 and 255, deep greyscale is scaled (not clipped)
    to 8 bits, a colour that stands for "transparent" becomes an alpha channel.
    """
    if image.mode in _AVERAGED and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _from_deep_grey(image)
    if image.has_transparency_data:
        return image.convert("LA" if image.mode in ("1", "L", "La") else "RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def to_srgb(image: Image.Image) -> Image.Image:
    """Bring a picture in one of the modes of :func:`averageable` to RGB.

    Its ICC profile, when it has a sound one, is applied; without one greys and RGB are taken as
    sRGB and CMYK is converted by complement. Transparent parts show white.
    """
    profile = image.info.get("icc_profile")
    if image.mode in ("LA", "RGBA"):
        alpha = image.getchannel("A")
        opaque = _converted(image.convert(image.mode[:-1]), profile)
        over = Image.new("RGB", image.size, (255, 255, 255))
        over.paste(opaque, mask=alpha)
        return over
    return _converted(image, profile)


def _converted(image: Image.Image, profile: Any) -> Image.Image:
    if isinstance(profile, bytes) and profile:
        transform = _to_srgb_transform(profile, image.mode)
        if transform is not None:
            return transform.apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=32)
def _to_srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The way from a profile to sRGB; ``None`` where it is broken, or no way at all.

    Most profiles in photographs are some edition of sRGB. Their names cannot be trusted (linear
    variants carry it too), so the transform is tried on a grid of colours.
    """
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if source.profile.xcolor_space.strip() != _PROFILE_SPACES[mode]:
            return None  # of another picture, or of the Lab picture that this one was made from
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode == "CMYK":
            return transform
        probe = _probe(mode)
        moved = np.asarray(transform.apply(probe), np.int16)
        stayed = np.asarray(probe.convert("RGB"), np.int16)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return None if np.abs(moved - stayed).max() <= _SRGB_TOLERANCE else transform


def _probe(mode: str) -> Image.Image:
    """A picture with a grid of colours over the whole of ``mode``, L or RGB."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    return Image.fromarray(grid.reshape(1, -1, 3))


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Greyscale of more than 8 bits as L, or as LA where one value stands for "transparent"."""
    values = np.asarray(image)
    grey = Image.fromarray(_to_8_bits(values, _bits(image)))
    if _white_is_zero(image):
        grey = Image.fromarray(255 - np.asarray(grey))
    hole = image.info.get("transparency")
    if isinstance(hole, int):
        grey = Image.merge("LA", (grey, Image.fromarray((values != hole).astype(np.uint8) * 255)))
    if "icc_profile" in image.info:
        grey.info["icc_profile"] = image.info["icc_profile"]
    return grey


def _to_8_bits(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Scale greyscale values of shape (H, W) to 0..255.

    16-bit unsigned values are scaled by their full range. 32-bit integers and floats have no
    agreed range: 0..1 (floats), 0..255 and 0..65535 are recognised by the values; all else is
    stretched from its smallest to its largest. NaN is black, infinities are the ends.
    """
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return (values >> (bits - 8)).astype(np.uint8)
    real = np.nan_to_num(values.astype(np.float32), nan=0.0)
    finite = real[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low >= 0:
        ranges = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0)
        low, high = 0.0, next((full for full in ranges if high <= full), high)
    scaled = (np.clip(real, low, high) - low) * (255.0 / max(high - low, 1e-30))
    levels: NDArray[np.uint8] = np.rint(scaled).astype(np.uint8)
    return levels


def _bits(image: Image.Image) -> int:
    """Bits that a 16-bit picture really uses: TIFF stores 12-bit scans without scaling them."""
    tags = getattr(image, "tag_v2", None)
    declared = tags.get(258) if tags is not None else None  # BitsPerSample
    return 12 if declared == 12 or declared == (12,) else 16


def _white_is_zero(image: Image.Image) -> bool:
    """Whether a deep TIFF counts from white: Pillow turns only its 8-bit kin round."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(262) == 0  # PhotometricInterpretation
