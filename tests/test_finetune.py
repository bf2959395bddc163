"""finetune, from photos to an encoder: what is trained, what is frozen, what is reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_training import (
    KINDS,
    SIZE,
    draw_classes,
    draw_looks,
    small_recipe,
    write_captions,
    write_table,
)
from torch.nn.functional import normalize
from typer.testing import CliRunner

from embedsearch.commands.app import app
from embedsearch.encoders import registry
from embedsearch.encoders.onnx import OnnxEncoder
from embedsearch.errors import DataError
from embedsearch.training.augment.policies import augmentation
from embedsearch.training.data.photos import Photo
from embedsearch.training.distributed import placement
from embedsearch.training.finetune import run as finetune
from embedsearch.training.finetune.objective import Objective
from embedsearch.training.finetune.probe import fit_probe
from embedsearch.training.finetune.run import Run
from embedsearch.training.looks.batches import Batch, Plan
from embedsearch.training.looks.drawing import to_tensor
from embedsearch.training.loop.unfreezing import parameter_groups
from embedsearch.training.losses.distillation import neighbours
from embedsearch.training.networks.interpolation import parse_share
from embedsearch.training.recipe import Freeze, Recipe
from embedsearch.training.recipe_files import overridden

DEFAULTS = ("optimisation.rate=0.01",)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos by class, their captions, and a small table of words."""
    folder = tmp_path_factory.mktemp("desk")
    write_captions(draw_classes(folder / "photos"))
    write_table(folder / "table")
    return folder


@pytest.fixture(scope="module")
def trained(desk: Path) -> Run:
    """A run on a folder a class, with everything that is reported."""
    run = Run(small_recipe(desk, desk / "photos", *DEFAULTS, "model.dim=12"), desk / "trained")
    run.outcome = run.finetune()  # type: ignore[attr-defined]
    return run


def with_texts(desk: Path, *settings: str) -> Recipe:
    return small_recipe(
        desk,
        desk / "captions.jsonl",
        f"model.text={desk / 'table'}",
        "model.dim=12",
        "model.hidden=8",
        *settings,
    )


def test_it_writes_an_encoder_that_embeds_as_the_trained_network_does(
    desk: Path, trained: Run
) -> None:
    encoder = OnnxEncoder(desk / "trained", spec="trained")
    pictures = [trained.looks.plain(place) for place in trained.set.held]
    expected = trained.eye.embed(trained.set.held)
    assert np.allclose(encoder.encode_images(pictures), expected, atol=1e-4)
    assert encoder.info.id.startswith("trained-")


def test_it_leaves_a_report_a_recipe_and_pictures(desk: Path, trained: Run) -> None:
    folder = desk / "trained" / "training"
    report = json.loads((folder / "report.json").read_text())
    assert set(report["before"]) == {"neighbours", "score"}
    assert set(report["after"]) == {"neighbours", "classifier", "score"}
    assert [epoch["epoch"] for epoch in report["epochs"]] == [1, 2]
    classes = report["recall"]["classes"]
    assert [(c["class"], c["trained_on"], c["measured_on"]) for c in classes] == [
        (name, 4, 2) for name in sorted(KINDS)
    ]
    assert report["recall"]["after"]["overall"] == 1.0  # colours are easily told apart
    assert 'start = "timm:' in (folder / "recipe.toml").read_text()
    for name in ("curves.png", "neighbours.png"):
        with Image.open(folder / name) as picture:
            assert picture.size > (600, 300)
    assert any((folder / "tensorboard").iterdir())


def test_the_recipe_that_was_stored_gives_the_same_encoder_again(desk: Path, trained: Run) -> None:
    done = CliRunner().invoke(
        app,
        ["finetune", "--recipe", f"{desk}/trained/training/recipe.toml", "--out", f"{desk}/again"],
    )
    assert done.exit_code == 0, done.output
    hashes = [
        json.loads((desk / name / "encoder.json").read_text())["weights_hash"]
        for name in ("trained", "again")
    ]
    assert hashes[0] == hashes[1]


