"""What do batches that pass in pieces save, and cost (gradient caching)?

Steps of the whole network of ``mini``, forwards and backwards with a contrastive loss of the whole
batch, each number of pieces in a process of its own: milliseconds a photo beside those in one
piece, and the most memory that the process had.

    python benchmarks/training_pieces.py [--batch 128] [--steps 3] [--runs 3]
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from measure import interleaved, median, process, ratios, report

SIZE = 208
PIECES = (1, 2, 4, 8)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--batch", type=int, default=128)
    arguments.add_argument("--steps", type=int, default=3)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--pieces", type=int, help="measure that here, and print it as JSON")
    given = arguments.parse_args()
    if given.pieces is not None:
        print(json.dumps(steps(given.pieces, given.batch, given.steps)))
        return
    peaks: dict[str, list[float]] = {}

    def run(pieces: int) -> float:
        asked = ["--batch", str(given.batch), "--steps", str(given.steps), "--pieces", str(pieces)]
        done = process([sys.executable, __file__, *asked])
        peaks.setdefault(str(pieces), []).append(done.peak)
        return float(json.loads(done.output))

    took = interleaved(given.runs, **{str(n): lambda n=n: run(n) for n in PIECES})
    table, figures = [("pieces", "ms a photo, beside one piece", "peak")], {}
    for name, each in took.items():
        told = {"ms": median(each), "ratio": ratios(each, took["1"]), "peak_mb": max(peaks[name])}
        figures[name] = told
        table.append((name, f"{told['ms']:.1f}  {told['ratio']:.2f}", f"{told['peak_mb']:.0f} MB"))
    about = f"{SIZE} px, batches of {given.batch}, medians of {given.runs} runs"
    report("training_pieces", table, {"about": about, "pieces": figures})


def steps(pieces: int, batch: int, count: int) -> float:
    """Milliseconds a photo, the median of ``count`` steps after a first one."""
    import torch
    from torch.nn.functional import cross_entropy

    from embedsearch.training.loop.memory import keep_freed_memory
    from embedsearch.training.loop.steps import Precision
    from embedsearch.training.networks.loading import load_trainable
    from embedsearch.training.networks.memory_format import channels_last

    keep_freed_memory()
    image = channels_last(load_trainable("mini").image).train()
    image.take_in_pieces(pieces)
    precision = Precision("auto", torch.device("cpu"))
    pixels = torch.randn(batch, SIZE, SIZE, 3).permute(0, 3, 1, 2)
    took = []
    for _ in range(count + 1):
        image.zero_grad()
        begun = time.perf_counter()
        with precision.autocast():
            rows = image(pixels)
        cross_entropy(20 * rows @ rows.roll(1, 0).T, torch.arange(batch)).backward()
        took.append(time.perf_counter() - begun)
    return median(took[1:]) * 1000 / batch


if __name__ == "__main__":
    main()
