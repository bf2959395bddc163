"""``evaluate robustness``: several encoders side by side, as a table, a plot or JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING

import typer

from embedsearch import settings
from embedsearch.commands.output import print_json

if TYPE_CHECKING:
    from embedsearch.training.evaluate.robustness import Figures, Measured

MOST = 7
"""Encoders in one table and plot."""


def measure(
    path: Path,
    specs: Sequence[str],
    *,
    out: Path | None,
    sample: int | None,
    seed: int,
    workers: int | None,
    as_json: bool,
) -> None:
    """Measure, print, and draw where ``out`` names a file."""
    if len(specs) > MOST:
        raise typer.BadParameter(f"--encoder: {MOST} at most can be set side by side")
    from embedsearch.commands.progress import step_bar
    from embedsearch.encoders import registry
    from embedsearch.training.evaluate import robustness, robustness_plot

    if out is not None:
        robustness_plot.check_out(out)  # before minutes of measuring, not after
    encoders = [registry.load(spec) for spec in specs]
    with step_bar() as tell:
        pictures, measured = robustness.evaluate_robustness(
            path,
            encoders,
            sample=sample,
            seed=seed,
            workers=settings.workers(workers),
            progress=lambda done, total: tell("pictures", done, total),
        )
    if out is not None:
        robustness_plot.draw(measured, out, names=specs)
    if as_json:
        print_json({"pictures": pictures, "encoders": [one.told() for one in measured]})
    else:
        _show(measured, specs, pictures)
    if out is not None:
        print(f"Plot: {out}", file=sys.stderr)


def _show(measured: Sequence[Measured], specs: Sequence[str], pictures: int) -> None:
    from embedsearch.render.names import printable
    from embedsearch.render.table import plain_table, show
    from embedsearch.render.wording import counted
    from embedsearch.training.evaluate.robustness import FIGURES

    used = [name for name in FIGURES if any(name in one.clean for one in measured)]
    letters = ascii_uppercase[: len(measured)] if len(measured) > 1 else ("",)
    columns = [f"{letter} {name}".strip() for letter in letters for name in used]
    said = [f"{counted(pictures, 'picture')}, each clean and spoilt in every way."]
    said += [f"{letter} {spec}".strip() for letter, spec in zip(letters, specs, strict=True)]
    said += [f"{name}: {FIGURES[name]}" for name in used]
    show(
        *map(printable, said),
        "",
        plain_table(["corruption", "strength", *columns], _levels(measured, used)),
        "",
        "Means over the strengths" + (", beside them the gain over A" if len(measured) > 1 else ""),
        plain_table(["corruption", *columns], _means(measured, used)),
    )


def _levels(measured: Sequence[Measured], used: Sequence[str]) -> Iterator[list[str]]:
    from embedsearch.training.augment.corruptions import CORRUPTIONS

    yield ["clean", "", *_cells([one.clean for one in measured], used)]
    for name, corruption in CORRUPTIONS.items():
        for place, level in enumerate(corruption.levels):
            figures = [one.levels[name][level] for one in measured]
            yield ["" if place else name, corruption.told(level), *_cells(figures, used)]


def _means(measured: Sequence[Measured], used: Sequence[str]) -> Iterator[list[str]]:
    means = [one.means() for one in measured]
    for name in means[0]:
        yield [name, *_cells([one[name] for one in means], used, gain=True)]


def _cells(figures: Sequence[Figures], used: Sequence[str], *, gain: bool = False) -> list[str]:
    """A cell for each figure of each encoder; with ``gain``, beside it, how much it is above the
    first encoder's."""
    cells = []
    for number, one in enumerate(figures):
        for name in used:
            first = figures[0].get(name)
            if name not in one:
                cells.append("-")
            elif gain and number and first is not None:
                cells.append(f"{one[name]:.3f} ({one[name] - first:+.3f})")
            else:
                cells.append(f"{one[name]:.3f}")
    return cells