def test_broken_off_and_resumed_it_ends_with_the_same_curve_and_weights(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = with_texts(
        desk,
        "model.dropout=0.3",
        "optimisation.ema=0.9",
        'loss.losses=["info-nce","0.3:views"]',
        "optimisation.checkpoint_minutes=0",
    )
    whole = Run(recipe, desk / "whole")
    expected = whole.finetune().history
    plain, calls = Objective.loss, []

    def breaking(self: Objective, batch: object) -> object:
        calls.append(batch)
        if len(calls) == 4:
            raise OSError("the lights went out")
        return plain(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Objective, "loss", breaking)
    with pytest.raises(OSError, match="lights"):
        Run(recipe, desk / "broken").finetune()
    monkeypatch.undo()
    resumed = Run(recipe, desk / "broken")
    history = resumed.finetune(resume=True).history
    assert history.losses == expected.losses
    assert history.parts.keys() == {"info-nce", "views"}
    for name, value in whole.encoder.state_dict().items():
        assert torch.equal(value, resumed.encoder.state_dict()[name]), name
    elsewhere = replace(recipe.optimisation, strategy="fsdp", pieces=2, threads=2)
    again = Run(replace(recipe, optimisation=elsewhere), desk / "broken").finetune(resume=True)
    assert again.history.losses == expected.losses
    other = replace(recipe, loss=replace(recipe.loss, temperature=0.2))
    with pytest.raises(DataError, match=r"temperature = 0.05 then, temperature = 0.2 now"):
        Run(other, desk / "broken").finetune(resume=True)


def test_zero_epochs_are_a_linear_probe_of_the_encoder_as_it_is(desk: Path) -> None:
    run = Run(small_recipe(desk, desk / "photos", "optimisation.epochs=0"), desk / "probe")
    before = {n: v.clone() for n, v in run.encoder.state_dict().items()}
    outcome = run.finetune()
    assert outcome.recall is not None and outcome.recall.before == outcome.recall.after
    assert outcome.recall.after["overall"] == 1.0
    assert outcome.history.losses == []
    assert all(torch.equal(v, before[n]) for n, v in run.encoder.state_dict().items())


def test_a_cure_for_rare_classes_is_compared_with_a_plain_probe(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cures: list[str] = []

    def noted(*given: object, balance: str, **options: object) -> object:
        cures.append(balance)
        return fit_probe(*given, balance=balance, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(finetune, "fit_probe", noted)
    recipe = small_recipe(desk, desk / "photos", "optimisation.epochs=0", "balance.probe=balanced")
    Run(recipe, desk / "cured").finetune()
    assert cures == ["none", "balanced"]


def test_what_is_written_says_of_itself_what_the_recipe_says(desk: Path) -> None:
    told = ("about.name=My Flowers", "about.licence=CC0 1.0", "about.description=Roses mostly")
    recipe = small_recipe(desk, desk / "photos", "optimisation.epochs=0", *told)
    Run(recipe, desk / "told").finetune()
    info = registry.load(str(desk / "told")).info
    assert info.id.startswith("my-flowers-")
    assert (info.licence, info.description) == ("CC0 1.0", "Roses mostly")


def test_frozen_stages_stay_as_they_are_and_the_others_move(desk: Path) -> None:
    recipe = small_recipe(desk, desk / "photos", *DEFAULTS, "freeze.until=layer3")
    run = Run(recipe, desk / "frozen")
    before = {n: v.clone() for n, v in run.encoder.image.network.state_dict().items()}
    run.finetune()
    for name, value in run.encoder.image.network.state_dict().items():
        frozen = not name.startswith(("layer3", "layer4")) or "running" in name
        if frozen or "num_batches" in name:
            assert torch.equal(value, before[name]), name
        elif "conv" in name:
            assert not torch.equal(value, before[name]), name


def test_frozen_stages_may_be_cached_and_training_goes_as_well(desk: Path) -> None:
    # Without augmentation all looks are the photo itself: only the 8 bits differ.
    settings = ["freeze.until=layer3", "freeze.views=1", "data.augmentation=none"]
    plain = Run(small_recipe(desk, desk / "photos", *settings), desk / "plain").finetune()
    recipe = small_recipe(desk, desk / "photos", *settings, f"freeze.cache={desk / 'cache'}")
    cached = Run(recipe, desk / "cached").finetune()
    assert cached.history.losses == pytest.approx(plain.history.losses, rel=0.05)
    assert cached.history.losses != plain.history.losses


def test_earlier_stages_take_smaller_steps_and_open_later(desk: Path) -> None:
    run = Run(small_recipe(desk, desk / "photos"), desk / "unused")
    objective = run._objective()
    settings = run.recipe.optimisation
    freeze = Freeze(until="layer2", layer_decay=0.5, unfreeze_every=2)
    groups = parameter_groups(objective, 5, freeze, settings)
    staged = {id(p): g for g in groups for p in g.parameters}
    network = run.encoder.image.network
    told = [
        (staged[id(layer[0].conv1.weight)].rate / settings.rate, staged[id(layer[0].conv1.weight)])
        for layer in (network.layer2, network.layer3, network.layer4)
    ]
    assert [(rate, group.opens) for rate, group in told] == [(0.25, 6.0), (0.5, 4.0), (1.0, 2.0)]
    assert not any(id(p) in staged for p in network.conv1.parameters())
    assert staged[id(objective.log_scale)].opens == 0.0
    assert staged[id(network.layer4[0].bn1.weight)].decay == 0.0


def test_text_search_is_measured_and_a_share_of_the_old_weights_is_chosen(desk: Path) -> None:
    first = Run(with_texts(desk), desk / "texts")
    first.finetune()
    assert OnnxEncoder(desk / "texts", spec="t").encode_texts(["a red thing"]).shape == (1, 12)
    recipe = with_texts(desk)
    recipe = replace(
        recipe,
        model=replace(recipe.model, start=str(desk / "texts"), text=None, dim=None),
        data=replace(recipe.data, text_check=str(desk / "captions.jsonl")),
        wise_ft="auto",
    )
    run = Run(recipe, desk / "wise")
    outcome = run.finetune()
    assert {"text_to_image", "image_to_text", "text_check", "score"} <= set(outcome.after)
    assert [told["share"] for told in outcome.shares] == [n / 10 for n in range(11)]
    best = max(told["score"] for told in outcome.shares)
    assert outcome.after["score"] == best
    assert outcome.shares[0]["score"] == pytest.approx(outcome.before["score"])
    kept = Run(replace(recipe, wise_ft="0"), desk / "kept")
    before = {n: v.clone() for n, v in kept.encoder.state_dict().items()}
    kept.finetune()
    for name, value in kept.encoder.state_dict().items():
        assert torch.allclose(value.float(), before[name].float()), name


@pytest.mark.parametrize(
    "settings",
    [
        ('loss.losses=["focal","0.5:supcon"]', "balance.sampling=balanced"),
        ('loss.losses=["triplet"]', "optimisation.optimizer=sgd", "optimisation.accumulate=2"),
        ('loss.losses=["arcface"]', "optimisation.optimizer=rmsprop", "optimisation.rate=1e-4"),
        ("data.augmentation=cutmix", "balance.weights=effective", "balance.rare_strength=2"),
        ("adversarial.attack=pgd", "loss.keep=0.5", "optimisation.patience=1"),
        ("adversarial.attack=occlusion", "model.pool=gem", "balance.probe=bagging"),
    ],
)
def test_every_way_to_train_lowers_no_recall_on_what_is_easy(
    desk: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    recipe = small_recipe(desk, desk / "photos", "optimisation.epochs=1", *settings)
    outcome = Run(recipe, tmp_path / "out").finetune()
    assert outcome.recall is not None and outcome.recall.after["overall"] == 1.0
    assert np.isfinite(outcome.history.losses).all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("loss.losses=['info-nce']",), "has no text tower; give it one"),
        (('loss.losses=["hinge"]',), "no loss 'hinge'; there are info-nce, views, features"),
        (("data.augmentation=mixup", 'loss.losses=["supcon"]'), "mixup shares labels"),
        (("model.norm=group",), "norm is frozen or batch"),
        (("wise_ft=2",), "wise-ft is from 0"),
        (("wise_ft=0.5", "model.dim=4"), "nothing before"),
        (("data.paths=[]",), "name what to train on"),
        (("optimisation.pieces=0",), "one piece or more, not 0"),
        (
            ("optimisation.pieces=2", "model.norm=batch"),
            "BatchNorm that learns .* would see pieces",
        ),
        (("data.held_out=1",), "share held out"),
    ],
)
def test_what_does_not_go_together_says_so(
    desk: Path, tmp_path: Path, settings: tuple[str, ...], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        Run(
            small_recipe(desk, desk / "photos", "optimisation.epochs=1", *settings),
            tmp_path / "out",
        ).finetune()


def test_a_head_can_learn_the_neighbours_that_photos_have_before_it(
    desk: Path, trained: Run
) -> None:
    recipe = small_recipe(
        desk,
        desk / "photos",
        f"model.start={trained.out}",
        "freeze.until=head",
        'loss.losses=["features"]',
        "optimisation.epochs=8",
        "optimisation.head_rate=0.01",
    )
    run = Run(recipe, desk / "neighbours")
    pixels = np.stack([run.looks.plain(place) for place in range(len(run.set.photos))])

    def unlike() -> float:
        tower = run.encoder.image.eval()
        with torch.no_grad():
            features = tower.features_from(run.encoder.normalised(torch.from_numpy(pixels)), 0)
            rows, before_head = tower.embed_features(features), normalize(features, dim=1)
            return neighbours(rows, before_head, recipe.loss.feature_temperature).item()

    before = unlike()
    run.finetune()
    assert unlike() < before / 2


@pytest.mark.parametrize(
    "settings",
    [
        ('loss.losses=["info-nce", "0.3:views"]',),
        ('loss.losses=["info-nce", "features"]',),
        ("freeze.until=layer3", "loss.keep=0.5"),
    ],
)
def test_a_batch_that_passes_in_pieces_is_trained_on_as_in_one(
    desk: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    histories, weights = [], []
    for pieces in (1, 3):
        recipe = with_texts(desk, "optimisation.amp=off", f"optimisation.pieces={pieces}")
        run = Run(overridden(recipe, list(settings)), tmp_path / str(pieces))
        passed: list[int] = []

        def note(
            stage: torch.nn.Module, given: tuple[torch.Tensor], at: list[int] = passed
        ) -> None:
            if stage.training and torch.is_grad_enabled():
                at.append(len(given[0]))

        run.encoder.image.stages[-1][1].register_forward_pre_hook(note)
        histories.append(run.finetune().history.losses)
        weights.append(run.encoder.state_dict())
        assert set(passed) == ({4} if pieces == 1 else {2})  # of four photos
    assert len(histories[0]) == len(histories[1]) > 2
    np.testing.assert_allclose(histories[1], histories[0], rtol=1e-4)
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_features_need_the_whole_network_in_one_process(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(desk, desk / "photos", 'loss.losses=["features"]')
    run = Run(recipe, desk / "pipeline")
    monkeypatch.setattr(placement, "pipeline", object)
    with pytest.raises(DataError, match="take --strategy ddp or fsdp"):
        run.finetune()


@pytest.mark.parametrize("strategy", ["fsdp", "pipeline"])
def test_an_attack_by_the_gradient_of_pixels_is_for_whole_networks(
    desk: Path, tmp_path: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(
        desk, desk / "photos", "adversarial.attack=pgd", f"optimisation.strategy={strategy}"
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match=rf"pixels, which {strategy} does not give.*strategy=ddp"):
        Run(recipe, tmp_path / "out")


def test_an_attack_and_a_cache_exclude_each_other(desk: Path, tmp_path: Path) -> None:
    recipe = small_recipe(
        desk,
        desk / "photos",
        "freeze.until=layer3",
        f"freeze.cache={tmp_path}",
        "freeze.views=1",
        "adversarial.attack=fgsm",
    )
    with pytest.raises(DataError, match="an attack changes pixels"):
        Run(recipe, tmp_path / "out").finetune()


def test_batches_mix_captions_and_labels_and_depend_on_their_number_alone() -> None:
    photos = [Photo(Path(f"{n}"), "", (), ("c",)) for n in range(20)]
    photos += [Photo(Path(f"{n}"), "", (f"k{n % 3}",), ()) for n in range(12)]
    labels = np.array([-1] * 20 + [n % 3 for n in range(12)])
    plan = Plan(photos, labels, np.arange(20), np.arange(20, 32), 10, 0.5, "none", 0)
    assert (plan.sizes, plan.batches) == ((5, 5), 4)
    epoch = [plan.places(number) for number in range(4)]
    assert sorted(np.concatenate([places[:5] for places in epoch])) == list(range(20))
    # Labelled photos go round: every one comes before any comes a third time.
    along = np.concatenate([plan.places(number)[5:] for number in range(12)])
    assert np.bincount(along, minlength=32)[20:].tolist() == [5] * 12
    assert [plan.places(n).tolist() for n in (7, 3)] == [plan.places(n).tolist() for n in (7, 3)]
    assert plan.places(0).tolist() != plan.places(4).tolist()


def test_a_photo_laid_over_another_teaches_no_label_where_it_has_none(tmp_path: Path) -> None:
    class Told(torch.nn.Module):
        def forward(self, rows: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
            self.truth = truth
            return rows.sum()

    looks = draw_looks(tmp_path)
    mixes = augmentation("5:mixup@1", SIZE).mixes
    weights = {"cross-entropy": 1.0}
    objective = Objective(looks.encoder, weights, Recipe().loss, classes=3, mixes=mixes)
    objective.losses["cross-entropy"] = told = Told()
    labels = torch.tensor([2, -1, 0])
    pixels = to_tensor([looks.plain(place) for place in range(3)])
    order = torch.arange(3)
    batch = Batch(1, pixels, None, [], order, torch.ones(3), labels, np.zeros(3, np.int64))
    objective.loss(batch)
    # The first has the last before it, the last the one without a label.
    (first, last) = told.truth.tolist()
    assert first[1] == 0 and 0 < first[2] < 1 and first[0] == pytest.approx(1 - first[2])
    assert last == pytest.approx([first[2], 0, 0])


def test_a_head_that_is_there_is_trained_on_and_not_drawn_anew(desk: Path, trained: Run) -> None:
    recipe = small_recipe(desk, desk / "photos", "optimisation.epochs=0", "model.dim=12")
    start = replace(recipe.model, start=str(desk / "trained"))
    run = Run(replace(recipe, model=start), desk / "on")
    run.finetune()
    for name, value in run.encoder.image.head.state_dict().items():
        assert torch.equal(value, trained.encoder.image.head.state_dict()[name]), name


def test_shares_are_read_or_left_to_be_chosen() -> None:
    assert (parse_share("0.3"), parse_share("1"), parse_share("auto")) == (0.3, 1.0, None)


def test_the_command_draws_a_sheet_of_augmentations_and_trains_nothing(desk: Path) -> None:
    sheet = desk / "sheet.png"
    words = ["--show-augmentations", f"{sheet}", "--augment", "strong"]
    done = CliRunner().invoke(app, ["finetune", f"{desk}/photos", *words])
    assert done.exit_code == 0, done.output
    with Image.open(sheet) as picture:
        assert picture.size > (500, 500)


def test_the_command_tells_before_and_after(desk: Path, trained: Run) -> None:
    checkpoint = trained.recipe.model.start
    words = ["--encoder", checkpoint, "--size", "32", "--epochs", "0", "--held-out", "0.34"]
    done = CliRunner().invoke(app, ["finetune", f"{desk}/photos", "--out", f"{desk}/told", *words])
    assert done.exit_code == 0, done.output
    for said in ("per class", "before", "after", "neighbours", f"Encoder: {desk}/told"):
        assert said in done.output
    missing = CliRunner().invoke(app, ["finetune", f"{desk}/photos"])
    assert missing.exit_code == 2
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("embedsearch.training.distributed.ranks.is_main", lambda: False)
        other = CliRunner().invoke(
            app, ["finetune", f"{desk}/photos", "--out", f"{desk}/other", *words]
        )
    assert (other.exit_code, other.output.strip()) == (0, "")
