from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from embedsearch.training.losses.distillation import (
    affinity,
    angles,
    cosine,
    distances,
    maps,
    neighbours,
    relations,
    soft_targets,
)


def unit(*rows: tuple[float, ...]) -> torch.Tensor:
    return normalize(torch.tensor(rows, dtype=torch.float32), dim=1)


def drawn(seed: int, rows: int = 7, dim: int = 5) -> torch.Tensor:
    made = torch.randn((rows, dim), generator=torch.Generator().manual_seed(seed))
    return normalize(made, dim=1)


def near(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return neighbours(student, teacher, 0.2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 9))
def test_every_loss_is_zero_where_the_student_is_the_teacher(seed: int, rows: int) -> None:
    one, other = drawn(seed, rows), drawn(seed + 1, rows)
    for loss in (cosine, distances, angles, relations, near):
        assert loss(one, one).item() == pytest.approx(0, abs=1e-5)
    assert soft_targets(20 * one, 20 * one, 2.0).item() == pytest.approx(0, abs=1e-5)
    assert affinity(one, other, one, other, 0.05).item() == pytest.approx(0, abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_relations_do_not_depend_on_how_the_space_is_turned_or_how_wide_it_is(seed: int) -> None:
    rows = drawn(seed)
    turn = torch.linalg.qr(torch.randn((9, 9), generator=torch.Generator().manual_seed(seed)))[0]
    wider = torch.cat([rows, torch.zeros(7, 4)], dim=1) @ turn
    assert relations(wider, rows).item() == pytest.approx(0, abs=1e-5)


def test_maps_are_apart_by_a_share_of_what_the_teacher_gives_photo_by_photo() -> None:
    loud, quiet = torch.full((1, 2, 3, 3), 10.0), torch.full((1, 2, 3, 3), 0.1)
    teacher = torch.cat([loud, quiet])
    assert maps(teacher, teacher).item() == 0
    assert maps(0 * teacher, teacher).item() == pytest.approx(1)
    assert maps(torch.cat([loud, 0.5 * quiet]), teacher).item() == pytest.approx(0.25 / 2)


def test_cosine_is_one_at_a_right_angle_and_two_at_opposites() -> None:
    north, east = unit((0, 1)), unit((1, 0))
    assert cosine(north, east).item() == pytest.approx(1)
    assert cosine(north, -north).item() == pytest.approx(2)


def test_soft_targets_are_the_divergence_of_softened_shares_times_the_squared_temperature() -> None:
    teacher, student = torch.tensor([[2 * math.log(3), 0.0]]), torch.tensor([[0.0, 0.0]])
    # At temperature 2 the teacher says 3/4 and 1/4, the student 1/2 and 1/2.
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert soft_targets(student, teacher, 2.0).item() == pytest.approx(expected)


def test_distances_are_compared_after_each_side_is_divided_by_its_mean() -> None:
    # Sides of 1, 1, 2 (mean 4/3) beside sides of 1, 1, 1.
    line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    triangle = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
    expected = (2 * 0.5 * (3 / 4 - 1) ** 2 + 0.5 * (6 / 4 - 1) ** 2) / 3
    assert distances(line, triangle).item() == pytest.approx(expected)
    assert distances(5 * line, triangle).item() == pytest.approx(expected)


def test_angles_of_a_line_and_of_a_triangle_differ_as_computed_by_hand() -> None:
    line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    triangle = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
    # Cosines at the ends of the line are 1, in its middle -1; in the triangle all are 1/2. Each
    # is there twice among 27 entries; those of a point with itself agree. Huber: 1/2 d² up to
    # d = 1, then d - 1/2.
    expected = (4 * 0.5 * 0.5**2 + 2 * (1.5 - 0.5)) / 27
    assert angles(line, triangle).item() == pytest.approx(expected, abs=1e-6)


def test_affinity_is_the_divergence_of_the_batchs_softmax_both_ways() -> None:
    square = unit((1, 0), (0, 1))
    found = affinity(square, square.flip(0), square, square, 1.0)
    right, wrong = math.e / (math.e + 1), 1 / (math.e + 1)
    expected = right * math.log(right / wrong) + wrong * math.log(wrong / right)
    assert found.item() == pytest.approx(expected)


def test_neighbours_are_the_divergence_of_the_softmax_over_the_others() -> None:
    mine, theirs = unit((1, 0), (1, 0), (0, 1)), unit((1, 0), (0, 1), (1, 0))
    # Cosines to the others, row by row: mine (1, 0), (1, 0), (0, 0), theirs (0, 1), (0, 0), (1, 0).
    more, less = math.e / (math.e + 1), 1 / (math.e + 1)
    swapped = more * math.log(more / less) + less * math.log(less / more)
    even = 0.5 * math.log(0.5 / more) + 0.5 * math.log(0.5 / less)
    told = more * math.log(2 * more) + less * math.log(2 * less)
    assert neighbours(mine, theirs, 1.0).item() == pytest.approx((swapped + even + told) / 3)
    assert neighbours(mine[:1], theirs[:1], 1.0).item() == 0


@pytest.mark.parametrize("loss", [distances, angles, relations])
def test_equal_rows_leave_gradients_finite(loss: object) -> None:
    rows = unit((1, 0), (1, 0), (0, 1)).requires_grad_()
    loss(rows, drawn(0, 3)).backward()  # type: ignore[operator]
    assert rows.grad is not None and rows.grad.isfinite().all()


@pytest.mark.parametrize("loss", [cosine, distances, angles, relations, near])
def test_following_the_gradient_makes_the_student_agree(loss: object) -> None:
    teacher = drawn(1, 12)
    student = drawn(2, 12).requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.05)
    seen = []
    for _ in range(60):
        found = loss(normalize(student, dim=1), teacher)  # type: ignore[operator]
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        seen.append(found.item())
    assert seen[-1] < 0.2 * seen[0]
