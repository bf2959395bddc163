"""What helps against spoilt pictures: an ensemble, or training on such pictures?

From an encoder (``mini``) two more are made here. "hardened" has its image head fitted anew: the
network in front of it stays, and the head learns to give spoilt training photos the embedding of
the clean ones (least squares; every photo clean and spoilt once in each way, at a strength drawn
up to the greatest that is measured). "ensemble" is both side by side. All three are measured as
``embedsearch evaluate robustness`` does, and drawn.

    python benchmarks/robustness.py DATA [--train 1500] [--sample 300] [--keep FOLDER] [--plot FILE]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from measure import report
from numpy.typing import NDArray

from embedsearch import settings
from embedsearch.encoders import registry
from embedsearch.encoders.base import Pixels
from embedsearch.encoders.folder import EncoderFolder, hash_file, read_folder
from embedsearch.encoders.onnx import IMAGE
from embedsearch.encoders.preprocess import to_square
from embedsearch.images.decode import decode
from embedsearch.training.augment.corruptions import CORRUPTIONS
from embedsearch.training.data.photos import read_photos
from embedsearch.training.evaluate.robustness import FIGURES, evaluate_robustness
from embedsearch.training.evaluate.robustness_plot import draw
from embedsearch.training.networks.export import INPUT, OUTPUT
from embedsearch.training.onnx_graph.graph import Graph

RIDGE = 1e-3
"""Of the mean square of the features."""


def head_of(model: onnx.ModelProto) -> onnx.NodeProto:
    """The linear layer in the end: what it takes, its weight (dim, inputs), and its bias."""
    return [node for node in model.graph.node if node.op_type == "Gemm"][-1]


def spoilt(pixels: Pixels, seed: int) -> Iterator[Pixels]:
    """The photo clean, then once in each way."""
    rng = np.random.default_rng(seed)
    yield pixels
    for corruption in CORRUPTIONS.values():
        strength = rng.uniform(0, corruption.levels[-1])
        yield corruption(pixels, strength, int(rng.integers(2**31)))


def harden(source: Path, target: Path, files: list[Path]) -> None:
    """Write the encoder folder ``source`` to ``target`` with a head that is fitted anew."""
    about, model = read_folder(source), onnx.load(source / IMAGE)
    features, wanted = seen(model, about, files)
    # Least squares with a constant column for the bias.
    whole = np.hstack([features, np.ones((len(features), 1), np.float32)]).astype(np.float64)
    gram = whole.T @ whole
    gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / len(gram)
    solved = np.linalg.solve(gram, whole.T @ wanted)
    head, graph = head_of(model), Graph(model)
    for place, array in enumerate((solved[:-1].T, solved[-1]), start=1):
        graph.set_input(head, place, array.astype(np.float32))
    graph.drop_unused()
    shutil.copytree(source, target, dirs_exist_ok=True)
    onnx.save(model, target / IMAGE)
    hashes = {**about.hashes, IMAGE: hash_file(target / IMAGE)}
    replace(about, path=target, name=f"{about.name}-hardened", hashes=hashes).write()


def seen(
    model: onnx.ModelProto, about: EncoderFolder, files: list[Path]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What stands before the head for every photo and every way to spoil it, and what the head
    says of the clean photo."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    before_head = head_of(model).input[0]
    tapped.graph.output.append(onnx.ValueInfoProto(name=before_head))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        tapped.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def look(place: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        pixels = decode(files[place], about.input_size).pixels
        rows, clean = [], None
        for view in spoilt(pixels, place):
            square = to_square(view, about.input_size, about.resize, about.interpolation)
            features, embedding = session.run([before_head, OUTPUT], {INPUT: square[None]})
            rows.append(features[0])
            clean = embedding[0] if clean is None else clean
        return np.stack(rows), np.repeat(clean[None], len(rows), axis=0)

    with ThreadPoolExecutor(settings.workers()) as pool:
        found = list(pool.map(look, range(len(files))))
    return (np.concatenate([rows for rows, _ in found]), np.concatenate([e for _, e in found]))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--train", type=int, default=1500, help="training photos, drawn")
    arguments.add_argument("--sample", type=int, default=300, help="photos to measure on, drawn")
    arguments.add_argument("--keep", type=Path, help="write the hardened encoder here")
    arguments.add_argument("--plot", type=Path)
    given = arguments.parse_args()
    photos = read_photos(given.data / "train" / "train.jsonl")
    drawn = np.random.default_rng(0).permutation(len(photos))[: given.train]
    with tempfile.TemporaryDirectory() as temporary:
        target = given.keep or Path(temporary) / "hardened"
        begun = time.monotonic()
        harden(registry.WEIGHTS / "mini", target, [photos[place].file for place in drawn])
        fitted = time.monotonic() - begun
        names = ("mini", "hardened", "ensemble")
        _, measured = evaluate_robustness(
            given.data / "captions" / "captions.jsonl",
            [registry.load(spec) for spec in ("mini", str(target), f"mini+{target}")],
            sample=given.sample,
            workers=settings.workers(),
        )
    if given.plot:
        draw(
            measured,
            given.plot,
            names=["mini", "hardened: head fitted to spoilt photos", "mini+hardened"],
        )
    means = {name: one.means() for name, one in zip(names, measured, strict=True)}
    rows = [("fitting", f"{fitted:.0f} s", "")]
    for name in FIGURES:
        for way in ("clean", *means["mini"]):
            if name in measured[0].clean:
                figures = [
                    (one.clean if way == "clean" else one.means()[way])[name] for one in measured
                ]
                rows.append(
                    (f"{name}, {way}", "  ".join(f"{figure:.3f}" for figure in figures), "")
                )
    report(
        "robustness",
        rows,
        {
            "about": f"{', '.join(names)}; {given.sample} captioned photos, means over strengths",
            "train": given.train,
            "sample": given.sample,
            # Without the folder that the hardened one happened to lie in.
            "encoders": {
                name: {**one.told(), "spec": name}
                for name, one in zip(names, measured, strict=True)
            },
        },
    )


if __name__ == "__main__":
    main()
