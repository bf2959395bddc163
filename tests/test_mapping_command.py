"""``embedsearch map`` as its users meet it: output, exit codes, what is said."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EMBEDSEARCH = str(Path(sys.executable).with_name("embedsearch"))
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path, colour_package: Path, png: Callable[..., Path]) -> Run:
    """Runs commands on an index of fourteen pictures."""
    for number in range(14):
        png(tmp_path / "photos" / f"{number}.png", (15 * number, 90, 200 - 10 * number))
    environment = os.environ | {
        "EMBEDSEARCH_INDEX": str(tmp_path / "index"),
        "EMBEDSEARCH_ENCODER": "colour",
        "BROWSER": "echo opened %s",
    }

    def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [EMBEDSEARCH, *words],
            capture_output=True,
            env=environment,
            cwd=tmp_path,
            text=True,
            timeout=120,
            check=False,
        )

    assert command("index", "photos").returncode == 0
    return command


def test_a_map_is_written_and_json_tells_what_was_done(
    run: Run, tmp_path: Path, png: Callable[..., Path]
) -> None:
    done = run("map", "--method", "pca", "--out", "map.html", "--json", "--open")
    assert done.returncode == 0, done.stderr
    line, opened = done.stdout.splitlines()
    assert opened == f"opened {(tmp_path / 'map.html').as_uri()}"
    told = json.loads(line)
    made_at = told.pop("made_at")
    assert told.pop("encoder").startswith("colour-")
    assert told == {
        "out": "map.html",
        "method": "pca",
        "pictures": 14,
        "drawn": 14,
        "placed": 0,
        "kept": 0,
        "not_kept": None,
    }
    assert "0.png" in (tmp_path / "map.html").read_text()
    png(tmp_path / "photos" / "new.png", "green")
    assert run("index", "photos").returncode == 0
    done = run("map", "--method", "pca", "--out", "map.csv")
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "Map of 15 pictures: map.csv",
        f"1 new picture was placed into the map of {made_at[:10]}. "
        "Lay out all of them again: --anew",
    ]


def test_what_cannot_be_done_is_named(run: Run, tmp_path: Path) -> None:
    for words, code, said in (
        (("--out", "map.gif"), 1, "map.gif does not say what to write"),
        (("--out", "none/map.html"), 1, "there is no folder none"),
        (("--out", "map.html", "--method", "mds"), 2, "'mds'"),
        (("--out", "map.html", "--where", "width > 10000"), 1, "No picture fits"),
        (("--out", "map.html", "--where", "no such column"), 1, "--where"),
        (("--out", "map.html", "--method", "pca", "--colour", "tag"), 1, "embedsearch tag"),
        (("--out", "map.html", "--index", "elsewhere"), 1, "There is no index"),
        (("--out", "map.html", "--encoder", "other"), 1, "was not made with the encoder other"),
        ((), 2, "--out"),
    ):
        done = run("map", *words)
        assert done.returncode == code
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert not list(tmp_path.glob("map.*"))


def test_clusters_are_the_default_colour_once_there_are_some(run: Run, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "index" / "catalogue.db")
    connection.execute("insert into clusterings values (1, 1, 'kmeans', '{}', '2024-01-01')")
    connection.execute("insert into clusters values (1, 'blueish', null, x'00')")
    connection.execute("insert into cluster_members select id, 1, 1 from regions")
    connection.commit()
    connection.close()
    assert run("map", "--method", "pca", "--out", "map.html").returncode == 0
    page = (tmp_path / "map.html").read_text()
    assert page.index("<option>cluster") < page.index("<option>folder")
    assert '"labels":["blueish"]' in page


def test_pictures_that_are_gone_keep_their_place_without_a_thumbnail(
    run: Run, tmp_path: Path
) -> None:
    for picture in list((tmp_path / "photos").iterdir())[:3]:
        picture.unlink()
    done = run("map", "--method", "pca", "--out", "map.html", "--json")
    assert json.loads(done.stdout)["drawn"] == 14
    assert run("map", "--method", "pca", "--out", "map.png").returncode == 0
