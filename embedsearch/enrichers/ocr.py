"""Words in pictures: rapidocr, with a closer look where text is small.

``rapidocr`` reads as set up here, ``rapidocr:plain`` exactly as rapidocr does by itself, for
comparison, and ``rapidocr:LANG`` another language.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.base import Enricher, Findings, Pixels
from embedsearch.enrichers.ocr_engine import PIXEL, SPACE, SPACE_IN_WORD, Engine, Quad, quiet
from embedsearch.enrichers.ocr_languages import Models, models_for
from embedsearch.enrichers.ocr_order import reading_order
from embedsearch.enrichers.ocr_own import OwnRecogniser, is_reader, read_reader
from embedsearch.records import EnricherInfo, TextLine
from embedsearch.settings import Device

PREFIX = "rapidocr"
PLAIN = "plain"
LOOK = 1350
"""Shorter side of the closer look, pixels; a larger picture is looked at once, as it is."""
CLOSEST = 2.8
"""No look enlarges more."""
LONGEST = 2400
"""No look is longer than this."""
CLOSER = 1.2
"""A closer look is at least this much closer."""
SURE = 0.9
"""Below, a line may be read better from close by."""
SMALL = 20
"""Lines less high than this, pixels, are small: there may be more that were not seen."""
FLATTEST = 8
LEAST_SIDE = 30
"""A picture is given margins until it is this high and wide, pixels, and neither side is more than
so many times the other."""
LEAST = 0.5
"""Lines that are less sure are noise, and no reason to look closer either: on photos without any
text textures are often taken for some."""
SAME = 0.7
"""Two boxes that share this part of the smaller one are of the same text."""
ONE_WORD = 100
"""A picture whose shorter side is below this, pixels, is taken for a cut-out word."""
WORD_LEAST = 0.3
"""What such a picture says may be this unsure."""
SETTINGS = (
    f"{LOOK} {LONGEST} {CLOSER} {CLOSEST} {FLATTEST} {LEAST_SIDE} "
    f"{SURE} {SMALL} {LEAST} {SAME} {ONE_WORD} {WORD_LEAST} "
    f"{PIXEL} {SPACE} {SPACE_IN_WORD}"
)
"""All that changes what is read, beside the weights."""


def load(spec: str, device: Device) -> Enricher:
    """The reader of a spec. Networks are loaded when they are first needed, on the CPU.

    Raises :class:`~embedsearch.errors.EnricherError` where the models are not to be had.
    """
    if is_reader(spec):
        return load_own(spec)
    _, _, choice = spec.partition(":")
    if choice == PLAIN:
        return PlainReader(spec, models_for(None))
    models = models_for(choice or None)
    return Reader(_info(spec, models, SETTINGS), lambda: Engine(models.settings))


def load_own(spec: str) -> Enricher:
    """The reader of a folder that ``finetune --task ocr`` wrote, with rapidocr's detector.

    Raises :class:`~embedsearch.errors.EnricherError`.
    """
    about, models = read_reader(Path(spec).expanduser().absolute()), models_for(None)
    info = _info(spec, models, f"{SETTINGS} {about.model_hash}")
    name = "-".join(re.findall("[a-z0-9]+", about.name.lower())) or "reader"
    info = replace(
        info,
        id=info.id.replace("rapidocr", name, 1),
        licence=about.licence,
        weights_hash=about.model_hash,
        description=about.description,
    )
    return Reader(info, lambda: Engine(models.settings, OwnRecogniser(about)))


class PlainReader:
    """rapidocr by itself, as its own defaults have it."""

    def __init__(self, spec: str, models: Models) -> None:
        self._info = _info(spec, models, "plain")
        self._models = models
        self._loading = threading.Lock()
        self._loaded: Any = None

    @property
    def info(self) -> EnricherInfo:
        return self._info

    def enrich(self, picture: Pixels) -> Findings:
        """The lines of an RGB picture, in rapidocr's own order."""
        with self._loading:
            if self._loaded is None:
                self._loaded = quiet(self._models.settings)
        told = self._loaded(np.ascontiguousarray(picture[..., ::-1]))
        if told.txts is None:
            return Findings()
        lines = zip(told.txts, told.scores, told.boxes, strict=True)
        height, width = picture.shape[:2]
        return Findings(lines=tuple(line_of(*line, width, height) for line in lines))


