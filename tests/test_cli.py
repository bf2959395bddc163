"""The command line as its users meet it: real processes, their output and exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pictures import cut, encoded, photograph
from PIL import Image

EMBEDSEARCH = str(Path(sys.executable).with_name("embedsearch"))


class Cli:
    """``cli("search", "red")`` runs a command on one index and returns the finished process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "EMBEDSEARCH_INDEX": str(folder / "index"),
            "EMBEDSEARCH_ENCODER": "colour",
            "COLUMNS": "100",
        }

    def __call__(
        self, *words: str | bytes | Path, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [EMBEDSEARCH, *words],
            input=stdin,
            capture_output=True,
            env=self.environment,
            cwd=self.folder,
            timeout=120,
            check=False,
        )

    def json(self, *words: str | bytes | Path) -> Any:
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def hits(self, *words: str | bytes | Path) -> list[dict[str, Any]]:
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr.decode()
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def cli(tmp_path: Path, colour_package: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture
def photos(tmp_path: Path, png: Callable[..., Path]) -> Path:
    folder = tmp_path / "photos"
    for name, colour in (("r.png", "red"), ("g.png", "green"), ("b.png", "blue")):
        png(folder / name, colour)
    return folder


def name(hit: dict[str, Any]) -> str:
    return os.path.basename(hit["path"])


def test_index_search_and_similar_find_pictures_by_words_and_by_example(
    cli: Cli, photos: Path, png: Callable[..., Path], tmp_path: Path
) -> None:
    report = cli.json("index", photos)
    assert (report["new"], report["failed"]) == (3, 0)
    hits = cli.hits("search", "red")
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert name(hits[0]) == "r.png"
    assert hits[0]["path"] == str(photos / "r.png")
    signal_ = {"kind": "image", "score": hits[0]["score"], "box": [0.0, 0.0, 40.0, 30.0]}
    assert hits[0]["signals"] == [signal_ | {"label": None, "text": None}]
    assert hits[0]["score"] == pytest.approx(1, abs=0.01)
    example = png(tmp_path / "dark red.png", (180, 20, 20))
    assert name(cli.hits("search", "--image", example, "-k", "1")[0]) == "r.png"
    assert name(cli.hits("similar", example, "--top", "1")[0]) == "r.png"
    assert {name(hit) for hit in cli.hits("similar", photos / "r.png")} == {"g.png", "b.png"}


def test_min_score_and_where_filter_the_hits(cli: Cli, photos: Path) -> None:
    cli("index", photos)
    assert [name(hit) for hit in cli.hits("search", "red", "--min-score", "0.9")] == ["r.png"]
    assert cli.hits("search", "red", "--min-score", "2") == []
    assert [name(hit) for hit in cli.hits("search", "red", "--where", "name = 'b.png'")] == [
        "b.png"
    ]
    done = cli("search", "red", "--where", "1; drop table images")
    assert done.returncode == 1
    assert b"Columns: id, path, folder" in done.stderr


def test_people_get_a_table_that_fits_their_terminal_and_programs_raw_paths(
    cli: Cli, tmp_path: Path, png: Callable[..., Path]
) -> None:
    odd = b"photos/" + b"long" * 40 + b"\n\xff\x1b[31m.png"
    png(os.fsencode(tmp_path) + b"/" + odd)
    cli("index", "photos")
    table = cli("search", "red").stdout.decode()
    assert max(map(len, table.splitlines())) <= 100
    assert "\x1b" not in table
    assert cli("search", "red", "-0").stdout == os.fsencode(tmp_path) + b"/" + odd + b"\0"
    (hit,) = cli.hits("search", "red")
    assert os.fsencode(hit["path"]) == os.fsencode(tmp_path) + b"/" + odd


def test_paths_are_read_from_stdin_too(cli: Cli, photos: Path) -> None:
    given = b"".join(os.fsencode(photos / part) + b"\0" for part in ("r.png", "g.png"))
    done = cli("index", "-0", "--json", stdin=given)
    assert json.loads(done.stdout)["new"] == 2


def test_bad_pictures_are_named_with_reasons_and_the_exit_code_is_still_0(
    cli: Cli, photos: Path
) -> None:
    (photos / "cut.jpg").write_bytes(cut(encoded(photograph(), "JPEG")))
    (photos / "text.jpg").write_text("nothing to see\n")
    done = cli("index", photos)
    assert done.returncode == 0
    assert b"cut.jpg" in done.stdout
    failures = cli.json("info")["failures"]
    assert {(os.path.basename(f["path"]), f["stage"]) for f in failures} == {
        ("cut.jpg", "decode"),
        ("text.jpg", "decode"),
    }
    assert all(failure["reason"] for failure in failures)


def test_a_gallery_holds_the_thumbnails_and_opens_offline(cli: Cli, photos: Path) -> None:
    cli("index", photos)
    done = cli("search", "green", "--html", "g.html")
    assert done.returncode == 0
    page = (cli.folder / "g.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 3
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_mixtures_negatives_and_regions_change_the_ranking(
    cli: Cli, photos: Path, tmp_path: Path, png: Callable[..., Path]
) -> None:
    cli("index", photos)
    png(tmp_path / "blue.png", "blue")
    assert name(cli.hits("search", "red + 4:./blue.png")[0]) == "b.png"
    assert name(cli.hits("search", "4:red + ./blue.png")[0]) == "r.png"
    assert name(cli.hits("search", "red - 0.5:green + blue")[-1]) == "g.png"
    assert name(cli.hits("search", "red", "--not", "green", "--not", "./blue.png")[0]) == "r.png"
    assert name(cli.hits("search", "--not", "red")[-1]) == "r.png"
    assert cli.hits("search", "red - blue", "--literal") == cli.hits("search", "red blue")
    both = Image.open(photos / "r.png").resize((80, 30))
    both.paste("green", (50, 0, 80, 30))
    both.save(photos / "both.png")
    for box, found in (("0,0,50,30", "r.png"), ("55,5,20,20.5", "g.png")):
        for words in (("search", "--image", "photos/both.png"), ("similar", "photos/both.png")):
            assert name(cli.hits(*words, "--region", box)[0]) == found
    assert name(cli.hits("search", "red + ./photos/both.png", "--region", "0,0,9,9")[0]) == "r.png"


def test_the_gallery_shows_what_was_asked_with(
    cli: Cli, photos: Path, tmp_path: Path, png: Callable[..., Path]
) -> None:
    cli("index", photos)
    png(tmp_path / "blue.png", "blue")
    assert cli("search", "2:red + ./blue.png - green", "--html", "g.html").returncode == 0
    page = (tmp_path / "g.html").read_text()
    assert '<h1 dir="auto">2:red + ./blue.png - green</h1>' in page
    assert "more: 2:red, ./blue.png · less: green" in page
    (example,) = re.findall(r'<a class="example" href="(.*?)".*?base64,(.*?)"', page)
    assert example[0] == (tmp_path / "blue.png").as_uri()
    assert example[1]
    assert cli("similar", "blue.png", "--region", "0,0,9,9", "--html", "s.html").returncode == 0
    page = (tmp_path / "s.html").read_text()
    assert "Similar to blue.png" in page
    assert "region: 0,0,9,9" in page
    assert page.count('class="example"') == 1


def test_what_would_be_forgotten_can_be_looked_at_even_when_it_is_gone(
    cli: Cli, photos: Path, tmp_path: Path
) -> None:
    cli("index", photos)
    cli("search", "red", "--html", "hits.html")  # keeps a thumbnail of each
    (photos / "r.png").unlink()
    cli("index", photos)
    done = cli("forget", "--html", "gone.html")
    assert done.returncode == 0, done.stderr.decode()
    assert b"Gallery: gone.html" in done.stderr and b"would be removed" in done.stdout
    page = (tmp_path / "gone.html").read_text("utf-8")
    assert "r.png" in page and "g.png" not in page
    assert page.count("data:image/jpeg;base64,") == 1
    assert cli.json("forget")["pictures"] == [str(photos / "r.png")]  # looking removes nothing
    assert cli("forget", "--open").returncode == 2


def test_forget_says_what_it_would_remove_and_removes_it_with_yes(cli: Cli, photos: Path) -> None:
    cli("index", photos)
    (photos / "r.png").unlink()
    cli("index", photos)
    assert cli.json("forget") == {"removed": False, "pictures": [str(photos / "r.png")]}
    assert cli.json("info")["vanished"] == 1
    assert cli.json("forget", "--yes")["pictures"] == [str(photos / "r.png")]
    assert cli.json("info")["vanished"] == 0
    assert cli.json("forget", photos / "g.png", "--yes")["pictures"] == [str(photos / "g.png")]
    assert [name(hit) for hit in cli.hits("search", "red")] == ["b.png"]
    assert (photos / "g.png").exists()
    assert cli.json("verify", "--deep") == {"problems": []}


def test_verify_exits_1_while_problems_are_left(cli: Cli, photos: Path) -> None:
    cli("index", photos)
    (photos / "r.png").unlink()
    assert cli("verify").returncode == 1
    assert cli("verify", "--repair").returncode == 0
    assert cli("verify").returncode == 0


@pytest.mark.parametrize("form", ["csv", "jsonl", "npy", "parquet"])
def test_export_writes_a_row_a_picture(cli: Cli, photos: Path, form: str) -> None:
    cli("index", photos)
    assert cli.json("export", "--format", form, "--out", f"out.{form}")["rows"] == 3
    assert (cli.folder / f"out.{form}").stat().st_size > 100


def test_export_streams_to_stdout(cli: Cli, photos: Path) -> None:
    cli("index", photos)
    rows = [json.loads(line) for line in cli("export", "--out", "-").stdout.splitlines()]
    assert {name(row) for row in rows} == {"r.png", "g.png", "b.png"}
    assert len(rows[0]["embedding"]) == 49


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("search", "red"), 1, b"There is no index at"),
        (("similar", "nowhere.jpg"), 1, b"There is no index at"),
        (("index",), 2, b"Name at least one picture"),
        (("search",), 2, b"Give words to look for"),
        (("index", "nowhere"), 1, b"There is no file or folder"),
        (("index", ".", "--encoder", "nonsense"), 1, b"There is no encoder 'nonsense'"),
        (("index", ".", "--enrich", "words"), 1, b"--enrich words"),
        (("index", ".", "--workers", "0"), 2, b"workers"),
        (("search", "red", "-k", "0"), 2, b"-k"),
        (("search", "red", "--region", "1,2,3"), 2, b"x,y,w,h"),
        (("search", "red", "--region", "1,2,3,a"), 2, b"x,y,w,h"),
        (("search", "red", "--region", "1,2,3,4"), 1, b"one example picture"),
        (("search", "0:red"), 1, b"The weight 0 is not from 0.01 to 100"),
        (("search", "red + ./none.jpg"), 1, b"no picture './none.jpg'"),
        (("nonsense",), 2, b"No such command"),
    ],
)
def test_faults_are_told_in_one_line_with_the_right_exit_code(
    cli: Cli, words: tuple[str, ...], code: int, says: bytes
) -> None:
    done = cli(*words)
    assert done.returncode == code
    assert says in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_example_that_is_no_picture_is_named(cli: Cli, photos: Path) -> None:
    cli("index", photos)
    (cli.folder / "text.jpg").write_text("hello\n")
    done = cli("search", "--image", "text.jpg")
    assert done.returncode == 1
    assert b"text.jpg cannot be used as an example" in done.stderr
    assert cli("similar", "nowhere.jpg").returncode == 1


