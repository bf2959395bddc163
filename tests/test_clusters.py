"""Clusters of an index: made, named, kept, added to; from real files."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedsearch.errors import QueryError
from embedsearch.index import Index
from embedsearch.records import ClusterReport
from embedsearch.store.database import CATALOGUE

SHADES = {"red": (210, 30, 30), "blue": (30, 40, 210), "green": (30, 160, 50)}


@pytest.fixture
def index(tmp_path: Path, colour_package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    monkeypatch.setenv("EMBEDSEARCH_ENCODER", "colour")
    with Index(tmp_path / "index") as opened:
        yield opened


@pytest.fixture
def photos(tmp_path: Path, png: Callable[..., Path]) -> Path:
    """Six red and four blue pictures, all a little different."""
    folder = tmp_path / "photos"
    for name, count in (("red", 6), ("blue", 4)):
        for shade in range(count):
            paint(png, folder, name, shade)
    return folder


def paint(png: Callable[..., Path], folder: Path, name: str, shade: int) -> Path:
    red, green, blue = SHADES[name]
    return png(folder / f"{name}{shade}.png", (red + 3 * shade, green + 5 * shade, blue))


def told(found: ClusterReport) -> list[tuple[int, int]]:
    return [(one.cluster, one.size) for one in found.clusters]


def cluster_of(index: Index, path: Path) -> int | None:
    for one in index.clusters().clusters:
        if str(path) in dict(index.cluster_pictures(one.cluster, 100)):
            return one.cluster
    return None


def test_clusters_are_numbered_by_size_named_by_words_and_have_a_member_as_medoid(
    index: Index, photos: Path
) -> None:
    index.add(photos)
    found = index.cluster(2)
    assert told(found) == [(1, 6), (2, 4)]
    assert (found.unclustered, found.added, found.anew) == (0, 10, True)
    assert found.clusters[0].name.split()[0] in ("red", "orange", "brown")
    assert "blue" in found.clusters[1].name
    members = index.cluster_pictures(1, 100)
    assert {Path(path).stem[:3] for path, _ in members} == {"red"}
    assert members[0][0] == found.clusters[0].medoid
    assert members[0][1] == max(cosine for _, cosine in members)
    assert len(index.cluster_pictures(1, 2)) == 2
    assert index.clusters().clusters == found.clusters


def test_filters_and_export_know_the_cluster(index: Index, photos: Path, tmp_path: Path) -> None:
    index.add(photos)
    index.cluster(2)
    hits = index.search("green", where="cluster = 2")
    assert {Path(hit.path).stem[:4] for hit in hits} == {"blue"}
    assert index.search("green", where="cluster_name like '%blue%' and cluster <> 2") == []
    index.export(tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {(Path(row["path"]).stem[:3], row["cluster"]) for row in rows} == {
        ("red", 1),
        ("blu", 2),
    }


def test_pictures_that_come_later_join_old_clusters_which_keep_number_and_name(
    index: Index, photos: Path, png: Callable[..., Path]
) -> None:
    index.add(photos)
    before = index.cluster(2)
    new = [paint(png, photos, "blue", shade) for shade in range(4, 9)]
    index.add(photos)
    assert index.clusters().unclustered == 5
    after = index.cluster()
    assert told(after) == [(1, 6), (2, 9)]
    assert (after.added, after.anew, after.unclustered) == (5, False, 0)
    assert [one.name for one in after.clusters] == [one.name for one in before.clusters]
    assert {cluster_of(index, path) for path in new} == {2}
    again = index.cluster()
    assert again.added == 0 and again.clusters == after.clusters


def test_made_anew_the_clusters_that_stay_the_same_keep_number_and_name(
    index: Index, photos: Path, png: Callable[..., Path]
) -> None:
    index.add(photos)
    before = index.cluster(2)
    for shade in range(12):
        paint(png, photos, "green", shade)
    for shade in range(4, 9):
        paint(png, photos, "blue", shade)
    index.add(photos)
    after = index.cluster(3)
    assert after.anew
    assert told(after) == [(1, 6), (2, 9), (3, 12)]
    assert [one.name for one in after.clusters[:2]] == [one.name for one in before.clusters]
    assert "green" in after.clusters[2].name
    assert index.cluster(3).anew is False
    assert index.cluster(anew=True, clusters=3).clusters == after.clusters


def test_a_picture_that_changes_or_goes_leaves_its_cluster(
    index: Index, photos: Path, png: Callable[..., Path]
) -> None:
    index.add(photos)
    medoid = Path(index.cluster(2).clusters[0].medoid)
    others = [path for path in photos.glob("red*.png") if path != medoid]
    png(others[0], SHADES["blue"])
    medoid.unlink()
    index.add(photos)
    assert cluster_of(index, others[0]) is None
    known = index.clusters()
    assert told(known) == [(1, 4), (2, 4)]
    assert known.unclustered == 1
    assert known.clusters[0].medoid != str(medoid)
    renewed = index.cluster()
    assert told(renewed) == [(1, 4), (2, 5)]
    assert cluster_of(index, others[0]) == 2
    for path in others[1:]:
        path.unlink()
    index.add(photos)
    assert told(index.cluster()) == [(2, 5)]


def test_density_leaves_out_what_is_like_nothing_now_and_later(
    index: Index, photos: Path, png: Callable[..., Path]
) -> None:
    for shade in range(12):
        for name in ("red", "blue"):
            paint(png, photos, name, shade)
    index.add(photos)
    first = index.cluster(method="density")
    assert first.method == "density"
    assert sorted(size for _, size in told(first)) == [12, 12]
    stray = png(photos / "stray.png", "white")
    near = png(photos / "near.png", (230, 64, 30))
    index.add(photos)
    after = index.cluster()
    assert (after.added, after.unclustered) == (1, 1)
    assert cluster_of(index, stray) is None
    assert cluster_of(index, near) == cluster_of(index, photos / "red5.png")
    assert index.cluster().added == 0
    with pytest.raises(QueryError, match="density method finds the number"):
        index.cluster(3, method="density")


def test_only_pictures_of_the_filter_are_clustered_and_the_filter_is_kept(
    index: Index, photos: Path, png: Callable[..., Path]
) -> None:
    index.add(photos)
    found = index.cluster(1, where="name like 'red%'")
    assert told(found) == [(1, 6)]
    assert found.unclustered == 0
    paint(png, photos, "red", 7)
    paint(png, photos, "blue", 7)
    index.add(photos)
    after = index.cluster()
    assert (told(after), after.where) == ([(1, 7)], "name like 'red%'")
    with pytest.raises(QueryError, match="no expression"):
        index.cluster(where="nonsense(")
    assert index.clusters().clusters == after.clusters
    with pytest.raises(QueryError, match="at least one"):
        index.cluster(0)


def test_an_index_without_pictures_that_fit_has_no_clusters(index: Index, photos: Path) -> None:
    index.add(photos)
    assert index.clusters() == ClusterReport((), 0)
    assert index.cluster(where="name = 'none'").clusters == ()
    assert index.cluster(method="density", where="name like 'red%'").unclustered == 6


def test_where_there_were_too_few_pictures_for_clusters_they_are_made_when_more_come(
    index: Index, photos: Path, png: Callable[..., Path]
) -> None:
    index.add(photos)
    assert index.cluster(method="density", where="name like 'red%'").clusters == ()
    for shade in range(6, 14):
        paint(png, photos, "red", shade)
    for path in photos.glob("red*.png"):
        shutil.copy(path, photos / f"red-copy-{path.name}")
    index.add(photos)
    found = index.cluster()
    assert (found.method, found.where, found.anew) == ("density", "name like 'red%'", True)
    assert sum(one.size for one in found.clusters) >= 10


def test_verify_finds_clusters_that_are_not_sound_and_repair_forgets_them(
    index: Index, photos: Path
) -> None:
    index.add(photos)
    index.cluster(2)
    assert index.verify() == []
    index.close()
    with closing(sqlite3.connect(index.folder / CATALOGUE)) as connection:
        connection.execute("update clusters set centroid = zeroblob(10) where number = 1")
        connection.commit()
    (problem,) = index.verify()
    assert problem.where == "catalogue" and "cluster 1 has a centroid of 5 numbers" in problem.what
    (mended,) = index.verify(repair=True)
    assert mended.repaired
    assert index.verify() == []
    assert index.clusters().clusters == ()


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("embedsearch")), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_prints_json_and_writes_gallery_and_sheet(
    index: Index, photos: Path, tmp_path: Path
) -> None:
    index.add(photos)
    index.close()
    page, sheet = tmp_path / "c.html", tmp_path / "c.png"
    done = run(
        "cluster", "-n", "2", "--json", "--html", page, "--sheet", sheet, "--index", index.folder
    )
    assert done.returncode == 0, done.stderr
    assert f"Gallery: {page}" in done.stderr and f"Contact sheet: {sheet}" in done.stderr
    printed = json.loads(done.stdout)
    assert set(printed) == {"clusters", "unclustered"}
    assert [list(one) for one in printed["clusters"]] == [["cluster", "name", "size", "medoid"]] * 2
    assert [one["size"] for one in printed["clusters"]] == [6, 4]
    html = page.read_text("utf-8")
    assert html.count('class="card"') == 10
    assert html.index(f"1. {printed['clusters'][0]['name']}") < html.index("2. ")
    pixels = np.asarray(Image.open(sheet).convert("RGB"))
    assert ((pixels[..., 0] > 180) & (pixels[..., 2] < 90)).sum() >= 6 * 90 * 90
    assert ((pixels[..., 2] > 180) & (pixels[..., 0] < 90)).sum() >= 4 * 90 * 90
    again = run("cluster", "--index", index.folder)
    assert "2 clusters (kmeans), 0 pictures added." in again.stderr
    assert printed["clusters"][1]["name"] in again.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--open"], "--open needs a gallery"),
        (["--method", "density", "-n", "3"], "--clusters belongs to kmeans"),
        (["-n", "0"], "-n"),
    ],
)
def test_wrong_usage_is_said(words: list[str], said: str, tmp_path: Path) -> None:
    done = run("cluster", *words, "--index", tmp_path)
    assert done.returncode == 2
    assert said in done.stderr


def test_an_encoder_without_words_leaves_names_to_folders_tags_and_numbers(
    index: Index, tmp_path: Path, png: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "embedsearch.explore.cluster.embedded_words",
        lambda encoder: ((), np.empty((0, encoder.info.dim), np.float32)),
    )
    for shade in range(6):
        paint(png, tmp_path / "photos/Summer_2020", "red", shade)
    for shade in range(4):
        paint(png, tmp_path / f"photos/{shade}", "blue", shade)
    for shade in range(3):
        paint(png, tmp_path / f"photos/{shade}", "green", shade)
    index.add(tmp_path / "photos")
    blues = [tmp_path / f"photos/{shade}/blue{shade}.png" for shade in range(4)]
    index.change_tags(*blues, add=["sea"])
    named = [(one.name, one.size) for one in index.cluster(3).clusters]
    assert named == [("Summer 2020", 6), ("sea", 4), ("cluster 3", 3)]
