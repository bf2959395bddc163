"""What may be imported when: a query must not pay for what it does not use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embedsearch.commands.app import COMMANDS

HEAVY = {
    "torch",
    "torchvision",
    "open_clip",
    "timm",
    "onnxruntime",
    "sqlite_utils",
    "sklearn",
    "faiss",
    "openTSNE",
    "umap",
}

RUN = """
import json, sys
from embedsearch.commands.app import app
try:
    app(sys.argv[1:], standalone_mode=False)
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def imported_by(*words: str | Path) -> set[str]:
    """Top-level names of the modules that a fresh process has loaded after a command."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, words)], capture_output=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def index(tmp_path: Path, png: Callable[..., Path]) -> Path:
    for name, colour in (("red", "red"), ("blue", "blue")):
        png(tmp_path / "photos" / f"{name}.png", colour)
    subprocess.run(
        [Path(sys.executable).with_name("embedsearch"), "index", tmp_path / "photos"],
        env=os.environ | {"EMBEDSEARCH_INDEX": str(tmp_path / "index")},
        check=True,
        capture_output=True,
    )
    return tmp_path / "index"


def test_a_text_query_in_the_shell_imports_no_heavy_library(index: Path) -> None:
    loaded = imported_by("search", "a red picture", "--json", "--index", index)
    assert loaded & (HEAVY | {"rich", "PIL", "jinja2", "pydantic"}) == set()
    assert {"numpy", "tokenizers", "typer"} <= loaded


def test_a_mixture_of_words_costs_no_more_and_one_with_a_picture_its_image_tower(
    index: Path,
) -> None:
    words = imported_by("search", "2:red - blue", "--not", "green", "--json", "--index", index)
    assert words == imported_by("search", "red", "--json", "--index", index)
    picture = f"red + {index.parent / 'photos/red.png'}"
    loaded = imported_by("search", picture, "--json", "--index", index)
    assert loaded & (HEAVY | {"PIL"}) == {"onnxruntime", "PIL"}
    literal = imported_by("search", picture, "--literal", "--json", "--index", index)
    assert literal & (HEAVY | {"PIL"}) == set()


def test_a_query_of_fewer_dimensions_costs_no_more(index: Path) -> None:
    photos = index.parent / "photos"
    imported_by("index", photos, "--encoder", "mini?dim=2", "--index", index)
    loaded = imported_by("search", "red", "--encoder", "mini?dim=2", "--json", "--index", index)
    assert loaded & (HEAVY | {"rich", "PIL", "jinja2", "pydantic"}) == set()


def test_a_table_costs_rich_and_nothing_else(index: Path) -> None:
    loaded = imported_by("search", "a red picture", "--index", index)
    assert loaded & (HEAVY | {"PIL", "jinja2"}) == set()
    assert "rich" in loaded


def test_pictures_like_one_that_is_indexed_are_found_without_the_image_tower(index: Path) -> None:
    picture = index.parent / "photos/red.png"
    loaded = imported_by("similar", picture, "--json", "--index", index)
    assert loaded & (HEAVY | {"PIL", "tokenizers"}) == set()


def test_an_example_from_elsewhere_needs_the_image_tower_but_not_torch(
    index: Path, png: Callable[..., Path], tmp_path: Path
) -> None:
    loaded = imported_by(
        "search", "--image", png(tmp_path / "new.png", "green"), "--json", "--index", index
    )
    assert loaded & HEAVY == {"onnxruntime"}


def test_a_run_that_finds_nothing_new_imports_neither_encoder_nor_faiss(index: Path) -> None:
    loaded = imported_by("index", index.parent / "photos", "--json", "--index", index)
    assert loaded & (HEAVY | {"rich"}) == set()


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, embedsearch; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert {name.partition(".")[0] for name in done.stdout.split()} & (HEAVY | {"numpy"}) == set()
    assert "torch" not in done.stdout


def test_help_of_every_command_imports_nothing_heavy() -> None:
    loaded = imported_by("index", "--help")
    assert loaded & (HEAVY | {"numpy", "rich"}) == set()


def test_a_command_is_not_kept_waiting_by_the_options_of_others(index: Path) -> None:
    """Typer works out the options of every command that it is given."""
    run = (
        "import sys; from embedsearch.commands.app import main\n"
        "try: main()\n"
        "finally: print([n for n in sys.modules if n.startswith('embedsearch.commands.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", run, "search", "red", "--json", "--index", str(index)],
        capture_output=True,
        check=True,
        text=True,
    )
    loaded = done.stdout.splitlines()[-1]
    assert "embedsearch.commands.asking" in loaded
    for other in ("training", "evaluate", "indexing", "demo"):
        assert f"'embedsearch.commands.{other}'" not in loaded


@pytest.mark.parametrize("asked", [["--help"], ["serch", "x"]])
def test_all_commands_are_known_where_none_is_named(asked: list[str]) -> None:
    command = [sys.executable, "-m", "embedsearch", *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked == ["--help"]:
        lines = done.stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
        listed = [line.split()[0] for line in lines]
        assert listed == list(COMMANDS)
    else:
        assert done.returncode == 2
        assert "Did you mean 'search'?" in done.stderr
