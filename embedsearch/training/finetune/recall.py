"""How many pictures of each class are recognised, before and after: what an average hides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsearch.training.data.balance import Labels

COLUMNS = ("class", "trained on", "measured on", "before", "after", "gained")


@dataclass(frozen=True, slots=True)
class ClassRecall:
    """One class of a report."""

    name: str
    trained_on: int
    measured_on: int
    before: float | None
    """The share of its pictures that are recognised; None where none was measured."""
    after: float | None


@dataclass(frozen=True, slots=True)
class RecallReport:
    """Every class, rarest first, and means."""

    classes: tuple[ClassRecall, ...]
    before: dict[str, float]
    """``overall`` (of all pictures), ``per_class`` (the mean over classes), and ``rare``,
    ``middle`` and ``common``: the means over a third of the classes each."""
    after: dict[str, float]

    def rows(self) -> list[tuple[str, ...]]:
        """The table for people, with the heads :data:`COLUMNS`; means come last."""
        one_by_one = [
            _row(c.name, f"{c.trained_on:,}", f"{c.measured_on:,}", c.before, c.after)
            for c in self.classes
        ]
        means = [
            _row(name.replace("_", " "), "", "", self.before[name], self.after[name])
            for name in self.before
        ]
        return [*one_by_one, *means]

    def as_json(self) -> dict[str, object]:
        """For reports and programs."""
        return {
            "before": self.before,
            "after": self.after,
            "classes": [
                {
                    "class": one.name,
                    "trained_on": one.trained_on,
                    "measured_on": one.measured_on,
                    "before": one.before,
                    "after": one.after,
                }
                for one in self.classes
            ],
        }


def class_recall(labels: Labels, predicted: Labels, classes: int) -> NDArray[np.float64]:
    """Of each class the share of its pictures that are recognised, float64 (classes,); NaN for a
    class without pictures."""
    total = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[predicted == labels], minlength=classes)
    return np.where(total > 0, right / np.maximum(total, 1), np.nan)


def recall_report(
    names: Sequence[str], trained: Labels, labels: Labels, before: Labels, after: Labels
) -> RecallReport:
    """Compare two sets of predictions for pictures that were not trained on.

    ``trained`` are the labels trained on, ``labels`` those of the measured pictures, int64 (N,),
    ``before`` and ``after`` the predicted ones, int64 (N,).
    """
    counts = np.bincount(trained, minlength=len(names))
    total = np.bincount(labels, minlength=len(names))
    order = np.lexsort((np.arange(len(names)), counts))
    told = {}
    for when, predicted in (("before", before), ("after", after)):
        recalls = class_recall(labels, predicted, len(names))
        told[when] = (recalls, recall_means(recalls, counts, labels, predicted))
    first, second = told["before"][0], told["after"][0]
    return RecallReport(
        tuple(
            ClassRecall(
                names[place],
                int(counts[place]),
                int(total[place]),
                _known(first[place]),
                _known(second[place]),
            )
            for place in order
        ),
        told["before"][1],
        told["after"][1],
    )


def recall_means(
    recalls: NDArray[np.float64], trained_on: NDArray[np.int64], labels: Labels, predicted: Labels
) -> dict[str, float]:
    """``overall``, ``per_class``, ``rare``, ``middle``, ``common``, as in :class:`RecallReport`.

    ``recalls`` and ``trained_on``, the number of training pictures, are (classes,); classes that
    were not measured are left out, and so is a third that has none.
    """
    measured = np.flatnonzero(~np.isnan(recalls))
    order = measured[np.argsort(trained_on[measured], kind="stable")]
    means = {"overall": float((labels == predicted).mean()), "per_class": recalls[measured].mean()}
    for name, third in zip(("rare", "middle", "common"), np.array_split(order, 3), strict=True):
        if len(third):
            means[name] = recalls[third].mean()
    return {name: float(value) for name, value in means.items()}


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _row(
    name: str, trained: str, measured: str, before: float | None, after: float | None
) -> tuple[str, ...]:
    gained = "" if before is None or after is None else f"{after - before:+.3f}"
    shown = ("" if value is None else f"{value:.3f}" for value in (before, after))
    return (name, trained, measured, *shown, gained)
