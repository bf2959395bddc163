from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_distillation import DIM, draw_teacher, recipe
from small_training import SIZE
from torch_models import TIMM
from typer.testing import CliRunner

from embedsearch.commands.app import app
from embedsearch.encoders import registry
from embedsearch.encoders.base import Encoder
from embedsearch.errors import DataError, EmbedSearchError
from embedsearch.training.distill.agreement import agreement
from embedsearch.training.distill.run import Distiller
from embedsearch.training.networks.building import build
from embedsearch.training.networks.loading import load_trainable
from embedsearch.training.networks.towers import BagText
from embedsearch.training.networks.trained_folder import write_trained
from embedsearch.training.recipe import Distillation
from embedsearch.training.recipe_files import read_recipe
from embedsearch.training.teachers.sentences import load_sentences
from embedsearch.training.teachers.teacher import teach_photos, teach_texts, views_of


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_teacher(tmp_path_factory.mktemp("distill"))


def test_a_student_moves_towards_its_teacher_and_runs_without_pytorch(
    place: Path, tmp_path: Path
) -> None:
    outcome = Distiller(recipe(place), tmp_path / "small", device="cpu").distill()
    # The photos it is measured on are six that it never saw.
    assert outcome.student["cosine"] > outcome.before["cosine"] + 0.2
    assert outcome.history.losses[-1] < 0.5 * outcome.history.losses[0]
    assert outcome.teacher["cosine"] == pytest.approx(1, abs=1e-3)  # kept as float16
    told = json.loads((tmp_path / "small" / "training" / "report.json").read_text())
    assert told["student"] == outcome.student and told["teacher"] == outcome.teacher

    student, teacher = registry.load(str(tmp_path / "small")), registry.load(str(place / "teacher"))
    texts = ["a red thing", "the blue picture"]
    np.testing.assert_allclose(student.encode_texts(texts), teacher.encode_texts(texts), atol=1e-6)
    again = read_recipe(Distillation, tmp_path / "small" / "training" / "recipe.toml")
    assert again == recipe(place)


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (['loss.losses=["distances", "2:angles"]', "model.dim=7"], {"distances", "angles"}),
        (['loss.losses=["soft"]', "teacher.text=none"], {"soft"}),
        (['loss.losses=["cosine", "soft", "info-nce"]'], {"cosine", "soft", "info-nce"}),
        (["teacher.text=train"], {"cosine", "affinity", "text"}),
        (['loss.losses=["cosine", "0.5:supcon"]'], {"cosine", "supcon"}),
    ],
)
def test_every_loss_falls(
    place: Path, tmp_path: Path, settings: list[str], parts: set[str]
) -> None:
    made = recipe(place, "optimisation.epochs=5", *settings)
    history = Distiller(made, tmp_path, device="cpu").distill().history
    assert history.parts.keys() == parts
    assert history.losses[-1] < history.losses[0]


def test_an_unbroken_run_and_one_that_went_on_end_alike(place: Path, tmp_path: Path) -> None:
    whole = Distiller(recipe(place, "optimisation.epochs=4"), tmp_path / "a", device="cpu")
    losses = whole.distill().history.losses

    class Stopped(Exception):
        pass

    def stop(line: str) -> None:
        if line.startswith("epoch 3"):
            raise Stopped

    broken = recipe(place, "optimisation.epochs=4", "optimisation.checkpoint_minutes=0")
    with pytest.raises(Stopped):
        Distiller(broken, tmp_path / "b", device="cpu", tell=stop).distill()
    resumed = Distiller(broken, tmp_path / "b", device="cpu").distill(resume=True)
    assert resumed.history.losses == losses


