"""How long does a map of 50,000 pictures take, how large is its page, and how smooth?

Layouts: 50,000 x 256 rows in 300 clusters, each method in a process of its own, imports counted.
Truth: how often, in the sets of DATA/category, the nearest other picture on the map is of the same
label, beside how often that is so among the embeddings themselves.
Page: the map of the photos in DATA/train as one HTML file, opened in headless Chromium without a
GPU; and a page of 100,000 points with as many thumbnails. The page tells itself when its first
frame was drawn. Bars on two cores: t-SNE 300 s, UMAP 60 s, 40 MB, 3 s.

    python benchmarks/maps.py DATA [--index DIR] [--rows 50000] [--only layouts|truth|page]

``--index`` is an index that has the photos already; else one is made, which takes minutes. Without
Chromium the page is only weighed.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from measure import median, process, report, spread

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from browser import CHROMIUM, Browser, Page

import embedsearch
from embedsearch.explore import projection
from embedsearch.images.decode import decode
from embedsearch.images.thumbnails import thumbnail
from embedsearch.records import Image, MapPoint
from embedsearch.render.atlas import write_atlas
from embedsearch.render.colouring import colourings
from embedsearch.render.sprites import ACROSS, in_levels, sheets, tile_side
from embedsearch.settings import workers

DIM = 256
OPENED = 5
MANY = 100_000
Row = tuple[str, str, str]


def clustered(count: int) -> np.ndarray:
    """Unit rows in 300 clusters of 64 dimensions, float32 (count, 256)."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((300, DIM), dtype=np.float32)
    basis = rng.standard_normal((64, DIM), dtype=np.float32) * 1.2 / 8
    rows = centres[rng.integers(300, size=count)]
    rows += rng.standard_normal((count, 64), dtype=np.float32) @ basis
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def lay_out(method: projection.Method, count: int) -> None:
    """What a process of its own does: lays out ``count`` rows, then places 1,000 among 15,000."""
    rows = clustered(count)
    begun = time.perf_counter()
    places, parameters = projection.lay_out(rows, method, workers=workers())
    laid = time.perf_counter()
    old = rows[:15_000]
    projection.place(rows[-1000:], old, places[:15_000], method, parameters, workers=workers())
    print(laid - begun, time.perf_counter() - laid)


def layouts(count: int) -> tuple[list[Row], dict[str, Any]]:
    bars = {"pca": "", "tsne": "<= 300 s", "umap": "<= 60 s"}
    lines: list[Row] = []
    figures: dict[str, Any] = {}
    for method, bar in bars.items():
        done = process([sys.executable, __file__, "--lay-out", method, "--rows", str(count)])
        laid, placed = (float(word) for word in done.output.split())
        figures[method] = {"seconds": laid, "placing_seconds": placed, "peak_mb": done.peak}
        lines += [
            (f"{method}, {count:,} x {DIM}", f"{laid:.1f} s", bar),
            ("  1,000 more placed among 15,000", f"{placed:.1f} s", ""),
            ("  peak", f"{done.peak:.0f} MB", ""),
        ]
    return lines, figures


def truth(data: Path) -> tuple[list[Row], dict[str, Any]]:
    """The part of the pictures whose nearest neighbour has their label, by set and method."""
    lines: list[Row] = []
    figures: dict[str, Any] = {}
    encoder = embedsearch.load_encoder("mini")
    with (data / "category/meta.csv").open() as stream:
        photos = list(csv.DictReader(stream))
    for name in sorted({photo["set"] for photo in photos}):
        those = [photo for photo in photos if photo["set"] == name]
        labels = np.array([photo["label"] for photo in those])
        pixels = [decode(data / "category" / it["file"], encoder.info.input_size) for it in those]
        rows = encoder.encode_images([it.pixels for it in pixels])
        told = figures[name] = {"embeddings": agreement(rows, labels)}
        for method in projection.METHODS:
            told[method] = agreement(projection.lay_out(rows, method)[0], labels)
        said = ", ".join(f"{method} {share:.3f}" for method, share in told.items())
        lines.append((f"{name}, {len(those)}: same label", said, ""))
    return lines, figures


def agreement(points: np.ndarray, labels: np.ndarray) -> float:
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return float((labels[distances.argmin(axis=1)] == labels).mean())


