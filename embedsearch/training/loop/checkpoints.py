"""Where a training run is, on disk: all that the next step depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from embedsearch.errors import DataError

FILE = "checkpoint.pt"


@dataclass
class History:
    """What was seen on the way."""

    losses: list[float] = field(default_factory=list)
    """Of every step."""
    parts: dict[str, list[float]] = field(default_factory=dict)
    """Of every step, each loss by itself before its weight."""
    rates: list[float] = field(default_factory=list)
    """The largest rate of every step."""
    epochs: list[dict[str, float]] = field(default_factory=list)
    """Figures after every epoch, on the photos held out."""
    seconds: float = 0.0


@dataclass
class Checkpoint:
    """All that the next step depends on. Batches depend on the seed and the number of the step."""

    step: int
    """Steps that are done."""
    module: dict[str, Any]
    optimizer: dict[str, Any]
    """What it keeps of each parameter, by name."""
    scaler: dict[str, Any]
    mean: dict[str, Any]
    """Values of the running mean; empty without one."""
    best: dict[str, Any]
    """Weights of the best epoch; empty before it is known."""
    best_score: float
    since_best: int
    history: History
    random: dict[str, Any]
    told: str
    """What must be the same for a run to go on: the recipe and the data."""


def random_state() -> dict[str, Any]:
    """Where PyTorch's random numbers are."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, Any]) -> None:
    """Go on with the random numbers of a run."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the checkpoint; a crash leaves the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{FILE}.partial"
    torch.save({**vars(checkpoint), "history": asdict(checkpoint.history)}, partial)
    partial.replace(folder / FILE)


def load(folder: Path, told: str) -> Checkpoint:
    """Read the checkpoint of a run with the same recipe and data.

    Raises :class:`~embedsearch.errors.DataError`.
    """
    path = folder / FILE
    try:
        read = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint = Checkpoint(**{**read, "history": History(**read["history"])})
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no checkpoint to resume from") from error
    except Exception as error:  # PyTorch raises many types for a file that is cut short
        raise DataError(f"{path}: cannot be read as a checkpoint ({error})") from error
    if checkpoint.told != told:
        raise DataError(
            f"{path}: was made with another recipe or other photos "
            f"({_first_difference(checkpoint.told, told)}); resume with the same, or begin anew "
            "without --resume"
        )
    return checkpoint


def _first_difference(before: str, now: str) -> str:
    for old, new in zip(before.splitlines(), now.splitlines(), strict=False):
        if old != new:
            return f"{old.strip()} then, {new.strip()} now"
    return "one says more than the other"