def test_an_ensemble_teaches_photos_without_labels(place: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, file in enumerate(sorted((place / "photos").rglob("*.png"))):
        (photos / f"{number}.png").write_bytes(file.read_bytes())
    timm = f"timm:{TIMM}@{place / 'timm-1.safetensors'}"
    made = recipe(
        place,
        f'teacher.spec="{place / "teacher"}+{timm}"',
        f'data.paths=["{photos}"]',
        'teacher.views=["plain", "mirror", "crops"]',
        "optimisation.epochs=3",
    )
    outcome = Distiller(made, tmp_path / "small", device="cpu").distill()
    assert outcome.student["cosine"] > outcome.before["cosine"] + 0.2
    assert "zero_shot" not in outcome.student
    joined = registry.load(made.teacher.spec)
    assert registry.load(str(tmp_path / "small")).info.dim == joined.info.dim


def test_a_student_may_be_its_teacher_with_a_stage_less(place: Path, tmp_path: Path) -> None:
    made = recipe(
        place,
        f"model.start={place / 'teacher'}",
        'model.without=["layer1"]',
        'loss.losses=["distances"]',
        "optimisation.epochs=0",
    )
    Distiller(made, tmp_path / "start", device="cpu").distill()
    teacher, start = (load_trainable(str(f)) for f in (place / "teacher", tmp_path / "start"))
    assert start.about.without == ("layer1",)
    known = teacher.state_dict()
    lost = {name for name in known if name not in start.state_dict()}
    assert lost and all(name.startswith("image.network.layer1.") for name in lost)
    assert all(torch.equal(value, known[name]) for name, value in start.state_dict().items())

    other = recipe(place, 'model.without=["layer1"]')
    outcome = Distiller(other, tmp_path / "small", device="cpu").distill()
    assert outcome.student["cosine"] > outcome.before["cosine"] + 0.2
    assert load_trainable(str(tmp_path / "small")).about.without == ("layer1",)


def test_what_is_left_around_a_gap_learns_to_give_the_maps_that_were_behind_it(
    place: Path, tmp_path: Path
) -> None:
    # A new block of timm's adds nothing before it is trained.
    whole = load_trainable(str(place / "teacher"))
    for name, weight in whole.image.network.named_parameters():
        if "bn2.weight" in name:
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    write_trained(whole, tmp_path / "whole", description="of a test")
    settings = [
        f"model.start={tmp_path / 'whole'}",
        f"teacher.spec={tmp_path / 'whole'}",
        f"teacher.cache={tmp_path / 'cache'}",
        'model.without=["layer1"]',
        'loss.losses=["maps"]',
        'loss.maps=["layer2"]',
    ]
    run = Distiller(recipe(place, *settings), tmp_path / "near", device="cpu")
    before = {name: value.clone() for name, value in run.student.state_dict().items()}
    outcome = run.distill()
    assert outcome.history.parts.keys() == {"maps"}
    assert outcome.history.losses[-1] < 0.5 * outcome.history.losses[0]
    # The embeddings follow, though nothing behind layer2 has moved.
    assert outcome.student["cosine"] > outcome.before["cosine"]
    changed = {
        name
        for name, value in load_trainable(str(tmp_path / "near")).state_dict().items()
        if not torch.equal(value, before[name])
    }
    stages = {name.split(".")[2] for name in changed}
    assert "layer2" in stages and all(not name.startswith("image.head") for name in changed)
    assert not stages & {"layer3", "layer4"}

    both = recipe(place, *settings, 'loss.losses=["cosine", "0.5:maps"]', "optimisation.epochs=3")
    parts = Distiller(both, tmp_path / "both", device="cpu").distill().history.parts
    assert parts.keys() == {"cosine", "maps"}
    assert parts["maps"][-1] < parts["maps"][0] and parts["cosine"][-1] < parts["cosine"][0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "name them: --set"),
        (['loss.maps=["layer9"]'], "there is no stage 'layer9'"),
        (['loss.maps=["head"]'], "behind the head there are no maps"),
        (['loss.maps=["layer1"]', "teacher.spec=mini"], "there is no stage 'layer1'"),
        (['loss.maps=["layer1"]', "teacher.spec=nobody"], "nobody"),
        (
            ['loss.maps=["layer1"]', 'freeze.until="layer2"', "freeze.cache=CACHE"],
            "from the pixels on",
        ),
        (
            ['loss.maps=["layer1"]', "optimisation.pieces=2"],
            "leave optimisation.pieces out, or maps",
        ),
    ],
)
def test_maps_that_cannot_be_compared_are_a_named_error(
    place: Path, tmp_path: Path, settings: list[str], message: str
) -> None:
    told = [each.replace("CACHE", str(tmp_path / "kept")) for each in settings]
    asked = recipe(place, 'loss.losses=["maps"]', "teacher.text=none", *told)
    with pytest.raises(EmbedSearchError, match=message):
        Distiller(asked, tmp_path / "out", device="cpu").distill()


def test_maps_of_unlike_shapes_are_not_compared(place: Path, tmp_path: Path) -> None:
    narrow = build(replace(load_trainable("mini").about, stem=16, size=SIZE, text="none"))
    write_trained(narrow, tmp_path / "narrow", description="of a test")
    asked = recipe(
        place,
        f"model.start={tmp_path / 'narrow'}",
        "teacher.spec=mini",
        "teacher.text=none",
        'loss.losses=["maps"]',
        'loss.maps=["stem"]',
    )
    with pytest.raises(
        DataError,
        match="behind stem the student gives maps of 16 x 16 x 16, the teacher of 32 x 16 x 16",
    ):
        Distiller(asked, tmp_path, device="cpu").distill()


