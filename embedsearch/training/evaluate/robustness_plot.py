"""The figures of ``robustness`` as a picture: a panel a corruption, a line an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedsearch.errors import MissingExtraError, OutputError
from embedsearch.render.output import written_whole
from embedsearch.training.augment.corruptions import CORRUPTIONS, Corruption
from embedsearch.training.evaluate.robustness import AGREEMENT, BY_LABEL, BY_TEXT, ITSELF, Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg", ".pdf", ".webp")
_TITLES = {
    AGREEMENT: "agreement (cosine)",
    ITSELF: "finds itself, R@1",
    BY_TEXT: "found by words, R@10",
    BY_LABEL: "same label, R@1",
}
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
"""Okabe and Ito's, which those who see red and green alike can tell apart."""
_MARKERS = "osD^vPX"
_PANEL = (2.3, 2.1)
"""Inches."""
_DOTS = 110
"""Per inch."""
_LONGEST_NAME = 60


def draw(measured: Sequence[Measured], out: Path, *, names: Sequence[str] | None = None) -> None:
    """Write the plot to ``out``, in the format that its suffix says; ``names`` stand for the
    encoders, by default their specs.

    Raises :class:`~embedsearch.errors.OutputError` for a suffix that is none of :data:`FORMATS` or
    a file that cannot be written, and :class:`~embedsearch.errors.MissingExtraError`.
    """
    check_out(out)
    figure_class = _figure_class()
    rows = [name for name in _TITLES if any(name in one.clean for one in measured)]
    size = (_PANEL[0] * len(CORRUPTIONS), _PANEL[1] * len(rows) + 0.3 * len(measured) + 0.5)
    figure = figure_class(figsize=size, layout="constrained")
    panels = figure.subplots(len(rows), len(CORRUPTIONS), sharey="row", squeeze=False)
    for row, name in zip(panels, rows, strict=True):
        for panel, corruption in zip(row, CORRUPTIONS.values(), strict=True):
            _draw_panel(panel, measured, name, corruption)
        row[0].set_ylabel(_TITLES[name])
    for panel, corruption in zip(panels[0], CORRUPTIONS.values(), strict=True):
        panel.set_title(corruption.name)
    for panel, corruption in zip(panels[-1], CORRUPTIONS.values(), strict=True):
        panel.set_xlabel(corruption.means, fontsize=8)
    labels = [_shortened(name) for name in names or [one.spec for one in measured]]
    figure.legend(panels[0][0].get_lines(), labels, loc="outside upper left", frameon=False)
    with written_whole(out) as stream:
        figure.savefig(stream, format=out.suffix[1:].lower(), dpi=_DOTS, facecolor="white")


def check_out(out: Path) -> None:
    """Whether ``out`` can be written, as far as its name tells. Raises
    :class:`~embedsearch.errors.OutputError`."""
    if out.suffix.lower() not in FORMATS:
        raise OutputError(f"{out}: name a file that ends in {', '.join(FORMATS)}.")
    if not out.absolute().parent.is_dir():
        raise OutputError(f"Cannot write {out}: there is no folder {out.parent}. Make it first.")


def _draw_panel(
    panel: Axes, measured: Sequence[Measured], name: str, corruption: Corruption
) -> None:
    for number, one in enumerate(measured):
        values = [one.clean, *one.levels[corruption.name].values()]
        panel.plot(
            range(len(values)),
            [figures.get(name, float("nan")) for figures in values],
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=4,
            linewidth=1.5,
        )
    ticks = ["clean", *(_number(corruption.told(level)) for level in corruption.levels)]
    panel.set_xticks(range(len(ticks)), ticks, fontsize=7)
    panel.set_ylim(-0.03, 1.03)
    panel.grid(True, linewidth=0.4, alpha=0.6)
    panel.tick_params(axis="y", labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def _number(told: str) -> str:
    return next(word for word in told.split() if word[0].isdigit())


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("A plot", "train") from error
    return Figure


def _shortened(name: str) -> str:
    """A name that fits into the legend; of a path its end tells more."""
    # A legend leaves out what begins with an underscore, and reads $...$ as mathematics.
    shown = name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"
    return shown.replace("$", r"\$").removeprefix("_")
