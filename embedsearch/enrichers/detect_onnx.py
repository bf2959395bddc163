"""``yolox``, the detector in the box, and ``yolo:...``, any exported YOLO, on ONNX Runtime."""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.base import Findings, Pixels
from embedsearch.enrichers.detect_boxes import best_boxes, read_output
from embedsearch.enrichers.detector_file import DetectorFile, hashed, read_detector
from embedsearch.errors import EnricherError
from embedsearch.records import Detection, EnricherInfo
from embedsearch.settings import Device

WEIGHTS = Path(__file__).parents[1] / "weights"
_ERRORS_ONLY = 3
_SLUG = re.compile(r"[^a-z0-9_.-]+")


def load(spec: str, device: Device) -> OnnxDetector:
    """Load ``yolox``, ``yolo:FOLDER`` or ``yolo:MODEL.onnx``, each with ``?threshold=0.2`` and
    ``?about=FILE.json`` where wanted.

    Raises :class:`~embedsearch.errors.EnricherError`.
    """
    named, _, asked = spec.partition("?")
    options = dict(parse_qsl(asked, keep_blank_values=True))
    if set(options) - {"threshold", "about"}:
        raise EnricherError(f"{spec!r}: after the ? may stand threshold=0.2 and about=FILE.json.")
    prefix, colon, where = named.partition(":")
    path = Path(where).expanduser() if colon else WEIGHTS / prefix
    if not path.exists():
        raise EnricherError(f"{path}: there is no such detector, folder or file ({spec!r}).")
    about = Path(options["about"]).expanduser() if "about" in options else None
    file = read_detector(path, about)
    if "threshold" in options:
        try:
            file = replace(file, threshold=float(options["threshold"]))
        except ValueError as error:
            raise EnricherError(f"{spec!r}: the threshold is no number.") from error
    return OnnxDetector(
        file, spec if not colon else f"{prefix}:{path.absolute()}{spec[len(named) :]}"
    )


class OnnxDetector:
    """One picture at a time, on one thread; any number of threads may call it."""

    def __init__(self, file: DetectorFile, spec: str, threads: int = 1) -> None:
        """Hash the weights; they are loaded with the first picture."""
        self._file = file
        self._threads = threads
        self._loading = threading.Lock()
        self._loaded: _Loaded | None = None
        weights = hashed(file.path)
        digest = hashlib.sha256((weights + file.settings).encode()).hexdigest()
        slug = _SLUG.sub("-", file.name.lower()) or "yolo"
        self._info = EnricherInfo(
            id=f"{slug}-{digest[:12]}",
            spec=spec,
            stage="detect",
            licence=file.licence,
            weights_hash=weights,
            look=max(file.input.size, default=0) or max(self._network().size),
            labels=file.labels,
            description=file.description,
        )

    @property
    def info(self) -> EnricherInfo:
        return self._info

    @property
    def weight_bytes(self) -> int:
        return self._file.path.stat().st_size

    def enrich(self, picture: Pixels) -> Findings:
        return Findings(objects=self.detect(picture, self._file.threshold))

    def detect(self, picture: Pixels, threshold: float) -> tuple[Detection, ...]:
        """Objects with at least this score, the best first."""
        network = self._network()
        entered, scale, shift = entering(picture, network.size, self._file)
        given = network.run(entered)
        boxes, scores, labels = read_output(
            given, self._file.output, len(self._file.labels), network.size
        )
        with np.errstate(invalid="ignore"):
            usable = np.isfinite(boxes).all(1) & np.isfinite(scores)
        boxes = (boxes - np.concatenate([shift, (0, 0)])) / np.concatenate([scale, scale])
        kept = best_boxes(
            boxes[usable],
            scores[usable],
            labels[usable],
            threshold=threshold,
            overlap=1.0 if self._file.output.end_to_end else self._file.nms,
            most=self._file.most,
        )
        found = [
            self._detection(boxes[usable][at], scores[usable][at], labels[usable][at], picture)
            for at in kept
        ]
        return tuple(each for each in found if each is not None)

    def _detection(
        self, box: NDArray[Any], score: float, label: int, picture: Pixels
    ) -> Detection | None:
        height, width = picture.shape[:2]
        left, right = np.clip((box[0], box[0] + box[2]), 0, width)
        top, bottom = np.clip((box[1], box[1] + box[3]), 0, height)
        if right - left < 1 or bottom - top < 1 or not 0 <= label < len(self._file.labels):
            return None
        inside = (float(left), float(top), float(right - left), float(bottom - top))
        return Detection(self._file.labels[label], float(min(max(score, 0.0), 1.0)), inside)

    def _network(self) -> _Loaded:
        with self._loading:
            if self._loaded is None:
                self._loaded = _open(self._file, self._threads)
            return self._loaded


