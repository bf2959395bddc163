"""rapidocr's networks, one by one: where text is, which way up it is, what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.base import Pixels

Quad = NDArray[np.float32]
"""Four corners, clockwise from where the text begins, shape (4, 2): x and y in pixels."""
PIXEL = 0.3
"""From this likelihood on a pixel belongs to text, and a box that is that likely counts."""
SPACE = 0.15
"""Two signs are parted by a space where one is this likely between them, though a gap is likelier:
the recogniser all too often leaves it out."""
SPACE_IN_WORD = 0.3
"""The same between two small letters, which seldom begin words."""


class Recogniser(Protocol):
    """Reads lines that are cut out."""

    def read(self, crops: Sequence[Pixels]) -> list[tuple[str, float]]:
        """What each (BGR) says, and the mean likelihood of its signs."""
        ...


class Engine:
    """rapidocr's detector and direction classifier, each on one thread of its own, and a
    recogniser.

    It may be shared by any number of threads: no call leaves anything behind.
    """

    def __init__(self, settings: dict[str, Any], recogniser: Recogniser | None = None) -> None:
        """``settings`` as rapidocr has them, by dotted names. Without another recogniser it is
        rapidocr's."""
        whole = quiet(settings | {"Det.box_thresh": PIXEL, "Det.thresh": PIXEL})
        self._detector = whole._load_det_model()
        self._directions = whole._load_cls_model()
        self._recogniser = recogniser or PaddleRecogniser(whole._load_rec_model())

    def find(self, picture: Pixels) -> list[Quad]:
        """Where lines are in a picture (BGR)."""
        boxes = self._detector(picture).boxes
        return [] if boxes is None else [np.asarray(box, np.float32) for box in boxes]

    def crop(self, picture: Pixels, quad: Quad) -> Pixels:
        """A line, laid flat; a tall one on its side."""
        from rapidocr.utils.process_img import get_rotate_crop_image

        made: Pixels = get_rotate_crop_image(picture, quad.copy())
        return made

    def upright(self, crops: Sequence[Pixels]) -> list[Pixels]:
        """The crops, those that stand on their head turned."""
        return list(self._directions(list(crops)).img_list) if crops else []

    def read(self, crops: Sequence[Pixels]) -> list[tuple[str, float]]:
        """What each says, and the mean likelihood of its signs."""
        return self._recogniser.read(crops) if crops else []


class PaddleRecogniser:
    """rapidocr's recogniser, with spaces where it is in two minds about them."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self._signs: list[str] = network.postprocess_op.character
        self._space = self._signs.index(" ")
        network.postprocess_op = self._decode

    def read(self, crops: Sequence[Pixels]) -> list[tuple[str, float]]:
        from rapidocr.ch_ppocr_rec import TextRecInput

        told = self._network(TextRecInput(img=list(crops), return_word_box=False))
        return [(str(text), float(sure)) for text, sure in zip(told.txts, told.scores, strict=True)]

    def _decode(
        self, likely: NDArray[np.float32], _words: bool, **_: Any
    ) -> tuple[list[tuple[str, float]], list[None]]:
        """The likeliest sign of each column, repeated ones once, blanks left out (Graves et al.,
        "Connectionist Temporal Classification", 2006, best path), with spaces of SPACE."""
        lines = [spaced(columns, self._signs, self._space) for columns in likely]
        return lines, [None] * len(lines)


def spaced(columns: NDArray[np.float32], signs: Sequence[str], space: int) -> tuple[str, float]:
    """Text of (columns, signs) likelihoods, sign 0 the blank, and the mean likelihood of its
    signs, 0 where there are none."""
    best = columns.argmax(axis=1)
    kept = best != 0
    kept[1:] &= best[1:] != best[:-1]
    places = np.flatnonzero(kept)
    if not len(places):
        return "", 0.0
    text = ""
    for number, place in enumerate(places):
        sign = signs[best[place]]
        if number and sign != " " and not text.endswith(" "):
            between = columns[places[number - 1] : place + 1, space].max()
            joined = text[-1].islower() and sign.islower()
            if between > (SPACE_IN_WORD if joined else SPACE):
                text += " "
        text += sign
    return text, float(columns[places, best[places]].mean())


def quiet(settings: dict[str, Any]) -> Any:
    """A ``rapidocr.RapidOCR`` that says nothing, one thread a network."""
    from rapidocr import RapidOCR

    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    return RapidOCR(params={"Global.log_level": "critical", **threads, **settings})
