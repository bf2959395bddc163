"""The documentation is true: its commands run, its links lead somewhere, its reference is fresh."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer

from embedsearch.commands.app import app
from embedsearch.commands.demo_pictures import make_pictures

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "indexes" / "README.md"])


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_commands", ROOT / "docs" / "generate_commands.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_reference_is_what_the_commands_say(generator: ModuleType) -> None:
    written = (ROOT / "docs" / "commands.md").read_text("utf-8")
    assert written == generator.reference(app, "embedsearch"), "run: make docs"


def test_the_reference_has_every_command_and_not_the_hidden_ones(generator: ModuleType) -> None:
    small = typer.Typer(rich_markup_mode=None)
    inner = typer.Typer(rich_markup_mode=None)

    @small.command()
    def greet(name: str, loud: bool = False) -> None:
        """Greet someone."""

    @small.command(hidden=True)
    def secret() -> None:
        """Not for users."""

    @inner.command("list")
    def list_all() -> None:
        """List all."""

    @inner.command("drop")
    def drop_all() -> None:
        """Drop all."""

    small.add_typer(inner, name="people")
    text = generator.reference(small, "tool")
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert titles == ["tool", "tool greet", "tool people", "tool people list", "tool people drop"]
    assert re.findall(r"^- \[.*\]\(#(.*)\)$", text, re.MULTILINE) == [
        title.replace(" ", "-") for title in titles
    ]
    assert "Usage: tool greet [OPTIONS]" in text
    assert "--loud" in text
    assert "Not for users" not in text


@pytest.mark.parametrize("columns", ["40", "200"])
def test_the_reference_does_not_depend_on_the_terminal(
    generator: ModuleType, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    usual = generator.reference(app, "embedsearch")
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert generator.reference(app, "embedsearch") == usual
    assert "\x1b" not in usual
    assert max(map(len, usual.splitlines())) <= 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_index_of_the_documentation_names_every_page() -> None:
    named = re.findall(r"\]\(([a-z-]+\.md)\)", (ROOT / "docs" / "README.md").read_text("utf-8"))
    written = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert sorted(named) == sorted(written)


@pytest.fixture
def photographer(tmp_path: Path, colour_package: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with ``photo.jpg``, an index of pictures, and no browser to open."""
    work = tmp_path / "work"
    (work / "indexes").mkdir(parents=True)
    pictures = make_pictures(tmp_path / "Pictures")
    shutil.copy(next(p for p in pictures if p.name == "cat.jpg"), work / "photo.jpg")
    monkeypatch.setenv("EMBEDSEARCH_ENCODER", "colour")
    monkeypatch.setenv("BROWSER", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    subprocess.run(["embedsearch", "index", "../Pictures"], cwd=work, check=True)
    return work


def test_the_commands_of_the_gallery_page_run_and_write_what_they_name(photographer: Path) -> None:
    text = (ROOT / "docs" / "html-gallery.md").read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        subprocess.run(["bash", "-euc", block], cwd=photographer, check=True)
    coffee = (photographer / "coffee.html").read_text("utf-8")
    assert coffee.count('class="card"') == 50
    assert coffee.count("data:image/jpeg;base64,") == 50
    assert (photographer / "like-photo.html").read_text("utf-8").count('class="card"') == 10
