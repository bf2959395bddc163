"""openclip:, timm: and torchvision: specs: weights, identity, preprocessing, faults."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import timm
import torch
import torch_models
import torchvision
from open_clip.pretrained import get_pretrained_cfg
from PIL import Image
from safetensors.torch import load_file, save_file

from embedsearch.encoders import registry
from embedsearch.encoders.torch_tower import choose_device, weights_hash
from embedsearch.errors import EncoderError
from embedsearch.index import Index

PIXELS = np.random.default_rng(3).integers(0, 256, (70, 90, 3), np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return {
        "openclip": torch_models.save_openclip(folder),
        "timm": torch_models.save_timm(folder),
        "torchvision": torch_models.save_torchvision(folder),
    }


@pytest.fixture(scope="module")
def specs(weights: dict[str, Path]) -> dict[str, str]:
    return {
        "openclip": f"openclip:{torch_models.ARCH}@{weights['openclip']}",
        "timm": f"timm:{torch_models.TIMM}@{weights['timm']}",
        "torchvision": f"torchvision:{torch_models.TORCHVISION}@{weights['torchvision']}",
    }


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network to fill it from."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    return cache


def unit(row: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(row.float(), dim=1)[0].numpy()


# What the libraries themselves give


def test_openclip_embeds_as_open_clip_does(specs: dict[str, str], weights: dict[str, Path]) -> None:
    model, _, prepare = open_clip.create_model_and_transforms(
        torch_models.ARCH, pretrained=str(weights["openclip"])
    )
    encoder = registry.load(specs["openclip"], "cpu")
    with torch.inference_mode():
        image = model.eval().encode_image(prepare(Image.fromarray(PIXELS))[None])
        text = model.encode_text(open_clip.get_tokenizer(torch_models.ARCH)(["a dog"]))
    np.testing.assert_allclose(encoder.encode_images([PIXELS])[0], unit(image), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(["a dog"])[0], unit(text), atol=1e-5)


def test_timm_embeds_as_timm_does(specs: dict[str, str], weights: dict[str, Path]) -> None:
    model = timm.create_model(
        torch_models.TIMM, num_classes=10, checkpoint_path=str(weights["timm"])
    ).eval()
    config = timm.data.resolve_model_data_config(model)
    prepare = timm.data.create_transform(**config, is_training=False)
    with torch.inference_mode():
        row = model.forward_features(prepare(Image.fromarray(PIXELS))[None]).mean((2, 3))
    encoder = registry.load(specs["timm"], "cpu")
    np.testing.assert_allclose(encoder.encode_images([PIXELS])[0], unit(row), atol=1e-5)
    assert encoder.info.input_size == 160
    assert encoder.info.mean == (0.5, 0.5, 0.5)


def test_a_classifier_inside_a_head_is_left_out_of_a_checkpoint(tmp_path: Path) -> None:
    name = "test_convnext"
    assert timm.get_pretrained_cfg(name).classifier == "head.fc"
    file = torch_models.save_timm(tmp_path, model=name)
    model = timm.create_model(name, num_classes=10, checkpoint_path=str(file)).eval()
    prepare = timm.data.create_transform(
        **timm.data.resolve_model_data_config(model), is_training=False
    )
    with torch.inference_mode():
        row = model.forward_features(prepare(Image.fromarray(PIXELS))[None]).mean((2, 3))
    encoder = registry.load(f"timm:{name}@{file}", "cpu")
    np.testing.assert_allclose(encoder.encode_images([PIXELS])[0], unit(row), atol=1e-5)


def test_torchvision_embeds_as_torchvision_does(
    specs: dict[str, str], weights: dict[str, Path]
) -> None:
    model = torchvision.models.squeezenet1_1(weights=None).eval()
    model.load_state_dict(torch.load(weights["torchvision"], weights_only=True))
    prepare = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.transforms()
    with torch.inference_mode():
        maps = model.features[:7](prepare(Image.fromarray(PIXELS))[None])
    encoder = registry.load(f"{specs['torchvision']}?layer=features.6&pool=max", "cpu")
    np.testing.assert_allclose(
        encoder.encode_images([PIXELS])[0], unit(maps.amax((2, 3))), atol=1e-5
    )
    assert (encoder.info.dim, encoder.info.input_size) == (256, 224)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_a_cpu_gives_but_for_rounding(
    specs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for spec in specs.values():
        there, here = registry.load(spec, "auto"), registry.load(spec, "cpu")
        assert there.info == here.info
        assert there.encode_images([PIXELS])[0] @ here.encode_images([PIXELS])[0] > 0.99
    assert capsys.readouterr().err.count("--device cpu turns that off") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert choose_device("auto").type == choose_device("cpu").type == "cpu"
    assert capsys.readouterr().err == ""
    with pytest.raises(EncoderError, match="finds no GPU for --device cuda; use --device cpu"):
        choose_device("cuda")


# Identity


@pytest.mark.parametrize("family", ["timm", "torchvision"])
def test_pooling_and_layer_each_make_an_encoder_of_its_own(
    family: str, specs: dict[str, str]
) -> None:
    layers = {"timm": "layer3", "torchvision": "features.6"}
    options = ["", "?pool=max", "?pool=gem", "?pool=l2", "?pool=rmac", f"?layer={layers[family]}"]
    infos = [registry.load(specs[family] + option).info for option in options]
    assert len({info.id for info in infos}) == len(options)
    assert len({info.weights_hash for info in infos}) == 1
    assert infos[0].id == registry.load(specs[family] + "?pool=avg").info.id


@pytest.mark.parametrize(
    ("family", "save"),
    [
        ("openclip", torch_models.save_openclip),
        ("timm", torch_models.save_timm),
        ("torchvision", torch_models.save_torchvision),
    ],
)
def test_other_weights_make_another_encoder_and_another_place_does_not(
    family: str, save: Callable[..., Path], specs: dict[str, str], tmp_path: Path
) -> None:
    info = registry.load(specs[family]).info
    name = specs[family].partition("@")[0]
    assert registry.load(f"{name}@{save(tmp_path, seed=0)}").info.id == info.id
    other = registry.load(f"{name}@{save(tmp_path, seed=1)}").info
    assert other.id != info.id and other.weights_hash != info.weights_hash


def test_the_same_weights_in_another_format_are_the_same_encoder(
    weights: dict[str, Path], specs: dict[str, str], tmp_path: Path
) -> None:
    state = {"state_dict": load_file(weights["timm"])}
    torch.save(state, tmp_path / "again.pth")
    again = registry.load(f"timm:{torch_models.TIMM}@{tmp_path / 'again.pth'}").info
    assert again.id == registry.load(specs["timm"]).info.id


def test_the_activation_that_weights_were_trained_with_is_used_and_is_part_of_the_id(
    weights: dict[str, Path], specs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of RN50, for one, open_clip knows weights whose activation its configuration lacks."""
    arch = torch_models.ARCH
    usual = registry.load(specs["openclip"]).info
    known = {"quick": get_pretrained_cfg("RN50", "openai")}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, arch, known)
    encoder = registry.load(f"openclip:{arch}/quick@{weights['openclip']}", "cpu")
    model = open_clip.create_model(arch, pretrained=str(weights["openclip"]), force_quick_gelu=True)
    with torch.inference_mode():
        text = model.eval().encode_text(open_clip.get_tokenizer(arch)(["a dog"]))
    np.testing.assert_allclose(encoder.encode_texts(["a dog"])[0], unit(text), atol=1e-5)
    assert encoder.info.weights_hash == usual.weights_hash
    assert encoder.info.id != usual.id


