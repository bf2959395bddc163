"""A teacher that PyTorch runs says what ONNX Runtime says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import SIZE, write_table
from torch_models import TIMM, save_timm

from embedsearch.encoders import registry
from embedsearch.encoders.base import Pixels
from embedsearch.training.networks.loading import load_trainable
from embedsearch.training.networks.trained_folder import write_trained
from embedsearch.training.teachers.torch_teacher import TorchTeacher, on_device


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small encoder with both towers."""
    made = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    spec = f"timm:{TIMM}@{save_timm(made)}"
    encoder = load_trainable(spec, dim=12, size=SIZE, text=write_table(made / "table"), hidden=6)
    write_trained(encoder, made / "encoder", description="of a test")
    return made / "encoder"


def pictures() -> list[Pixels]:
    rows, columns = np.mgrid[:230, :300]
    smooth = np.stack([rows, columns, 255 - rows], axis=2) % 256
    return [smooth.astype(np.uint8), smooth[:, :230].astype(np.uint8)[::-1]]


def test_it_agrees_with_the_folder_that_onnx_runtime_runs(folder: Path) -> None:
    there = registry.load(str(folder))
    here = TorchTeacher(load_trainable(str(folder)), there.info, torch.device("cpu"))
    assert here.encode_images(pictures()) == pytest.approx(
        there.encode_images(pictures()), abs=2e-2 if here._precision.name != "off" else 1e-4
    )
    texts = ["red", "green dots"]
    assert (here.encode_texts(texts) * there.encode_texts(texts)).sum(1).min() > 0.999
    assert here.info is there.info


def test_squares_of_another_size_are_brought_to_its_own(folder: Path) -> None:
    there = registry.load(str(folder))
    here = TorchTeacher(load_trainable(str(folder)), there.info, torch.device("cpu"))
    square = pictures()[1]
    found = here.encode_images([square, square])
    assert found.shape == (2, 12) and np.array_equal(found[0], found[1])
    assert found[0] @ there.encode_images([square])[0] > 0.99


def test_on_a_cpu_a_teacher_stays_what_it_is(folder: Path) -> None:
    teacher = registry.load(str(folder))
    assert on_device(teacher, torch.device("cpu")) is teacher


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_all_parts_of_a_joined_teacher_run_there(folder: Path) -> None:
    teacher = registry.load(f"{folder}+{folder}")
    there = on_device(teacher, torch.device("cuda"))
    assert all(isinstance(part, TorchTeacher) for part in there.parts)  # type: ignore[attr-defined]
    agreed = (there.encode_images(pictures()) * teacher.encode_images(pictures())).sum(1)
    assert agreed.min() > 0.99
