"""What the frozen stages give for looks at photos, computed once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from embedsearch.training.segment.drawer import Drawer
from embedsearch.training.segment.network import SegmentationNetwork

_AT_A_TIME = 16
_DONE = "done.npy"


class KeptMaps:
    """Maps of every resolution and what enters the first stage that is trained, float16, for so
    many looks at each sample."""

    def __init__(
        self, folder: Path, looks: int, samples: int, shapes: Sequence[torch.Size]
    ) -> None:
        self.folder, self.looks = folder, looks
        folder.mkdir(parents=True, exist_ok=True)
        count = samples * looks
        self._files = [
            _opened(folder / f"maps{number}.npy", (count, *shape), np.float16)
            for number, shape in enumerate(shapes)
        ]
        self._done = _opened(folder / _DONE, (count,), np.bool_)

    def fill(
        self,
        network: SegmentationNetwork,
        drawer: Drawer,
        progress: Callable[[int, int], None],
    ) -> None:
        """Compute what is not there yet. It may be broken off and goes on from there."""
        places = np.flatnonzero(~self._done)
        for start in range(0, len(places), _AT_A_TIME):
            chosen = places[start : start + _AT_A_TIME]
            pixels = np.stack([drawer.pixels(*divmod(int(each), self.looks)) for each in chosen])
            with torch.inference_mode():
                maps = packed_maps(network, torch.from_numpy(pixels))
            for file, values in zip(self._files, maps, strict=True):
                file[chosen] = values.numpy().astype(np.float16)
                file.flush()
            self._done[chosen] = True
            self._done.flush()
            progress(start + len(chosen), len(places))

    def read(self, pairs: Sequence[tuple[int, int]]) -> list[Tensor]:
        """The maps of looks, by sample and look: float32 (N, C, h, w) each."""
        rows = [place * self.looks + look for place, look in pairs]
        return [torch.from_numpy(file[rows].astype(np.float32)) for file in self._files]


def packed_maps(network: SegmentationNetwork, pixels: Tensor) -> list[Tensor]:
    """What :class:`KeptMaps` keeps of pictures, uint8 (N, size, size, 3)."""
    frozen = network.pyramid.frozen(network.normalised(pixels))
    return network.pyramid.packed(frozen, network.first_map)


def name_of(told: str) -> str:
    """The name of the folder of maps that all of ``told`` decides about."""
    return f"maps-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def _opened(path: Path, shape: tuple[int, ...], kind: type) -> np.memmap:
    if path.exists():
        opened: np.memmap = np.lib.format.open_memmap(path, mode="r+")
        if opened.shape == shape:
            return opened
    return np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
