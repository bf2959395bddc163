"""``finetune --task detect``: detectors learn, go on where they were broken off, can be used."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_detectors import COLOURS, SIDE, draw_photos, make_yolox
from typer.testing import CliRunner

from embedsearch.commands.app import app
from embedsearch.enrichers import registry
from embedsearch.enrichers.detect_onnx import detector_file
from embedsearch.enrichers.detect_torchvision import build
from embedsearch.errors import DataError
from embedsearch.training.detect.finetune import Outcome, Recipe, finetune
from embedsearch.training.detect.recipe import Data, Looks, Model, Occlusion
from embedsearch.training.detect.samples import guessed
from embedsearch.training.detect.yolox import from_onnx
from embedsearch.training.detect.yolox_network import YoloxNetwork
from embedsearch.training.evaluate.detection import (
    Photo,
    evaluate_detection,
    pixels_of,
    scaled,
)
from embedsearch.training.recipe import Optimisation

PLAIN = Looks(mirror=0.5, least=0.9, largest=1.2, colour=0.1, mosaic=0.0)
# In float32 everywhere: on some processors it would be bfloat16 else, and other figures.
QUICK = Optimisation(epochs=2, batch=4, head_rate=2e-3, rate=1e-3, threads=1, amp="off")
SSD = "ssdlite320_mobilenet_v3_large"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photos, four of them alone again, and an untrained network."""
    folder = tmp_path_factory.mktemp("detectors")
    lines = draw_photos(folder / "photos", 8).read_text().splitlines(keepends=True)
    (folder / "photos" / "few.jsonl").write_text("".join(lines[:4]))
    make_yolox(folder / "start")
    return folder


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    data = Data(
        paths=(str(folder / "photos" / "annotations.jsonl"),),
        check=str(folder / "photos" / "few.jsonl"),
    )
    start = Model(start=str(folder / "start"), scratch=True)
    return Recipe(model=start, data=data, looks=PLAIN, optimisation=QUICK)


@pytest.fixture(scope="module")
def trained(folder: Path, recipe: Recipe) -> tuple[Path, Outcome]:
    """A detector that knows the photos well."""
    long = replace(QUICK, epochs=30, batch=8, head_rate=5e-3, keep_best=False, warm_up=4, clip=10.0)
    still = replace(PLAIN, least=1.0, largest=1.0, mirror=0.0)
    outcome = finetune(replace(recipe, optimisation=long, looks=still), folder / "trained")
    return folder / "trained", outcome


def test_a_detector_learns_what_things_are_and_where(
    recipe: Recipe, trained: tuple[Path, Outcome]
) -> None:
    path, outcome = trained
    losses = outcome.history.losses
    assert sum(losses[-6:]) < 0.75 * sum(losses[:6])
    assert outcome.after["0"] > 0.2
    assert set(outcome.after) == {"0", "25", "50"}
    assert outcome.before is None
    detector = registry.load("detect", str(path))
    assert detector.info.labels == tuple(COLOURS)
    figures = evaluate_detection(Path(recipe.data.check), detector)
    assert figures["AP50"] == pytest.approx(outcome.after["0"], abs=0.05)
    told = json.loads((path / "report.json").read_text())
    assert told["after"] == outcome.after and told["photos"] == 8
    assert (path / "detector.onnx").stat().st_size < 1.6e6


