"""The linear probe, its cures for classes of unlike size, and what is told of each class."""

from __future__ import annotations

import math

import numpy as np
import pytest

from embedsearch.errors import DataError
from embedsearch.training.finetune.probe import BALANCES, fit_probe
from embedsearch.training.finetune.recall import COLUMNS, class_recall, recall_report

COUNTS = (90, 30, 8)


def sample(counts: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of three classes that overlap, in 8 dimensions."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), counts)
    rows = rng.normal(size=(len(labels), 8)) * 0.55
    rows[np.arange(len(labels)), labels] += 1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32), labels


TRAINED, MEASURED = sample(COUNTS, 0), sample((200, 200, 200), 1)


def recall_of(balance: str) -> np.ndarray:
    # Strongly regularised, or so few pictures in so many dimensions are all told apart by heart.
    probe = fit_probe(*TRAINED, classes=3, balance=balance, inverse_regularisation=1.0)
    return class_recall(MEASURED[1], probe.predict(MEASURED[0]), 3)


def test_without_balance_the_rare_class_is_recognised_worst() -> None:
    plain = recall_of("none")
    assert plain[2] < plain[1] < plain[0]


@pytest.mark.parametrize("balance", [name for name in BALANCES if name != "none"])
def test_every_way_to_balance_recognises_more_of_the_rare_class(balance: str) -> None:
    plain, cured = recall_of("none"), recall_of(balance)
    assert cured[2] > plain[2] + 0.03
    assert cured.mean() > 0.5


@pytest.mark.parametrize("balance", ["none", "over", "bagging", "boosting"])
def test_a_class_without_pictures_has_its_place_and_is_never_answered(balance: str) -> None:
    rows, labels = TRAINED
    probe = fit_probe(rows, labels + 1, classes=6, balance=balance)
    told = probe.probabilities(MEASURED[0])
    assert told.shape == (600, 6) and told.dtype == np.float32
    assert (told[:, [0, 4, 5]] == 0).all()
    np.testing.assert_allclose(told.sum(axis=1), 1, rtol=1e-5)
    assert set(probe.predict(MEASURED[0])) <= {1, 2, 3}


@pytest.mark.parametrize("balance", BALANCES)
def test_the_same_seed_fits_the_same_probe(balance: str) -> None:
    first, again = (
        fit_probe(*TRAINED, classes=3, balance=balance, seed=7).probabilities(MEASURED[0])
        for _ in range(2)
    )
    assert np.array_equal(first, again)


def test_weights_and_repeats_of_pictures_are_the_same_to_a_probe() -> None:
    # Every picture of the rare class thrice, or with three times the weight of the other.
    rows, labels = sample((30, 10, 0), 3)
    weighted = fit_probe(rows, labels, classes=2, balance="inverse").probabilities(rows)
    thrice = np.concatenate([np.arange(30), *[np.arange(30, 40)] * 3])
    # The weights have the mean 1 over classes: 0.5 and 1.5, so a picture counts half.
    repeated = fit_probe(rows[thrice], labels[thrice], classes=2, inverse_regularisation=5.0)
    np.testing.assert_allclose(weighted, repeated.probabilities(rows), atol=5e-3)


def test_classes_that_adasyn_leaves_as_they_are_are_told() -> None:
    rows = np.eye(8, dtype=np.float32)[TRAINED[1]] + TRAINED[0] * 0.05
    probe = fit_probe(rows, TRAINED[1], classes=3, balance="adasyn")
    assert probe.untouched == (1, 2)


def test_classes_of_one_or_two_pictures_are_fitted_without_complaint() -> None:
    rows = np.eye(8, dtype=np.float32)
    probe = fit_probe(rows, np.array([0, 0, 1, 2, 3, 4, 5, 6]), classes=7)
    assert probe.predict(rows).tolist() == [0, 0, 1, 2, 3, 4, 5, 6]


def test_what_cannot_be_fitted_is_explained() -> None:
    rows, labels = TRAINED
    with pytest.raises(DataError, match="there is no balance 'fair'; there are none, inverse"):
        fit_probe(rows, labels, classes=3, balance="fair")
    with pytest.raises(DataError, match="at least two classes"):
        fit_probe(rows[:5], labels[:5], classes=3)
    with pytest.raises(DataError, match=r"too few: axolotl 8\."):
        fit_probe(
            rows,
            labels,
            classes=3,
            balance="smote",
            neighbours=9,
            names=("dog", "cat", "axolotl"),
        )


# What is told of each class


def test_recall_is_the_share_of_a_class_that_is_recognised() -> None:
    recalls = class_recall(np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 1]), 3)
    assert recalls[:2].tolist() == [0.75, 1.0] and math.isnan(recalls[2])


def test_a_report_compares_class_by_class_rarest_first_and_in_thirds() -> None:
    trained = np.repeat([0, 1, 2, 3], [50, 5, 20, 10])
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    before = np.array([0, 0, 0, 0, 0, 0, 2, 0])
    after = np.array([0, 0, 0, 1, 1, 0, 2, 2])
    report = recall_report(("dog", "cat", "cow", "emu"), trained, labels, before, after)
    assert report.before == pytest.approx(
        {"overall": 5 / 8, "per_class": 0.5, "rare": 0.0, "middle": 0.5, "common": 1.0}
    )
    assert report.after == pytest.approx(
        {"overall": 6 / 8, "per_class": 0.75, "rare": 0.5, "middle": 1.0, "common": 0.75}
    )
    assert report.rows() == [
        ("cat", "5", "2", "0.000", "0.500", "+0.500"),
        ("emu", "10", "0", "", "", ""),
        ("cow", "20", "2", "0.500", "1.000", "+0.500"),
        ("dog", "50", "4", "1.000", "0.750", "-0.250"),
        ("overall", "", "", "0.625", "0.750", "+0.125"),
        ("per class", "", "", "0.500", "0.750", "+0.250"),
        ("rare", "", "", "0.000", "0.500", "+0.500"),
        ("middle", "", "", "0.500", "1.000", "+0.500"),
        ("common", "", "", "1.000", "0.750", "-0.250"),
    ]
    assert {len(row) for row in report.rows()} == {len(COLUMNS)}
    told = report.as_json()
    assert told["classes"][1] == {
        "class": "emu",
        "trained_on": 10,
        "measured_on": 0,
        "before": None,
        "after": None,
    }


def test_of_two_classes_one_is_rare_and_one_in_the_middle() -> None:
    labels = np.array([0, 1])
    report = recall_report(("dog", "cat"), np.array([0, 0, 1]), labels, labels, labels)
    assert report.after == {"overall": 1, "per_class": 1, "rare": 1, "middle": 1}