class Reader:
    """Looks at a picture twice where its text is small or unsure, tells words apart where
    rapidocr joins them, and reads a cut-out word as it is."""

    def __init__(self, info: EnricherInfo, start: Callable[[], Engine]) -> None:
        """``start`` loads the networks."""
        self._info, self._start = info, start
        self._loading = threading.Lock()
        self._loaded: Engine | None = None

    @property
    def info(self) -> EnricherInfo:
        return self._info

    def enrich(self, picture: Pixels) -> Findings:
        """The lines of an RGB picture, in reading order."""
        engine = self._engine()
        colours = np.ascontiguousarray(picture[..., ::-1])
        height, width = picture.shape[:2]
        found = read_word(engine, colours) or read_lines(engine, colours)
        order = reading_order([quad for _, _, quad in found])
        return Findings(lines=tuple(line_of(*found[place], width, height) for place in order))

    def _engine(self) -> Engine:
        with self._loading:
            if self._loaded is None:
                self._loaded = self._start()
            return self._loaded


Found = tuple[str, float, Quad]
"""Text, how sure, and where."""


def read_word(engine: Engine, picture: Pixels) -> list[Found]:
    """The one word that a small picture shows; nothing where it shows none for sure."""
    height, width = picture.shape[:2]
    if min(height, width) >= ONE_WORD:
        return []
    ((text, sure),) = engine.read([picture])
    if sure < WORD_LEAST or not text.strip():
        return []
    whole = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    return [(text.strip(), sure, whole)]


def read_lines(engine: Engine, picture: Pixels) -> list[Found]:
    """What one look sees and, where that is small or unsure, a closer one."""
    height, width = picture.shape[:2]
    fits = LONGEST / max(height, width)
    found = look(engine, picture, min(1.0, fits))
    closer = min(LOOK / min(height, width), CLOSEST, fits)
    if closer >= CLOSER and any(_is_doubtful(*line) for line in found):
        found = distinct(found + look(engine, picture, closer))
    return [line for line in found if line[1] >= LEAST and line[0]]


def look(engine: Engine, picture: Pixels, scale: float) -> list[Found]:
    """The lines of the picture seen at another scale; where they are in the picture itself."""
    seen, corner = framed(picture, scale)
    quads = engine.find(seen)
    crops = engine.upright([engine.crop(seen, quad) for quad in quads])
    return [
        (text.strip(), sure, (quad - corner) / np.float32(scale))
        for quad, (text, sure) in zip(quads, engine.read(crops), strict=True)
    ]


def framed(picture: Pixels, scale: float) -> tuple[Pixels, NDArray[np.float32]]:
    """The picture at another scale; a very flat or narrow one between margins, for the detector
    enlarges the shorter side. And where its left upper corner is then: x and y."""
    import cv2

    if scale != 1:
        way = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=way)
    height, width = picture.shape[:2]
    least = max(max(height, width) // FLATTEST, LEAST_SIDE)
    down, across = (max(0, (least - side + 1) // 2) for side in (height, width))
    if down or across:
        picture = cv2.copyMakeBorder(picture, down, down, across, across, cv2.BORDER_CONSTANT)
    return picture, np.array([across, down], np.float32)


def distinct(found: Sequence[Found]) -> list[Found]:
    """Each text once: of boxes that cover each other, the one with more signs that are sure."""
    import cv2

    kept: list[Found] = []
    for line in sorted(found, key=lambda line: -line[1] * len(line[0])):
        area = cv2.contourArea(line[2])
        for _, _, other in kept:
            shared, _ = cv2.intersectConvexConvex(line[2], other)
            if shared >= SAME * max(min(area, cv2.contourArea(other)), 1e-6):
                break
        else:
            kept.append(line)
    return kept


def line_of(text: str, sure: float, quad: Quad, width: int, height: int) -> TextLine:
    """A line as it is told, inside the picture."""
    inside = np.clip(np.asarray(quad, np.float32), 0, np.array([width, height], np.float32))
    left, top = inside.min(axis=0).tolist()
    right, bottom = inside.max(axis=0).tolist()
    return TextLine(
        text=text,
        confidence=min(max(float(sure), 0.0), 1.0),
        box=(left, top, right - left, bottom - top),
        quad=tuple(inside.reshape(-1).tolist()),
    )


def _is_doubtful(text: str, sure: float, quad: Quad) -> bool:
    if not text or sure < LEAST:
        return False
    return sure < SURE or float(np.linalg.norm(quad[3] - quad[0])) < SMALL


def _info(spec: str, models: Models, settings: str) -> EnricherInfo:
    made = hashlib.sha256(f"{models.weights_hash} {settings}".encode()).hexdigest()
    return EnricherInfo(
        id=f"rapidocr-{made[:12]}",
        spec=spec,
        stage="ocr",
        licence="Apache-2.0",
        weights_hash=models.weights_hash,
        look=LOOK,
        description=f"PP-OCR: {', '.join(models.names)}",
    )
