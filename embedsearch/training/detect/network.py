"""What every detector that can be trained has in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from embedsearch.enrichers.base import Pixels
from embedsearch.records import Detection
from embedsearch.training.detect.looks import Sample


class Network(Protocol):
    """A detector, the weights it starts with, and its loss."""

    @property
    def module(self) -> nn.Module: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def size(self) -> int:
        """Side of the square that it is trained on."""
        ...

    def new_parameters(self) -> list[nn.Parameter]:
        """Those that are not from where it started."""
        ...

    def head(self) -> list[nn.Parameter]:
        """Those behind the feature maps."""
        ...

    def losses(self, samples: Sequence[Sample], repulsion: float) -> dict[str, Tensor]:
        """Parts of the loss of a batch of squares, weighted: their sum is to be small."""
        ...

    def detect(self, picture: Pixels, threshold: float) -> tuple[Detection, ...]:
        """Objects in a picture of any size, with the weights as they are now."""
        ...

    def write(self, folder: Path, about: dict[str, Any]) -> None:
        """Write it as a detector folder. ``about`` has name, licence and description."""
        ...


def labels_of(known: Sequence[str], met: Sequence[str], own: bool) -> tuple[str, ...]:
    """The labels to train: those ``met`` alone, or those ``known`` and behind them what is new."""
    new = sorted(set(met) - set(known))
    if own:
        return tuple([label for label in known if label in met] + new)
    return (*known, *new)


def carried(known: Sequence[str], labels: Sequence[str]) -> list[int]:
    """For each of ``labels``, its place among ``known``; -1 for a new one."""
    return [known.index(label) if label in known else -1 for label in labels]


def as_tensors(sample: Sample, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (3, H, W) as uint8, boxes (N, 4), labels (N,)."""
    return (
        torch.from_numpy(sample.pixels).permute(2, 0, 1).to(device),
        torch.from_numpy(sample.boxes).to(device),
        torch.from_numpy(sample.labels).to(device),
    )
