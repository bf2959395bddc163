"""``finetune --task segment``: what it learns from, and what comes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from embedsearch.commands.app import app
from embedsearch.enrichers import registry
from embedsearch.enrichers.base import Findings, Segmenter
from embedsearch.errors import DataError
from embedsearch.records import EnricherInfo
from embedsearch.training.data.photos import Photo
from embedsearch.training.evaluate.outlines import IGNORED
from embedsearch.training.recipe import Optimisation
from embedsearch.training.segment.batches import Batches
from embedsearch.training.segment.drawer import Drawer
from embedsearch.training.segment.finetune import finetune
from embedsearch.training.segment.kept import KeptMaps, packed_maps
from embedsearch.training.segment.network import build, freeze
from embedsearch.training.segment.objective import Objective
from embedsearch.training.segment.recipe import Data, Export, Looks, Loss, Model, Recipe
from embedsearch.training.segment.samples import (
    Sample,
    chosen_photos,
    hold_out,
    labels_of,
    read_samples,
)
from embedsearch.training.segment.teacher import SIDE, TeacherCache
from embedsearch.training.segment.views import Cut, draw_cut, shown, shown_labels, shown_logits

SMALL = Recipe(
    model=Model(size=64, fit="squash"),
    looks=Looks(size=64, least=0.6),
    export=Export(calibration=4),
    optimisation=Optimisation(epochs=16, batch=3, rate=1e-3, head_rate=1e-2, threads=1, amp="off"),
)


def _folder(folder: Path, count: int = 10) -> Path:
    """Pictures of noise with a bright square somewhere, and masks of the square."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number in range(count):
        pixels = rng.integers(0, 90, (64, 64, 3)).astype(np.uint8)
        mask = np.zeros((64, 64), np.uint8)
        top, left = rng.integers(0, 32, 2)
        pixels[top : top + 32, left : left + 32] = (240, 220, 60)
        mask[top : top + 32, left : left + 32] = 1 + number % 2
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    return folder


