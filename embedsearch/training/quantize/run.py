"""``quantize``: from an encoder of float32 to a folder with one of 8-bit integers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from onnx import ModelProto

from embedsearch.encoders import registry
from embedsearch.encoders.folder import LITERT_IMAGE, EncoderFolder
from embedsearch.encoders.onnx import IMAGE
from embedsearch.render.wording import counted
from embedsearch.training.onnx_graph.entry import fold_entry
from embedsearch.training.onnx_graph.graph import Graph, prepare, quiet
from embedsearch.training.quantize import measure
from embedsearch.training.quantize.biases import correct_biases
from embedsearch.training.quantize.calibrate import PERCENTILE, Method, activation_ranges
from embedsearch.training.quantize.equalise import equalise
from embedsearch.training.quantize.halves import store_halves
from embedsearch.training.quantize.islands import choose, needs_sensitivity
from embedsearch.training.quantize.litert import to_litert
from embedsearch.training.quantize.photos import find_photos, part, squares
from embedsearch.training.quantize.qat import Training, train
from embedsearch.training.quantize.sensitivity import Layer, sensitivity
from embedsearch.training.quantize.source import (
    as_folder,
    check_out,
    read_image_tower,
    write_folder,
)
from embedsearch.training.quantize.static import quantize_graph

Made = Literal["int8", "litert"]
REPORT = "report.json"
FLOAT32 = "float32"
INT8: Made = "int8"
LITERT: Made = "litert"
Say = Callable[[str], object]


@dataclass(frozen=True)
class Settings:
    """All that decides how the quantised tower comes out, beside encoder and photos."""

    made: Made = INT8
    """What is to become of the tower."""
    method: Method = "percentile"
    percentile: float = PERCENTILE
    calibration: int = 64
    """Photos that the ranges are seen on."""
    equalise: bool = True
    """Even out channels first, where the network's activations allow it."""
    correct_biases: bool = True
    keep_float: tuple[str, ...] = ()
    """Layers by name; or a number, of the most sensitive; or ``auto``."""
    min_cosine: float = 0.99
    """What ``auto`` goes on for."""
    sensitivity: bool = False
    """Try every layer, whether that decides about one or not."""
    training: Training = field(default_factory=Training)
    seed: int = 0


@dataclass
class Report:
    """What :func:`quantize` made and measured."""

    encoder: str
    out: str
    made: str
    """``int8`` or ``litert``, which is float32."""
    settings: dict[str, Any]
    compared_on: int
    """Photos; others than those calibrated on, unless there are too few."""
    calibrated_on: int = 0
    evened_out: int = 0
    """Tensors between layers."""
    kept_float: list[str] = field(default_factory=list)
    sensitivity: list[Layer] | None = None
    """The worst first."""
    epochs: list[float] = field(default_factory=list)
    """1 - cosine to the float32 tower in each epoch of training."""
    size: dict[str, int] = field(default_factory=dict)
    """Bytes of the image tower, of the float32 one and of what was made of it."""
    milliseconds: dict[str, dict[str, float]] = field(default_factory=dict)
    """For a photo, by kind and number of threads."""
    agreement: dict[str, float] = field(default_factory=dict)
    recall: dict[str, dict[str, float]] | None = None
    """Figures of ``--measure``, by kind."""


def quantize(
    spec: str,
    photos: Path,
    out: Path,
    settings: Settings,
    *,
    measured_on: Path | None = None,
    say: Say = lambda line: None,
) -> Report:
    """Quantise the image tower of an encoder, measure it, and write the encoder to ``out``.

    Raises :class:`~embedsearch.errors.EncoderError` and :class:`~embedsearch.errors.DataError`.
    """
    quiet()
    check_out(spec, out)
    found = find_photos(photos, settings.seed)
    with tempfile.TemporaryDirectory() as scratch:
        source = as_folder(spec, Path(scratch, "float32"))
        float32 = read_image_tower(source)
        seen_on, compared_on = part(found, settings.calibration)
        report = Report(spec, str(out), settings.made, asdict(settings), len(compared_on))
        if settings.made == LITERT:
            say("converting to LiteRT, in float32")
            tower = to_litert(prepare(float32), source.input_size)
            name, note = LITERT_IMAGE, "for LiteRT"
        else:
            int8 = _quantised(float32, source, seen_on, found, settings, report, say)
            name, tower = IMAGE, store_halves(int8).SerializeToString()
            note = "8-bit weights"
        halve = settings.made == INT8
        written = write_folder(source, out, {name: tower}, note, halve=halve)
        say(f"comparing on {counted(len(compared_on), 'photo')}")
        compared = squares(compared_on, source)
        pair = registry.load(str(source.path)), registry.load(str(out))
        report.size = {FLOAT32: (source.path / IMAGE).stat().st_size, settings.made: len(tower)}
        report.agreement = measure.agreement(*(one.encode_images(compared) for one in pair))
        files = [source.path / IMAGE, written.path / name]
        times = measure.milliseconds(files, compared[0])
        report.milliseconds = dict(zip((FLOAT32, settings.made), times, strict=True))
        if measured_on is not None:
            say(f"measuring on {measured_on}")
            figures = [measure.recall(measured_on, one) for one in pair]
            report.recall = dict(zip((FLOAT32, settings.made), figures, strict=True))
    text = json.dumps(asdict(report), indent=2) + "\n"
    (written.path / REPORT).write_text(text, encoding="utf-8")
    return report


def _quantised(
    float32: ModelProto,
    source: EncoderFolder,
    seen_on: Sequence[Path],
    found: Sequence[Path],
    settings: Settings,
    report: Report,
    say: Say,
) -> ModelProto:
    """All that is done to the image tower."""
    prepared = prepare(float32)
    report.calibrated_on = len(seen_on)
    say(f"calibrating on {counted(len(seen_on), 'photo')}")
    seen = squares(seen_on, source)
    grey = fold_entry(Graph(prepared))
    if settings.equalise:
        report.evened_out = equalise(Graph(prepared), seen)
    ranges = activation_ranges(prepared, seen, settings.method, settings.percentile)

    def made(kept: Collection[str]) -> ModelProto:
        quantised = quantize_graph(prepared, ranges, grey=grey, keep_float=kept)
        return correct_biases(quantised, prepared, seen) if settings.correct_biases else quantised

    wanted = settings.keep_float
    if settings.sensitivity or needs_sensitivity(wanted):
        say("quantising one layer at a time")
        report.sensitivity = sensitivity(prepared, ranges, seen, grey)
    report.kept_float = choose(
        prepared, seen, wanted, report.sensitivity or [], settings.min_cosine, made, say
    )
    int8 = made(report.kept_float)
    if settings.training.epochs:
        told = partial(_tell_epoch, report, say)
        int8 = train(int8, prepared, found, source, settings.training, settings.seed, told)
    return int8


def _tell_epoch(report: Report, say: Say, epoch: int, epochs: int, loss: float) -> None:
    say(f"epoch {epoch} of {epochs}: 1 - cosine {loss:.4f}")
    report.epochs.append(loss)
