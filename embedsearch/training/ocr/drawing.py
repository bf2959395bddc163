"""A word drawn as it might be met: on a sign, a receipt, a screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torchvision.transforms.v2 import functional

from embedsearch.errors import DataError
from embedsearch.training.ocr.recipe import Drawing

Grey = NDArray[np.uint8]
"""One grey picture, shape (height, width)."""
LARGE = 64
"""Letters are drawn this high, in pixels, and made smaller: what is drawn small looks neater than
what is photographed small."""
WITHOUT_LETTERS = ("cmex", "cmsy", "cmmi", "STIXSiz", "STIXNonUni", "LastResort", "Display")
"""Fonts of matplotlib that have no letters, or signs of mathematics in their places."""


def fonts_of(drawing: Drawing) -> list[str]:
    """Files of the fonts that words are drawn in. Raises
    :class:`~embedsearch.errors.DataError`."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = [file for file in sorted(folder.glob("*.ttf")) if _has_letters(file)]
    for named in drawing.fonts:
        place = Path(named).expanduser()
        found = [place] if place.is_file() else sorted(place.rglob("*.[to]tf"))
        if not found:
            raise DataError(f"drawing.fonts: {place} is no font, and no folder that holds one")
        files += found
    return [str(file) for file in files]


def draw_word(text: str, fonts: Sequence[str], drawing: Drawing, rng: np.random.Generator) -> Grey:
    """A picture of ``text``, cut out as a detector would. The same ``rng`` draws the same."""
    ink = _ink(text, fonts[int(rng.integers(len(fonts)))], rng)
    ink = _placed(ink, drawing, rng)
    if rng.random() < drawing.elastic:
        ink = elastic(ink, drawing.bend * LARGE / 32, rng)
    height = round(np.exp(rng.uniform(np.log(drawing.least), np.log(drawing.largest))) * 1.3)
    width = max(4, round(ink.shape[1] * height / ink.shape[0]))
    ink = cv2.resize(ink, (width, height), interpolation=cv2.INTER_AREA)
    picture = _painted(ink, drawing, rng)
    for share, change in _changes(drawing):
        if rng.random() < share:
            picture = change(picture, rng)
    return picture.clip(0, 255).astype(np.uint8)


def elastic(ink: NDArray[np.float32], bend: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Every place moved a little, neighbours alike, at most ``bend`` pixels (Simard et al.)."""
    height, width = ink.shape
    field = rng.uniform(-1, 1, (height, width, 2)).astype(np.float32)
    field = cv2.GaussianBlur(field, (0, 0), height / 8)
    field *= bend / max(float(np.abs(field).max()), 1e-6)
    # torchvision measures in halves of the picture.
    moves = torch.from_numpy(2 * field / np.array([width, height], np.float32))[None]
    bent = functional.elastic(torch.from_numpy(ink)[None], moves)
    made: NDArray[np.float32] = bent[0].numpy()
    return made


def binary(picture: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Black and white (Otsu, "A Threshold Selection Method from Gray-Level Histograms", 1979)."""
    _, made = cv2.threshold(picture.clip(0, 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    return np.asarray(made, np.float32)


Change = Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]]


def _changes(drawing: Drawing) -> tuple[tuple[float, Change], ...]:
    return (
        (drawing.blur, _blurred),
        (drawing.noise, _noisy),
        (drawing.jpeg, _saved),
        (drawing.binary, binary),
    )


def _ink(text: str, font: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """How much ink is where, in [0, 1], tight around the word but for a random margin."""
    drawn = _font(font, LARGE)
    left, top, right, bottom = drawn.getbbox(text)
    apart = int(rng.integers(0, 8)) if rng.random() < 0.2 else 0
    width = int(right - left) + 1 + apart * (len(text) - 1)
    size = max(int(bottom - top) + 1, LARGE // 2)
    margins = (rng.uniform(-0.02, 0.2, 4) * size).astype(int)
    room = Image.new("L", (max(4, width + margins[:2].sum()), max(4, size + margins[2:].sum())))
    pen, across = ImageDraw.Draw(room), float(margins[0] - left)
    down = float(margins[2] - top)
    if not apart:
        pen.text((across, down), text, fill=255, font=drawn)
    for sign in text if apart else "":
        pen.text((across, down), sign, fill=255, font=drawn)
        across += drawn.getlength(sign) + apart
    return np.asarray(room, np.float32) / np.float32(255)


def _placed(
    ink: NDArray[np.float32], drawing: Drawing, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Turned, slanted and seen from aside."""
    height, width = ink.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    angle = np.radians(rng.uniform(-drawing.turn, drawing.turn))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = (corners @ turn).astype(np.float32)
    moved[:2, 0] += rng.uniform(-1, 1) * drawing.slant * height
    moved[1:3, 1] += rng.uniform(-0.3, 0.3) * drawing.slant * height
    moved[1, 1] += rng.uniform(-0.3, 0.3) * drawing.slant * height
    moved -= moved.min(axis=0)
    size = np.ceil(moved.max(axis=0)).astype(int)
    way = cv2.getPerspectiveTransform(corners, moved)
    made: NDArray[np.float32] = cv2.warpPerspective(ink, way, (int(size[0]), int(size[1])))
    return made


def _painted(
    ink: NDArray[np.float32], drawing: Drawing, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Ink of one grey on a ground that is flat, shaded or rough; sometimes with a shadow."""
    ground = rng.uniform(0, 255)
    room = [grey for grey in rng.uniform(0, 255, 8) if abs(grey - ground) >= drawing.contrast]
    grey = room[0] if room else (0.0 if ground > 127 else 255.0)
    height, width = ink.shape
    paper = np.full((height, width), ground, np.float32)
    if rng.random() < drawing.rough:
        left, right = rng.uniform(-40, 40, 2)
        paper += np.linspace(left, right, width, dtype=np.float32)[None]
    if rng.random() < 0.75 * drawing.rough:
        rough = rng.normal(0, rng.uniform(5, 40), (height, width)).astype(np.float32)
        paper += cv2.GaussianBlur(rough, (0, 0), rng.uniform(0.8, 4))
    if rng.random() < drawing.rough / 4:
        shadow = np.roll(ink, tuple(rng.integers(1, 3, 2)), (0, 1))
        paper += shadow * rng.uniform(-80, 80)
    return (paper + ink * (grey - paper)).astype(np.float32)


def _blurred(picture: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    made: NDArray[np.float32] = cv2.GaussianBlur(
        picture, (0, 0), rng.uniform(0.3, 0.05 * picture.shape[0] + 0.4)
    )
    return made


def _noisy(picture: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    grain = rng.normal(0, rng.uniform(2, 25), picture.shape).astype(np.float32)
    return picture + grain


def _saved(picture: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 80))]
    _, data = cv2.imencode(".jpg", picture.clip(0, 255).astype(np.uint8), quality)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.float32)


def _has_letters(file: Path) -> bool:
    return not any(part in file.name for part in WITHOUT_LETTERS)


@cache
def _font(file: str, size: int) -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.truetype(file, size)
    except OSError as error:
        raise DataError(f"{file}: cannot be read as a font ({error})") from error
