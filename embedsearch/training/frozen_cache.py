"""What frozen stages make of several looks at each photo, computed once and kept on disk.

Frozen stages give the same every epoch but for the augmentation. So a few augmented looks are
drawn, run through them, and kept in 8 bits a number; an epoch then begins in the middle of the
network. On disk and mapped into memory, as it may be larger than that.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedsearch.encoders.torch_tower import weights_hash
from embedsearch.training import augment, augment_steps, corruptions
from embedsearch.training.looks import Looks, to_tensor

Progress = Callable[[str, int, int], None]

FORMAT = 1
_LARGEST = 127
_SAMPLED = 128
"""Photos by whose activations the steps of 8 bits are chosen."""
_PERCENTILE = 99.95
"""Of the magnitudes of a channel so many are covered; the few beyond it are cut off, or they would
decide how coarse all others become."""
_AT_ONCE = 16
_SAVE_EVERY = 512


@dataclass(frozen=True)
class FrozenCache:
    """Activations that enter the first trained stage."""

    values: NDArray[np.int8]
    """(N, 1 + views, H, W, channels); look 0 is the photo itself."""
    steps: NDArray[np.float32]
    """(channels,): a number is its int8 times the step of its channel."""

    @property
    def views(self) -> int:
        """How many looks there are, the photo itself among them."""
        return int(self.values.shape[1])

    def batch(self, places: Sequence[int], looks: Sequence[int]) -> Tensor:
        """float32 (N, channels, H, W), channels last in memory."""
        rows = np.stack([self.values[p, v] for p, v in zip(places, looks, strict=True)])
        return (torch.from_numpy(rows).float() * torch.from_numpy(self.steps)).permute(0, 3, 1, 2)


def cache_frozen(
    looks: Looks,
    stage: int,
    *,
    views: int,
    seed: int,
    folder: Path,
    threads: int = 2,
    progress: Progress = lambda what, done, total: None,
) -> FrozenCache:
    """The activations that enter ``stage``, of every photo itself and of ``views`` augmented looks.

    Read from ``folder`` where they are there under the name of all that they depend on; what was
    broken off goes on where it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"frozen-{fingerprint(looks, stage, views, seed)}"
    values, steps, done = (folder / f"{name}{end}" for end in (".npy", "-steps.npy", "-done.npy"))
    if not steps.is_file():
        _start(looks, stage, views, seed, values, steps)
        np.save(done, np.int64(0))
    counted = int(np.load(done))
    if counted < len(looks.photos):
        _fill(looks, stage, views, seed, values, np.load(steps), done, counted, threads, progress)
    return FrozenCache(np.load(values, mmap_mode="r"), np.load(steps))


def fingerprint(looks: Looks, stage: int, views: int, seed: int) -> str:
    """16 hex digits of everything that the activations depend on."""
    told = hashlib.sha256(f"{FORMAT} {stage} {views} {seed} {looks.augmentation}\n".encode())
    about = looks.encoder.about
    told.update(
        f"{about.size} {about.resize} {about.interpolation} {about.mean} {about.std}\n".encode()
    )
    for name, module in looks.encoder.image.stages[:stage]:
        told.update(f"{name} {weights_hash(module)}\n".encode())
    # The same policy drawn by other code is another policy.
    for source in (augment, augment_steps, corruptions):
        told.update(inspect.getsource(source).encode())
    if looks.strengths is not None:
        told.update(looks.strengths.tobytes())
    for photo in looks.photos:
        status = photo.file.stat()
        told.update(f"{photo.file} {status.st_size} {status.st_mtime_ns}\n".encode())
    return told.hexdigest()[:16]


def _start(looks: Looks, stage: int, views: int, seed: int, values: Path, steps: Path) -> None:
    """Choose the steps, and make room on disk."""
    count = len(looks.photos)
    sample = np.random.default_rng(seed).permutation(count)[:_SAMPLED]
    seen = [
        _run(looks, stage, to_tensor([looks.plain(int(p)) for p in sample[n : n + _AT_ONCE]]))
        for n in range(0, len(sample), _AT_ONCE)
    ]
    sampled = torch.cat(seen)
    rows = sampled.abs().reshape(-1, sampled.shape[-1]).numpy()
    reach = np.percentile(rows, _PERCENTILE, axis=0)
    kept = np.maximum(reach, np.finfo(np.float32).tiny) / _LARGEST
    shape = (count, 1 + views, *sampled.shape[1:])
    np.lib.format.open_memmap(values, mode="w+", dtype=np.int8, shape=shape).flush()
    np.save(steps, kept.astype(np.float32))


def _fill(
    looks: Looks,
    stage: int,
    views: int,
    seed: int,
    values: Path,
    steps: NDArray[np.float32],
    done: Path,
    first: int,
    threads: int,
    progress: Progress,
) -> None:
    kept = np.load(values, mmap_mode="r+")
    total = len(looks.photos)
    by = torch.from_numpy(steps)

    def seen(place: int) -> list[NDArray[np.uint8]]:
        drawn = [looks.drawn(place, look_seed(seed, place, view)) for view in range(1, views + 1)]
        return [looks.plain(place), *drawn]

    with ThreadPoolExecutor(threads) as pool:
        group = max(1, _AT_ONCE // (1 + views)) * 2
        starts = list(range(first, total, group))
        waiting = [pool.submit(seen, p) for p in range(first, min(first + group, total))]
        for start in starts:
            here = [one.result() for one in waiting]
            after = range(start + group, min(start + 2 * group, total))
            waiting = [pool.submit(seen, place) for place in after]
            found = _run(looks, stage, to_tensor([p for photo in here for p in photo]))
            whole = (found / by).round().clamp(-_LARGEST, _LARGEST).to(torch.int8).numpy()
            kept[start : start + len(here)] = whole.reshape(len(here), 1 + views, *whole.shape[1:])
            at = start + len(here)
            progress("keeping what frozen stages give", at, total)
            if at == total or at // _SAVE_EVERY > start // _SAVE_EVERY:
                kept.flush()
                np.save(done, np.int64(at))


def _run(looks: Looks, stage: int, pixels: Tensor) -> Tensor:
    """float32 (N, H, W, channels)."""
    device = looks.encoder.grey.device
    with torch.no_grad():
        entering = looks.encoder.normalised(pixels.to(device))
        return looks.encoder.image.run_stages(entering, 0, stage).permute(0, 2, 3, 1).float().cpu()


def look_seed(seed: int, place: int, view: int) -> int:
    """The seed of one look at one photo."""
    return int(np.random.SeedSequence([seed, place, view]).generate_state(1)[0])
