"""Recipes on disk and on the command line: read, checked, changed value by value, written."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from embedsearch.errors import DataError

Section = TypeVar("Section")


def read_recipe(kind: type[Section], path: Path) -> Section:
    """A recipe from a TOML file; what the file does not name is as usual.

    Raises :class:`~embedsearch.errors.DataError` naming the file and what is wrong in it.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a recipe ({error})") from error
    return from_told(kind, told, str(path))


def from_told(kind: type[Section], told: Mapping[str, Any], where: str) -> Section:
    """A dataclass from what TOML gives. ``where`` begins messages.

    Raises :class:`~embedsearch.errors.DataError` for a name or a type that does not fit.
    """
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, value in told.items():
        if name not in hints:
            raise DataError(f"{where}: there is no {name!r}{_near(name, hints)}")
        values[name] = _fitting(hints[name], value, f"{where}, {name}")
    return kind(**values)


def to_toml(recipe: Any) -> str:
    """A recipe as TOML, every value of it."""
    import tomli_w

    told: str = tomli_w.dumps(to_told(recipe))
    return told


def to_told(recipe: Any) -> dict[str, Any]:
    """A recipe as plain values. What is None is left out, as TOML has no such thing."""
    told: dict[str, Any] = {}
    for each in dataclasses.fields(recipe):
        value = getattr(recipe, each.name)
        if dataclasses.is_dataclass(value):
            told[each.name] = to_told(value)
        elif value is not None:
            told[each.name] = list(value) if isinstance(value, tuple) else value
    # Values before tables, or TOML would read them as part of a table.
    return dict(sorted(told.items(), key=lambda item: isinstance(item[1], dict)))


def overridden(recipe: Section, settings: Iterable[str]) -> Section:
    """The recipe with single values changed: ``section.key=value``, the value as TOML writes it,
    or a bare word.

    Raises :class:`~embedsearch.errors.DataError`.
    """
    for setting in settings:
        name, equals, written = setting.partition("=")
        if not equals:
            raise DataError(f"--set {setting}: write section.key=value")
        try:
            value = tomllib.loads(f"value = {written}")["value"]
        except tomllib.TOMLDecodeError:
            value = written
        recipe = changed(recipe, name.strip().split("."), value, f"--set {setting}")
    return recipe


def changed(recipe: Section, names: list[str], value: Any, where: str) -> Section:
    """The recipe with the value under ``names`` replaced. Raises
    :class:`~embedsearch.errors.DataError`."""
    hints = typing.get_type_hints(type(recipe))
    first, *rest = names
    if first not in hints:
        raise DataError(f"{where}: there is no {first!r}{_near(first, hints)}")
    within = getattr(recipe, first)
    if rest and dataclasses.is_dataclass(within):
        new: Any = changed(within, rest, value, where)
    elif len(rest) == 1 and isinstance(within, dict):
        new = {**within, rest[0]: value}
    elif rest or dataclasses.is_dataclass(within):
        raise DataError(f"{where}: {'.'.join(names)} is no single value")
    else:
        new = _fitting(hints[first], value, where)
    return typing.cast(Section, dataclasses.replace(typing.cast(Any, recipe), **{first: new}))


def weighted(names: Iterable[str]) -> dict[str, float]:
    """``["info-nce", "0.3:views"]`` as names and weights. Raises
    :class:`~embedsearch.errors.DataError`."""
    found: dict[str, float] = {}
    for written in names:
        before, colon, name = written.rpartition(":")
        try:
            weight = float(before) if colon else 1.0
        except ValueError:
            weight = -1.0
        if weight < 0 or not name.strip():
            raise DataError(f"{written!r} is not understood; write NAME or WEIGHT:NAME")
        found[name.strip()] = weight
    return found


def _fitting(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise DataError(f"{where}: is a section, with values of its own")
        return from_told(hint, value, where)
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        plain = typing.get_origin(option) or option
        if plain is tuple and isinstance(value, list | tuple):
            return tuple(map(str, value))
        if plain is float and type(value) is int:
            return float(value)
        if plain is str and type(value) in (int, float):
            return f"{value:g}"
        if plain is not type(None) and type(value) is plain:
            return value
    wanted = " or ".join(getattr(o, "__name__", str(o)) for o in options if o is not type(None))
    raise DataError(f"{where}: {value!r} is no {wanted}")


def _near(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
