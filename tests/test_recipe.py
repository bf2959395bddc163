"""Recipes: what is written is read again, and what does not fit is named."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedsearch.commands.task_training import TASKS
from embedsearch.errors import DataError
from embedsearch.training.recipe import EncoderOptimisation, Freeze, Loss, Model, Recipe
from embedsearch.training.recipe_files import (
    from_told,
    overridden,
    read_recipe,
    to_toml,
    weighted,
)

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=12)


@given(
    st.builds(
        Recipe,
        model=st.builds(Model, start=TEXTS, size=st.none() | st.integers(1, 999)),
        loss=st.builds(
            Loss,
            losses=st.lists(TEXTS).map(tuple),
            options=st.dictionaries(TEXTS, st.floats(allow_nan=False)),
        ),
        freeze=st.builds(Freeze, until=st.none() | TEXTS, text=st.booleans()),
        optimisation=st.builds(
            EncoderOptimisation, rate=st.floats(0, 1), epochs=st.integers(0, 99)
        ),
    )
)
def test_a_recipe_that_is_written_is_read_again_the_same(recipe: Recipe) -> None:
    assert from_told(Recipe, tomllib.loads(to_toml(recipe)), "here") == recipe


def test_what_a_file_does_not_name_is_as_usual(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('wise_ft = 0.5\n[optimisation]\nrate = 1\n[data]\npaths = ["a", "b"]\n')
    recipe = read_recipe(Recipe, path)
    assert recipe.optimisation == EncoderOptimisation(rate=1.0)
    assert (recipe.wise_ft, recipe.data.paths) == ("0.5", ("a", "b"))


def test_single_values_are_changed_as_toml_writes_them_or_as_bare_words() -> None:
    changed = overridden(
        Recipe(),
        [
            "freeze.until=blocks.10",
            "optimisation.rate=1e-3",
            'loss.losses=["info-nce", "0.5:focal"]',
            "loss.options.gamma=1.5",
            "model.scratch=true",
            "wise_ft=auto",
        ],
    )
    assert changed.freeze.until == "blocks.10"
    assert changed.optimisation.rate == 0.001
    assert changed.loss == Loss(("info-nce", "0.5:focal"), {"gamma": 1.5})
    assert changed.model.scratch is True and changed.wise_ft == "auto"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("optimisation.epoch=3", "no 'epoch'; did you mean 'epochs'"),
        ("modle.dim=3", "no 'modle'; did you mean 'model'"),
        ("model.dim=wide", "'wide' is no int"),
        ("model.dim=true", "True is no int"),
        ("model=3", "model is no single value"),
        ("wise_ft.x=3", "is no single value"),
        ("rate", "write section.key=value"),
        ("model.scratch=1", "1 is no bool"),
    ],
)
def test_a_setting_that_does_not_fit_says_why(setting: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        overridden(Recipe(), [setting])


def test_a_file_that_is_no_recipe_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    for content, said in (
        ("[optimisation", "cannot be read as a recipe"),
        ("[optimisation]\nepoks = 3\n", "recipe.toml, optimisation: there is no 'epoks'"),
        ("optimisation = 3\n", "is a section"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=said):
            read_recipe(Recipe, path)


def test_names_may_have_weights() -> None:
    assert weighted(["info-nce", "0.3:views"]) == {"info-nce": 1.0, "views": 0.3}
    for wrong in ("x:views", "-1:views", "0.3:"):
        with pytest.raises(DataError, match="write NAME or WEIGHT:NAME"):
            weighted([wrong])


@pytest.mark.parametrize("task", ["detect", "segment", "ocr"])
def test_what_only_encoders_have_a_place_for_is_refused_elsewhere(task: str) -> None:
    usual = import_module(TASKS[task]).Recipe()
    assert overridden(usual, ["optimisation.batch=2"]).optimisation.batch == 2
    with pytest.raises(DataError, match="there is no 'pieces'"):
        overridden(usual, ["optimisation.pieces=2"])
