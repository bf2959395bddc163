"""Which pictures have embeddings of which encoder."""

from __future__ import annotations

from embedsearch.store.catalogue import Catalogue, StoredEncoder

LACKING = (
    "status = 'ok' and not exists (select 1 from regions join embeddings on region_id = regions.id "
    "and encoder = :encoder where image_id = images.id and kind = 'image')"
)
"""SQL for: a present picture has no embedding of the encoder whose key is :encoder."""


def lacking_count(catalogue: Catalogue, encoder: StoredEncoder) -> int:
    """How many present pictures have no embedding of ``encoder``."""
    row = catalogue.connection.execute(
        f"select count(*) from images where {LACKING}", {"encoder": encoder.key}
    ).fetchone()
    return int(row[0])


def only_embedded_by(catalogue: Catalogue, encoder: StoredEncoder) -> int:
    """How many present pictures have an embedding of ``encoder`` and of no other."""
    row = catalogue.connection.execute(
        "select count(*) from images join regions on image_id = images.id and kind = 'image' "
        "where status = 'ok' and exists (select 1 from embeddings where region_id = regions.id "
        "and encoder = :encoder) and not exists (select 1 from embeddings "
        "where region_id = regions.id and encoder <> :encoder)",
        {"encoder": encoder.key},
    ).fetchone()
    return int(row[0])
