"""One ranking out of all that speaks for a picture.

The score stays a cosine where nothing but embeddings speak; labels and words add to it what they
are worth in cosines (:class:`Weights`). A sum, not ranks: reciprocal rank fusion (Cormack, Clarke
and Buettcher, 2009) gives a picture that one signal is sure of no more than one that it merely
lists first, and was measured behind (``benchmarks/fusion.py``,
docs/enriching.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from embedsearch.records import Signal


@dataclass(frozen=True, slots=True)
class Weights:
    """What signals are worth, in cosines."""

    part_discount: float = 0.1
    """What the embedding of an object has to have more than that of the whole picture: crops are
    many, and the best of many is high by chance."""
    label: float = 0.8
    """A label that is all of the query, found with certainty."""
    text: float = 0.5
    """Words in the picture that are just those of the query."""


WEIGHTS = Weights()


@dataclass(slots=True)
class Evidence:
    """What speaks for one picture."""

    whole: float | None = None
    """Cosine of the whole picture."""
    whole_ids: list[int] = field(default_factory=list)
    """Regions of the whole picture, and of shots, that are near to what is asked."""
    part_ids: list[int] = field(default_factory=list)
    """Those of objects and their tracks."""
    shot: Signal | None = None
    """The best shot of a video: a whole frame, and its time."""
    parts: list[Signal] = field(default_factory=list)
    """Objects, and tracks of objects, by their embeddings."""
    labels: dict[str, Signal] = field(default_factory=dict)
    """By label, the surest object that has it."""
    meant: dict[str, float] = field(default_factory=dict)
    """By label, how much of the query it is."""
    text: Signal | None = None
    """The line of words that fits best."""

    def add_shot(self, signal: Signal) -> None:
        """Another shot; the best counts."""
        if self.shot is None or signal.score > self.shot.score:
            self.shot = signal

    def add_label(self, signal: Signal, strength: float) -> None:
        """Another object with a label that is meant; the surest counts."""
        assert signal.label is not None
        known = self.labels.get(signal.label)
        if known is None or signal.score > known.score:
            self.labels[signal.label] = signal
            self.meant[signal.label] = strength


def score(evidence: Evidence, weights: Weights = WEIGHTS) -> float:
    """The score of a picture: the better of the whole and its best part, plus what labels and words
    are worth. At most 1 where only embeddings speak."""
    best_part = max((one.score for one in evidence.parts), default=None)
    base = evidence.whole
    if evidence.shot is not None:
        base = evidence.shot.score if base is None else max(base, evidence.shot.score)
    if best_part is not None:
        discounted = best_part - weights.part_discount
        base = discounted if base is None else max(base, discounted)
    said = sum(evidence.meant[label] * one.score for label, one in evidence.labels.items())
    read = 0.0 if evidence.text is None else evidence.text.score
    return (base or 0.0) + weights.label * min(said, 1.0) + weights.text * read


def explained(
    evidence: Evidence, whole: Signal | None, weights: Weights = WEIGHTS, most: int = 5
) -> tuple[Signal, ...]:
    """The signals of a hit, those that say most first: words, labels, the best part where it is
    nearer than the whole, the best shot, the whole."""
    labels = sorted(evidence.labels.values(), key=lambda one: -one.score)
    best = max(evidence.parts, key=lambda one: one.score, default=None)
    if best is not None and whole is not None:
        nearest = max(whole.score, evidence.shot.score if evidence.shot else -1.0)
        best = best if best.score - weights.part_discount > nearest else None
    signals: list[Signal | None] = [evidence.text, *labels, best, evidence.shot, whole]
    boxes: set[tuple[object, ...]] = set()
    kept: list[Signal] = []
    for signal in signals:
        if signal is None:
            continue
        # An object is shown once, with its label rather than its embedding.
        place = (signal.box, signal.time)
        if signal.kind in ("object", "track") and place in boxes:
            continue
        if signal.kind == "label":
            boxes.add(place)
        kept.append(signal)
    return tuple(kept[:most])


def ranked(found: dict[int, Evidence], weights: Weights = WEIGHTS) -> list[tuple[int, float]]:
    """Ids of pictures with their scores, the best first, equal ones by id."""
    scores: Iterable[tuple[int, float]] = (
        (image_id, score(evidence, weights)) for image_id, evidence in found.items()
    )
    return sorted(scores, key=lambda one: (-one[1], one[0]))
