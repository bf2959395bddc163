"""Specs of encoders that are made of others: ``SPEC?dim=N``, ``A+B``, ``(A+B)?join=mean``, and
``(A+B)?join=weights``, which is for training to start from.

::

    spec   = part *("+" part)
    part   = (encoder | "(" spec ")") ["?" option *("&" option)]
    option = "dim=" N | "weight=" W | "join=" ("mean" | "weights")
           | an option of the encoder's own
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from embedsearch.errors import EncoderError

Way = Literal["concat", "mean"]
"""How the rows of several encoders become one: side by side, or averaged."""
MEAN_OF_WEIGHTS: Final = "weights"
Join = Way | Literal["weights"]
"""What ``join=`` asks for: of the networks that training starts from the weights are averaged."""

_OPTIONS = re.compile(r"(?P<base>.+?)\?(?P<options>[^?/()]*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Single:
    """An encoder that is not made of others; its own options are still in ``spec``."""

    spec: str


@dataclass(frozen=True, slots=True)
class Reduced:
    """Another encoder with fewer dimensions."""

    base: Tree
    dim: int


@dataclass(frozen=True, slots=True)
class Joined:
    """Several encoders that answer as one."""

    parts: tuple[Tree, ...]
    weights: tuple[float, ...]
    way: Join


Tree = Single | Reduced | Joined


def parse(spec: str, is_whole: Callable[[str], bool]) -> Tree:
    """Take a spec apart.

    ``is_whole`` tells whether a text names an encoder as far as can be seen without loading it:
    a ``+`` behind one that does not belongs to a path.

    Raises :class:`~embedsearch.errors.EncoderError` for an option that is not understood. A spec
    that names nothing comes back as a :class:`Single`, for whoever loads it to say so.
    """
    return _joined(spec, spec, is_whole, "concat")


def reduced_spec(base: str, dim: int, *, wrap: bool) -> str:
    """The spec of ``base`` reduced to ``dim``; ``wrap`` where ``base`` is joined or reduced."""
    return _with_option(f"({base})" if wrap else base, f"dim={dim}")


def joined_spec(parts: list[tuple[str, bool]], weights: tuple[float, ...], way: Join) -> str:
    """The spec of encoders joined, each given as its own spec and whether that has a bare ``+``."""
    said = []
    for (spec, wrap), weight in zip(parts, weights, strict=True):
        part = f"({spec})" if wrap else spec
        said.append(part if weight == 1 else _with_option(part, f"weight={weight:.12g}"))
    return "+".join(said) if way == "concat" else f"({'+'.join(said)})?join={way}"


def _with_option(spec: str, option: str) -> str:
    return f"{spec}{'&' if _OPTIONS.fullmatch(spec) else '?'}{option}"


def _joined(text: str, spec: str, is_whole: Callable[[str], bool], way: Join) -> Tree:
    parts = [_part(piece, spec, is_whole) for piece in _pieces(text, is_whole)]
    if len(parts) == 1 and way == "concat":
        (tree, weight), *_ = parts
        if weight is not None:
            raise EncoderError(f"{spec!r}: weight= belongs to one of several encoders, A+B.")
        return tree
    if len(parts) == 1:
        raise EncoderError(f"{spec!r}: join= belongs to several encoders: (A+B)?join=mean")
    return Joined(
        tuple(tree for tree, _ in parts),
        tuple(1.0 if weight is None else weight for _, weight in parts),
        way,
    )


def _pieces(text: str, is_whole: Callable[[str], bool]) -> list[str]:
    """The parts of ``text``, between those of its ``+`` that part encoders."""
    if "+" not in text:
        return [text]
    pieces: list[str] = []
    so_far = ""
    for piece in text.split("+"):
        so_far = f"{so_far}+{piece}" if so_far else piece
        grouped = so_far.startswith("(")
        if so_far.count("(") == so_far.count(")") if grouped else is_whole(_base(so_far)):
            pieces.append(so_far)
            so_far = ""
    return [*pieces, so_far] if so_far else pieces


def _base(part: str) -> str:
    """``part`` without any options."""
    matched = _OPTIONS.fullmatch(part)
    return matched["base"] if matched else part


def _part(part: str, spec: str, is_whole: Callable[[str], bool]) -> tuple[Tree, float | None]:
    """A part and its weight, ``None`` where it has none of its own."""
    grouped = part.startswith("(") and _base(part).endswith(")")
    if part.startswith("(") and not grouped:
        raise EncoderError(f"{spec!r}: a bracket is not closed, as it is in (A+B)?dim=64.")
    ours = ("dim", "weight", "join") if grouped else ("dim", "weight")
    base, options, theirs = _options(part, spec, ours)
    way: Join = "concat"
    if "join" in options:
        way = _way(options["join"], spec)
    if grouped and theirs:
        raise EncoderError(f"{spec!r}: a group takes dim=, weight= and join=, not {theirs}.")
    if grouped:
        tree = _joined(base[1:-1], spec, is_whole, way)
    elif options:
        tree = Single(f"{base}?{theirs}" if theirs else base)
    else:
        tree = Single(part)  # as it was written: a bare "?" at its end is not ours to mend
    if "dim" in options:
        tree = Reduced(tree, _dim(options["dim"], spec))
    return tree, _weight(options["weight"], spec) if "weight" in options else None


def _options(part: str, spec: str, ours: tuple[str, ...]) -> tuple[str, dict[str, str], str]:
    """The part without options, the options that are ``ours``, and the others as written."""
    matched = _OPTIONS.fullmatch(part)
    if matched is None:
        return part, {}, ""
    options: dict[str, str] = {}
    theirs = []
    for pair in matched["options"].split("&"):
        name, equals, value = pair.partition("=")
        if name not in ours or not equals:
            theirs.append(pair)
        elif name in options:
            raise EncoderError(f"{spec!r}: {name}= is there twice.")
        else:
            options[name] = value
    return matched["base"], options, "&".join(theirs)


def _way(value: str, spec: str) -> Literal["mean", "weights"]:
    if value == "mean":
        return "mean"
    if value == MEAN_OF_WEIGHTS:
        return MEAN_OF_WEIGHTS
    raise EncoderError(f"{spec!r}: join={value} is not understood; join=mean is.")


def _dim(value: str, spec: str) -> int:
    if not (value.isascii() and value.isdecimal() and int(value) > 0):
        raise EncoderError(f"{spec!r}: dim={value} is no number of dimensions, such as dim=64.")
    return int(value)


def _weight(value: str, spec: str) -> float:
    try:
        weight = float(value)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise EncoderError(f"{spec!r}: weight={value} is no number above 0, such as weight=2.")
    return weight
