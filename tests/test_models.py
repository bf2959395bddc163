"""``models``: what there is, what each costs, and what each sees in a photo."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch_models
import torchvision
from colour_encoder import COLOURS
from conftest import PngMaker
from encoder_folder import make_encoder_folder
from typer.testing import CliRunner, Result

from embedsearch.commands.app import app
from embedsearch.encoders import registry
from embedsearch.encoders.cached import cached_specs
from embedsearch.enrichers.registry import DEFAULTS
from embedsearch.errors import EncoderError, IndexNotFoundError, QueryError
from embedsearch.explore.models import listed, tried
from embedsearch.index import Index

BOX = registry.WEIGHTS / "mini"


@pytest.fixture
def photos(tmp_path: Path, png: PngMaker) -> Path:
    for name in COLOURS:
        png(tmp_path / "photos" / f"{name}.png", name)
    return tmp_path / "photos"


@pytest.fixture
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments])


@pytest.mark.usefixtures("empty_caches")
def test_the_box_the_index_and_what_is_named_are_listed_each_once(
    index_folder: Path, photos: Path, tmp_path: Path
) -> None:
    tiny = make_encoder_folder(tmp_path / "tiny")
    with Index(index_folder) as index:
        index.add(photos, encoder="mini")
        index.add(photos, encoder="mini?dim=5")
    told = run("--json", "--index", str(index_folder), "--encoder", str(tiny), "--encoder", "mini")
    answer = json.loads(told.stdout)
    models = {model["spec"]: model for model in answer["models"]}
    assert list(models) == ["mini", "mini?dim=5", str(tiny)]
    assert [one["where"] for one in models.values()] == ["box", "index", "named"]
    assert [one["embeddings"] for one in models.values()] == [11, 11, 0]
    files = json.loads((BOX / "encoder.json").read_text())["files"]
    size = sum((BOX / name).stat().st_size for name in files)
    assert models["mini"]["weight_bytes"] == size
    assert models["mini?dim=5"]["weight_bytes"] > size
    assert models[str(tiny)]["weight_bytes"] == (tiny / "image.onnx").stat().st_size
    assert {one["runs_on"] for one in models.values()} == {"CPU"}
    assert [family["prefix"] for family in answer["families"]] == [
        "openclip",
        "timm",
        "torchvision",
        "litert",
    ]
    assert answer["cached"] == []


@pytest.mark.usefixtures("empty_caches")
def test_what_reads_words_and_finds_objects_is_listed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stages = {one["stage"]: one for one in json.loads(run("--json").stdout)["stages"]}
    assert {stage: one["spec"] for stage, one in stages.items()} == DEFAULTS
    for stage in ("detect", "segment"):
        file = registry.WEIGHTS / stages[stage]["spec"]
        sizes = [each.stat().st_size for each in file.glob("*.onnx")]
        assert [stages[stage]["weight_bytes"]] == sizes
    assert len(stages["detect"]["info"]["labels"]) == 80
    assert len(stages["segment"]["info"]["labels"]) == 20
    assert stages["track"]["info"]["id"].startswith("botsort-")
    assert "rapidocr:LANG" in stages["ocr"]["others"]
    assert all(one["spec"] not in one["others"] for one in stages.values())
    monkeypatch.setitem(DEFAULTS, "detect", "yolo:none.onnx")
    told = " ".join(run().stdout.split())
    assert "cannot be had: " in told and "none.onnx" in told


@pytest.mark.usefixtures("empty_caches")
def test_people_get_a_table_without_an_index_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMBEDSEARCH_INDEX", str(tmp_path / "none"))
    told = run()
    assert told.exit_code == 0
    assert "mini" in told.stdout and "openclip:ARCH/PRETRAINED" in told.stdout
    assert "Weights on this machine" not in told.stdout
    missing = run("--index", str(tmp_path / "none"))
    assert isinstance(missing.exception, IndexNotFoundError)


@pytest.mark.usefixtures("empty_caches")
def test_a_photo_is_tried_with_each_and_words_come_from_those_that_know_words(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDSEARCH_INDEX", str(tmp_path / "none"))
    tiny = make_encoder_folder(tmp_path / "tiny")
    photo = str(photos / "red.png")
    told = run("--try", photo, "--encoder", str(tiny), "--json")
    mini, other = (model["trial"] for model in json.loads(told.stdout)["models"])
    assert len(mini["words"]) == 5
    scores = [score for _, score in mini["words"]]
    assert scores == sorted(scores, reverse=True)
    assert other["words"] is None
    for trial in (mini, other):
        assert (trial["error"], trial["runs_on"]) == (None, "CPU")
        assert 0 < trial["milliseconds"] < 60_000 and trial["load_seconds"] > 0
        assert 20e6 < trial["peak_bytes"] < 4e9
    assert other["peak_bytes"] < mini["peak_bytes"] + 50e6, "each has a process of its own"


def test_a_photo_that_cannot_be_read_is_an_error_before_anything_is_tried(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    bad = run("--try", str(tmp_path / "bad.jpg")).exception
    assert isinstance(bad, QueryError) and "bad.jpg cannot be tried: " in str(bad)
    assert isinstance(run("--encoder", "nothing").exception, EncoderError)


@pytest.mark.usefixtures("colour_package")
def test_an_encoder_whose_weights_are_gone_is_listed_and_says_so_when_tried(
    index_folder: Path, photos: Path, tmp_path: Path
) -> None:
    weights = torch_models.save_timm(tmp_path)
    with Index(index_folder) as index:
        index.add(photos, encoder=f"timm:{torch_models.TIMM}@{weights}")
        weights.unlink()
        *_, model = index.models()
        assert (model.weight_bytes, model.runs_on) == (None, "CPU (float32), NVIDIA GPU (bfloat16)")
        trial = tried(model, photos / "red.png", index_folder, "auto").trial
        assert trial is not None and trial.error is not None
        assert "there is no such checkpoint file" in trial.error


@pytest.mark.usefixtures("colour_package")
def test_an_encoder_that_a_package_brings_is_tried_like_any_other(photos: Path) -> None:
    *_, model = listed(["colour"], None, "auto")
    assert (model.where, model.runs_on, model.weight_bytes) == (
        "named",
        "as its package says",
        None,
    )
    trial = tried(model, photos / "red.png", None, "auto").trial
    assert trial is not None and trial.words is not None
    # It refuses words without a colour: those are left out.
    assert all("red" in word for word, _ in trial.words)


def test_a_photo_with_a_strange_name_is_tried(photos: Path, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff.png"
    shutil.copy(photos / "red.png", os.fsdecode(odd))
    *_, model = listed([str(make_encoder_folder(tmp_path / "tiny"))], None, "auto")
    trial = tried(model, Path(os.fsdecode(odd)), None, "auto").trial
    assert trial is not None and trial.error is None


def test_weights_in_the_caches_are_named_by_spec(empty_caches: Path) -> None:
    assert cached_specs() == []
    for repository, file in (
        ("timm--resnet18.a1_in1k", "model.safetensors"),
        ("timm--resnet50_clip.openai", "open_clip_model.safetensors"),
        ("somebody--something", "model.safetensors"),
    ):
        kept = empty_caches / "hub" / f"models--{repository}"
        (kept / "snapshots/0123").mkdir(parents=True)
        (kept / "refs").mkdir()
        (kept / "refs/main").write_text("0123")
        (kept / "snapshots/0123" / file).write_bytes(b"weights")
    url = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    checkpoints = empty_caches / "torch/hub/checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / Path(url).name).write_bytes(b"weights")
    found = cached_specs()
    assert "timm:resnet18.a1_in1k" in found
    assert "openclip:RN50/openai" in found
    assert "torchvision:resnet18?weights=IMAGENET1K_V1" in found
    assert not [spec for spec in found if "resnet18" not in spec and "RN50" not in spec]
