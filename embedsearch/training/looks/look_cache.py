"""Several looks at each photo, drawn once and kept on disk as pixels.

Where all of a network is trained, no activations can be kept; but on a GPU a step takes less time
than decoding and augmenting its photos, and what was drawn once serves every epoch, every teacher
and every run. Drawn in processes, as Python code of one process runs on one core.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Pixels
from embedsearch.training.augment import corruptions, policies, steps
from embedsearch.training.augment.policies import Augmentation
from embedsearch.training.data.pixels import load_pixels
from embedsearch.training.looks.drawing import Looks, plain_look
from embedsearch.training.networks.architecture import Architecture

Progress = Callable[[str, int, int], None]

FORMAT = 1
_SAVE_EVERY = 512
"""What is lost where it is broken off."""
_WORTH_PROCESSES = 20_000
"""From so many looks on; a process takes seconds to start."""
_AT_ONCE = 8


def cache_looks(
    looks: Looks,
    *,
    views: int,
    seed: int,
    folder: Path,
    threads: int = 2,
    progress: Progress = lambda what, done, total: None,
) -> NDArray[np.uint8]:
    """Every photo itself and ``views`` augmented looks at it: uint8 (N, 1 + views, size, size, 3),
    mapped into memory.

    Read from ``folder`` where they are there under the name of all that they depend on; what was
    broken off goes on where it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"looks-{fingerprint(looks, views, seed)}"
    values, done = folder / f"{name}.npy", folder / f"{name}-done.npy"
    size, total = looks.about.size, len(looks.photos)
    if not done.is_file():
        shape = (total, 1 + views, size, size, 3)
        np.lib.format.open_memmap(values, mode="w+", dtype=np.uint8, shape=shape).flush()
        np.save(done, np.int64(0))
    first = int(np.load(done))
    if first < total:
        with _workers(threads, (total - first) * views) as pool:
            for start in range(first, total, _SAVE_EVERY):
                places = range(start, min(start + _SAVE_EVERY, total))
                told = [_order(looks, place, views, seed, values) for place in places]
                for place, _ in zip(places, pool.map(_keep, told, chunksize=_AT_ONCE), strict=True):
                    progress("keeping looks at photos", place + 1, total)
                np.save(done, np.int64(places.stop))
    kept: NDArray[np.uint8] = np.load(values, mmap_mode="r")
    return kept


def look_seed(seed: int, place: int, view: int) -> int:
    """The seed of one look at one photo."""
    return int(np.random.SeedSequence([seed, place, view]).generate_state(1)[0])


def hash_looks(looks: Looks) -> bytes:
    """Of the photos, of how they are looked at, and of the code that draws looks, as the same
    policy drawn by other code is another policy."""
    about = looks.about
    told = hashlib.sha256(f"{looks.augmentation} {about.size} {about.resize}\n".encode())
    told.update(about.interpolation.encode())
    for source in (policies, steps, corruptions):
        told.update(inspect.getsource(source).encode())
    if looks.strengths is not None:
        told.update(looks.strengths.tobytes())
    for photo in looks.photos:
        status = photo.file.stat()
        told.update(f"{photo.file} {status.st_size} {status.st_mtime_ns}\n".encode())
    return told.digest()


def fingerprint(looks: Looks, views: int, seed: int) -> str:
    """16 hex digits of all that the looks depend on."""
    told = hashlib.sha256(f"{FORMAT} {views} {seed}\n".encode() + hash_looks(looks))
    return told.hexdigest()[:16]


_Order = tuple[Path, int, Path, Architecture, Augmentation, float, list[int]]
"""Where to, which row, and the photo, how it is looked at, and the seed of each look."""


def _order(looks: Looks, place: int, views: int, seed: int, values: Path) -> _Order:
    seeds = [look_seed(seed, place, view) for view in range(1, views + 1)]
    about, strength = looks.about, looks.strength(place)
    return values, place, looks.photos[place].file, about, looks.augmentation, strength, seeds


def _keep(order: _Order) -> None:
    """Draw all looks at one photo and write them into their row."""
    values, place, file, about, augmentation, strength, seeds = order
    pixels = load_pixels(file, about.size)
    drawn: list[Pixels] = [augmentation(pixels, seed, strength) for seed in seeds]
    _opened(values)[place] = np.stack([plain_look(file, about), *drawn])


@functools.lru_cache(maxsize=1)
def _opened(values: Path) -> NDArray[np.uint8]:
    opened: NDArray[np.uint8] = np.load(values, mmap_mode="r+")
    return opened


@contextmanager
def _workers(threads: int, count: int) -> Iterator[Executor]:
    if threads < 2 or count < _WORTH_PROCESSES:
        with ThreadPoolExecutor(max(1, threads)) as pool:
            yield pool
        _opened.cache_clear()
        return
    # Not forked: this process has threads, and perhaps a GPU.
    with ProcessPoolExecutor(threads, multiprocessing.get_context("spawn")) as processes:
        yield processes
