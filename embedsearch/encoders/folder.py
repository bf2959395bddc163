"""``encoder.json``: what an encoder folder says of itself, and whether its files are whole."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from embedsearch.encoders.preprocess import INTERPOLATIONS, RESIZE_WAYS, Interpolation, ResizeWay
from embedsearch.errors import EncoderError
from embedsearch.records import EncoderInfo

DESCRIPTION = "encoder.json"
FORMAT = 1
"""Version of the folder's layout. A reader refuses a newer one."""
LITERT_IMAGE = "image.tflite"
"""What the image tower of a folder is called where it runs on LiteRT."""
HUBS = "hubs.npy"
"""What rows tell hubs apart by (:mod:`~embedsearch.encoders.hubs`), in folders that do."""
HUB_NUMBERS = 4
"""So many more has a row then than the towers give."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_HASH = re.compile(r"[0-9a-f]{64}")
Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class EncoderFolder:
    """A read and checked ``encoder.json``."""

    path: Path
    name: str
    """Slug that the encoder's id begins with."""
    licence: str
    description: str
    dim: int
    """Of what the towers give; rows have more where they tell hubs apart."""
    input_size: int
    resize: ResizeWay
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pooling: str
    has_text: bool
    hashes: Mapping[str, str]
    """SHA-256 of every weight file, by file name."""
    hub_mean: float | None = None
    """How near pictures are to sentences on average, where rows tell hubs apart
    (:mod:`~embedsearch.encoders.hubs`)."""

    @property
    def weights_hash(self) -> str:
        """SHA-256 over the names and hashes of the weight files."""
        return combined_hash(self.hashes)

    @property
    def id(self) -> str:
        """Name and 12 hex digits of a SHA-256 over weights, preprocessing and pooling."""
        told = json.dumps(
            {
                "weights": self.weights_hash,
                "input_size": self.input_size,
                "resize": self.resize,
                "interpolation": self.interpolation,
                "mean": self.mean,
                "std": self.std,
                "pooling": self.pooling,
                **self._told_of_hubs(),
            },
            sort_keys=True,
        )
        return f"{self.name}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"

    def info(self, spec: str) -> EncoderInfo:
        """The record that the rest of the program goes by."""
        return EncoderInfo(
            id=self.id,
            spec=spec,
            dim=self.dim + (0 if self.hub_mean is None else HUB_NUMBERS),
            has_text=self.has_text,
            licence=self.licence,
            weights_hash=self.weights_hash,
            input_size=self.input_size,
            mean=self.mean,
            std=self.std,
            resize=self.resize,
            pooling=self.pooling,
            description=self.description,
        )

    def write(self) -> None:
        """Write ``encoder.json`` into the folder."""
        told = {
            "format": FORMAT,
            "id": self.id,
            "name": self.name,
            "licence": self.licence,
            "description": self.description,
            "dim": self.dim,
            "input_size": self.input_size,
            "resize": self.resize,
            "interpolation": self.interpolation,
            "mean": self.mean,
            "std": self.std,
            "pooling": self.pooling,
            "has_text": self.has_text,
            **self._told_of_hubs(),
            "files": dict(self.hashes),
            "weights_hash": self.weights_hash,
        }
        (self.path / DESCRIPTION).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")

    def _told_of_hubs(self) -> dict[str, Any]:
        return {} if self.hub_mean is None else {"hubs": {"mean": self.hub_mean}}


def combined_hash(hashes: Mapping[str, str]) -> str:
    """SHA-256, 64 hex digits, over lines of ``HASH  NAME`` in the order of the names."""
    lines = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits. Raises :class:`~embedsearch.errors.EncoderError`."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise EncoderError(f"{path}: cannot be read ({error.strerror}). {_CURE}") from error


def check_bytes(path: Path, content: bytes, expected: str) -> None:
    """Raise :class:`~embedsearch.errors.EncoderError` where ``content`` is not what was written."""
    if hashlib.sha256(content).hexdigest() != expected:
        raise EncoderError(f"{path}: damaged, its SHA-256 is not the recorded one. {_CURE}")


def read_listed(about: EncoderFolder, name: str) -> bytes:
    """A weight file of a folder, whole. Raises :class:`~embedsearch.errors.EncoderError` where it
    is missing, not listed or damaged."""
    path = about.path / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EncoderError(f"{path}: cannot be read ({error.strerror}).") from error
    if name not in about.hashes:
        raise EncoderError(f"{about.path}: {DESCRIPTION} does not list {name}.")
    check_bytes(path, content, about.hashes[name])
    return content


def read_folder(folder: Path) -> EncoderFolder:
    """Read ``encoder.json`` and nothing else.

    Raises :class:`~embedsearch.errors.EncoderError` naming the file and what is wrong in it.
    """
    return parsed_as(folder, read_description(folder), lambda told: _parsed(folder, told))


