"""Queries."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from embedsearch.errors import QueryError
from embedsearch.index.opened import AnyPath, OpenedIndex, check_k
from embedsearch.records import (
    Box,
    Hit,
)
from embedsearch.search.engine import Asked
from embedsearch.search.matching import WORDS
from embedsearch.search.query import Query, embed

if TYPE_CHECKING:
    from embedsearch.encoders.base import Encoder


MinScore = float | Literal["auto"] | None
"""The least score of a hit; auto: those that match at all."""


AUTO_IS_FOR_WORDS = (
    "--min-score auto holds words against other words, so it needs a text and an encoder that "
    "knows words. Give a number instead, for example --min-score 0.5"
)


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
        objects: Sequence[str] = (),
        counts: Sequence[str] = (),
        text_in_image: str | None = None,
        k: int = 10,
        min_score: MinScore = None,
        where: str | None = None,
        encoder: str | None = None,
    ) -> list[Hit]:
        """The ``k`` pictures that fit ``text`` and the example ``images`` best.

        A text may be a mixture such as ``"2:beach + ./a.jpg - people"``
        (:mod:`embedsearch.search.mixture`); several texts and images are mixed, and ``negatives``
        taken away. A mixture reads the files that it names: texts that come from elsewhere go with
        ``literal``, which takes all texts as words. ``region`` is the part (x, y, width, height in
        pixels of the upright picture) of the one example picture that is meant.

        Where the index knows what is in its pictures (:meth:`embedsearch.index.Index.enrich`), a
        text that is no mixture is looked for in whole pictures, objects, their labels and written
        words at once. ``objects`` keeps pictures that hold these (``dog``, ``red umbrella``),
        ``counts`` those with so many (``dog>=2``), ``text_in_image`` those in which words stand.

        ``min_score`` ``auto`` leaves only pictures that match at all
        (:mod:`embedsearch.search.matching`), be they none; a number cuts at a score, which is a
        cosine where nothing else speaks. ``where`` filters by an SQL expression over the view
        ``pictures``. ``encoder`` (an id or a spec) chooses among those of the index; the first one
        is the default.

        Raises :class:`~embedsearch.errors.QueryError`,
        :class:`~embedsearch.errors.EncoderMismatchError`,
        :class:`~embedsearch.errors.IndexNotFoundError`.
        """
        examples = [os.fsdecode(image) for image in images]
        query = Query.of(
            text,
            examples,
            negatives=negatives,
            region=region,
            literal=literal,
            objects=objects,
            counts=counts,
            words=text_in_image,
        )
        return self.ask(query, k=k, min_score=min_score, where=where, encoder=encoder)

    def ask(
        self,
        query: Query,
        *,
        k: int = 10,
        min_score: MinScore = None,
        where: str | None = None,
        encoder: str | None = None,
    ) -> list[Hit]:
        """As :meth:`search`, for a query that is put together already."""
        check_k(k)
        with self._reader().snapshot():
            engine = self._engine(encoder)
            tower = self._encoder(engine.encoder)
            has_text = tower.info.has_text
            asked = Asked(
                vector=embed(query, tower) if query.parts else None,
                with_objects=query.is_of_parts,
                text=query.text,
                objects=[
                    (one, tower.encode_texts([one])[0] if has_text else None)
                    for one in query.objects
                ],
                counts=query.counts,
                words=query.words,
                where=where,
            )
            return engine.search(asked, k, **self._cut(min_score, query, tower), tower=tower)

    def _cut(self, min_score: MinScore, query: Query, tower: Encoder) -> dict[str, Any]:
        """Where hits end, as the engine takes it. Raises :class:`~embedsearch.errors.QueryError`
        for ``auto`` where it is not words that are asked for."""
        if min_score != "auto":
            return {"min_score": min_score}
        from embedsearch.explore.word_scores import embedded_words

        if query.pictures or not tower.info.has_text:
            raise QueryError(AUTO_IS_FOR_WORDS)
        return {"words": embedded_words(tower, WORDS)[1]}

    def similar(
        self,
        image: AnyPath,
        *,
        region: Box | None = None,
        k: int = 10,
        min_score: MinScore = None,
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
            if min_score == "auto":
                raise QueryError(AUTO_IS_FOR_WORDS)
            vector = engine.embedding_of(path) if region is None else None
            if vector is None:
                query = Query.of(None, [path], region=region)
                vector = embed(query, self._encoder(engine.encoder))
            asked = Asked(vector, region is not None, where=where, without=path)
            return engine.search(asked, k, min_score=min_score)
