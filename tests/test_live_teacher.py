from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import small_distillation
import torch
from colour_encoder import ColourEncoder
from PIL import Image
from small_distillation import DIM, draw_teacher
from small_training import SIZE

from embedsearch.encoders import registry
from embedsearch.encoders.base import Embeddings, Encoder, Pixels
from embedsearch.errors import DataError
from embedsearch.training.augment.policies import Mix
from embedsearch.training.distill.live_teacher import LiveTeacher
from embedsearch.training.distill.run import Distiller
from embedsearch.training.looks.batches import Batch
from embedsearch.training.recipe import Distillation

CPU = torch.device("cpu")
EACH = 10
"""Photos of a batch, more than a teacher is given at once."""


class Watching:
    """An encoder that keeps what it is shown."""

    def __init__(self, teacher: Encoder) -> None:
        self.info, self.encode_texts = teacher.info, teacher.encode_texts
        self._teacher, self.shown = teacher, list[Pixels]()

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        self.shown += images
        return self._teacher.encode_images(images)


def batch(step: int = 0, side: int = SIZE) -> Batch:
    drawn = np.random.default_rng(7).integers(256, size=(EACH, 4, 4, 3), dtype=np.uint8)
    grown = drawn.repeat(side // 4, axis=1).repeat(side // 4, axis=2)
    numbers = torch.arange(EACH)
    return Batch(
        step,
        torch.from_numpy(grown),
        None,
        [],
        numbers,
        torch.ones(EACH),
        numbers,
        np.zeros(EACH, np.int64),
    )


def rows_of(images: torch.Tensor) -> Embeddings:
    return ColourEncoder().encode_images(list(images.numpy()))


def test_it_is_asked_about_the_looks_that_the_student_has() -> None:
    given = batch()
    seen, said = LiveTeacher(ColourEncoder(), size=SIZE).looked(given, CPU)
    assert torch.equal(seen.images, given.images) and torch.equal(seen.labels, given.labels)
    np.testing.assert_allclose(said, rows_of(given.images), atol=1e-6)


@pytest.mark.parametrize("method", ["mixup", "cutmix"])
def test_it_is_asked_about_mixed_looks_which_have_no_label(method: str) -> None:
    given = batch()
    mixing = LiveTeacher(ColourEncoder(), size=SIZE, mixes=(Mix(method, 50.0, 1.0),))
    seen, said = mixing.looked(given, CPU)
    assert seen.images.dtype == torch.uint8 and seen.images.shape == given.images.shape
    changed = (seen.images != given.images).flatten(1).any(1)
    assert changed.all()
    assert (seen.labels == -1).all() and torch.equal(seen.groups, given.groups)
    np.testing.assert_allclose(said, rows_of(seen.images), atol=1e-6)
    # Between a photo and the one before it, so nearer to both than these are to one another.
    own, other = rows_of(given.images), rows_of(given.images.roll(1, 0))
    apart = (own * other).sum(1)
    assert ((said.numpy() * own).sum(1) > apart).all()
    assert ((said.numpy() * other).sum(1) > apart).all()


def test_what_is_mixed_depends_on_the_step_alone() -> None:
    mixing = LiveTeacher(ColourEncoder(), size=SIZE, mixes=(Mix("cutmix", 1.0, 0.5),), seed=1)
    steps = [mixing.looked(batch(step), CPU)[0].images for step in range(8)]
    again = [mixing.looked(batch(step), CPU)[0].images for step in reversed(range(8))]
    assert all(torch.equal(*pair) for pair in zip(steps, reversed(again), strict=True))
    for images in steps:  # each photo by a chance of its own
        changed = (images != batch().images).flatten(1).any(1)
        assert changed.any() and not changed.all()


def test_where_nothing_is_learned_from_it_looks_are_mixed_and_nobody_is_asked() -> None:
    mixes = (Mix("cutmix", 50.0, 1.0),)
    seen, said = LiveTeacher(None, size=SIZE, mixes=mixes).looked(batch(), CPU)
    asked, _ = LiveTeacher(ColourEncoder(), size=SIZE, mixes=mixes).looked(batch(), CPU)
    assert said is None
    assert torch.equal(seen.images, asked.images) and torch.equal(seen.labels, asked.labels)


def test_it_may_see_more_pixels_than_the_student() -> None:
    teacher = Watching(ColourEncoder())
    seen, said = LiveTeacher(teacher, size=SIZE).looked(batch(side=2 * SIZE), CPU)
    assert {image.shape for image in teacher.shown} == {(2 * SIZE, 2 * SIZE, 3)}
    assert seen.images.shape == (EACH, SIZE, SIZE, 3)
    np.testing.assert_allclose(said, rows_of(batch(side=2 * SIZE).images), atol=1e-6)
    # Away from the edges of its squares a picture is the same at either size.
    assert torch.equal(seen.images[:, 4::8, 4::8], batch().images[:, 4::8, 4::8])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_teacher(tmp_path_factory.mktemp("live"))


def recipe(place: Path, *settings: str) -> Distillation:
    return small_distillation.recipe(place, "teacher.live=true", "optimisation.epochs=6", *settings)


def test_of_photos_as_they_are_it_says_what_a_teacher_says_that_is_asked_once(
    place: Path, tmp_path: Path
) -> None:
    # Of just the size that both take, as looks are resized otherwise than photos in use.
    for file in (place / "photos").rglob("*.png"):
        small = tmp_path / "photos" / file.parent.name / file.name
        small.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).crop((0, 0, SIZE, SIZE)).save(small)
    photos = f'data.paths=["{tmp_path / "photos"}"]'
    once = photos, 'teacher.views=["plain"]', "teacher.live=false"
    kept = Distiller(recipe(place, *once), tmp_path / "once", device="cpu").distill()
    live = Distiller(recipe(place, photos), tmp_path / "live", device="cpu").distill()
    assert live.history.parts.keys() == kept.history.parts.keys() == {"cosine", "affinity"}
    # What is kept is kept as float16.
    np.testing.assert_allclose(live.history.losses, kept.history.losses, rtol=5e-3)


