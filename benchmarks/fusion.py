"""How is one ranking made of several signals? Sums in units of cosine, and reciprocal ranks, side
by side, on photos whose objects are known.

    python benchmarks/fusion.py detection/annotations.jsonl [--detector SPEC] [--half even]
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from measure import report

from embedsearch.index.measuring import gather_objects, scores_of
from embedsearch.search.fusion import WEIGHTS, Evidence
from embedsearch.training.evaluate.objects import objects_figures

K = 60
"""Of reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009)."""


def reciprocal_ranks(found: list[list[Evidence]]) -> np.ndarray:
    """Scores (labels, photos) by reciprocal rank fusion of whole, best part and labels."""
    signals = [
        [[one.whole or 0.0 for one in row] for row in found],
        [[max((part.score for part in one.parts), default=-1.0) for one in row] for row in found],
        [
            [sum(one.meant[name] * sign.score for name, sign in one.labels.items()) for one in row]
            for row in found
        ],
    ]
    total = np.zeros((len(found), len(found[0])))
    for values in map(np.array, signals):
        order = np.argsort(np.argsort(-values, axis=1, kind="stable"), axis=1)
        total += np.where(values > 0, 1 / (K + 1 + order), 0)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--detector")
    parser.add_argument("--half", choices=["odd", "even"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        queries, found = gather_objects(
            asked.annotations, Path(folder), detector=asked.detector, half=asked.half
        )
    ways = {"whole pictures": scores_of(found, None), "reciprocal ranks": reciprocal_ranks(found)}
    for name in ("part_discount", "label"):
        for value in (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6):
            weights = replace(WEIGHTS, **{name: value})
            ways[f"sum, {name} {value:g}"] = scores_of(found, weights)
    nothing = replace(WEIGHTS, part_discount=9.0)
    ways["sum, labels alone"] = scores_of(found, nothing)
    ways["sum, parts alone"] = scores_of(found, replace(WEIGHTS, label=0.0))
    ways["sum"] = scores_of(found, WEIGHTS)
    results = {way: objects_figures(queries, scores) for way, scores in ways.items()}
    rows = [
        (f"{way}: mAP, {which}", f"{told[which]['mAP']:.3f}", "")
        for way, told in results.items()
        for which in ("all", "small")
    ]
    report(f"fusion-{asked.half or 'all'}", rows, {"about": "one ranking", "ways": results})


if __name__ == "__main__":
    main()
