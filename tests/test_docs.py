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

import clips
import numpy as np
import pytest
import typer
from PIL import Image

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


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with ``Pictures`` that are indexed, and a working folder with what the pages name."""
    home = tmp_path_factory.mktemp("home")
    work = home / "work"
    pictures = make_pictures(home / "Pictures")
    shutil.copytree(home / "Pictures", work / "photos")
    (work / "indexes").mkdir()
    (work / "more-photos").mkdir()
    by_name = {path.name: path for path in pictures}
    shutil.copy(by_name["cat.jpg"], work / "photo.jpg")
    shutil.copy(by_name["coffee.jpg"], work / "photos" / "coffee.jpg")
    shutil.copy(by_name["rocket.jpg"], work / "more-photos")
    write_ground_truth(work, by_name["cat.jpg"], by_name["coffee.jpg"])
    (work / "ocr").mkdir()
    shutil.copy(by_name["exit 24.jpg"], work / "ocr" / "sign.jpg")
    (work / "ocr/annotations.jsonl").write_text(
        '{"file": "sign.jpg", "kind": "sign", "items": '
        '[{"text": "EXIT 24", "quad": null, "ignore": false}]}\n'
    )
    in_shell(work, "embedsearch index ~/Pictures")
    return work


def write_ground_truth(work: Path, cat: Path, coffee: Path) -> None:
    """Two pictures, in the form of each task of ``evaluate``."""
    write_films(work, cat)
    for folder in ("captions", "category", "copies", "products"):
        (work / folder).mkdir()
        shutil.copy(cat, work / folder / "cat.jpg")
        shutil.copy(coffee, work / folder / "coffee.jpg")
    (work / "captions/captions.jsonl").write_text(
        '{"file": "cat.jpg", "captions": ["a cat"]}\n'
        '{"file": "coffee.jpg", "captions": ["a cup of coffee", "coffee"]}\n'
    )
    (work / "category/meta.csv").write_text(
        "file,set,label\ncat.jpg,things,cat\ncat.jpg,things,cat\ncoffee.jpg,things,coffee\n"
    )
    (work / "copies/meta.csv").write_text(
        "file,original_id,kind,transform\n"
        "cat.jpg,1,original,none\ncoffee.jpg,2,original,none\ncat.jpg,1,copy,same\n"
    )
    (work / "products/photos.csv").write_text("file,class,coarse\ncat.jpg,cat,pet\n")
    (work / "products/classes.jsonl").write_text(
        '{"cls": "cat", "coarse": "pet", "iconic": "cat.jpg", "description": "It purrs."}\n'
    )


def write_films(work: Path, cat: Path) -> None:
    """A film of a cat that passes by, and the same as a clip with ground truth."""
    photo = Image.open(cat).convert("RGB")
    frames = []
    for step in range(8):
        frame = Image.new("RGB", (320, 240), "grey")
        frame.paste(photo.resize((160, 160)), (10 * step, 40))
        frames.append(np.asarray(frame))
    (work / "films").mkdir()
    clips.write_clip(work / "films" / "cat.mp4", frames)
    clips.write_frames(work / "clip", frames)
    rows = [f"{number},1,cat,{10 * number - 10},40,160,160,1" for number in range(1, 9)]
    (work / "clip" / "gt.csv").write_text(
        "\n".join(["frame,id,label,x,y,w,h,visibility", *rows, ""])
    )


def in_shell(work: Path, script: str) -> None:
    """Run lines as a reader of the page would, with the encoder in the box."""
    environment = os.environ | {
        "HOME": str(work.parent),
        "BROWSER": "true",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_every_python_example_of_a_page_runs(page: Path, desk: Path) -> None:
    for block in blocks(page, "sh"):
        in_shell(desk, block)
    for block in blocks(page, "python"):
        in_shell(desk, f"python - <<'END'\n{block}\nEND")


def test_the_commands_of_the_gallery_page_write_what_they_name(desk: Path) -> None:
    for block in blocks(ROOT / "docs" / "html-gallery.md", "sh"):
        in_shell(desk, block)
    coffee = (desk / "coffee.html").read_text("utf-8")
    assert coffee.count('class="card"') == 50
    assert coffee.count("data:image/jpeg;base64,") == 50
    assert (desk / "like-photo.html").read_text("utf-8").count('class="card"') == 10
