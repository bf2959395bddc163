"""Augmentation policies: what they say, what each step does to a picture, mixes of a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import quarters

from embedsearch.encoders.preprocess import to_square
from embedsearch.errors import DataError
from embedsearch.training.augment.mixing import MIXES
from embedsearch.training.augment.policies import BUNDLES, POLICIES, augmentation, mix_batch
from embedsearch.training.augment.steps import STEPS

SIZE = 48
PICTURE = np.asarray(quarters(96, 64))
SEEDS = range(40)


def plain(colour: tuple[int, int, int] = (200, 120, 40), size: int = SIZE) -> np.ndarray:
    return np.full((size, size, 3), colour, np.uint8)


def drawn(policy: str, pixels: np.ndarray = PICTURE, strength: float = 1.0) -> list[np.ndarray]:
    made = augmentation(policy, SIZE)
    return [made(pixels, seed, strength) for seed in SEEDS]


# The language


@settings(max_examples=150, deadline=None)
@given(
    policy=st.lists(st.sampled_from(list(POLICIES)), max_size=4).map(" + ".join),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.integers(1, 40),
    seed=st.integers(0, 2**40),
    strength=st.floats(0, 20),
)
def test_any_policy_makes_a_square_of_any_picture_and_the_same_of_the_same_seed(
    policy: str, height: int, width: int, size: int, seed: int, strength: float
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    before = pixels.copy()
    made = augmentation(policy, size)
    view = made(pixels, seed, strength)
    assert view.shape == (size, size, 3) and view.dtype == np.uint8
    assert view.flags["C_CONTIGUOUS"]
    assert (made(pixels, seed, strength) == view).all()
    assert (pixels == before).all()


@pytest.mark.parametrize("policy", [*STEPS, *BUNDLES])
def test_a_policy_written_out_means_the_same(policy: str) -> None:
    made = augmentation(policy, SIZE)
    assert augmentation(str(made), SIZE) == made


def test_steps_are_done_in_one_order_however_they_are_named() -> None:
    assert str(augmentation("jpeg + crop + flip@1", 8)) == "crop + flip@1 + jpeg"
    assert augmentation("blur+crop", 8) == augmentation(" crop +  blur ", 8)


def test_numbers_before_a_name_are_its_strength_and_behind_it_its_chance() -> None:
    assert str(augmentation("0.5:colour@0.25", 8)) == "0.5:colour@0.25"
    assert str(augmentation("2:standard", 8)) == "2:crop + 2:flip@0.5 + colour"


def test_of_a_step_named_twice_the_later_counts_so_that_zero_takes_it_away() -> None:
    assert str(augmentation("standard + 2:colour", 8)) == "crop + flip@0.5 + 2:colour"
    assert str(augmentation("standard + 0:colour + flip@0", 8)) == "crop"
    assert str(augmentation("0:strong", 8)) == "none"


def test_without_a_policy_a_picture_is_only_resized_as_its_encoder_does_it() -> None:
    for policy in ("", "none", " "):
        assert (augmentation(policy, SIZE)(PICTURE, 3) == to_square(PICTURE, SIZE)).all()
    middle = augmentation("none", SIZE, "crop")(PICTURE, 3)
    assert (middle == to_square(PICTURE, SIZE, "crop")).all()


def test_strength_nothing_leaves_the_picture_and_more_changes_more() -> None:
    resized = to_square(PICTURE, SIZE).astype(int)
    policy = "light + noise + blur"
    assert (np.asarray(drawn(policy, strength=0)) == resized).all()
    weak, strong = (
        np.abs(np.asarray(drawn(policy, strength=s)) - resized).mean() for s in (0.5, 1.5)
    )
    assert strong > 1.5 * weak


def test_what_a_step_draws_does_not_depend_on_the_other_steps() -> None:
    alone, mirrored = drawn("crop"), drawn("crop + flip@1")
    assert all((a[:, ::-1] == b).all() for a, b in zip(alone, mirrored, strict=True))


def test_a_step_happens_as_often_as_its_chance_says() -> None:
    resized = to_square(PICTURE, SIZE)
    made = augmentation("grey@0.3", SIZE)
    happened = sum((made(PICTURE, seed) != resized).any() for seed in range(400))
    assert 90 < happened < 150


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("sparkle", "there is no augmentation 'sparkle'; there are none, gentle"),
        ("crop flip", "'crop flip' in the augmentation 'crop flip' cannot be understood"),
        ("crop +", "'' in the augmentation"),
        ("-1:crop", "cannot be understood"),
        ("1.2.3:crop", "'1.2.3' is no number"),
        ("grey@2", "a chance is at most 1, not 2"),
        ("strong@0.5", "strong is made of several steps"),
    ],
)
def test_a_policy_that_cannot_be_is_explained(policy: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        augmentation(policy, SIZE)
    assert said in str(caught.value)


# The steps


@pytest.mark.parametrize("name", STEPS)
def test_every_step_does_something(name: str) -> None:
    busy = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    resized = to_square(busy, SIZE)
    changed = sum((view != resized).any() for view in drawn(f"{name}@1", busy))
    assert changed > 0.75 * len(SEEDS)  # a blur may be less than a pixel


@pytest.mark.parametrize("name", ["crop", "flip", "rotate", "move"])
def test_moving_a_picture_invents_no_colours_and_leaves_no_empty_corners(name: str) -> None:
    assert all((view == plain()).all() for view in drawn(f"3:{name}@1", plain(size=37)))


def test_crops_keep_at_least_the_share_of_the_area_that_is_told() -> None:
    rows, columns = np.mgrid[:200, :160]
    numbered = np.stack([rows, columns, 0 * rows], axis=2).astype(np.uint8)
    step = STEPS["crop"]
    shares = []
    for seed in range(200):
        part = step.change(numbered, 1.0, np.random.default_rng(seed))
        shares.append(part.shape[0] * part.shape[1] / (200 * 160))
        assert (
            part == numbered[part[0, 0, 0] :, part[0, 0, 1] :][: len(part), : len(part[0])]
        ).all()
    assert 0.38 < min(shares) < 0.5 and max(shares) > 0.9


def test_rotating_turns_by_at_most_15_degrees_times_the_strength() -> None:
    bar = plain((0, 0, 0), 101)
    bar[48:53] = 255
    slopes = []
    for seed in SEEDS:
        seen = STEPS["rotate"].change(bar, 2.0, np.random.default_rng(seed))[..., 0].astype(float)
        middles = (seen * np.arange(101)[:, None])[:, 30:71].sum(0) / seen[:, 30:71].sum(0)
        slopes.append(abs(np.degrees(np.arctan(np.polyfit(np.arange(41), middles, 1)[0]))))
    assert 20 < max(slopes) <= 30.5


def test_moving_shifts_by_at_most_a_tenth() -> None:
    dot = plain((0, 0, 0), 100)
    dot[48:52, 48:52] = 255
    places = []
    for seed in range(200):
        seen = STEPS["move"].change(dot, 1.0, np.random.default_rng(seed))[..., 0]
        places.append(
            [np.average(np.arange(100), weights=seen.sum(axis)) - 49.5 for axis in (1, 0)]
        )
    assert 9 < np.abs(places).max() < 11


def test_grey_has_no_colour_and_light_goes_both_ways() -> None:
    assert all((view == view[..., :1]).all() for view in drawn("grey@1"))
    means = [view.mean() - plain().mean() for view in drawn("light", plain())]
    assert min(means) < -30 and max(means) > 10


def test_occlusion_covers_at_most_40_per_cent() -> None:
    covered = [(view != plain()).any(axis=2).mean() for view in drawn("occlusion", plain())]
    assert 0.3 < max(covered) <= 0.41 and min(covered) > 0.01


def test_a_policy_can_be_looked_at_step_by_step() -> None:
    parts = augmentation("0.5:colour@0.2 + grey + mixup", SIZE).parts()
    assert [name for name, _ in parts] == ["0.5:colour", "grey"]
    assert all((part(PICTURE, 1) != to_square(PICTURE, SIZE)).any() for _, part in parts)


# Mixes of a batch


def test_mixes_are_named_in_a_policy_and_change_no_single_picture() -> None:
    made = augmentation("crop + 2:mixup@0.4 + cutmix", SIZE)
    assert [(mix.method, mix.alpha, mix.chance) for mix in made.mixes] == [
        ("mixup", 0.4, 0.4),
        ("cutmix", 1.0, 1.0),
    ]
    assert (made(PICTURE, 5) == augmentation("crop", SIZE)(PICTURE, 5)).all()


@settings(max_examples=60, deadline=None)
@given(
    method=st.sampled_from(list(MIXES)),
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_labels_are_mixed_in_the_proportion_of_the_pictures(
    method: str, seed: int, size: tuple[int, int]
) -> None:
    # Picture i is i everywhere, so the mean of a mixed one tells the shares.
    pixels = torch.arange(5.0)[:, None, None, None].expand(5, 3, *size)
    kept, shares = mix_batch(pixels, torch.eye(5), method, 1.0, np.random.default_rng(seed))
    torch.testing.assert_close(shares.sum(1), torch.ones(5))
    torch.testing.assert_close(kept.mean((1, 2, 3)), shares @ torch.arange(5.0))
    assert (pixels[:, 0, 0, 0] == torch.arange(5.0)).all()


def test_cutmix_takes_one_rectangle_and_mixup_the_whole() -> None:
    pixels = torch.stack([torch.zeros(3, 30, 30), torch.ones(3, 30, 30)])
    rng = np.random.default_rng(3)
    cut, shares = mix_batch(pixels, torch.eye(2), "cutmix", 1.0, rng)
    inside = cut[0, 0] == 1
    rows, columns = inside.any(1), inside.any(0)
    assert 0 < inside.sum() < 900 and inside.sum() == rows.sum() * columns.sum()
    assert shares[0, 1].item() == pytest.approx(inside.float().mean().item())
    laid, shares = mix_batch(pixels, torch.eye(2), "mixup", 1.0, rng)
    assert torch.unique(laid[0]).tolist() == pytest.approx([shares[0, 1].item()])


def test_the_draw_is_that_of_a_beta_distribution() -> None:
    rng = np.random.default_rng(0)
    draws = [
        mix_batch(torch.zeros(2, 1, 1, 1), torch.eye(2), "mixup", 0.2, rng)[1][0, 0].item()
        for _ in range(2000)
    ]
    # Variance of Beta(a, a) is 1 / (4 (2a + 1)).
    assert np.mean(draws) == pytest.approx(0.5, abs=0.03)
    assert np.var(draws) == pytest.approx(1 / (4 * 1.4), rel=0.05)


def test_labels_must_be_shares_to_be_mixed() -> None:
    with pytest.raises(ValueError, match="targets must be shares"):
        mix_batch(torch.zeros(2, 1, 1, 1), torch.arange(2), "mixup", 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="there is no mix 'blend'"):
        mix_batch(torch.zeros(2, 1, 1, 1), torch.eye(2), "blend", 1, np.random.default_rng(0))
