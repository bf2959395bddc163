"""Does ``--min-score auto`` say that nothing matches when nothing does?

    python benchmarks/nothing_matches.py captions/images [--enrich detect] [--detector SPEC]

The queries are those of queries/nothing_matches.csv: of half of them some of the photos' captions
have all the words, of the others none has. Halves by the SHA-1 of their text tell how much chance
there is in it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import tempfile
from pathlib import Path
from typing import Any

from measure import report

from embedsearch.index import Index

QUERIES = Path(__file__).parent / "queries" / "nothing_matches.csv"
BARS = {"precision": " >= 0.9", "recall": " >= 0.7"}


def summary(asked: list[dict[str, Any]]) -> dict[str, float]:
    """Of "nothing matches": how often it is right, and of how many queries with nothing it is
    said; and how many hits the others have."""
    none = [one for one in asked if not one["hits"]]
    absent = [one for one in asked if not one["present"]]
    right = sum(not one["present"] for one in none)
    kept = [one["hits"] for one in asked if one["present"]]
    return {
        "queries": len(asked),
        "precision": right / max(1, len(none)),
        "recall": right / max(1, len(absent)),
        "hits of a query with some": sum(kept) / max(1, len(kept)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--enrich", default="none")
    parser.add_argument("--detector")
    given = parser.parse_args()
    with QUERIES.open(newline="") as stream:
        asked: list[dict[str, Any]] = [
            {"query": row["query"], "present": row["present"] == "1"}
            for row in csv.DictReader(stream)
        ]
    with tempfile.TemporaryDirectory() as folder, Index(folder) as index:
        index.add(given.photos)
        if given.enrich != "none":
            index.enrich(given.enrich, specs={"detect": given.detector})
        for one in asked:
            one["hits"] = len(index.search(one["query"], k=1000, min_score="auto"))
    halves: dict[str, list[dict[str, Any]]] = {"all": asked, "even": [], "odd": []}
    for one in asked:
        digest = hashlib.sha1(one["query"].encode(), usedforsecurity=False).digest()
        halves["odd" if digest[-1] % 2 else "even"].append(one)
    figures = {name: summary(some) for name, some in halves.items()}
    rows = [
        (f"{half}: {name}", f"{value:.2f}", BARS.get(name, ""))
        for half, told in figures.items()
        for name, value in told.items()
    ]
    wrong = [one["query"] for one in asked if one["present"] == (not one["hits"])]
    report(
        f"nothing_matches-{given.enrich}",
        rows,
        {"about": "nothing matches", "figures": figures, "wrong": wrong},
    )
    print("wrong: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
