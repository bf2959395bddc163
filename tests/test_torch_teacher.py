"""A teacher that PyTorch runs says what ONNX Runtime says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from embedsearch.encoders import registry
from embedsearch.encoders.base import Pixels
from embedsearch.training.torch_teacher import TorchTeacher, on_device
from embedsearch.training.trainable import load_trainable


def pictures() -> list[Pixels]:
    rows, columns = np.mgrid[:230, :300]
    smooth = np.stack([rows, columns, 255 - rows], axis=2) % 256
    return [smooth.astype(np.uint8), smooth[:, :230].astype(np.uint8)[::-1]]


def test_it_agrees_with_the_encoder_in_the_box() -> None:
    there = registry.load("mini")
    here = TorchTeacher(load_trainable("mini"), there.info, torch.device("cpu"))
    images = pictures()
    agreed = (here.encode_images(images) * there.encode_images(images)).sum(1)
    assert agreed.min() > 0.97  # 8 bits and not
    texts = ["a dog in the snow", "two motorcycles"]
    assert (here.encode_texts(texts) * there.encode_texts(texts)).sum(1).min() > 0.999
    assert here.info is there.info


def test_squares_of_another_size_are_brought_to_its_own() -> None:
    there = registry.load("mini")
    here = TorchTeacher(load_trainable("mini"), there.info, torch.device("cpu"))
    square = pictures()[1][:, :, :]
    agreed = here.encode_images([square, square]) @ there.encode_images([square])[0]
    assert agreed.min() > 0.95


def test_on_a_cpu_a_teacher_stays_what_it_is() -> None:
    teacher = registry.load("mini")
    assert on_device(teacher, torch.device("cpu")) is teacher


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_all_parts_of_a_joined_teacher_run_there(tmp_path: Path) -> None:
    teacher = registry.load("mini+mini")
    there = on_device(teacher, torch.device("cuda"))
    assert all(isinstance(part, TorchTeacher) for part in there.parts)  # type: ignore[attr-defined]
    agreed = (there.encode_images(pictures()) * teacher.encode_images(pictures())).sum(1)
    assert agreed.min() > 0.97
