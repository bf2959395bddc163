"""Pictures of a training run: the curves, and who is near whom before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Embeddings, Pixels
from embedsearch.render.output import written_whole
from embedsearch.render.tiles import Block, write_tiles
from embedsearch.training.loop.checkpoints import History

NEIGHBOURS = 5
ASKED = 6
_FEW = 40
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
    # A line of one point would not be seen.
    dots = {"marker": "." if len(steps) < _FEW else ""}
    losses.plot(steps, smoothed(history.losses), label="loss", color="black", **dots)
    for name, values in history.parts.items():
        if len(history.parts) > 1 and len(values) == len(steps):
            losses.plot(steps, smoothed(values), label=name, linewidth=1)
    losses.set(title="loss", xlabel="step")
    losses.legend(frameon=False)
    rates.plot(steps, history.rates, color="black", **dots)
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
    picture: Callable[[int], Pixels],
    asked: Sequence[int],
    before: Embeddings,
    after: Embeddings,
    names: Sequence[str],
    out: Path,
) -> None:
    """Write a PNG: the pictures at the places ``asked``, and the nearest of all others by the
    embeddings before and after.

    ``picture`` gives uint8 (size, size, 3), ``names`` what each shows, or empty. Raises
    :class:`~embedsearch.errors.OutputError`.
    """
    blocks = []
    for title, embeddings in (("before", before), ("after", after)):
        found = {place: nearest(embeddings, place) for place in asked}
        rows = [[picture(place), *map(picture, near)] for place, near in found.items()]
        right = [names[n] == names[place] for place in asked if names[place] for n in found[place]]
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
