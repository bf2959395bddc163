"""Views of photos, and features that are computed once and kept; the recipe's command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from embedsearch.errors import DataError
from embedsearch.training.data.pixels import load_pixels, view_pixels
from embedsearch.training.mini.features import extract_features

SIZE = 16


def backbone(name: str = "mean") -> onnx.ModelProto:
    """Pixels (N, 16, 16, 3) to their mean along the height: (N, 48)."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["pixels"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["real"], ["columns"], axes=[1], keepdims=0),
            helper.make_node("Flatten", ["columns"], ["features"]),
        ],
        name,
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 48])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    made = [tmp_path / f"{n}.png" for n in range(5)]
    for n, path in enumerate(made):
        Image.fromarray(rng.integers(0, 256, (20 + n, 30, 3), np.uint8)).save(path)
    return made


def extract(files: list[Path], cache: Path, **change: int) -> np.ndarray:
    settings = {"views": 4, "size": SIZE, "seed": 0} | change
    return extract_features(backbone(), files, cache=cache, **settings)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
def test_a_view_is_a_part_of_the_picture_of_40_to_100_per_cent(height, width, seed) -> None:
    down, across = np.mgrid[:height, :width]
    pixels = np.stack([down, across, 0 * down], axis=2).astype(np.uint8)
    view = view_pixels(pixels, 2, np.random.default_rng(seed))
    rows, columns = view[:, 0, 0].astype(int), view[0, :, 1].astype(int)
    assert (np.diff(rows) == 1).all()
    assert (np.diff(columns) == 1).all() or (np.diff(columns) == -1).all()
    assert rows[-1] < height and columns.max() < width
    if min(height, width) >= 20:  # below, rounding to whole pixels matters
        assert 0.35 <= view.shape[0] * view.shape[1] / (height * width) <= 1


def test_the_first_two_views_are_the_picture_and_its_mirror_image() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    rng = np.random.default_rng(0)
    assert (view_pixels(pixels, 0, rng) == pixels).all()
    assert (view_pixels(pixels, 1, rng) == pixels[:, ::-1]).all()


def test_features_are_those_of_each_view_in_the_order_of_the_files(
    files: list[Path], tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    got = extract_features(
        backbone(),
        files,
        views=2,
        size=SIZE,
        seed=0,
        cache=tmp_path / "cache",
        progress=lambda done, total: told.append((done, total)),
    )
    assert (got.shape, got.dtype, told) == ((2, 5, 48), np.float16, [(5, 5)])
    for place, file in enumerate(files):
        square = np.asarray(Image.open(file).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
        expected = square.mean(axis=0)
        np.testing.assert_allclose(got[0, place], expected.ravel(), atol=0.2)
        np.testing.assert_allclose(got[1, place], expected[::-1].ravel(), atol=1.5)


def test_features_are_kept_and_read_back_without_the_photos_being_opened(
    files: list[Path], tmp_path: Path
) -> None:
    first = extract(files, tmp_path / "cache")
    sizes = [file.stat().st_size for file in files]
    for file, size in zip(files, sizes, strict=True):
        file.write_bytes(b"\0" * size)
    assert (extract(files, tmp_path / "cache") == first).all()


def test_features_are_computed_anew_for_another_seed_or_other_photos(
    files: list[Path], tmp_path: Path
) -> None:
    first = extract(files, tmp_path / "cache")
    assert (extract(files, tmp_path / "other") == first).all()
    seeded = extract(files, tmp_path / "cache", seed=1)
    assert (seeded[:2] == first[:2]).all() and (seeded[2:] != first[2:]).any()
    assert extract(files[:3], tmp_path / "cache").shape[1] == 3
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_photo_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"not a picture")
    for name in ("bad.jpg", "gone.jpg"):
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            load_pixels(tmp_path / name, SIZE)


def test_the_command_names_what_is_missing_and_exits_1(tmp_path: Path) -> None:
    folders = [f"--{name}={tmp_path / name}" for name in ("data", "weights", "out", "cache")]
    done = subprocess.run(
        [sys.executable, "-m", "embedsearch.training.mini", *folders],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "train.jsonl: cannot be read" in done.stderr and "Traceback" not in done.stderr