def test_a_run_that_was_broken_off_ends_as_if_it_never_was(tmp_path: Path, recipe: Recipe) -> None:
    whole = finetune(recipe, tmp_path / "whole")

    def stop(line: str) -> None:
        if line.startswith("epoch 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(recipe, tmp_path / "parts", tell=stop)
    resumed = finetune(recipe, tmp_path / "parts", resume=True)
    assert resumed.history.losses == whole.history.losses
    assert resumed.after == whole.after
    one, other = (tmp_path / name / "detector.onnx" for name in ("whole", "parts"))
    assert one.read_bytes() == other.read_bytes()
    changed = replace(recipe, optimisation=replace(QUICK, rate=5e-4))
    with pytest.raises(DataError, match="was made with another recipe"):
        finetune(changed, tmp_path / "parts", resume=True)


def test_new_labels_join_the_known_ones_and_own_ones_replace_them(tmp_path: Path) -> None:
    make_yolox(tmp_path, ("person", "red thing"))
    file = detector_file(str(tmp_path))
    start = from_onnx(file.path).levels[0].classes
    met = ["blue thing", "red thing"]
    more = YoloxNetwork(file, met)
    assert more.labels == ("person", "red thing", "blue thing")
    made = more.module.levels[0].classes
    assert (made.weight[:2] == start.weight).all() and (made.bias[:2] == start.bias).all()
    assert (made.weight[2] == 0).all() and made.bias[2].item() == pytest.approx(
        math.log(0.01 / 0.99)
    )
    assert {id(parameter) for parameter in more.new_parameters()} >= {id(made.weight)}
    own = YoloxNetwork(file, met, own=True)
    assert own.labels == ("red thing", "blue thing")
    assert (own.module.levels[0].classes.weight[0] == start.weight[1]).all()
    assert YoloxNetwork(file, ["person"]).new_parameters() == []


def test_with_and_without_occlusion_are_set_side_by_side(tmp_path: Path, recipe: Recipe) -> None:
    hidden = Occlusion(paste=0.5, erase=0.5, repulsion=0.5, compare=True)
    short = replace(recipe, occlusion=hidden, optimisation=replace(QUICK, epochs=1))
    outcome = finetune(short, tmp_path / "out")
    assert outcome.without is not None and set(outcome.without) == {"0", "25", "50"}
    columns, rows = outcome.table()
    assert columns == ["4 photos", "trained", "without occlusion"]
    assert [row[0] for row in rows] == [f"AP50, {n} % covered" for n in (0, 25, 50)]
    assert len(outcome.history.parts["repulsion"]) == 2
    assert (tmp_path / "out" / "without-occlusion" / "detector.onnx").is_file()


def test_photos_without_labels_are_labelled_by_what_the_start_is_sure_of(
    tmp_path: Path, trained: tuple[Path, Outcome]
) -> None:
    more = draw_photos(tmp_path / "unlabelled", 4).parent
    detector: Any = registry.load("detect", str(trained[0]))

    def find(photo: Photo) -> Any:
        pixels, factor = pixels_of(photo, SIDE)
        return scaled(detector.detect(pixels, 0.001), factor)

    def labelled(sure: float) -> list[Photo]:
        data = Data(photos=(str(more),), sure=sure)
        return guessed(data, find, lambda done, total: None)

    some = labelled(0.001)
    assert 0 < len(some) <= 4
    for photo in some:
        assert (photo.width, photo.height) == (SIDE, SIDE)
        assert [(t.label, t.box) for t in photo.things] == [(d.label, d.box) for d in find(photo)]
    assert labelled(1.0) == []


def test_detectors_of_torchvision_are_trained_from_a_checkpoint(
    tmp_path: Path, recipe: Recipe
) -> None:
    torch.manual_seed(0)
    checkpoint = tmp_path / "coco.pth"
    torch.save({"model": build(SSD, 3).state_dict(), "labels": ["cat", "dog"]}, checkpoint)
    made = replace(
        recipe,
        model=Model(start=f"torchvision:{SSD}@{checkpoint}"),
        data=replace(recipe.data, paths=(recipe.data.check,), own=True),
        occlusion=Occlusion(repulsion=0.2),
        optimisation=replace(QUICK, epochs=1),
    )
    outcome = finetune(made, tmp_path / "out")
    assert {"bbox_regression", "classification", "repulsion"} <= set(outcome.history.parts)
    detector = registry.load("detect", str(tmp_path / "out"))
    assert detector.info.labels == ("blue thing", "red thing")
    measured = evaluate_detection(Path(recipe.data.check), detector)
    assert measured["AP50"] == pytest.approx(outcome.after["0"])


def test_two_step_detectors_learn_with_the_repulsion_loss(tmp_path: Path, recipe: Recipe) -> None:
    made = replace(
        recipe,
        model=Model(
            start="torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", size=64, scratch=True
        ),
        data=replace(recipe.data, paths=(recipe.data.check,)),
        occlusion=Occlusion(repulsion=0.2),
        optimisation=replace(QUICK, epochs=1, batch=2),
    )
    outcome = finetune(made, tmp_path / "out")
    assert {"loss_classifier", "loss_box_reg", "repulsion"} <= set(outcome.history.parts)


def test_the_command_takes_the_options_and_with_no_epochs_all_stays_as_it_was(
    tmp_path: Path, recipe: Recipe
) -> None:
    words: list[Any] = ["finetune", recipe.data.paths[0], "--task", "detect", "--epochs", "0"]
    words += ["--encoder", recipe.model.start, "--set", f"data.check={recipe.data.check}"]
    words += ["--out", tmp_path / "out", "--json", "--batch", "4", "--threads", "1"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["measured_on"] == 4 and set(told["after"]) == {"0", "25", "50"}
    assert told["before"] == told["after"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"paths": ()}, "name photos with boxes"),
        ({"half": "left"}, "neither odd nor even"),
        ({"check": "", "held_out": 0.0}, "no photo is left to measure on"),
    ],
)
def test_what_cannot_be_trained_is_said(
    tmp_path: Path, recipe: Recipe, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        finetune(replace(recipe, data=replace(recipe.data, **change)), tmp_path / "out")


def test_a_side_that_the_strides_do_not_divide_is_refused(tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(DataError, match="must be a multiple of 32"):
        finetune(replace(recipe, model=replace(recipe.model, size=SIDE + 8)), tmp_path / "out")
