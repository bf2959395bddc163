"""``quantize``: from an encoder of float32 to a folder with one of 8-bit integers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onnx import ModelProto

from embedsearch.encoders.folder import EncoderFolder
from embedsearch.encoders.onnx import IMAGE, OnnxEncoder
from embedsearch.training.quantize import measure
from embedsearch.training.quantize.calibrate import PERCENTILE, Method, activation_ranges
from embedsearch.training.quantize.entry import fold_entry
from embedsearch.training.quantize.graph import Graph, embed, prepare, quiet
from embedsearch.training.quantize.photos import find_photos, part, squares
from embedsearch.training.quantize.source import as_folder, read_image_tower, write_folder
from embedsearch.training.quantize.static import quantize_graph

REPORT = "report.json"
Say = Callable[[str], object]


@dataclass(frozen=True)
class Settings:
    """All that decides how the quantised tower comes out, beside encoder and photos."""

    method: Method = "percentile"
    percentile: float = PERCENTILE
    calibration: int = 64
    """Photos that the ranges are seen on."""
    keep_float: tuple[str, ...] = ()
    seed: int = 0


@dataclass
class Report:
    """What :func:`quantize` made and measured."""

    encoder: str
    out: str
    settings: dict[str, Any]
    photos: dict[str, int]
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
        prepared = prepare(float32)
        seen_on, compared_on = part(found, settings.calibration)
        say(f"calibrating on {len(seen_on)} photos")
        seen = squares(seen_on, source)
        grey = fold_entry(Graph(prepared))
        ranges = activation_ranges(prepared, seen, settings.method, settings.percentile)
        int8 = quantize_graph(prepared, ranges, grey=grey, keep_float=settings.keep_float)
        written = write_folder(source, out, {IMAGE: int8.SerializeToString()}, "8-bit weights")
        say(f"comparing on {len(compared_on)} photos")
        report = Report(
            spec, str(out), asdict(settings), {"seen": len(seen), "compared": len(compared_on)}
        )
        _compare(report, float32, int8, source, squares(compared_on, source))
        if measured_on is not None:
            say(f"measuring on {measured_on}")
            report.recall = {
                kind: measure.recall(measured_on, OnnxEncoder(one.path, spec=shown))
                for kind, one, shown in (("float32", source, spec), ("int8", written, str(out)))
            }
    _write(report, written)
    return report


def _compare(
    report: Report, float32: ModelProto, int8: ModelProto, source: EncoderFolder, seen: Any
) -> None:
    report.size = {"float32": float32.ByteSize(), "int8": int8.ByteSize()}
    report.agreement = measure.agreement(embed(float32, seen), embed(int8, seen))
    times = measure.milliseconds([float32, int8], seen[0])
    report.milliseconds = dict(zip(("float32", "int8"), times, strict=True))


def _write(report: Report, written: EncoderFolder) -> None:
    text = json.dumps(asdict(report), indent=2) + "\n"
    (written.path / REPORT).write_text(text, encoding="utf-8")
