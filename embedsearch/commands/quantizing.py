"""``quantize``: an encoder with weights and activations of 8 bits."""

from __future__ import annotations

import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedsearch.commands import options
from embedsearch.commands.output import print_json

if TYPE_CHECKING:
    from embedsearch.training.quantize.run import Report


class MethodChoice(StrEnum):
    minmax = "minmax"
    percentile = "percentile"
    entropy = "entropy"


def quantize(
    encoder: Annotated[
        str, typer.Argument(metavar="ENCODER", help="A folder, or a spec such as timm:MODEL.")
    ],
    photos: Annotated[
        Path,
        typer.Option("--photos", metavar="FOLDER", help="Photos like yours, to see the ranges on."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="The encoder folder to write.")
    ],
    method: Annotated[
        MethodChoice, typer.Option("--method", help="How activations get their ranges.")
    ] = MethodChoice.percentile,
    percentile: Annotated[
        float,
        typer.Option(
            "--percentile", min=50, max=100, help="Share of the values that the range covers."
        ),
    ] = 99.99,
    calibration: Annotated[
        int, typer.Option("--calibration", metavar="N", min=1, help="Photos to see ranges on.")
    ] = 64,
    measured_on: Annotated[
        Path | None,
        typer.Option(
            "--measure",
            metavar="FILE",
            help="Recall before and after on captions.jsonl, or on meta.csv with labels.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Decides which photos are drawn.")] = 0,
    as_json: options.Json = False,
) -> None:
    """Make an encoder of 8-bit integers: smaller, faster on a CPU, nearly the same answers.

    \b
    Examples:
      embedsearch quantize my-encoder --photos ~/Pictures --out my-encoder-int8
      embedsearch quantize my-encoder --photos ~/Pictures --out my-encoder-int8 \\
        --measure captions/captions.jsonl
      embedsearch quantize timm:resnet18 --photos ~/Pictures --out resnet18-int8
    """
    from embedsearch.training.quantize import run

    settings = run.Settings(
        method=method.value, percentile=percentile, calibration=calibration, seed=seed
    )
    report = run.quantize(
        encoder,
        photos,
        out,
        settings,
        measured_on=measured_on,
        say=lambda line: print(line, file=sys.stderr),
    )
    if as_json:
        print_json(asdict(report))
    else:
        _show(report)


def _show(report: Report) -> None:
    from embedsearch.render.table import plain_table, show

    show(plain_table(["", "float32", "int8", "change"], _rows(report)))


def _rows(report: Report) -> list[tuple[str, ...]]:
    size = report.size
    rows = [
        (
            "image tower",
            f"{size['float32'] / 1e6:.2f} MB",
            f"{size['int8'] / 1e6:.2f} MB",
            f"{size['int8'] / size['float32']:.2f} x",
        )
    ]
    times = report.milliseconds
    for threads in times["int8"]:
        before, after = times["float32"][threads], times["int8"][threads]
        rows.append(
            (
                f"a photo, {threads} thread{'s' if threads != '1' else ''}",
                f"{before:.1f} ms",
                f"{after:.1f} ms",
                f"{after / before:.2f} x",
            )
        )
    rows += [
        (f"cosine to float32, {name.replace('_', ' ')}", "1", f"{value:.4f}", "")
        for name, value in report.agreement.items()
    ]
    if report.recall is not None:
        for figure, before in report.recall["float32"].items():
            after = report.recall["int8"][figure]
            rows.append((figure, f"{before:.3f}", f"{after:.3f}", f"{after - before:+.4f}"))
    return rows
