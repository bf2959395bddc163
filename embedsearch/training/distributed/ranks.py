"""Which of how many processes this one is, as ``torchrun`` told it."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from embedsearch.errors import DataError


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of how many processes this one is."""

    rank: int = 0
    world: int = 1
    local: int = 0
    """Number among those on this machine: which of its GPUs is ours."""
    here: int = 1
    """How many there are on this machine."""
    restarts: int = 0
    """How often torchrun has started the processes anew. Over 0: go on from the checkpoint."""

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes files and talks."""
        return self.rank == 0


def ranks() -> Ranks:
    """What torchrun told this process; one alone where it told nothing.

    Raises :class:`~embedsearch.errors.DataError` where a variable of it is no number.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
    try:
        told = [
            int(os.environ.get(name, usual)) for name, usual in zip(names, "01010", strict=True)
        ]
    except ValueError as error:
        raise DataError(f"{', '.join(names)} in the environment: {error}. Use torchrun.") from error
    return Ranks(*told)


def is_main() -> bool:
    """Whether this is the process that writes files and talks."""
    return ranks().is_main


def device_of(wanted: torch.device, me: Ranks) -> torch.device:
    """The device of this rank, where ``wanted`` names only its kind."""
    if wanted.type != "cuda" or wanted.index is not None or me.world == 1:
        return wanted
    device = torch.device("cuda", me.local % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device
