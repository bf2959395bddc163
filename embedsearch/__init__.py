"""Find any picture on your own machine, by words or by example.

    import embedsearch

    index = embedsearch.open("indexes/photos")
    index.add("photos/")
    index.search("red car", k=10)

Importing this package imports neither torch nor FAISS; names are loaded when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedsearch.encoders.base import Encoder
    from embedsearch.encoders.registry import load as load_encoder
    from embedsearch.errors import EmbedSearchError
    from embedsearch.index import Index, open
    from embedsearch.records import Failure, Hit, IndexInfo, IndexReport, Signal

__version__ = "0.1.0"
__all__ = [
    "EmbedSearchError",
    "Encoder",
    "Failure",
    "Hit",
    "Index",
    "IndexInfo",
    "IndexReport",
    "Signal",
    "load_encoder",
    "open",
]

_WHERE = {
    "EmbedSearchError": ("errors", "EmbedSearchError"),
    "Encoder": ("encoders.base", "Encoder"),
    "Failure": ("records", "Failure"),
    "Hit": ("records", "Hit"),
    "Index": ("index", "Index"),
    "IndexInfo": ("records", "IndexInfo"),
    "IndexReport": ("records", "IndexReport"),
    "Signal": ("records", "Signal"),
    "load_encoder": ("encoders.registry", "load"),
    "open": ("index", "open"),
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _WHERE[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