def opened(page_file: Path) -> dict[str, Any]:
    """Milliseconds to the first frame and to the thumbnails, and between frames while the map
    is zoomed and moved."""
    drawn, pictured, frames = [], [], []
    for _ in range(OPENED):
        with Browser() as browser:
            page = browser.open(page_file.absolute().as_uri(), 1440, 900)
            page.until("document.documentElement.dataset.pictured")
            told = page.run("({...document.documentElement.dataset})")
            drawn.append(float(told["drawn"]))
            pictured.append(float(told["pictured"]))
            frames.append(between_frames(page))
    return {
        "drawn_ms": drawn,
        "pictured_ms": pictured,
        "frame_ms": frames,
        "megabytes": page_file.stat().st_size / 1e6,
    }


def between_frames(page: Page) -> float:
    """Median over 60 frames of zooming in and moving."""
    intervals: list[float] = page.run(
        """(async () => {
            const times = [];
            for (let step = 0; step <= 60; step++) {
                if (step % 2) zoom(1.05, 700, 450); else pan(6, 3);
                times.push(await new Promise(requestAnimationFrame));
            }
            return times.slice(1).map((time, at) => time - times[at]);
        })()"""
    )
    return median(intervals)


def write_many(out: Path, photos: Sequence[Path]) -> None:
    """A page of 100,000 points; the thumbnails are those of 256 photos over and over."""
    side = tile_side(MANY)
    sheet, sizes = next(sheets((thumbnail(photo, side) for photo in photos), side))
    places, _ = projection.lay_out(clustered(MANY), "pca")
    points = []
    for at in in_levels(places).tolist():
        name = f"/photos/{at % 40}/picture {at}.jpg"
        image = Image(at, name, 1, 1, "", 640, 480, f"{2000 + at % 20}-01-01T00:00:00", "ok")
        points.append(MapPoint(image, *places[at].tolist(), 1 + at % 30, f"cluster {at % 30}"))
    write_atlas(
        out,
        points,
        list(colourings(points).values()),
        [(sheet, sizes)] * (MANY // ACROSS**2) + [(sheet, sizes[: MANY % ACROSS**2])],
        tile=side,
        title="many",
    )


def pages(data: Path, index_folder: Path | None) -> tuple[list[Row], dict[str, Any]]:
    lines: list[Row] = []
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        train, many = Path(temporary) / "train.html", Path(temporary) / "many.html"
        with embedsearch.open(index_folder or Path(temporary) / "index") as index:
            if index_folder is None:
                index.add(data / "train")
            found = index.map()
            begun = time.perf_counter()
            index.draw_map(found, train)
            figures["writing_seconds"] = time.perf_counter() - begun
        photos = [point.image.path for point in islice(found.points, ACROSS**2)]
        write_many(many, [Path(path) for path in photos])
        named = (
            (train, f"{len(found.points):,} photos", ("<= 40 MB", "<= 3000 ms")),
            (many, f"{MANY:,} points", ("", "")),
        )
        for file, name, (weight, time_bar) in named:
            lines.append((f"{name}: page", f"{file.stat().st_size / 1e6:.1f} MB", weight))
            if CHROMIUM is None:
                lines.append(("  not opened: no Chromium here", "", ""))
                continue
            told = figures[file.stem] = opened(file)
            lines += [
                ("  first frame drawn after", f"{spread(told['drawn_ms'], 0)} ms", time_bar),
                ("  thumbnails drawn after", f"{spread(told['pictured_ms'], 0)} ms", time_bar),
                ("  between frames in motion", f"{spread(told['frame_ms'], 0)} ms", ""),
            ]
    return lines, figures


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path, nargs="?", help="the folder of train/")
    arguments.add_argument("--index", type=Path)
    arguments.add_argument("--rows", type=int, default=50_000)
    arguments.add_argument("--only", choices=["layouts", "truth", "page"])
    arguments.add_argument("--lay-out", choices=projection.METHODS, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.lay_out:
        lay_out(given.lay_out, given.rows)
        return
    if given.data is None and given.only != "layouts":
        arguments.error("name the folder that holds train/ and category/, or: --only layouts")
    lines: list[Row] = []
    figures: dict[str, Any] = {"about": "maps of 50,000 pictures, and their pages in Chromium"}
    if given.only in (None, "layouts"):
        more, figures["layouts"] = layouts(given.rows)
        lines += more
    if given.only in (None, "truth"):
        more, figures["truth"] = truth(given.data.resolve())
        lines += more
    if given.only in (None, "page"):
        more, figures["pages"] = pages(given.data.resolve(), given.index)
        lines += more
    report("maps", lines, figures)


if __name__ == "__main__":
    main()
