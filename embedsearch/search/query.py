"""What is asked for, and the one vector that stands for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Encoder
from embedsearch.errors import EncoderError, PictureError, QueryError
from embedsearch.records import Box
from embedsearch.search.count import Count, parse_count
from embedsearch.search.mixture import Part, parse, parse_part, written

NEGATIVE = 0.5
"""What a negative of weight 1 counts, beside a part of weight 1.

Measured with ``mini`` by ``benchmarks/negatives.py`` on 108 queries ``A - B`` over 1,000 captioned
photos: at 0.5 the first ten hold half as many pictures of B (0.13 instead of 0.24) and nearly as
many of A (0.66 instead of 0.71), and mAP of "A without B" rises from 0.348 to 0.364. At 1 a query
leaves A as well (0.56, mAP 0.324)."""


@dataclass(frozen=True, slots=True)
class Query:
    """Words and example pictures, each with its weight, and what is to be taken away."""

    parts: tuple[Part, ...]
    region: Box | None = None
    """The part of the one example picture that is meant: pixels of the upright picture."""
    objects: tuple[str, ...] = ()
    """Objects that must be in the picture, in words."""
    counts: tuple[Count, ...] = ()
    """How many of what must be in it."""
    words: str | None = None
    """Words that must stand in it."""

    @classmethod
    def of(
        cls,
        text: str | Sequence[str] | None,
        images: Sequence[str] = (),
        *,
        negatives: str | Sequence[str] = (),
        region: Box | None = None,
        literal: bool = False,
        objects: Sequence[str] = (),
        counts: Sequence[str] = (),
        words: str | None = None,
    ) -> Query:
        """A query as it was asked for.

        Each text is a mixture (:mod:`embedsearch.search.mixture`), each of ``negatives`` one part
        of a mixture, each of ``images`` the path of a picture. ``literal`` takes texts and
        negatives as words, whatever is in them.

        ``objects`` must be in the pictures, ``words`` must stand in them, and ``counts``, such as
        ``dog>=2``, must be true of them.

        A mixture can name any file that this process may read: use ``literal`` for texts that
        come from elsewhere.

        Raises :class:`QueryError` where nothing is asked for, for a text that is no mixture, a
        picture named in one that does not exist, and a region of anything but one picture.
        """
        parts: list[Part] = []
        for one in _texts(text):
            parts += [Part(one)] if literal else map(_existing, parse(one))
        parts += [Part(path, is_picture=True) for path in images]
        for one in _texts(negatives):
            part = Part(one) if literal else _existing(parse_part(one))
            parts.append(replace(part, is_negative=True))
        objects = [one.strip() for one in objects if one.strip()]
        words = (words or "").strip() or None
        if not (parts or objects or counts or words):
            raise QueryError(
                'Nothing to search for. Give words, for example embedsearch search "a red car", '
                "or a picture: embedsearch search --image photo.jpg"
            )
        told = tuple(parse_count(count) for count in counts)
        query = cls(tuple(parts), region, tuple(objects), told, words)
        if region is not None and len(query.pictures) != 1:
            raise QueryError(
                f"A region belongs to exactly one example picture, not to "
                f"{len(query.pictures) or 'none'}. Name one, for example --image photo.jpg"
            )
        return query

    @property
    def pictures(self) -> tuple[str, ...]:
        """Paths of the example pictures, negatives too."""
        return tuple(part.what for part in self.parts if part.is_picture)

    @property
    def text(self) -> str | None:
        """The words asked for, where nothing but words is asked for: what may also name an object,
        or stand in the picture."""
        if len(self.parts) != 1 or self.parts[0].is_picture or self.parts[0].is_negative:
            return None
        return self.parts[0].what

    @property
    def is_of_parts(self) -> bool:
        """Whether objects in pictures may be meant: always, but for whole example pictures."""
        return self.region is not None or not self.pictures

    def __str__(self) -> str:
        said = [written(self.parts)] if self.parts else []
        said += [f"object: {one}" for one in self.objects]
        said += [str(count) for count in self.counts]
        said += [f"“{self.words}”"] if self.words else []
        return " · ".join(said)

    def summary(self) -> str:
        """What counts how much, in words; empty where there is nothing to explain."""
        more = [str(part) for part in self.parts if not part.is_negative]
        less = [str(part) for part in self.parts if part.is_negative]
        sides = [("more", more), ("less", less)] if len(self.parts) > 1 else []
        said = [f"{sign}: {', '.join(some)}" for sign, some in sides if some]
        if self.region is not None:
            said.append(f"region: {region_text(self.region)}")
        if len(self.parts) + len(self.objects) + len(self.counts) + bool(self.words) > 1:
            said += [f"with: {one}" for one in (*self.objects, *map(str, self.counts))]
            said += [f"says: {self.words}"] if self.words else []
        return " · ".join(said)


def embed(query: Query, encoder: Encoder) -> NDArray[np.float32]:
    """The query's embedding: the sum of its parts' embeddings, each times its weight, negatives
    times :data:`NEGATIVE` and subtracted; normalised. float32 (dim,).

    Raises :class:`QueryError` where a picture cannot be used, the region does not lie inside it or
    the parts cancel out, and :class:`EncoderError` where the encoder has no text tower.
    """
    texts = [part for part in query.parts if not part.is_picture]
    pictures = [part for part in query.parts if part.is_picture]
    rows = []
    if texts:
        if not encoder.info.has_text:
            raise EncoderError(
                f"{encoder.info.spec} knows pictures only, no words. Ask by example (--image), or "
                "index with an encoder that has a text tower, such as mini."
            )
        rows.append(encoder.encode_texts([part.what for part in texts]))
    if pictures:
        pixels = [_pixels(part.what, query.region, encoder) for part in pictures]
        rows.append(encoder.encode_images(pixels))
    embeddings = np.concatenate(rows)
    weights = np.array([-p.weight if p.is_negative else p.weight for p in texts + pictures])
    weights /= np.abs(weights).sum()
    unit(weights @ embeddings)  # "dog - dog" asks for nothing, however a negative counts
    return unit(np.where(weights < 0, weights * NEGATIVE, weights) @ embeddings)


def unit(vector: NDArray[np.floating]) -> NDArray[np.float32]:
    """``vector`` (dim,) at length 1. Raises :class:`QueryError` where it has none."""
    length = float(np.linalg.norm(vector))
    if length < 1e-6:
        raise QueryError("The parts of this query cancel each other out; leave one of them away.")
    return np.asarray(vector / length, np.float32)


def region_text(region: Box) -> str:
    """A region as it is written: ``x,y,w,h``."""
    return ",".join(f"{side:.10g}" for side in region)


def _texts(given: str | Sequence[str] | None) -> list[str]:
    texts = [given] if isinstance(given, str) else list(given or ())
    return [text for text in texts if text.strip()]


def _existing(part: Part) -> Part:
    """A part of a text as it is on the disk: ``~`` is a home folder."""
    if not part.is_picture:
        return part
    try:
        path = os.path.expanduser(part.what)
    except ValueError:  # a NUL, or a character that no path can hold
        path = part.what
    if not os.path.exists(path):
        raise QueryError(
            f"There is no picture {part.what!r}, which this query names. If it is meant as words, "
            "add --literal; if its name has ' + ' or ' - ' in it, name it with --image."
        )
    return replace(part, what=path)


def _pixels(path: str, region: Box | None, encoder: Encoder) -> NDArray[np.uint8]:
    from embedsearch.images.decode import decode, read
    from embedsearch.images.region import region_pixels

    size = encoder.info.input_size
    try:
        file = read(path)
        whole = decode(file, size)
        if region is None:
            return whole.pixels
        x, y, width, height = region
        inside = x >= 0 and y >= 0 and x + width <= whole.width and y + height <= whole.height
        if not (inside and width > 0 and height > 0):
            raise QueryError(
                f"The region {region_text(region)} does not lie inside {path}, which is "
                f"{whole.width} x {whole.height} pixels."
            )
        return region_pixels(file, whole, region, size)
    except PictureError as error:
        raise QueryError(f"{path} cannot be used as an example: {error.reason}.") from error
