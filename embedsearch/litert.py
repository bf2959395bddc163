"""A LiteRT (TensorFlow Lite) file that takes one picture as bytes and gives one tensor: what
encoders and segmenters have in common that run such files."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import EmbedSearchError, MissingExtraError

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

PREFIX = "litert"
"""What stands before the file in a spec, and the extra that it needs."""
_PICTURE = 4
"""Dimensions of what is taken."""
Tensor = dict[str, Any]
"""What LiteRT tells of one: ``index``, ``shape``, ``dtype``, ``quantization``."""


class LiteRTModel:
    """One picture at a time; several threads wait for each other."""

    def __init__(
        self,
        file: Path,
        threads: int,
        *,
        dimensions: Collection[int],
        expected: str,
        error: type[EmbedSearchError],
    ) -> None:
        """What the file gives must have one of these ``dimensions``; ``expected`` says so to
        people.

        Raises ``error`` where the file cannot be read or is not such a one, and
        :class:`~embedsearch.errors.MissingExtraError` without ``ai-edge-litert``.
        """
        self._running = threading.Lock()
        try:
            content = file.read_bytes()
        except OSError as reason:
            raise error(f"{file}: cannot be read ({reason.strerror}).") from reason
        self.weights_hash = hashlib.sha256(content).hexdigest()
        self.interpreter = _open(file, content, threads, error)
        takes, gives = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        shape = list(takes[0]["shape"])
        if (
            (len(takes), len(gives)) != (1, 1)
            or takes[0]["dtype"] != np.uint8
            or len(shape) != _PICTURE
            or (shape[0], shape[1], shape[3]) != (1, shape[2], 3)
            or len(gives[0]["shape"]) not in dimensions
        ):
            shapes = [(item["dtype"].__name__, item["shape"].tolist()) for item in (*takes, *gives)]
            raise error(
                f"{file}: takes and gives {shapes}, expected uint8 [1, size, size, 3] and "
                f"{expected}."
            )
        self._takes: Tensor = takes[0]
        self.gives: Tensor = gives[0]

    @property
    def size(self) -> int:
        """Side of the square that it takes."""
        return int(self._takes["shape"][1])

    def run(self, square: NDArray[np.uint8], wanted: Tensor | None = None) -> NDArray[Any]:
        """A tensor, by default the one that is given, of a picture, uint8 (size, size, 3): as it is
        stored, without the first dimension."""
        with self._running:
            self.interpreter.set_tensor(self._takes["index"], square[None])
            self.interpreter.invoke()
            given: NDArray[Any] = self.interpreter.get_tensor((wanted or self.gives)["index"])[0]
        return given


def real(values: NDArray[Any], tensor: Tensor) -> NDArray[np.float32]:
    """What a tensor means where it holds integers on a scale."""
    scale, zero = tensor["quantization"]
    floats: NDArray[np.float32] = values.astype(np.float32)
    return (floats - zero) * np.float32(scale) if scale else floats


def _open(file: Path, content: bytes, threads: int, error: type[EmbedSearchError]) -> Interpreter:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as missing:
        raise MissingExtraError("litert:FILE", PREFIX) from missing
    try:
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as reason:
        raise error(f"{file}: LiteRT cannot load it ({reason}).") from reason
    return interpreter
