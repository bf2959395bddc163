"""``evaluate segmentation``: figures known beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_segmenters import colour_folder
from typer.testing import CliRunner

from embedsearch.commands.app import app
from embedsearch.enrichers.base import Findings, Pixels
from embedsearch.errors import DataError
from embedsearch.records import EnricherInfo
from embedsearch.training.evaluate.outlines import IGNORED, read_outlined
from embedsearch.training.evaluate.segmentation import Confusion, evaluate_segmentation

SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]


class LeftHalf:
    """Takes the left half of any picture for an aeroplane and the rest for a wardrobe."""

    info = EnricherInfo("left-0", "left", "segment", "", "", 8, ("aeroplane", "wardrobe"))

    def enrich(self, picture: Pixels) -> Findings:
        return Findings()

    def label_map(self, picture: Pixels) -> np.ndarray:
        told = np.full(picture.shape[:2], 2, np.uint8)
        told[:, : picture.shape[1] // 2] = 1
        return told


def _line(folder: Path, name: str, *objects: dict[str, Any]) -> dict[str, Any]:
    Image.new("RGB", (40, 40)).save(folder / name)
    return {"file": name, "width": 40, "height": 40, "objects": list(objects)}


def _thing(label: str, polygon: list[float] | None, **more: Any) -> dict[str, Any]:
    told = {"label": label, "bbox": [10, 10, 20, 20], "iscrowd": 0, **more}
    return told if polygon is None else {**told, "polygons": [polygon]}


def _written(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "annotations.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def test_pixels_rightly_named_over_those_that_are_or_were_taken_for_it(tmp_path: Path) -> None:
    path = _written(tmp_path, _line(tmp_path, "a.png", _thing("airplane", SQUARE)))
    # 20 x 20 pixels are it, of which 10 columns lie left of the middle; 40 x 20 are taken for it.
    figures = evaluate_segmentation(path, LeftHalf())
    assert figures == {"mIoU": pytest.approx(200 / 1000), "by_label": {"airplane": 200 / 1000}}


def test_pictures_without_polygons_and_labels_that_are_not_vocs_are_left_out(
    tmp_path: Path,
) -> None:
    path = _written(
        tmp_path,
        _line(tmp_path, "a.png", _thing("airplane", SQUARE), _thing("kite", [0, 0, 9, 0, 9, 9])),
        _line(tmp_path, "b.png", _thing("person", None, mask_value=1)),
    )
    assert evaluate_segmentation(path, LeftHalf())["by_label"].keys() == {"airplane"}


def test_pixels_of_crowds_count_neither_way(tmp_path: Path) -> None:
    crowd = _thing("airplane", None, iscrowd=1, bbox=[0, 0, 20, 10])
    path = _written(tmp_path, _line(tmp_path, "a.png", _thing("airplane", SQUARE), crowd))
    # The upper quarter of the left half is not counted any more.
    assert evaluate_segmentation(path, LeftHalf())["mIoU"] == pytest.approx(200 / 800)


def test_a_small_object_lies_on_a_larger_one(tmp_path: Path) -> None:
    sofa = _thing("couch", [0, 0, 40, 0, 40, 40, 0, 40], bbox=[0, 0, 40, 40])
    path = _written(tmp_path, _line(tmp_path, "a.png", _thing("cat", SQUARE), sofa))
    told = read_outlined(path)[0].label_map(("cat", "couch"))
    assert (told == 1).sum() == 400 and (told == 2).sum() == 1200


def test_masks_and_what_has_a_box_only_are_read(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    values = np.zeros((40, 40), np.uint8)
    values[:5] = 3
    Image.fromarray(values).save(tmp_path / "masks" / "a.png")
    line = _line(tmp_path, "a.png", _thing("person", None, mask_value=3), _thing("dog", None))
    told = read_outlined(_written(tmp_path, line))[0].label_map(("person", "dog"))
    assert (told[:5] == 1).all() and (told[10:30, 10:30] == IGNORED).all()
    assert (told == 0).sum() == 40 * 40 - 200 - 400


def test_only_one_half_is_measured(tmp_path: Path) -> None:
    lines = [_line(tmp_path, f"{n}.png", _thing("dog", SQUARE)) for n in range(12)]
    path = _written(tmp_path, *lines)
    halves = {half: {each.file for each in read_outlined(path, half)} for half in ("odd", "even")}  # type: ignore[arg-type]
    assert halves["odd"] and halves["even"] and not halves["odd"] & halves["even"]
    assert len(halves["odd"] | halves["even"]) == 12


def test_a_class_that_is_nowhere_has_no_figure() -> None:
    confusion = Confusion(("cat", "dog"))
    confusion.add(np.array([[1, 0, 255]], np.uint8), np.array([[1, 2, 2]], np.uint8))
    assert confusion.figures() == {"mIoU": 1.0, "by_label": {"cat": 1.0}}
    with pytest.raises(DataError, match="hold no object"):
        Confusion(("cat",)).figures()


def test_what_is_wrong_in_the_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = _written(tmp_path, {"file": "a.png", "width": 4, "objects": []})
    with pytest.raises(DataError, match=r"annotations.jsonl, line 1: width, height and objects"):
        read_outlined(path)


def test_the_command_prints_one_object(tmp_path: Path) -> None:
    line = _line(tmp_path, "a.png", _thing("dog", SQUARE))
    folder = colour_folder(tmp_path / "colours")
    asked = ["evaluate", "segmentation", str(_written(tmp_path, line)), "--json"]
    result = CliRunner().invoke(app, [*asked, "--segmenter", str(folder)])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == {"mIoU": 0.0, "by_label": {"dog": 0.0}}
    wrong = CliRunner().invoke(app, ["evaluate", "captions", "x", "--segmenter", "y"])
    assert wrong.exit_code == 2
