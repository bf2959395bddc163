"""How much does training help? From scratch, a linear probe, and fine-tuning, with 5, 20 and all
photos of each class.

Of the photos of one source in DATA (JSON lines with labels, the format of ``finetune``) some
classes are taken, and 20 % of their photos held out. Each way gives an encoder; the same linear
probe is fitted on its embeddings of the photos trained on, and the share of held-out photos that it
names right is the figure, so that only the encoders differ. "1-NN" asks whether the nearest other
held-out photo has the same label.

    python benchmarks/finetune.py train.jsonl mobilenetv2@WEIGHTS.npz [--only source=caltech101]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measure import report

from embedsearch.training.data.photo_lists import read_photo_list
from embedsearch.training.finetune.run import Run
from embedsearch.training.recipe import Recipe
from embedsearch.training.recipe_files import overridden

AMOUNTS = (5, 20, 0)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("encoder")
    arguments.add_argument("--only")
    arguments.add_argument("--classes", type=int, default=20)
    arguments.add_argument("--size", type=int, default=128)
    arguments.add_argument("--epochs", type=int, default=15)
    arguments.add_argument("--from-stage", default="blocks.10", help="first stage that is tuned")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        chosen = some_classes(given.data, given.only, given.classes, Path(folder))
        rows = [
            figures(way, amount, settings, given, chosen, Path(folder))
            for amount in AMOUNTS
            for way, settings in ways(given, Path(folder)).items()
        ]
    told = {name: value for name, value in vars(given).items() if name not in ("data", "encoder")}
    report(
        "finetune",
        [
            (
                f"{row['way']}, {row['photos']} a class",
                f"{row['right']:.3f} named right, {row['neighbours']:.3f} 1-NN",
                f"{row['seconds']} s",
            )
            for row in rows
        ],
        {"about": f"{given.classes} classes, {given.size} px", "settings": told, "rows": rows},
    )


def ways(given: argparse.Namespace, folder: Path) -> dict[str, list[str]]:
    """What each way changes in the recipe."""
    epochs, tuned = given.epochs, [f"freeze.until={given.from_stage}", f"freeze.cache={folder}/c"]
    return {
        "scratch": [
            "model.scratch=true",
            "model.norm=batch",
            f"optimisation.epochs={2 * epochs}",
            "optimisation.rate=2e-3",
        ],
        "probe": ["optimisation.epochs=0"],
        "fine-tuned": [*tuned, f"optimisation.epochs={epochs}", "optimisation.rate=3e-4"],
    }


def figures(
    way: str,
    amount: int,
    settings: list[str],
    given: argparse.Namespace,
    data: Path,
    folder: Path,
) -> dict[str, Any]:
    """One row of the table."""
    recipe = overridden(
        Recipe(),
        [
            f"model.start={given.encoder}",
            f"model.size={given.size}",
            f'data.paths=["{data}"]',
            f"data.per_class={amount}",
            "data.held_out=0.2",
            "optimisation.batch=32",
            "optimisation.keep_best=false",
            *settings,
        ],
    )
    run = Run(recipe, folder / f"{way}-{amount}")
    outcome = run.finetune()
    assert outcome.recall is not None
    sys.stderr.write(f"{way} {amount}: {outcome.recall.after['overall']:.3f}\n")
    return {
        "way": way,
        "photos": amount or "all",
        "trained_on": len(run.set.kept),
        "right": round(outcome.recall.after["overall"], 3),
        "neighbours": round(outcome.after["neighbours"], 3),
        "seconds": round(outcome.seconds),
    }


def some_classes(data: Path, only: str | None, count: int, folder: Path) -> Path:
    """A list of the photos of so many classes."""
    photos = read_photo_list(data, only)
    names = sorted({photo.label for photo in photos if photo.label})
    kept = set(np.random.default_rng(0).permutation(names)[:count].tolist())
    lines = [
        json.dumps({"file": str(photo.file.absolute()), "label": ", ".join(photo.names)})
        for photo in photos
        if photo.label in kept
    ]
    path = folder / "chosen.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
