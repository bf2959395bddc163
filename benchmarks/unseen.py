"""What does an encoder make of things, and of words, that it was never trained on?

Twenty Caltech-101 classes whose names occur nowhere else in the training texts (other labels,
captions). ``--write-train`` writes the training list without them: train on that, then measure the
encoder here. Zero-shot accuracy among the twenty names only, leave-one-out 1-NN among their photos
only; beside it the bare ImageNet features that training started from, which have no words.

    python benchmarks/unseen.py DATA --write-train FILE.jsonl
    python benchmarks/unseen.py DATA --encoder SPEC... [--features mobilenetv2_imagenet.npz]

An encoder trained on all of train.jsonl has seen these classes; for such a one the classes of
category/ and products/ that it never had a label of are listed, and measured too.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from measure import report
from numpy.typing import NDArray

from embedsearch.encoders import registry
from embedsearch.encoders.base import Encoder
from embedsearch.encoders.preprocess import to_square
from embedsearch.training.data.photos import Photo, label_names, read_photos
from embedsearch.training.data.pixels import load_pixels
from embedsearch.training.evaluate.category import prompt
from embedsearch.training.evaluate.ground_truth import (
    encode_files,
    encode_texts,
    read_csv,
)
from embedsearch.training.evaluate.metrics import leave_one_out, retrieval_summary

SOURCE = "caltech101"
CLASSES = 20
SIZE = 224
Labelled = list[tuple[Path, str]]
"""A picture and its class."""


def plain(text: str) -> str:
    """Words in small letters with a space before and after; plurals without their s."""
    words = re.findall(r"[a-z0-9]+", text.casefold().replace("_", " "))
    return " ".join(["", *(w[:-1] if len(w) > 3 and w[-1] == "s" else w for w in words), ""])


def held_out(photos: Sequence[Photo]) -> list[str]:
    """The classes: drawn once and for all among those whose names stand nowhere else."""
    own = sorted({p.names[0] for p in photos if p.source == SOURCE and p.names})
    others = [plain(name) for p in photos if p.source != SOURCE for name in p.names]
    others += [plain(caption) for p in photos for caption in p.captions]
    elsewhere = "\n".join(dict.fromkeys(others))
    # Of "cougar body" and "cougar face" the one would teach the other.
    first = [plain(name).split()[0] for name in own]
    alone = [
        name
        for name, word in zip(own, first, strict=True)
        if plain(name) not in elsewhere and first.count(word) == 1
    ]
    drawn = np.random.default_rng(0).permutation(len(alone))[:CLASSES]
    return sorted(alone[place] for place in drawn)


def is_of(photo: Photo, classes: Iterable[str]) -> bool:
    """Whether one of the photo's names holds that of a class."""
    return any(plain(name) in plain(own) for own in photo.names for name in classes)


def write_train(path: Path, source: Path, photos: Sequence[Photo], classes: Sequence[str]) -> int:
    """The training list without the classes, its files named absolutely. Returns how many went."""
    kept = []
    lines = source.read_text("utf-8").splitlines()
    for line, photo in zip(lines, photos, strict=True):
        if not is_of(photo, classes):
            kept.append(json.dumps({**json.loads(line), "file": str(photo.file.absolute())}))
    path.write_text("\n".join(kept) + "\n", "utf-8")
    return len(lines) - len(kept)


def from_category(data: Path) -> Labelled:
    rows = read_csv(data / "category" / "meta.csv", ("file", "set", "label"))
    return [(row.file(), row.text("label").replace("_", " ")) for row in rows]


def from_products(data: Path) -> Labelled:
    rows = read_csv(data / "products" / "photos.csv", ("file", "class"))
    return [(row.file(), row.text("class").replace("-", " ")) for row in rows]


def never_labelled(photos: Sequence[Photo], pictures: Labelled) -> list[str]:
    """Classes of the pictures that no training label names."""
    trained = "\n".join(dict.fromkeys(plain(name) for p in photos for name in p.names))
    return sorted({name for _, name in pictures if plain(name) not in trained})


def measured(encoder: Encoder, pictures: Labelled) -> tuple[float | None, float]:
    """Zero-shot accuracy among the classes of the pictures, and 1-NN."""
    labels, kinds = [name for _, name in pictures], sorted({name for _, name in pictures})
    rows = encode_files(encoder, [(file, str(file)) for file, _ in pictures])
    named = None
    if encoder.info.has_text:
        names = encode_texts(encoder, [(prompt(kind), kind) for kind in kinds])
        found = np.array(kinds)[(rows @ names.T).argmax(axis=1)]
        named = float((found == np.array(labels)).mean())
    return named, retrieval_summary(*leave_one_out(rows, labels))["R@1"]


def bare(weights: Path, pictures: Labelled) -> float:
    """1-NN of MobileNetV2's pooled features, float32."""
    import torch

    from embedsearch.training.networks.mobilenetv2 import MEAN, STD, load_mobilenetv2

    network, rows = load_mobilenetv2(weights), []
    for file, _ in pictures:
        square = torch.from_numpy(to_square(load_pixels(file, SIZE), SIZE).copy())
        pixels = (square.permute(2, 0, 1) / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(
            STD
        ).view(3, 1, 1)
        with torch.no_grad():
            rows.append(network(pixels[None]).mean((2, 3))[0].numpy())
    features: NDArray[np.float32] = np.stack(rows)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return retrieval_summary(*leave_one_out(features, [name for _, name in pictures]))["R@1"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--write-train", type=Path, help="write the list without the classes")
    arguments.add_argument("--encoder", action="append", default=[])
    arguments.add_argument("--features", type=Path, help="weights of the bare MobileNetV2")
    given = arguments.parse_args()
    source = given.data / "train" / "train.jsonl"
    photos = read_photos(source)
    classes = held_out(photos)
    print(f"{len(classes)} classes held out: {', '.join(classes)}")
    if given.write_train:
        gone = write_train(given.write_train, source, photos, classes)
        print(f"{given.write_train}: {len(photos) - gone} photos, without {gone} of these classes")
        return
    category = from_category(given.data)
    groups: dict[str, Labelled] = {
        "held-out classes, photos of train/": [
            (p.file, p.names[0]) for p in photos if p.source == SOURCE and p.names[0] in classes
        ],
        "held-out classes, photos of category/": [
            (file, name) for file, name in category if name in {label_names(c)[0] for c in classes}
        ],
    }
    for title, pictures in (("category/", category), ("products/", from_products(given.data))):
        names = never_labelled(photos, pictures)
        print(f"{title} has {len(names)} classes without a training label: {', '.join(names)}")
        if len(names) > 1:
            groups[f"never labelled, {title}"] = [one for one in pictures if one[1] in names]
    rows, figures = [], {}
    for title, pictures in groups.items():
        kinds = len({name for _, name in pictures})
        told: dict[str, tuple[float | None, float]] = {}
        if given.features:
            told["bare features"] = None, bare(given.features, pictures)
        for spec in given.encoder or ["mini"]:
            told[spec] = measured(registry.load(spec), pictures)
        for who, (named, nearest) in told.items():
            bars = (" >= 0.55", " >= 0.95") if title.startswith("held") else ("", "")
            if named is not None:
                rows.append((f"{title}: zero-shot, {who}", f"{named:.3f}", bars[0]))
            rows.append((f"{title}: 1-NN, {who}", f"{nearest:.3f}", bars[1]))
        figures[title] = {"classes": kinds, "pictures": len(pictures), "figures": told}
    report("unseen", rows, {"about": "classes never trained on", "classes": classes, **figures})


if __name__ == "__main__":
    main()
