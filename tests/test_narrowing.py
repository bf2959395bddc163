"""A MobileNetV2 made narrower: which channels go, what the others make up for, how it is kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mobilenet import write_weights
from pictures import photograph
from small_training import draw_classes, small_recipe
from torch import Tensor, nn
from torch_models import TIMM, save_timm

from embedsearch.encoders.onnx import OnnxEncoder
from embedsearch.errors import DataError
from embedsearch.training.distill.run import Distiller
from embedsearch.training.finetune.run import Run
from embedsearch.training.networks.encoder import TrainableEncoder
from embedsearch.training.networks.loading import load_trainable
from embedsearch.training.networks.mobilenetv2 import InvertedResidual
from embedsearch.training.networks.narrowing import STEP, narrow
from embedsearch.training.networks.trained_folder import read_trained, write_trained
from embedsearch.training.recipe import Distillation
from embedsearch.training.recipe_files import overridden

SIDE = 64
USUAL = (32, 96, 144, 144, 192, 192, 192, *[384] * 4, *[576] * 3, *[960] * 3)


def parts_of_photos(count: int, seed: int) -> Tensor:
    """uint8 (count, SIDE, SIDE, 3)"""
    rng = np.random.default_rng(seed)
    photos = [np.asarray(photograph(name)) for name in ("china", "flower")]
    cut = []
    for n in range(count):
        photo = photos[n % 2]
        top, left = (int(rng.integers(side - 2 * SIDE)) for side in photo.shape[:2])
        cut.append(photo[top : top + 2 * SIDE : 2, left : left + 2 * SIDE : 2])
    return torch.from_numpy(np.stack(cut))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"mobilenetv2@{write_weights(tmp_path_factory.mktemp('weights') / 'weights.npz')}"


def blocks(encoder: TrainableEncoder) -> list[InvertedResidual]:
    return [stage for _, stage in encoder.image.stages if isinstance(stage, InvertedResidual)]


def embed(encoder: TrainableEncoder, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return encoder.image.eval()(encoder.normalised(pixels))


def make_copies(block: InvertedResidual, count: int) -> None:
    """Let the last ``count`` channels inside a block be copies of the first."""
    with torch.no_grad():
        for unit in (block.layers[0], block.layers[1]):
            for values in [*unit.parameters(), *unit.buffers()]:
                if values.ndim:
                    values[-count:] = values[:count]


def test_copies_of_other_channels_go_first_and_nothing_is_lost(weights: str) -> None:
    encoder, whole = (load_trainable(weights, size=SIDE) for _ in range(2))
    for one in (encoder, whole):
        make_copies(blocks(one)[8], STEP)
    # Four positions of a last map; less than there are channels would show nothing.
    pixels = [parts_of_photos(64, seed) for seed in range(8)]
    saved = narrow(encoder, pixels, 1e-6)
    assert encoder.about.expanded == (*USUAL[:8], USUAL[8] - STEP, *USUAL[9:])
    # A 24th of a block that has 7 % of all multiplications.
    assert 0.003 < saved < 0.005
    other = parts_of_photos(8, 9)
    assert torch.allclose(embed(encoder, other), embed(whole, other), atol=1e-3)


def ignore_channels(encoder: TrainableEncoder, count: int) -> None:
    """Let the first block make nothing of the last ``count`` channels of the first convolution."""
    with torch.no_grad():
        blocks(encoder)[0].layers[0][0].weight[:, -count:] = 0


def test_the_first_convolution_may_lose_channels_as_well(weights: str, tmp_path: Path) -> None:
    encoder, whole = (load_trainable(weights, size=SIDE) for _ in range(2))
    for one in (encoder, whole):
        ignore_channels(one, STEP)
    narrow(encoder, [parts_of_photos(32, 0)], 1e-6)
    assert encoder.about.stem == 32 - STEP
    assert encoder.about.expanded == USUAL
    other = parts_of_photos(8, 9)
    expected = embed(whole, other)
    assert torch.allclose(embed(encoder, other), expected, atol=1e-5)
    # As many channels enter the first block as leave it, and still it does not add its input.
    write_trained(encoder, tmp_path / "one", description="a test")
    assert torch.allclose(embed(read_trained(tmp_path / "one"), other), expected, atol=1e-5)


def test_what_is_left_stands_in_for_what_went() -> None:
    """Compared with as many channels gone from each block, whichever they are."""
    whole, encoder, cut = (load_trainable("mini", size=SIDE) for _ in range(3))
    saved = narrow(encoder, [parts_of_photos(32, seed) for seed in range(4)], 0.15)
    assert 0.15 <= saved < 0.16
    rng = np.random.default_rng(0)
    for block, few in zip(blocks(cut), encoder.about.expanded, strict=True):
        gone = rng.permutation(block.expanded)[: block.expanded - few]
        with torch.no_grad():
            block.layers[2][0].weight[:, gone] = 0
    pixels = parts_of_photos(16, 9)
    expected = embed(whole, pixels)
    fitted, plain = ((embed(e, pixels) * expected).sum(1).mean().item() for e in (encoder, cut))
    assert fitted > 0.8
    assert plain < fitted - 0.2
    for block, few in zip(blocks(encoder), encoder.about.expanded, strict=True):
        assert block.expanded == few and few % STEP == 0
        shapes = [tuple(unit[0].weight.shape[:2]) for unit in block.layers]
        assert [s[0] for s in shapes[:2]] == [few, few] and shapes[2][1] == few


@pytest.mark.parametrize("kind", ["mini", "mobilenetv2"])
def test_a_narrower_network_is_written_and_trained_on(
    weights: str, tmp_path: Path, kind: str
) -> None:
    encoder = load_trainable("mini" if kind == "mini" else weights, size=SIDE, without=["8"])
    narrow(encoder, [parts_of_photos(16, 0)], 0.1)
    assert encoder.about.expanded[8] == 0  # left out already
    write_trained(encoder, tmp_path / "one", description="a test")
    again = read_trained(tmp_path / "one")
    assert again.about == encoder.about
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    pixels = parts_of_photos(4, 1)
    assert torch.equal(embed(again, pixels), embed(encoder, pixels))
    # And made narrower once more.
    told = again.about.expanded
    narrow(again, [parts_of_photos(16, 0)], 0.05)
    assert sum(again.about.expanded) < sum(told)


def test_of_a_narrower_network_the_onnx_file_alone_is_enough(tmp_path: Path) -> None:
    encoder = load_trainable("mini", size=SIDE, without=["5"])
    ignore_channels(encoder, STEP)
    narrow(encoder, [parts_of_photos(16, 0)], 0.1)
    write_trained(encoder, tmp_path / "one", description="a test")
    pictures = list(parts_of_photos(4, 2).numpy())
    rows = OnnxEncoder(tmp_path / "one", spec="one").encode_images(pictures)
    shutil.rmtree(tmp_path / "one" / "training")
    again = read_trained(tmp_path / "one")
    assert again.about.expanded == encoder.about.expanded
    assert again.about.stem == encoder.about.stem == 32 - STEP
    assert again.about.without == encoder.about.without
    write_trained(again, tmp_path / "two", description="a test")
    found = OnnxEncoder(tmp_path / "two", spec="two").encode_images(pictures)
    assert np.allclose(found, rows, atol=1e-4)


def test_the_first_block_can_be_left_out_where_as_many_channels_enter_as_leave(
    tmp_path: Path,
) -> None:
    usual = load_trainable("mini", size=SIDE)
    with pytest.raises(DataError, match="cannot be left out: of 32 x 32 x 32 it makes 16"):
        load_trainable("mini", size=SIDE, without=["block 0"])
    ignore_channels(usual, STEP)
    narrow(usual, [parts_of_photos(16, 0)], 1e-6)
    write_trained(usual, tmp_path / "narrow", description="a test")
    encoder = load_trainable(str(tmp_path / "narrow"), size=SIDE, without=["block 0"])
    assert (encoder.about.stem, encoder.about.without) == (32 - STEP, ("blocks.0",))
    write_trained(encoder, tmp_path / "short", description="a test")
    shutil.rmtree(tmp_path / "short" / "training")
    again = read_trained(tmp_path / "short")
    assert (again.about.stem, again.about.without) == (32 - STEP, ("blocks.0",))
    pixels = parts_of_photos(4, 2)
    assert torch.allclose(embed(again, pixels), embed(encoder, pixels), atol=1e-4)


def test_what_cannot_be_made_narrower_is_said(weights: str, tmp_path: Path) -> None:
    pixels = [parts_of_photos(2, 0)]
    other = load_trainable(f"timm:{TIMM}@{save_timm(tmp_path)}", size=32)
    with pytest.raises(DataError, match="only a MobileNetV2 as mini's can be made narrower"):
        narrow(other, pixels, 0.2)
    encoder = load_trainable(weights, size=SIDE)
    with pytest.raises(DataError, match=r"a share between 0 and 1, not 1.5"):
        narrow(encoder, pixels, 1.5)
    with pytest.raises(DataError, match="no photo on which to see"):
        narrow(encoder, [], 0.2)
    with pytest.raises(DataError, match=r"so much cannot be left out: with 16 channels in each"):
        narrow(encoder, pixels, 0.9)
    assert encoder.about.expanded == () and not any(
        layer._forward_hooks for layer in encoder.modules() if isinstance(layer, nn.Conv2d)
    )


def test_finetune_writes_a_narrower_network_without_training_it(
    weights: str, tmp_path: Path
) -> None:
    photos = draw_classes(tmp_path / "photos")
    settings = (f"model.start={weights}", f"model.size={SIDE}", "model.dim=12")
    share = "model.narrower=0.05"
    made = small_recipe(tmp_path, photos, *settings, share, "optimisation.epochs=0")
    lines: list[str] = []
    Run(made, tmp_path / "narrow", tell=lines.append).finetune()
    assert any(line.startswith("narrower: 0.05") for line in lines)
    found = read_trained(tmp_path / "narrow").about.expanded
    assert len(found) == 17 and sum(found) < sum(USUAL)

    trained = small_recipe(tmp_path, photos, *settings, share, "optimisation.epochs=1")
    with pytest.raises(DataError, match="in a run by itself: --epochs 0"):
        Run(trained, tmp_path / "trained")
    student = overridden(
        Distillation(), [f"model.start={weights}", share, f"teacher.spec={tmp_path / 'narrow'}"]
    )
    student = overridden(student, [f'data.paths=["{photos}"]'])
    with pytest.raises(DataError, match=r"make the student narrower first.*model.narrower=0.05"):
        Distiller(student, tmp_path / "student", device="cpu")
