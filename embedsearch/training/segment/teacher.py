"""What a teacher says of each photo, asked once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.semantic import SoftSegmenter
from embedsearch.errors import DataError, PictureError
from embedsearch.images.decode import decode
from embedsearch.images.files import content_hash, read

STEP = 0.1
"""Of the logits that are kept: 8 bits below the likeliest class, which is 0."""
SIDE = 33
"""Rows and columns kept: what networks at a sixteenth of 513 pixels compute."""
_MOST = 255


class TeacherCache:
    """Logits of a teacher by the content of the photo, uint8 (SIDE, SIDE, classes) a file."""

    def __init__(self, teacher: SoftSegmenter, folder: Path) -> None:
        self._teacher = teacher
        self.folder = folder / teacher.info.id
        self.labels = teacher.info.labels
        self._files: dict[Path, Path] = {}

    def fill(self, photos: Sequence[Path], progress: Callable[[int, int], None]) -> list[Path]:
        """Ask the teacher about every photo that it was not asked about; gives those that can be
        read. It may be broken off at any time and goes on from there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        read_ = []
        for done, photo in enumerate(photos, 1):
            try:
                file = read(photo)
                kept = self.folder / f"{content_hash(file)}.npy"
                if not kept.exists():
                    pixels = decode(file, self._teacher.info.look).pixels
                    self._keep(kept, self._teacher.class_logits(pixels, SIDE))
            except PictureError:
                continue
            self._files[photo] = kept
            read_.append(photo)
            progress(done, len(photos))
        return read_

    def knows(self, photo: Path) -> bool:
        """Whether it was asked about a photo."""
        return photo in self._files

    def logits(self, photo: Path) -> NDArray[np.float32]:
        """What was said of a photo: float32 (SIDE, SIDE, classes), the likeliest class 0.

        Raises :class:`~embedsearch.errors.DataError` where the file was damaged since.
        """
        path = self._files[photo]
        try:
            told = np.load(path)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: cannot be read ({error}); delete it and resume") from error
        logits: NDArray[np.float32] = told.astype(np.float32) * np.float32(-STEP)
        return logits

    def _keep(self, path: Path, logits: NDArray[np.float32]) -> None:
        below = (logits.max(-1, keepdims=True) - logits) / STEP
        partial = path.with_suffix(".partial")
        with partial.open("wb") as stream:
            np.save(stream, np.clip(np.rint(below), 0, _MOST).astype(np.uint8))
        partial.replace(path)
