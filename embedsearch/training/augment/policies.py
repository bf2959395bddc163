"""Augmentation on the fly: named policies that can be read, mixed and made stronger.

A policy is written as the names of what it is made of, with ``+`` between them::

    crop + flip + 0.5:colour + occlusion@0.3

A number before a name is its strength (1 where there is none), one behind ``@`` how often it
happens. A name is a step, a mix of the batch (``mixup``, ``cutmix``), or one of :data:`BUNDLES`,
which are policies written the same way; a strength before a bundle multiplies those in it. Of a
step that is named twice the later counts, so ``strong + 0:grey`` is ``strong`` without ``grey``.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace

import numpy as np

from embedsearch.encoders.base import Pixels
from embedsearch.encoders.preprocess import ResizeWay, to_square
from embedsearch.errors import DataError
from embedsearch.training.augment.mixing import MIXES, mix_batch
from embedsearch.training.augment.steps import STEPS, Step

__all__ = ["BUNDLES", "POLICIES", "Augmentation", "Mix", "augmentation", "mix_batch"]

BUNDLES = {
    "none": "",
    "gentle": "0.5:crop + flip",
    "standard": "crop + flip + 0.5:colour",
    "strong": "crop + flip + rotate@0.3 + move@0.3 + colour@0.8 + grey"
    " + blur@0.2 + noise@0.2 + jpeg@0.3",
    "hardy": "occlusion@0.5 + light@0.5 + shadow@0.3 + blur@0.2 + noise@0.2 + jpeg@0.3",
}
"""Policies with names of their own. ``hardy`` is for pictures that are taken under bad conditions,
and is meant to be mixed with another: ``standard + hardy``."""

POLICIES: dict[str, str] = (
    {name: made or "resized, nothing else" for name, made in BUNDLES.items()}
    | {step.name: step.does for step in STEPS.values()}
    | {name: mix.does for name, mix in MIXES.items()}
)
"""What can be named in a policy, and what it does at strength 1."""

_TERM = re.compile(r"(?:(?P<strength>[\d.]+):)?(?P<name>[a-z]+)(?:@(?P<chance>[\d.]+))?")


@dataclass(frozen=True, slots=True)
class Mix:
    """Pictures of a batch mixed with one another."""

    method: str
    """A name in :data:`~embedsearch.training.augment.mixing.MIXES`."""
    alpha: float
    chance: float


@dataclass(frozen=True, slots=True)
class _Term:
    name: str
    strength: float
    chance: float

    def __str__(self) -> str:
        before = "" if self.strength == 1 else f"{self.strength:g}:"
        sure = self.chance == _usual_chance(self.name) == 1
        return f"{before}{self.name}" + ("" if sure else f"@{self.chance:g}")


@dataclass(frozen=True, slots=True)
class Augmentation:
    """A policy for pictures of one size; made by :func:`augmentation`. Safe in threads."""

    terms: tuple[_Term, ...]
    size: int
    resize: ResizeWay = "squash"

    def __call__(self, pixels: Pixels, seed: int, strength: float = 1.0) -> Pixels:
        """A new look at a picture: uint8 (H, W, 3) of any size to uint8 (size, size, 3).

        The same seed, which must not be negative, gives the same picture; what a step draws does
        not depend on which other steps there are. ``strength`` multiplies that of every step, for
        pictures of classes that have few (see
        :func:`~embedsearch.training.data.balance.augmentation_strengths`).
        """
        steps = [(STEPS[term.name], term) for term in self.terms if term.name in STEPS]
        for step, term in steps:
            if step.whole:
                pixels = _changed(step, term, pixels, seed, strength)
        pixels = to_square(pixels, self.size, self.resize)
        for step, term in steps:
            if not step.whole:
                pixels = _changed(step, term, pixels, seed, strength)
        return np.ascontiguousarray(pixels)

    @property
    def mixes(self) -> tuple[Mix, ...]:
        """What is to be done to batches: arguments of :func:`mix_batch`, one of them at a time."""
        return tuple(
            Mix(term.name, MIXES[term.name].alpha * term.strength, term.chance)
            for term in self.terms
            if term.name in MIXES
        )

    def parts(self) -> list[tuple[str, Augmentation]]:
        """Every step alone, sure to happen, by name with its strength: to be looked at."""
        return [
            (str(term).partition("@")[0], replace(self, terms=(replace(term, chance=1.0),)))
            for term in self.terms
            if term.name in STEPS
        ]

    def __str__(self) -> str:
        """The policy written out to its steps."""
        return " + ".join(map(str, self.terms)) or "none"


def augmentation(policy: str, size: int, resize: ResizeWay = "squash") -> Augmentation:
    """The augmentation that ``policy`` describes, for squares of ``size`` pixels.

    ``resize`` is how a picture becomes a square where no crop did it, as in
    :func:`~embedsearch.encoders.preprocess.to_square`. Raises
    :class:`~embedsearch.errors.DataError` for a policy that cannot be understood.
    """
    if size < 1:
        raise DataError(f"pictures cannot be {size} pixels wide")
    named = _parsed(policy, policy)
    order = [*STEPS, *MIXES]
    terms = sorted(named.values(), key=lambda term: order.index(term.name))
    return Augmentation(tuple(t for t in terms if t.strength and t.chance), size, resize)


def _parsed(policy: str, whole: str) -> dict[str, _Term]:
    """The last term of each name, bundles written out."""
    terms: dict[str, _Term] = {}
    for written in policy.split("+") if policy.strip() else ():
        found = _TERM.fullmatch(written.strip().casefold())
        if found is None:
            raise DataError(
                f"{written.strip()!r} in the augmentation {whole!r} cannot be understood; write "
                "STRENGTH:NAME@CHANCE, for example 0.5:colour@0.8, with + between several."
            )
        name = found["name"]
        strength = _number(found["strength"], 1.0, whole)
        if name in BUNDLES:
            if found["chance"]:
                raise DataError(
                    f"{whole!r}: {name} is made of several steps ({BUNDLES[name] or 'none'}); "
                    "put @CHANCE behind each of them instead."
                )
            bundle = _parsed(BUNDLES[name], whole)
            terms |= {k: replace(t, strength=strength * t.strength) for k, t in bundle.items()}
        elif name in STEPS or name in MIXES:
            chance = _number(found["chance"], _usual_chance(name), whole)
            if chance > 1:
                raise DataError(f"{whole!r}: a chance is at most 1, not {chance:g}")
            terms[name] = _Term(name, strength, chance)
        else:
            raise DataError(
                f"{whole!r}: there is no augmentation {name!r}; there are {', '.join(POLICIES)}."
            )
    return terms


def _usual_chance(name: str) -> float:
    return STEPS[name].chance if name in STEPS else 1.0


def _number(written: str | None, usual: float, whole: str) -> float:
    try:
        return usual if written is None else float(written)
    except ValueError as error:
        raise DataError(f"{whole!r}: {written!r} is no number") from error


def _changed(step: Step, term: _Term, pixels: Pixels, seed: int, strength: float) -> Pixels:
    rng = np.random.default_rng([seed, zlib.crc32(step.name.encode())])
    if rng.random() >= term.chance or not strength:
        return pixels
    return step.change(pixels, strength * term.strength, rng)
