"""Whatever happens to the files and to the runs, the index agrees with the disk in the end."""

from __future__ import annotations

import os
import shutil
import tempfile
from itertools import count
from pathlib import Path

import numpy as np
from colour_encoder import ColourEncoder
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from PIL import Image

from embedsearch.errors import PictureError
from embedsearch.images.decode import decode
from embedsearch.indexing import pipeline, verify
from embedsearch.store.catalogue import Catalogue
from embedsearch.store.database import CATALOGUE
from embedsearch.store.ledger import Ledger
from embedsearch.store.vector_file import vector_path
from embedsearch.store.vector_index import VectorIndex

NAMES = st.sampled_from(
    ["a.png", "b.png", "deep/c.png", "deep/d.png", "deep/er/e.png", "\udcff.png"]
)
COLOURS = st.tuples(*[st.integers(0, 255)] * 3)


class DyingEncoder(ColourEncoder):
    """Kills the whole process, as ``kill -9`` would, after so many pictures."""

    def __init__(self, lives: int) -> None:
        super().__init__()
        self._lives = lives

    def encode_images(self, images):  # type: ignore[no-untyped-def]
        for _ in images:
            if self._lives == 0:
                os._exit(9)
            self._lives -= 1
        return super().encode_images(images)


class IndexMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp())
        self.photos, self.index = self.base / "photos", self.base / "index"
        self.photos.mkdir()
        self.index.mkdir()
        self.encoder = ColourEncoder()
        self.clock = count(1_600_000_000)
        self.seen_regions: dict[int, bytes] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.base)

    # What happens to files

    def _stamp(self, path: Path) -> None:
        """Every write gets a time of its own, as on a disk with coarse clocks it might not."""
        moment = next(self.clock)
        os.utime(path, (moment, moment))

    @initialize(colour=COLOURS)
    def one_picture_stays(self, colour: tuple[int, int, int]) -> None:
        # A root without any picture counts as an unmounted disk; that has tests of its own.
        self.write("stays.png", colour)

    @rule(name=NAMES, colour=COLOURS)
    def write(self, name: str, colour: tuple[int, int, int]) -> None:
        path = self.photos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.new("RGB", (16, 12), colour)
        picture.putpixel((3, 3), (255, 255, 255))
        picture.save(path)
        self._stamp(path)

    @rule(name=NAMES, junk=st.binary(min_size=1, max_size=40))
    def write_junk(self, name: str, junk: bytes) -> None:
        path = self.photos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"junk" + junk)
        self._stamp(path)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        (self.photos / name).unlink(missing_ok=True)

    @rule(source=NAMES, goal=NAMES)
    def move(self, source: str, goal: str) -> None:
        if (self.photos / source).exists():
            (self.photos / goal).parent.mkdir(parents=True, exist_ok=True)
            (self.photos / source).replace(self.photos / goal)

    @rule(source=NAMES, goal=NAMES)
    def copy(self, source: str, goal: str) -> None:
        if source != goal and (self.photos / source).exists():
            (self.photos / goal).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.photos / source, self.photos / goal)
            self._stamp(self.photos / goal)

    @rule(one=NAMES, other=NAMES)
    def swap(self, one: str, other: str) -> None:
        first, second = self.photos / one, self.photos / other
        if one != other and first.exists() and second.exists():
            between = self.photos / "between"
            first.rename(between)
            second.rename(first)
            between.rename(second)

    @rule(name=NAMES)
    def touch(self, name: str) -> None:
        if (self.photos / name).exists():
            self._stamp(self.photos / name)

    # What happens to the index

    @rule(force=st.booleans(), workers=st.integers(1, 3), below=st.booleans())
    def run(self, force: bool, workers: int, below: bool) -> None:
        if below and (self.photos / "deep").exists():
            self._run(self.encoder, [self.photos / "deep"], force=force, workers=workers)
        self._run(self.encoder, [self.photos], force=force, workers=workers)
        self._agrees_with_the_disk()

    @rule(lives=st.integers(0, 6), batch=st.integers(1, 3))
    def killed_run(self, lives: int, batch: int) -> None:
        child = os.fork()
        if child == 0:
            pipeline.BATCH, pipeline.CHUNK = batch, 1
            try:
                self._run(DyingEncoder(lives), [self.photos], force=False, workers=1)
            finally:
                os._exit(0)
        os.waitpid(child, 0)

    @precondition(lambda self: (self.index / "vectors").exists())
    @rule()
    def lose_the_vector_index(self) -> None:
        shutil.rmtree(self.index / "vectors")

    @precondition(lambda self: (self.index / CATALOGUE).exists())
    @rule()
    def forget_the_vanished(self) -> None:
        from embedsearch.indexing.forget import forget

        with Ledger.open(self.index / CATALOGUE) as ledger:
            forget(ledger, self.index, [])

    def _run(self, encoder: ColourEncoder, paths: list[Path], **how: object) -> None:
        with Ledger.open(self.index / CATALOGUE) as ledger:
            given = [os.fsencode(path) for path in paths]
            pipeline.run(ledger, encoder, self.index, given, version="test", **how)  # type: ignore[arg-type]

    # What must hold

    def _agrees_with_the_disk(self) -> None:
        good, bad = {}, set()
        for path in self.photos.rglob("*.png"):
            try:
                good[str(path)] = self.encoder.encode_images([decode(path, 32).pixels])[0]
            except PictureError:
                bad.add(str(path))
        with Catalogue.open(self.index / CATALOGUE) as catalogue:
            images = {image.path: image for image in catalogue.images("ok")}
            assert images.keys() == good.keys()
            assert {failure.path for failure in catalogue.failures()} == bad
            stored = catalogue.encoder()
            for path, image in images.items():
                vector = catalogue.embedding_of(image, stored)
                assert vector is not None
                np.testing.assert_allclose(vector, good[path], atol=2e-3)
            problems = verify.check(catalogue, self.index, deep=True)
            assert [problem for problem in problems if problem.where != "encoders"] == []

    @invariant()
    def every_search_gives_what_the_catalogue_knows(self) -> None:
        if not (self.index / CATALOGUE).exists():
            return
        with Catalogue.open(self.index / CATALOGUE) as catalogue, catalogue.snapshot():
            for stored in catalogue.encoders():
                ids = catalogue.region_ids(stored)
                chunks = list(catalogue.embeddings(stored, ids))
                rows = np.concatenate([rows for _, rows in chunks]) if chunks else np.empty((0, 49))
                vectors = VectorIndex(catalogue, stored, vector_path(self.index, stored.info.id))
                query = self.encoder.encode_texts(["red"])[0]
                for _ in range(2):  # the scan of the file, then FAISS
                    found, scores = vectors.search(query, len(ids) + 1)
                    assert sorted(found.tolist()) == ids.tolist()
                    if len(ids):
                        expected = np.sort(rows @ query)[::-1]
                        np.testing.assert_allclose(scores, expected, atol=1e-5)
                vectors.close()

    @invariant()
    def a_region_id_never_means_something_else(self) -> None:
        if not (self.index / CATALOGUE).exists():
            return
        with Catalogue.open(self.index / CATALOGUE) as catalogue:
            for stored in catalogue.encoders():
                for ids, rows in catalogue.embeddings(stored, catalogue.region_ids(stored)):
                    for id_, row in zip(ids.tolist(), rows, strict=True):
                        assert self.seen_regions.setdefault(id_, row.tobytes()) == row.tobytes()


TestIndexMachine = IndexMachine.TestCase
TestIndexMachine.settings = settings(
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
