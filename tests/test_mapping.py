"""Maps of real pictures through a real index: kept, added to, made anew, filtered."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from colour_encoder import COLOURS
from PIL import Image

from embedsearch.errors import OutputError, QueryError
from embedsearch.explore.projection import LEAST_OLD
from embedsearch.index import Index
from embedsearch.records import PictureMap
from embedsearch.store.lock import index_lock


@pytest.fixture
def photos(tmp_path: Path, png: Callable[..., Path]) -> Path:
    """Sixteen pictures in two folders, of two families of colours."""
    folder = tmp_path / "photos"
    for at in range(8):
        png(folder / "warm" / f"{at}.png", (200 + 5 * at, 30 + 3 * at, 20))
        png(folder / "cold" / f"{at}.png", (20, 30 + 3 * at, 200 + 5 * at))
    return folder


@pytest.fixture
def index(
    tmp_path: Path, photos: Path, colour_package: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Index]:
    monkeypatch.setenv("EMBEDSEARCH_ENCODER", "colour")
    with Index(tmp_path / "index") as opened:
        opened.add(photos)
        yield opened


def at(found: PictureMap) -> dict[str, tuple[float, float]]:
    return {point.image.path: (point.x, point.y) for point in found.points}


def tell(index: Index, *statements: str) -> None:
    """Rows that other commands write: clusters, tags."""
    index.close()
    connection = sqlite3.connect(index.folder / "catalogue.db")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


CLUSTERS = (
    "insert into clusterings values (1, 1, 'kmeans', '{}', '2024-01-01')",
    "insert into clusters values (1, 'warm things', null, x'00'), (2, 'cold things', null, x'00')",
    "insert into cluster_members select regions.id, 1 + (images.name like '%cold%'), 0.9 "
    "from regions join images on images.id = image_id where images.name not like '%7.png'",
)
TAGS = (
    "insert into tags select id, 'sunny', 0.3 from images where name like '%warm%'",
    "insert into tags select id, 'best of all', null from images where name like '%warm/3.png'",
)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_a_map_is_kept_and_new_pictures_are_placed_into_it(
    index: Index, photos: Path, png: Callable[..., Path], method: str
) -> None:
    first = index.map(method=method)  # type: ignore[arg-type]
    assert (len(first.points), first.placed, first.kept) == (16, 0, 0)
    assert first.made_at and first.not_kept is None
    assert index.map(method=method) == _as_kept(first)  # type: ignore[arg-type]
    new = str(png(photos / "warm" / "new.png", (222, 44, 20)))
    gone = str(photos / "cold" / "2.png")
    Path(gone).unlink()
    index.add(photos)
    second = index.map(method=method)  # type: ignore[arg-type]
    assert (second.placed, second.kept, second.made_at) == (1, 15, first.made_at)
    before, after = at(first), at(second)
    assert gone not in after
    assert {path: after[path] for path in before if path != gone} == {
        path: place for path, place in before.items() if path != gone
    }
    to_warm, to_cold = (
        min(
            np.hypot(*np.subtract(after[new], place)) for path, place in before.items() if k in path
        )
        for k in ("warm", "cold")
    )
    assert to_warm < to_cold
    png(Path(gone), (20, 36, 210))  # as it was: the same content, at the same place
    index.add(photos)
    assert at(index.map(method=method))[gone] == before[gone]  # type: ignore[arg-type]


def _as_kept(found: PictureMap) -> PictureMap:
    from dataclasses import replace

    return replace(found, kept=len(found.points))


def test_anew_lays_out_all_pictures_again(
    index: Index, photos: Path, png: Callable[..., Path]
) -> None:
    first = index.map(method="pca")
    for number in range(8):
        png(photos / "green" / f"{number}.png", (20, 200 + 4 * number, 30))
    index.add(photos)
    placed = index.map(method="pca")
    anew = index.map(method="pca", anew=True)
    assert (placed.placed, placed.kept) == (8, 16)
    assert (anew.placed, anew.kept) == (0, 0)
    assert at(placed)[first.points[0].image.path] == (first.points[0].x, first.points[0].y)
    assert at(anew) != at(placed)
    assert at(index.map(method="pca")) == at(anew)


def test_a_map_of_very_few_pictures_is_laid_out_together_with_the_new_ones(
    tmp_path: Path, png: Callable[..., Path], index: Index
) -> None:
    with Index(tmp_path / "small") as small:
        for name in list(COLOURS)[: LEAST_OLD - 2]:
            png(tmp_path / "few" / f"{name}.png", name)
        small.add(tmp_path / "few")
        assert len(small.map().points) == LEAST_OLD - 2
        png(tmp_path / "few" / "one more.png", (1, 99, 99))
        small.add(tmp_path / "few")
        found = small.map()
    assert (len(found.points), found.placed, found.kept) == (LEAST_OLD - 1, 0, 0)


def test_where_shows_pictures_at_their_places_in_the_whole_map(index: Index) -> None:
    part = index.map(method="pca", where="folder like '%/cold'")
    whole = at(index.map(method="pca"))
    assert len(part.points) == 8 and len(whole) == 16
    assert all(whole[path] == place for path, place in at(part).items())
    with pytest.raises(QueryError, match="No picture fits 'width > 9999'"):
        index.map(method="pca", where="width > 9999")


def test_points_tell_the_cluster_the_label_and_the_tags_those_of_a_person_first(
    index: Index,
) -> None:
    tell(
        index,
        *CLUSTERS,
        *TAGS,
        "insert into regions (image_id, kind, x, y, w, h, label) "
        "select id, 'object', 0, 0, w, 9, l "
        "from images, (select 3 as w, 'cat' as l union select 8, 'dog') where name like '%warm/3%'",
    )
    points = {Path(one.image.path).parent.name + Path(one.image.path).stem: one
              for one in index.map(method="pca").points}  # fmt: skip
    three = points["warm3"]
    assert (three.cluster, three.cluster_name, three.label) == (1, "warm things", "dog")
    assert three.tags == ("best of all", "sunny")
    assert (points["cold0"].cluster, points["cold0"].tags) == (2, ())
    assert points["warm7"].cluster is None


def test_while_another_process_writes_the_map_is_drawn_but_not_kept(index: Index) -> None:
    with index_lock(index.folder):
        found = index.map(method="pca")
    assert found.not_kept is not None and "is being written by" in found.not_kept
    assert len(found.points) == 16
    assert index.map(method="pca").kept == 0


def test_a_map_replaced_while_pictures_were_placed_into_it_is_kept_whole(
    index: Index, photos: Path, png: Callable[..., Path]
) -> None:
    from embedsearch.explore import mapping
    from embedsearch.store.catalogue import Catalogue
    from embedsearch.store.ledger import Ledger

    index.map(method="pca")
    png(photos / "new.png", "green")
    index.add(photos)
    catalogue = index.folder / "catalogue.db"
    with Catalogue.open(catalogue) as reader:
        placed, keep = mapping.make_map(reader, reader.encoder(), "pca")
    assert keep is not None
    index.map(method="pca", anew=True)
    index.close()
    with Ledger.open(catalogue) as ledger, ledger.transaction():
        keep(ledger)
    assert at(index.map(method="pca")) == at(placed)


# Files


def test_tables_hold_every_place_and_what_is_known_of_the_picture(
    index: Index, photos: Path, tmp_path: Path, png: Callable[..., Path]
) -> None:
    odd = os.fsencode(photos) + b'/od\xff,"d\n.png'
    png(odd, "red")
    index.add(photos)
    tell(index, *CLUSTERS[:2], "insert into cluster_members select id, 2, 1 from regions")
    found = index.map(method="pca")
    for suffix in ("csv", "npy", "parquet"):
        assert index.draw_map(found, tmp_path / f"map.{suffix}") == 17
    text = (tmp_path / "map.csv").read_bytes().decode("utf-8", "surrogateescape")
    rows = list(csv.DictReader(text.splitlines(keepends=True)))
    assert list(rows[0]) == [
        *("path", "x", "y", "cluster", "cluster_name", "label", "taken_at", "tags")
    ]
    assert {os.fsencode(row["path"]) for row in rows} == {os.fsencode(path) for path in at(found)}
    matrix = np.load(tmp_path / "map.npy")
    assert matrix.shape == (17, 2) and matrix.dtype == np.float32
    lines = (tmp_path / "map.npy.paths.jsonl").read_text("ascii").splitlines()
    table = pq.read_table(tmp_path / "map.parquet").to_pylist()
    for point, row, line, xy, column in zip(found.points, rows, lines, matrix, table, strict=True):
        assert (float(row["x"]), float(row["y"])) == pytest.approx((point.x, point.y), abs=1e-5)
        assert xy == pytest.approx((point.x, point.y), abs=1e-5)
        assert json.loads(line)["path"] == point.image.path
        assert column["path_bytes"] == os.fsencode(point.image.path)
        assert row["cluster_name"] == column["cluster_name"] == "cold things"


def test_the_kind_of_file_is_that_of_its_name_and_another_is_refused(
    index: Index, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match=r"map\.gif .* \.html, \.png, \.csv"):
        index.draw_map(index.map(method="pca"), tmp_path / "map.gif")


def test_the_mosaic_shows_every_picture_whole_and_none_over_another(
    index: Index, tmp_path: Path
) -> None:
    out = tmp_path / "map.png"
    assert index.draw_map(index.map(method="pca"), out, width=1200, colour="none") == 16
    with Image.open(out) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    for point in index.map(method="pca").points:
        with Image.open(point.image.path) as photo:
            colour = np.asarray(photo.convert("RGB"))[0, 0].astype(int)
        same = np.abs(pixels - colour).sum(axis=2) <= 6
        assert same.sum() > 800, f"{point.image.path} is hidden"


def test_more_pictures_than_have_room_are_thinned_out_evenly(index: Index, tmp_path: Path) -> None:
    from embedsearch.render import map_picture

    assert map_picture.room(400) < 100
    found = index.map(method="pca")
    many = _as_kept(found).__class__(
        "pca", "e", "", tuple(found.points[at % 16] for at in range(150))
    )
    assert index.draw_map(many, tmp_path / "a.png", width=400) == map_picture.room(400)


def test_points_are_drawn_in_the_colours_of_the_legend(index: Index, tmp_path: Path) -> None:
    from embedsearch.render.colouring import PALETTE

    tell(index, *CLUSTERS)
    out = tmp_path / "points.png"
    index.draw_map(index.map(method="pca"), out, points_only=True, width=600)
    with Image.open(out) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    for colour in PALETTE[:2]:
        rgb = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        assert (pixels == rgb).all(axis=2).sum() > 200
    assert not (pixels == [int(PALETTE[2][at : at + 2], 16) for at in (1, 3, 5)]).all(axis=2).any()


def test_a_colour_that_no_picture_has_is_refused_with_what_to_do(
    index: Index, tmp_path: Path
) -> None:
    found = index.map(method="pca")
    with pytest.raises(QueryError, match="embedsearch cluster"):
        index.draw_map(found, tmp_path / "map.png", colour="cluster")
    with pytest.raises(QueryError, match="embedsearch tag"):
        index.draw_map(found, tmp_path / "map.html", colour="tag")
    assert not (tmp_path / "map.png").exists()


def test_of_very_many_pictures_those_of_the_coarse_levels_have_thumbnails(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import base64

    from embedsearch.explore import atlas

    monkeypatch.setattr(atlas, "THUMBNAILED", 5)
    index.draw_map(index.map(method="pca"), tmp_path / "map.html")
    page = (tmp_path / "map.html").read_text()
    told = json.loads(page.split('id="data">')[1].split("</script>")[0])
    sizes = np.frombuffer(base64.b64decode(told["sizes"]), np.uint8).reshape(16, 2)
    assert (sizes > 0).all(axis=1).tolist() == [True] * 5 + [False] * 11
    assert len(told["names"]) == 16


def test_thumbnails_are_kept_and_serve_the_next_map(index: Index, tmp_path: Path) -> None:
    found = index.map(method="pca")
    index.draw_map(found, tmp_path / "map.html")
    kept = {path: path.stat().st_mtime_ns for path in index.folder.rglob("*-64.jpg")}
    assert len(kept) == 16
    for point in found.points:  # as they were indexed, but no pictures any more
        path = Path(point.image.path)
        path.write_bytes(b"x" * point.image.size)
        os.utime(path, ns=(point.image.mtime_ns, point.image.mtime_ns))
    first = (tmp_path / "map.html").read_bytes()
    index.draw_map(found, tmp_path / "map.html")
    assert (tmp_path / "map.html").read_bytes() == first
