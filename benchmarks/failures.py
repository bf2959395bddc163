"""Ten answers of an encoder that are wrong and that it is most sure of, for its model card.

Of the captions: the picture that a caption finds first, by how much further away the wanted one is.
Of the categories: the label name nearest to a picture, and the nearest other picture.

    python benchmarks/failures.py DATA [--encoder SPEC] [--count 10] [--json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders import registry
from embedsearch.encoders.base import Encoder
from embedsearch.training.evaluate.category import prompt
from embedsearch.training.evaluate.ground_truth import (
    encode_files,
    encode_texts,
    read_csv,
    read_json_lines,
)
from embedsearch.training.evaluate.metrics import first_ranks


@dataclass(frozen=True)
class Wrong:
    """One wrong answer. Scores are cosines."""

    query: str
    wanted: str
    got: str
    wanted_score: float
    got_score: float
    rank: int
    """Of what was wanted, from 1."""

    def told(self) -> str:
        return (
            f"{self.query}\n    wanted {self.wanted} ({self.wanted_score:.3f}, place {self.rank}), "
            f"got {self.got} ({self.got_score:.3f})"
        )


def worst(
    similarities: NDArray[np.float32],
    relevant: NDArray[np.bool_],
    queries: Sequence[str],
    answers: Sequence[str],
    count: int,
) -> list[Wrong]:
    """The ``count`` queries whose first answer is the furthest above the best right one; each
    answer is told once, or one odd picture would fill the list."""
    right = np.where(relevant, similarities, -np.inf)
    wrong = np.where(relevant, -np.inf, similarities)
    gaps, ranks = wrong.max(axis=1) - right.max(axis=1), first_ranks(similarities, relevant)
    found: list[Wrong] = []
    for query in np.argsort(-gaps, kind="stable"):
        wanted, got = int(right[query].argmax()), int(wrong[query].argmax())
        if gaps[query] <= 0 or len(found) == count:
            break
        if answers[got] not in {one.got for one in found}:
            scores = (float(similarities[query, place]) for place in (wanted, got))
            found.append(
                Wrong(queries[query], answers[wanted], answers[got], *scores, int(ranks[query]))
            )
    return found


def of_captions(path: Path, encoder: Encoder, count: int) -> list[Wrong]:
    rows = read_json_lines(path)
    texts = [(text, row.where) for row in rows for text in row.texts("captions")]
    owners = np.repeat(np.arange(len(rows)), [len(row.texts("captions")) for row in rows])
    pictures = encode_files(encoder, [(row.file(), row.where) for row in rows])
    answers = [f"{row.text('file')} ({row.texts('captions')[0].strip()})" for row in rows]
    similarities = encode_texts(encoder, texts) @ pictures.T
    relevant = owners[:, None] == np.arange(len(rows))[None, :]
    return worst(similarities, relevant, [f'"{t.strip()}"' for t, _ in texts], answers, count)


def of_category(path: Path, encoder: Encoder, count: int) -> tuple[list[Wrong], list[Wrong]]:
    """Wrong names, and wrong neighbours; in the set with the most pictures."""
    rows = read_csv(path, ("file", "set", "label"))
    sets = [row.text("set") for row in rows]
    rows = [row for row in rows if row.text("set") == max(set(sets), key=sets.count)]
    labels = np.array([row.text("label") for row in rows])
    kinds = sorted(set(labels))
    files = [row.text("file") for row in rows]
    pictures = encode_files(encoder, [(row.file(), row.where) for row in rows])
    names = encode_texts(encoder, [(prompt(kind), str(path)) for kind in kinds])
    named = worst(
        pictures @ names.T, labels[:, None] == np.array(kinds)[None, :], files, kinds, count
    )
    near, same = pictures @ pictures.T, labels[:, None] == labels[None, :]
    np.fill_diagonal(near, -np.inf)
    np.fill_diagonal(same, False)
    asking = same.any(axis=1)
    queries = [file for file, asks in zip(files, asking, strict=True) if asks]
    return named, worst(near[asking], same[asking], queries, files, count)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--encoder", default="mini")
    arguments.add_argument("--count", type=int, default=10)
    arguments.add_argument("--json", action="store_true")
    given = arguments.parse_args()
    encoder = registry.load(given.encoder)
    named, near = of_category(given.data / "category" / "meta.csv", encoder, given.count)
    found = {
        "captions": of_captions(given.data / "captions" / "captions.jsonl", encoder, given.count),
        "category, by name": named,
        "category, by neighbour": near,
    }
    if given.json:
        told = {title: [asdict(one) for one in wrong] for title, wrong in found.items()}
        print(json.dumps({"encoder": encoder.info.id, **told}, indent=1))
        return
    print(f"{given.encoder} ({encoder.info.id})")
    for title, wrong in found.items():
        print(f"\n{title}")
        for number, one in enumerate(wrong, 1):
            print(f"{number:3} {one.told()}")


if __name__ == "__main__":
    main()
