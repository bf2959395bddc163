"""From pixels of any size to the square that an image tower takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from embedsearch.encoders.base import Pixels
from embedsearch.errors import EncoderError

if TYPE_CHECKING:
    from PIL.Image import Image, Resampling

ResizeWay = Literal["squash", "crop", "pad"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]

RESIZE_WAYS: tuple[str, ...] = get_args(ResizeWay)
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)

_BORDER = (124, 116, 104)
"""What ``pad`` surrounds a picture with: ImageNet's mean colour, which networks ignore best."""


def to_square(
    pixels: Pixels,
    size: int,
    resize: ResizeWay = "squash",
    interpolation: Interpolation = "bicubic",
) -> Pixels:
    """Resize one picture to ``size`` x ``size``, with antialiasing.

    ``pixels`` is uint8 (H, W, 3) of any height and width of at least 1; the result is uint8
    (size, size, 3), C-contiguous. ``squash`` gives up the aspect, ``crop`` keeps the middle square,
    ``pad`` adds borders. A picture that has the size already comes back as it is.

    Raises :class:`~embedsearch.errors.EncoderError` for anything but such an array.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise EncoderError(
            f"a picture must be a uint8 array of shape (height, width, 3), "
            f"not {pixels.dtype} {pixels.shape}"
        )
    height, width = pixels.shape[:2]
    if height == width == size:
        return np.ascontiguousarray(pixels)
    from PIL import Image  # a text query does without it

    image = Image.fromarray(np.ascontiguousarray(pixels))
    if resize == "pad":
        return _padded(image, size, interpolation)
    box = (0.0, 0.0, float(width), float(height))
    if resize == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), _filter(interpolation), box=box))


def _filter(interpolation: Interpolation) -> Resampling:
    from PIL.Image import Resampling

    return Resampling[interpolation.upper()]


def _padded(image: Image, size: int, interpolation: Interpolation) -> Pixels:
    """The whole picture, as large as it fits, in the middle of a square of ``_BORDER``."""
    from PIL import Image as pillow

    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    square = pillow.new("RGB", (size, size), _BORDER)
    resized = image.resize((width, height), _filter(interpolation))
    square.paste(resized, ((size - width) // 2, (size - height) // 2))
    return np.asarray(square)
