"""All four tasks of ``evaluate`` for several encoders, side by side: the figures of a model card.

DATA holds captions/, category/, copies/ and products/ (docs/evaluation.md). With ``--out`` the
figures are written as they lie in an encoder's folder, under the name that each encoder is given.

    python benchmarks/tasks.py DATA int8=mini float32=FOLDER [--out figures.json] [--json]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from embedsearch.encoders import registry
from embedsearch.training.mini.make import measure, versions

LINES = {
    "text to image R@1": ("captions", "text_to_image", "R@1"),
    "text to image R@5": ("captions", "text_to_image", "R@5"),
    "text to image R@10": ("captions", "text_to_image", "R@10"),
    "image to text R@1": ("captions", "image_to_text", "R@1"),
    "image to text R@5": ("captions", "image_to_text", "R@5"),
    "image to text R@10": ("captions", "image_to_text", "R@10"),
    "caltech101 R@1": ("category", "sets", "caltech101", "R@1"),
    "caltech101 zero-shot": ("category", "sets", "caltech101", "zero_shot_accuracy"),
    "clothing R@1": ("category", "sets", "clothing", "R@1"),
    "clothing zero-shot": ("category", "sets", "clothing", "zero_shot_accuracy"),
    "copies R@1": ("copies", "copy", "R@1"),
    "corruptions R@1": ("copies", "corruption", "R@1"),
    "photo to packshot mAP": ("products", "photo_to_packshot", "mAP"),
    "photo to photo mAP": ("products", "photo_to_photo", "mAP"),
    "text to photo mAP": ("products", "text_to_photo", "mAP"),
}


def found(figures: Any, place: tuple[str, ...]) -> float:
    for key in place:
        figures = figures[key]
    return float(figures)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("encoders", nargs="+", metavar="NAME=SPEC")
    arguments.add_argument("--out", type=Path, metavar="FILE")
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    told: dict[str, Any] = {"made_with": versions()}
    names = []
    for given in options.encoders:
        name, _, spec = given.partition("=")
        names.append(name)
        encoder = registry.load(spec or name)
        told[name] = {"encoder": encoder.info.id, **measure(encoder, options.data)}
    text = json.dumps(told, indent=2) + "\n"
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    if options.json:
        print(text, end="")
        return
    print(f"{'':24}" + "".join(f"{name:>12}" for name in names))
    for line, place in LINES.items():
        print(f"{line:24}" + "".join(f"{found(told[name], place):12.3f}" for name in names))


if __name__ == "__main__":
    main()
