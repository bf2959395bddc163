"""Attacks against a linear network, whose worst is known, and what they leave as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import normalize

from embedsearch.errors import DataError
from embedsearch.training.augment.adversarial import (
    KINDS,
    Attack,
    PixelScale,
    drift,
    frozen_statistics,
    variants,
    worst_of,
)

SCALE = PixelScale((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
WEIGHT = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0))
EPSILON = 4 / 255


def pictures(count: int = 4, size: int = 6, low: float = 0.2, high: float = 0.8) -> Tensor:
    """Normalised, away from black and white, as uint8 would hold them."""
    drawn = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))
    whole = ((low + (high - low) * drawn) * 255).round() / 255
    return SCALE.normalised(whole, whole)


def linear(pixels: Tensor) -> Tensor:
    return (pixels * WEIGHT).sum((1, 2, 3))


def change(attack: Attack, pixels: Tensor, losses=linear, seed: int = 0) -> Tensor:
    """What is done to pixels, as shares of full brightness."""
    return SCALE.shares(attack(losses, pixels, SCALE, seed)) - SCALE.shares(pixels)


def test_pixels_are_normalised_and_back() -> None:
    shares = torch.rand(2, 3, 4, 4)
    there = SCALE.normalised(shares, shares)
    assert there[0, 2, 1, 1].item() == pytest.approx((shares[0, 2, 1, 1].item() - 0.3) / 0.3)
    torch.testing.assert_close(SCALE.shares(there), shares)


def test_pgd_reaches_the_worst_of_a_linear_network_from_any_start() -> None:
    for seed in range(5):
        done = change(Attack("pgd", epsilon=EPSILON, steps=3), pictures(), seed=seed)
        torch.testing.assert_close(done, (EPSILON * WEIGHT.sign()).expand(4, 3, 6, 6))


def test_fgsm_goes_along_the_sign_of_the_gradient_and_mostly_to_the_edge() -> None:
    done = change(Attack("fgsm", epsilon=EPSILON), pictures(200))
    at_edge = torch.isclose(done, EPSILON * WEIGHT.sign(), atol=1e-5)
    # From a start that is uniform in the range, a step of 1.25 epsilon of 2 reaches the edge so
    # often: (1.25 / 2).
    assert at_edge.float().mean().item() == pytest.approx(0.625, abs=0.02)
    assert (done * WEIGHT.sign() >= 0.25 * EPSILON - 1e-6).all()


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["fgsm", "pgd"]),
    epsilon=st.floats(0, 1),
    steps=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_no_value_changes_by_more_than_epsilon_or_leaves_what_can_be_seen(
    kind: str, epsilon: float, steps: int, seed: int
) -> None:
    pixels = pictures(2, low=0.0, high=1.0)
    made = Attack(kind, epsilon=epsilon, steps=steps)(linear, pixels, SCALE, seed)
    shares = SCALE.shares(made)
    assert shares.min() >= -1e-6 and shares.max() <= 1 + 1e-6
    assert (shares - SCALE.shares(pixels)).abs().max() <= epsilon + 1e-6


def test_worst_of_takes_for_each_picture_its_own_worst() -> None:
    tried = torch.tensor([[1.0, 9.0, 2.0], [5.0, 4.0, 3.0]])[:, :, None, None, None]
    worst = worst_of(lambda pixels: pixels.sum((1, 2, 3)), tried)
    assert worst.flatten().tolist() == [5.0, 9.0, 3.0]


@pytest.mark.parametrize("kind", ["occlusion", "light"])
def test_more_tries_find_what_is_at_least_as_bad(kind: str) -> None:
    pixels = pictures(size=20)
    losses = {
        tries: darkest(Attack(kind, tries=tries)(darkest, pixels, SCALE, 0)) for tries in (1, 4, 16)
    }
    assert (losses[4] >= losses[1]).all() and (losses[16] >= losses[4]).all()
    assert losses[16].sum() > losses[1].sum()
    tried = variants(pixels, SCALE, Attack(kind, tries=16), 0)
    torch.testing.assert_close(losses[16], torch.stack([darkest(t) for t in tried]).amax(0))


def darkest(pixels: Tensor) -> Tensor:
    return -pixels.mean((1, 2, 3))


def test_an_occlusion_is_a_rectangle_and_the_rest_stays() -> None:
    pixels = pictures(size=20)
    for variant in variants(pixels, SCALE, Attack("occlusion", tries=3), 0):
        changed = ((variant - pixels).abs() > 1e-4).any(dim=1)
        for mask in changed:
            rows, columns = mask.any(1), mask.any(0)
            assert 0 < mask.sum() <= 0.41 * 400
            assert mask.sum() > 0.9 * rows.sum() * columns.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_leaves_gradients_averages_and_the_pictures_alone(kind: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5))
    network[1].eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    pixels = pictures(size=8)
    before = pixels.clone()
    with frozen_statistics(network):
        made = Attack(kind)(lambda x: network(x).sum(1), pixels, SCALE, 0)
        again = Attack(kind)(lambda x: network(x).sum(1), pixels, SCALE, 0)
    assert made.shape == pixels.shape and not made.requires_grad and torch.equal(made, again)
    assert torch.equal(pixels, before) and not pixels.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert [part.training for part in network] == [True, False, True, True]


def test_drift_needs_no_label_and_an_attack_on_it_turns_embeddings_away() -> None:
    network = nn.Linear(108, 8)
    torch.manual_seed(2)
    nn.init.normal_(network.weight)

    def embed(pixels: Tensor) -> Tensor:
        return normalize(network(pixels.flatten(1)), dim=1)

    pixels = pictures()
    losses = drift(embed, pixels)
    assert losses(pixels).abs().max() < 1e-6
    attacked = losses(Attack("pgd", epsilon=EPSILON, steps=5)(losses, pixels, SCALE, 0))
    noise = torch.from_numpy(np.random.default_rng(0).choice([-1, 1], pixels.shape)) * EPSILON
    shaken = losses(SCALE.normalised((SCALE.shares(pixels) + noise).float(), pixels))
    assert (attacked > 2 * shaken).all()


def test_training_on_its_worst_makes_a_classifier_withstand_it() -> None:
    # One value tells a class surely, a hundred tell it barely: the latter mislead when shaken.
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (400,), generator=generator)
    sign = (labels * 2 - 1).float()
    pixels = torch.rand(400, 3, 6, 6, generator=generator) * 0.1 + 0.45
    pixels += 0.03 * sign[:, None, None, None]
    pixels[:, :, 0, 0] = 0.5 + 0.2 * sign[:, None]
    scale = PixelScale((0.5,) * 3, (0.25,) * 3)
    pixels = scale.normalised(pixels, pixels)
    attack = Attack("pgd", epsilon=0.1, steps=2)

    def withstood(trained_on_worst: bool) -> float:
        torch.manual_seed(0)
        network = nn.Linear(108, 2)
        each = nn.CrossEntropyLoss(reduction="none")

        def losses(seen: Tensor) -> Tensor:
            return each(network(seen.flatten(1)), labels)

        optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
        for step in range(60):
            seen = attack(losses, pixels, scale, step) if trained_on_worst else pixels
            optimizer.zero_grad()
            losses(seen).mean().backward()
            optimizer.step()
        found = network(attack(losses, pixels, scale, 999).flatten(1)).argmax(1)
        return (found == labels).float().mean().item()

    assert withstood(False) < 0.5
    assert withstood(True) > 0.95


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "magic"}, "there is no attack 'magic'; there are fgsm, pgd, occlusion, light"),
        ({"kind": "pgd", "epsilon": 4}, "epsilon is a share of full brightness, 0 to 1, not 4"),
        ({"kind": "pgd", "steps": 0}, "at least one step or try"),
    ],
)
def test_an_attack_that_cannot_be_is_explained(options: dict[str, object], said: str) -> None:
    with pytest.raises(DataError) as caught:
        Attack(**options)
    assert said in str(caught.value)
