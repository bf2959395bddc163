"""How long does one query take, from nothing, over 100,000 regions?

Ours: a fresh ``embedsearch search TEXT`` over an index of 100,000 x 256-d. Beside it the bound: a
fresh process that only imports numpy, faiss and typer. Bars: at most 1.4 times the bound's wall
time, at most 200 MB peak.

    python benchmarks/cold_query.py [--regions 100000] [--runs 15]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from measure import EMBEDSEARCH, Process, interleaved, median, process, ratios, report, spread

from embedsearch.encoders import registry
from embedsearch.indexing.sync import sync_vectors
from embedsearch.store.ledger import Ledger
from embedsearch.store.picture_writer import Content

FLOOR = [sys.executable, "-c", "import numpy, faiss, typer"]


def make_index(folder: Path, regions: int) -> None:
    """An index of pictures that do not exist, with random embeddings and the real encoder."""
    encoder = registry.load("mini")
    rng = np.random.default_rng(0)
    with Ledger.open(folder / "catalogue.db") as ledger:
        registry.keep_copy(encoder, folder)
        with ledger.transaction():
            stored = ledger.add_encoder(encoder.info)
            root, _ = ledger.add_root(b"/photos", 0)
        for start in range(0, regions, 1000):
            rows = rng.standard_normal((1000, encoder.info.dim), dtype=np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            with ledger.transaction():
                for offset, row in enumerate(rows):
                    number = start + offset
                    content = Content(1, 1, f"{number:032x}", 640, 480, "JPEG", vector=row)
                    path = b"%03d/%06d.jpg" % (start // 1000, number)
                    ledger.store(root, path, content, stored, anew=False, is_gone=lambda *_: False)
        sync_vectors(ledger, folder, stored)
        ledger.checkpoint()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--regions", type=int, default=100_000)
    arguments.add_argument("--runs", type=int, default=15)
    given = arguments.parse_args()
    peaks: dict[str, float] = {}

    def timed(name: str, command: list[str]) -> float:
        done: Process = process(command)
        peaks[name] = max(peaks.get(name, 0), done.peak)
        return done.wall

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_index(folder, given.regions)
        ask = [EMBEDSEARCH, "search", "a dog jumping over a log", "--index", str(folder)]
        walls = interleaved(
            given.runs,
            bound=lambda: timed("bound", FLOOR),
            json=lambda: timed("json", [*ask, "--json"]),
            table=lambda: timed("table", ask),
        )
    ratio = {name: ratios(walls[name], walls["bound"]) for name in ("json", "table")}
    report(
        "cold_query",
        [
            ("bound: import numpy, faiss, typer", f"{spread(walls['bound'])} s", ""),
            ("search --json", f"{spread(walls['json'])} s", ""),
            ("search, as a table", f"{spread(walls['table'])} s", ""),
            ("--json / bound", f"{ratio['json']:.2f}", "<= 1.4"),
            ("table / bound", f"{ratio['table']:.2f}", "<= 1.4"),
            ("peak of the bound", f"{peaks['bound']:.0f} MB", ""),
            ("peak of --json", f"{peaks['json']:.0f} MB", "<= 200 MB"),
            ("peak of the table", f"{peaks['table']:.0f} MB", "<= 200 MB"),
        ],
        {
            "about": f"text query over {given.regions:,} regions, median (min-max) of {given.runs}",
            "regions": given.regions,
            "wall_s": walls,
            "median_s": {name: median(values) for name, values in walls.items()},
            "ratio": ratio,
            "peak_mb": peaks,
        },
    )


if __name__ == "__main__":
    main()
