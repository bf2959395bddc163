"""The teacher: any encoder, or several, asked once for every photo and text; answers are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Embeddings, Encoder, Pixels
from embedsearch.errors import DataError
from embedsearch.settings import workers
from embedsearch.training.data.pixels import load_pixels

Progress = Callable[[str, int, int], None]
VIEWS = {
    "plain": "the photo as it is",
    "mirror": "its mirror image",
    "crops": "its middle and its four corners, 80 % of each side",
}
_CROP = 0.8
_AT_ONCE = 32
_TEXTS_AT_ONCE = 256


def views_of(pixels: Pixels, names: Sequence[str]) -> list[Pixels]:
    """The views of a photo, uint8 (H, W, 3) each. Names are keys of :data:`VIEWS`.

    Raises :class:`~embedsearch.errors.DataError`.
    """
    found: list[Pixels] = []
    for name in names:
        if name == "plain":
            found.append(pixels)
        elif name == "mirror":
            found.append(np.ascontiguousarray(pixels[:, ::-1]))
        elif name == "crops":
            found += _crops(pixels)
        else:
            raise DataError(f"there is no view {name!r}; there are {', '.join(VIEWS)}")
    if not found:
        raise DataError(f"name the views a teacher has of a photo: {', '.join(VIEWS)}")
    return found


def teach_photos(
    teacher: Encoder,
    files: Sequence[Path],
    views: Sequence[str],
    *,
    cache: Path,
    threads: int | None = None,
    progress: Progress = lambda what, done, total: None,
) -> NDArray[np.float16]:
    """What the teacher makes of each photo: the mean over its views, float16 (N, dim), unit rows.

    On ``threads`` threads, else one a core: some photos are read while others are looked at.
    Kept in the folder ``cache`` under a name made of all it depends on.
    """
    if not files:
        return np.zeros((0, teacher.info.dim), np.float16)
    told = [f"{file} {file.stat().st_size if file.exists() else None}" for file in files]
    return _kept(
        cache,
        "photos",
        [teacher.info.id, *views, *told],
        lambda: _see(teacher, files, views, workers(threads), progress),
    )


def teach_looks(
    teacher: Encoder,
    looks: NDArray[np.uint8],
    *,
    name: str,
    cache: Path,
    threads: int | None = None,
    progress: Progress = lambda what, done, total: None,
) -> NDArray[np.float16]:
    """What the teacher makes of each kept look, uint8 (N, looks, size, size, 3): float16
    (N, looks, dim), unit rows. ``name`` says which looks these are; ``threads`` and what is kept
    are as for photos."""
    photos, views = looks.shape[:2]

    def see(group: range) -> Embeddings:
        some = looks[group.start : group.stop]
        return teacher.encode_images(list(some.reshape(-1, *some.shape[2:])))

    def ask() -> Embeddings:
        rows = in_groups(photos, see, workers(threads), progress)
        return np.concatenate(rows).reshape(photos, views, -1)

    return _kept(cache, "looks", [teacher.info.id, name], ask)


def teach_texts(
    encode: Callable[[Sequence[str]], Embeddings],
    name: str,
    texts: Sequence[str],
    *,
    cache: Path,
    progress: Progress = lambda what, done, total: None,
) -> NDArray[np.float16]:
    """What a text tower makes of each text, float16 (N, dim), unit rows. ``name`` says which tower
    it is; kept like photos."""

    def read() -> Embeddings:
        rows = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            progress("teaching texts", start, len(texts))
            rows.append(encode(list(texts[start : start + _TEXTS_AT_ONCE])))
        return np.concatenate(rows)

    return _kept(cache, "texts", [name, *texts], read)


def _see(
    teacher: Encoder, files: Sequence[Path], views: Sequence[str], threads: int, progress: Progress
) -> Embeddings:
    def ask(places: range) -> Embeddings:
        size = teacher.info.input_size
        seen = [views_of(load_pixels(files[place], size), views) for place in places]
        flat = teacher.encode_images([view for photo in seen for view in photo])
        means: Embeddings = flat.reshape(len(places), -1, flat.shape[1]).mean(1)
        return means

    found = np.concatenate(in_groups(len(files), ask, threads, progress))
    unit: Embeddings = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return unit


def in_groups(
    count: int,
    ask: Callable[[range], Embeddings],
    threads: int,
    progress: Progress = lambda what, done, total: None,
    at_once: int = _AT_ONCE,
) -> list[Embeddings]:
    """What ``ask`` says of each group of ``at_once`` of ``count`` photos, in order."""
    rows = []
    groups = [range(n, min(n + at_once, count)) for n in range(0, count, at_once)]
    with ThreadPoolExecutor(threads) as pool:  # an encoder may be called from several threads
        for group, said in zip(groups, pool.map(ask, groups), strict=True):
            rows.append(said)
            progress("asking the teacher", group.stop, count)
    return rows


def _kept(
    cache: Path, what: str, depends_on: Sequence[str], make: Callable[[], Embeddings]
) -> NDArray[np.float16]:
    """Rows from the cache, or made and put there whole or not at all."""
    name = hashlib.sha256("\n".join(depends_on).encode("utf-8", "surrogateescape")).hexdigest()
    file = cache / f"teacher-{what}-{name[:16]}.npy"
    if not file.is_file():
        rows = make().astype(np.float16)
        cache.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial.npy")
        np.save(partial, rows)
        partial.replace(file)
    found: NDArray[np.float16] = np.load(file)
    return found


def _crops(pixels: Pixels) -> list[Pixels]:
    height, width = pixels.shape[:2]
    down, across = max(1, round(height * _CROP)), max(1, round(width * _CROP))
    lower, right = height - down, width - across
    corners = [(0, 0), (0, right), (lower, 0), (lower, right), (lower // 2, right // 2)]
    return [
        np.ascontiguousarray(pixels[top : top + down, left : left + across])
        for top, left in corners
    ]
