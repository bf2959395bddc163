"""How many edited copies does ``duplicates`` find, how often is it wrong, and how long does it
take to compare a large collection?

An index of ``copies/`` (originals and edited pictures) and of ``captions/images`` (other photos) is
made with ``mini``. A copy is found when it is in one group with its original; precision is the part
of all pairs in near groups that show the same. Bars: 0.85 of the copies, precision 0.95. Beside it:
pairs of neighbours among random clustered rows, found by the vector index.

    python benchmarks/duplicates.py DATA [--rows 100000]
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from measure import report

import embedsearch
from embedsearch.records import DuplicateReport
from embedsearch.store import vectors

DIM = 256
SIMILARITY = 0.6
NEIGHBOURS = 16


def found_copies(data: Path) -> tuple[DuplicateReport, float]:
    """What the default thresholds find in copies/ among captions/images, and seconds."""
    with tempfile.TemporaryDirectory() as temporary, embedsearch.open(temporary) as index:
        index.add(data / "copies/originals", data / "copies/edited", data / "captions/images")
        begun = time.perf_counter()
        return index.duplicates(), time.perf_counter() - begun


def figures(data: Path, found: DuplicateReport) -> dict[str, Any]:
    """Recall by kind and by transform; right and wrong pairs; how often the original is best."""
    with (data / "copies/meta.csv").open() as stream:
        rows = {
            str((data / "copies" / row["file"]).resolve()): row for row in csv.DictReader(stream)
        }
    near = [group for group in found.groups if group.kind == "near"]
    hits: dict[str, list[bool]] = {}
    group_of = {one.path: number for number, group in enumerate(near) for one in group.pictures}
    originals = {
        row["original_id"]: path for path, row in rows.items() if row["kind"] == "original"
    }
    for path, row in rows.items():
        if row["kind"] != "original":
            number = group_of.get(path)
            hit = number is not None and number == group_of.get(originals[row["original_id"]])
            hits.setdefault(row["kind"], []).append(hit)
            hits.setdefault(row["transform"], []).append(hit)
    shown = {path: row["original_id"] for path, row in rows.items()}
    pairs = [
        shown.get(one.path, one.path) == shown.get(other.path, other.path)
        for group in near
        for one, other in combinations(group.pictures, 2)
    ]
    best = [group.best in originals.values() for group in near if group.best in rows]
    return {
        "recall": {name: float(np.mean(values)) for name, values in sorted(hits.items())},
        "pairs": len(pairs),
        "precision": float(np.mean(pairs)),
        "wrong_pairs": len(pairs) - sum(pairs),
        "original_is_best": float(np.mean(best)),
        "pictures": found.pictures,
    }


def planted(count: int) -> tuple[np.ndarray, set[tuple[int, int]]]:
    """Rows in 300 clusters of 64 dimensions, of which a twentieth have a copy at cosine 0.84; the
    positions of each pair."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((300, DIM), dtype=np.float32)
    basis = rng.standard_normal((64, DIM), dtype=np.float32) * 1.2 / 8
    rows = np.empty((count, DIM), np.float16)
    for start in range(0, count, 50_000):
        size = min(50_000, count - start)
        spread = rng.standard_normal((size, 64), dtype=np.float32) @ basis
        rows[start : start + size] = unit(centres[rng.integers(300, size=size)] + spread)
    first, second = np.split(rng.permutation(count)[: count // 20 * 2], 2)
    noise = rng.standard_normal((len(first), DIM), dtype=np.float32) * 0.04
    rows[second] = unit(rows[first].astype(np.float32) + noise)
    ordered = np.sort(np.stack([first, second]), 0)
    return rows, set(zip(*ordered.tolist(), strict=True))


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path, help="the folder of copies/ and captions/")
    arguments.add_argument("--rows", type=int, default=100_000)
    given = arguments.parse_args()
    found, seconds = found_copies(given.data.resolve())
    quality = figures(given.data.resolve(), found)
    rows, pairs = planted(given.rows)
    begun = time.perf_counter()
    one, other, _ = vectors.neighbour_pairs(rows, SIMILARITY, NEIGHBOURS)
    wall = time.perf_counter() - begun
    reached = set(zip(one.tolist(), other.tolist(), strict=True))
    recalled = len(pairs & reached) / len(pairs)
    report(
        "duplicates",
        [
            ("copies found", f"{quality['recall']['copy']:.3f}", ">= 0.85"),
            ("precision of pairs", f"{quality['precision']:.3f}", ">= 0.95"),
            ("corruptions found", f"{quality['recall']['corruption']:.3f}", ""),
            ("the original is proposed as best", f"{quality['original_is_best']:.2f}", ""),
            (f"duplicates, {quality['pictures']:,} pictures", f"{seconds:.1f} s", ""),
            (f"neighbours, {given.rows:,} x {DIM}", f"{wall:.1f} s", ""),
            ("planted neighbours found", f"{recalled:.4f}", ""),
        ],
        {
            "about": "near copies with the default thresholds; neighbours by the vector index",
            "copies": quality,
            "seconds": seconds,
            "neighbours": {"rows": given.rows, "seconds": wall, "recall": recalled},
        },
    )


if __name__ == "__main__":
    main()
