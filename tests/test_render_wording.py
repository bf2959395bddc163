"""Numbers are written as people write them."""

from __future__ import annotations

import pytest

from embedsearch.render.wording import counted


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 pictures"), (1, "1 picture"), (2, "2 pictures"), (15_182, "15,182 pictures")],
)
def test_only_one_is_singular_and_thousands_are_parted(number: int, said: str) -> None:
    assert counted(number, "picture") == said
