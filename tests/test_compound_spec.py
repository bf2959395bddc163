"""The grammar of ``SPEC?dim=N``, ``A+B`` and ``(A+B)?join=mean``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedsearch.encoders.compound_spec import (
    Joined,
    Reduced,
    Single,
    Tree,
    joined_spec,
    parse,
    reduced_spec,
)
from embedsearch.errors import EncoderError

WHOLE = ("mini", "timm:x", "timm:x@/a+b/c.pt", "/home/c++/enc", "vision:y")


def tree(spec: str) -> Tree:
    return parse(spec, WHOLE.__contains__)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        # Nothing of ours in it: passed on as it is.
        ("mini", Single("mini")),
        ("timm:x?pool=gem&layer=a.2", Single("timm:x?pool=gem&layer=a.2")),
        ("nothing", Single("nothing")),
        ("", Single("")),
        ("what?", Single("what?")),
        # Fewer dimensions; the encoder's own options stay with it.
        ("mini?dim=64", Reduced(Single("mini"), 64)),
        ("timm:x?pool=gem&dim=8", Reduced(Single("timm:x?pool=gem"), 8)),
        ("timm:x?dim=8&pool=gem", Reduced(Single("timm:x?pool=gem"), 8)),
        ("timm:x@/w.pt?dim=8", Reduced(Single("timm:x@/w.pt"), 8)),
        ("(mini?dim=64)?dim=32", Reduced(Reduced(Single("mini"), 64), 32)),
        # Several encoders.
        ("mini+timm:x", Joined((Single("mini"), Single("timm:x")), (1, 1), "concat")),
        (
            "mini?weight=2+timm:x?pool=gem&weight=.5",
            Joined((Single("mini"), Single("timm:x?pool=gem")), (2, 0.5), "concat"),
        ),
        (
            "mini?dim=64+timm:x",
            Joined((Reduced(Single("mini"), 64), Single("timm:x")), (1, 1), "concat"),
        ),
        (
            "(mini+timm:x)?dim=8",
            Reduced(Joined((Single("mini"), Single("timm:x")), (1, 1), "concat"), 8),
        ),
        ("(mini+mini)?join=mean", Joined((Single("mini"), Single("mini")), (1, 1), "mean")),
        (
            "(mini?weight=2+timm:x)?join=weights",
            Joined((Single("mini"), Single("timm:x")), (2, 1), "weights"),
        ),
        (
            "(mini+timm:x)?weight=3+vision:y",
            Joined(
                (Joined((Single("mini"), Single("timm:x")), (1, 1), "concat"), Single("vision:y")),
                (3, 1),
                "concat",
            ),
        ),
        # A "+" that belongs to a path.
        ("/home/c++/enc", Single("/home/c++/enc")),
        (
            "timm:x@/a+b/c.pt+/home/c++/enc?dim=3",
            Joined(
                (Single("timm:x@/a+b/c.pt"), Reduced(Single("/home/c++/enc"), 3)),
                (1, 1),
                "concat",
            ),
        ),
        # A part that names nothing is for whoever loads it to say so.
        ("mini+nothing", Joined((Single("mini"), Single("nothing")), (1, 1), "concat")),
    ],
)
def test_a_spec_is_taken_apart(spec: str, expected: Tree) -> None:
    assert tree(spec) == expected


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("mini?dim=0", "dim=0 is no number of dimensions"),
        ("mini?dim=-3", "dim=-3 is no number"),
        ("mini?dim=many", "dim=many is no number"),
        ("mini?dim=", "dim= is no number"),
        ("mini?dim=8&dim=9", "dim= is there twice"),
        ("mini?weight=2", "belongs to one of several encoders"),
        ("mini?weight=0+timm:x", "weight=0 is no number above 0"),
        ("mini?weight=nan+timm:x", "weight=nan is no number above 0"),
        ("mini?weight=inf+timm:x", "weight=inf is no number above 0"),
        ("(mini+mini?weight=2", "a bracket is not closed"),
        ("(mini", "a bracket is not closed"),
        ("(mini)?join=mean", "join= belongs to several encoders"),
        ("(mini+timm:x)?join=sum", "join=sum is not understood; join=mean is"),
        ("(mini+timm:x)?pool=gem", "takes dim=, weight= and join=, not pool=gem"),
    ],
)
def test_what_is_not_understood_is_named_with_the_spec(spec: str, said: str) -> None:
    with pytest.raises(EncoderError) as caught:
        tree(spec)
    assert said in str(caught.value)
    assert repr(spec) in str(caught.value)


def written(made: Tree) -> str:
    """The spec that the encoders write for themselves."""
    if isinstance(made, Single):
        return made.spec
    if isinstance(made, Reduced):
        return reduced_spec(written(made.base), made.dim, wrap=not isinstance(made.base, Single))
    parts = [
        (written(part), isinstance(part, Joined) and part.way == "concat") for part in made.parts
    ]
    return joined_spec(parts, made.weights, made.way)


def joins(parts: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    weights = st.sampled_from((1.0, 2.0, 0.25))
    return st.builds(
        lambda some, way: Joined(tuple(p for p, _ in some), tuple(w for _, w in some), way),
        st.lists(st.tuples(parts, weights), min_size=2, max_size=3),
        st.sampled_from(("concat", "mean", "weights")),
    )


TREES = st.recursive(
    st.sampled_from([Single(spec) for spec in (*WHOLE, "timm:x?pool=gem")]),
    lambda inner: joins(inner) | st.builds(Reduced, inner, st.integers(1, 4096)),
    max_leaves=6,
)


@given(TREES)
def test_what_an_encoder_writes_for_itself_is_read_back_as_the_same(made: Tree) -> None:
    assert tree(written(made)) == made
