"""What quantisation cost and gained: size, time, agreement, recall."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from embedsearch.encoders.base import Encoder
from embedsearch.encoders.litert import litert_runner
from embedsearch.errors import DataError
from embedsearch.training.evaluate import evaluate_captions, evaluate_category
from embedsearch.training.onnx_graph.graph import session

THREADS = (1, 2)
_ROUNDS = 15
_WARM_UP = 2
WORST = 1.0
"""Percentile of the photos that agree least."""


def agreement(first: NDArray[np.float32], second: NDArray[np.float32]) -> dict[str, float]:
    """Cosines between rows of the same photos: ``mean``, ``worst_percentile`` (the 1st), ``min``.

    Both are unit rows, (N, dim).
    """
    cosines = (first * second).sum(axis=1)
    return {
        "mean": float(cosines.mean()),
        "worst_percentile": float(np.percentile(cosines, WORST)),
        "min": float(cosines.min()),
    }


def milliseconds(files: Sequence[Path], square: NDArray[np.uint8]) -> list[dict[str, float]]:
    """Median time of a photo on one thread and on two, for each of the towers in ``files``.

    They take turns, so that what else the machine does at the time falls on all alike.
    """
    told: list[dict[str, float]] = [{} for _ in files]
    for threads in THREADS:
        runs = [_runner(file, threads, square) for file in files]
        times: list[list[float]] = [[] for _ in files]
        for turn in range(_ROUNDS + _WARM_UP):
            for place, run in enumerate(runs):
                begun = time.perf_counter()
                run()
                if turn >= _WARM_UP:
                    times[place].append(1000 * (time.perf_counter() - begun))
        for place, taken in enumerate(times):
            told[place][str(threads)] = statistics.median(taken)
    return told


def _runner(file: Path, threads: int, square: NDArray[np.uint8]) -> Callable[[], object]:
    if file.suffix == ".tflite":
        return litert_runner(file, threads, square)
    running = session(onnx.load(file), threads)
    return lambda: running.run(None, {running.get_inputs()[0].name: square[None]})


def recall(path: Path, encoder: Encoder) -> dict[str, float]:
    """Figures of an encoder on captions (``.jsonl``) or labels (``.csv``), by name, flat.

    Raises :class:`~embedsearch.errors.DataError`.
    """
    if path.suffix == ".csv":
        overall: dict[str, Any] = evaluate_category(path, encoder)["overall"]
        return {name: value for name, value in overall.items() if value is not None}
    if not encoder.info.has_text:
        raise DataError(
            f"{path}: captions need a text tower, which {encoder.info.spec} has not; measure on "
            "labels: --measure meta.csv"
        )
    return {
        f"{way} {figure}": value
        for way, figures in evaluate_captions(path, encoder).items()
        for figure, value in figures.items()
        if figure != "median_rank"
    }
