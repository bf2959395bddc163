"""How many edited copies does ``duplicates`` find, how often is it wrong, how often is the original
proposed as the best, and how long do a million pictures take to be compared?

Two sets, with the default thresholds and ``mini``: ``copies/`` among the photos of
``captions/images``; and photos of ``train/`` edited here in ten other ways (edited_copies.py),
among others of the same classes and photos of ``products/``, of which many show the same thing in
the same place. A copy is found when it is in one group with its original; precision is the part of
all pairs in near groups that show the same photo. Bars: 0.85 of the copies, precision 0.95.

Beside it the first step alone, on rows made like those of the photos with planted copies: pairs of
neighbours, seconds, memory, and how many of the pairs an exact search finds.

    python benchmarks/duplicates.py DATA [--rows 1000000] [--originals 60]
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from edited_copies import write_edits
from measure import process, report

import embedsearch
from embedsearch.records import DuplicateReport
from embedsearch.store import neighbours
from embedsearch.store.whole_pictures import half_precision_rows, whole_pictures

SIMILARITY = 0.6
NEIGHBOURS = 16
Shown = dict[str, tuple[str, str]]
"""By path: which photo a picture shows, and what was done to it ("none": nothing)."""


def of_copies(data: Path) -> tuple[Shown, DuplicateReport, float]:
    """copies/ among captions/images."""
    with (data / "copies/meta.csv").open() as stream:
        shown = {
            str(data / "copies" / row["file"]): (row["original_id"], row["transform"])
            for row in csv.DictReader(stream)
        }
    folders = [data / "copies/originals", data / "copies/edited", data / "captions/images"]
    return shown, *found(folders)


def of_edits(data: Path, count: int) -> tuple[Shown, DuplicateReport, float]:
    """Edits of ``count`` photos among 1,000 others and products/."""
    lines = [json.loads(line) for line in (data / "train/train.jsonl").open()]
    photos = [data / "train" / line["file"] for line in lines]
    photos = [one for one in photos if one.parent.name not in ("flickr8k", "tiny_imagenet")]
    random.Random(0).shuffle(photos)
    shown: Shown = {}
    with tempfile.TemporaryDirectory() as temporary:
        for photo in photos[:count]:
            name = f"{photo.parent.name}/{photo.stem}"
            folder = Path(temporary).resolve() / name
            folder.mkdir(parents=True)
            shown[str(photo)] = (name, "none")
            for edit, path in write_edits(photo, folder).items():
                shown[str(path)] = (name, edit)
        return shown, *found([Path(temporary), *photos[: count + 1000], data / "products"])


def found(pictures: Sequence[Path]) -> tuple[DuplicateReport, float]:
    """What there is twice, and seconds to find it."""
    with tempfile.TemporaryDirectory() as temporary, embedsearch.open(temporary) as index:
        index.add(*pictures)
        begun = time.perf_counter()
        return index.duplicates(), time.perf_counter() - begun


def figures(shown: Shown, report: DuplicateReport, seconds: float) -> dict[str, Any]:
    """Recall by what was done; right and wrong pairs; how often the original is best."""
    near = [group for group in report.groups if group.kind == "near"]
    group_of = {one.path: number for number, group in enumerate(near) for one in group.pictures}
    originals = {photo: path for path, (photo, edit) in shown.items() if edit == "none"}
    hits: dict[str, list[bool]] = {}
    for path, (photo, edit) in shown.items():
        if edit != "none":
            number = group_of.get(path)
            hit = number is not None and number == group_of.get(originals[photo])
            hits.setdefault(edit, []).append(hit)
    right = [
        shown.get(one.path, (one.path,))[0] == shown.get(other.path, (other.path,))[0]
        for group in near
        for one, other in combinations(group.pictures, 2)
    ]
    with_original = [
        group for group in near if {one.path for one in group.pictures} & set(originals.values())
    ]
    best = [group.best in originals.values() for group in with_original]
    return {
        "recall": {name: float(np.mean(values)) for name, values in sorted(hits.items())},
        "pairs": len(right),
        "precision": float(np.mean(right)),
        "wrong_pairs": len(right) - sum(right),
        "original_is_best": [sum(best), len(best)],
        "pictures": report.pictures,
        "seconds": seconds,
    }


def recall(measured: dict[str, Any], names: Iterable[str] | None = None) -> float:
    """Mean over kinds of edit, each of which was made of every photo."""
    by_edit = measured["recall"]
    return float(np.mean([by_edit[name] for name in names or by_edit]))


COPIES = ("crop60", "flip", "gray", "jpeg20", "resize_third", "rot15", "text")


def rows_like(real: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float16 rows, each near a real one and off it in a direction that real ones take; of a
    twentieth a copy is planted at a cosine of 0.65 to 0.98. With it the positions of each pair."""
    rng = np.random.default_rng(0)
    centred = real - real.mean(0)
    usual = np.linalg.norm(centred, axis=1).mean()
    rows = np.empty((count, real.shape[1]), np.float16)
    for start in range(0, count, 20_000):
        size = min(20_000, count - start)
        mixed = rng.standard_normal((size, len(real)), dtype=np.float32) @ centred
        away = mixed / np.sqrt(len(real)) / usual
        rows[start : start + size] = unit(
            0.7 * real[rng.integers(len(real), size=size)] + 0.71 * away
        )
    first, second = np.split(rng.permutation(count)[: count // 20 * 2], 2)
    cosines = rng.uniform(0.65, 0.98, len(first)).astype(np.float32)[:, None]
    one = rows[first].astype(np.float32)
    off = rng.standard_normal(one.shape, dtype=np.float32)
    off = unit(off - np.vecdot(off, one)[:, None] * one)
    rows[second] = unit(cosines * one + np.sqrt(1 - cosines**2) * off)
    return rows, np.minimum(first, second), np.maximum(first, second)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def measure_neighbours(rows_file: str, out: str) -> None:
    """In a process of its own, for its peak: pairs among the rows of a file."""
    rows = np.load(rows_file)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    one, other, _ = neighbours.neighbour_pairs(rows, SIMILARITY, NEIGHBOURS)
    seconds = time.perf_counter() - begun
    np.save(out, one * len(rows) + other)
    print(json.dumps({"seconds": seconds, "pairs": len(one), "mb_rows": before / 1e3}))


def neighbour_figures(data: Path, count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        with embedsearch.open(Path(temporary) / "index") as index:
            index.add(data / "captions/images")
            catalogue = index._reader()
            encoder = catalogue.encoder()
            regions = np.array([one.region_id for one in whole_pictures(catalogue, encoder)])
            real = half_precision_rows(catalogue, encoder, regions).astype(np.float32)
        rows, first, second = rows_like(real, count)
        file, out = f"{temporary}/rows.npy", f"{temporary}/pairs.npy"
        np.save(file, rows)
        ran = process([sys.executable, __file__, "--measure-neighbours", file, out])
        keys = np.load(out)
    wanted = exact_keys(rows, np.random.default_rng(1).choice(count, 500, replace=False))
    return json.loads(ran.output) | {
        "rows": count,
        "dim": rows.shape[1],
        "peak_mb": ran.peak,
        "planted_found": float(np.isin(first * count + second, keys).mean()),
        "of_exact_found": float(np.isin(wanted, keys).mean()),
    }


def exact_keys(rows: np.ndarray, asking: np.ndarray) -> np.ndarray:
    """The nearest :data:`NEIGHBOURS` of some rows, found by comparing them with all."""
    queries = rows[asking].astype(np.float32)
    cosines = np.concatenate(
        [queries @ rows[s : s + 20_000].astype(np.float32).T for s in range(0, len(rows), 20_000)],
        axis=1,
    )
    cosines[np.arange(len(asking)), asking] = -1
    nearest = np.argpartition(cosines, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]
    good = np.take_along_axis(cosines, nearest, 1) >= SIMILARITY
    one, other = np.broadcast_to(asking[:, None], nearest.shape)[good], nearest[good]
    return np.minimum(one, other) * len(rows) + np.maximum(one, other)


def main() -> None:
    if sys.argv[1:2] == ["--measure-neighbours"]:
        return measure_neighbours(*sys.argv[2:])
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path, help="holds copies/, captions/, train/, products/")
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--originals", type=int, default=60)
    given = arguments.parse_args()
    data = given.data.resolve()
    copies = figures(*of_copies(data))
    edits = figures(*of_edits(data, given.originals))
    near = neighbour_figures(data, given.rows)
    report(
        "duplicates",
        [
            ("copies/: copies found", f"{recall(copies, COPIES):.3f}", ">= 0.85"),
            ("copies/: precision of pairs", f"{copies['precision']:.3f}", ">= 0.95"),
            ("copies/: bad light, noise, blur, occlusion found", f"{others(copies):.3f}", ""),
            ("copies/: the original is best", "{} of {}".format(*copies["original_is_best"]), ""),
            (f"copies/: {copies['pictures']:,} pictures", f"{copies['seconds']:.0f} s", ""),
            ("own edits: copies found", f"{recall(edits):.3f}", ""),
            ("own edits: precision of pairs", f"{edits['precision']:.3f}", ""),
            ("own edits: the original is best", "{} of {}".format(*edits["original_is_best"]), ""),
            (f"own edits: {edits['pictures']:,} pictures", f"{edits['seconds']:.0f} s", ""),
            (f"neighbours, {near['rows']:,} x {near['dim']}", f"{near['seconds']:.0f} s", ""),
            ("  peak (of it rows)", f"{near['peak_mb']:.0f} ({near['mb_rows']:.0f}) MB", ""),
            ("  planted copies found", f"{near['planted_found']:.4f}", ""),
            ("  of the pairs of an exact search", f"{near['of_exact_found']:.4f}", ""),
        ],
        {
            "about": "near copies with the default thresholds; neighbours by the vector index",
            "copies": copies,
            "edits": edits,
            "neighbours": near,
        },
    )


def others(copies: dict[str, Any]) -> float:
    return recall(copies, set(copies["recall"]) - set(COPIES))


if __name__ == "__main__":
    main()
