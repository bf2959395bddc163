"""Training photos and their texts, and the loss that pairs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from embedsearch.errors import DataError
from embedsearch.training.data.photos import (
    Photo,
    all_texts,
    draw_text,
    hold_out,
    label_names,
    read_photos,
)
from embedsearch.training.losses import grouped_info_nce

DOG = Photo(Path("a.jpg"), "x", (), ("a dog runs", "the brown dog"))
FISH = Photo(Path("b.jpg"), "x", ("goldfish", "Carassius auratus"), ())


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_photos_are_read_with_captions_or_names(tmp_path: Path) -> None:
    path = write(
        tmp_path / "train.jsonl",
        json.dumps({"file": "f/1.jpg", "source": "s", "label": "", "captions": ["a dog"]}),
        json.dumps({"file": "2.jpg", "source": "t", "label": "yin_yang, Tao", "captions": []}),
    )
    assert read_photos(path) == [
        Photo(tmp_path / "f/1.jpg", "s", (), ("a dog",)),
        Photo(tmp_path / "2.jpg", "t", ("yin yang", "Tao"), ()),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: not a training photo"),
        ("[]", "line 2: not a training photo"),
        ('{"label": "dog"}', "line 2: not a training photo .*file"),
        ('{"file": "a.jpg"}', "line 2: .*neither label nor captions"),
        ('{"file": "a.jpg", "label": " , "}', "line 2: .*neither label nor captions"),
        ('{"file": "a.jpg", "captions": [""]}', "line 2: .*a caption is empty"),
        ('{"file": "a.jpg", "captions": [3]}', "line 2: .*a caption is empty or no text"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = write(tmp_path / "train.jsonl", '{"file": "a.jpg", "label": "dog"}', line)
    with pytest.raises(DataError, match=said):
        read_photos(path)


def test_a_file_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: cannot be read"):
        read_photos(tmp_path / "gone.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no photo"):
        read_photos(tmp_path / "empty.jsonl")


@pytest.mark.parametrize(
    ("label", "names"),
    [
        ("goldfish, Carassius auratus", ("goldfish", "Carassius auratus")),
        ("yin_yang", ("yin yang",)),
        (" a ,, b  c ", ("a", "b c")),
        ("", ()),
    ],
)
def test_a_label_is_parted_into_names(label: str, names: tuple[str, ...]) -> None:
    assert label_names(label) == names


def test_every_text_that_is_drawn_is_among_all_texts_and_each_can_be_drawn() -> None:
    rng = np.random.default_rng(0)
    drawn = {draw_text(photo, rng) for photo in (DOG, FISH) for _ in range(2000)}
    assert drawn == set(all_texts([DOG, FISH]))
    assert {"a dog runs", "a photo of a goldfish", "Carassius auratus"} <= drawn


def test_the_usual_name_is_drawn_most_often() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_text(FISH, rng) for _ in range(2000)]
    assert 0.75 < np.mean(["goldfish" in text for text in drawn]) < 0.85


def test_photos_of_one_name_share_a_label_and_captioned_ones_have_none() -> None:
    assert FISH.label == Photo(Path("c"), "y", ("Goldfish",), ()).label == "goldfish"
    assert DOG.label is None


def test_photos_are_held_out_by_the_seed_and_have_captions() -> None:
    photos = [DOG, FISH] * 20
    held = hold_out(photos, 5, seed=1)
    assert len(held) == 5 and all(photos[place].captions for place in held)
    assert held == hold_out(photos, 5, seed=1) != hold_out(photos, 5, seed=2)
    with pytest.raises(DataError, match="cannot hold out 20 photos: 20 have captions"):
        hold_out(photos, 20, seed=1)


# The loss


def rows(seed: int, count: int = 6) -> torch.Tensor:
    return normalize(torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_without_shared_groups_the_loss_is_clips() -> None:
    images, texts, scale = rows(0), rows(1), torch.tensor(7.0)
    right = torch.arange(6)
    logits = scale * images @ texts.T
    expected = (cross_entropy(logits, right) + cross_entropy(logits.T, right)) / 2
    got = grouped_info_nce(images, texts, right, scale, torch.ones(6))
    torch.testing.assert_close(got, expected)


def test_the_loss_of_two_pairs_is_as_worked_out_by_hand() -> None:
    eye = torch.eye(2)
    # Each row is (1, 0) times 2, so the right one has probability e^2 / (e^2 + 1).
    even = torch.ones(2)
    alone = grouped_info_nce(eye, eye, torch.tensor([0, 1]), 2.0, even)
    assert alone.item() == pytest.approx(np.log(1 + np.exp(-2)))
    # In one group, both are as right: half of -log p(2) and half of -log p(0).
    shared = grouped_info_nce(eye, eye, torch.tensor([3, 3]), 2.0, even)
    assert shared.item() == pytest.approx(np.log(1 + np.exp(-2)) + 1)


def test_a_pair_counts_in_proportion_to_its_weight() -> None:
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # right for the first, wrong for the second
    right = torch.tensor([0, 1])
    only = [grouped_info_nce(images, texts, right, 2.0, torch.eye(2)[n]).item() for n in (0, 1)]
    # First: log 2 by texts, log 2 by images. Second: log 2 as both texts fit as badly, and
    # -log of e^0 / (e^2 + e^0).
    assert only[0] == pytest.approx((np.log(2) + np.log(1 + np.exp(-2))) / 2)
    assert only[1] == pytest.approx((np.log(2) + np.log(1 + np.exp(2))) / 2)
    both = grouped_info_nce(images, texts, right, 2.0, torch.tensor([3.0, 1.0])).item()
    assert both == pytest.approx((3 * only[0] + only[1]) / 4)


def test_pairs_of_one_label_are_not_driven_apart() -> None:
    """Two photos of one thing with one text: at the best point the loss pulls them nowhere."""
    images = torch.tensor([[1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    texts = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    grouped_info_nce(images, texts, torch.tensor([0, 0]), 5.0, torch.ones(2)).backward()
    assert images.grad is not None
    torch.testing.assert_close(images.grad, torch.zeros(2, 2), atol=1e-6, rtol=0)
