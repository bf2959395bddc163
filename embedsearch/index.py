"""``class Index``: the public face of an index folder. It only delegates."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, BinaryIO, Literal, Self

from embedsearch import settings
from embedsearch.errors import IndexLockedError, OutputError, QueryError
from embedsearch.records import (
    Box,
    ClusterReport,
    DuplicateReport,
    Hit,
    IndexInfo,
    IndexReport,
    Model,
    PictureMap,
    Problem,
    TagCount,
)
from embedsearch.search.engine import Engine
from embedsearch.search.query import Query, embed
from embedsearch.settings import Device
from embedsearch.store.catalogue import Catalogue, StoredEncoder
from embedsearch.store.database import CATALOGUE
from embedsearch.store.vector_file import vector_path

if TYPE_CHECKING:
    from embedsearch.encoders.base import Encoder
    from embedsearch.encoders.registry import Fit
    from embedsearch.explore.projection import Method
    from embedsearch.images.thumbnails import Thumbnails
    from embedsearch.indexing.progress import Progress
    from embedsearch.render.colouring import Colour
    from embedsearch.render.export import Format
    from embedsearch.store.ledger import Ledger

AnyPath = str | bytes | os.PathLike[str]


class Index:
    """A folder of embeddings to search. Made by the first :meth:`add`.

    ::

        index = embedsearch.open("indexes/photos")
        index.add("photos/")
        for hit in index.search("red car", k=10):
            print(hit.score, hit.path)

    Readers never write, so any number of processes may search while one adds. One object is for
    one thread at a time.
    """

    def __init__(self, folder: AnyPath | None = None) -> None:
        given = None if folder is None else Path(os.fsdecode(folder))
        self.folder = settings.index_folder(given)
        self._catalogue: Catalogue | None = None
        self._engines: dict[str, Engine] = {}
        self._encoders: dict[str, Encoder] = {}

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()
        if self._catalogue is not None:
            self._catalogue.close()
            self._catalogue = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Writing

    def add(
        self,
        *paths: AnyPath,
        encoder: str | None = None,
        exclude: Sequence[str] = (),
        force: bool = False,
        device: Device = "auto",
        workers: int | None = None,
        wait_seconds: float = 0.0,
        progress: Progress | None = None,
        stop: Event | None = None,
    ) -> IndexReport:
        """Index pictures and folders of pictures; what did not change since is not read again.

        ``encoder`` is a spec; by default the one this index was made with, else ``mini``.
        ``exclude`` are globs as :mod:`embedsearch.images.scan` describes them. ``force`` reads and
        encodes everything anew. ``wait_seconds`` is how long to wait for another writer. A set
        ``stop`` ends the run early, with everything done so far kept.

        Raises :class:`~embedsearch.errors.DataError` for a path that does not exist and
        :class:`~embedsearch.errors.IndexLockedError`. A picture that cannot be used raises
        nothing: it is in the report's ``failures``.
        """
        from embedsearch import __version__
        from embedsearch.encoders import registry
        from embedsearch.indexing import pipeline
        from embedsearch.indexing.fitting import Fitting, FittingStoppedError, derive
        from embedsearch.store.ledger import Ledger
        from embedsearch.store.lock import index_lock

        self.close()
        self.folder.mkdir(parents=True, exist_ok=True)
        with (
            index_lock(self.folder, wait_seconds=wait_seconds),
            Ledger.open(self.folder / CATALOGUE) as ledger,
        ):
            given = [os.fsencode(path) for path in paths]
            threads = settings.workers(workers)
            fit = Fitting(ledger, self.folder, given, exclude, threads, progress, stop)
            try:
                chosen = self._encoder_to_add(ledger, encoder, device, fit)
            except FittingStoppedError:
                return IndexReport(interrupted=True)
            registry.keep_copy(chosen, self.folder)
            derived = derive(ledger, chosen)
            report = pipeline.run(
                ledger,
                chosen,
                self.folder,
                given,
                version=__version__,
                exclude=exclude,
                force=force,
                workers=threads,
                progress=progress,
                stop=stop,
            )
            warnings = (*fit.warnings, *report.warnings)
            return replace(report, derived=derived, warnings=warnings)

    def add_embeddings(
        self,
        folder: AnyPath,
        *,
        encoder: str | None = None,
        device: Device = "auto",
        workers: int | None = None,
        wait_seconds: float = 0.0,
        progress: Progress | None = None,
        stop: Event | None = None,
    ) -> IndexReport:
        """Index the pictures that a folder in the layout of clip-retrieval has embeddings of.

        The embeddings are taken as they are. ``encoder`` is the spec or id of the one that made
        them, by default what the folder says; a few pictures are encoded anew to see that it is.
        Pictures that are gone, or have changed since as far as the folder tells, are in the
        report's ``failures``.

        Raises :class:`~embedsearch.errors.DataError` for files that do not fit together,
        :class:`~embedsearch.errors.EncoderError` for embeddings of another encoder, and
        :class:`~embedsearch.errors.IndexLockedError`.
        """
        from embedsearch import __version__
        from embedsearch.encoders import registry
        from embedsearch.indexing.clip_retrieval import read_folder
        from embedsearch.indexing.given import GivenRun, encoder_named
        from embedsearch.indexing.progress import Silent
        from embedsearch.store.ledger import Ledger
        from embedsearch.store.lock import index_lock

        given = read_folder(Path(os.fsdecode(folder)))
        self.close()
        self.folder.mkdir(parents=True, exist_ok=True)
        with (
            index_lock(self.folder, wait_seconds=wait_seconds),
            Ledger.open(self.folder / CATALOGUE) as ledger,
        ):
            named = encoder_named(given, ledger, encoder)
            chosen = self._encoder_to_add(ledger, named, device, None)
            run = GivenRun(
                ledger,
                chosen,
                self.folder,
                given,
                version=__version__,
                workers=settings.workers(workers),
                progress=progress or Silent(),
                stop=stop or Event(),
            )
            registry.keep_copy(chosen, self.folder)
            return run.run()

    def forget(
        self, *paths: AnyPath, dry_run: bool = False, wait_seconds: float = 0.0
    ) -> list[str]:
        """Remove pictures from the index (never from the disk): those at or under ``paths``, or,
        without any, those that vanished. Returns their paths; with ``dry_run`` nothing is removed.
        """
        from embedsearch.indexing.forget import forget
        from embedsearch.store.ledger import Ledger
        from embedsearch.store.lock import index_lock

        absolute = [os.path.abspath(os.fsencode(path)) for path in paths]
        if dry_run:
            return forget(self._reader(), self.folder, absolute)
        self._reader()  # an index that is not there is an error, not to be made here
        self.close()
        with (
            index_lock(self.folder, wait_seconds=wait_seconds),
            Ledger.open(self.folder / CATALOGUE) as ledger,
        ):
            return forget(ledger, self.folder, absolute)

    def verify(
        self, *, repair: bool = False, deep: bool = False, wait_seconds: float = 0.0
    ) -> list[Problem]:
        """Hold files, catalogue, vector index and encoders against each other.

        ``deep`` reads every file and every vector as well. ``repair`` mends what can be mended
        without reading pictures, and marks it so in the answer.
        """
        from embedsearch.indexing import verify

        problems = verify.check(self._reader(), self.folder, deep=deep)
        if not repair or not problems:
            return problems
        from embedsearch.store.ledger import Ledger
        from embedsearch.store.lock import index_lock

        self.close()
        with (
            index_lock(self.folder, wait_seconds=wait_seconds),
            Ledger.open(self.folder / CATALOGUE) as ledger,
        ):
            return verify.repair(ledger, self.folder, problems)

    def cluster(
        self,
        clusters: int | None = None,
        *,
        method: Literal["kmeans", "density"] | None = None,
        where: str | None = None,
        encoder: str | None = None,
        anew: bool = False,
        wait_seconds: float = 0.0,
    ) -> ClusterReport:
        """Group pictures that are alike, and name the groups; kept in the index.

        Where there are clusters already, pictures that came since are added to them, unless
        something else is asked for than was, or ``anew``. ``clusters`` is how many k-means makes;
        chosen by default. See :mod:`embedsearch.explore.cluster`.

        Raises :class:`~embedsearch.errors.QueryError` and
        :class:`~embedsearch.errors.IndexLockedError`.
        """
        from embedsearch.explore import cluster

        if clusters is not None and clusters < 1:
            raise QueryError(f"{clusters} clusters cannot be made; ask for at least one.")
        wishes = cluster.Wishes(method, clusters, where, encoder, anew)
        with self._writer(wait_seconds) as ledger:
            return cluster.run(ledger, wishes, self._encoder)

    def clusters(self) -> ClusterReport:
        """The clusters as the last :meth:`cluster` left them; none where it never ran."""
        from embedsearch.explore import cluster

        catalogue = self._reader()
        with catalogue.snapshot():
            return cluster.report(catalogue)

    def cluster_pictures(self, number: int, k: int = 10) -> list[tuple[str, float]]:
        """Paths of the ``k`` pictures most typical of a cluster, the medoid first, each with its
        cosine to the cluster's centre."""
        from embedsearch.store.clusterings import nearest_members

        check_k(k)
        catalogue = self._reader()
        with catalogue.snapshot():
            found = nearest_members(catalogue, number, k)
            regions = catalogue.regions(region for region, _ in found)
            return [(regions[region].path, cosine) for region, cosine in found]

    def tag(
        self, *, where: str | None = None, encoder: str | None = None, wait_seconds: float = 0.0
    ) -> int:
        """Tag pictures with words for what they show. Returns how many were looked at.

        Raises :class:`~embedsearch.errors.EncoderError` where the encoder knows no words.
        """
        from embedsearch.explore.tags import find_tags

        with self._writer(wait_seconds) as ledger:
            stored = ledger.encoder(encoder)
            return find_tags(ledger, stored, self._encoder(stored), where)

    def change_tags(
        self,
        *paths: AnyPath,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        wait_seconds: float = 0.0,
    ) -> int:
        """Give the pictures at or under ``paths`` tags, and take others off. Returns how many
        pictures these are."""
        from embedsearch.explore.tags import change_tags

        with self._writer(wait_seconds) as ledger:
            named = [os.fsdecode(path) for path in paths]
            return change_tags(ledger, named, add=add, remove=remove)

    def tags(self) -> list[TagCount]:
        """All tags, the most frequent first."""
        from embedsearch.store.tag_table import tag_counts

        return tag_counts(self._reader())

    # Asking

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

    def duplicates(
        self,
        *,
        kinds: Sequence[Literal["exact", "near", "burst"]] = ("exact", "near", "burst"),
        where: str | None = None,
        min_similarity: float = 0.6,
        max_distance: int = 10,
        burst_seconds: float = 3.0,
        encoder: str | None = None,
        workers: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> DuplicateReport:
        """Groups of pictures of which one would do; removes nothing.

        ``min_similarity`` (cosine) and ``max_distance`` (bits of 64) are what makes a near copy,
        ``burst_seconds`` how far apart two shots of a burst may be. ``progress`` is called with
        how many pairs are compared, and of how many.
        """
        from embedsearch.explore import duplicates

        catalogue = self._reader()
        return duplicates.find(
            catalogue,
            catalogue.encoder(encoder),
            kinds=kinds,
            where=where,
            thresholds=duplicates.Thresholds(
                similarity=min_similarity, distance=max_distance, seconds=burst_seconds
            ),
            workers=settings.workers(workers),
            progress=progress,
        )

    def map(
        self,
        *,
        method: Method = "tsne",
        where: str | None = None,
        encoder: str | None = None,
        anew: bool = False,
        workers: int | None = None,
        wait_seconds: float = 0.0,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> PictureMap:
        """All pictures laid out in the plane, or those ``where`` chooses, at their places in it.

        The map is kept in the index: next time the pictures that are new are placed into it and
        the others stay, unless ``anew``. Where the index cannot be written to, ``not_kept`` says
        why. ``progress`` is called with what is under way, how much is done, and of how much.
        """
        from embedsearch.explore import mapping
        from embedsearch.explore.projection import silent
        from embedsearch.store.ledger import Ledger
        from embedsearch.store.lock import index_lock

        catalogue = self._reader()
        found, keep = mapping.make_map(
            catalogue,
            catalogue.encoder(encoder),
            method,
            where=where,
            anew=anew,
            workers=settings.workers(workers),
            progress=progress or silent,
        )
        if keep is None:
            return found
        self.close()
        try:
            with (
                index_lock(self.folder, wait_seconds=wait_seconds),
                Ledger.open(self.folder / CATALOGUE) as ledger,
            ):
                with ledger.transaction():
                    made_at = keep(ledger)
                ledger.checkpoint()
        except (IndexLockedError, OutputError) as error:
            return mapping.not_kept(found, str(error))
        return mapping.kept(found, made_at)

    def draw_map(
        self,
        found: PictureMap,
        out: Path,
        *,
        colour: Colour | None = None,
        points_only: bool = False,
        width: int | None = None,
        workers: int | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> int:
        """Write a map to a ``.html``, ``.png``, ``.csv``, ``.parquet`` or ``.npy`` file; returns
        how many pictures are on it. ``points_only`` leaves out the thumbnails; ``width``, in
        pixels, is that of a ``.png``."""
        from embedsearch.explore import atlas
        from embedsearch.explore.projection import silent

        roots = [Path(os.fsdecode(root.path)).name or "/" for root in self._reader().roots()]
        return atlas.write(
            found,
            out,
            self.thumbnails(),
            colour=colour,
            points_only=points_only,
            width=width,
            title=", ".join(roots[:3]) + (", …" if len(roots) > 3 else ""),
            workers=settings.workers(workers),
            progress=progress or silent,
        )

    def info(self) -> IndexInfo:
        """What is in the index, what its last run did, and which pictures cannot be used."""
        catalogue = self._reader()
        with catalogue.snapshot():
            counts = catalogue.picture_counts()
            return IndexInfo(
                path=str(self.folder.absolute()),
                pictures=counts["ok"],
                vanished=counts["vanished"],
                regions=catalogue.region_count(),
                roots=tuple(os.fsdecode(root.path) for root in catalogue.roots()),
                encoders=tuple(stored.info for stored in catalogue.encoders()),
                embeddings=catalogue.embedding_counts(),
                bytes_on_disk=sum(
                    file.stat().st_size for file in self.folder.rglob("*") if file.is_file()
                ),
                last_run=catalogue.last_run(),
                failures=tuple(catalogue.failures()),
            )

    def models(
        self, specs: Sequence[str] = (), *, required: bool = True, device: Device = "auto"
    ) -> list[Model]:
        """The encoders in the box, those of this index, and those that ``specs`` name, with what
        each costs. Where the index need not be there, it is left out unless it is."""
        from embedsearch.explore.models import listed

        there = required or (self.folder / CATALOGUE).exists()
        return listed(specs, self._reader() if there else None, device)

    def export(
        self,
        out: Path | BinaryIO,
        format: Format | Literal["clip-retrieval"] = "jsonl",
        *,
        encoder: str | None = None,
    ) -> int:
        """Write one row a region to ``out``: csv, jsonl, npy or parquet, or a folder in the layout
        of clip-retrieval. Returns the number of rows."""
        from embedsearch.render.clip_retrieval import write_clip_retrieval
        from embedsearch.render.export import write_export

        catalogue = self._reader()
        with catalogue.snapshot():
            stored = catalogue.encoder(encoder)
            rows = catalogue.export_rows(stored)
            if format != "clip-retrieval":
                return write_export(rows, format, out, stored.info.dim)
            if not isinstance(out, Path):
                raise OutputError("clip-retrieval is a folder: name it with --out DIR.")
            at_most = catalogue.embedding_counts()[stored.info.id]
            return write_clip_retrieval(rows, out, stored.info, at_most)

    def thumbnails(self) -> Thumbnails:
        """Small JPEGs of pictures, kept in the index folder where that can be written."""
        from embedsearch.images.thumbnails import Thumbnails

        return Thumbnails(self.folder / "thumbnails")

    def sizes(self, paths: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Width and height, in pixels, of those pictures at absolute ``paths`` that are indexed."""
        found = {path: self._reader().image_at(os.fsencode(path)) for path in paths}
        return {path: (image.width, image.height) for path, image in found.items() if image}

    def paths(self) -> Iterator[str]:
        """Absolute paths of all pictures, in the order they were indexed."""
        return (image.path for image in self._reader().images("ok"))

    # What is opened, and kept open

    def _reader(self) -> Catalogue:
        if self._catalogue is None:
            self._catalogue = Catalogue.open(self.folder / CATALOGUE)
        return self._catalogue

    @contextmanager
    def _writer(self, wait_seconds: float) -> Iterator[Ledger]:
        """The catalogue of an index that is there, to write to."""
        from embedsearch.store.ledger import Ledger
        from embedsearch.store.lock import index_lock

        self._reader()  # an index that is not there is an error, not to be made here
        self.close()
        with (
            index_lock(self.folder, wait_seconds=wait_seconds),
            Ledger.open(self.folder / CATALOGUE) as ledger,
        ):
            yield ledger
            ledger.checkpoint()

    def _engine(self, named: str | None) -> Engine:
        """The engine of an encoder as the snapshot has it."""
        stored = self._reader().encoder(named)
        engine = self._engines.get(stored.info.id)
        if engine is None or engine.encoder.revision != stored.revision:
            if engine is not None:
                engine.close()
            path = vector_path(self.folder, stored.info.id)
            engine = self._engines[stored.info.id] = Engine(self._reader(), stored, path)
        return engine

    def _encoder(self, stored: StoredEncoder) -> Encoder:
        from embedsearch.encoders import registry

        if stored.info.id not in self._encoders:
            self._encoders[stored.info.id] = registry.load_stored(stored.info, self.folder)
        return self._encoders[stored.info.id]

    def _encoder_to_add(
        self, catalogue: Catalogue, spec: str | None, device: Device, fit: Fit | None
    ) -> Encoder:
        from embedsearch.encoders import registry

        for one in catalogue.encoders():
            # A spec may lead to newer weights than those of the index: it names what it says.
            if spec is None or spec == one.info.id:
                return registry.load_stored(one.info, self.folder, device)
        return registry.load(spec or settings.default_encoder(), device, fit)


def open(folder: AnyPath | None = None) -> Index:
    """Open the index in ``folder`` (by default the one that the command line would use)."""
    return Index(folder)


def check_k(k: int) -> None:
    """Raises :class:`~embedsearch.errors.QueryError` where ``k`` is no number of hits."""
    if k < 1:
        raise QueryError(f"-k is {k}; ask for at least one picture.")
