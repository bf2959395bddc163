"""Queries."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from embedsearch.index.opened import AnyPath, OpenedIndex, check_k
from embedsearch.records import (
    Box,
    Hit,
)
from embedsearch.search.query import Query, embed

if TYPE_CHECKING:
    pass


class Asking(OpenedIndex):
    """The part of :class:`embedsearch.index.Index` that answers queries."""

    def search(
        self,
        text: str | Sequence[str] | None = None,
        *,
        images: Sequence[AnyPath] = (),
        negatives: str | Sequence[str] = (),
        region: Box | None = None,
        literal: bool = False,
        k: int = 10,
        min_score: float | None = None,
        where: str | None = None,
        encoder: str | None = None,
    ) -> list[Hit]:
        """The ``k`` pictures that fit ``text`` and the example ``images`` best.

        A text may be a mixture such as ``"2:beach + ./a.jpg - people"``
        (:mod:`embedsearch.search.mixture`); several texts and images are mixed, and ``negatives``
        taken away. A mixture reads the files that it names: texts that come from elsewhere go with
        ``literal``, which takes all texts as words. ``region`` is the part (x, y, width, height in
        pixels of the upright picture) of the one example picture that is meant.

        ``min_score`` cuts at a cosine, ``where`` filters by an SQL expression over the view
        ``pictures``. ``encoder`` (an id or a spec) chooses among those of the index; the first one
        is the default.

        Raises :class:`~embedsearch.errors.QueryError`,
        :class:`~embedsearch.errors.EncoderMismatchError`,
        :class:`~embedsearch.errors.IndexNotFoundError`.
        """
        examples = [os.fsdecode(image) for image in images]
        query = Query.of(text, examples, negatives=negatives, region=region, literal=literal)
        return self.ask(query, k=k, min_score=min_score, where=where, encoder=encoder)

    def ask(
        self,
        query: Query,
        *,
        k: int = 10,
        min_score: float | None = None,
        where: str | None = None,
        encoder: str | None = None,
    ) -> list[Hit]:
        """As :meth:`search`, for a query that is put together already."""
        check_k(k)
        with self._reader().snapshot():
            engine = self._engine(encoder)
            vector = embed(query, self._encoder(engine.encoder))
            return engine.search(vector, k, where=where, min_score=min_score)

    def similar(
        self,
        image: AnyPath,
        *,
        region: Box | None = None,
        k: int = 10,
        min_score: float | None = None,
        where: str | None = None,
        encoder: str | None = None,
    ) -> list[Hit]:
        """The ``k`` pictures most similar to ``image``, or to a ``region`` of it, without itself.

        A picture that is in the index as it is on the disk need not be read again, unless for a
        region. Else as :meth:`search`.
        """
        check_k(k)
        path = os.path.abspath(os.fsdecode(image))
        with self._reader().snapshot():
            engine = self._engine(encoder)
            vector = engine.embedding_of(path) if region is None else None
            if vector is None:
                query = Query.of(None, [path], region=region)
                vector = embed(query, self._encoder(engine.encoder))
            return engine.search(vector, k, where=where, min_score=min_score, without=path)