class Painted:
    """A teacher that is sure of class 1 at the left of every picture and of class 2 at the right,
    and counts how often it is asked."""

    info = EnricherInfo("painted-0", "painted", "segment", "", "", 32, ("aeroplane", "dog"))

    def __init__(self) -> None:
        self.asked = 0

    def enrich(self, picture: np.ndarray) -> Findings:
        return Findings()

    def label_map(self, picture: np.ndarray) -> np.ndarray:
        return np.zeros(picture.shape[:2], np.uint8)

    def class_logits(self, picture: np.ndarray, side: int) -> np.ndarray:
        self.asked += 1
        logits = np.zeros((side, side, 3), np.float32)
        logits[:, : side // 2, 1] = logits[:, side // 2 :, 2] = 7.0
        return logits


def test_squares_are_found_after_a_few_steps_and_the_folder_is_a_segmenter(tmp_path: Path) -> None:
    data = _folder(tmp_path / "data")
    out = tmp_path / "out"
    recipe = replace(SMALL, data=Data((str(data),), held_out=0.3))
    outcome = finetune(recipe, out, device="cpu")
    assert (outcome.trained_on, outcome.measured_on) == (7, 3)
    assert outcome.labels == ("object",)
    assert outcome.before_rounding is not None and outcome.written is not None
    assert outcome.before_rounding["mIoU"] > 0.6
    assert outcome.written["mIoU"] > 0.5
    assert outcome.bytes < 4_000_000
    losses = outcome.history.losses
    assert losses[-1] < losses[0] / 2
    segmenter = registry.load("segment", str(out), "cpu")
    assert isinstance(segmenter, Segmenter) and segmenter.info.labels == ("object",)


def test_a_run_that_is_over_has_nothing_left_to_be_done(tmp_path: Path) -> None:
    short = replace(SMALL.optimisation, epochs=2)
    data = Data((str(_folder(tmp_path / "data", 4)),), held_out=0.3)
    recipe = replace(SMALL, data=data, optimisation=short, export=Export(int8=False))
    first = finetune(recipe, tmp_path / "out", device="cpu")
    again = finetune(recipe, tmp_path / "out", device="cpu", resume=True)
    assert again.history.losses == first.history.losses
    assert again.written == first.written
    with pytest.raises(DataError, match="another recipe"):
        other = replace(recipe, loss=Loss(dice=1.0))
        finetune(other, tmp_path / "out", device="cpu", resume=True)


def test_the_command_trains_a_unet_by_dice_and_says_what_came_of_it(tmp_path: Path) -> None:
    data = _folder(tmp_path / "data", 4)
    asked = ["finetune", "--task", "segment", str(data), "--out", str(tmp_path / "out"), "--json"]
    asked += ["--encoder", "smp:mobilenet_v2@none", "--epochs", "1", "--batch", "2"]
    asked += ["--held-out", "0.5", "--threads", "1"]
    for setting in (
        "model.decoder=unet",
        "model.options={decoder_channels=[16, 8, 8, 8, 8]}",
        'data.labels=["square", "other square"]',
        "model.size=64",
        "looks.size=64",
        "loss.dice=1.0",
        "loss.cross_entropy=0.0",
        "export.int8=false",
    ):
        asked += ["--set", setting]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["labels"] == ["square", "other square"]
    assert told["trained_on"] == 2 and len(told["losses"]) == 1
    assert 0 < told["losses"][0] < 1
    assert (tmp_path / "out" / "segmenter.json").is_file()


def test_a_teacher_is_asked_once_and_its_word_is_kept(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    Image.new("RGB", (40, 40), "red").save(photo)
    (tmp_path / "b.png").write_bytes(b"no picture")
    teacher = Painted()
    for _ in range(2):
        cache = TeacherCache(teacher, tmp_path / "cache")
        told = cache.fill([photo, tmp_path / "b.png"], lambda done, total: None)
        assert told == [photo]
    assert teacher.asked == 1
    logits = cache.logits(photo)
    assert logits.shape == (SIDE, SIDE, 3)
    assert np.allclose(logits[0, 0], [-7, 0, -7]) and np.allclose(logits[0, -1], [-7, -7, 0])


def test_a_network_learns_what_its_teacher_says_of_kept_looks(tmp_path: Path) -> None:
    photos = [tmp_path / f"{n}.png" for n in range(2)]
    for photo in photos:
        Image.fromarray(
            np.random.default_rng(1).integers(0, 255, (64, 64, 3)).astype(np.uint8)
        ).save(photo)
    teacher = TeacherCache(Painted(), tmp_path / "cache")
    teacher.fill(photos, lambda done, total: None)
    looks = Looks(size=64, least=1.0, aspect=1.0, kept=2)
    recipe = replace(SMALL, looks=looks, freeze="blocks.13")
    network = build("mini", "light", 3, {})
    freeze(network, "blocks.13")
    drawer = Drawer([Sample(photo) for photo in photos], ("airplane", "dog"), recipe, 16, teacher)
    network.eval()
    with torch.inference_mode():
        packed = packed_maps(network, torch.zeros((1, 64, 64, 3), dtype=torch.uint8))
    assert [tuple(each.shape[1:]) for each in packed] == [(64, 8, 8), (96, 4, 4)]
    kept = KeptMaps(tmp_path / "kept", 2, 2, [each.shape[1:] for each in packed])
    kept.fill(network, drawer, lambda done, total: None)
    objective = Objective(network, recipe, 16)
    batch = next(iter(Batches(drawer, kept, 0)(0)))
    assert batch.pixels is None and (batch.truth == IGNORED).all()
    loss, parts = objective.loss(batch)
    assert parts.keys() == {"teacher"} and loss.item() == pytest.approx(parts["teacher"])
    # From kept maps comes what comes from the pixels, but for the 16 bits they are kept in.
    with torch.inference_mode():
        pixels = torch.from_numpy(np.stack([drawer.pixels(0, 1)]))
        whole = network(pixels)
        maps = network.pyramid.unpacked(kept.read([(0, 1)]), network.first_map)
        parted = network.decoded(network.pyramid.trained(maps))
    assert torch.allclose(whole, parted, atol=0.02 * float(whole.abs().max()))
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, 3e-3)
    for _ in range(8):
        optimizer.zero_grad()
        loss, _ = objective.loss(batch)
        loss.backward()
        optimizer.step()
    assert loss.item() < parts["teacher"] / 2


def test_pixels_masks_and_what_the_teacher_said_are_cut_alike() -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[10:20, 20:40] = 200
    truth = (pixels[..., 0] > 0).astype(np.uint8)
    logits = np.zeros((33, 33, 2), np.float32)
    logits[..., 0] = np.linspace(0, 1, 33)[None]
    cut = Cut(0.5, 0.25, 0.5, 0.5, mirrored=True)
    looks = Looks(size=32, colour=0.0)
    seen = shown(pixels, cut, looks, np.random.default_rng(0))
    assert (seen[:14] > 150).all() and (seen[18:] < 50).all()
    told = shown_labels(truth, cut, 16)
    assert (told[:8] == 1).all() and (told[8:] == 0).all()
    said = shown_logits(logits, cut, 8)[0]
    # Mirrored, the part from the middle to the right border runs from the border to the middle.
    assert said[0].numpy() == pytest.approx(1 - (np.arange(8) + 0.5) / 16, abs=1e-5)


def test_cuts_lie_inside_the_picture_and_keep_their_share() -> None:
    rng = np.random.default_rng(0)
    looks = Looks(most=0.5, aspect=2.0)
    for _ in range(200):
        cut = draw_cut(looks, rng)
        assert 0 <= cut.left <= 1 - cut.width + 1e-9 and 0 <= cut.top <= 1 - cut.height + 1e-9
        assert cut.width * cut.height < 0.5001
        assert 0.49 < cut.width / cut.height < 2.01


def test_photos_that_may_hold_the_classes_come_first() -> None:
    photos = [Photo(Path(f"{n}.jpg"), "web", ("dog",), ()) for n in range(6)]
    photos += [Photo(Path(f"x{n}.jpg"), "web", ("lamp",), ()) for n in range(6)]
    photos += [Photo(Path("y.jpg"), "other", ("dog",), ())]
    chosen = chosen_photos(photos, Data(words=r"\bDOGS?\b", sources=("web",), photos=6))
    assert [path.name.startswith("x") for path in chosen] == [False, False, True] * 2
    assert len(set(chosen_photos(photos, Data()))) == 13
    with pytest.raises(DataError, match="no regular expression"):
        chosen_photos(photos, Data(words="("))


def test_values_of_masks_are_classes_in_the_order_of_the_labels(tmp_path: Path) -> None:
    samples, bare = read_samples([_folder(tmp_path / "data", 2)], None)
    assert len(samples) == 2 and not bare
    two = samples[1].truth(("square", "other"))
    assert two is not None and np.unique(two).tolist() == [0, 2]
    one = samples[1].truth(("square",))
    assert one is not None and np.unique(one).tolist() == [0, 1]
    values = np.full((64, 64), 7, np.uint8)
    Image.fromarray(values).save(tmp_path / "data" / "masks" / "1.png")
    with pytest.raises(DataError, match=r"masks/1.png: a pixel is 7, and 2 labels are named"):
        samples[1].truth(("square", "other"))


def test_labels_are_those_of_the_recipe_the_teacher_or_the_objects() -> None:
    assert labels_of(Data(labels=("sofa",)), [], ("dog",)) == ("couch",)
    assert labels_of(Data(), [], ("aeroplane", "dog")) == ("airplane", "dog")
    assert labels_of(Data(), [Sample(Path("a"))], ()) == ("object",)


def test_something_is_trained_on_and_something_measured_on() -> None:
    two = [Sample(Path("a")), Sample(Path("b"))]
    kept, held = hold_out(two, 0.1, 0)
    assert (len(kept), len(held)) == (1, 1)
    assert hold_out(two, 0.0, 0) == (two, [])


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (replace(SMALL, model=Model(size=100)), "model.size is a multiple of 32"),
        (replace(SMALL, model=Model(size=64, fit="crop")), "model.fit is squash or pad"),
        (replace(SMALL, looks=Looks(size=64, kept=2)), "name the first trained"),
        (replace(SMALL, data=Data(half="left")), "data.half is odd or even"),
        (SMALL, "name what to train on"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(tmp_path: Path, recipe: Recipe, said: str) -> None:
    with pytest.raises(DataError, match=said):
        finetune(recipe, tmp_path / "out", device="cpu")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("smp:nothing", "unet", {}), "has no such encoder"),
        (("smp:mobilenet_v2@none", "xnet", {}), "there is no decoder 'xnet'"),
        (("smp:mobilenet_v2@none", "unet", {"channels": 3}), "has no option 'channels'"),
        (("smp:mobilenet_v2@other", "unet", {}), "Wrong pretrained weights"),
    ],
)
def test_networks_that_are_not_known_are_named(given: tuple[Any, ...], said: str) -> None:
    start, decoder, options = given
    with pytest.raises(DataError, match=said):
        build(start, decoder, 2, options)


def test_stages_are_frozen_by_name_in_our_encoder_only() -> None:
    with pytest.raises(DataError, match=r"no stage 'blocks\.99'"):
        freeze(build("mini", "light", 2, {}), "blocks.99")
    with pytest.raises(DataError, match="another encoder has none"):
        freeze(build("smp:mobilenet_v2@none", "light", 2, {}), "blocks.3")
