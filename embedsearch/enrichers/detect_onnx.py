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
from embedsearch.enrichers.detect_yolo import objects_in
from embedsearch.enrichers.detector_file import DetectorFile, hashed, read_detector
from embedsearch.errors import EnricherError
from embedsearch.records import Detection, EnricherInfo
from embedsearch.settings import Device

WEIGHTS = Path(__file__).parents[1] / "weights"
_ERRORS_ONLY = 3
_SLUG = re.compile(r"[^a-z0-9_.-]+")


def load(spec: str, device: Device) -> OnnxDetector:
    """Load ``yolox``, ``yolo:FOLDER``, ``yolo:MODEL.onnx``, or a folder that was trained; each with
    ``?threshold=0.2`` and ``?about=FILE.json`` where wanted.

    Raises :class:`~embedsearch.errors.EnricherError`.
    """
    named, _, options = spec.partition("?")
    prefix, colon, where = named.partition(":")
    # The spec that leads to the same detector from any working folder.
    if colon:
        named = f"{prefix}:{Path(where).expanduser().absolute()}"
    elif not (WEIGHTS / named).is_dir():
        named = str(Path(named).expanduser().absolute())
    return OnnxDetector(detector_file(spec), f"{named}?{options}" if options else named)


def detector_file(spec: str) -> DetectorFile:
    """What is told of the detector that ``spec`` names, as for :func:`load`."""
    named, _, asked = spec.partition("?")
    options = dict(parse_qsl(asked, keep_blank_values=True))
    if set(options) - {"threshold", "about"}:
        raise EnricherError(f"{spec!r}: after the ? may stand threshold=0.2 and about=FILE.json.")
    colon, where = named.partition(":")[1:]
    path = Path(where if colon else named).expanduser()
    if not colon and (WEIGHTS / named).is_dir():
        path = WEIGHTS / named
    if not path.exists():
        raise EnricherError(f"{path}: there is no such detector, folder or file ({spec!r}).")
    about = Path(options["about"]).expanduser() if "about" in options else None
    file = read_detector(path, about)
    if "threshold" in options:
        try:
            file = replace(file, threshold=float(options["threshold"]))
        except ValueError as error:
            raise EnricherError(f"{spec!r}: the threshold is no number.") from error
    return file


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
        return objects_in(picture, self._file, self._network(), threshold)

    def _network(self) -> _Loaded:
        with self._loading:
            if self._loaded is None:
                self._loaded = _open(self._file, self._threads)
            return self._loaded


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A :class:`~embedsearch.enrichers.detect_yolo.Network` on ONNX Runtime."""

    session: Any
    name: str
    size: tuple[int, int]
    kind: str
    """Number type of the input."""

    def run(self, entered: NDArray[Any]) -> NDArray[np.float32]:
        if self.kind == "tensor(uint8)":
            if entered.dtype != np.uint8:
                entered = np.rint(entered).clip(0, 255).astype(np.uint8)
        else:
            entered = entered.astype(np.float16 if self.kind == "tensor(float16)" else np.float32)
        given = self.session.run(None, {self.name: entered[None]})[0]
        rows: NDArray[np.float32] = given[0].astype(np.float32, copy=False)
        return rows


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
