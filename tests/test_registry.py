"""From a spec to an encoder, and the copy that an index keeps of it."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from colour_encoder import ColourEncoder
from encoder_folder import DIM, make_encoder_folder

from embedsearch.encoders import registry
from embedsearch.encoders.base import Encoder
from embedsearch.errors import EncoderError

PIXELS = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_encoder_folder(tmp_path / "my encoder")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# What a spec names


def test_a_folder_is_an_encoder(folder: Path) -> None:
    encoder = registry.load(str(folder))
    assert isinstance(encoder, Encoder)
    assert encoder.info.spec == str(folder)
    assert (encoder.info.dim, encoder.info.has_text) == (DIM, False)
    vectors = encoder.encode_images([PIXELS, PIXELS[:3]])
    assert (vectors.shape, vectors.dtype.name) == ((2, DIM), "float32")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_the_spec_of_a_folder_is_absolute_however_it_was_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for written in ("my encoder", "./my encoder", "~/my encoder", "my encoder/../my encoder/"):
        assert registry.load(written).info.spec == str(folder)


def test_an_encoder_in_the_box_goes_before_a_folder_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path / "box")
    boxed = make_encoder_folder(tmp_path / "box" / "tiny", seed=1)
    make_encoder_folder(tmp_path / "here" / "tiny", seed=2)
    (tmp_path / "box" / "not-an-encoder").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert registry.in_the_box() == ["tiny"]
    encoder = registry.load("tiny")
    assert encoder.info.spec == "tiny"
    assert encoder.info.id == registry.load(str(boxed)).info.id
    assert encoder.info.id != registry.load("./tiny").info.id


@pytest.mark.parametrize(("spec", "seed"), [("colour", 0), ("colour:7", 7)])
@pytest.mark.usefixtures("colour_package")
def test_a_package_brings_encoders_of_its_own(spec: str, seed: int) -> None:
    encoder = registry.load(spec)
    assert encoder.info == ColourEncoder(seed).info
    expected = ColourEncoder(seed).encode_images([PIXELS])
    assert np.array_equal(encoder.encode_images([PIXELS]), expected)


@pytest.mark.usefixtures("colour_package")
def test_another_process_finds_the_package_too() -> None:
    code = "from embedsearch.encoders import registry; print(registry.load('colour:1').info.id)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert told.stdout.strip() == ColourEncoder(1).info.id


# What a spec does not name


@pytest.mark.parametrize(
    "spec",
    [
        "nothing",
        "mini ",
        "openclip",
        "",
        "..",
        "~nobody-of-this-name/x",
        "a\0b",
        "\udcff",
        pytest.param("x" * 5000, id="too long for a file name"),
    ],
)
@pytest.mark.usefixtures("colour_package")
def test_an_unknown_spec_is_told_what_there_is(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path / "box")
    make_encoder_folder(tmp_path / "box" / "tiny")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EncoderError, match="There is no encoder") as caught:
        registry.load(spec)
    said = str(caught.value)
    assert repr(spec) in said
    assert "in the box (tiny), one that a package brings (colour), or a folder" in said


def test_a_folder_whose_description_is_broken_is_named(folder: Path) -> None:
    (folder / "encoder.json").write_text("{")
    with pytest.raises(EncoderError, match=r"my encoder/encoder\.json"):
        registry.load(str(folder))


@pytest.mark.parametrize(
    ("target", "said"),
    [("no_such_module:load", "no_such_module"), ("colour_encoder:nothing", "nothing")],
)
def test_a_package_that_cannot_be_imported_is_named(
    colour_package: Path, target: str, said: str
) -> None:
    told = colour_package / "colour_encoder-1.0.dist-info" / "entry_points.txt"
    told.write_text(f"[embedsearch.encoders]\ncolour = {target}\n")
    with pytest.raises(EncoderError, match=rf"brings colour cannot be loaded .*{said}"):
        registry.load("colour")


def test_a_package_that_brings_something_else_is_named(colour_package: Path) -> None:
    told = colour_package / "colour_encoder-1.0.dist-info" / "entry_points.txt"
    told.write_text("[embedsearch.encoders]\ncolour = posixpath:join\n")
    with pytest.raises(EncoderError, match=r"posixpath:join did not return an encoder"):
        registry.load("colour")


def test_an_encoder_for_cpus_is_not_run_on_a_gpu_in_silence(folder: Path) -> None:
    with pytest.raises(EncoderError, match="--device cpu"):
        registry.load(str(folder), "cuda")
    assert registry.load(str(folder), "cpu").info == registry.load(str(folder), "auto").info


# The copy in the index


def test_an_index_keeps_a_copy_and_uses_it_when_the_original_is_gone(
    folder: Path, index_folder: Path
) -> None:
    encoder = registry.load(str(folder))
    before, expected = files(folder), encoder.encode_images([PIXELS])
    assert registry.keep_copy(encoder, index_folder)
    assert files(index_folder / "encoders" / encoder.info.id) == before
    shutil.rmtree(folder)
    stored = registry.load_stored(encoder.info, index_folder)
    assert stored.info == encoder.info, "the spec is the one it was made with"
    assert np.array_equal(stored.encode_images([PIXELS]), expected)


def test_without_a_copy_the_spec_leads_to_the_encoder(folder: Path, index_folder: Path) -> None:
    encoder = registry.load(str(folder))
    assert registry.load_stored(encoder.info, index_folder).info == encoder.info


def test_a_spec_that_now_leads_to_other_weights_is_an_error_naming_both(
    folder: Path, index_folder: Path
) -> None:
    old = registry.load(str(folder)).info
    shutil.rmtree(folder)
    new = registry.load(str(make_encoder_folder(folder, seed=1))).info
    with pytest.raises(EncoderError) as caught:
        registry.load_stored(old, index_folder)
    for named in (old.id, new.id, str(index_folder), str(folder)):
        assert named in str(caught.value)


def test_a_copy_that_is_another_encoder_is_an_error_and_never_used(
    folder: Path, index_folder: Path, tmp_path: Path
) -> None:
    encoder = registry.load(str(folder))
    wrong = make_encoder_folder(tmp_path / "wrong", seed=1)
    shutil.copytree(wrong, index_folder / "encoders" / encoder.info.id)
    with pytest.raises(EncoderError, match=r"holds tiny-\w+, not the encoder the index was made"):
        registry.load_stored(encoder.info, index_folder)


def test_an_encoder_that_is_no_folder_is_not_copied(index_folder: Path) -> None:
    assert not registry.keep_copy(ColourEncoder(), index_folder)
    assert list(index_folder.iterdir()) == []


def test_an_encoder_over_the_limit_is_not_copied(
    folder: Path, index_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = registry.load(str(folder))
    size = sum(len(content) for content in files(folder).values())
    monkeypatch.setattr(registry, "COPY_LIMIT", size - 1)
    assert not registry.keep_copy(encoder, index_folder)
    assert list(index_folder.iterdir()) == []
    monkeypatch.setattr(registry, "COPY_LIMIT", size)
    assert registry.keep_copy(encoder, index_folder)


def test_the_limit_is_sixteen_mebibytes() -> None:
    assert registry.COPY_LIMIT == 16 * 2**20


def test_a_copy_that_is_there_is_kept_unless_asked_for_anew(
    folder: Path, index_folder: Path
) -> None:
    encoder = registry.load(str(folder))
    registry.keep_copy(encoder, index_folder)
    copied = index_folder / "encoders" / encoder.info.id / "image.onnx"
    copied.write_bytes(b"damaged")
    assert registry.keep_copy(encoder, index_folder)
    assert copied.read_bytes() == b"damaged"
    assert registry.keep_copy(encoder, index_folder, anew=True)
    assert copied.read_bytes() == (folder / "image.onnx").read_bytes()


def test_a_copy_of_the_copy_itself_survives(folder: Path, index_folder: Path) -> None:
    """When the encoder that is to be copied was loaded from the very place the copy goes to."""
    encoder = registry.load(str(folder))
    registry.keep_copy(encoder, index_folder)
    target = index_folder / "encoders" / encoder.info.id
    assert registry.keep_copy(registry.load(str(target)), index_folder, anew=True)
    assert files(target) == files(folder)


def test_a_copy_that_fails_leaves_nothing_that_passes_for_one(
    folder: Path, index_folder: Path
) -> None:
    encoder = registry.load(str(folder))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            registry.keep_copy(encoder, index_folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (index_folder / "encoders" / encoder.info.id).exists()
    assert registry.keep_copy(encoder, index_folder), "the next run copies it"
    assert files(index_folder / "encoders" / encoder.info.id) == files(folder)
    assert os.listdir(index_folder / "encoders") == [encoder.info.id]


def test_a_copy_is_found_by_its_id_whatever_its_spec_says(folder: Path, index_folder: Path) -> None:
    encoder = registry.load(str(folder))
    registry.keep_copy(encoder, index_folder)
    elsewhere = replace(encoder.info, spec="/somewhere/else")
    assert registry.load_stored(elsewhere, index_folder).info == elsewhere
