"""A segmenter folder on ONNX Runtime: the one in the box, and what ``finetune --task segment``
writes."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.base import Findings, Pixels
from embedsearch.enrichers.segmenter_file import SegmenterFile, read_segmenter
from embedsearch.enrichers.semantic import LabelMap, enlarged, parts
from embedsearch.enrichers.square import fitted
from embedsearch.errors import EnricherError
from embedsearch.records import EnricherInfo
from embedsearch.settings import Device

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_BOX = Path(__file__).parent.parent / "weights"
_ERRORS_ONLY = 3
_BYTE = 255


def load(spec: str, device: Device) -> OnnxSegmenter:
    """Load the segmenter in the box of that name, or the folder.

    Raises :class:`~embedsearch.errors.EnricherError`.
    """
    if device == "cuda":
        raise EnricherError(f"{spec} runs on a CPU; use --device cpu.")
    boxed = _BOX / spec
    folder = boxed if spec.isidentifier() and boxed.is_dir() else Path(spec).expanduser().absolute()
    return OnnxSegmenter(folder, spec if folder == boxed else str(folder))


class OnnxSegmenter:
    """One object may be shared by any number of threads; each picture runs on one."""

    def __init__(self, folder: Path, spec: str) -> None:
        """Read ``segmenter.json``; the network is loaded when first needed."""
        self._about = read_segmenter(folder)
        self._loading = threading.Lock()
        self._session: InferenceSession | None = None
        told = hashlib.sha256(f"{self._about.sha256}\n{self._about.settings}".encode())
        self._info = EnricherInfo(
            id=f"{self._about.name}-{told.hexdigest()[:12]}",
            spec=spec,
            stage="segment",
            licence=self._about.licence,
            weights_hash=self._about.sha256,
            look=self._about.size,
            labels=self._about.labels,
            description=self._about.description,
        )

    @property
    def info(self) -> EnricherInfo:
        return self._info

    @property
    def weight_bytes(self) -> int:
        """Size of the network's file. Raises :class:`OSError` where it is missing."""
        return self._about.path.stat().st_size

    def enrich(self, picture: Pixels) -> Findings:
        """The connected parts of each class; the score is the mean probability of the pixels."""
        return parts(self._told(picture), self._info.labels, *picture.shape[:2])

    def label_map(self, picture: Pixels) -> NDArray[np.uint8]:
        return enlarged(self._told(picture).classes, *picture.shape[:2])

    def _told(self, picture: Pixels) -> LabelMap:
        session = self._opened()
        square = fitted(picture, self._about.size, self._about.fit)
        name = session.get_inputs()[0].name
        classes, confidence = session.run(None, {name: square.pixels[None]})
        sure = square.inner(confidence[0]).astype(np.float32) / _BYTE
        return LabelMap(square.inner(classes[0]), sure)

    def _opened(self) -> InferenceSession:
        with self._loading:
            if self._session is None:
                self._session = _open(self._about)
            return self._session


def _open(about: SegmenterFile) -> InferenceSession:
    """Check and load the network. Raises :class:`~embedsearch.errors.EnricherError`."""
    import onnxruntime

    try:
        model = about.path.read_bytes()
    except OSError as error:
        raise EnricherError(f"{about.path}: cannot be read ({error.strerror}).") from error
    if hashlib.sha256(model).hexdigest() != about.sha256:
        raise EnricherError(
            f"{about.path}: is not the file that its description is of; get the folder anew."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises half a dozen unrelated types
        raise EnricherError(f"{about.path}: ONNX Runtime cannot load it ({error}).") from error
    takes = [(each.type, each.shape) for each in session.get_inputs()]
    gives = [(each.type, len(each.shape)) for each in session.get_outputs()]
    wanted = [("tensor(uint8)", [1, about.size, about.size, 3])]
    if takes != wanted or gives != [("tensor(uint8)", 3)] * 2:
        raise EnricherError(
            f"{about.path}: takes {takes} and gives {gives}, expected uint8 (1, {about.size}, "
            f"{about.size}, 3) and two maps of uint8."
        )
    return session
