"""``rcnn`` and ``fast-rcnn``: objects of any name, by the encoder of the index.

Girshick et al., "Rich Feature Hierarchies" (R-CNN), 2014, with words for classes: Selective Search
proposes boxes, the encoder embeds what is in them, and the text tower says which of the labels that
is. ``rcnn`` encodes every box by itself; ``fast-rcnn`` the picture once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.base import Findings, Pixels
from embedsearch.enrichers.detect_boxes import best_boxes
from embedsearch.enrichers.selective_search import propose
from embedsearch.enrichers.shared_map import SharedMap
from embedsearch.errors import EnricherError, QueryError
from embedsearch.records import Detection, EncoderInfo, EnricherInfo
from embedsearch.settings import Device

PROMPT = "a photo of a {}"
ELSE = (
    *("background", "nothing", "the ground", "the sky", "a wall", "a floor", "grass", "water"),
    *("a texture", "part of something", "a whole scene with many things"),
)
"""What a box may show that is none of the labels."""
_AT_A_TIME = 32
"""Crops in memory together."""
_MOST = 100


class Sees(Protocol):
    """What is needed of an encoder."""

    @property
    def info(self) -> EncoderInfo: ...

    def encode_images(self, images: Sequence[Pixels]) -> NDArray[np.float32]: ...

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """``rcnn?labels=dog,red umbrella&threshold=0.5``, taken apart."""

    way: Literal["rcnn", "fast-rcnn"]
    labels: tuple[str, ...]
    proposals: int = 200
    """Boxes that are looked at."""
    threshold: float = 0.5
    sharpness: float = 40.0
    """What cosines are multiplied by before they become probabilities."""
    nms: float = 0.3
    side: int = 448
    """Of the picture for fast-rcnn, in pixels."""


def load(spec: str, device: Device) -> Unbound:
    """Take the spec apart; the encoder comes later. Raises
    :class:`~embedsearch.errors.EnricherError`."""
    way, _, asked = spec.partition("?")
    options = dict(parse_qsl(asked, keep_blank_values=True))
    labels = tuple(label.strip() for label in options.pop("labels", "").split(",") if label.strip())
    kinds: dict[str, Any] = {
        **{"proposals": int, "side": int},
        **{"threshold": float, "sharpness": float, "nms": float},
    }
    if way not in ("rcnn", "fast-rcnn") or not labels or set(options) - set(kinds):
        raise EnricherError(
            f"{spec!r}: name what is to be found, {way}?labels=dog,red umbrella, and where wanted "
            "&threshold=0.5&proposals=200&sharpness=40&nms=0.3&side=448."
        )
    try:
        values = {name: kinds[name](value) for name, value in options.items()}
    except ValueError as error:
        raise EnricherError(f"{spec!r}: {error}.") from error
    made = Settings("rcnn" if way == "rcnn" else "fast-rcnn", labels)
    return Unbound(replace(made, **values), spec)


@dataclass(frozen=True, slots=True)
class Unbound:
    """An open vocabulary that has no encoder yet."""

    settings: Settings
    spec: str

    def using(self, encoder: Sees) -> OpenVocabulary:
        """With the encoder that names what is seen. Raises
        :class:`~embedsearch.errors.EnricherError` for one without a text tower."""
        return OpenVocabulary(self.settings, self.spec, encoder)


class OpenVocabulary:
    """A detector of labels in words."""

    def __init__(self, settings: Settings, spec: str, encoder: Sees) -> None:
        if not encoder.info.has_text:
            raise EnricherError(
                f"{spec!r}: the encoder {encoder.info.spec} knows no words to name objects by."
            )
        # Parts of a picture are compared by what the towers give, which the shared map gives too.
        towers: Callable[[], Sees] | None = getattr(encoder, "without_hubs", None)
        self._settings, self._encoder = settings, encoder if towers is None else towers()
        self._shared: SharedMap | None = None
        if settings.way == "fast-rcnn":
            folder = getattr(encoder, "folder", None)
            self._shared = SharedMap(Path(folder or encoder.info.spec), settings.side)
        names = self._encoder.encode_texts([PROMPT.format(label) for label in settings.labels])
        self._words = np.concatenate([names, *_known(self._encoder, ELSE)])
        told = json.dumps([asdict(settings), encoder.info.id])
        self._info = EnricherInfo(
            id=f"{settings.way}-{hashlib.sha256(told.encode()).hexdigest()[:12]}",
            spec=spec,
            stage="detect",
            licence=encoder.info.licence,
            weights_hash=encoder.info.weights_hash,
            look=settings.side,
            labels=settings.labels,
            description=f"Selective Search, named by {encoder.info.id}",
        )

    @property
    def info(self) -> EnricherInfo:
        return self._info

    def enrich(self, picture: Pixels) -> Findings:
        return Findings(objects=self.detect(picture, self._settings.threshold))

    def detect(self, picture: Pixels, threshold: float) -> tuple[Detection, ...]:
        """Objects with at least this score, the best first."""
        boxes = propose(picture, self._settings.proposals)
        if not len(boxes):
            return ()
        shares = self.shares(self.embed(picture, boxes))
        labels = shares.argmax(1)
        scores = shares[np.arange(len(shares)), labels].astype(np.float32)
        kept = best_boxes(
            boxes,
            scores,
            labels,
            threshold=threshold,
            overlap=self._settings.nms,
            most=_MOST,
        )
        return tuple(
            Detection(
                self._settings.labels[labels[at]],
                float(scores[at]),
                (
                    float(boxes[at][0]),
                    float(boxes[at][1]),
                    float(boxes[at][2]),
                    float(boxes[at][3]),
                ),
            )
            for at in kept
        )

    def embed(self, picture: Pixels, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit rows of what is in boxes (N, 4) as x, y, width, height."""
        if self._shared is not None:
            return self._shared.embed(picture, boxes)
        rows = []
        for start in range(0, len(boxes), _AT_A_TIME):
            crops = [_crop(picture, box) for box in boxes[start : start + _AT_A_TIME]]
            rows.append(self._encoder.encode_images(crops))
        return np.concatenate(rows)

    def shares(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """How likely each row shows each label, (N, labels); what is left is something else."""
        logits = rows @ self._words.T * self._settings.sharpness
        odds = np.exp(logits - logits.max(1, keepdims=True))
        likely: NDArray[np.float32] = odds / odds.sum(1, keepdims=True)
        return likely[:, : len(self._settings.labels)]


def _known(encoder: Sees, texts: Sequence[str]) -> list[NDArray[np.float32]]:
    """Rows of the texts of which the encoder knows a word."""
    rows = []
    for text in texts:
        with suppress(QueryError):
            rows.append(encoder.encode_texts([text]))
    return rows


def _crop(picture: Pixels, box: NDArray[np.float32]) -> Pixels:
    left, top = np.floor(box[:2]).astype(int)
    right, bottom = np.ceil(box[:2] + box[2:]).astype(int)
    return np.ascontiguousarray(picture[top:bottom, left:right])
