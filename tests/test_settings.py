"""What the environment says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from embedsearch import settings
from embedsearch.errors import EmbedSearchError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder and home, and no variable of ours."""
    for name in (
        "EMBEDSEARCH_INDEX",
        "EMBEDSEARCH_ENCODER",
        "EMBEDSEARCH_WORKERS",
        "XDG_DATA_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_index_is_where_it_is_said_to_be(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the design: the option, the variable, ./indexes, the user's data folder."""
    assert settings.index_folder() == elsewhere / "home/.local/share/embedsearch/default"
    (elsewhere / "indexes").mkdir()
    assert settings.index_folder() == Path("indexes/default")
    (elsewhere / "indexes" / "default").mkdir()
    assert settings.index_folder() == Path("indexes/default")
    monkeypatch.setenv("EMBEDSEARCH_INDEX", "/from/environment")
    assert settings.index_folder() == Path("/from/environment")
    assert settings.index_folder(Path("given")) == Path("given")


def test_a_file_called_indexes_holds_no_index(elsewhere: Path) -> None:
    (elsewhere / "indexes").touch()
    assert settings.index_folder() == elsewhere / "home/.local/share/embedsearch/default"


def test_the_data_folder_may_lie_elsewhere(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(elsewhere / "data"))
    assert settings.index_folder() == elsewhere / "data/embedsearch/default"


def test_a_tilde_is_the_home_folder(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.index_folder(Path("~/photos")) == elsewhere / "home/photos"
    monkeypatch.setenv("EMBEDSEARCH_INDEX", "~/photos")
    assert settings.index_folder() == elsewhere / "home/photos"
    assert settings.index_folder(Path("~nobody-of-this-name/x")) == Path("~nobody-of-this-name/x")


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EMBEDSEARCH_INDEX", "EMBEDSEARCH_ENCODER", "EMBEDSEARCH_WORKERS"):
        monkeypatch.setenv(name, "")
    assert settings.index_folder().name == "default"
    assert settings.default_encoder() == "mini"
    assert settings.workers() == len(os.sched_getaffinity(0))


def test_the_encoder_is_the_one_in_the_box_unless_the_environment_names_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert settings.default_encoder() == "mini"
    monkeypatch.setenv("EMBEDSEARCH_ENCODER", "openclip:RN50/openai")
    assert settings.default_encoder() == "openclip:RN50/openai"


def test_there_are_as_many_workers_as_cores_that_this_process_may_use() -> None:
    assert settings.workers() == len(os.sched_getaffinity(0)) >= 1


@pytest.mark.parametrize(("said", "workers"), [("3", 3), (" 4 ", 4), ("0", 1), ("-2", 1)])
def test_the_environment_can_say_how_many_workers(
    said: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDSEARCH_WORKERS", said)
    assert settings.workers() == workers
    assert settings.workers(7) == 7


@pytest.mark.parametrize(("given", "workers"), [(1, 1), (16, 16), (0, 1), (-1, 1)])
def test_at_least_one_worker_works(given: int, workers: int) -> None:
    assert settings.workers(given) == workers


@pytest.mark.parametrize("said", ["many", "2.5", "2 3", "\u00bd"])
def test_a_number_of_workers_that_is_none_is_an_error_that_says_what_to_write(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDSEARCH_WORKERS", said)
    with pytest.raises(EmbedSearchError, match=r"EMBEDSEARCH_WORKERS is .*whole number"):
        settings.workers()
