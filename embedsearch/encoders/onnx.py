"""An encoder folder on ONNX Runtime: the encoder in the box, and what training writes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedsearch.encoders.base import Embeddings, Pixels
from embedsearch.encoders.folder import EncoderFolder, read_folder, read_listed, verify_files
from embedsearch.encoders.hubs import Hubs, open_hubs, rows_of_texts
from embedsearch.encoders.preprocess import to_square
from embedsearch.encoders.text import TextTower
from embedsearch.errors import EncoderError
from embedsearch.records import EncoderInfo

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["IMAGE", "OnnxEncoder", "verify_files"]

IMAGE = "image.onnx"
"""The image tower: uint8 (N, size, size, 3) to float32 (N, dim), normalisation in the graph."""
_ERRORS_ONLY = 3


class OnnxEncoder:
    """Image tower on ONNX Runtime, text tower in numpy; each is loaded when first needed.

    One object may be shared by any number of threads: a picture runs on ``threads`` of its own.
    """

    def __init__(self, folder: Path, *, spec: str, threads: int = 1) -> None:
        """Read ``encoder.json``; no weight is touched yet.

        ``spec`` is what the user wrote to get this encoder. Raises
        :class:`~embedsearch.errors.EncoderError` naming the file that is missing or wrong.
        """
        if threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        self.folder = folder
        self._threads = threads
        self._about = read_folder(folder)
        self._info = self._about.info(spec)
        self._loading = threading.Lock()
        self._session: InferenceSession | None = None
        self._texts: TextTower | None = None
        self._hubs: Hubs | None = None

    @property
    def info(self) -> EncoderInfo:
        return self._info

    @property
    def weight_bytes(self) -> int:
        """Size of the weight files. Raises :class:`OSError` where one is missing."""
        return sum((self.folder / name).stat().st_size for name in self._about.hashes)

    @property
    def runs_on(self) -> str:
        return "CPU"

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        """Embed pictures, uint8 (H, W, 3) of any sizes: float32 (len(images), dim), unit rows.

        They run one by one: on a CPU a larger batch is no faster, needs more memory, and would
        let the neighbours change the last bits.
        """
        session = self._image_session()
        about = self._about
        vectors = np.empty((len(images), about.dim), np.float32)
        for place, image in enumerate(images):
            square = to_square(image, about.input_size, about.resize, about.interpolation)
            vector = session.run(None, {session.get_inputs()[0].name: square[None]})[0][0]
            length = np.linalg.norm(vector)
            if not 0 < length < np.inf:
                raise ValueError(f"the image tower gave a vector of length {length}")
            vectors[place] = vector / length
        return vectors if self._hubs is None else self._hubs.pictures(vectors)

    def without_hubs(self) -> OnnxEncoder:
        """The same towers, whose rows are theirs alone."""
        return self if self._about.hub_mean is None else _TowersAlone(self)

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed English texts: float32 (len(texts), dim), unit rows.

        Raises :class:`~embedsearch.errors.EncoderError` where there is no text tower, and
        :class:`~embedsearch.errors.QueryError` for a text without any word it knows.
        """
        tower = self._text_tower()
        if self._about.hub_mean is None:
            return tower.encode(texts)
        return rows_of_texts(*tower.encode_counted(texts))

    def _image_session(self) -> InferenceSession:
        with self._loading:
            if self._session is None:
                session = _open_session(self._about, self._threads)
                self._hubs = open_hubs(self._about)
                self._session = session
            return self._session

    def _text_tower(self) -> TextTower:
        if not self._info.has_text:
            raise EncoderError(f"{self._info.spec} has no text tower; search with --image.")
        with self._loading:
            if self._texts is None:
                self._texts = TextTower(self.folder, self._about.dim)
            return self._texts


class _TowersAlone(OnnxEncoder):
    """The towers of another encoder, loaded once for both."""

    def __init__(self, whole: OnnxEncoder) -> None:
        # Nothing is read again: every query by words asks for the towers.
        vars(self).update(vars(whole))
        self._about = replace(whole._about, hub_mean=None)
        self._info = replace(whole.info, dim=self._about.dim)
        self._hubs, self._whole = None, whole

    def _image_session(self) -> InferenceSession:
        return self._whole._image_session()

    def _text_tower(self) -> TextTower:
        return self._whole._text_tower()


def _open_session(about: EncoderFolder, threads: int) -> InferenceSession:
    """Check and load the image tower. Raises :class:`~embedsearch.errors.EncoderError`."""
    import onnxruntime

    path, model = about.path / IMAGE, read_listed(about, IMAGE)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises half a dozen unrelated types
        raise EncoderError(f"{path}: ONNX Runtime cannot load it ({error}).") from error
    _check_signature(session, about)
    return session


def _check_signature(session: Any, about: EncoderFolder) -> None:
    """The tower must take and give what ``encoder.json`` says."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    takes = [(item.type, item.shape[1:]) for item in inputs]
    gives = [(item.type, item.shape[1:]) for item in outputs]
    if takes != [("tensor(uint8)", [about.input_size, about.input_size, 3])] or gives != [
        ("tensor(float)", [about.dim])
    ]:
        raise EncoderError(
            f"{about.path / IMAGE}: takes {takes} and gives {gives}, expected uint8 "
            f"(N, {about.input_size}, {about.input_size}, 3) and float32 (N, {about.dim})."
        )
