"""How long does it take to find words among 100,000 lines that were read in pictures?

    python benchmarks/text_search.py

The catalogue has 10,000 pictures with ten lines each, of the words that tags are chosen from: as in
any language a few are in every tenth line, most in hardly any. Every query is asked of an opened
catalogue, and several times; the figures are milliseconds of one processor, and of the clock. Bar:
10 ms.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

from measure import report

from embedsearch.explore.vocabulary import words
from embedsearch.store import database
from embedsearch.store.catalogue import Catalogue
from embedsearch.store.text_search import search_text

PICTURES, LINES = 10_000, 10
RUNS = 15
LIMIT = 10


def drawn_lines() -> list[str]:
    """Lines of one to seven words, the n-th word n times as rare as the first, and numbers."""
    draw = random.Random(0)
    known = sorted({word for phrase in words() for word in phrase.split() if len(word) > 2})
    draw.shuffle(known)
    weights = [1 / (place + 3) for place in range(len(known))]
    return [
        " ".join(draw.choices(known, weights, k=draw.randint(1, 7)))
        + (f" {draw.randint(1, 99_999)}" if draw.random() < 0.4 else "")
        for _ in range(PICTURES * LINES)
    ]


def fill(path: Path, lines: list[str]) -> None:
    connection = database.open_writer(path)
    connection.execute("begin")
    connection.execute("insert into roots values (1, ?, '/pictures', 0)", (b"/pictures",))
    connection.execute("insert into enrichers values (1, 'reader', 'ocr', '{}')")
    connection.executemany(
        "insert into images (id, root_id, path, name, size, mtime_ns, hash, width, height, format, "
        "status) values (?, 1, ?, ?, 1, 1, 'h', 100, 100, 'JPEG', 'ok')",
        [(n + 1, f"{n}.jpg".encode(), f"{n}.jpg") for n in range(PICTURES)],
    )
    connection.executemany(
        "insert into text_lines (image_id, enricher, x, y, w, h, text, confidence) "
        "values (?, 1, 0, 0, 1, 1, ?, 0.9)",
        [(place // LINES + 1, line) for place, line in enumerate(lines)],
    )
    connection.execute("commit")
    connection.close()


def queries(lines: list[str]) -> dict[str, str]:
    counts = Counter(word for line in lines for word in line.split() if word.isalpha())
    ranked = [word for word, _ in counts.most_common()]
    long = [word for word in ranked if len(word) >= 7]
    common, usual, rare = long[0], long[len(long) // 50], long[len(long) // 2]
    holding = next(line for line in lines if rare in line.split())
    return {
        "rare word": rare,
        "usual word": usual,
        "word of every tenth line": ranked[0],
        "beginning": usual[:4],
        "part": rare[2:],
        "misspelling": rare[:3] + rare[4:],
        "misspelling of a common word": common[:3] + common[4:],
        "two words": f"{usual} {rare}",
        "two common words": f"{ranked[0]} {ranked[1]}",
        "a word and a misspelling": f"{ranked[0]} {rare[:2]}{rare[3:]}",
        "a phrase": f'"{" ".join(holding.split()[:3])}"',
        "nothing": "qzxv wkjq",
    }


def timed(catalogue: Catalogue, asked: str) -> tuple[float, float, int]:
    """Milliseconds of the processor and of the clock, medians; and how many hits."""
    busy, clock, hits = [], [], 0
    for _ in range(RUNS):
        begun, began = time.process_time(), time.perf_counter()
        hits = len(search_text(catalogue, asked, LIMIT))
        busy.append(time.process_time() - begun)
        clock.append(time.perf_counter() - began)
    return statistics.median(busy) * 1e3, statistics.median(clock) * 1e3, hits


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    lines = drawn_lines()
    rows: list[tuple[str, str, str]] = []
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalogue.db"
        fill(path, lines)
        with Catalogue.open(path) as catalogue:
            for name, asked in queries(lines).items():
                busy, clock, hits = timed(catalogue, asked)
                rows.append((name, f"{busy:.1f} ms ({clock:.1f} by the clock)", "10 ms"))
                figures[name] = {"processor_ms": busy, "clock_ms": clock, "hits": hits}
    about = f"{len(lines):,} lines, processor time of a query, {LIMIT} hits"
    report("text_search", rows, {"about": about, **figures})


if __name__ == "__main__":
    main()
