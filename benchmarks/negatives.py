"""How much should a negative count? The factor of ``embedsearch.search.query.NEGATIVE``.

Queries ``A - B`` over every ordered pair of common things in the captions. A picture shows a thing
where at least two of its captions name it, and does not where none does. Relevant for ``A - B`` are
the pictures that show A and not B; only pairs with at least 10 pictures of A with B and 10 of A
without B are asked. AP is over all pictures; the other columns count the first ten.

    python benchmarks/negatives.py captions.jsonl [--encoder mini]
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
from measure import report
from numpy.typing import NDArray

import embedsearch
from embedsearch.images.decode import decode

THINGS = [
    "dog",
    "man",
    "woman",
    "boy",
    "girl",
    "child",
    "people",
    "water",
    "snow",
    "grass",
    "beach",
    "sand",
    "street",
    "ball",
    "bike",
    "field",
    "tree",
    "mountain",
    "rock",
    "car",
    "crowd",
    "bench",
    "wall",
    "building",
    "pool",
    "road",
    "camera",
    "hat",
    "helmet",
    "shirt",
    "flag",
    "stick",
    "red",
    "blue",
    "black",
    "white",
    "yellow",
    "green",
    "brown",
]
FACTORS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)


def shown(captions: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """How many captions of each picture name each thing: (pictures, things)."""
    words = [[set(re.findall("[a-z]+", c.lower())) for c in said] for said in captions]
    return np.array(
        [[sum(thing in w or thing + "s" in w for w in said) for thing in THINGS] for said in words]
    )


def average_precision(relevant: NDArray[np.bool_]) -> float:
    """Of one ranking, ``relevant`` in its order."""
    places = np.flatnonzero(relevant)
    return float((np.arange(1, len(places) + 1) / (places + 1)).mean())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("captions", type=Path)
    arguments.add_argument("--encoder", default="mini")
    given = arguments.parse_args()
    rows = [json.loads(line) for line in given.captions.read_text("utf-8").splitlines()]
    encoder = embedsearch.load_encoder(given.encoder)
    pictures = np.concatenate(
        [
            encoder.encode_images(
                [decode(given.captions.parent / row["file"], encoder.info.input_size).pixels]
            )
            for row in rows
        ]
    )
    texts = encoder.encode_texts(THINGS)
    counts = shown([row["captions"] for row in rows])
    has, has_not = counts >= 2, counts == 0
    pairs = [
        (a, b)
        for a, b in permutations(range(len(THINGS)), 2)
        if (has[:, a] & has[:, b]).sum() >= 10 and (has[:, a] & has_not[:, b]).sum() >= 10
    ]
    table, figures = [], {}
    for factor in FACTORS:
        measured = []
        for a, b in pairs:
            order = np.argsort(-(pictures @ (texts[a] - factor * texts[b])), kind="stable")
            wanted = has[:, a] & has_not[:, b]
            measured.append(
                (
                    average_precision(wanted[order]),
                    wanted[order[:10]].mean(),
                    has[order[:10], a].mean(),
                    (~has_not[order[:10], b]).mean(),
                )
            )
        ap, precision, with_a, with_b = np.mean(measured, axis=0).tolist()
        figures[str(factor)] = {"mAP": ap, "P@10": precision, "A@10": with_a, "B@10": with_b}
        line = f"mAP {ap:.3f}  P@10 {precision:.3f}  shows A {with_a:.3f}  named B {with_b:.3f}"
        table.append((f"A - {factor:g} B", line, ""))
    about = f"{len(pairs)} pairs of {len(THINGS)} things, {len(rows):,} pictures, {given.encoder}"
    report("negatives", table, {"about": about, "pairs": len(pairs), "factors": figures})


if __name__ == "__main__":
    main()