def test_a_student_learns_from_looks_that_are_new_and_mixed(place: Path, tmp_path: Path) -> None:
    policy = "data.augmentation='crop + flip + mixup@0.4 + cutmix@0.4'"
    losses = 'loss.losses=["cosine", "0.1:supcon"]'
    run = Distiller(recipe(place, policy, losses), tmp_path / "small", device="cpu")
    run.teacher = teacher = Watching(run.teacher)
    outcome = run.distill()
    assert outcome.student["cosine"] > outcome.before["cosine"] + 0.1
    looks = [picture.tobytes() for picture in teacher.shown if picture.shape[:2] == (SIZE, SIZE)]
    # All but those that lie wholly over another of their batch.
    assert len(looks) == 6 * 3 * 4 and len(set(looks)) >= len(looks) - 4
    assert registry.load(str(tmp_path / "small")).info.dim == DIM


def test_a_run_with_a_larger_look_for_the_teacher_measures_photos_at_the_students_size(
    place: Path, tmp_path: Path
) -> None:
    settings = f"teacher.look_size={SIZE + 16}", "data.augmentation='crop + cutmix'"
    run = Distiller(recipe(place, *settings), tmp_path / "small", device="cpu")
    run.teacher = teacher = Watching(run.teacher)
    outcome = run.distill()
    assert outcome.student["cosine"] > outcome.before["cosine"] + 0.1
    assert sum(picture.shape[:2] == (SIZE + 16, SIZE + 16) for picture in teacher.shown) == 72
    assert run.eye.looks.plain(0).shape == (SIZE, SIZE, 3)


def test_on_principal_axes_it_says_what_is_left_of_its_rows(place: Path, tmp_path: Path) -> None:
    made = recipe(place, "model.dim=5", "teacher.axes=principal", 'loss.losses=["cosine"]')
    run = Distiller(made, tmp_path / "small", device="cpu")
    outcome = run.distill()
    assert run.axes is not None and run.axes.shape == (5, DIM)
    assert outcome.student["cosine"] > outcome.before["cosine"] + 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["teacher.sees=crop"], "sees what the student sees"),
        (["data.augmentation=mixup", 'loss.losses=["info-nce"]'], "of which no caption tells"),
        (["teacher.live=false", "data.augmentation=mixup"], "ask it live"),
    ],
)
def test_what_cannot_be_asked_live_is_a_named_error(
    place: Path, tmp_path: Path, settings: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Distiller(recipe(place, *settings), tmp_path, device="cpu").distill()


def test_it_cannot_look_at_what_frozen_stages_give(place: Path, tmp_path: Path) -> None:
    frozen = recipe(place, "freeze.until=layer3", f"freeze.cache={tmp_path / 'cache'}")
    with pytest.raises(DataError, match="leave --freeze-until out"):
        Distiller(frozen, tmp_path / "small", device="cpu").distill()
