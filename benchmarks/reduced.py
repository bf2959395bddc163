"""What do fewer dimensions cost, and what do they save? ``mini?dim=N`` beside ``mini``.

The axes are fitted on what INDEX holds of the encoder; recall is measured on captioned photos that
are not in it. Beside the axes that embedsearch keeps (no shift, no whitening) stand the ways that
the literature on retrieval knows (Jégou and Chum, "Negative evidences and co-occurences in image
retrieval: the benefit of PCA and whitening", 2012): centred by the mean of the pictures, and
whitened. "neighbours" is how many of a photo's ten nearest stay among its ten nearest. The time is
that of a scan over 100,000 embeddings, as a query does it.

    python benchmarks/reduced.py INDEX captions.jsonl [--encoder mini] [--runs 15]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import interleaved, median, report
from numpy.typing import NDArray

import embedsearch
from embedsearch.encoders.compound import best_axes
from embedsearch.store.catalogue import Catalogue
from embedsearch.store.database import CATALOGUE
from embedsearch.store.vector_file import open_vector_file
from embedsearch.store.vector_writer import write
from embedsearch.training.evaluate.captions import captions_figures
from embedsearch.training.evaluate.ground_truth import encode_files, encode_texts, read_json_lines

DIMS = (128, 64, 32)
FEWER = (128, 256, 512, 1024)
"""Pictures to fit on, where not on all."""
SCANNED = 100_000
Rows = NDArray[np.float32]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("index", type=Path)
    arguments.add_argument("captions", type=Path)
    arguments.add_argument("--encoder", default="mini")
    arguments.add_argument("--runs", type=int, default=15)
    given = arguments.parse_args()
    fitted_on = held(given.index, given.encoder)
    encoder = embedsearch.load_encoder(given.encoder)
    lines = read_json_lines(given.captions)
    pictures = encode_files(encoder, [(line.file(), line.where) for line in lines])
    said = [(text, line.where) for line in lines for text in line.texts("captions")]
    texts = encode_texts(encoder, said)
    owners = np.repeat(np.arange(len(lines)), [len(line.texts("captions")) for line in lines])

    whole = pictures.shape[1]
    ways: dict[str, Callable[[Rows], Rows]] = {f"{whole}": lambda rows: rows}
    for dim in DIMS:
        ways |= reductions(fitted_on, dim)
    figures: dict[str, Any] = {}
    for name, reduce in ways.items():
        some, asked = reduce(pictures), reduce(texts)
        recall = captions_figures(some, asked, owners)
        figures[name] = recall | {"neighbours": kept(pictures, some)}
    with tempfile.TemporaryDirectory() as folder:
        scans = {
            str(dim): scan(Path(folder), fitted_on @ best_axes(moment(fitted_on), dim).T)
            for dim in (whole, *DIMS)
        }
        times = interleaved(given.runs, **scans)
    table = []
    for name, found in figures.items():
        line = f"R@1 {found['text_to_image']['R@1']:.3f}  R@10 {found['text_to_image']['R@10']:.3f}"
        line += f"  neighbours {found['neighbours']:.3f}"
        if name in times:
            found["scan_ms"] = times[name]
            found["bytes"] = 2 * int(name), 4 * int(name)
            line += f"  scan {median(times[name]):.1f} ms  {4 * int(name)} bytes a picture"
        table.append((name, line, ""))
    about = f"{given.encoder}, fitted on {len(fitted_on):,}, {len(lines):,} captioned photos"
    report("reduced", table, {"about": about, "dims": figures})


def held(index: Path, encoder: str) -> Rows:
    """All embeddings of ``encoder`` in the index."""
    with Catalogue.open(index / CATALOGUE) as catalogue:
        stored = catalogue.encoder(encoder)
        chunks = catalogue.embeddings(stored, catalogue.region_ids(stored))
        return np.concatenate([rows for _, rows in chunks])


def moment(rows: Rows) -> NDArray[np.float64]:
    exact = rows.astype(np.float64)
    return exact.T @ exact


def reductions(rows: Rows, dim: int) -> dict[str, Callable[[Rows], Rows]]:
    """By name, what makes fewer numbers of rows."""
    axes = best_axes(moment(rows), dim)
    mean = rows.mean(axis=0)
    centred = best_axes(moment(rows - mean), dim)
    spread = np.sqrt(((rows - mean) @ centred.T).var(axis=0))
    fewer = {f"{dim}, fitted on {count:,}": on(rows, count, dim) for count in FEWER}
    return fewer | {
        f"{dim}": lambda some: unit(some @ axes.T),
        f"{dim}, centred": lambda some: unit((some - mean) @ centred.T),
        f"{dim}, centred, half whitened": lambda some: unit(
            (some - mean) @ centred.T / np.sqrt(spread)
        ),
        f"{dim}, centred, whitened": lambda some: unit((some - mean) @ centred.T / spread),
    }


def on(rows: Rows, count: int, dim: int) -> Callable[[Rows], Rows]:
    """What embedsearch does where it finds only ``count`` pictures to fit on."""
    some = rows[np.random.default_rng(0).choice(len(rows), count, replace=False)]
    axes = best_axes(moment(some), dim)
    return lambda wanted: unit(wanted @ axes.T)


def unit(rows: Rows) -> Rows:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def kept(before: Rows, after: Rows) -> float:
    return float(
        np.mean([len(set(a) & set(b)) / 10 for a, b in zip(near(before), near(after), strict=True)])
    )


def near(rows: Rows) -> NDArray[np.int64]:
    similar = rows @ rows.T
    np.fill_diagonal(similar, -2)
    return np.argsort(-similar, axis=1, kind="stable")[:, :10]


def scan(folder: Path, rows: Rows) -> Callable[[], float]:
    """A query over :data:`SCANNED` of ``rows``, repeated as often as need be."""
    path = folder / f"{rows.shape[1]}.faiss"

    def chunks() -> Iterator[tuple[NDArray[np.int64], Rows]]:
        for start in range(0, SCANNED, 4096):
            ids = np.arange(start, min(start + 4096, SCANNED))
            yield ids, np.ascontiguousarray(rows[ids % len(rows)], np.float32)

    removed = np.empty(0, np.int64)
    write(path, dim=rows.shape[1], revision="0" * 16, added=chunks(), removed=removed)

    def query() -> float:
        begun = time.perf_counter()
        file = open_vector_file(path)
        assert file is not None
        file.scores(np.ascontiguousarray(rows[0], np.float32))
        file.close()
        return 1000 * (time.perf_counter() - begun)

    return query


if __name__ == "__main__":
    main()
