"""Encoders as they are trained: loaded from any spec, in stages, written so that they run again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torchvision
from mobilenet import write_weights
from pictures import photograph
from safetensors.torch import save_file
from small_networks import network, write_encoder
from small_training import write_table
from torch_models import (
    ARCH,
    TIMM,
    TORCHVISION,
    TRANSFORMER,
    save_openclip,
    save_timm,
    save_torchvision,
)

from embedsearch.encoders import registry
from embedsearch.encoders.onnx import OnnxEncoder
from embedsearch.encoders.towers import towers_of
from embedsearch.errors import DataError, EncoderError
from embedsearch.training.networks.encoder import TrainableEncoder
from embedsearch.training.networks.interpolation import interpolate, weights_of
from embedsearch.training.networks.loading import load_trainable
from embedsearch.training.networks.towers import BagText
from embedsearch.training.networks.trained_folder import read_trained, write_trained
from embedsearch.training.recipe import About

PICTURES = [np.random.default_rng(n).integers(0, 256, (50, 70, 3), np.uint8) for n in range(2)]


def written(encoder: TrainableEncoder, folder: Path) -> OnnxEncoder:
    write_trained(encoder, folder, description="a test", about=About(name="trained"))
    return OnnxEncoder(folder, spec="trained")


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "mobilenetv2": f"mobilenetv2@{write_weights(folder / 'weights.npz')}",
        "timm": f"timm:{TIMM}@{save_timm(folder)}",
        "torchvision": f"torchvision:{TORCHVISION}@{save_torchvision(folder)}",
        "openclip": f"openclip:{ARCH}@{save_openclip(folder)}",
        "mini": "mini",
    }


@pytest.mark.parametrize("kind", ["mobilenetv2", "timm", "torchvision", "openclip", "mini"])
def test_what_is_written_runs_without_pytorch_and_can_be_trained_on(
    specs: dict[str, str], tmp_path: Path, kind: str
) -> None:
    size = None if kind == "openclip" else 64
    encoder = load_trainable(specs[kind], size=size)
    assert encoder.image.sequential
    rows = written(encoder, tmp_path / "one").encode_images(PICTURES)
    again = read_trained(tmp_path / "one")
    assert again.about == encoder.about
    assert all(
        torch.equal(value, again.state_dict()[name]) for name, value in encoder.state_dict().items()
    )
    assert np.allclose(written(again, tmp_path / "two").encode_images(PICTURES), rows, atol=1e-5)
    info = registry.load(str(tmp_path / "one")).info
    assert (info.dim, info.input_size) == (encoder.dim, encoder.size)
    assert info.has_text == (kind == "mini")


def test_a_model_of_a_library_gives_the_embeddings_that_its_encoder_gives(
    specs: dict[str, str], tmp_path: Path
) -> None:
    # Pictures that have the input's size already, as the libraries resize in ways of their own.
    squares = [np.ascontiguousarray(p[:32, :32]) for p in PICTURES]
    rows = written(load_trainable(specs["openclip"]), tmp_path / "out").encode_images(squares)
    expected = registry.load(specs["openclip"], "cpu").encode_images(squares)
    assert np.allclose(rows, expected, atol=1e-4)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_network_that_asks_for_the_version_of_its_weights_is_trained_like_any_other(
    tmp_path: Path, ending: str
) -> None:
    torch.manual_seed(3)
    state = torchvision.models.mnasnet0_5(weights=None).state_dict()
    file = tmp_path / f"mnasnet.{ending}"
    torch.save(state, file) if ending == "pth" else save_file(state, file)
    spec = f"torchvision:mnasnet0_5@{file}"
    encoder = load_trainable(spec, size=64)
    rows = written(encoder, tmp_path / "out").encode_images(PICTURES)
    again = written(load_trainable(str(tmp_path / "out")), tmp_path / "again")
    assert np.allclose(again.encode_images(PICTURES), rows, atol=1e-5)
    before = weights_of(encoder)
    interpolate(encoder, before, {n: v + 1 for n, v in before.items()}, 0.5)
    weight = "image.network.layers.0.weight"
    assert torch.allclose(encoder.state_dict()[weight], before[weight] + 0.5)


def test_a_transformer_that_is_not_trained_is_written_like_one_that_is(tmp_path: Path) -> None:
    spec = f"openclip:{TRANSFORMER}@{save_openclip(tmp_path, arch=TRANSFORMER)}"
    squares = [np.ascontiguousarray(p[:32, :32]) for p in PICTURES]
    encoder = load_trainable(spec).requires_grad_(False)
    rows = written(encoder, tmp_path / "out").encode_images(squares)
    assert np.allclose(rows, registry.load(spec, "cpu").encode_images(squares), atol=1e-4)


def test_a_network_with_channels_behind_the_places_is_an_encoder_and_not_trained(
    tmp_path: Path,
) -> None:
    spec = f"timm:test_mambaout@{save_timm(tmp_path, model='test_mambaout')}"
    assert registry.load(spec, "cpu").info.dim == 64
    with pytest.raises(EncoderError, match="encoder and a teacher; take another network to train"):
        load_trainable(spec)


def test_an_open_clip_checkpoint_that_was_trained_keeps_its_texts(
    specs: dict[str, str], tmp_path: Path
) -> None:
    encoder = load_trainable(specs["openclip"])
    written(encoder, tmp_path / "out")
    spec = f"openclip:{ARCH}@{tmp_path}/out/training/weights.safetensors"
    assert encoder.text is not None
    with torch.no_grad():
        expected = encoder.text(["a red thing"]).numpy()
    found = registry.load(spec, "cpu").encode_texts(["a red thing"])
    assert np.allclose(found, expected, atol=1e-5)


def test_the_encoder_in_the_box_is_taken_out_of_its_integers(tmp_path: Path) -> None:
    mini = towers_of(registry.load("mini"))
    encoder = written(load_trainable("mini"), tmp_path / "float")
    photos = [np.asarray(photograph("china")), np.asarray(photograph("flower"))]
    for pictures, least in ((photos, 0.98), (PICTURES, 0.93)):  # the latter are noise
        similar = (mini.encode_images(pictures) * encoder.encode_images(pictures)).sum(1)
        assert similar.min() > least
    texts = ["a dog", "two people on a beach"]
    assert np.allclose(mini.encode_texts(texts), encoder.encode_texts(texts), atol=1e-3)


def test_what_standardises_features_is_written_into_the_layer_behind_it(tmp_path: Path) -> None:
    encoder = load_trainable("mini", size=64)
    written(encoder, tmp_path / "one")
    model = onnx.load(tmp_path / "one" / "image.onnx")
    pooling = next(n for n, node in enumerate(model.graph.node) if node.op_type == "ReduceMean")
    behind = [node.op_type for node in model.graph.node][pooling:]
    assert behind.count("Gemm") == 1 and behind.count("ReduceL2") == 2 and "Sub" not in behind
    # What is read back from the file alone is the same head in other numbers.
    shutil.rmtree(tmp_path / "one" / "training")
    features = torch.rand((5, 1280))
    again = read_trained(tmp_path / "one")
    assert again.image.head.projection.mean.abs().max() == 0
    with torch.no_grad():
        assert torch.allclose(again.image.head(features), encoder.image.head(features), atol=1e-5)


@pytest.mark.parametrize("without", [("2",), ("blocks.8", "blocks.9", "5"), ("14", "15")])
def test_of_a_shortened_network_the_onnx_file_alone_is_enough(
    tmp_path: Path, without: tuple[str, ...]
) -> None:
    short = load_trainable("mini", size=64, without=without)
    rows = written(short, tmp_path / "one").encode_images(PICTURES)
    shutil.rmtree(tmp_path / "one" / "training")
    again = read_trained(tmp_path / "one")
    # Which of several like blocks in a row are there cannot be seen, and does not matter.
    assert len(again.about.without) == len(short.about.without)
    assert np.allclose(written(again, tmp_path / "two").encode_images(PICTURES), rows, atol=1e-4)


def test_of_another_network_the_onnx_file_alone_is_not_enough(tmp_path: Path) -> None:
    # Its one block has the channels of MobileNetV2's first.
    small = write_encoder(tmp_path / "small", network())
    with pytest.raises(DataError, match=r"image.onnx: has 5 convolutions. Only a MobileNetV2"):
        load_trainable(str(small))


def test_a_new_head_pooling_and_text_tower_can_be_put_on(
    specs: dict[str, str], tmp_path: Path
) -> None:
    table = write_table(tmp_path / "table")
    encoder = load_trainable(specs["timm"], size=32, dim=12, pool="gem", text=table, dropout=0.5)
    assert encoder.dim == 12 and isinstance(encoder.text, BagText)
    with torch.no_grad():
        encoder.image.pool.power.fill_(5.0)
    made = written(encoder, tmp_path / "out")
    texts = made.encode_texts(["a red thing", "the photo"])
    with torch.no_grad():
        expected = encoder.text(["a red thing", "the photo"]).numpy()
    assert np.allclose(texts, expected, atol=0.05)  # the table is written in 8 bits
    again = read_trained(tmp_path / "out")
    assert again.image.pool.power.item() == 5.0
    assert again.about.dropout == 0.5


def test_from_scratch_nothing_is_left_of_the_weights(specs: dict[str, str]) -> None:
    torch.manual_seed(0)
    one, other = (load_trainable(specs["timm"], size=32, scratch=s) for s in (True, False))
    pairs = zip(one.image.named_parameters(), other.image.parameters(), strict=True)
    kernels = [(name, a, b) for (name, a), b in pairs if a.ndim == 4]
    assert len(kernels) > 5
    assert [name for name, a, b in kernels if torch.equal(a, b)] == []


@pytest.mark.parametrize("spec", ["timm:resnet10t", "torchvision:squeezenet1_1?pool=gem"])
def test_from_scratch_a_library_s_network_needs_no_weights(
    spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*told: object) -> None:
        raise AssertionError("nothing is to be fetched")

    monkeypatch.setattr("socket.getaddrinfo", asked)
    encoder = load_trainable(spec, size=64, dim=8, scratch=True)
    assert encoder.dim == 8 and not encoder.image.frozen_norm


def test_a_network_that_changes_its_pixels_first_is_refused_whatever_its_weights_are() -> None:
    # What it gives with weights drawn at random is next to nothing, as is the difference.
    with pytest.raises(EncoderError, match="its parts do not follow one another"):
        load_trainable("torchvision:googlenet", scratch=True)


def test_stages_are_named_in_order_and_found_by_short_names(specs: dict[str, str]) -> None:
    image = load_trainable(specs["mobilenetv2"]).image
    names = [name for name, _ in image.stages]
    assert names == ["stem", *(f"blocks.{n}" for n in range(17)), "last"]
    for name in ("blocks.10", "block 10", "block.10", "10"):
        assert image.stage_number(name) == 11
    assert image.stage_number("stem") == 0
    assert image.stage_number("head") == 19
    with pytest.raises(
        DataError, match=r"no stage 'block 17'; there are, in order: stem, blocks.0"
    ):
        image.stage_number("block 17")


def test_from_any_stage_on_the_rest_gives_what_all_give(specs: dict[str, str]) -> None:
    image = load_trainable(specs["mobilenetv2"]).image.eval()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        whole = image(pixels)
        for stage in (0, 1, 11, 19):
            inside = image.run_stages(pixels, 0, stage)
            assert torch.allclose(image.forward_from(inside, stage), whole, atol=1e-6)


def test_a_stage_that_adds_to_its_input_can_be_left_out(
    specs: dict[str, str], tmp_path: Path
) -> None:
    whole = load_trainable(specs["mobilenetv2"], size=64)
    short = load_trainable(specs["mobilenetv2"], size=64, without=["block 8", "11"])
    assert short.about.without == ("blocks.8", "blocks.11")
    # It keeps its name, so that others keep their numbers.
    assert short.image.stage_number("block 12") == whole.image.stage_number("block 12") == 13
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        values = pixels
        for name, stage in whole.image.stages:
            values = values if name in short.about.without else stage(values)
        assert torch.equal(short.image(pixels), whole.image.embed(values))
    rows = written(short, tmp_path / "one").encode_images(PICTURES)
    again = read_trained(tmp_path / "one")
    assert again.about == short.about
    assert np.allclose(written(again, tmp_path / "two").encode_images(PICTURES), rows, atol=1e-5)
    # And one more, of what lacks some already.
    shorter = load_trainable(str(tmp_path / "one"), without=["5"])
    assert shorter.about.without == ("blocks.8", "blocks.11", "blocks.5")


def test_a_stage_that_the_rest_needs_cannot_be_left_out(specs: dict[str, str]) -> None:
    with pytest.raises(
        DataError, match=r"blocks.6 cannot be left out: of 32 x 8 x 8 it makes 64 x 8 x 8"
    ):
        load_trainable(specs["mobilenetv2"], size=64, without=["6"])
    with pytest.raises(DataError, match="the head is no stage that can be left out"):
        load_trainable(specs["mobilenetv2"], without=["head"])
    with pytest.raises(DataError, match=r"no stage 'block 17'; there are, in order: stem"):
        load_trainable(specs["mobilenetv2"], without=["block 17"])


def test_batch_norm_keeps_its_statistics_unless_it_is_let_go(specs: dict[str, str]) -> None:
    encoder = load_trainable(specs["timm"], size=32)
    norm = next(m for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d))
    before = norm.running_mean.clone()
    encoder.train()
    encoder.image(torch.randn(4, 3, 32, 32))
    assert torch.equal(norm.running_mean, before)
    encoder.image.frozen_norm = False
    encoder.train()
    encoder.image(torch.randn(4, 3, 32, 32))
    assert not torch.equal(norm.running_mean, before)
    # But not that of frozen stages.
    before, encoder.image.first_trained = norm.running_mean.clone(), 3
    encoder.train()
    encoder.image(torch.randn(4, 3, 32, 32))
    assert torch.equal(norm.running_mean, before)


def test_training_starts_from_the_mean_of_the_weights_of_several(
    specs: dict[str, str], tmp_path: Path
) -> None:
    parts = []
    for seed in range(3):
        torch.manual_seed(seed)
        part = load_trainable(specs["timm"], size=32, dim=5)
        for weight in part.parameters():
            weight.data += 0.1 * torch.randn_like(weight)
        written(part, tmp_path / str(seed))
        parts.append(part.state_dict())
    a, b, c = (str(tmp_path / str(seed)) for seed in range(3))
    mean = load_trainable(f"({a}+{b}?weight=2+{c})?join=weights")
    for name, value in mean.state_dict().items():
        parted = zip((0.25, 0.5, 0.25), parts, strict=True)
        expected = sum(share * part[name].double() for share, part in parted)
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    # As good as any other encoder from here on.
    assert written(mean, tmp_path / "mean").encode_images(PICTURES).shape == (2, 5)


def test_of_different_networks_there_is_no_mean(specs: dict[str, str], tmp_path: Path) -> None:
    for name, dim in (("a", 5), ("b", 6)):
        written(load_trainable(specs["timm"], size=32, dim=dim), tmp_path / name)
    a, b = tmp_path / "a", tmp_path / "b"
    with pytest.raises(EncoderError, match=r"a and .*b are not the same network"):
        load_trainable(f"({a}+{b})?join=weights")
    with pytest.raises(EncoderError, match="averaged of encoders by themselves"):
        load_trainable(f"({a}?dim=3+{b})?join=weights")
    with pytest.raises(EncoderError, match="what training may start from"):
        registry.load(f"({a}+{a})?join=weights")


def test_what_cannot_be_trained_says_why(specs: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="There is nothing to train at 'nowhere'"):
        load_trainable("nowhere")
    with pytest.raises(EncoderError, match="leave \\?layer= out"):
        load_trainable(f"{specs['timm']}?layer=layer3")
    with pytest.raises(EncoderError, match="keep their own pooling"):
        load_trainable(specs["openclip"], pool="gem")
    written(load_trainable(specs["timm"], size=32), tmp_path / "out")
    weights = tmp_path / "out" / "training" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(EncoderError, match=r"weights.safetensors: cannot be read as weights"):
        load_trainable(str(tmp_path / "out"))
