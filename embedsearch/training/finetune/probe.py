"""The linear probe: a classifier on embeddings that stay as they are, with the cures for classes of
unlike size that work at this level."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Embeddings
from embedsearch.errors import DataError, MissingExtraError
from embedsearch.training.data.balance import (
    BETA,
    NEIGHBOURS,
    Labels,
    class_weights,
    draw_places,
    synthesise,
)

Balance = Literal[
    "none",
    "inverse",
    "effective",
    "balanced",
    "over",
    "under",
    "smote",
    "adasyn",
    "bagging",
    "boosting",
]
BALANCES: dict[str, str] = {
    "none": "every picture counts the same",
    "inverse": "pictures count 1 / n, n being those of their class",
    "effective": "pictures count by the effective number of their class (Cui et al., 2019)",
    "balanced": "as many draws as there are pictures, every class as often",
    "over": "pictures of rare classes repeated up to the largest class",
    "under": "every class cut down to the smallest",
    "smote": "invented embeddings between neighbours of a rare class (Chawla et al., 2002)",
    "adasyn": "the same where other classes are near (He et al., 2008)",
    "bagging": "classifiers on samples that are each cut down to the smallest class, averaged",
    "boosting": "the same one after the other, each minding what those before got wrong",
}
"""Ways to balance a probe, and what each does. Bagging and boosting are imbalanced-learn's
``BalancedBaggingClassifier`` and ``RUSBoostClassifier`` (Seiffert et al., 2010)."""
INVERSE_REGULARISATION = 10.0
"""scikit-learn's C. Of unit vectors a probe with its default, 1, answers hardly anything but common
classes; at 100 it recognises no more than at 10 (docs/imbalance.md)."""
ESTIMATORS = 10
_MOST_STEPS = 1000


@dataclass(frozen=True, slots=True)
class Probe:
    """A fitted classifier."""

    classes: int
    classifier: Any
    untouched: tuple[int, ...] = ()
    """Rare classes for which ADASYN found nothing to invent."""

    def probabilities(self, embeddings: Embeddings) -> NDArray[np.float32]:
        """float32 (N, classes); a class that was not there to be fitted has 0."""
        told = np.zeros((len(embeddings), self.classes), np.float32)
        told[:, self.classifier.classes_] = self.classifier.predict_proba(embeddings)
        return told

    def predict(self, embeddings: Embeddings) -> Labels:
        """The likeliest class of each embedding, int64 (N,)."""
        likeliest: Labels = self.probabilities(embeddings).argmax(axis=1)
        return likeliest


def fit_probe(
    embeddings: Embeddings,
    labels: Labels,
    *,
    classes: int,
    balance: Balance = "none",
    seed: int = 0,
    inverse_regularisation: float = INVERSE_REGULARISATION,
    neighbours: int = NEIGHBOURS,
    beta: float = BETA,
    names: Sequence[str] = (),
) -> Probe:
    """Fit a logistic regression to unit vectors (N, dim) and labels below ``classes``.

    Raises :class:`~embedsearch.errors.DataError` for fewer than two classes, an unknown
    ``balance``, or classes too small for SMOTE and ADASYN with ``neighbours``; ``names`` of the
    classes are for the message. ``beta`` is that of the effective number.
    """
    if balance not in BALANCES:
        raise DataError(f"there is no balance {balance!r}; there are {', '.join(BALANCES)}")
    if len(np.unique(labels)) < 2:
        raise DataError("a probe needs pictures of at least two classes to tell apart")
    weights = None
    untouched: tuple[int, ...] = ()
    if balance in ("inverse", "effective"):
        weights = class_weights(labels, classes, balance, beta)[labels]
    elif balance in ("balanced", "over", "under"):
        places = draw_places(labels, balance, seed)
        embeddings, labels = embeddings[places], labels[places]
    elif balance in ("smote", "adasyn"):
        made = synthesise(
            embeddings, labels, balance, seed=seed, neighbours=neighbours, names=names
        )
        embeddings, labels, untouched = made.embeddings, made.labels, made.untouched
    classifier = _classifier(balance, inverse_regularisation, seed)
    told = {} if weights is None else {"sample_weight": weights}
    with warnings.catch_warnings():
        # Few pictures a class are what we are about; they are no regression problem.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        classifier.fit(embeddings, labels, **told)
    return Probe(classes, classifier, untouched)


def _classifier(balance: Balance, inverse_regularisation: float, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    linear = LogisticRegression(C=inverse_regularisation, max_iter=_MOST_STEPS)
    if balance not in ("bagging", "boosting"):
        return linear
    try:
        from imblearn.ensemble import BalancedBaggingClassifier, RUSBoostClassifier
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "imblearn":
            raise
        raise MissingExtraError(f"a probe by {balance}", "train") from error
    ensemble = BalancedBaggingClassifier if balance == "bagging" else RUSBoostClassifier
    return ensemble(linear, n_estimators=ESTIMATORS, random_state=seed)
