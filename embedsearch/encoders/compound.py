"""Encoders that are made of others: one reduced to fewer dimensions, several joined.

Each keeps the contract of :mod:`embedsearch.encoders.base` where its parts do. Their rows follow
from the rows of their parts (``derive``), so what an index holds of the parts need not be encoded
again.
"""

from __future__ import annotations

import hashlib
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Embeddings, Encoder, Pixels
from embedsearch.encoders.compound_spec import Way, joined_spec, reduced_spec
from embedsearch.encoders.folder import combined_hash
from embedsearch.errors import EncoderError
from embedsearch.records import EncoderInfo

Axes = NDArray[np.float32]
"""Orthonormal rows, shape (dim, dim of the encoder that is reduced)."""
AXES = "axes.npy"
_LONGEST_SLUG = 80


class Compound(ABC):
    """What reduced and joined encoders share."""

    def __init__(self, parts: Sequence[Encoder], info: EncoderInfo) -> None:
        self.parts = tuple(parts)
        self._info = info

    @property
    def info(self) -> EncoderInfo:
        return self._info

    @property
    def weight_bytes(self) -> int | None:
        """Size of the weights of all parts, None where one does not tell."""
        sizes = [getattr(part, "weight_bytes", None) for part in self.parts]
        own = sum(map(len, self.files().values()))
        return None if None in sizes else own + sum(size or 0 for size in sizes)

    @property
    def runs_on(self) -> str:
        return ", ".join(dict.fromkeys(getattr(part, "runs_on", "CPU") for part in self.parts))

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        """Embed pictures, uint8 (H, W, 3) of any sizes: float32 (len(images), dim), unit rows."""
        return _nowhere_zero(self.derive([part.encode_images(images) for part in self.parts]))

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> Embeddings: ...

    @abstractmethod
    def derive(self, rows: Sequence[Embeddings]) -> Embeddings:
        """From the rows of each part, float32 (N, its dim), to those of this encoder: float32
        (N, dim), of unit length, or all zero where nothing is left of a row."""

    @abstractmethod
    def told(self) -> dict[str, Any]:
        """What ``encoder.json`` says beside the parts and the files."""

    def files(self) -> dict[str, bytes]:
        """What lies beside ``encoder.json``, by name."""
        return {}


class ReducedEncoder(Compound):
    """An encoder on fewer axes, chosen so that cosines change least."""

    def __init__(self, base: Encoder, axes: Axes, *, spec: str | None = None) -> None:
        """``axes``: orthonormal rows (dim, base's dim), the most important first.

        Raises :class:`~embedsearch.errors.EncoderError` where they do not fit ``base``.
        """
        self._axes = np.ascontiguousarray(axes, "<f4")
        if axes.ndim != 2 or axes.shape[1] != base.info.dim or not np.isfinite(axes).all():
            raise EncoderError(
                f"axes of shape {axes.shape} do not reduce {base.info.id}, of {base.info.dim} "
                "dimensions."
            )
        dim, slug = len(axes), base.info.id.rpartition("-")[0]
        hashes = {name: hashlib.sha256(held).hexdigest() for name, held in self.files().items()}
        told = json.dumps([base.info.id, hashes], sort_keys=True)
        info = _like(
            base.info,
            slug=f"{slug}-dim{dim}",
            told=told,
            spec=spec or reduced_spec(base.info.spec, dim, wrap=isinstance(base, Compound)),
            dim=dim,
            weights_hash=combined_hash(hashes | {base.info.id: base.info.weights_hash}),
            description=f"{base.info.description}, on {dim} axes of {base.info.dim}",
        )
        super().__init__((base,), info)

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed texts: float32 (len(texts), dim), unit rows. Raises what the whole encoder does."""
        return _nowhere_zero(self.derive([self.parts[0].encode_texts(texts)]))

    def derive(self, rows: Sequence[Embeddings]) -> Embeddings:
        (whole,) = rows
        reduced = np.empty((len(whole), len(self._axes)), np.float32)
        for place, row in enumerate(whole):
            # Row by row: in a matrix product the neighbours would change the last bits.
            reduced[place] = self._axes @ row
        return _unit_or_zero(reduced)

    def told(self) -> dict[str, Any]:
        return {"kind": "reduced", "dim": self._info.dim}

    def files(self) -> dict[str, bytes]:
        held = io.BytesIO()
        np.save(held, self._axes, allow_pickle=False)
        return {AXES: held.getvalue()}


class JoinedEncoder(Compound):
    """Several encoders that answer as one.

    Side by side (``concat``), the cosine of two pictures is the weighted mean of the cosines that
    the parts give them. A text has numbers only from the parts with a text tower: it ranks pictures
    just as these do, at lower scores. Averaged (``mean``) makes sense for encoders of one space,
    such as models fine-tuned from the same one.
    """

    def __init__(
        self,
        parts: Sequence[Encoder],
        weights: Sequence[float],
        way: Way = "concat",
        *,
        spec: str | None = None,
    ) -> None:
        """``weights``: how much each part's cosine counts, positive.

        Raises :class:`~embedsearch.errors.EncoderError` for encoders that cannot be averaged.
        """
        infos = [part.info for part in parts]
        if way == "mean":
            _check_one_space(infos)
        self._given, self._way = tuple(map(float, weights)), way
        self._weights = np.asarray(weights, np.float64) / np.sum(weights)
        names = "+".join(info.id.rpartition("-")[0] for info in infos)
        told = json.dumps(
            [[info.id for info in infos], [f"{weight:.9g}" for weight in self._weights], way]
        )
        written = joined_spec(
            [(info.spec, _is_bare_sum(part)) for info, part in zip(infos, parts, strict=True)],
            self._given,
            way,
        )
        info = _like(
            infos[0],
            slug=(names if way == "concat" else f"mean+{names}")[:_LONGEST_SLUG],
            told=told,
            spec=spec or written,
            dim=infos[0].dim if way == "mean" else sum(info.dim for info in infos),
            has_text=any(info.has_text for info in infos),
            licence=", ".join(dict.fromkeys(info.licence for info in infos)),
            weights_hash=combined_hash({info.id: info.weights_hash for info in infos}),
            input_size=max(info.input_size for info in infos),
            description=("averaged: " if way == "mean" else "joined: ")
            + ", ".join(info.description for info in infos),
        )
        super().__init__(parts, info)

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed texts with the parts that have a text tower: float32 (len(texts), dim), unit rows.

        Raises :class:`~embedsearch.errors.EncoderError` where no part has one, and
        :class:`~embedsearch.errors.QueryError` for a text without any word that a part knows.
        """
        if not self._info.has_text:
            raise EncoderError(f"{self._info.spec} has no text tower; search with --image.")
        rows = [
            part.encode_texts(texts)
            if part.info.has_text
            else np.zeros((len(texts), part.info.dim), np.float32)
            for part in self.parts
        ]
        return _nowhere_zero(self.derive(rows))

    def derive(self, rows: Sequence[Embeddings]) -> Embeddings:
        if self._way == "mean":
            weights = self._weights.astype(np.float32)
            averaged = sum((w * row for w, row in zip(weights, rows, strict=True)), np.float32(0))
            return _unit_or_zero(np.asarray(averaged, np.float32))
        # The square root, so that the cosine, a product of two rows, has the weight itself.
        roots = np.sqrt(self._weights).astype(np.float32)
        return _unit_or_zero(
            np.concatenate([w * row for w, row in zip(roots, rows, strict=True)], axis=1)
        )

    def told(self) -> dict[str, Any]:
        return {"kind": "joined", "join": self._way, "weights": list(self._given)}


