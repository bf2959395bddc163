"""Losses of labels against the formulas of their papers and against PyTorch's own."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, one_hot

from embedsearch.errors import DataError, MissingExtraError
from embedsearch.training.losses import LOSSES, make_loss, takes_shares

DIM, CLASSES, COUNT = 8, 4, 24
LABELS = torch.arange(COUNT) % CLASSES


def unit(seed: int = 0, count: int = COUNT) -> Tensor:
    drawn = torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed))
    return normalize(drawn, dim=1)


def loss_of(name: str, **options: object) -> torch.nn.Module:
    torch.manual_seed(1)
    return make_loss(name, dim=DIM, classes=CLASSES, **options)


# Cross-entropy and focal


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_pytorch_label_smoothing_included(smoothing: float) -> None:
    loss = loss_of("cross-entropy", label_smoothing=smoothing)
    expected = cross_entropy(loss.logits(unit()), LABELS, label_smoothing=smoothing)
    torch.testing.assert_close(loss(unit(), LABELS), expected)


def test_weights_of_classes_weigh_as_in_pytorch() -> None:
    weights = torch.tensor([0.1, 1.0, 2.0, 0.9])
    loss = loss_of("cross-entropy", class_weights=weights)
    labels = torch.tensor([0, 0, 0, 1, 2, 3, 3, 1])
    expected = cross_entropy(loss.logits(unit(count=8)), labels, weight=weights)
    torch.testing.assert_close(loss(unit(count=8), labels), expected)


@pytest.mark.parametrize("name", ["cross-entropy", "focal"])
def test_shares_that_are_sure_are_labels_and_others_are_in_between(name: str) -> None:
    loss = loss_of(name, label_smoothing=0.1)
    sure = one_hot(LABELS, CLASSES).float()
    torch.testing.assert_close(loss(unit(), sure), loss(unit(), LABELS))
    other = sure.roll(1, 1)
    mixed = loss(unit(), 0.3 * sure + 0.7 * other)
    torch.testing.assert_close(mixed, 0.3 * loss(unit(), sure) + 0.7 * loss(unit(), other))


def test_logits_are_cosines_times_a_scale_that_is_learned_and_bounded() -> None:
    loss = loss_of("cross-entropy", scale=5.0)
    cosines = unit() @ normalize(loss.weight, dim=1).T
    torch.testing.assert_close(loss.logits(unit()), 5 * cosines)
    assert dict(loss.named_parameters()).keys() == {"weight", "log_scale"}
    loss.log_scale.data.fill_(99)
    torch.testing.assert_close(loss.logits(unit()), 100 * cosines)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), smoothing=st.floats(0, 0.5))
def test_focal_with_gamma_0_is_the_cross_entropy(seed: int, smoothing: float) -> None:
    options = {"label_smoothing": smoothing, "class_weights": [1.0, 2.0, 0.5, 0.5]}
    focal = loss_of("focal", gamma=0.0, **options)
    torch.testing.assert_close(
        focal(unit(seed), LABELS), loss_of("cross-entropy", **options)(unit(seed), LABELS)
    )


def test_focal_lets_what_is_easy_count_less_by_its_formula() -> None:
    loss = loss_of("focal", gamma=2.0)
    right = loss.logits(unit()).softmax(1)[torch.arange(COUNT), LABELS]
    expected = (-((1 - right) ** 2) * right.log()).mean()
    torch.testing.assert_close(loss(unit(), LABELS), expected)


def test_focal_can_be_learned_from_where_a_class_is_quite_certain() -> None:
    loss = loss_of("focal", gamma=0.5, scale=100.0)
    embeddings = normalize(loss.weight.detach(), dim=1).requires_grad_()
    loss(embeddings, torch.arange(CLASSES)).backward()
    assert embeddings.grad.isfinite().all()


def test_half_precision_embeddings_are_classified_in_full() -> None:
    loss = loss_of("cross-entropy")
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(unit(), LABELS).dtype == torch.float32


# Losses of pytorch-metric-learning


def test_supervised_contrast_is_its_formula() -> None:
    embeddings, labels = unit(count=6), torch.tensor([0, 0, 0, 1, 1, 2])
    similarities = (embeddings @ embeddings.T / 0.2).tolist()
    expected = []
    for i in range(5):  # the last has no other of its label
        others = [j for j in range(6) if j != i]
        total = math.log(sum(math.exp(similarities[i][j]) for j in others))
        same = [j for j in others if labels[j] == labels[i]]
        expected.append(-sum(similarities[i][j] - total for j in same) / len(same))
    got = loss_of("supcon", temperature=0.2)(embeddings, labels)
    assert got.item() == pytest.approx(sum(expected) / 5, rel=1e-5)


def on_circle(*degrees: float) -> Tensor:
    angles = torch.tensor(degrees).deg2rad()
    flat = torch.stack([angles.cos(), angles.sin()], dim=1)
    return torch.cat([flat, torch.zeros(len(degrees), DIM - 2)], dim=1)


def chord(degrees: float) -> float:
    """Distance of two unit vectors."""
    return 2 * math.sin(math.radians(degrees) / 2)


@pytest.mark.parametrize(
    ("mining", "degrees", "expected"),
    [
        # One pair of label 0 at 0 and 20 degrees, one of label 1 that stands elsewhere. Anchors 0
        # and 20, positive 20 degrees away, and negatives at 25 (5 degrees from one, 25 from the
        # other) are: nearer than the positive = hard; farther, within the margin = semihard.
        ("hard", 25, chord(20) - chord(5) + 0.2),
        ("semihard", 25, chord(20) - chord(25) + 0.2),
        ("all", 25, (2 * chord(20) - chord(5) - chord(25) + 2 * 0.2) / 2),
        ("batch-hard", 25, (2 * chord(20) - chord(5) - chord(25) + 2 * 0.2) / 2),
        ("all", 90, 0.0),
    ],
)
def test_triplets_are_mined_as_the_name_says(mining: str, degrees: float, expected: float) -> None:
    embeddings = on_circle(0, 20, degrees)
    got = loss_of("triplet", mining=mining, margin=0.2)(embeddings, torch.tensor([0, 0, 1]))
    assert got.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_arcface_without_a_margin_is_the_cross_entropy_of_cosines() -> None:
    loss = loss_of("arcface", margin=0.0, scale=16.0)
    expected = cross_entropy(loss.logits(unit()), LABELS)
    torch.testing.assert_close(loss(unit(), LABELS), expected, rtol=1e-3, atol=1e-4)


def test_arcface_adds_its_margin_to_the_angle_of_the_right_class() -> None:
    loss = loss_of("arcface", margin=10.0, scale=16.0)
    angles = (loss.logits(unit()) / 16).acos()
    angles[torch.arange(COUNT), LABELS] += math.radians(10)
    torch.testing.assert_close(
        loss(unit(), LABELS), cross_entropy(16 * angles.cos(), LABELS), rtol=1e-4, atol=1e-4
    )


def test_arcface_can_be_learned_from_where_an_embedding_meets_its_class() -> None:
    loss = loss_of("arcface")
    met = normalize(loss.loss.W.detach().T, dim=1).requires_grad_()
    loss(met, torch.arange(CLASSES)).backward()
    assert met.grad.isfinite().all()


# All


@pytest.mark.parametrize("name", LOSSES)
def test_learning_by_any_loss_brings_pictures_of_a_label_together(name: str) -> None:
    torch.manual_seed(0)
    given = torch.randn(64, 16)
    labels = torch.arange(64) % CLASSES
    given[torch.arange(64), labels] += 3.0
    network, loss = torch.nn.Linear(16, DIM), loss_of(name)
    optimizer = torch.optim.Adam([*network.parameters(), *loss.parameters()], lr=0.03)

    def separation() -> float:
        with torch.no_grad():
            similar = (embed := normalize(network(given), dim=1)) @ embed.T
        same = labels[:, None] == labels
        return (similar[same].mean() - similar[~same].mean()).item()

    before = separation()
    for _ in range(60):
        optimizer.zero_grad()
        loss(normalize(network(given), dim=1), labels).backward()
        optimizer.step()
    assert separation() > before + 0.25


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_says_whether_it_takes_shares(name: str) -> None:
    loss, shares = loss_of(name), torch.full((COUNT, CLASSES), 1 / CLASSES)
    if takes_shares(name):
        assert loss(unit(), shares).isfinite()
    else:
        with pytest.raises(DataError, match="leave mixup and cutmix out"):
            loss(unit(), shares)


def test_a_batch_without_a_pair_of_one_label_is_no_loss_but_no_error() -> None:
    for name in ("supcon", "triplet"):
        embeddings = unit(count=4).requires_grad_()
        loss = loss_of(name)(embeddings, torch.arange(4))
        loss.backward()
        assert loss.item() == 0 and (embeddings.grad == 0).all()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("magic", {}, "there is no loss 'magic'; there are cross-entropy, focal"),
        ("focal", {"margin": 1}, "the loss focal has no option 'margin'; it has gamma, label_"),
        ("triplet", {"mining": "gold"}, "there is no mining 'gold'; there are semihard"),
        ("cross-entropy", {"label_smoothing": 1.0}, "label smoothing is from 0 to below 1, not 1"),
        ("cross-entropy", {"class_weights": [1, 2]}, "4 classes need as many weights"),
        ("focal", {"class_weights": [-1, 2, 3, 4]}, "weights that are not negative"),
        ("focal", {"gamma": -1.0}, "gamma is not negative, unlike -1"),
    ],
)
def test_what_there_is_not_is_named(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(DataError) as caught:
        loss_of(name, **options)
    assert said in str(caught.value)


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    monkeypatch.delitem(sys.modules, "embedsearch.training.losses.metric", raising=False)
    with pytest.raises(MissingExtraError, match=r"embedsearch\[train\]"):
        loss_of("arcface")
    assert loss_of("cross-entropy")(unit(), LABELS).isfinite()
