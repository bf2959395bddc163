"""docs/mixtures.md: its tables belong to the commands above them, and name the demo's pictures."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from embedsearch.commands.demo_pictures import make_pictures

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_mixtures", DOCS / "generate_mixtures.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_ranking_on_the_page_has_its_commands_as_columns_and_real_pictures(
    generator: ModuleType, tmp_path: Path
) -> None:
    names = {str(path.relative_to(tmp_path)) for path in make_pictures(tmp_path)}
    page = (DOCS / "mixtures.md").read_text("utf-8")
    blocks = list(generator.BLOCK.finditer(page))
    assert len(blocks) == 5
    for block in blocks:
        table = [line.strip("| ").split(" | ") for line in block[0].split("```")[2].split("\n")[2:]]
        head, _, *rows, end = table
        assert end == [""]
        assert head == [f"`{generator.heading(line)}`" for line in block[1].splitlines()]
        assert [row[0] for row in rows] == ["1", "2", "3", "4", "5"], "run: make docs"
        for row in rows:
            assert len(row) == 1 + len(head)
            for cell in row[1:]:
                name, score = cell.rsplit(" ", 1)
                assert name in names
                assert re.fullmatch(r"-?[01]\.\d\d", score)


def test_a_new_table_takes_the_place_of_the_old_one(generator: ModuleType) -> None:
    commands = "```sh\nembedsearch search a -k 5 --index demo/index\n```\n"
    text = f"before\n\n{commands}\nafter\n"
    once = generator.BLOCK.sub(lambda found: f"{commands}\n| old |\n", text)
    assert once == f"before\n\n{commands}\n| old |\n\nafter\n"
    twice = generator.BLOCK.sub(lambda found: f"{commands}\n| new |\n", once)
    assert twice == once.replace("old", "new")


def test_a_heading_is_what_differs_between_commands(generator: ModuleType) -> None:
    line = 'embedsearch search "a - ./demo/photos/animals/cat.jpg" -k 5 --index demo/index'
    assert generator.heading(line) == '"a - ./cat.jpg"'