def from_told(
    told: Mapping[str, Any],
    axes: Callable[[], Axes],
    parts: Sequence[Encoder],
    spec: str | None,
) -> Compound:
    """The encoder of which :meth:`Compound.told` told. Raises :class:`KeyError`,
    :class:`ValueError` and :class:`TypeError` where it is not understood."""
    if told["kind"] == "reduced":
        (base,) = parts
        return ReducedEncoder(base, axes(), spec=spec)
    if told["kind"] != "joined" or told["join"] not in ("concat", "mean"):
        raise ValueError(f"kind {told['kind']!r} is not understood")
    weights = [float(weight) for weight in told["weights"]]
    if len(weights) != len(parts) or not parts or not all(0 < w < np.inf for w in weights):
        raise ValueError("'weights' does not agree with 'parts'")
    return JoinedEncoder(parts, weights, told["join"], spec=spec)


def best_axes(moment: NDArray[np.float64], dim: int) -> Axes:
    """The ``dim`` axes that keep the most of rows whose second moment (sum of the outer product of
    each with itself, (D, D)) is ``moment``: float32 (dim, D), orthonormal, the most important
    first.

    These are principal axes without centring, which gains nothing here, and without whitening,
    which loses recall: measured with ``mini`` on captioned photos in docs/encoders.md.
    """
    _, vectors = np.linalg.eigh(moment)
    axes = vectors.T[::-1][:dim]
    # An eigenvector may come with either sign: the largest number of each is to be positive.
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return np.ascontiguousarray(axes * np.sign(largest), np.float32)


def _check_one_space(infos: Sequence[EncoderInfo]) -> None:
    dims = sorted({info.dim for info in infos})
    if len(dims) > 1:
        raise EncoderError(
            f"Encoders of {' and '.join(map(str, dims))} dimensions cannot be averaged; join them "
            "side by side: A+B"
        )
    if len({info.has_text for info in infos}) > 1:
        without = next(info.spec for info in infos if not info.has_text)
        raise EncoderError(
            f"{without} has no text tower and cannot be averaged with one that has; join them "
            "side by side: A+B"
        )


def _is_bare_sum(part: Encoder) -> bool:
    return isinstance(part, JoinedEncoder) and part._way == "concat"


def _like(first: EncoderInfo, *, slug: str, told: str, **changed: Any) -> EncoderInfo:
    from dataclasses import replace

    digits = hashlib.sha256(told.encode()).hexdigest()[:12]
    return replace(first, id=f"{slug}-{digits}", **changed)


def _unit_or_zero(rows: Embeddings) -> Embeddings:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Embeddings = np.where(lengths > 1e-6, rows / np.maximum(lengths, 1e-6), np.float32(0))
    return unit.astype(np.float32)


def _nowhere_zero(rows: Embeddings) -> Embeddings:
    if not rows.any(axis=1).all():
        raise ValueError("nothing is left of an embedding on the axes of this encoder")
    return rows
