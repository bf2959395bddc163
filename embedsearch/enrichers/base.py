"""The contract every enricher keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from embedsearch.records import Detection, EnricherInfo, TextLine

Pixels = NDArray[np.uint8]
"""One upright sRGB picture, shape (height, width, 3)."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What an enricher found in one picture. Boxes are in pixels of the array it was given, and lie
    inside it."""

    objects: tuple[Detection, ...] = ()
    """By falling score."""
    lines: tuple[TextLine, ...] = ()
    """In reading order."""


@runtime_checkable
class Enricher(Protocol):
    """Finds things in pictures. It is deterministic, and may be called from several threads at
    once."""

    @property
    def info(self) -> EnricherInfo: ...

    def enrich(self, picture: Pixels) -> Findings:
        """What is in one picture."""
        ...


@runtime_checkable
class Segmenter(Enricher, Protocol):
    """An enricher that can say of every pixel what it shows."""

    def label_map(self, picture: Pixels) -> NDArray[np.uint8]:
        """Class of every pixel, shape (height, width): 0 is background, n is
        ``info.labels[n - 1]``."""
        ...


@runtime_checkable
class Detector(Enricher, Protocol):
    """An enricher that can be asked for objects it is less sure of than it usually reports."""

    def detect(self, picture: Pixels, threshold: float) -> tuple[Detection, ...]:
        """Objects with at least this score, by falling score."""
        ...


@runtime_checkable
class NeedsEncoder(Protocol):
    """What becomes an enricher with the encoder of an index."""

    def using(self, encoder: Any) -> Enricher:
        """The enricher. ``encoder`` is as :mod:`embedsearch.encoders.base` has it."""
        ...
