"""What can happen to a training picture, one step at a time.

A step is a function of uint8 pixels (H, W, 3), a strength and a source of chance. At strength 1 it
does what its description says, at 2 twice as much (as far as that is possible), at 0 nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from embedsearch.encoders.base import Pixels
from embedsearch.training.augment.corruptions import CORRUPTIONS

Rng = np.random.Generator

_CROP_TRIES = 20
_LEAST_AREA = 0.08
"""A crop keeps so much of the picture whatever the strength, as in Szegedy et al. (2014)."""
_MOST_HUE = 0.5


@dataclass(frozen=True, slots=True)
class Step:
    """One kind of change."""

    name: str
    does: str
    """What it does at strength 1, for people."""
    chance: float
    """How often it happens where a policy does not say."""
    change: Callable[[Pixels, float, Rng], Pixels]
    whole: bool = False
    """Done to the whole picture as it was decoded; the others to the square that is encoded."""


def crop(pixels: Pixels, strength: float, rng: Rng) -> Pixels:
    """A random part (Szegedy et al., "Going Deeper with Convolutions", 2014, section 6)."""
    height, width = pixels.shape[:2]
    least = max(_LEAST_AREA, 1 - 0.6 * strength)
    for _ in range(_CROP_TRIES):
        area = rng.uniform(least, 1) * height * width
        aspect = width / height * _factor(4 / 3, strength, rng)
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            left = int(rng.integers(width - across + 1))
            top = int(rng.integers(height - down + 1))
            return pixels[top : top + down, left : left + across]
    return pixels


def flip(pixels: Pixels, strength: float, rng: Rng) -> Pixels:
    return pixels[:, ::-1]


def rotate(pixels: Pixels, strength: float, rng: Rng) -> Pixels:
    most = min(180.0, 15 * strength)
    return _affine(pixels, rng.uniform(-most, most), (0.0, 0.0), 1.0)


def move(pixels: Pixels, strength: float, rng: Rng) -> Pixels:
    most = min(0.4, 0.1 * strength)
    across, down = rng.uniform(-most, most, 2)
    return _affine(pixels, 0.0, (across, down), _factor(1.25, min(strength, 3), rng))


def colour(pixels: Pixels, strength: float, rng: Rng) -> Pixels:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image = F.adjust_brightness(image, _factor(1.4, strength, rng))
    image = F.adjust_contrast(image, _factor(1.4, strength, rng))
    image = F.adjust_saturation(image, _factor(1.6, strength, rng))
    turned = min(_MOST_HUE, 0.04 * strength)
    return np.array(F.adjust_hue(image, rng.uniform(-turned, turned)))


def grey(pixels: Pixels, strength: float, rng: Rng) -> Pixels:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.array(F.rgb_to_grayscale(image, num_output_channels=3))


def light(pixels: Pixels, strength: float, rng: Rng) -> Pixels:
    """Too little light twice as far as too much: what is washed out is gone sooner."""
    stops = strength * rng.uniform(-2, 1)
    return _corrupted("darkness" if stops < 0 else "brightness", pixels, abs(stops), rng)


def _corruption(name: str, low: float, high: float) -> Callable[[Pixels, float, Rng], Pixels]:
    def change(pixels: Pixels, strength: float, rng: Rng) -> Pixels:
        return _corrupted(name, pixels, strength * rng.uniform(low, high), rng)

    return change


_ALL = (
    Step("crop", "a part of 40-100 % of the area, sides changed by up to 4:3", 1.0, crop, True),
    Step("flip", "mirrored", 0.5, flip),
    Step("rotate", "turned by up to 15 degrees", 1.0, rotate),
    Step("move", "shifted by up to 10 % of a side, scaled by up to 1.25", 1.0, move),
    Step(
        "occlusion",
        "up to 40 % of the area covered by a rectangle of one colour",
        1.0,
        _corruption("occlusion", 0.02, 0.4),
    ),
    Step("light", "up to 2 stops too little light or 1 stop too much", 1.0, light),
    Step(
        "shadow",
        "30-80 % of the light lost on one side of a line",
        1.0,
        _corruption("shadow", 0.3, 0.8),
    ),
    Step(
        "colour",
        "brightness and contrast by up to 1.4, saturation by up to 1.6, hue by up to 14 degrees",
        1.0,
        colour,
    ),
    Step("grey", "without colour", 0.1, grey),
    Step("blur", "blurred by up to 1.5 % of a side", 1.0, _corruption("blur", 0.0, 0.015)),
    Step(
        "noise", "noise of up to 10 % of the range of values", 1.0, _corruption("noise", 0.0, 0.1)
    ),
    Step("jpeg", "saved as JPEG of quality 80-20", 1.0, _corruption("jpeg", 0.2, 0.8)),
)
STEPS = {step.name: step for step in _ALL}
"""All steps by name, in the order in which they are done whatever the order they are named in: the
part that is seen, what stands there, how it is lit, then lens, sensor and file."""


def _factor(most: float, strength: float, rng: Rng) -> float:
    """Between ``1 / most`` and ``most``, as often below 1 as above."""
    return math.exp(strength * rng.uniform(-1, 1) * math.log(most))


def _corrupted(name: str, pixels: Pixels, strength: float, rng: Rng) -> Pixels:
    corruption = CORRUPTIONS[name]
    seed = int(rng.integers(2**31))
    return corruption(pixels, min(strength, corruption.most), seed)


def _affine(pixels: Pixels, angle: float, shift: tuple[float, float], scale: float) -> Pixels:
    """Turned by degrees, shifted by shares of the sides, scaled about the middle.

    Outside its edges the picture goes on as its mirror image, so that there are no empty corners
    for a network to learn.
    """
    height, width = pixels.shape[:2]
    # How far the corners of what will be seen lie from the middle now, along either axis.
    turned = abs(math.cos(math.radians(angle))) + abs(math.sin(math.radians(angle)))
    reach = (turned / 2 * max(height, width) + max(map(abs, shift)) * max(height, width)) / scale
    high, wide = (max(0, math.ceil(reach - side / 2)) + 2 for side in (height, width))
    padded = np.pad(pixels, ((high, high), (wide, wide), (0, 0)), "symmetric")
    changed = F.affine(
        Image.fromarray(padded),
        angle=angle,
        translate=[shift[0] * width, shift[1] * height],
        scale=scale,
        shear=[0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
    )
    return np.array(changed)[high : high + height, wide : wide + width]
