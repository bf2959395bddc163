"""What is to be quantised: an encoder folder, or a model of another library exported first."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import onnx
from onnx import ModelProto
from torch import Tensor, nn

from embedsearch.encoders import registry, text
from embedsearch.encoders.base import Encoder
from embedsearch.encoders.folder import HUBS, EncoderFolder, hash_file, read_folder
from embedsearch.encoders.onnx import IMAGE, OnnxEncoder
from embedsearch.encoders.preprocess import INTERPOLATIONS, Interpolation
from embedsearch.encoders.torch_tower import TorchEncoder, Towers
from embedsearch.errors import EncoderError
from embedsearch.training.networks.export import export_image_tower
from embedsearch.training.quantize.halves import halved

_KEPT = ("LICENSE", "NOTICE")


def as_folder(spec: str, scratch: Path) -> EncoderFolder:
    """The float32 encoder that ``spec`` names, as a folder: its own, or one written to ``scratch``.

    Raises :class:`~embedsearch.errors.EncoderError`.
    """
    encoder = registry.load(spec, "cpu")
    if isinstance(encoder, OnnxEncoder):
        return read_folder(encoder.folder)
    if isinstance(encoder, TorchEncoder):
        return _exported(encoder, scratch)
    raise EncoderError(
        f"{spec} cannot be quantised: only one encoder by itself can, a folder or a model of "
        + ", ".join(family.prefix for family in registry.FAMILIES)
        + "."
    )


def check_out(spec: str, out: Path) -> None:
    """Raise :class:`~embedsearch.errors.EncoderError` where ``out`` is what is read from, or no
    folder can be made there."""
    if out.resolve() == Path(spec).expanduser().resolve():
        raise EncoderError(f"{out} is the float32 encoder itself; name another folder with --out")
    if out.exists() and not out.is_dir():
        raise EncoderError(f"{out} is no folder; name one with --out")


def read_image_tower(about: EncoderFolder) -> ModelProto:
    """The image tower of a folder. Raises :class:`~embedsearch.errors.EncoderError`."""
    path = about.path / IMAGE
    try:
        return onnx.load(path)
    except Exception as error:  # protobuf's own errors among them
        raise EncoderError(f"{path}: cannot be read as ONNX ({error})") from error


def write_folder(
    source: EncoderFolder, out: Path, files: Mapping[str, bytes], note: str, *, halve: bool = False
) -> EncoderFolder:
    """Write an encoder that is like ``source`` but for its image tower: ``files`` by name.

    The text tower is copied, where ``halve`` with its network in float16, and what rows tell hubs
    apart by; ``note`` is added to the description.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (out / name).write_bytes(content)
    copied = text.FILES if source.has_text else ()
    if source.hub_mean is not None:
        copied = (*copied, HUBS)
    for name in (*copied, *(kept for kept in _KEPT if (source.path / kept).is_file())):
        if halve and name in text.NETWORK:
            np.save(out / name, halved(np.load(source.path / name)))
        else:
            shutil.copyfile(source.path / name, out / name)
    written = replace(
        source,
        path=out,
        description="; ".join(part for part in (source.description, note) if part),
        hashes={name: hash_file(out / name) for name in sorted((*files, *copied))},
    )
    written.write()
    return written


def _exported(encoder: TorchEncoder, folder: Path) -> EncoderFolder:
    """An image tower on PyTorch as an encoder folder; its text tower stays behind."""
    towers, info = encoder.towers, cast(Encoder, encoder).info
    about = towers.preprocessing
    # The folder's own cutting takes the whole middle square; what is less is cut off in the tower.
    border = max(0, round((about.size / about.crop - about.size) / 2))
    tower = export_image_tower(_Images(towers), about.size, about.mean, about.std, border=border)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(tower, folder / IMAGE)
    made = EncoderFolder(
        path=folder,
        name=info.id.rpartition("-")[0],
        licence=info.licence,
        description=towers.description,
        dim=info.dim,
        input_size=about.size + 2 * border,
        resize=about.resize,
        interpolation=cast(
            Interpolation,
            about.interpolation if about.interpolation in INTERPOLATIONS else "bicubic",
        ),
        mean=about.mean,
        std=about.std,
        pooling=towers.pooling,
        has_text=False,
        hashes={IMAGE: hash_file(folder / IMAGE)},
    )
    made.write()
    return made


def _interpolation(name: str) -> Interpolation:
    """What a model's configuration names; some leave the choice to chance."""
    return cast(Interpolation, name) if name in INTERPOLATIONS else "bicubic"


class _Images(nn.Module):
    """The image tower of a loaded model, as a module."""

    def __init__(self, towers: Towers) -> None:
        super().__init__()
        self.model = towers.model
        self.images = towers.images

    def forward(self, pixels: Tensor) -> Tensor:
        return self.images(pixels)
