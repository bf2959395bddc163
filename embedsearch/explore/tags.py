"""Tags of pictures: words that stand out among all words of the vocabulary."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np

from embedsearch.encoders.base import Encoder
from embedsearch.errors import EncoderError, QueryError
from embedsearch.explore.word_scores import embedded_words, standardised
from embedsearch.store.catalogue import Catalogue, Matrix, StoredEncoder
from embedsearch.store.ledger import Ledger
from embedsearch.store.tag_table import (
    give_tag,
    image_ids_under,
    replace_found_tags,
    take_tag,
)
from embedsearch.store.whole_pictures import WholePicture, whole_pictures

STANDS_OUT = 3.5
"""A word is a tag when its cosine is so many standard deviations above the picture's mean over all
words. At 3.5 three quarters of the training photos get a tag, and the name of the label is among
the tags of 0.8 of those that have both (docs/clusters.md); at 4 of 0.9, but half get none."""
MOST_TAGS = 5
LONGEST = 100
"""Characters of a tag."""
_CHUNK = 4096


def find_tags(
    ledger: Ledger, stored: StoredEncoder, encoder: Encoder, where: str | None = None
) -> int:
    """Tag pictures (those for which ``where`` is true) with words that stand out, in place of
    what was found in them before. Returns how many pictures were looked at.

    A picture's tags depend on it alone, not on the others. Raises
    :class:`~embedsearch.errors.EncoderError` for an encoder without a text tower.
    """
    words, embedded = embedded_words(encoder)
    if not words:
        raise EncoderError(
            f"{stored.info.spec} has no text tower that knows words, so it cannot tag. Name "
            "another of the index's encoders with --encoder, or give tags yourself with --add."
        )
    pictures = list(whole_pictures(ledger, stored, where))
    for start in range(0, len(pictures), _CHUNK):
        some = pictures[start : start + _CHUNK]
        found = [
            (picture.image_id, words[word], score)
            for picture, tags in _tagged(ledger, stored, some, embedded)
            for word, score in tags
        ]
        with ledger.transaction():
            replace_found_tags(ledger, [one.image_id for one in some], found)
    return len(pictures)


def standing_out(cosines: Matrix) -> list[list[int]]:
    """For each row of ``cosines`` (N, W) of pictures and words, the places of the words that stand
    out, the best first."""
    standard = standardised(cosines)
    best = np.argsort(-standard, axis=1, kind="stable")[:, :MOST_TAGS]
    return [
        [place for place in places if row[place] >= STANDS_OUT]
        for places, row in zip(best.tolist(), standard, strict=True)
    ]


def change_tags(
    ledger: Ledger, paths: Sequence[str], *, add: Sequence[str], remove: Sequence[str]
) -> int:
    """Give the pictures at or under ``paths`` the tags ``add``, and take ``remove`` off them.
    Returns how many pictures these are.

    Raises :class:`~embedsearch.errors.QueryError` for a path without pictures in the index and for
    a text that is no tag.
    """
    added, removed = [_tag(text) for text in add], [_tag(text) for text in remove]
    images = sorted({id_ for path in paths for id_ in _image_ids(ledger, path)})
    with ledger.transaction():
        for tag in removed:
            take_tag(ledger, images, tag)
        for tag in added:
            give_tag(ledger, images, tag)
    return len(images)


def _tagged(
    ledger: Ledger, stored: StoredEncoder, pictures: Sequence[WholePicture], embedded: Matrix
) -> Iterator[tuple[WholePicture, list[tuple[int, float]]]]:
    by_region = {one.region_id: one for one in pictures}
    regions = np.fromiter(by_region, np.int64, len(by_region))
    for ids, rows in ledger.embeddings(stored, regions):
        cosines = rows @ embedded.T
        for region, places, row in zip(ids.tolist(), standing_out(cosines), cosines, strict=True):
            yield by_region[region], [(place, round(float(row[place]), 4)) for place in places]


def _image_ids(catalogue: Catalogue, path: str) -> list[int]:
    absolute = os.path.abspath(os.fsencode(path))
    found = image_ids_under(catalogue, absolute)
    if not found:
        raise QueryError(
            f"{path} is no picture of this index, nor a folder with any. Index it first: "
            f'embedsearch index "{path}"'
        )
    return found


def _tag(text: str) -> str:
    tag = " ".join(text.split())
    if not tag or len(tag) > LONGEST or "," in tag or not tag.isprintable():
        raise QueryError(
            f"{text!r} is no tag: a tag is a word or a few, at most {LONGEST} characters, without "
            "commas."
        )
    return tag
