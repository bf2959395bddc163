"""``quantize``: from an encoder to a folder with one of 8 bits, and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import small_networks as small
import torch_models
from click.testing import Result
from onnx import numpy_helper
from typer.testing import CliRunner

from embedsearch.commands.app import app
from embedsearch.encoders import registry
from embedsearch.errors import DataError, EmbedSearchError, EncoderError


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write_photos(tmp_path_factory.mktemp("photos") / "all", 20)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write_encoder(tmp_path_factory.mktemp("encoders") / "small", small.network())


def run(encoder: object, photos: Path, out: Path, *options: str) -> Result:
    return CliRunner().invoke(
        app,
        ["quantize", str(encoder), "--photos", str(photos), "--out", str(out), *options],
        catch_exceptions=True,
    )


def test_the_folder_is_an_encoder_that_agrees_and_the_report_says_how_much(
    encoder: Path, photos: Path, tmp_path: Path
) -> None:
    done = run(encoder, photos, tmp_path / "int8", "--calibration", "12", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "int8" / "report.json").read_text())
    made, given = registry.load(str(tmp_path / "int8")), registry.load(str(encoder))
    assert made.info.id != given.info.id and made.info.id.startswith("small-")
    assert made.info.description == "Three layers; 8-bit weights"
    pictures = small.blobs(5, 40, seed=9)
    cosines = (made.encode_images(pictures) * given.encode_images(pictures)).sum(axis=1)
    assert cosines.min() > 0.97
    assert 0.97 < report["agreement"]["min"] <= report["agreement"]["mean"] <= 1
    assert (report["calibrated_on"], report["compared_on"]) == (12, 8)
    assert report["size"]["int8"] == (tmp_path / "int8" / "image.onnx").stat().st_size
    assert report["milliseconds"]["int8"].keys() == {"1", "2"}
    assert report["evened_out"] == 4 and report["recall"] is None


def test_people_get_tables_with_recall_and_the_sensitive_layers(
    encoder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    rows = [f"{photos}/{place:02d}.png,things,{'ab'[place % 2]}" for place in range(6)]
    (tmp_path / "meta.csv").write_text("file,set,label\n" + "\n".join(rows) + "\n")
    done = run(
        encoder,
        photos,
        tmp_path / "int8",
        *("--keep-float", "1", "--keep-float", "depthwise"),
        *("--measure", str(tmp_path / "meta.csv")),
    )
    assert done.exit_code == 0, done.output
    table = done.stdout.splitlines()
    layers = [line.split() for line in table if line.rstrip().endswith(("float32", "int8"))]
    kept = json.loads((tmp_path / "int8" / "report.json").read_text())["kept_float"]
    assert {line[0] for line in layers if line[-1] == "float32"} == set(kept)
    assert layers[0][0] in kept and any("depthwise" in name for name in kept)
    assert any(line.startswith("mAP") for line in table)
    assert any(line.startswith("a photo, 2 threads") for line in table)


def test_islands_are_added_until_the_cosine_is_reached(
    encoder: Path, photos: Path, tmp_path: Path
) -> None:
    def kept(cosine: str) -> list[str]:
        done = run(
            encoder,
            photos,
            tmp_path / cosine,
            *("--keep-float", "auto", "--min-cosine", cosine, "--json"),
        )
        assert done.exit_code == 0, done.output
        names: list[str] = json.loads(done.stdout)["kept_float"]
        return names

    assert kept("0.5") == []
    assert len(kept("1")) == 5  # all there are, and still not exactly 1


def test_training_with_simulated_8_bits_agrees_better_and_its_scales_are_in_the_file(
    encoder: Path, photos: Path, tmp_path: Path
) -> None:
    plain = ("--no-correct-biases", "--no-equalise", "--percentile", "97", "--json")
    before = run(encoder, photos, tmp_path / "before", *plain)
    after = run(encoder, photos, tmp_path / "after", *plain, "--qat", "6", "--qat-rate", "0.02")
    assert after.exit_code == 0, after.output
    first, second = json.loads(before.stdout), json.loads(after.stdout)
    assert len(second["epochs"]) == 6 and second["epochs"][-1] < second["epochs"][0]
    assert second["agreement"]["mean"] > first["agreement"]["mean"]
    scales = [_scales(tmp_path / name / "image.onnx") for name in ("before", "after")]
    assert scales[0].keys() == scales[1].keys()
    moved = [name for name in scales[0] if not np.array_equal(scales[0][name], scales[1][name])]
    assert len(moved) > 4


def _scales(path: Path) -> dict[str, np.ndarray]:
    """Steps of the activations."""
    model = onnx.load(path)
    arrays = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    return {
        n.input[1]: arrays[n.input[1]] for n in model.graph.node if n.op_type == "QuantizeLinear"
    }


def test_a_litert_file_agrees_with_the_onnx_file_it_was_made_of(
    encoder: Path, photos: Path, tmp_path: Path
) -> None:
    pytest.importorskip("litert_torch", reason="the extra litert writes LiteRT files")
    done = run(encoder, photos, tmp_path / "lite", "--format", "litert", "--json")
    assert done.exit_code == 0, done.output
    made = registry.load(f"litert:{tmp_path / 'lite' / 'image.tflite'}")
    given = registry.load(str(encoder))
    pictures = small.blobs(5, 40, seed=9)
    cosines = (made.encode_images(pictures) * given.encode_images(pictures)).sum(axis=1)
    assert cosines.min() > 0.999
    assert json.loads(done.stdout)["agreement"]["min"] > 0.999


def test_a_model_of_another_library_is_exported_first(photos: Path, tmp_path: Path) -> None:
    spec = f"timm:{torch_models.TIMM}@{torch_models.save_timm(tmp_path)}?pool=gem"
    done = run(spec, photos, tmp_path / "int8", "--calibration", "4", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["agreement"]["mean"] > 0.98
    made, given = registry.load(str(tmp_path / "int8")), registry.load(spec)
    pictures = small.blobs(3, 300, seed=9)
    assert (made.encode_images(pictures) * given.encode_images(pictures)).sum(axis=1).min() > 0.97
    assert made.info.pooling == "gem"


@pytest.mark.parametrize(
    ("spec", "photos_are", "error", "said"),
    [
        # An encoder of 8 bits has nothing left to quantise.
        ("mini", "there", DataError, "quantised already; name the float32 encoder"),
        ("nothing", "there", EncoderError, "There is no encoder 'nothing'"),
        ("mini+mini", "there", EncoderError, "only one encoder by itself"),
        ("small", "missing", DataError, "no photos to calibrate on"),
        ("small", "empty", DataError, "no photos to calibrate on"),
    ],
)
def test_what_cannot_be_quantised_is_a_named_error(
    spec: str,
    photos_are: str,
    error: type[EmbedSearchError],
    said: str,
    encoder: Path,
    photos: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "empty").mkdir()
    folders = {"there": photos, "missing": tmp_path / "none", "empty": tmp_path / "empty"}
    named = str(encoder) if spec == "small" else spec
    done = run(named, folders[photos_are], tmp_path / "out")
    assert isinstance(done.exception, error) and said in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_the_encoder_is_not_written_over(encoder: Path, photos: Path) -> None:
    before = (encoder / "image.onnx").read_bytes()
    done = run(encoder, photos, encoder)
    assert isinstance(done.exception, EncoderError)
    assert "is the float32 encoder itself" in str(done.exception)
    assert (encoder / "image.onnx").read_bytes() == before


def test_captions_need_a_text_tower(encoder: Path, photos: Path, tmp_path: Path) -> None:
    done = run(encoder, photos, tmp_path / "out", "--measure", str(tmp_path / "captions.jsonl"))
    assert isinstance(done.exception, DataError)
    assert "captions need a text tower" in str(done.exception)
