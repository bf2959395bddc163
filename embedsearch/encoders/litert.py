"""``litert:FILE``: an image tower on LiteRT (TensorFlow Lite), as phones and small boards run it.

An ``encoder.json`` beside it that lists the file says how pictures are prepared, and whether a text
tower stands there too. Of a file without one, pictures are squashed to the square. All must take
bytes, uint8 (1, size, size, 3), as quantised models do.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from embedsearch.encoders.base import Embeddings, Pixels
from embedsearch.encoders.folder import (
    DESCRIPTION,
    EncoderFolder,
    check_bytes,
    read_folder,
)
from embedsearch.encoders.folder import LITERT_IMAGE as IMAGE
from embedsearch.encoders.hubs import open_hubs, rows_of_texts
from embedsearch.encoders.preprocess import to_square
from embedsearch.encoders.text import TextTower
from embedsearch.errors import EncoderError
from embedsearch.litert import PREFIX, LiteRTModel, real
from embedsearch.records import EncoderInfo
from embedsearch.settings import Device, workers


def load(spec: str, device: Device) -> LiteRTEncoder:
    """Load ``litert:FILE``, or ``litert:FOLDER`` that holds ``image.tflite``.

    Raises :class:`~embedsearch.errors.EncoderError` and, without ``ai-edge-litert``,
    :class:`~embedsearch.errors.MissingExtraError`.
    """
    if device == "cuda":
        raise EncoderError(f"{spec} runs on a CPU; use --device cpu.")
    named = Path(os.path.abspath(os.path.expanduser(spec.partition(":")[2])))
    file = named / IMAGE if named.is_dir() else named
    if not file.is_file():
        raise EncoderError(
            f"{file}: there is no such LiteRT file ({spec!r} names it). Write one: embedsearch "
            "quantize ENCODER --format litert --photos FOLDER --out FOLDER"
        )
    return LiteRTEncoder(file, spec=f"{PREFIX}:{file}")


class LiteRTEncoder:
    """Image tower on LiteRT, one picture and one thread at a time; text tower in numpy.

    One object may be shared by any number of threads; pictures wait for each other.
    """

    def __init__(self, file: Path, *, spec: str) -> None:
        """Read the file and what stands beside it. ``spec`` is what leads to this encoder.

        Raises :class:`~embedsearch.errors.EncoderError` naming what is wrong.
        """
        self._file = file
        self._model = _load(file, workers())
        described = _description(file)
        self._about = described or _undescribed(file, self._model)
        if described is not None:
            if file.name == IMAGE:  # an index can keep the folder, and load it as one
                self.folder = file.parent
            _check(described, self._model, file)
        self._info = self._about.info(spec)
        self._texts = TextTower(file.parent, self._about.dim) if self._info.has_text else None
        self._hubs = open_hubs(self._about)

    @property
    def info(self) -> EncoderInfo:
        return self._info

    def without_hubs(self) -> LiteRTEncoder:
        """The same towers, whose rows are theirs alone."""
        alone = copy.copy(self)
        alone._about, alone._hubs = replace(self._about, hub_mean=None), None
        alone._info = replace(self._info, dim=self._about.dim)
        return alone

    @property
    def weight_bytes(self) -> int:
        """Size of the weight files. Raises :class:`OSError` where one is missing."""
        return sum((self._file.parent / name).stat().st_size for name in self._about.hashes)

    @property
    def runs_on(self) -> str:
        return "CPU"

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        """Embed pictures, uint8 (H, W, 3) of any sizes: float32 (len(images), dim), unit rows."""
        about = self._about
        rows = np.empty((len(images), about.dim), np.float32)
        for place, image in enumerate(images):
            square = to_square(image, about.input_size, about.resize, about.interpolation)
            row = real(self._model.run(square), self._model.gives)
            length = np.linalg.norm(row)
            if not 0 < length < np.inf:
                raise ValueError(f"the image tower gave a vector of length {length}")
            rows[place] = row / length
        return rows if self._hubs is None else self._hubs.pictures(rows)

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed English texts: float32 (len(texts), dim), unit rows.

        Raises :class:`~embedsearch.errors.EncoderError` where there is no text tower, and
        :class:`~embedsearch.errors.QueryError` for a text without any word it knows.
        """
        if self._texts is None:
            raise EncoderError(f"{self._info.spec} has no text tower; search with --image.")
        if self._hubs is None:
            return self._texts.encode(texts)
        return rows_of_texts(*self._texts.encode_counted(texts))


def litert_runner(file: Path, threads: int, square: Pixels) -> Callable[[], object]:
    """What encodes one picture of the right size on so many threads, for those who time it."""
    model = _load(file, threads)
    return lambda: model.run(square)


def _load(file: Path, threads: int) -> LiteRTModel:
    return LiteRTModel(file, threads, dimensions=(2,), expected="[1, dim]", error=EncoderError)


def _description(file: Path) -> EncoderFolder | None:
    """The ``encoder.json`` beside a file, if it is about that file."""
    try:
        about = read_folder(file.parent) if (file.parent / DESCRIPTION).is_file() else None
    except EncoderError:
        return None  # of another kind of encoder
    if about is None or file.name not in about.hashes:
        return None
    check_bytes(file, file.read_bytes(), about.hashes[file.name])
    return about


def _undescribed(file: Path, model: LiteRTModel) -> EncoderFolder:
    """What can be known of a file that stands alone."""
    stem = "".join(sign if sign.isalnum() else "-" for sign in file.stem.lower())
    return EncoderFolder(
        path=file.parent,
        name=f"{PREFIX}-{stem.strip('-') or 'model'}",
        licence="see where the file is from",
        description=f"LiteRT {file.name}",
        dim=int(model.gives["shape"][1]),
        input_size=model.size,
        resize="squash",
        interpolation="bicubic",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        pooling="the model's own",
        has_text=False,
        hashes={file.name: model.weights_hash},
    )


def _check(about: EncoderFolder, model: LiteRTModel, file: Path) -> None:
    size, dim = model.size, int(model.gives["shape"][1])
    if (size, dim) != (about.input_size, about.dim):
        raise EncoderError(
            f"{file}: takes pictures of {size} pixels and gives {dim} numbers, but {DESCRIPTION} "
            f"says {about.input_size} and {about.dim}."
        )
