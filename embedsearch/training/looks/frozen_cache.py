"""What frozen stages make of several looks at each photo, computed once and kept on disk.

Frozen stages give the same every epoch but for the augmentation. So a few augmented looks are
drawn, run through them, and kept in 8 bits a number; an epoch then begins in the middle of the
network. On disk and mapped into memory, as it may be larger than that.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedsearch.encoders.torch_tower import weights_hash
from embedsearch.training.looks.drawing import Looks
from embedsearch.training.looks.look_cache import cache_looks, hash_looks, look_seed
from embedsearch.training.networks.export import INPUT, export_stages

Progress = Callable[[str, int, int], None]
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From uint8 (N, size, size, 3) to float32 (N, H, W, channels); safe in threads."""

FORMAT = 2
_LARGEST = 127
_SAMPLED = 128
"""Photos by whose activations the steps of 8 bits are chosen."""
_PERCENTILE = 99.95
"""Of the magnitudes of a channel so many are covered; the few beyond it are cut off, or they would
decide how coarse all others become."""
_SAVE_EVERY = 256
"""What is lost where it is broken off."""


@dataclass(frozen=True)
class FrozenCache:
    """Activations that enter the first trained stage; looks themselves where that is the first."""

    values: NDArray[np.int8] | NDArray[np.uint8]
    """(N, 1 + views, H, W, channels); look 0 is the photo itself."""
    steps: NDArray[np.float32] | None
    """(channels,): a number is its int8 times the step of its channel. None for pixels."""

    @property
    def views(self) -> int:
        """How many looks there are, the photo itself among them."""
        return int(self.values.shape[1])

    def batch(self, places: Sequence[int], looks: Sequence[int]) -> Tensor:
        """float32 (N, channels, H, W), channels last in memory; pixels as uint8 (N, H, W, 3)."""
        rows = np.stack([self.values[p, v] for p, v in zip(places, looks, strict=True)])
        if self.steps is None:
            return torch.from_numpy(rows)
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
    broken off goes on where it was. Of stage 0 the looks are kept as pixels.
    """
    if stage == 0:
        drawn = cache_looks(
            looks, views=views, seed=seed, folder=folder, threads=threads, progress=progress
        )
        return FrozenCache(drawn, None)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"frozen-{fingerprint(looks, stage, views, seed)}"
    values, steps, done = (folder / f"{name}{end}" for end in (".npy", "-steps.npy", "-done.npy"))
    if not done.is_file() or int(np.load(done)) < len(looks.photos):
        run = _runner(looks, stage)
        if not done.is_file():
            _start(looks, run, views, seed, values, steps)
            np.save(done, np.int64(0))
        _fill(looks, run, views, seed, (values, steps, done), threads, progress)
    return FrozenCache(np.load(values, mmap_mode="r"), np.load(steps))


def fingerprint(looks: Looks, stage: int, views: int, seed: int) -> str:
    """16 hex digits of everything that the activations depend on."""
    about = looks.about
    told = hashlib.sha256(f"{FORMAT} {stage} {views} {seed} {about.mean} {about.std}\n".encode())
    told.update(hash_looks(looks))
    for name, module in looks.encoder.image.stages[:stage]:
        told.update(f"{name} {weights_hash(module)}\n".encode())
    return told.hexdigest()[:16]


def _start(looks: Looks, run: Run, views: int, seed: int, values: Path, steps: Path) -> None:
    """Choose the steps, and make room on disk."""
    count = len(looks.photos)
    sample = np.random.default_rng(seed).permutation(count)[:_SAMPLED]
    sampled = np.concatenate([run(looks.plain(int(place))[None]) for place in sample])
    rows = np.abs(sampled).reshape(-1, sampled.shape[-1])
    reach = np.percentile(rows, _PERCENTILE, axis=0)
    kept = np.maximum(reach, np.finfo(np.float32).tiny) / _LARGEST
    shape = (count, 1 + views, *sampled.shape[1:])
    np.lib.format.open_memmap(values, mode="w+", dtype=np.int8, shape=shape).flush()
    np.save(steps, kept.astype(np.float32))


def _fill(
    looks: Looks,
    run: Run,
    views: int,
    seed: int,
    files: tuple[Path, Path, Path],
    threads: int,
    progress: Progress,
) -> None:
    """Look at the photos that are left, several at once."""
    values, steps, done = files
    by = np.load(steps)
    kept = np.load(values, mmap_mode="r+")
    total = len(looks.photos)

    def keep(place: int) -> None:
        drawn = [looks.drawn(place, look_seed(seed, place, view)) for view in range(1, views + 1)]
        found = run(np.stack([looks.plain(place), *drawn]))
        kept[place] = np.clip(np.rint(found / by), -_LARGEST, _LARGEST).astype(np.int8)

    with ThreadPoolExecutor(threads) as pool:
        for first in range(int(np.load(done)), total, _SAVE_EVERY):
            last = min(first + _SAVE_EVERY, total)
            for place, _ in enumerate(pool.map(keep, range(first, last)), first + 1):
                progress("keeping what frozen stages give", place, total)
            kept.flush()
            np.save(done, np.int64(last))


def _runner(looks: Looks, stage: int) -> Run:
    """The frozen stages: on a GPU in PyTorch; on a CPU in ONNX Runtime, which for convolutions
    without gradients is two to three times as fast."""
    encoder = looks.encoder
    if encoder.grey.device.type == "cpu":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # each photo has a thread
        session = onnxruntime.InferenceSession(
            export_stages(encoder, stage).SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
        )
        return lambda pixels: session.run(None, {INPUT: pixels})[0]
    running = threading.Lock()

    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with running, torch.no_grad():
            entering = encoder.normalised(torch.from_numpy(pixels).to(encoder.grey.device))
            given = encoder.image.run_stages(entering, 0, stage)
            found: NDArray[np.float32] = given.permute(0, 2, 3, 1).float().cpu().numpy()
        return found

    return run
