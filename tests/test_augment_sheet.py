"""The sheet that shows a policy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import photograph, quarters
from PIL import Image

from embedsearch.errors import DataError, OutputError
from embedsearch.render.tiles import GAP, HEADING, MARGIN, TILE, TITLE
from embedsearch.training.augment.policies import augmentation
from embedsearch.training.augment.sheet import draw_sheet

PICTURES = [np.asarray(quarters()), np.asarray(photograph().resize((120, 80)))]


def tile(sheet: np.ndarray, top: int, row: int, column: int) -> np.ndarray:
    y = top + TITLE + HEADING + row * (TILE + GAP)
    x = MARGIN + column * (TILE + GAP)
    return sheet[y : y + TILE, x : x + TILE]


def test_a_sheet_shows_each_step_alone_and_then_all_together(tmp_path: Path) -> None:
    draw_sheet(PICTURES, "flip@1 + grey@1", tmp_path / "sheet.png", size=TILE)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    plain, flipped, grey = (
        [augmentation(policy, TILE)(pixels, 0) for pixels in PICTURES]
        for policy in ("none", "flip@1", "grey@1")
    )
    block = TITLE + HEADING + 2 * (TILE + GAP) + MARGIN
    assert sheet.shape == (MARGIN + 2 * block, 2 * MARGIN + 8 * (TILE + GAP) - GAP, 3)
    for row in range(2):
        assert (tile(sheet, MARGIN, row, 0) == plain[row]).all()
        assert (tile(sheet, MARGIN, row, 1) == flipped[row]).all()
        assert (tile(sheet, MARGIN, row, 2) == grey[row]).all()
        for column in range(1, 8):
            both = tile(sheet, MARGIN + block, row, column)
            assert (both == grey[row][:, ::-1]).all()


def test_a_policy_of_one_step_is_shown_once_in_several_draws(tmp_path: Path) -> None:
    draw_sheet(PICTURES[:1], "noise", tmp_path / "sheet.png", size=TILE)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert len(sheet) == MARGIN + TITLE + HEADING + TILE + GAP + MARGIN
    draws = [tile(sheet, MARGIN, 0, column) for column in range(8)]
    assert len({draw.tobytes() for draw in draws}) == 8


def test_mixes_are_shown_with_the_pictures_that_are_mixed(tmp_path: Path) -> None:
    black, white = np.zeros((9, 9, 3), np.uint8), np.full((9, 9, 3), 255, np.uint8)
    draw_sheet([black, white], "cutmix", tmp_path / "sheet.png", size=TILE)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    second = MARGIN + TITLE + HEADING + 2 * (TILE + GAP) + MARGIN
    for column in range(8):
        first, other = (tile(sheet, second, row, column).astype(int) for row in (0, 1))
        assert (first + other == 255).all()


def test_what_cannot_be_drawn_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no augmentation 'sparkle'"):
        draw_sheet(PICTURES, "sparkle", tmp_path / "sheet.png")
    with pytest.raises(DataError, match="no picture to show"):
        draw_sheet([], "strong", tmp_path / "sheet.png")
    with pytest.raises(OutputError, match="Cannot write"):
        draw_sheet(PICTURES, "crop", tmp_path / "none" / "sheet.png")