def test_an_encoder_that_the_index_does_not_have_is_a_named_error(cli: Cli, photos: Path) -> None:
    cli("index", photos)
    done = cli("search", "red", "--encoder", "mini")
    assert done.returncode == 1
    assert b"was not made with the encoder mini" in done.stderr


def test_ctrl_c_keeps_what_is_done_and_exits_130(
    cli: Cli, tmp_path: Path, png: Callable[..., Path]
) -> None:
    for number in range(150):
        png(tmp_path / "many" / f"{number:03d}.png", (number, number // 2, 0), (1500, 1500))
    child = subprocess.Popen(
        [EMBEDSEARCH, "index", "many", "--json", "--workers", "1"],
        env=cli.environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    while not (tmp_path / "index/catalogue.db").exists() and child.poll() is None:
        time.sleep(0.01)
    time.sleep(0.7)
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=60)
    report = json.loads(output)
    assert child.returncode == 130
    assert report["interrupted"]
    assert report["new"] < 150
    rest = cli.json("index", "many")
    assert rest["unchanged"] == report["new"]
    assert rest["new"] + rest["unchanged"] == 150


def test_two_writers_do_not_meet_but_readers_go_on(cli: Cli, photos: Path) -> None:
    cli("index", photos)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(cli.folder / "index")], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        done = cli("index", photos)
        assert done.returncode == 1
        assert f"process {holder.pid}".encode() in done.stderr
        assert len(cli.hits("search", "red")) == 3
    finally:
        holder.kill()
        holder.communicate()
    assert cli("index", photos).returncode == 0


HOLD = """
import sys, time
from pathlib import Path
from embedsearch.store.lock import index_lock
with index_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_an_index_that_is_moved_still_answers(cli: Cli, photos: Path) -> None:
    cli("index", photos)
    (cli.folder / "index").rename(cli.folder / "elsewhere")
    cli.environment["EMBEDSEARCH_INDEX"] = str(cli.folder / "elsewhere")
    assert name(cli.hits("search", "red")[0]) == "r.png"
    assert cli.json("index", photos)["unchanged"] == 3


def test_every_command_has_an_example_in_its_help(cli: Cli) -> None:
    from embedsearch.commands.app import app

    for command in app.registered_commands:
        assert command.callback is not None
        assert "Example" in (command.callback.__doc__ or ""), command.callback.__name__


def test_duplicates_are_a_table_a_page_a_script_or_json(cli: Cli, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    photograph().save(photos / "a.jpg", quality=95)
    photograph().resize((320, 213)).save(photos / "half.jpg", quality=95)
    assert cli("index", photos).returncode == 0
    done = cli("duplicates", "--html", "twice.html", "--script", "review.sh")
    assert done.returncode == 0, done.stderr.decode()
    assert "half.jpg" in done.stdout.decode()
    assert "1 group; 1 of 2 pictures are not the best" in done.stderr.decode()
    page = (tmp_path / "twice.html").read_text("utf-8")
    assert re.findall(r"<li dir=\"auto\">(.*?)</li>", page)[:2] == ["best", "640 × 427"]
    assert "bits differ" in page and "320 × 213" in page
    assert f'data-index="{(tmp_path / "index").as_uri()}"' in page
    assert "# rm -- " in (tmp_path / "review.sh").read_text("ascii")
    (group,) = cli.json("duplicates")["groups"]
    assert (group["kind"], group["best"]) == ("near", str(photos / "a.jpg"))
    wrong = cli("duplicates", "--open")
    assert wrong.returncode == 2 and "--html FILE" in wrong.stderr.decode()
