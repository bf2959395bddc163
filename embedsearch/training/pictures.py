"""Pictures of a training run: the curves, and who is near whom before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Embeddings, Pixels
from embedsearch.render.output import written_whole
from embedsearch.render.tiles import Block, write_tiles
from embedsearch.training.checkpoints import History

NEIGHBOURS = 5
ASKED = 6
_SMOOTHED = 0.9
"""Weight of what was before in the smoothed curve."""


def draw_curves(history: History, out: Path) -> None:
    """Write a PNG: the loss of every step and its parts, step sizes, and the figures of every epoch
    on the photos held out.

    Raises :class:`~embedsearch.errors.OutputError` where ``out`` cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    losses, rates, held = figure.subplots(1, 3)
    steps = np.arange(1, len(history.losses) + 1)
    losses.plot(steps, history.losses, color="0.8", linewidth=0.8)
    losses.plot(steps, smoothed(history.losses), label="loss", color="black")
    for name, values in history.parts.items():
        if len(history.parts) > 1 and len(values) == len(steps):
            losses.plot(steps, smoothed(values), label=name, linewidth=1)
    losses.set(title="loss", xlabel="step")
    losses.legend(frameon=False)
    rates.plot(steps, history.rates, color="black")
    rates.set(title="largest step size", xlabel="step")
    told = [name for name in (history.epochs or [{}])[-1] if name not in ("epoch", "loss")]
    for name in told:
        values = [epoch.get(name, float("nan")) for epoch in history.epochs]
        style = {"color": "black", "linewidth": 2} if name == "score" else {"linewidth": 1}
        epochs = [epoch["epoch"] for epoch in history.epochs]
        held.plot(epochs, values, marker="o", markersize=3, label=name.replace("_", " "), **style)
    held.set(title="on the photos held out", xlabel="epoch", ylim=(0, 1))
    if told:
        held.legend(frameon=False)
    with written_whole(out) as stream:
        figure.savefig(stream, format="png", dpi=100)


def draw_neighbours(
    pictures: Sequence[Pixels],
    before: Embeddings,
    after: Embeddings,
    names: Sequence[str],
    seed: int,
    out: Path,
) -> None:
    """Write a PNG: some pictures, and the nearest others by the embeddings before and after.

    ``pictures`` are uint8 (size, size, 3), ``names`` what each shows, or empty. Raises
    :class:`~embedsearch.errors.OutputError`.
    """
    asked = np.random.default_rng(seed).permutation(len(pictures))[:ASKED].tolist()
    blocks = []
    for title, embeddings in (("before", before), ("after", after)):
        rows = [[pictures[n], *(pictures[m] for m in nearest(embeddings, n))] for n in asked]
        right = [names[m] == names[n] for n in asked for m in nearest(embeddings, n) if names[n]]
        share = f": {sum(right)} of {len(right)} of the same label" if right else ""
        headings = ["asked", *(f"nearest {n}" for n in range(1, len(rows[0])))]
        blocks.append(Block(f"{title}{share}", headings, rows))
    write_tiles(blocks, out)


def nearest(embeddings: Embeddings, place: int) -> list[int]:
    """Places of the pictures nearest to the one at ``place``, itself left out."""
    similarities: NDArray[np.float32] = embeddings @ embeddings[place]
    order = [n for n in np.argsort(-similarities, kind="stable").tolist() if n != place]
    return order[:NEIGHBOURS]


def smoothed(values: Sequence[float]) -> list[float]:
    """The exponential moving mean, without the pull of its start."""
    mean, weight, found = 0.0, 0.0, []
    for value in values:
        mean = _SMOOTHED * mean + (1 - _SMOOTHED) * value
        weight = _SMOOTHED * weight + (1 - _SMOOTHED)
        found.append(mean / weight)
    return found
