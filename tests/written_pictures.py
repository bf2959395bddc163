"""Pictures with words in them, drawn with a font that comes with matplotlib."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def written(
    lines: dict[tuple[int, int], str],
    size: tuple[int, int] = (640, 360),
    height: int = 26,
    font: str = "DejaVuSans.ttf",
    turned: float = 0.0,
) -> NDArray[np.uint8]:
    """A white picture of ``size`` (width, height) with each text at its left upper corner."""
    page = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(page)
    for place, text in lines.items():
        pen.text(place, text, fill="black", font=ImageFont.truetype(str(FONTS / font), height))
    if turned:
        page = page.rotate(turned, Image.Resampling.BICUBIC, fillcolor="white")
    return np.asarray(page)


def save(picture: NDArray[np.uint8], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path
