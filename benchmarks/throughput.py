"""How many photos a second does ``index`` take in, from the files to a finished index?

Ours: a fresh ``embedsearch index FOLDER``, everything counted (start of Python, scan, hashing,
decoding, encoding, catalogue, vector index). Beside it, on the same files and the same cores:

- the bound: decoding alone and the encoder's forward pass alone, each on all cores; as both share
  the cores nothing can be faster than 1 / (1/decode + 1/forward);
- the plain loop that others ship: open, full decode, preprocess, batch of 32, forward, in turn.

Two sets: small photos (640 x 480, about 110 KB) and 12-megapixel JPEGs, both made here from
photographs that come with scikit-image and scikit-learn. Bars: at least 0.85 of the bound, at most
300 MB. What a run over a single photo takes (to start, to make an index, to write it) is shown
beside; it is part of every figure of ours. ``--captions FILE`` adds what scaled decoding does to
the embeddings of real photos.

    python benchmarks/throughput.py [--small 4000] [--large 1000] [--runs 3] \
        [--captions ../shared/data/captions/captions.jsonl]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from measure import EMBEDSEARCH, Process, interleaved, median, process, report, spread
from PIL import Image

from embedsearch.encoders.registry import load

CORES = len(os.sched_getaffinity(0))
SIDE = load("mini").info.input_size


def photographs() -> list[Image.Image]:
    import skimage.data
    from sklearn.datasets import load_sample_images

    arrays = [*load_sample_images().images, skimage.data.astronaut(), skimage.data.chelsea()]
    return [Image.fromarray(array) for array in [*arrays, skimage.data.coffee()]]


def make_photos(folder: Path, count: int, size: tuple[int, int], quality: int) -> list[Path]:
    """Different JPEGs of one size: random crops of photographs, with sensor noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    sources = photographs()
    distinct = min(count, 40 if size[0] > 2000 else 400)
    made: list[bytes] = []
    paths = []
    for number in range(count):
        path = folder / f"{number:05d}.jpg"
        if number < distinct:
            source = sources[number % len(sources)]
            x, y = rng.uniform(0, 0.4, 2)
            box = (x, y, x + 0.6, y + 0.6)
            part = source.resize(
                size,
                Image.Resampling.BICUBIC,
                tuple(v * s for v, s in zip(box, source.size * 2, strict=True)),
            )
            noise = rng.normal(0, 5, (size[1], size[0], 1))
            pixels = np.clip(np.asarray(part, np.float32) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(path, quality=quality)
            made.append(path.read_bytes())
        else:
            # The same picture under other bytes: a comment makes the content new.
            data = made[number % distinct]
            comment = b"\xff\xfe\x00\x0a%08d" % number
            path.write_bytes(data[:2] + comment + data[2:])
        paths.append(path)
    return paths


def decode_rate(paths: list[Path]) -> float:
    """Photos a second on all cores: read, scaled decode, resize; nothing else."""

    def one(path: Path) -> None:
        with Image.open(path) as image:
            image.draft("RGB", (SIDE, SIDE))
            image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)

    begun = time.perf_counter()
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(one, paths))
    return len(paths) / (time.perf_counter() - begun)


def session(threads: int):  # type: ignore[no-untyped-def]
    import onnxruntime

    from embedsearch.encoders.registry import WEIGHTS

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(WEIGHTS / "mini" / "image.onnx"), options)