def test_words_that_no_caption_holds_move_to_where_the_text_teacher_has_them(
    place: Path, tmp_path: Path
) -> None:
    # Another text tower of the same words is the text teacher: its relations are to be found.
    torch.manual_seed(9)
    other = load_trainable(str(place / "teacher"))
    assert isinstance(other.text, BagText)
    for parameter in other.text.parameters():
        torch.nn.init.normal_(parameter)
    write_trained(other, tmp_path / "reader", description="of a test")
    (tmp_path / "words.txt").write_text("photo\nthing\npicture\nthe blue thing\na red photo\n")
    made = recipe(
        place,
        f'data.paths=["{place / "captions.jsonl"}"]',
        "teacher.text=train",
        f"teacher.sentences={tmp_path / 'reader'}",
        f"teacher.words={tmp_path / 'words.txt'}",
        'loss.losses=["words"]',
        "optimisation.table_rate=0.02",
        "optimisation.epochs=30",
        "optimisation.keep_best=false",
    )
    words = ["photo", "thing", "picture", "the blue thing", "a red photo"]
    reader = registry.load(str(tmp_path / "reader"))
    before = registry.load(str(place / "teacher"))
    Distiller(made, tmp_path / "small", device="cpu").distill()
    after = registry.load(str(tmp_path / "small"))

    def kinship(encoder: Encoder) -> float:
        return agreement(encoder.encode_texts(words), reader.encode_texts(words))["relations"]

    assert kinship(after) > 0.9 > kinship(before)


def test_a_photo_that_cannot_be_read_is_named_and_left_out(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "photos", tmp_path / "photos")
    (tmp_path / "photos" / "red" / "bad.png").write_bytes(b"not a picture")
    said: list[str] = []
    made = recipe(place, f'data.paths=["{tmp_path / "photos"}"]', "optimisation.epochs=0")
    run = Distiller(made, tmp_path / "small", device="cpu", tell=said.append)
    assert len(run.set.photos) == 18
    assert [line for line in said if line.startswith("left out") and "bad.png" in line]


def test_answers_of_a_teacher_are_kept_and_read_again(place: Path, tmp_path: Path) -> None:
    teacher = registry.load(str(place / "teacher"))
    files = sorted((place / "photos").rglob("*.png"))[:3]
    first = teach_photos(teacher, files, ["plain", "mirror"], cache=tmp_path)
    kept = list(tmp_path.glob("teacher-photos-*.npy"))
    assert len(kept) == 1
    np.save(kept[0], np.zeros_like(first))
    assert not teach_photos(teacher, files, ["plain", "mirror"], cache=tmp_path).any()
    assert teach_photos(teacher, files, ["plain"], cache=tmp_path).any()
    rows = teach_texts(teacher.encode_texts, "teacher", ["a red thing"], cache=tmp_path)
    np.testing.assert_allclose(rows, teacher.encode_texts(["a red thing"]), atol=1e-3)


def test_views_are_the_photo_its_mirror_image_and_five_parts() -> None:
    pixels = np.arange(10 * 20 * 3, dtype=np.uint8).reshape(10, 20, 3)
    plain, mirror, *crops = views_of(pixels, ["plain", "mirror", "crops"])
    assert plain is pixels
    np.testing.assert_array_equal(mirror, pixels[:, ::-1])
    assert [crop.shape for crop in crops] == [(8, 16, 3)] * 5
    np.testing.assert_array_equal(crops[0], pixels[:8, :16])
    np.testing.assert_array_equal(crops[3], pixels[2:, 4:])
    np.testing.assert_array_equal(crops[4], pixels[1:9, 2:18])


