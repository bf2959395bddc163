"""The map of a collection: made once, kept in the catalogue, added to when pictures come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import QueryError
from embedsearch.explore.projection import LEAST_OLD, Method, Progress, lay_out, place, silent
from embedsearch.records import PictureMap
from embedsearch.store.catalogue import Catalogue, StoredEncoder
from embedsearch.store.ledger import Ledger
from embedsearch.store.pictures_view import matching_images
from embedsearch.store.projections import (
    StoredProjection,
    add_points,
    keep_projection,
    map_points,
    stored_projection,
)
from embedsearch.store.whole_pictures import half_precision_rows, whole_pictures


@dataclass(frozen=True, slots=True)
class _Places:
    """Where all pictures of the index lie. ``is_new`` tells which were not in the kept map."""

    image_ids: NDArray[np.int64]
    region_ids: NDArray[np.int64]
    places: NDArray[np.float64]
    is_new: NDArray[np.bool_]
    parameters: dict[str, Any]
    into: StoredProjection | None
    """The kept map that the new ones were placed into; None: all were laid out together."""


Keep = Callable[[Ledger], str]
"""Writes the places into the catalogue, inside a transaction; returns when the map was made."""


def make_map(
    catalogue: Catalogue,
    encoder: StoredEncoder,
    method: Method,
    *,
    where: str | None = None,
    anew: bool = False,
    workers: int = 1,
    progress: Progress = silent,
) -> tuple[PictureMap, Keep | None]:
    """The map of all pictures of ``encoder``, and what keeps it, where something is new.

    Pictures that the kept map of this encoder and method does not know are placed into it; the
    others stay where they are. With ``anew``, or where the kept map holds fewer than
    :data:`LEAST_OLD` pictures, all are laid out together. ``where`` chooses which pictures of the
    map are returned; it does not move them.

    Raises :class:`~embedsearch.errors.QueryError` where no picture is left, and
    :class:`~embedsearch.errors.MissingExtraError`.
    """
    with catalogue.snapshot():
        wanted = None if where is None else set(matching_images(catalogue.path, where))
        stored = None if anew else stored_projection(catalogue, encoder, method)
        pictures = list(whole_pictures(catalogue, encoder))
        image_ids = np.array([one.image_id for one in pictures], np.int64)
        region_ids = np.array([one.region_id for one in pictures], np.int64)
        shown = np.array([wanted is None or id_ in wanted for id_ in image_ids.tolist()], bool)
        if not shown.any():
            said = "The index has no pictures" if where is None else f"No picture fits {where!r}"
            raise QueryError(f"{said}: there is nothing to map.")
        if stored is not None and set(region_ids.tolist()) <= set(stored.region_ids.tolist()):
            rows = None  # all of them lie somewhere already
        else:
            rows = half_precision_rows(catalogue, encoder, region_ids).astype(np.float32)
    found = _placed(stored, image_ids, region_ids, rows, method, workers, progress)
    with catalogue.snapshot():
        points = map_points(catalogue, image_ids[shown], region_ids[shown], found.places[shown])
        laid = PictureMap(
            method=method,
            encoder=encoder.info.id,
            made_at="" if found.into is None else found.into.made_at,
            points=tuple(points),
            placed=0 if found.into is None else int(found.is_new.sum()),
            kept=int((~found.is_new).sum()),
        )
    if not found.is_new.any():
        return laid, None
    return laid, lambda ledger: _keep(ledger, encoder, method, found)


def kept(laid: PictureMap, made_at: str) -> PictureMap:
    """``laid``, now that it is written down."""
    return replace(laid, made_at=made_at)


def not_kept(laid: PictureMap, why: str) -> PictureMap:
    """``laid``, which could not be written down."""
    return replace(laid, not_kept=why)


def _placed(
    stored: StoredProjection | None,
    image_ids: NDArray[np.int64],
    region_ids: NDArray[np.int64],
    rows: NDArray[np.float32] | None,
    method: Method,
    workers: int,
    progress: Progress,
) -> _Places:
    known = np.zeros(len(region_ids), bool)
    if stored is not None:
        known = np.isin(region_ids, stored.region_ids)
        if rows is not None and known.sum() < LEAST_OLD:
            stored, known = None, np.zeros(len(region_ids), bool)
    if stored is None:
        assert rows is not None
        places, parameters = lay_out(rows, method, workers=workers, progress=progress)
        return _Places(image_ids, region_ids, places, ~known, parameters, None)
    places = np.empty((len(region_ids), 2))
    places[known] = stored.places[np.searchsorted(stored.region_ids, region_ids[known])]
    if rows is not None:
        places[~known] = place(
            rows[~known],
            rows[known],
            places[known],
            method,
            stored.parameters,
            workers=workers,
            progress=progress,
        )
    return _Places(image_ids, region_ids, places, ~known, stored.parameters, stored)


def _keep(ledger: Ledger, encoder: StoredEncoder, method: Method, found: _Places) -> str:
    into = found.into
    now = None if into is None else stored_projection(ledger, encoder, method)
    if into is not None and now is not None and _is_still(now, into):
        add_points(ledger, now.key, found.region_ids[found.is_new], found.places[found.is_new])
        return into.made_at
    # A new map; or the old one was replaced while we placed pictures into it.
    return keep_projection(
        ledger, encoder, method, found.parameters, found.region_ids, found.places
    )


def _is_still(now: StoredProjection, then: StoredProjection) -> bool:
    """Whether what lay in the map ``then`` lies there ``now``; pictures may have come or gone. A
    key tells nothing: SQLite gives that of a map that was replaced to the next one."""
    places = now.places[np.isin(now.region_ids, then.region_ids)]
    return np.array_equal(places, then.places[np.isin(then.region_ids, now.region_ids)])
