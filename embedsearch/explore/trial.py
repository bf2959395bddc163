"""One encoder tried on one photo. Run as a process of its own: a request on stdin, a
:class:`~embedsearch.records.Trial` on stdout, both JSON."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from embedsearch.encoders import registry
from embedsearch.encoders.base import Embeddings, Encoder
from embedsearch.errors import EmbedSearchError
from embedsearch.explore.word_scores import embedded_words
from embedsearch.images.decode import decode
from embedsearch.records import Trial
from embedsearch.store.catalogue import encoder_info

REPEATS = 7
NEAREST = 5


def main() -> None:
    """Answer the request on stdin."""
    asked = json.load(sys.stdin)
    try:
        trial = _try(asked)
    except EmbedSearchError as error:
        trial = Trial(error=str(error))
    json.dump(asdict(trial), sys.stdout)


def _try(asked: dict[str, Any]) -> Trial:
    info = encoder_info(json.dumps(asked["info"]))
    begun = time.perf_counter()
    # With no index there is no copy, and the spec leads to it.
    encoder = registry.load_stored(info, Path(asked["index"] or "/nowhere"), asked["device"])
    photo = os.fsdecode(asked["photo"].encode("utf-8", "surrogateescape"))
    pixels = decode(photo, info.input_size).pixels
    row = encoder.encode_images([pixels])[0]
    loaded = time.perf_counter() - begun
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        encoder.encode_images([pixels])
        times.append(time.perf_counter() - begun)
    return Trial(
        milliseconds=1000 * statistics.median(times),
        load_seconds=loaded,
        peak_bytes=_peak_bytes(),
        words=_nearest(encoder, row) if info.has_text else None,
        runs_on=getattr(encoder, "runs_on", None),
    )


def _nearest(encoder: Encoder, row: Embeddings) -> tuple[tuple[str, float], ...]:
    known, embedded = embedded_words(encoder)
    scores = embedded @ row
    best = np.argsort(-scores, kind="stable")[:NEAREST].tolist()
    return tuple((known[place], round(float(scores[place]), 4)) for place in best)


def _peak_bytes() -> int:
    """Of this process alone: what getrusage tells includes the process that started it."""
    try:
        status = Path("/proc/self/status").read_text("ascii")
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    main()
