"""What happens to photos: something stands in front, light fails or glares, noise, blur, JPEG.

Each corruption is a function of uint8 pixels (H, W, 3), a strength and a seed to new pixels of the
same shape. Strength 0 leaves the picture as it is, and more of it harms more; the same seed gives
the same picture, and with it a stronger corruption lies where the weaker one lay (the larger
occlusion covers the smaller). Strengths do not depend on the size of the picture.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from embedsearch.encoders.base import Pixels

_GAMMA = 2.2
"""Of encoded pictures: k times the light is k ** (1 / 2.2) times the value."""
_ASPECT = (0.5, 2.0)
"""Of what stands in front, before it is made to fit."""
_SOFT = 0.05
"""Width of a shadow's edge, in lengths of the picture's diagonal."""
_BEST_QUALITY = 100


@dataclass(frozen=True, slots=True)
class Corruption:
    """One way to spoil a picture, and how its strength is told and stepped through."""

    name: str
    means: str
    """What its numbers count, for people."""
    function: Callable[[Pixels, float, int], Pixels]
    most: float
    """The greatest strength."""
    levels: tuple[float, ...]
    """Rising strengths at which it is measured, from what is hardly seen to what hides nearly
    everything."""
    unit: Literal["%", "stops", "quality"]

    def __call__(self, pixels: Pixels, strength: float, seed: int) -> Pixels:
        """Raises ValueError for pixels or a strength that cannot be."""
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ValueError(f"no uint8 picture (H, W, 3): {pixels.dtype} {pixels.shape}")
        if not 0 <= strength <= self.most:
            raise ValueError(f"{self.name} goes from 0 to {self.most:g}, not {strength:g}")
        return self.function(pixels, strength, seed) if strength else pixels.copy()

    def told(self, strength: float) -> str:
        """A strength as people say it: ``30 %``, ``2 stops``, ``quality 10``."""
        if self.unit == "%":
            return f"{100 * strength:g} %"
        if self.unit == "quality":
            return f"quality {_quality(strength)}"
        return f"{strength:g} stop" + "s" * (strength != 1)


def occlusion(pixels: Pixels, share: float, seed: int) -> Pixels:
    """Cover ``share`` of the area with one rectangle of one colour, anywhere in the picture.

    Colour, aspect (1:2 to 2:1) and place are drawn (DeVries and Taylor, "Improved Regularization
    of Convolutional Neural Networks with Cutout", 2017, and Zhong et al., "Random Erasing Data
    Augmentation", 2017, cover squares and rectangles so).
    """
    rng = np.random.default_rng(seed)
    height, width = pixels.shape[:2]
    colour = rng.integers(0, 256, 3, dtype=np.uint8)
    aspect = math.exp(rng.uniform(*np.log(_ASPECT)))
    across, down = rng.random(2)
    # As shares of width and height; what is too long for the picture goes to the other side.
    wide = min(1.0, max(share, math.sqrt(share * aspect)))
    columns = max(1, round(wide * width))
    rows = min(height, max(1, round(share * height * width / columns)))
    left, top = round(across * (width - columns)), round(down * (height - rows))
    covered = pixels.copy()
    covered[top : top + rows, left : left + columns] = colour
    return covered


def darkness(pixels: Pixels, stops: float, seed: int = 0) -> Pixels:
    """Expose ``stops`` less: each halves the light. What becomes black stays black."""
    return _exposed(pixels, -stops)


def brightness(pixels: Pixels, stops: float, seed: int = 0) -> Pixels:
    """Expose ``stops`` more: each doubles the light. What becomes white has lost its drawing."""
    return _exposed(pixels, stops)


def shadow(pixels: Pixels, share: float, seed: int) -> Pixels:
    """Take ``share`` of the light from one side of a line through the picture, with a soft edge.

    Its direction is drawn, and its place so that it leaves a part of the picture in the light.
    """
    rng = np.random.default_rng(seed)
    height, width = pixels.shape[:2]
    angle = rng.uniform(0, 2 * math.pi)
    x, y = rng.uniform(0.25, 0.75, 2) * (width, height)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    beyond = (columns - x) * math.cos(angle) + (rows - y) * math.sin(angle)
    depth = np.clip(beyond / (_SOFT * math.hypot(width, height)) + 0.5, 0, 1)
    light = (1 - share * depth) ** (1 / _GAMMA)
    return _as_pixels(pixels * light[:, :, None])


def noise(pixels: Pixels, deviation: float, seed: int) -> Pixels:
    """Add Gaussian noise to every value: its standard deviation as a share of the full range."""
    drawn = np.random.default_rng(seed).standard_normal(pixels.shape, dtype=np.float32)
    return _as_pixels(pixels + 255 * deviation * drawn)


def blur(pixels: Pixels, radius: float, seed: int = 0) -> Pixels:
    """Gaussian blur; ``radius``, its standard deviation, is a share of the shorter side."""
    sigma = radius * min(pixels.shape[:2])
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.array(image.filter(ImageFilter.GaussianBlur(sigma)))


def jpeg(pixels: Pixels, loss: float, seed: int = 0) -> Pixels:
    """Save as JPEG and read it back: ``loss`` is what the quality lacks of 100, in hundredths."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=_quality(loss))
    return np.array(Image.open(buffer))


_ALL = (
    Corruption(
        "occlusion",
        "% of the area covered",
        occlusion,
        0.95,
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
        "%",
    ),
    Corruption("darkness", "stops of light lost", darkness, 8, (1, 2, 3, 4, 5), "stops"),
    Corruption(
        "brightness", "stops of light too much", brightness, 6, (0.5, 1, 1.5, 2, 3), "stops"
    ),
    Corruption(
        "shadow",
        "% of light lost on one side",
        shadow,
        1,
        (0.5, 0.75, 0.9, 0.95, 0.98),
        "%",
    ),
    Corruption(
        "noise",
        "deviation, % of full range",
        noise,
        1,
        (0.03, 0.06, 0.1, 0.15, 0.2),
        "%",
    ),
    Corruption(
        "blur",
        "deviation, % of shorter side",
        blur,
        0.25,
        (0.003, 0.006, 0.01, 0.02, 0.03),
        "%",
    ),
    Corruption("jpeg", "quality of the JPEG", jpeg, 0.99, (0.5, 0.7, 0.8, 0.9, 0.95), "quality"),
)
CORRUPTIONS: dict[str, Corruption] = {corruption.name: corruption for corruption in _ALL}
"""All corruptions, by name."""


def corrupt(pixels: Pixels, name: str, strength: float, seed: int) -> Pixels:
    """The picture, uint8 (H, W, 3), after the corruption of that name; a new array.

    Raises ValueError for a name that is none of :data:`CORRUPTIONS`, or a strength out of range.
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"there is no corruption {name!r}; there are {', '.join(CORRUPTIONS)}")
    return CORRUPTIONS[name](pixels, strength, seed)


def _exposed(pixels: Pixels, stops: float) -> Pixels:
    table = _as_pixels(np.arange(256) * 2 ** (stops / _GAMMA))
    exposed: Pixels = table[pixels]
    return exposed


def _as_pixels(values: NDArray[np.floating]) -> Pixels:
    pixels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels


def _quality(loss: float) -> int:
    return max(1, round(_BEST_QUALITY * (1 - loss)))
