"""``quantize``: from an encoder of float32 to a folder with one of 8-bit integers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization.calibrate import TensorsData

from embedsearch.encoders.folder import EncoderFolder
from embedsearch.encoders.onnx import IMAGE, OnnxEncoder
from embedsearch.render.wording import counted
from embedsearch.training.quantize import measure
from embedsearch.training.quantize.biases import correct_biases
from embedsearch.training.quantize.calibrate import PERCENTILE, Method, activation_ranges
from embedsearch.training.quantize.entry import fold_entry
from embedsearch.training.quantize.equalise import equalise
from embedsearch.training.quantize.graph import Graph, embed, prepare, quiet
from embedsearch.training.quantize.photos import find_photos, part, squares
from embedsearch.training.quantize.qat import Training, train
from embedsearch.training.quantize.sensitivity import Layer, named, sensitivity
from embedsearch.training.quantize.source import as_folder, read_image_tower, write_folder
from embedsearch.training.quantize.static import quantize_graph

REPORT = "report.json"
AUTO = "auto"
NOTE = "8-bit weights"
Say = Callable[[str], object]


@dataclass(frozen=True)
class Settings:
    """All that decides how the quantised tower comes out, beside encoder and photos."""

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
    settings: dict[str, Any]
    calibrated_on: int
    """Photos."""
    compared_on: int
    """Photos; others, unless there are too few."""
    evened_out: int = 0
    """Tensors between layers."""
    kept_float: list[str] = field(default_factory=list)
    sensitivity: list[Layer] | None = None
    """The worst first."""
    epochs: list[float] = field(default_factory=list)
    """1 - cosine to the float32 tower in each epoch of training."""
    size: dict[str, int] = field(default_factory=dict)
    """Bytes of the image tower, ``float32`` and ``int8``."""
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
    found = find_photos(photos, settings.seed)
    with tempfile.TemporaryDirectory() as scratch:
        source = as_folder(spec, Path(scratch, "float32"))
        float32 = read_image_tower(source)
        seen_on, compared_on = part(found, settings.calibration)
        report = Report(spec, str(out), asdict(settings), len(seen_on), len(compared_on))
        int8 = _quantised(float32, source, seen_on, found, settings, report, say)
        written = write_folder(source, out, {IMAGE: int8.SerializeToString()}, NOTE)
        say(f"comparing on {counted(len(compared_on), 'photo')}")
        _compare(report, float32, int8, squares(compared_on, source))
        if measured_on is not None:
            say(f"measuring on {measured_on}")
            report.recall = {
                kind: measure.recall(measured_on, OnnxEncoder(one.path, spec=shown))
                for kind, one, shown in (("float32", source, spec), ("int8", written, str(out)))
            }
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
    say(f"calibrating on {counted(len(seen_on), 'photo')}")
    seen = squares(seen_on, source)
    grey = fold_entry(Graph(prepared))
    if settings.equalise:
        report.evened_out = equalise(Graph(prepared), seen)
    ranges = activation_ranges(prepared, seen, settings.method, settings.percentile)

    def made(kept: Collection[str]) -> ModelProto:
        quantised = quantize_graph(prepared, ranges, grey=grey, keep_float=kept)
        return correct_biases(quantised, prepared, seen) if settings.correct_biases else quantised

    chooser = _Chooser(prepared, ranges, grey, seen, settings, say)
    report.kept_float = chooser.choose(made)
    report.sensitivity = chooser.layers
    int8 = made(report.kept_float)
    if settings.training.epochs:
        told = partial(_tell_epoch, report, say)
        int8 = train(int8, prepared, found, source, settings.training, settings.seed, told)
    return int8


def _tell_epoch(report: Report, say: Say, epoch: int, epochs: int, loss: float) -> None:
    say(f"epoch {epoch} of {epochs}: 1 - cosine {loss:.4f}")
    report.epochs.append(loss)


class _Chooser:
    """Decides which layers stay float32."""

    def __init__(
        self,
        prepared: ModelProto,
        ranges: TensorsData,
        grey: int | None,
        seen: Sequence[NDArray[np.uint8]],
        settings: Settings,
        say: Say,
    ) -> None:
        self._prepared, self._seen, self._settings, self._say = prepared, seen, settings, say
        wanted = settings.keep_float
        self.layers: list[Layer] | None = None
        if settings.sensitivity or any(one == AUTO or one.isdigit() for one in wanted):
            self._say("quantising one layer at a time")
            self.layers = sensitivity(prepared, ranges, seen, grey)

    def choose(self, made: Callable[[Collection[str]], ModelProto]) -> list[str]:
        """Names of the layers; ``made`` quantises all but those it is given."""
        wanted = self._settings.keep_float
        names = [one for one in wanted if one != AUTO and not one.isdigit()]
        kept = named(Graph(self._prepared), names)
        ranked = [layer.name for layer in self.layers or () if layer.name not in kept]
        kept += ranked[: max((int(one) for one in wanted if one.isdigit()), default=0)]
        if AUTO in wanted:
            expected = embed(self._prepared, self._seen)
            for name in [*(name for name in ranked if name not in kept), None]:
                mean = measure.agreement(expected, embed(made(kept), self._seen))["mean"]
                self._say(f"{counted(len(kept), 'layer')} in float32: cosine {mean:.4f}")
                if mean >= self._settings.min_cosine or name is None:
                    break
                kept.append(name)
        return kept


def _compare(
    report: Report, float32: ModelProto, int8: ModelProto, seen: Sequence[NDArray[np.uint8]]
) -> None:
    report.size = {"float32": float32.ByteSize(), "int8": int8.ByteSize()}
    report.agreement = measure.agreement(embed(float32, seen), embed(int8, seen))
    times = measure.milliseconds([float32, int8], seen[0])
    report.milliseconds = dict(zip(("float32", "int8"), times, strict=True))