def test_a_change_in_one_weight_changes_the_hash() -> None:
    model = torch.nn.Linear(3, 2)
    before = weights_hash(model)
    with torch.no_grad():
        model.weight[1, 2] += 1
    assert weights_hash(model) != before


def test_a_relative_checkpoint_is_found_again_from_anywhere(
    weights: dict[str, Path], specs: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(weights["timm"].parent)
    info = registry.load(f"timm:{torch_models.TIMM}@{weights['timm'].name}?pool=gem").info
    assert info.spec == f"{specs['timm']}?pool=gem"
    monkeypatch.chdir(tmp_path)
    assert registry.load_stored(info, tmp_path).info == info


# Through the command line


def test_an_index_holds_two_encoders_side_by_side(
    specs: dict[str, str], tmp_path: Path, png: Callable[..., Path]
) -> None:
    for name in ("red", "green", "blue"):
        png(tmp_path / "photos" / f"{name}.png", name)
    environment = os.environ | {
        "EMBEDSEARCH_INDEX": str(tmp_path / "index"),
        "OMP_NUM_THREADS": "1",
    }
    command = Path(sys.executable).with_name("embedsearch")
    for words in (
        ["index", tmp_path / "photos"],
        ["index", tmp_path / "photos", "--encoder", specs["timm"]],
    ):
        subprocess.run([command, *words], env=environment, check=True, capture_output=True)
    with Index(tmp_path / "index") as index:
        told = index.info()
        hits = index.search(images=[tmp_path / "photos/red.png"], k=1, encoder=specs["timm"])
    assert sorted(told.embeddings.values()) == [3, 3]
    assert {one.spec for one in told.encoders} == {"mini", specs["timm"]}
    assert [Path(hit.path).name for hit in hits] == ["red.png"]
    assert hits[0].score == pytest.approx(1, abs=1e-3)


# Faults


def test_a_checkpoint_is_never_run_as_code(tmp_path: Path) -> None:
    touched = tmp_path / "touched"

    class Evil:
        def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
            return Path.touch, (touched,)

    torch_models.add_tiny_architecture(tmp_path)
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": Evil()}, path)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "bare.pth"):
        for model in (
            f"openclip:{torch_models.ARCH}",
            f"timm:{torch_models.TIMM}",
            f"torchvision:{torch_models.TORCHVISION}",
        ):
            with pytest.raises(EncoderError, match=rf"{name}: cannot be loaded"):
                registry.load(f"{model}@{tmp_path / name}")
    assert not touched.exists()


@pytest.mark.parametrize("family", ["openclip", "timm", "torchvision"])
def test_weights_of_another_model_are_refused(
    family: str, specs: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(EncoderError, match=re.escape(f"{path}: cannot be loaded into")):
        registry.load(f"{specs[family].partition('@')[0]}@{path}")


def test_a_checkpoint_that_lacks_one_weight_is_refused_and_it_is_named(
    weights: dict[str, Path], tmp_path: Path
) -> None:
    state = load_file(weights["timm"])
    del state["layer3.0.conv1.weight"]
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(EncoderError, match=r"it lacks layer3\.0\.conv1\.weight"):
        registry.load(f"timm:{torch_models.TIMM}@{tmp_path / 'less.safetensors'}")


@pytest.mark.parametrize(
    ("spec", "model", "sought", "remedy"),
    [
        ("openclip:RN50/yfcc15m", "resnet50_clip.yfcc15m", "hub", "openclip:RN50/yfcc15m"),
        (
            "openclip:convnext_base_w/laion2b_s13b_b82k",
            "laion/CLIP-convnext_base_w-laion2B-s13B-b82K",
            "hub",
            "openclip:convnext_base_w/laion2b_s13b_b82k",
        ),
        ("timm:test_resnet", "timm/test_resnet.r160_in1k", "hub", "timm:test_resnet"),
        (
            "torchvision:mobilenet_v3_small",
            "mobilenet_v3_small-047dcff4.pth",
            "torch/hub/checkpoints",
            "torchvision:mobilenet_v3_small",
        ),
    ],
)
def test_weights_that_cannot_be_had_are_named_with_the_place_and_the_ways(
    spec: str, model: str, sought: str, remedy: str, no_hub: Path
) -> None:
    with pytest.raises(EncoderError) as caught:
        registry.load(spec)
    said = str(caught.value)
    assert said.startswith(f"{spec}: the weights (")
    assert model in said
    assert f"sought in {no_hub.parent / sought}" in said
    assert f"{remedy}@/path/to/FILE" in said
    assert "HF_HUB_CACHE" in said and "TORCH_HOME" in said


def test_weights_in_the_hub_cache_are_used_without_a_network(
    no_hub: Path, weights: dict[str, Path], tmp_path: Path
) -> None:
    torch.manual_seed(7)
    model = timm.create_model("test_resnet")
    snapshot = no_hub / "models--timm--test_resnet.r160_in1k" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    save_file(model.state_dict(), snapshot / "model.safetensors")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0123")
    cached = registry.load("timm:test_resnet").info
    named = registry.load(f"timm:test_resnet@{snapshot / 'model.safetensors'}").info
    assert cached.id == named.id
    assert cached.spec == "timm:test_resnet"
    assert cached.licence == "apache-2.0"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("timm:resnet5", "timm has no model 'resnet5'. Did you mean resnet"),
        ("torchvision:resnet5", "torchvision has no model 'resnet5'. Did you mean resnet"),
        ("openclip:RN5/openai", "openclip has no model 'RN5/openai'"),
        ("openclip:RN50", "which weights? write openclip:RN50/TAG, where TAG is one of openai"),
        ("openclip:RN50/no", "RN50 has no weights 'no'; write openclip:RN50/TAG"),
        ("timm:", "is not understood"),
        ("timm:resnet18?pool", "the option 'pool' is not understood"),
        ("timm:resnet18?size=3", "It takes, once each: pool=..., layer=..."),
        ("timm:resnet18?pool=avg&pool=max", "the option 'pool=max' is not understood"),
        ("openclip:RN50/openai?pool=gem", "It takes, once each: none at all"),
        ("timm:resnet18@/no/such/file.pth", "/no/such/file.pth: there is no such checkpoint"),
        ("torchvision:resnet18?weights=V9", "there are no weights 'V9'; there are IMAGENET1K_V1"),
    ],
)
def test_a_spec_that_is_wrong_is_told_what_there_is(spec: str, said: str) -> None:
    with pytest.raises(EncoderError, match=re.escape(said)):
        registry.load(spec)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("pool=median", "there is no pooling 'median'; there are avg, max, gem, l2, rmac"),
        ("layer=layer9", "there is no layer 'layer9'; there are features"),
        ("layer=classifier.1", "there is no layer 'classifier.1'"),
    ],
)
def test_a_pooling_or_layer_that_there_is_not_is_told_what_there_is(
    options: str, said: str, specs: dict[str, str]
) -> None:
    with pytest.raises(EncoderError, match=re.escape(said)):
        registry.load(f"{specs['torchvision']}?{options}")


def test_a_layer_without_a_feature_map_is_an_error(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "vit.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), path)
    with pytest.raises(EncoderError, match=r"gives no feature map .* Name a convolutional network"):
        registry.load(f"timm:test_vit@{path}")


def test_a_checkpoint_whose_preprocessing_is_in_doubt_needs_the_tag(tmp_path: Path) -> None:
    path = tmp_path / "any.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(EncoderError, match=r"openclip:ViT-B-32/TAG@.* TAG is one of openai"):
        registry.load(f"openclip:ViT-B-32@{path}")
