"""Training photos, and the texts that go with them: their captions, or captions made of labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embedsearch.errors import DataError

TEMPLATES = (
    "a photo of a {}",
    "a photo of a {}",
    "a photo of the {}",
    "a picture of a {}",
    "a {}",
    "the {}",
    "{}",
)
"""What a label's name is put into. The first stands twice: it is how people, and the benchmark,
ask most often; the bare name is how they type."""
_FIRST_NAME_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Photo:
    """One training photo. It has captions, or names of what it shows, or both."""

    file: Path
    source: str
    names: tuple[str, ...]
    """Names of its label, the usual one first."""
    captions: tuple[str, ...]

    @property
    def label(self) -> str | None:
        """What photos of the same thing share; ``None`` for a photo that is like no other."""
        return None if self.captions or not self.names else self.names[0].casefold()


def read_photos(path: Path) -> list[Photo]:
    """Read JSON lines with ``file`` (relative to ``path``), ``source``, ``label``, ``captions``.

    Raises :class:`~embedsearch.errors.DataError` naming the file and the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    photos = []
    for number, line in enumerate(lines, 1):
        try:
            photos.append(parse_photo(path.parent, json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}, line {number}: not a training photo ({error})") from error
    if not photos:
        raise DataError(f"{path}: holds no photo")
    return photos


def label_names(label: str) -> tuple[str, ...]:
    """The names in a label: parted by commas, underscores read as spaces, the order kept."""
    names = (" ".join(name.replace("_", " ").split()) for name in label.split(","))
    return tuple(name for name in names if name)


def draw_text(photo: Photo, rng: np.random.Generator) -> str:
    """One of the photo's captions; else a template around one of its names, mostly the first."""
    if photo.captions:
        return photo.captions[rng.integers(len(photo.captions))]
    first = rng.random() < _FIRST_NAME_SHARE
    name = photo.names[0 if first else rng.integers(len(photo.names))]
    return TEMPLATES[rng.integers(len(TEMPLATES))].format(name)


def all_texts(photos: Sequence[Photo]) -> list[str]:
    """Every text that :func:`draw_text` can draw, each once."""
    captions = [caption for photo in photos for caption in photo.captions]
    names = [name for photo in photos if not photo.captions for name in photo.names]
    made = [template.format(name) for name in names for template in TEMPLATES]
    return list(dict.fromkeys(captions + made))


def hold_out(photos: Sequence[Photo], count: int, seed: int) -> frozenset[int]:
    """Places of ``count`` captioned photos to choose settings by, and not to train on.

    Raises :class:`~embedsearch.errors.DataError` where no captioned photo would remain.
    """
    captioned = [place for place, photo in enumerate(photos) if photo.captions]
    if count >= len(captioned):
        raise DataError(f"cannot hold out {count} photos: {len(captioned)} have captions")
    return frozenset(np.random.default_rng(seed).permutation(captioned)[:count].tolist())


def parse_photo(folder: Path, told: dict[str, Any]) -> Photo:
    """A photo from one line, its file relative to ``folder``. Raises :class:`ValueError`,
    :class:`KeyError` and the like."""
    names, captions = label_names(told.get("label") or ""), tuple(told.get("captions") or ())
    if not names and not captions:
        raise ValueError("neither label nor captions")
    if not all(isinstance(caption, str) and caption.strip() for caption in captions):
        raise ValueError("a caption is empty or no text")
    return Photo(folder / told["file"], str(told.get("source", "")), names, captions)
