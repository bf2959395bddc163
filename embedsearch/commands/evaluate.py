"""``evaluate``: the figures of an encoder on pictures with ground truth."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedsearch import settings
from embedsearch.commands import options, robustness
from embedsearch.commands.output import print_json

if TYPE_CHECKING:
    from embedsearch.encoders.base import Encoder


class Half(StrEnum):
    odd = "odd"
    even = "even"


class Task(StrEnum):
    captions = "captions"
    category = "category"
    copies = "copies"
    detection = "detection"
    objects = "objects"
    ocr = "ocr"
    products = "products"
    robustness = "robustness"
    segmentation = "segmentation"
    tracking = "tracking"


HALVED = (Task.detection, Task.objects, Task.ocr, Task.segmentation)
"""Tasks whose ground truth has a half to tune on and one to measure on."""


class BoxChoice(StrEnum):
    detector = "detector"
    gt = "gt"


class Start(StrEnum):
    first_box = "first-box"


def evaluate(
    task: Annotated[Task, typer.Argument(help="What to measure.")],
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="The ground truth; file names are relative to it."),
    ],
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder",
            metavar="SPEC",
            help="Default: mini. For robustness it may be repeated: they are set side by side.",
        ),
    ] = None,
    distractors: Annotated[
        Path | None,
        typer.Option(
            "--distractors", metavar="DIR", help="copies: other pictures to find them among."
        ),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector",
            metavar="SPEC",
            help="detection, objects, tracking: default the one in the box.",
        ),
    ] = None,
    segmenter: Annotated[
        str | None,
        typer.Option(
            "--segmenter", metavar="SPEC", help="segmentation: default the one in the box."
        ),
    ] = None,
    ocr: Annotated[
        str | None,
        typer.Option(
            "--ocr", metavar="SPEC", help="ocr: default rapidocr; rapidocr:plain, a folder ..."
        ),
    ] = None,
    half: Annotated[
        Half | None,
        typer.Option(
            "--half",
            help="detection, objects, ocr, segmentation: only files whose name has such a SHA-1.",
        ),
    ] = None,
    boxes: Annotated[
        BoxChoice | None,
        typer.Option("--boxes", help="tracking: what is followed. [default: detector]"),
    ] = None,
    appearance: Annotated[
        bool | None,
        typer.Option(
            "--appearance/--no-appearance",
            help="tracking: whether it counts how things look. [default: appearance]",
        ),
    ] = None,
    start: Annotated[
        Start | None,
        typer.Option("--start", help="tracking: follow one object from its first box on."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="robustness: a plot, .png, .svg, .pdf, .webp."),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", metavar="N", min=2, help="robustness: only N pictures, drawn."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="robustness: what is drawn.")
    ] = 0,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=1, help="robustness: threads."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Measure an encoder on pictures with ground truth.

    captions: do texts find their pictures, and pictures their texts?  category: are the nearest
    neighbours of the same label, and do label names find them?  copies: is an edited picture's
    original found?  products: does a shop photo find its packshot, and a description its photos?
    robustness: how much of all this is left when pictures are covered, dark, bright, shaded,
    noisy, blurred or saved as bad JPEGs? Its ground truth is that of captions, category or copies.

    detection: are the objects of photos found and named (a detector, not an encoder, is measured)?
    objects: does the name of an object find the pictures that hold one, by their whole embedding
    (global) and by all that the index knows of them (fused)?
    tracking: are objects followed through a clip, each as the one that it is?
    segmentation: does every pixel get the class of what it shows (a segmenter)?
    ocr: are the words in pictures read (a reader is measured)?

    \b
    Examples:
      embedsearch evaluate captions captions/captions.jsonl
      embedsearch evaluate category category/meta.csv --json
      embedsearch evaluate copies copies/meta.csv --distractors captions/images
      embedsearch evaluate products products/
      embedsearch evaluate detection detection/annotations.jsonl --detector yolo:model.onnx
      embedsearch evaluate objects detection/annotations.jsonl
      embedsearch evaluate tracking clip/ --detector yolo:model.onnx
      embedsearch evaluate tracking clip/ --boxes gt --no-appearance
      embedsearch evaluate tracking clip/ --start first-box
      embedsearch evaluate segmentation detection/annotations.jsonl --segmenter my-segmenter/
      embedsearch evaluate ocr ocr/annotations.jsonl --ocr rapidocr:plain --half odd
      embedsearch evaluate robustness captions/captions.jsonl --sample 200 --out robustness.png
      embedsearch evaluate robustness category/meta.csv --encoder mini --encoder tuned/
    """
    if distractors is not None and task is not Task.copies:
        raise typer.BadParameter("--distractors belongs to: evaluate copies")
    if half is not None and task not in HALVED:
        raise typer.BadParameter(f"--half belongs to: evaluate {', '.join(HALVED)}")
    if segmenter is not None and task is not Task.segmentation:
        raise typer.BadParameter("--segmenter belongs to: evaluate segmentation")
    if detector is not None and task not in (Task.detection, Task.objects, Task.tracking):
        raise typer.BadParameter("--detector belongs to: evaluate detection, objects, tracking")
    if task is not Task.tracking and (boxes, appearance, start) != (None, None, None):
        raise typer.BadParameter("--boxes, --appearance, --start belong to: evaluate tracking")
    if ocr is not None and task is not Task.ocr:
        raise typer.BadParameter("--ocr belongs to: evaluate ocr")
    specs = list(dict.fromkeys(encoder or [settings.default_encoder()]))
    if task is Task.robustness:
        robustness.measure(
            path, specs, out=out, sample=sample, seed=seed, workers=workers, as_json=as_json
        )
        return
    if out is not None or sample is not None or seed or workers is not None:
        raise typer.BadParameter("--out, --sample, --seed, --workers: only for robustness")
    if len(specs) > 1:
        raise typer.BadParameter("Several --encoder: only for robustness")
    if task is Task.detection:
        measured = _detection(path, detector, half, specs[0])
    elif task is Task.objects:
        measured = _objects(path, specs[0], detector, half)
    elif task is Task.tracking:
        if start is not None and (boxes, appearance, detector) != (None, None, None):
            raise typer.BadParameter("--start first-box needs no detector, boxes or appearance")
        given = boxes is BoxChoice.gt
        if given and detector is not None:
            raise typer.BadParameter("--boxes gt needs no --detector")
        looks = None if appearance is False else specs[0]
        measured = _tracking(path, None if given else (detector or ""), looks, start)
    elif task is Task.segmentation:
        measured = _segmentation(path, segmenter, half)
    elif task is Task.ocr:
        measured = _ocr(path, ocr, half)
    else:
        from embedsearch.encoders import registry

        measured = _measure(task, path, registry.load(specs[0]), distractors)
    if as_json:
        print_json(measured)
        return
    from embedsearch.render.table import plain_table, show

    show(plain_table(["figure", "value"], list(_flat(measured))))


