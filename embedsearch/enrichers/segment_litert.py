"""``litert:FILE``: a semantic segmenter on LiteRT (TensorFlow Lite), as phones run it.

The file takes bytes, uint8 (1, size, size, 3), and gives the class of every pixel, (1, h, w), or
logits, (1, h, w, classes). The names of the classes, background first, stand in a text file beside
it, one a line, with ``label`` in its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.base import Findings, Pixels
from embedsearch.enrichers.class_names import BACKGROUND, usual
from embedsearch.enrichers.semantic import LabelMap, enlarged, from_logits, parts, sampled
from embedsearch.enrichers.square import Fit, fitted
from embedsearch.errors import EnricherError
from embedsearch.litert import PREFIX, LiteRTModel, Tensor, real
from embedsearch.records import EnricherInfo
from embedsearch.settings import Device, workers

_FIT: Fit = "pad"
"""With its aspect kept a picture is cut up better than squashed."""
_CLASS_MAP, _LOGITS = 3, 4
"""Dimensions of what a file gives."""


def load(spec: str, device: Device) -> LiteRTSegmenter:
    """Load ``litert:FILE``.

    Raises :class:`~embedsearch.errors.EnricherError` and, without ``ai-edge-litert``,
    :class:`~embedsearch.errors.MissingExtraError`.
    """
    if device == "cuda":
        raise EnricherError(f"{spec} runs on a CPU; use --device cpu.")
    file = Path(spec.partition(":")[2]).expanduser().absolute()
    if not file.is_file():
        raise EnricherError(f"{file}: there is no such LiteRT file ({spec!r} names it).")
    return LiteRTSegmenter(file)


class LiteRTSegmenter:
    """One picture at a time; several threads wait for each other."""

    def __init__(self, file: Path, threads: int | None = None) -> None:
        """Raises :class:`~embedsearch.errors.EnricherError` naming what is wrong."""
        self._file = file
        self._model = LiteRTModel(
            file,
            threads or workers(),
            dimensions=(_CLASS_MAP, _LOGITS),
            expected="classes [1, height, width] or logits [1, height, width, classes]",
            error=EnricherError,
        )
        self._logits = _logits_behind(self._model)
        labels = _labels(file, None if self._logits is None else int(self._logits["shape"][-1]))
        weights = self._model.weights_hash
        labels = [usual(label) for label in labels]
        told = hashlib.sha256("\n".join([weights, _FIT, *labels]).encode()).hexdigest()
        slug = "".join(sign if sign.isalnum() else "-" for sign in file.stem.lower())
        self._info = EnricherInfo(
            id=f"{PREFIX}-{slug}-{told[:12]}",
            spec=f"{PREFIX}:{file}",
            stage="segment",
            licence="see where the file is from",
            weights_hash=weights,
            look=self._model.size,
            labels=tuple(labels[1:]),
            description=f"LiteRT {file.name}",
        )

    @property
    def info(self) -> EnricherInfo:
        return self._info

    @property
    def weight_bytes(self) -> int:
        """Size of the file. Raises :class:`OSError` where it is missing."""
        return self._file.stat().st_size

    def enrich(self, picture: Pixels) -> Findings:
        """The connected parts of each class. Without logits in the file their score is 1."""
        return parts(self._told(picture), self._info.labels, *picture.shape[:2])

    def label_map(self, picture: Pixels) -> NDArray[np.uint8]:
        return enlarged(self._told(picture).classes, *picture.shape[:2])

    def class_logits(self, picture: Pixels, side: int) -> NDArray[np.float32]:
        """As :class:`~embedsearch.enrichers.semantic.SoftSegmenter` says.

        Raises :class:`~embedsearch.errors.EnricherError` where the file does not tell them.
        """
        if self._logits is None:
            raise EnricherError(
                f"{self._info.spec} tells classes only, not how likely they are: it cannot teach."
            )
        return real(sampled(self._run(picture, self._logits), side), self._logits)

    def _told(self, picture: Pixels) -> LabelMap:
        if self._logits is None:
            classes = self._run(picture, self._model.gives).astype(np.uint8)
            return LabelMap(classes, np.ones(classes.shape, np.float32))
        logits = self._run(picture, self._logits)
        return from_logits(real(logits, self._logits), *logits.shape[:2])

    def _run(self, picture: Pixels, wanted: Tensor) -> NDArray[Any]:
        """The part of a tensor, as it is stored, that is the picture."""
        square = fitted(picture, self._model.size, _FIT)
        inner: NDArray[Any] = square.inner(self._model.run(square.pixels, wanted))
        return inner


def _logits_behind(model: LiteRTModel) -> Tensor | None:
    """The tensor of logits: what is given, or what the last step took the largest of. LiteRT keeps
    it until the next picture, as nothing is computed after that step."""
    interpreter, gives = model.interpreter, model.gives
    if len(gives["shape"]) == _LOGITS:
        return gives
    last: list[dict[str, Any]] = [
        step
        for step in interpreter._get_ops_details()
        if step["op_name"] == "ARG_MAX" and list(step["outputs"]) == [gives["index"]]
    ]
    if not last:
        return None
    taken = int(last[0]["inputs"][0])
    for tensor in interpreter.get_tensor_details():
        if tensor["index"] == taken and len(tensor["shape"]) == _LOGITS:
            return dict(tensor)
    return None


def _labels(file: Path, classes: int | None) -> Sequence[str]:
    """Names of the classes, background first: the lines of the one text file beside that begins
    with it. Lines after the first empty one, and more than there are classes, are remarks."""
    fitting = []
    for beside in sorted(file.parent.glob("*label*.txt")):
        lines = beside.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.strip() for line in lines]
        names = names[: names.index("")] if "" in names else names
        if names and names[0].lower() == BACKGROUND and classes in (None, len(names)):
            fitting.append(names)
    if len(fitting) != 1:
        wanted = "" if classes is None else f"{classes} "
        raise EnricherError(
            f"{file}: {len(fitting) or 'no'} text files beside it name its {wanted}classes; put "
            f"one there, with 'label' in its name and a class a line, {BACKGROUND!r} first."
        )
    return fitting[0]