@dataclass(frozen=True, slots=True)
class _Loaded:
    session: Any
    name: str
    size: tuple[int, int]
    kind: str
    """Number type of the input."""

    def run(self, entered: NDArray[np.float32]) -> NDArray[np.float32]:
        """From (height, width, 3), normalised and in the model's layout, to the rows of one
        picture."""
        if self.kind == "tensor(uint8)":
            entering: NDArray[Any] = np.rint(entered).clip(0, 255).astype(np.uint8)
        else:
            entering = entered.astype(np.float16 if self.kind == "tensor(float16)" else np.float32)
        given = self.session.run(None, {self.name: entering[None]})[0]
        rows: NDArray[np.float32] = given[0].astype(np.float32)
        return rows


def entering(
    picture: Pixels, size: tuple[int, int], file: DetectorFile
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """A picture as the network takes it, and how it lies there: a point (x, y) of the picture is at
    (x, y) * scale + shift.

    ``size`` is the input's height and width; the result has the layout of ``file.input``.
    """
    import cv2

    told = file.input
    height, width = picture.shape[:2]
    scale = np.array([size[1] / width, size[0] / height])
    if told.place != "squash":
        scale[:] = scale.min()
    inner = (
        max(1, min(size[1], round(width * scale[0]))),
        max(1, min(size[0], round(height * scale[1]))),
    )
    # Where many pixels become one, all of them must count.
    way = cv2.INTER_AREA if scale.max() < 0.5 else cv2.INTER_LINEAR
    resized = cv2.resize(picture, inner, interpolation=way)
    shift = np.zeros(2)
    if told.place == "middle":
        shift[:] = (size[1] - inner[0]) // 2, (size[0] - inner[1]) // 2
    canvas = np.full((*size, 3), told.pad, np.uint8)
    left, top = shift.astype(int)
    canvas[top : top + inner[1], left : left + inner[0]] = resized
    if told.colour == "bgr":
        canvas = canvas[:, :, ::-1]
    real: NDArray[Any] = canvas.astype(np.float32)
    if any(told.mean) or set(told.std) != {1.0}:
        real = (real - np.array(told.mean, np.float32)) / np.array(told.std, np.float32)
    if told.layout == "nchw":
        real = real.transpose(2, 0, 1)
    return np.ascontiguousarray(real), scale, shift


def _open(file: DetectorFile, threads: int) -> _Loaded:
    """Load the model. Raises :class:`~embedsearch.errors.EnricherError`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(
            str(file.path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # the library raises types of its own for whatever is wrong
        raise EnricherError(f"{file.path}: cannot be loaded as an ONNX model ({error}).") from error
    taken = session.get_inputs()[0]
    sides = taken.shape[2:] if file.input.layout == "nchw" else taken.shape[1:3]
    channels = taken.shape[1] if file.input.layout == "nchw" else taken.shape[-1]
    if len(taken.shape) != 4 or (isinstance(channels, int) and channels != 3):
        raise EnricherError(
            f"{file.path}: takes {taken.shape}, which is not {file.input.layout} with 3 channels."
        )
    told = file.input.size * 2 if len(file.input.size) == 1 else file.input.size
    size = tuple(
        side if isinstance(side, int) else (told[place] if len(told) == 2 else 0)
        for place, side in enumerate(sides)
    )
    if min(size) < 1:
        raise EnricherError(f"{file.path}: leaves the size of its input open; name input.size.")
    return _Loaded(session, taken.name, (size[0], size[1]), taken.type)
