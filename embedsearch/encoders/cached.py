"""Which weights of other libraries are on this machine, so that they load without a network."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

from embedsearch.encoders.registry import FAMILIES


def cached_specs() -> list[str]:
    """Specs of the models whose weights are in the caches of open_clip, timm and torchvision.

    The libraries, which take seconds to import, are asked only where there is something to ask
    about.
    """
    repositories = _repositories()
    if not repositories and not _torch_files():
        return []
    found: list[str] = []
    for family in FAMILIES:
        library = import_module(f"{__package__}.{family.prefix}")
        if hasattr(library, "cached"):  # else it downloads nothing
            found += library.cached(repositories)
    return found


def _repositories() -> set[str]:
    """Repositories of which the cache of Hugging Face holds something."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    if not folder.is_dir():
        return set()
    return {
        kept.parent.name.removeprefix("models--").replace("--", "/")
        for kept in folder.glob("models--*/snapshots")
        if any(kept.iterdir())
    }


def _torch_files() -> bool:
    """Whether the cache of PyTorch, as its documentation lays it out, holds weights."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", f"{cache}/torch")
    return any((Path(os.path.expanduser(home)) / "hub" / "checkpoints").glob("*.pth"))