def forward_rate(count: int) -> float:
    """Photos a second on all cores: one-thread sessions side by side, batches of 4."""
    model = session(1)
    name = model.get_inputs()[0].name
    batch = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)
    model.run(None, {name: batch})
    begun = time.perf_counter()
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(lambda _: model.run(None, {name: batch}), range(count // 4)))
    return count // 4 * 4 / (time.perf_counter() - begun)


def plain_loop_rate(paths: list[Path]) -> float:
    """Photos a second: open, full decode, preprocess, batch of 32, forward, one after the other."""
    model = session(CORES)
    name = model.get_inputs()[0].name
    begun = time.perf_counter()
    for start in range(0, len(paths), 32):
        batch = []
        for path in paths[start : start + 32]:
            image = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            batch.append(np.asarray(image))
        model.run(None, {name: np.stack(batch)})
    return len(paths) / (time.perf_counter() - begun)


def index_run(what: Path, expected: int) -> Process:
    """A fresh ``embedsearch index`` into a fresh index."""
    with tempfile.TemporaryDirectory() as index:
        done = process([EMBEDSEARCH, "index", str(what), "--index", index, "--json"])
    assert f'"new": {expected}' in done.output, done.output
    return done


def measure_set(paths: list[Path], runs: int, plain: int) -> dict[str, list[float]]:
    """Every side in turn; the plain loop, which may take a quarter of a second a photo, over
    ``plain`` photos only."""
    peaks = []

    def ours() -> float:
        done = index_run(paths[0].parent, len(paths))
        peaks.append(done.peak)
        return len(paths) / done.wall

    some = paths[: max(40, len(paths) // 4)]
    sides: dict[str, Callable[[], float]] = {
        "decode": lambda: decode_rate(some),
        "forward": lambda: forward_rate(min(1000, 10 * len(paths))),
        "ours": ours,
        "one": lambda: index_run(paths[0], 1).wall,
        "plain": lambda: plain_loop_rate(paths[:plain]),
    }
    figures = interleaved(runs, **sides)
    pairs = zip(figures["decode"], figures["forward"], strict=True)
    figures["bound"] = [1 / (1 / decode + 1 / forward) for decode, forward in pairs]
    figures["peak_mb"] = peaks
    return figures


def scaled_decoding(captions: Path, photos: int) -> dict[str, object]:
    """What scaled decoding does to the embeddings: cosine to full decoding, and R@10 with each.

    The photos are enlarged to 12 megapixels first, so that there is something to scale.
    """
    from embedsearch.encoders import registry
    from embedsearch.images.decode import decode
    from embedsearch.training.evaluate.captions import captions_figures

    encoder = registry.load("mini")
    lines = captions.read_text().splitlines()[:photos]
    entries = [json.loads(line) for line in lines]
    rows: dict[str, list[np.ndarray]] = {"scaled": [], "full": []}

    def embed(folder: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
        large = Image.open(path).convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC)
        file = Path(folder, path.name)  # as indexing does it; a Pillow image is decoded already
        large.save(file, "JPEG", quality=90)
        with Image.open(file) as jpeg:
            full = encoder.encode_images([np.asarray(jpeg.convert("RGB"))])[0]
        scaled = encoder.encode_images([decode(file, SIDE).pixels])[0]
        file.unlink()
        return scaled, full

    with ThreadPoolExecutor(CORES) as pool, tempfile.TemporaryDirectory() as folder:
        files = [captions.parent / entry["file"] for entry in entries]
        for scaled, full in pool.map(partial(embed, folder), files):
            rows["scaled"].append(scaled)
            rows["full"].append(full)
    texts = [text for entry in entries for text in entry["captions"]]
    owners = [n for n, entry in enumerate(entries) for _ in entry["captions"]]
    words = encoder.encode_texts(texts)
    pictures = {name: np.stack(some) for name, some in rows.items()}
    cosines = (pictures["scaled"] * pictures["full"]).sum(axis=1)
    recall = {
        name: captions_figures(images, words, np.asarray(owners))["text_to_image"]["R@10"]
        for name, images in pictures.items()
    }
    return {
        "photos": len(entries),
        "cosine_median": median(cosines.tolist()),
        "cosine_min": float(cosines.min()),
        "R@10": recall,
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--small", type=int, default=4000)
    arguments.add_argument("--large", type=int, default=1000)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--captions", type=Path)
    arguments.add_argument("--caption-photos", type=int, default=200)
    given = arguments.parse_args()
    rows, figures = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sets = {
            "small": make_photos(folder / "small", given.small, (640, 480), 90),
            "12 MP": make_photos(folder / "large", given.large, (4000, 3000), 90),
        }
        for name, paths in sets.items():
            print(f"measuring {len(paths)} {name} photos ...", file=sys.stderr)
            found = measure_set(paths, given.runs, 500 if name == "small" else 60)
            kilobytes = sum(path.stat().st_size for path in paths) / len(paths) / 1000
            share = median([a / b for a, b in zip(found["ours"], found["bound"], strict=True)])
            faster = median([a / b for a, b in zip(found["ours"], found["plain"], strict=True)])
            rows += [
                (f"{name}: {len(paths)} photos of {kilobytes:.0f} KB", "", ""),
                ("  decode alone, all cores", f"{spread(found['decode'], 0)} /s", ""),
                ("  forward alone, all cores", f"{spread(found['forward'], 0)} /s", ""),
                ("  bound", f"{spread(found['bound'], 0)} /s", ""),
                ("  embedsearch index, whole process", f"{spread(found['ours'], 0)} /s", ""),
                ("  of the bound", f"{share:.2f}", ">= 0.85"),
                ("  a run over one photo", f"{spread(found['one'], 2)} s", ""),
                ("  plain loop", f"{spread(found['plain'], 0)} /s", ""),
                ("  ours / plain loop", f"{faster:.1f}", ""),
                ("  peak", f"{max(found['peak_mb']):.0f} MB", "<= 300 MB"),
            ]
            figures[name] = {"photos": len(paths), "kilobytes": kilobytes, **found}
    if given.captions:
        effect = scaled_decoding(given.captions, given.caption_photos)
        recall = effect["R@10"]
        assert isinstance(recall, dict)
        rows += [
            (f"scaled decoding of {effect['photos']} photos at 12 MP", "", ""),
            ("  cosine to full decoding, median", f"{effect['cosine_median']:.4f}", ""),
            ("  R@10, scaled / full", f"{recall['scaled']:.3f} / {recall['full']:.3f}", ""),
        ]
        figures["scaled_decoding"] = effect
    report("throughput", rows, {"about": f"median (min-max) of {given.runs} runs", **figures})


if __name__ == "__main__":
    main()
