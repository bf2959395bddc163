"""``FAMILY:MODEL@FILE?OPTION=VALUE&...``: how a spec names a model of another library."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from embedsearch.errors import EncoderError

_FORM = re.compile(
    r"(?P<family>[a-z]+):(?P<model>[^@?]+)(?:@(?P<file>.+?))?(?:\?(?P<options>[^?/]*))?", re.DOTALL
)
_SLUG = re.compile(r"[^a-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A parsed spec."""

    family: str
    model: str
    file: Path | None
    """Checkpoint, absolute; ``None`` where the library finds the weights itself."""
    options: Mapping[str, str]

    def __str__(self) -> str:
        """The spec that leads to the same encoder from any working folder."""
        file = "" if self.file is None else f"@{self.file}"
        options = "&".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.family}:{self.model}{file}{'?' + options if options else ''}"

    def slug(self, name: str) -> str:
        """What the encoder's id begins with: lower case, safe as the name of a file."""
        return _SLUG.sub("-", f"{self.family}-{name}".lower())


def parse(spec: str, options: Collection[str] = ()) -> ModelSpec:
    """Take a spec apart. ``options`` are those the family knows.

    Raises :class:`~embedsearch.errors.EncoderError` for another form, an unknown or repeated
    option, and a checkpoint that is not there.
    """
    matched = _FORM.fullmatch(spec)
    if matched is None:
        raise EncoderError(
            f"{spec!r} is not understood: after the colon comes the name of a model, then "
            "@FILE for a checkpoint on disk, then ?OPTION=VALUE."
        )
    given: dict[str, str] = {}
    for pair in (matched["options"] or "").split("&") if matched["options"] is not None else ():
        name, equals, value = pair.partition("=")
        if not equals or not value or name not in options or name in given:
            known = ", ".join(f"{option}=..." for option in options) or "none at all"
            raise EncoderError(
                f"{spec!r}: the option {pair!r} is not understood. It takes, once each: {known}."
            )
        given[name] = value
    return ModelSpec(matched["family"], matched["model"], _file(matched["file"], spec), given)


def _file(named: str | None, spec: str) -> Path | None:
    if named is None:
        return None
    file = Path(named)
    try:
        file = file.expanduser().absolute()
        there = file.is_file()
    except (OSError, ValueError, RuntimeError):
        there = False
    if not there:
        raise EncoderError(f"{file}: there is no such checkpoint file ({spec!r} names it).")
    return file


def unknown_model(spec: ModelSpec, known: Collection[str]) -> EncoderError:
    """The error for a model that the library does not have, with the names most like it."""
    near = get_close_matches(spec.model, known, n=5, cutoff=0.4)
    return EncoderError(
        f"{spec}: {spec.family} has no model {spec.model!r}."
        + (f" Did you mean {', '.join(near)}?" if near else "")
    )
