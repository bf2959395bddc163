"""Memory that a training run asks for again and again, kept instead of given back."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
"""Of mallopt(3)."""
_LARGEST = 2**31 - 1
_PAD = 2**29


def keep_freed_memory() -> bool:
    """Let the C library hold on to memory that was freed. Says whether it could be told so.

    A step frees hundreds of megabytes of activations and asks for them again in the next one.
    glibc gives pieces this large back to the system, which then clears every page anew: on a CPU
    that can take as long as the step itself. Elsewhere than with glibc nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    # One arena, as those of threads give back what is free whatever they are told.
    settings = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, _LARGEST), (_TOP_PAD, _PAD))
    taken = [mallopt(name, value) for name, value in settings]
    return taken == [1] * len(settings)
