"""What the environment says: where the index lies, how many workers, which device."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from embedsearch.errors import EmbedSearchError

Device = Literal["auto", "cpu", "cuda"]
OCR_MODELS = "EMBEDSEARCH_OCR_MODELS"
"""Names a folder for models that read other scripts than those in the box."""


def index_folder(given: Path | None = None) -> Path:
    """Where the index lies: ``given``, else ``$EMBEDSEARCH_INDEX``, else ``./indexes/default``
    where that exists or the working folder has an ``indexes/``, else the user data folder."""
    if given is not None:
        return Path(os.path.expanduser(given))  # pathlib's raises where there is no such user
    if named := os.environ.get("EMBEDSEARCH_INDEX"):
        return Path(os.path.expanduser(named))
    if Path("indexes").is_dir():
        return Path("indexes/default")
    import platformdirs

    return Path(platformdirs.user_data_dir("embedsearch", appauthor=False)) / "default"


def default_encoder() -> str:
    """The encoder spec used where none is named (``$EMBEDSEARCH_ENCODER``, else ``mini``)."""
    return os.environ.get("EMBEDSEARCH_ENCODER") or "mini"


def ocr_models() -> Path:
    """Where models that read other scripts are sought, and put where they can be downloaded."""
    if named := os.environ.get(OCR_MODELS):
        return Path(os.path.expanduser(named))
    import platformdirs

    return Path(platformdirs.user_data_dir("embedsearch", appauthor=False)) / "ocr"


def workers(given: int | None = None) -> int:
    """Number of decoding and encoding threads: ``given``, ``$EMBEDSEARCH_WORKERS``, or the cores
    that this process may use."""
    if given is not None:
        return max(1, given)
    if named := os.environ.get("EMBEDSEARCH_WORKERS"):
        try:
            return max(1, int(named))
        except ValueError:
            raise EmbedSearchError(
                f"EMBEDSEARCH_WORKERS is {named!r}; set it to a whole number, for example 4."
            ) from None
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