def _measure(task: Task, path: Path, encoder: Encoder, distractors: Path | None) -> dict[str, Any]:
    from embedsearch.training import evaluate as tasks

    if task is Task.copies:
        return tasks.evaluate_copies(path, encoder, distractors=distractors)
    measure: Callable[[Path, Encoder], dict[str, Any]] = {
        Task.captions: tasks.evaluate_captions,
        Task.category: tasks.evaluate_category,
        Task.products: tasks.evaluate_products,
    }[task]
    return measure(path, encoder)


def _detection(path: Path, spec: str | None, half: Half | None, encoder: str) -> dict[str, Any]:
    from embedsearch.encoders import registry as encoders
    from embedsearch.enrichers import registry
    from embedsearch.training.evaluate import evaluate_detection

    detector = registry.load("detect", spec, encoder=encoders.load(encoder))
    return evaluate_detection(path, detector, half=None if half is None else half.value)


def _objects(path: Path, encoder: str, spec: str | None, half: Half | None) -> dict[str, Any]:
    from embedsearch.commands.progress import bar
    from embedsearch.index.measuring import measure_objects

    with bar() as progress:
        return measure_objects(
            path,
            encoder=encoder,
            detector=spec,
            half=None if half is None else half.value,
            progress=progress,
        )


def _tracking(
    clip: Path, detector: str | None, encoder: str | None, start: Start | None
) -> dict[str, Any]:
    """``detector`` is a spec, empty for the one in the box; None: boxes are given. Without an
    ``encoder`` looks do not count."""
    from embedsearch.training.evaluate import evaluate_one_object, evaluate_tracking

    if start is not None:
        return evaluate_one_object(clip)
    from embedsearch.encoders import registry as encoders
    from embedsearch.enrichers import registry
    from embedsearch.enrichers.track import Tracking

    found = None if detector is None else Tracking(registry.load("detect", detector or None))
    return evaluate_tracking(clip, found, None if encoder is None else encoders.load(encoder))


def _segmentation(path: Path, spec: str | None, half: Half | None) -> dict[str, Any]:
    from embedsearch.enrichers import registry
    from embedsearch.training.evaluate import evaluate_segmentation

    return evaluate_segmentation(
        path, registry.load("segment", spec), half=None if half is None else half.value
    )


def _ocr(path: Path, spec: str | None, half: Half | None) -> dict[str, Any]:
    from embedsearch.enrichers import registry
    from embedsearch.training.evaluate import evaluate_ocr

    return evaluate_ocr(path, registry.load("ocr", spec), half=None if half is None else half.value)


def _flat(tree: dict[str, Any], above: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in tree.items():
        where = f"{above} {name}".strip()
        if isinstance(value, dict):
            rows += _flat(value, where)
        else:
            rows.append((where, "-" if value is None else f"{value:.3f}"))
    return rows
