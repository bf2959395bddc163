"""A small real detector: rectangles of one colour on white ground. It reads, too: the colour of an
object is the word that stands in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from colour_encoder import COLOURS
from PIL import Image
from scipy import ndimage

from embedsearch.enrichers.base import Findings, Pixels
from embedsearch.enrichers.masks import encode
from embedsearch.records import Detection, EnricherInfo, Stage, TextLine

THINGS = {name: rgb for name, rgb in COLOURS.items() if name != "white"}


class ColourDetector:
    """``seed`` makes it another one. ``fails`` is told each picture, and may raise."""

    def __init__(
        self,
        stage: Stage = "detect",
        seed: int = 0,
        look: int = 30,
        fails: Callable[[Pixels], None] = lambda _: None,
    ) -> None:
        self.looked_at = 0
        self._fails = fails
        digest = f"{seed:012x}"
        self.info = EnricherInfo(
            id=f"colours-{stage}-{digest}",
            spec=f"colours:{seed}",
            stage=stage,
            licence="Apache-2.0",
            weights_hash=digest * 5 + "0000",
            look=look,
            labels=tuple(THINGS),
        )

    def enrich(self, picture: Pixels) -> Findings:
        self.looked_at += 1
        self._fails(picture)
        found: list[Detection] = []
        for name, rgb in THINGS.items():
            near = (np.abs(picture.astype(int) - rgb) < 8).all(axis=2)
            places, _ = ndimage.label(near)
            for number, (rows, columns) in enumerate(ndimage.find_objects(places), 1):
                box = (
                    float(columns.start),
                    float(rows.start),
                    float(columns.stop - columns.start),
                    float(rows.stop - rows.start),
                )
                mask = encode(places == number) if self.info.stage == "segment" else None
                found.append(Detection(name, 0.9, box, mask))
        if self.info.stage == "ocr":
            return Findings(lines=tuple(TextLine(one.label, 0.9, one.box) for one in found))
        return Findings(objects=tuple(found))


def load(spec: str, device: str) -> ColourDetector:
    """``colours:STAGE`` or ``colours:STAGE:SEED``, as an entry point is called."""
    _, stage, seed = [*spec.split(":"), "0"][:3]
    return ColourDetector(stage, int(seed))  # type: ignore[arg-type]


def scene(
    path: Path,
    things: dict[str, tuple[int, int, int, int]],
    size: tuple[int, int] = (120, 90),
    exif: Image.Exif | None = None,
) -> Path:
    """A white picture with rectangles (x, y, width, height) of the named colours, as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", size, "white")
    for colour, (x, y, w, h) in things.items():
        picture.paste(COLOURS[colour], (x, y, x + w, y + h))
    picture.save(path, "PNG", **({} if exif is None else {"exif": exif}))
    return path
