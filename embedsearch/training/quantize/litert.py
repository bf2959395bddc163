"""From an ONNX image tower to LiteRT (``.tflite``), for phones and small boards.

``litert-torch`` converts what PyTorch can export; the tower gets there as the module that
:mod:`embedsearch.training.quantize.simulate` makes of its graph. Pixels enter as bytes and the
embedding comes out, as in ONNX.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from onnx import ModelProto
from torch import Tensor, nn

from embedsearch.errors import EncoderError, MissingExtraError
from embedsearch.training.quantize.simulate import OnnxModule

TOLERANCE = 0.999
"""Cosine to the ONNX tower that a conversion must reach."""


def to_litert(model: ModelProto, size: int) -> bytes:
    """A float32 ONNX tower of pictures (size, size, 3) as a LiteRT file, for one picture at a time.

    Raises :class:`~embedsearch.errors.MissingExtraError` without ``litert-torch``, and
    :class:`~embedsearch.errors.EncoderError` where it cannot convert the tower.
    """
    convert = _converter()
    example = torch.zeros((1, size, size, 3), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder, "image.tflite")
        try:
            convert(_Frozen(model).eval(), (example,)).export(str(path))
        except Exception as error:  # the library raises nearly every type there is
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise EncoderError(f"litert-torch cannot convert the image tower ({first})") from error
        return path.read_bytes()


class _Frozen(nn.Module):
    """The tower without anything to train."""

    def __init__(self, model: ModelProto) -> None:
        super().__init__()
        self.tower = OnnxModule(model).requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.tower.run(pixels)


def _converter() -> Any:
    try:
        import litert_torch
    except ImportError as error:
        raise MissingExtraError("Writing LiteRT files", "litert") from error
    return litert_torch.convert


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The converter tells each of its steps on stdout."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
