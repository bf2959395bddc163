"""What 8-bit activations do to the detector in the box, whose weights alone have 8 bits.

The network is quantised as ONNX Runtime has it (QDQ; uint8 activations, int8 weights a channel;
ranges seen on photos of the even half; the last convolutions and what follows stay float32), and
AP50 on the odd half and milliseconds on one thread are set beside those of the shipped file.

    python benchmarks/detector_bits.py DETECTION/annotations.jsonl [--detector yolox] [--photos 24]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import onnx
from measure import median, report
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from embedsearch.enrichers.detect_onnx import OnnxDetector, detector_file
from embedsearch.enrichers.detect_yolo import entering
from embedsearch.training.detect.yolox import export, from_onnx
from embedsearch.training.evaluate.detection import evaluate_detection, pixels_of, read_photos
from embedsearch.training.onnx_graph.graph import Graph, prepare, quiet

SIZE = 416
WAYS = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}


class Photos(CalibrationDataReader):
    def __init__(self, photos: list) -> None:
        self._photos = iter(photos)

    def get_next(self) -> dict | None:
        photo = next(self._photos, None)
        return None if photo is None else {"pixels": photo[None]}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("annotations", type=Path)
    arguments.add_argument("--detector", default="yolox")
    arguments.add_argument("--photos", type=int, default=24)
    given = arguments.parse_args()
    quiet()
    file = detector_file(given.detector)
    seen = read_photos(given.annotations, "even")[: given.photos]
    pictures = [
        entering(pixels_of(photo, SIZE)[0], (SIZE, SIZE), file)[0].astype("uint8") for photo in seen
    ]
    figures, rows = {}, []
    with tempfile.TemporaryDirectory() as folder:
        float32 = Path(folder, "float32.onnx")
        export(from_onnx(file.path), float32, SIZE)
        prepared = prepare(onnx.load(float32))
        onnx.save(prepared, Path(folder, "prepared.onnx"))
        graph = Graph(prepared)
        last = [node for node in graph.layers("Conv") if "silu" not in _reader(graph, node)]
        tail = {each.name for node in last for each in [node, *graph.followers(node)]}
        sides = {"float32": float32, "int8 weights": file.path}
        for name, way in WAYS.items():
            path = Path(folder, f"{name}.onnx")
            quantize_static(
                Path(folder, "prepared.onnx"),
                path,
                Photos(pictures),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8,
                nodes_to_exclude=sorted(tail),
                calibrate_method=way,
                reduce_range=True,
                extra_options={"CalibPercentile": 99.99},
            )
            sides[f"int8 throughout, {name}"] = path
        for name, path in sides.items():
            detector = OnnxDetector(replace(file, path=path), name)
            figure = evaluate_detection(given.annotations, detector, half="odd")["AP50"]
            times = []
            for photo in read_photos(given.annotations, "odd")[:30]:
                pixels = pixels_of(photo, SIZE)[0]
                begun = time.perf_counter()
                detector.enrich(pixels)
                times.append((time.perf_counter() - begun) * 1000)
            size = path.stat().st_size / 1e6
            figures[name] = {"AP50": figure, "ms": median(times), "MB": size}
            told = f"{figure:.3f}, {median(times):.1f} ms, {size:.2f} MB"
            rows.append((f"AP50 of {name}", told, ""))
    report("detector_bits", rows, {"sides": figures})


def _reader(graph: Graph, node: onnx.NodeProto) -> str:
    """silu, where the output goes through one."""
    kinds = {reader.op_type for reader in graph.readers.get(node.output[0], [])}
    return "silu" if {"Sigmoid", "Mul"} <= kinds else ""


if __name__ == "__main__":
    main()