def read_description(folder: Path) -> dict[str, Any]:
    """What ``encoder.json`` says, of whatever kind the encoder is. Raises
    :class:`~embedsearch.errors.EncoderError`."""
    path = folder / DESCRIPTION
    try:
        told = json.loads(path.read_bytes())
    except OSError as error:
        raise EncoderError(
            f"{path}: cannot be read ({error.strerror}). An encoder is a folder that holds "
            f"{DESCRIPTION} and the weight files it names."
        ) from error
    except ValueError as error:
        raise EncoderError(f"{path}: not JSON ({error}). {_CURE}") from error
    return parsed_as(folder, told, _of_our_format)


def described_id(folder: Path) -> str:
    """Id of the encoder that a folder holds, of whatever kind. Raises
    :class:`~embedsearch.errors.EncoderError`."""
    told = read_description(folder)
    return str(told.get("id")) if "kind" in told else read_folder(folder).id


def parsed_as(folder: Path, told: Any, parse: Callable[[Any], Parsed]) -> Parsed:
    """``parse(told)``; what that finds wrong becomes an
    :class:`~embedsearch.errors.EncoderError` that names ``encoder.json``."""
    try:
        return parse(told)
    except (KeyError, TypeError, ValueError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise EncoderError(f"{folder / DESCRIPTION}: {what}. {_CURE}") from error


def file_hashes(told: Mapping[str, Any]) -> Mapping[str, str]:
    """SHA-256 of every file that a description lists. Raises :class:`ValueError`."""
    hashes: Mapping[str, str] = _checked(told, "files", _are_hashes)
    return hashes


def verify_files(folder: Path) -> None:
    """Check every weight file against its recorded hash.

    Raises :class:`~embedsearch.errors.EncoderError` naming the first that is missing or damaged.
    """
    for name, expected in parsed_as(folder, read_description(folder), file_hashes).items():
        if hash_file(folder / name) != expected:
            raise EncoderError(
                f"{folder / name}: damaged, its SHA-256 is not the one in {DESCRIPTION}. {_CURE}"
            )


_CURE = "Copy the encoder anew, or reinstall embedsearch if it is the one in the box."


def _of_our_format(told: Any) -> dict[str, Any]:
    if not isinstance(told, dict):
        raise ValueError("not a JSON object")
    if told["format"] != FORMAT:
        raise ValueError(
            f"format {told['format']!r}, but this version of embedsearch reads format {FORMAT}"
        )
    return told


def _parsed(folder: Path, told: dict[str, Any]) -> EncoderFolder:
    parsed = EncoderFolder(
        path=folder,
        name=_checked(told, "name", lambda v: bool(_NAME.fullmatch(v))),
        licence=_checked(told, "licence", lambda v: isinstance(v, str)),
        description=_checked(told, "description", lambda v: isinstance(v, str)),
        dim=_checked(told, "dim", lambda v: type(v) is int and v > 0),
        input_size=_checked(told, "input_size", lambda v: type(v) is int and v > 0),
        resize=_checked(told, "resize", lambda v: v in RESIZE_WAYS),
        interpolation=_checked(told, "interpolation", lambda v: v in INTERPOLATIONS),
        mean=_triple(told, "mean"),
        std=_triple(told, "std"),
        pooling=_checked(told, "pooling", lambda v: isinstance(v, str)),
        has_text=_checked(told, "has_text", lambda v: isinstance(v, bool)),
        hashes=file_hashes(told),
        hub_mean=_hub_mean(told),
    )
    if told["weights_hash"] != parsed.weights_hash:
        raise ValueError("'weights_hash' does not agree with 'files'")
    return parsed


def _checked(told: Mapping[str, Any], key: str, fits: Any) -> Any:
    if not fits(told[key]):
        raise ValueError(f"{key!r} is {told[key]!r}, which is not understood")
    return told[key]


def _hub_mean(told: dict[str, Any]) -> float | None:
    if "hubs" not in told:
        return None
    mean = told["hubs"]["mean"]
    if type(mean) not in (int, float) or HUBS not in told["files"]:
        raise ValueError(f"'hubs' is {told['hubs']!r}, which is not understood")
    return float(mean)


def _triple(told: dict[str, Any], key: str) -> tuple[float, float, float]:
    values = _checked(told, key, lambda v: len(v) == 3 and all(type(x) in (int, float) for x in v))
    return cast(tuple[float, float, float], tuple(float(value) for value in values))


def _are_hashes(files: Any) -> bool:
    """File names inside the folder, each with a SHA-256."""
    return isinstance(files, dict) and all(
        Path(name).name == name and isinstance(digest, str) and _HASH.fullmatch(digest)
        for name, digest in files.items()
    )
