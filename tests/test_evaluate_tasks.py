"""The four tasks on embeddings small enough to work the figures out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from embedsearch.training.evaluate.captions import captions_figures
from embedsearch.training.evaluate.category import (
    are_codes,
    category_figures,
    overall_figures,
    prompt,
)
from embedsearch.training.evaluate.copies import copies_figures
from embedsearch.training.evaluate.products import products_figures


def at(*degrees: float) -> np.ndarray:
    """Unit vectors in the plane, (N, 2), at these angles: nearness can be read off."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_captions_each_caption_asks_and_of_a_pictures_captions_the_best_counts() -> None:
    pictures = at(0, 40, 80)
    # Nearest picture of each caption:     0     1        2     0 (wrong)  1     2
    captions, owners = at(5, 30, 85, 10, 45, 70), np.array([0, 0, 2, 1, 1, 2])
    told = captions_figures(pictures, captions, owners)
    # 30 degrees is nearer to 40 than to 0: rank 2. 10 degrees is nearer to 0 than to 40: rank 2.
    assert told["text_to_image"] == {
        "R@1": pytest.approx(4 / 6),
        "R@5": 1.0,
        "R@10": 1.0,
        "median_rank": 1.0,
    }
    # Best own caption of 0: 5 degrees, first. Of 40: 45 degrees, first. Of 80: 85 degrees, first.
    assert told["image_to_text"]["R@1"] == 1.0


def test_captions_a_picture_is_ranked_by_its_best_caption_only() -> None:
    pictures = at(0, 90)
    captions, owners = at(20, 80, 10, 70), np.array([0, 0, 1, 1])
    told = captions_figures(pictures, captions, owners)
    # Picture 0: another's caption at 10 degrees stands before its own best at 20. Rank 2.
    # Picture 90: 80 is picture 0's; its own best is 70. Rank 2.
    assert told["image_to_text"] == {"R@1": 0.0, "R@5": 1.0, "R@10": 1.0, "median_rank": 2.0}


def test_category_figures_are_leave_one_out() -> None:
    # a at 0, 12 and 90; b at 78 and 20.
    told = category_figures(at(0, 12, 90, 78, 20), list("aaabb"), None)
    # a  0: 12 a, 20 b, 78 b, 90 a   AP (1/1 + 2/4) / 2   first right
    # a 12: 20 b, 0 a, 78 b, 90 a    AP (1/2 + 2/4) / 2   first wrong
    # a 90: 78 b, 20 b, 12 a, 0 a    AP (1/3 + 2/4) / 2   first wrong
    # b 78: 90 a, 20 b, 12 a, 0 a    AP 1/2               first wrong
    # b 20: 12 a, 0 a, 78 b, 90 a    AP 1/3               first wrong
    assert told == {
        "mAP": pytest.approx((3 / 4 + 1 / 2 + 5 / 12 + 1 / 2 + 1 / 3) / 5),
        "R@1": 1 / 5,
        "zero_shot_accuracy": None,
    }


def test_category_zero_shot_takes_the_nearest_of_the_sorted_names() -> None:
    # Prompts of "cat" and "dog", in this order, at 0 and 90 degrees.
    told = category_figures(at(10, 30, 60, 80), ["cat", "dog", "dog", "dog"], at(0, 90))
    assert told["zero_shot_accuracy"] == 3 / 4


def test_category_overall_weighs_sets_by_their_pictures_and_skips_what_has_no_figure() -> None:
    sets = {
        "names": {"mAP": 0.4, "R@1": 0.5, "zero_shot_accuracy": 0.8},
        "codes": {"mAP": 0.8, "R@1": 1.0, "zero_shot_accuracy": None},
    }
    assert overall_figures(sets, {"names": 30, "codes": 10}) == {
        "mAP": pytest.approx(0.5),
        "R@1": pytest.approx(0.625),
        "zero_shot_accuracy": pytest.approx(0.8),
    }
    assert overall_figures({"codes": sets["codes"]}, {"codes": 10})["zero_shot_accuracy"] is None


@pytest.mark.parametrize(
    ("labels", "codes"),
    [
        (["c1", "c2", "c10"], True),
        (["001", "002"], True),
        (["h_03"], True),
        (["cat", "c1"], False),  # one name is enough for a prompt to make sense
        (["747"], True),
        (["yin_yang"], False),
        (["t-shirt"], False),
    ],
)
def test_category_codes_are_told_from_names(labels: list[str], codes: bool) -> None:
    assert are_codes(labels) is codes


def test_category_prompts_read_underscores_as_spaces() -> None:
    assert prompt("yin_yang") == "a photo of a yin yang"


def test_copies_figures_by_kind_and_transform() -> None:
    gallery = at(0, 30, 60, 90)
    told = copies_figures(
        edited=at(5, 40, 50, 88, 10),
        gallery=gallery,
        originals=[0, 1, 1, 3, 2],
        kinds=["copy", "copy", "copy", "corruption", "corruption"],
        transforms=["flip", "flip", "crop", "blur", "dark"],
    )
    # 5 finds 0 first. 40 finds 30 first. 50 finds 60 first, then 30: rank 2.
    assert told["copy"] == {
        "R@1": pytest.approx(2 / 3),
        "mAP": pytest.approx((1 + 1 + 1 / 2) / 3),
        "by_transform": {"crop": 0.0, "flip": 1.0},
    }
    # 88 finds 90 first. 10: 0, 30, 60: rank 3.
    assert told["corruption"] == {
        "R@1": 0.5,
        "mAP": pytest.approx((1 + 1 / 3) / 2),
        "by_transform": {"blur": 1.0, "dark": 0.0},
    }


def test_copies_a_kind_without_queries_has_no_figures() -> None:
    told = copies_figures(at(5), at(0, 90), [0], ["copy"], ["flip"])
    assert told["corruption"] == {"R@1": None, "mAP": None, "by_transform": {}}


def test_products_figures() -> None:
    told = products_figures(
        photos=at(0, 20, 50, 90),
        photo_classes=["milk", "milk", "juice", "juice"],
        packshots=at(10, 80),
        descriptions=at(5, 30),
        classes=["milk", "juice"],
    )
    # 0, 20 are nearest to 10, and 90 to 80. 50 is nearer to 80 (30) than to 10 (40). All right.
    assert told["photo_to_packshot"] == {"R@1": 1.0, "mAP": 1.0}
    # 0: 20 first. 20: 0 first. 50: 20 (30 away), then 90 (40), then 0: AP 1/2. 90: 50 first.
    assert told["photo_to_photo"] == {"R@1": 3 / 4, "mAP": pytest.approx((1 + 1 + 1 / 2 + 1) / 4)}
    # 5: 0, 20 first: AP 1. 30: 20, (50), 0, (90): its photos at ranks 2 and 4: AP (1/2 + 2/4) / 2.
    assert told["text_to_photo"] == {"R@1": 0.5, "mAP": pytest.approx((1 + 0.5) / 2)}


def test_products_without_a_text_tower_have_no_text_figures() -> None:
    told = products_figures(at(0, 10), ["a", "a"], at(0), None, ["a"])
    assert told["text_to_photo"] is None
    assert math.isclose(told["photo_to_photo"]["mAP"], 1.0)
