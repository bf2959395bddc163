"""The other way to a detector in the box: a light head on the backbone of `mini`.

The image tower of `mini` stays as it is, at 416 px; a head as YOLOX has it is trained on its
maps at strides 8, 16 and 32 with the same looks, loss and photos as `make yolox` takes (the
detector that teaches labels the photos that have none). Measured on the other half: AP50, and the
milliseconds of tower and head on one thread.

    python benchmarks/mini_head.py DETECTION/annotations.jsonl --photos TRAIN/train.jsonl
        --teacher yolo:yolox_nano.onnx [--steps 400] [--most 1000]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from measure import median, report
from torch import Tensor, nn
from torch.nn.functional import interpolate

from embedsearch.encoders.registry import WEIGHTS
from embedsearch.enrichers import registry
from embedsearch.enrichers.detect_onnx import detector_file
from embedsearch.enrichers.detect_yolo import objects_in
from embedsearch.enrichers.detector_file import DetectorFile, Input, Output
from embedsearch.training.detect.measuring import ap50
from embedsearch.training.detect.recipe import Data, Looks, Occlusion
from embedsearch.training.detect.samples import Batches, guessed, split
from embedsearch.training.detect.yolox import STRIDES, Level, Unit
from embedsearch.training.detect.yolox_loss import yolox_loss
from embedsearch.training.evaluate.detection import Photo, pixels_of, scaled

SIZE = 416
TAPS = ("/module/blocks.9/Add_output_0", "/module/blocks.12/Add_output_0")
WIDTHS = (64, 96, 1280)
LEAN = 96


class Head(nn.Module):
    """Maps of three strides, the coarse ones added to the fine, and a head on each."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.into = nn.ModuleList(Unit(width, LEAN, 1) for width in WIDTHS)
        self.levels = nn.ModuleList(Level(LEAN, classes) for _ in WIDTHS)
        for level in self.levels:
            for layer in (level.classes, level.anything):
                nn.init.constant_(layer.bias, -4.6)

    def forward(self, maps: list[Tensor]) -> Tensor:
        fine, middle, coarse = (unit(each) for unit, each in zip(self.into, maps, strict=True))
        middle = middle + interpolate(coarse, scale_factor=2.0)
        fine = fine + interpolate(middle, scale_factor=2.0)
        given = [
            level(each) for level, each in zip(self.levels, (fine, middle, coarse), strict=True)
        ]
        return torch.cat([each.flatten(2) for each in given], 2).transpose(1, 2)


class Tower:
    """The image tower of `mini` up to its last map."""

    def __init__(self) -> None:
        model = onnx.load(WEIGHTS / "mini" / "image.onnx")
        for place in (1, 2):
            model.graph.input[0].type.tensor_type.shape.dim[place].dim_value = SIZE
        del model.graph.value_info[:]
        pool = next(node for node in model.graph.node if node.op_type == "ReduceMean")
        del model.graph.output[:]
        model.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in (*TAPS, pool.input[0])
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), options)

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
        return self._session.run(None, {"pixels": pixels[None]})


class Detector:
    """Tower and head, as a network for one picture."""

    size = (SIZE, SIZE)

    def __init__(self, tower: Tower, head: Head, labels: tuple[str, ...]) -> None:
        self.tower, self.head = tower, head
        self._file = DetectorFile(
            Path("mini"), labels, Output("yolox", STRIDES), Input((SIZE,), layout="nhwc")
        )

    def run(self, entered: np.ndarray) -> np.ndarray:
        maps = [torch.from_numpy(each) for each in self.tower(entered.astype(np.uint8))]
        with torch.no_grad():
            rows = self.head(maps)[0]
        rows[:, 4:].sigmoid_()
        return rows.numpy()

    def detect(self, pixels: np.ndarray, threshold: float) -> tuple:
        return objects_in(pixels, self._file, self, threshold)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("annotations")
    arguments.add_argument("--photos", required=True)
    arguments.add_argument("--teacher", required=True)
    arguments.add_argument("--steps", type=int, default=400)
    arguments.add_argument("--most", type=int, default=1000)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    data = Data(
        paths=(given.annotations,), half="even", check=given.annotations, check_half="odd",
        photos=(given.photos,), most=given.most,
    )  # fmt: skip
    parts = split(data)
    teacher = registry.load("detect", given.teacher)
    labels = detector_file(given.teacher).labels

    def find(photo: Photo) -> list:
        pixels, factor = pixels_of(photo, SIZE)
        return scaled(teacher.detect(pixels, data.sure), factor)  # type: ignore[attr-defined]

    photos = [*parts.learned, *guessed(data, find, lambda done, total: None)]
    batches = Batches(photos, labels, SIZE, 8, Looks(), Occlusion(), 0)
    tower, head = Tower(), Head(len(labels))
    optimizer = torch.optim.AdamW(head.parameters(), 2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, given.steps)
    for step in range(given.steps):
        batch = batches.batch(step)
        told = [tower(sample.pixels) for sample in batch]
        maps = [torch.from_numpy(np.concatenate(each)) for each in zip(*told, strict=True)]
        boxes = [torch.from_numpy(sample.boxes) for sample in batch]
        named = [torch.from_numpy(sample.labels) for sample in batch]
        loss = torch.stack(list(yolox_loss(head(maps), boxes, named, SIZE).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            print(f"step {step + 1}: loss {loss.item():.2f}", flush=True)
    head.eval()
    detector = Detector(tower, head, labels)
    figure = ap50(detector.detect, parts.measured, SIZE)
    pixels = pixels_of(parts.measured[0], SIZE)[0]
    times = []
    for _ in range(30):
        begun = time.perf_counter()
        detector.detect(pixels, 0.3)
        times.append((time.perf_counter() - begun) * 1000)
    size = sum(parameter.numel() for parameter in head.parameters())
    report(
        "mini_head",
        [
            ("photos trained on", str(len(photos)), ""),
            ("AP50", f"{figure:.3f}", ""),
            ("a photo, tower and head", f"{median(times):.1f} ms", ""),
            ("numbers in the head", f"{size:,}", ""),
        ],
        {"photos": len(photos), "steps": given.steps, "AP50": figure, "ms": median(times)},
    )


if __name__ == "__main__":
    main()
