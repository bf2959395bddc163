"""What encoders on PyTorch do on a GPU, on a machine that need not have one.

A pretended device stands where the GPU would be: the tensors stay in the CPU's memory, but the code
takes the way it takes on a GPU. What a real GPU gives is compared with a CPU in
test_encoders_of_libraries.py, where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_models

from embedsearch.encoders import registry, torch_tower

PICTURES = [
    np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8) for seed in range(5)
]


class PretendedGpu:
    type = "cuda"

    def __str__(self) -> str:
        return "cuda:0"


@dataclass
class Seen:
    """What went to the pretended GPU."""

    batches: list[int] = field(default_factory=list)
    formats: list[Any] = field(default_factory=list)
    autocast: list[tuple[str, Any, bool]] = field(default_factory=list)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    told = Seen()
    tensor_to, module_to, autocast = torch.Tensor.to, torch.nn.Module.to, torch.autocast

    def move_tensor(self: torch.Tensor, *given: Any, **options: Any) -> torch.Tensor:
        if not given or not isinstance(given[0], PretendedGpu):
            return tensor_to(self, *given, **options)
        if self.ndim == 4:
            told.batches.append(len(self))
            told.formats.append(options.get("memory_format"))
        return tensor_to(self, "cpu", *given[1:], **options)

    def move_module(self: torch.nn.Module, *given: Any, **options: Any) -> torch.nn.Module:
        pretended = bool(given) and isinstance(given[0], PretendedGpu)
        return module_to(self, *given[1:] if pretended else given, **options)

    def cast(device: str, *, dtype: Any, enabled: bool) -> Any:
        told.autocast.append((device, dtype, enabled))
        return autocast("cpu", dtype=dtype, enabled=enabled)

    monkeypatch.setattr(torch_tower, "choose_device", lambda device: PretendedGpu())
    monkeypatch.setattr(torch_tower, "GPU_BATCH", 2)
    monkeypatch.setattr(torch.Tensor, "to", move_tensor)
    monkeypatch.setattr(torch.nn.Module, "to", move_module)
    monkeypatch.setattr(torch, "autocast", cast)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Pretended GPU")
    return told


@pytest.mark.parametrize("family", ["openclip", "timm", "torchvision"])
def test_on_a_gpu_pictures_run_in_batches_in_bfloat16_with_their_channels_last(
    family: str, tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = getattr(torch_models, f"save_{family}")
    model = {"openclip": "ARCH", "timm": "TIMM", "torchvision": "TORCHVISION"}[family]
    spec = f"{family}:{getattr(torch_models, model)}@{save(tmp_path)}"
    there = registry.load(spec, "cuda")
    seen.batches.clear()
    rows = there.encode_images(PICTURES)
    assert seen.batches == [2, 2, 1]
    assert set(seen.formats) == {torch.channels_last}
    assert set(seen.autocast) == {("cuda", torch.bfloat16, True)}
    assert all(
        weight.is_contiguous(memory_format=torch.channels_last)
        for weight in there._towers.model.parameters()
        if weight.ndim == 4
    )
    assert there.runs_on == "GPU (Pretended GPU)"
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    if there.info.has_text:
        assert there.encode_texts(["a dog", "a cat"]).shape == (2, there.info.dim)
    monkeypatch.undo()
    here = registry.load(spec, "cpu")
    assert here.info == there.info, "the device is no part of the identity"
    cosines = np.vecdot(rows, here.encode_images(PICTURES))
    assert (cosines > 0.99).all() and (cosines < 1 - 1e-9).any()


def test_auto_takes_the_gpu_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Pretended GPU")
    torch_tower._say_gpu.cache_clear()
    assert [torch_tower.choose_device("auto").type for _ in range(3)] == ["cuda"] * 3
    assert torch_tower.choose_device("cpu").type == "cpu"
    assert capsys.readouterr().err == (
        "The encoder runs on Pretended GPU; --device cpu turns that off.\n"
    )
    torch_tower._say_gpu.cache_clear()
