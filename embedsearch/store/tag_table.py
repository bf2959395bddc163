"""Tags of pictures: those that people gave, and those that were found in the pictures (scored)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence

from embedsearch.records import TagCount
from embedsearch.store.catalogue import UNDER, Catalogue, is_inside, under_arguments
from embedsearch.store.ledger import Ledger


def tag_counts(catalogue: Catalogue) -> list[TagCount]:
    """Tags of the pictures that are there, the most frequent first."""
    rows = catalogue.connection.execute(
        "select tag, count(*), sum(score is null) from tags join images on images.id = image_id "
        "where status = 'ok' group by tag order by count(*) desc, tag"
    )
    return [TagCount(*row) for row in rows]


def given_tags(catalogue: Catalogue) -> dict[int, list[str]]:
    """The tags that people gave, by image id."""
    found = defaultdict[int, list[str]](list)
    rows = catalogue.connection.execute(
        "select image_id, tag from tags where score is null order by image_id, tag"
    )
    for image_id, tag in rows:
        found[image_id].append(tag)
    return dict(found)


def give_tag(ledger: Ledger, image_ids: Iterable[int], tag: str) -> None:
    """Pictures get a tag from a person; one that was found in them is theirs from now on. Inside a
    transaction."""
    ledger.connection.executemany(
        "insert into tags (image_id, tag, score) values (?, ?, null) "
        "on conflict (image_id, tag) do update set score = null",
        [(image_id, tag) for image_id in image_ids],
    )


def take_tag(ledger: Ledger, image_ids: Sequence[int], tag: str) -> int:
    """Take a tag off pictures, whoever gave it; returns how many had it. Inside a transaction."""
    cursor = ledger.connection.execute(
        "delete from tags where tag = ? and image_id in (select value from json_each(?))",
        (tag, json.dumps(list(image_ids))),
    )
    return cursor.rowcount


def replace_found_tags(
    ledger: Ledger, image_ids: Sequence[int], found: Iterable[tuple[int, str, float]]
) -> None:
    """Give the pictures ``image_ids`` the tags (image id, tag, score) ``found`` in them, in place
    of those that were found before. A tag that a person gave stays theirs. Inside a transaction."""
    ledger.connection.execute(
        "delete from tags where score is not null and image_id in (select value from json_each(?))",
        (json.dumps(list(image_ids)),),
    )
    ledger.connection.executemany(
        "insert into tags (image_id, tag, score) values (?, ?, ?) "
        "on conflict (image_id, tag) do nothing",
        found,
    )


def image_ids_under(catalogue: Catalogue, path: bytes) -> list[int]:
    """Ids of the pictures that are there at or under an absolute path."""
    found: list[int] = []
    for root in catalogue.roots():
        condition, arguments = "", {"root": root.id, **under_arguments(root.relative(path))}
        if is_inside(path, root.path):
            condition = f" and {UNDER}"
        elif path != root.path and not is_inside(root.path, path):
            continue
        rows = catalogue.connection.execute(
            f"select id from images where root_id = :root and status = 'ok'{condition} order by id",
            arguments,
        )
        found += [row[0] for row in rows]
    return found