def test_agreement_of_a_turned_space_is_in_relations_and_neighbours_alone() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    told = agreement(-rows, rows)
    assert told["cosine"] == pytest.approx(-1)
    assert told["relations"] == pytest.approx(1)
    assert told["neighbours_kept"] == 1
    assert "cosine" not in agreement(np.pad(rows, ((0, 0), (0, 3))), rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["teacher.spec="], "name the teacher"),
        (['loss.losses=["kindness"]'], "there is no loss 'kindness'; there are cosine"),
        (['teacher.views=["upside"]'], "there is no view 'upside'; there are plain"),
        (["teacher.text=sung"], "auto, copy, train, none"),
        (["teacher.text=copy", "model.dim=5"], "leave --dim out"),
        (["teacher.text=none", 'loss.losses=["affinity"]'], "the student has none"),
        (['loss.losses=["words"]'], "--text-teacher minilm"),
        (["data.augmentation=mixup"], "mixup"),
        (['loss.maps=["layer2"]'], "loss.maps names layer2, and no loss compares maps"),
        (["model.norm=group"], "norm is frozen or batch, not 'group'"),
        (["data.paths=[]"], "name photos to learn from"),
    ],
)
def test_what_cannot_be_done_is_a_named_error(
    place: Path, tmp_path: Path, settings: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Distiller(recipe(place, *settings), tmp_path, device="cpu").distill()


def test_supcon_asks_for_labels(place: Path, tmp_path: Path) -> None:
    captioned = f'data.paths=["{place / "captions.jsonl"}"]'
    asked = recipe(place, captioned, 'loss.losses=["supcon"]')
    with pytest.raises(DataError, match="no photo has a label"):
        Distiller(asked, tmp_path, device="cpu").distill()


def test_a_text_teacher_that_there_is_not_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name minilm, a folder of sentence-transformers"):
        load_sentences(str(tmp_path / "none"))


def test_the_command_prints_the_teachers_figures_beside_the_students(
    place: Path, tmp_path: Path
) -> None:
    def run(*more: str) -> Any:
        command = ["distill", str(place / "photos"), "--teacher", str(place / "teacher")]
        command += ["--student", f"timm:{TIMM}@{place / 'timm-2.safetensors'}", "--size", "32"]
        command += ["--epochs", "1", "--batch", "9", "--held-out", "0.34", "--threads", "1"]
        command += ["--out", str(tmp_path / "small"), *more]
        return CliRunner().invoke(app, command, catch_exceptions=False)

    shown = run()
    assert shown.exit_code == 0
    assert "student" in shown.stdout and "teacher" in shown.stdout and "cosine" in shown.stdout
    told = json.loads(run("--json").stdout)
    assert told.keys() == {"teacher", "before", "student", "epochs", "seconds"}


def test_a_teacher_sees_each_look_but_not_what_spoils_it(place: Path, tmp_path: Path) -> None:
    asked: list[np.ndarray[Any, Any]] = []

    class Seeing:
        def __init__(self, teacher: Encoder) -> None:
            self.info, self.encode_texts = teacher.info, teacher.encode_texts
            self._teacher = teacher

        def encode_images(self, images: Any) -> Any:
            asked.extend(images)
            return self._teacher.encode_images(images)

    made = recipe(
        place,
        'loss.losses=["cosine"]',
        "data.augmentation='crop + flip + occlusion'",
        "teacher.sees='crop + flip'",
        f"freeze.cache={tmp_path / 'looks'}",
        "freeze.views=3",
        f"teacher.cache={tmp_path / 'answers'}",
    )
    run = Distiller(made, tmp_path / "small", device="cpu")
    run.teacher = Seeing(run.teacher)  # type: ignore[assignment]
    outcome = run.distill()
    assert outcome.student["cosine"] > outcome.before["cosine"] + 0.1
    count = len(run.set.photos)
    assert len(asked) == 4 * count  # each photo itself and three looks
    student = np.load(next((tmp_path / "looks").glob(f"{run.cache.values.filename.stem}.npy")))
    shown = np.stack(asked).reshape(count, 4, SIZE, SIZE, 3).astype(int)
    same = (student == shown).all(-1).mean((2, 3))
    assert (same[:, 0] == 1).all()
    # The same parts of the same photos, but for what stands in front of up to 40 % of them.
    assert (same[:, 1:] < 1).all() and (same[:, 1:] >= 0.55).all()


def test_looks_that_the_teacher_sees_must_be_kept(place: Path, tmp_path: Path) -> None:
    made = recipe(place, "teacher.sees='crop'")
    with pytest.raises(DataError, match="looks that are kept: --cache-frozen DIR"):
        Distiller(made, tmp_path / "small", device="cpu").distill()


def test_on_principal_axes_a_smaller_student_needs_no_projection(
    place: Path, tmp_path: Path
) -> None:
    given = ("model.dim=5", f"teacher.spec={place / 'teacher'}", 'loss.losses=["cosine"]')
    run = Distiller(
        recipe(place, *given, "teacher.axes=principal"), tmp_path / "small", device="cpu"
    )
    outcome = run.distill()
    assert run.axes is not None and run.axes.shape == (5, DIM)
    assert outcome.student["cosine"] > outcome.before["cosine"] + 0.1
    assert registry.load(str(tmp_path / "small")).info.dim == 5
    with pytest.raises(DataError, match="axes are learned or principal, not 'main'"):
        Distiller(recipe(place, "teacher.axes=main"), tmp_path / "no", device="cpu").distill()


def test_it_may_be_used_at_a_larger_size_than_it_was_trained_at(
    place: Path, tmp_path: Path
) -> None:
    made = recipe(place, f"model.used_at={SIZE + 16}", "optimisation.epochs=1")
    Distiller(made, tmp_path / "small", device="cpu").distill()
    assert registry.load(str(tmp_path / "small")).info.input_size == SIZE + 16
