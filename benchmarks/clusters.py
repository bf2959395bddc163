"""Do clusters follow the labels that people gave, and how long do they take?

The pictures of each set are indexed with ``mini`` and clustered: by k-means with as many clusters
as labels, with the number chosen by default, and by density. Figures: NMI (normalised mutual
information, 1 = the clusters are the labels) and purity (part of the pictures that are of the label
that is most frequent in their cluster); pictures in no cluster count as one more cluster. Beside
them scikit-learn's k-means (10 starts) on the same embeddings, and HDBSCAN on all 256 dimensions.
Bar: NMI 0.65 on caltech101.

Times are of random rows in 300 clusters of 64 dimensions, or, with --index, of that index's
embeddings, each repeated with a little noise. Bars, on two cores: k-means with the number chosen on
100,000 x 256 in 10 s, density on 50,000 in 60 s.

    python benchmarks/clusters.py DATA [--index DIR]
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import report
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.metrics import normalized_mutual_info_score

import embedsearch
from embedsearch.explore.grouping import by_density, by_kmeans
from embedsearch.records import ClusterReport
from embedsearch.store.catalogue import Catalogue
from embedsearch.store.database import CATALOGUE
from embedsearch.store.whole_pictures import (
    half_precision_rows,
    images_by_id,
    whole_pictures,
)

DIM = 256
KMEANS_ROWS, DENSITY_ROWS, PLAIN_ROWS = 100_000, 50_000, 5_000


def sets(data: Path) -> dict[str, dict[str, str]]:
    """Of each set the label of each picture, by absolute path."""
    found: dict[str, dict[str, str]] = {}
    with (data / "category/meta.csv").open() as stream:
        for row in csv.DictReader(stream):
            path = str((data / "category" / row["file"]).resolve())
            found.setdefault(row["set"], {})[path] = row["label"]
    with (data / "products/photos.csv").open() as stream:
        found["products"] = {
            str((data / "products" / row["file"]).resolve()): row["class"]
            for row in csv.DictReader(stream)
        }
    return found


def measured(labels: dict[str, str]) -> dict[str, Any]:
    """NMI, purity, clusters and unclustered of each method on the pictures of ``labels``."""
    kinds = len(set(labels.values()))
    with tempfile.TemporaryDirectory() as folder, embedsearch.open(folder) as index:
        index.add(*labels)
        figures = {
            "kmeans, as many as labels": scored(index, index.cluster(kinds), labels),
            "kmeans, number chosen": scored(index, index.cluster(anew=True), labels),
            "density": scored(index, index.cluster(method="density"), labels),
        }
        index.close()
        rows, paths = embeddings(Path(folder))
    truth = [labels[path] for path in paths]
    plain = KMeans(kinds, n_init=10, random_state=0).fit_predict(rows)
    figures["scikit-learn k-means, as many as labels"] = figures_of(truth, plain)
    density = HDBSCAN(min_cluster_size=5, copy=True).fit_predict(rows)
    figures["HDBSCAN on 256 dimensions"] = figures_of(truth, density)
    return {"pictures": len(labels), "labels": kinds, "methods": figures}


def scored(
    index: embedsearch.Index, found: ClusterReport, labels: dict[str, str]
) -> dict[str, Any]:
    number = dict.fromkeys(labels, -1)
    right = 0
    for one in found.clusters:
        members = [path for path, _ in index.cluster_pictures(one.cluster, len(labels))]
        number.update(dict.fromkeys(members, one.cluster))
        (usual, _), *_ = Counter(labels[path] for path in members).most_common(1)
        right += same_word(one.name, usual)
    figures = figures_of(list(labels.values()), np.array(list(number.values())))
    return figures | {"named_as_label": right / max(1, len(found.clusters))}


def same_word(name: str, label: str) -> bool:
    """Whether a name is the label, or one has the other in it ("wild cat", "cat")."""
    one, other = (
        {word.rstrip("s") for word in t.lower().replace("_", " ").split()} for t in (name, label)
    )
    return one <= other or other <= one


def figures_of(truth: list[str], numbers: np.ndarray) -> dict[str, Any]:
    counts: dict[int, Counter[str]] = {}
    for label, number in zip(truth, numbers.tolist(), strict=True):
        counts.setdefault(number, Counter())[label] += 1
    inside = numbers != -1
    clustered = [label for label, is_inside in zip(truth, inside, strict=True) if is_inside]
    return {
        "nmi": float(normalized_mutual_info_score(truth, numbers)),
        "nmi_of_clustered": float(normalized_mutual_info_score(clustered, numbers[inside])),
        "purity": sum(count.most_common(1)[0][1] for count in counts.values()) / len(truth),
        "clusters": len(counts) - (-1 in counts),
        "unclustered": float((numbers == -1).mean()),
    }


def embeddings(folder: Path) -> tuple[np.ndarray, list[str]]:
    with Catalogue.open(folder / CATALOGUE) as catalogue:
        encoder = catalogue.encoder()
        pictures = list(whole_pictures(catalogue, encoder))
        ids = np.fromiter((one.region_id for one in pictures), np.int64)
        images = images_by_id(catalogue, [one.image_id for one in pictures])
        rows = half_precision_rows(catalogue, encoder, ids)
        return rows, [images[one.image_id].path for one in pictures]


def many_rows(count: int, index: Path | None) -> np.ndarray:
    rng = np.random.default_rng(0)
    if index is not None:
        rows = embeddings(index)[0].astype(np.float32)
        rows = rows[rng.integers(len(rows), size=count)]
        rows += rng.standard_normal(rows.shape, dtype=np.float32) * 0.03
    else:
        centres = rng.standard_normal((300, DIM), dtype=np.float32)
        basis = rng.standard_normal((64, DIM), dtype=np.float32) * 1.2 / 8
        spread = rng.standard_normal((count, 64), dtype=np.float32) @ basis
        rows = centres[rng.integers(300, size=count)] + spread
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    made = work()
    return time.perf_counter() - begun, made


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("data", type=Path, help="the folder of category/ and products/")
    arguments.add_argument("--index", type=Path, help="an index to take embeddings of")
    given = arguments.parse_args()
    quality = {name: measured(labels) for name, labels in sets(given.data.resolve()).items()}
    rows = many_rows(KMEANS_ROWS, given.index)
    by_kmeans(rows[:1000])  # imports
    kmeans, made = seconds(lambda: by_kmeans(rows))
    count = len(made.centroids)
    wide = rows.astype(np.float32)
    plain, _ = seconds(lambda: KMeans(count, n_init=1, random_state=0).fit(wide))
    density, found = seconds(lambda: by_density(rows[:DENSITY_ROWS]))
    whole, _ = seconds(lambda: HDBSCAN(min_cluster_size=5, copy=True).fit(wide[:PLAIN_ROWS]))
    table = [
        (f"{name}: {method}", f"{told['nmi']:.3f} / {told['purity']:.3f}", bar(name, method))
        for name, one in quality.items()
        for method, told in one["methods"].items()
    ]
    table += [
        (f"k-means, {KMEANS_ROWS:,} x {DIM}, number chosen ({count})", f"{kmeans:.1f} s", "< 10 s"),
        (f"scikit-learn k-means of {count}, one start", f"{plain:.1f} s", ""),
        (
            f"density, {DENSITY_ROWS:,} x {DIM} ({len(found.centroids)} clusters)",
            f"{density:.1f} s",
            "< 60 s",
        ),
        (f"HDBSCAN on {DIM} dimensions, {PLAIN_ROWS:,} rows", f"{whole:.1f} s", ""),
    ]
    report(
        "clusters",
        table,
        {
            "about": "NMI / purity by set and method; seconds",
            "quality": quality,
            "rows": "random" if given.index is None else "embeddings of an index, with noise",
            "seconds": {
                "kmeans": kmeans,
                "kmeans_clusters": count,
                "scikit_learn_kmeans": plain,
                "density": density,
                "density_clusters": len(found.centroids),
                "hdbscan_whole": whole,
            },
        },
    )


def bar(name: str, method: str) -> str:
    ours = method.startswith(("kmeans", "density"))
    return ">= 0.65" if name == "caltech101" and ours else ""


if __name__ == "__main__":
    main()
