"""What helps when some classes have many pictures and others few, at the level of a linear probe?

A long tail is cut out of evenly filled classes: the i-th of C classes keeps
most * RATIO ** (-i / (C - 1)) of its pictures, which classes are rare being drawn anew for each
trial. A probe is fitted to the embeddings of what is left, once for each way to balance, and
measured on other pictures, of which every class has as many. `rare` is the mean recall over the
third of the classes that kept the fewest, `common` over the third that kept the most.

    python benchmarks/imbalance.py train/train.jsonl category/meta.csv [--set caltech101]
        [--encoder mini] [--ratio 10] [--trials 10] [--c 10]

The first file has JSON lines with `file`, `source` (equal to --set) and `label`, the second is a
CSV with `file`, `set` and `label`, as `evaluate category` reads it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measure import report
from numpy.typing import NDArray

from embedsearch.encoders.base import Embeddings
from embedsearch.encoders.registry import load
from embedsearch.training.data.balance import Labels
from embedsearch.training.evaluate.ground_truth import (
    Row,
    encode_files,
    read_csv,
    read_json_lines,
)
from embedsearch.training.finetune.probe import BALANCES, INVERSE_REGULARISATION, Balance, fit_probe
from embedsearch.training.finetune.recall import class_recall, recall_means

FIGURES = ("overall", "rare", "middle", "common")
NEIGHBOURS = 2
"""Of SMOTE and ADASYN: with 30 pictures at most and the ratio 10, the rarest class keeps 3."""
BETA = 0.9
"""Of the effective number: at 0.999 it is the inverse for so few pictures."""


@dataclass(frozen=True)
class Pictures:
    """Embeddings of labelled pictures."""

    embeddings: Embeddings
    labels: Labels


def read(arguments: argparse.Namespace) -> tuple[Pictures, Pictures, list[str]]:
    """Pictures to train on, pictures to measure on, and the names of the classes."""
    train = [
        row
        for row in read_json_lines(arguments.train)
        if row.values.get("source") == arguments.set and row.values.get("label")
    ]
    measured = [
        row
        for row in read_csv(arguments.measured, ("file", "set", "label"))
        if row.text("set") == arguments.set
    ]
    names = sorted({label(row) for row in train} & {label(row) for row in measured})
    encoder = load(arguments.encoder)

    def encoded(rows: Sequence[Row]) -> Pictures:
        known = [row for row in rows if label(row) in names]
        return Pictures(
            encode_files(encoder, [(row.file(), row.where) for row in known]),
            np.array([names.index(label(row)) for row in known]),
        )

    return encoded(train), encoded(measured), names


def label(row: Row) -> str:
    """With ``_`` read as a space."""
    return row.text("label").replace("_", " ")


def long_tail(labels: Labels, ratio: float, seed: int) -> NDArray[np.int64]:
    """Places of what is left: float shares rounded to whole pictures, at least one a class."""
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(np.unique(labels))
    most = int(np.bincount(labels)[kinds].max())
    kept = []
    for place, kind in enumerate(kinds):
        wanted = max(1, round(most * ratio ** (-place / (len(kinds) - 1))))
        kept.append(rng.permutation(np.flatnonzero(labels == kind))[:wanted])
    return np.concatenate(kept)


def trial(
    train: Pictures, measured: Pictures, names: list[str], balance: Balance, fitted: float
) -> dict[str, float]:
    begun = time.perf_counter()
    probe = fit_probe(
        train.embeddings,
        train.labels,
        classes=len(names),
        balance=balance,
        inverse_regularisation=fitted,
        neighbours=NEIGHBOURS,
        beta=BETA,
        names=names,
    )
    seconds = time.perf_counter() - begun
    found = probe.predict(measured.embeddings)
    recalls = class_recall(measured.labels, found, len(names))
    counts = np.bincount(train.labels, minlength=len(names))
    means = recall_means(recalls, counts, measured.labels, found)
    return means | {"seconds": seconds, "untouched": float(len(probe.untouched))}


def run(arguments: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Of each way to balance the figures of every trial; ``even`` is a probe on the same number of
    pictures, evenly spread, and ``all`` one on all that there are."""
    train, measured, names = read(arguments)
    print(
        f"{len(train.labels)} + {len(measured.labels)} pictures, {len(names)} classes", flush=True
    )
    told: dict[str, dict[str, list[float]]] = {}

    def note(name: str, figures: dict[str, float]) -> None:
        for figure, value in figures.items():
            told.setdefault(name, {}).setdefault(figure, []).append(value)

    for seed in range(arguments.trials):
        kept = long_tail(train.labels, arguments.ratio, seed)
        tail = Pictures(train.embeddings[kept], train.labels[kept])
        for balance in BALANCES:
            note(balance, trial(tail, measured, names, balance, arguments.c))
        sample = evenly(train.labels, len(kept), seed)
        even = Pictures(train.embeddings[sample], train.labels[sample])
        note("even", thirds_of(tail.labels, even, measured, names, arguments.c))
        note("all", thirds_of(tail.labels, train, measured, names, arguments.c))
        print(f"trial {seed + 1} of {arguments.trials}", flush=True)
    return told


def evenly(labels: Labels, count: int, seed: int) -> NDArray[np.int64]:
    """Places of ``count`` pictures in which every class has as many, but for the rest."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    nth = np.empty(len(labels), np.int64)
    for kind in np.unique(labels):
        mine = order[labels[order] == kind]
        nth[mine] = np.arange(len(mine))
    return order[np.argsort(nth[order], kind="stable")][:count]


def thirds_of(
    tail: Labels, train: Pictures, measured: Pictures, names: list[str], fitted: float
) -> dict[str, float]:
    """A plain probe, told by what is rare in ``tail``, so that its figures can be compared."""
    probe = fit_probe(
        train.embeddings, train.labels, classes=len(names), inverse_regularisation=fitted
    )
    found = probe.predict(measured.embeddings)
    recalls = class_recall(measured.labels, found, len(names))
    return recall_means(recalls, np.bincount(tail, minlength=len(names)), measured.labels, found)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("train", type=Path)
    arguments.add_argument("measured", type=Path)
    arguments.add_argument("--set", default="caltech101")
    arguments.add_argument("--encoder", default="mini")
    arguments.add_argument("--ratio", type=float, default=10.0)
    arguments.add_argument("--trials", type=int, default=10)
    arguments.add_argument("--c", type=float, default=INVERSE_REGULARISATION)
    asked = arguments.parse_args()
    told = run(asked)

    def mean(name: str, figure: str) -> float:
        return float(np.mean(told[name][figure]))

    rows = [
        (
            name,
            "  ".join(f"{figure} {mean(name, figure):.3f}" for figure in FIGURES),
            f"rare +-{np.std(told[name]['rare']):.3f}",
        )
        for name in told
    ]
    figures = {
        "about": f"{asked.set}, {asked.encoder}, ratio {asked.ratio:g}, {asked.trials} trials",
        "set": asked.set,
        "encoder": asked.encoder,
        "ratio": asked.ratio,
        "trials": asked.trials,
        "neighbours": NEIGHBOURS,
        "beta": BETA,
        "inverse_regularisation": asked.c,
        "figures": {
            name: {figure: [round(v, 4) for v in values] for figure, values in by.items()}
            for name, by in told.items()
        },
    }
    usual = asked.c == INVERSE_REGULARISATION
    report("imbalance" if usual else f"imbalance_c{asked.c:g}", rows, figures)


if __name__ == "__main__":
    main()
