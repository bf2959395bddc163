"""What the tests share: a small real encoder, an empty index, makers of tiny pictures."""

from __future__ import annotations

import os

# Before PyTorch is imported: its threads wait for one another in a spin, which on a machine that is
# busy otherwise makes tiny models ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from colour_encoder import COLOURS, ColourEncoder
from PIL import Image

from embedsearch.store.database import CATALOGUE
from embedsearch.store.ledger import Ledger

PngMaker = Callable[..., Path]


@pytest.fixture
def encoder() -> ColourEncoder:
    return ColourEncoder()


@pytest.fixture
def index_folder(tmp_path: Path) -> Path:
    """A folder for an index, empty."""
    folder = tmp_path / "index"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def empty_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue as a first writer makes it. Making it takes longer than most tests."""
    path = tmp_path_factory.mktemp("empty") / CATALOGUE
    Ledger.open(path).close()
    return path


@pytest.fixture
def ledger(index_folder: Path, empty_catalogue: Path) -> Iterator[Ledger]:
    """A new catalogue in ``index_folder``, open for writing."""
    shutil.copy(empty_catalogue, index_folder / CATALOGUE)
    with Ledger.open(index_folder / CATALOGUE) as opened:
        yield opened


@pytest.fixture
def png() -> PngMaker:
    """``png(path, colour, size=(40, 30))`` writes a flat picture; the colour is one of the names
    in :data:`colour_encoder.COLOURS`, or red, green and blue. Folders are made as needed."""

    def make(
        path: str | bytes | Path,
        colour: str | tuple[int, int, int] = "red",
        size: tuple[int, int] = (40, 30),
    ) -> Path:
        target = Path(os.fsdecode(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        rgb = COLOURS[colour] if isinstance(colour, str) else colour
        with target.open("wb") as stream:
            Image.new("RGB", size, rgb).save(stream, "PNG")
        return target

    return make


@pytest.fixture
def colour_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that brings ``colour`` and ``colour:SEED`` as encoder specs, and
    ``colours:STAGE`` as enrichers, for this process and for those it starts."""
    site = tmp_path / "site-packages"
    meta = site / "colour_encoder-1.0.dist-info"
    meta.mkdir(parents=True)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: colour-encoder\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text(
        "[embedsearch.encoders]\ncolour = colour_encoder:load\n"
        "[embedsearch.enrichers]\ncolours = colour_detector:load\n"
    )
    here = Path(__file__).parent
    monkeypatch.syspath_prepend(site)
    inherited = os.environ.get("PYTHONPATH")
    folders = [str(site), str(here), *([inherited] if inherited else [])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
    return site
