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


class FormatChoice(StrEnum):
    onnx = "onnx"
    litert = "litert"


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
    format: Annotated[
        FormatChoice,
        typer.Option("--format", help="onnx: 8 bits; litert: float32 in a .tflite file."),
    ] = FormatChoice.onnx,
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
    equalise: Annotated[
        bool,
        typer.Option(
            "--equalise/--no-equalise", help="Even out the channels first, where that is possible."
        ),
    ] = True,
    correct: Annotated[
        bool,
        typer.Option(
            "--correct-biases/--no-correct-biases", help="Take out what rounding shifts on average."
        ),
    ] = True,
    keep_float: Annotated[
        list[str] | None,
        typer.Option(
            "--keep-float",
            metavar="N|LAYER|auto",
            help="Leave layers in float32: the N most sensitive, or one by its name or a part of "
            "it, or as many as --min-cosine takes. May be repeated.",
        ),
    ] = None,
    min_cosine: Annotated[
        float,
        typer.Option("--min-cosine", metavar="C", min=0, max=1, help="For --keep-float auto."),
    ] = 0.99,
    sensitivity: Annotated[
        bool,
        typer.Option(
            "--sensitivity", help="Quantise one layer at a time, and show what each loses."
        ),
    ] = False,
    qat: Annotated[
        int,
        typer.Option(
            "--qat", metavar="EPOCHS", min=0, help="Train with simulated 8 bits, on the photos."
        ),
    ] = 0,
    qat_photos: Annotated[
        int, typer.Option("--qat-photos", metavar="N", min=1, help="Photos of an epoch, at most.")
    ] = 1024,
    qat_rate: Annotated[
        float,
        typer.Option(
            "--qat-rate", metavar="R", help="How far a weight moves at once, in 8-bit steps."
        ),
    ] = 0.01,
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

    Written are one ONNX file (QDQ), the text tower where there is one, encoder.json, and
    report.json with what was measured. The folder is what --encoder names from then on.

    \b
    Examples:
      embedsearch quantize my-encoder --photos ~/Pictures --out my-encoder-int8
      embedsearch quantize my-encoder --photos ~/Pictures --out my-encoder-int8 \\
        --measure captions/captions.jsonl
      embedsearch quantize timm:resnet18 --photos ~/Pictures --out resnet18-int8 --keep-float 3
      embedsearch quantize my-encoder --photos ~/Pictures --out my-encoder-int8 --qat 2
      embedsearch quantize my-encoder --photos ~/Pictures --out my-encoder-litert --format litert
    """
    from embedsearch.training.quantize import run
    from embedsearch.training.quantize.qat import Training

    settings = run.Settings(
        made="litert" if format is FormatChoice.litert else "int8",
        method=method.value,
        percentile=percentile,
        calibration=calibration,
        equalise=equalise,
        correct_biases=correct,
        keep_float=tuple(keep_float or ()),
        min_cosine=min_cosine,
        sensitivity=sensitivity,
        training=Training(epochs=qat, photos=qat_photos, rate=qat_rate),
        seed=seed,
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

    if report.sensitivity is not None:
        kept = set(report.kept_float)
        show(
            plain_table(
                ["layer", "kind", "weights", "cosine lost", "runs in"],
                [
                    (
                        layer.name,
                        layer.kind,
                        f"{layer.weights:,}",
                        f"{layer.cosine_lost:.5f}",
                        "float32" if layer.name in kept else "int8",
                    )
                    for layer in report.sensitivity
                ],
            )
        )
    show(plain_table(["", "float32", report.made, "change"], _rows(report)))


def _rows(report: Report) -> list[tuple[str, ...]]:
    size = report.size
    rows: list[tuple[str, ...]] = [
        (
            "image tower",
            f"{size['float32'] / 1e6:.2f} MB",
            f"{size[report.made] / 1e6:.2f} MB",
            f"{size[report.made] / size['float32']:.2f} x",
        )
    ]
    times = report.milliseconds
    for threads in times[report.made]:
        before, after = times["float32"][threads], times[report.made][threads]
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
            after = report.recall[report.made][figure]
            rows.append((figure, f"{before:.3f}", f"{after:.3f}", f"{after - before:+.4f}"))
    return rows
