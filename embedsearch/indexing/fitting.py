"""What ``?dim=N`` is fitted on: what the index holds of the encoder, else a sample of pictures."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Event

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders import compound_folder
from embedsearch.encoders.base import Embeddings, Encoder
from embedsearch.encoders.compound import Compound, ReducedEncoder, best_axes
from embedsearch.errors import DataError, EncoderError, PictureError
from embedsearch.images.decode import decode
from embedsearch.images.frame_folder import is_one
from embedsearch.images.scan import scan
from embedsearch.indexing.progress import Progress, Silent
from embedsearch.store.catalogue import StoredEncoder
from embedsearch.store.derived import all_embeddings, derive_embeddings
from embedsearch.store.ledger import Ledger

ENOUGH = 1024
PER_AXIS = 4
"""Embeddings that suffice to fit on: so many, or so many for each axis, where that is more;
docs/encoders.md has the figures."""
SAMPLE = 2048
"""Pictures that are encoded to fit on, where the index holds too few embeddings, or
:data:`PER_AXIS` for each axis."""


class FittingStoppedError(Exception):
    """The run was told to stop before there was enough to fit on."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """Fits reductions for one ``index`` run; :data:`embedsearch.encoders.registry.Fit`.

    The same encoder is reduced to the same number of dimensions only once in an index: later runs
    get the axes that the first one kept.
    """

    ledger: Ledger
    index_folder: Path
    paths: Sequence[bytes]
    exclude: Sequence[str] = ()
    workers: int = 1
    progress: Progress | None = None
    stop: Event | None = None
    warnings: list[str] = field(default_factory=list)
    """What the user should be told of what was fitted."""

    def __call__(self, base: Encoder, dim: int) -> ReducedEncoder:
        """Raises :class:`~embedsearch.errors.EncoderError` where there are too few pictures, and
        :class:`FittingStoppedError`."""
        for folder, base_id, kept in compound_folder.reductions(self.index_folder / "encoders"):
            if (base_id, kept) == (base.info.id, dim):
                return ReducedEncoder(base, compound_folder.read_axes(folder))
        moment, count = self._moment(base, dim)
        if count < dim:
            if self.stop is not None and self.stop.is_set():
                raise FittingStoppedError
            raise EncoderError(
                f"dim={dim} takes at least {dim} pictures to be fitted on, and here are only "
                f"{count} that can be used. Index more at once, or leave dim= out."
            )
        if count < PER_AXIS * dim:
            self.warnings.append(
                f"dim={dim} was fitted on {count:,} pictures; {max(ENOUGH, PER_AXIS * dim):,} make "
                "better axes. What is fitted stays: with more pictures, begin a new index."
            )
        return ReducedEncoder(base, best_axes(moment, dim))

    def _moment(self, base: Encoder, dim: int) -> tuple[NDArray[np.float64], int]:
        """Second moment of the embeddings to fit on, and how many those are."""
        held = _of(self.ledger, base)
        there = 0 if held is None else len(self.ledger.region_ids(held))
        if held is None or there < max(ENOUGH, PER_AXIS * dim):
            chosen = _drawn(self._files(), max(SAMPLE, PER_AXIS * dim))
            if held is None or len(chosen) > 2 * there:
                return _second_moment(self._encoded(base, chosen), base.info.dim)
        return _second_moment(all_embeddings(self.ledger, held), base.info.dim)

    def _encoded(self, base: Encoder, chosen: Sequence[bytes]) -> Iterator[Embeddings]:
        """Embeddings of those pictures that can be used, row by row."""
        progress = self.progress or Silent()
        progress.begin(len(chosen))

        def encoded(path: bytes) -> Embeddings | None:
            if self.stop is not None and self.stop.is_set():
                return None
            try:
                pixels = decode(os.fsdecode(path), base.info.input_size).pixels
                return base.encode_images([pixels])
            except (PictureError, ValueError):
                return None  # the run itself will read it again, and say why

        failed = 0
        with ThreadPoolExecutor(self.workers) as pool:
            for done, row in enumerate(pool.map(encoded, chosen), start=1):
                failed += row is None
                progress.advance(done, failed)
                if row is not None:
                    yield row

    def _files(self) -> Iterator[bytes]:
        own = {os.fsencode(self.index_folder.absolute()), os.fsencode(self.index_folder.resolve())}
        for path in self.paths:
            absolute = os.path.abspath(path)
            if not os.path.lexists(absolute) and not self.ledger.knows_under(absolute):
                raise DataError(f"There is no file or folder {os.fsdecode(absolute)}.")
            folder = os.path.dirname(absolute) if is_one(absolute) else absolute
            ignored: Callable[[bytes, str], None] = lambda path, reason: None  # noqa: E731
            for file in scan(absolute, exclude=self.exclude, skip=own, on_failure=ignored):
                yield os.path.join(folder, file.path)


def derive(ledger: Ledger, encoder: Encoder) -> int:
    """Make what embeddings of an encoder made of others follow from those in the index. Returns
    how many; none where a part is not in the index."""
    if not isinstance(encoder, Compound):
        return 0
    sources = [_of(ledger, part) for part in encoder.parts]
    # Pictures are decoded no larger than an encoder needs: with one that takes larger ones at its
    # side, a part would see other pixels than it did alone.
    same = all(part.info.input_size == encoder.info.input_size for part in encoder.parts)
    there = [source for source in sources if source is not None]
    if not same or len(there) < len(sources):
        return 0
    with ledger.transaction():
        target = ledger.add_encoder(encoder.info)
    return derive_embeddings(ledger, target, there, encoder.derive)


def _of(ledger: Ledger, encoder: Encoder) -> StoredEncoder | None:
    return next((one for one in ledger.encoders() if one.info.id == encoder.info.id), None)


def _second_moment(chunks: Iterable[Embeddings], dim: int) -> tuple[NDArray[np.float64], int]:
    moment, count = np.zeros((dim, dim)), 0
    for rows in chunks:
        exact = rows.astype(np.float64)
        moment += exact.T @ exact
        count += len(rows)
    return moment, count


def _drawn(files: Iterator[bytes], size: int) -> list[bytes]:
    """``size`` of ``files``, each as likely as any other, in their order; all where there are
    fewer. The same files give the same sample."""
    chosen = list(enumerate(islice(files, size)))
    draw = random.Random(0)
    for place, path in enumerate(files, start=size):
        if (seat := draw.randrange(place + 1)) < size:
            chosen[seat] = (place, path)
    return [path for _, path in sorted(chosen)]
