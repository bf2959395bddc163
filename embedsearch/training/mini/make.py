"""The first ``mini``: heads fitted to a network that stays as ImageNet left it.

The backbone keeps its ImageNet weights. It is made fit for 8 bits and quantised first; the heads
are then fitted to the features that the quantised backbone really gives, so that they make up for
what quantisation changed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from tokenizers import Tokenizer

from embedsearch.encoders.base import Encoder
from embedsearch.encoders.onnx import OnnxEncoder
from embedsearch.encoders.preprocess import to_square
from embedsearch.encoders.text import wordpiece
from embedsearch.errors import EmbedSearchError
from embedsearch.training.data.photos import Photo, hold_out, read_photos
from embedsearch.training.data.pixels import load_pixels
from embedsearch.training.evaluate import (
    evaluate_captions,
    evaluate_category,
    evaluate_copies,
    evaluate_products,
)
from embedsearch.training.evaluate.captions import Figures, captions_figures
from embedsearch.training.mini.backbone import quantize_backbone
from embedsearch.training.mini.equalise import correct_biases, equalise
from embedsearch.training.mini.features import extract_features
from embedsearch.training.mini.fit import Recipe, Texts, fit_heads, scale_features
from embedsearch.training.networks.encoder_files import write_encoder
from embedsearch.training.networks.export import attach_head, export_backbone
from embedsearch.training.networks.folding import GREY, FoldedMobileNetV2
from embedsearch.training.networks.heads import Heads
from embedsearch.training.networks.mobilenetv2 import load_mobilenetv2
from embedsearch.training.networks.token_table import TokenTable, read_potion
from embedsearch.training.quantize.weights import round_weight

SIZE = 224
VIEWS = 6
CALIBRATION = 64
HELD_OUT = 1000
TELL_EVERY = 5
"""Epochs between two looks at the photos held out."""
ERRORS_ONLY = 3
FIGURES = "figures.json"
LICENCE = "research use; see LICENSE"
DESCRIPTION = (
    "MobileNetV2 (ImageNet) and static token embeddings, joined on 15,182 photos with captions or "
    "labels; English; 8-bit weights"
)


@dataclass(frozen=True)
class Backbones:
    """The same network twice."""

    float32: ModelProto
    int8: ModelProto


def build_backbones(weights: Path, photos: Sequence[Photo], seed: int) -> Backbones:
    """Fold, equalise and quantise MobileNetV2, by the ranges it takes on some of ``photos``."""
    chosen = np.random.default_rng(seed).permutation(len(photos))[:CALIBRATION]
    squares = [to_square(load_pixels(photos[n].file, SIZE), SIZE) for n in chosen]
    centred = (torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() - GREY) / 255
    network = FoldedMobileNetV2(load_mobilenetv2(weights / "mobilenetv2_imagenet.npz"))
    factors = equalise(network, centred)
    float32 = export_backbone(network, SIZE, factors)
    correct_biases(network, centred, round_weight)
    return Backbones(float32, quantize_backbone(export_backbone(network, SIZE, factors), squares))


def fit_held_out(
    photos: Sequence[Photo],
    features: NDArray[np.float16],
    table: TokenTable,
    tokenizer: Tokenizer,
    recipe: Recipe,
) -> Figures:
    """Fit without some captioned photos, and measure how well these are found in the end.

    This is what settings, epochs among them, are chosen by; the captions to evaluate on are not.
    """
    held = sorted(hold_out(photos, HELD_OUT, recipe.seed))
    pictures = scale_features(features[0, held])
    owners = np.repeat(np.arange(len(held)), [len(photos[place].captions) for place in held])
    captions = [caption for place in held for caption in photos[place].captions]
    figures: Figures = {}

    def told(epoch: int, loss: float, heads: Heads, texts: Texts) -> None:
        nonlocal figures
        if epoch % TELL_EVERY and epoch != recipe.epochs:
            return
        with torch.no_grad():
            found = heads.image(pictures).numpy(), heads.text(*texts.bag(captions)).numpy()
        figures = captions_figures(*found, owners)
        say(f"  epoch {epoch}: loss {loss:.3f}; held out: {json.dumps(figures)}")

    fit_heads(photos, features, table, tokenizer, recipe, held, told)
    return figures


def write_towers(
    out: Path, backbone: ModelProto, heads: Heads, table: TokenTable, recipe: Recipe
) -> None:
    """Write one encoder folder."""
    image = attach_head(backbone, *heads.image.folded())
    write_encoder(
        out,
        image,
        table,
        heads.text,
        name="mini",
        licence=LICENCE,
        description=DESCRIPTION,
        dim=recipe.dim,
        size=SIZE,
        pooling="avg",
    )


def measure(encoder: Encoder, data: Path) -> dict[str, Any]:
    """All four tasks on the evaluation sets that stand beside ``train`` in ``data``."""
    return {
        "captions": evaluate_captions(data / "captions" / "captions.jsonl", encoder),
        "category": evaluate_category(data / "category" / "meta.csv", encoder),
        "copies": evaluate_copies(
            data / "copies" / "meta.csv", encoder, distractors=data / "captions" / "images"
        ),
        "products": evaluate_products(data / "products", encoder),
    }


def _written(folder: Path) -> Encoder:
    return OnnxEncoder(folder, spec=str(folder))


def make(arguments: argparse.Namespace) -> None:
    """Run the recipe from photos and starting weights to an encoder folder."""
    recipe = Recipe(seed=arguments.seed, epochs=arguments.epochs)
    torch.set_num_threads(arguments.threads)
    onnxruntime.set_default_logger_severity(ERRORS_ONLY)
    started = time.monotonic()
    photos = read_photos(arguments.data / "train" / "train.jsonl")
    say(f"{len(photos)} photos; quantising the backbone")
    backbones = build_backbones(arguments.weights, photos, recipe.seed)
    features = extract_features(
        backbones.int8,
        [photo.file for photo in photos],
        views=VIEWS,
        size=SIZE,
        seed=recipe.seed,
        cache=arguments.cache,
        threads=arguments.threads,
        progress=lambda done, total: say(f"  features of {done} of {total} photos"),
    )
    table = read_potion(arguments.weights / "potion_base_4m")
    tokenizer = wordpiece(table.tokens)
    figures: dict[str, Any] = {"recipe": asdict(recipe), "made_with": versions()}
    if arguments.hold_out:
        say("fitting without the photos held out")
        figures["held_out"] = fit_held_out(photos, features, table, tokenizer, recipe)
    say("fitting with all photos")
    heads, trained = fit_heads(photos, features, table, tokenizer, recipe)
    write_towers(arguments.out, backbones.int8, heads, trained, recipe)
    figures["seconds"] = round(time.monotonic() - started)
    say(f"written to {arguments.out}; measuring")
    figures["int8"] = measure(_written(arguments.out), arguments.data)
    if arguments.keep_float:
        write_towers(arguments.keep_float, backbones.float32, heads, trained, recipe)
        figures["float32"] = measure(_written(arguments.keep_float), arguments.data)
    text = json.dumps(figures, indent=2) + "\n"
    (arguments.out / FIGURES).write_text(text, encoding="utf-8")
    say(text)


def versions() -> dict[str, str]:
    """What the figures depend on beside code and data."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "onnxruntime": str(onnxruntime.__version__),
        "machine": platform.machine(),
    }


def say(line: str) -> None:
    """Progress, on stderr."""
    sys.stderr.write(f"{line}\n")


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    made = argparse.ArgumentParser(
        prog="python -m embedsearch.training.mini", description="Make the encoder in the box."
    )
    option = made.add_argument
    option("--data", type=Path, required=True, help="folder with train/, captions/, category/ ...")
    option("--weights", type=Path, required=True, help="folder with the weights to start from")
    option("--out", type=Path, required=True, help="encoder folder to write")
    option("--cache", type=Path, required=True, help="folder to keep features in between runs")
    option("--keep-float", type=Path, metavar="DIR", help="write and measure float32 towers too")
    option("--hold-out", action="store_true", help="fit without 1,000 captioned photos first")
    option("--epochs", type=int, default=Recipe.epochs)
    option("--seed", type=int, default=Recipe.seed)
    option("--threads", type=int, default=2)
    return made


def main() -> int:
    """Run the command; returns its exit status."""
    try:
        make(parser().parse_args())
    except EmbedSearchError as error:
        say(f"error: {error}")
        return 1
    return 0
