"""What training writes: an encoder folder that runs without PyTorch, and in its folder ``training``
the weights to train on from, the architecture and the recipe.

The part for training lies in a folder of its own because an index copies the files of an encoder,
and needs none of this."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tomli_w
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from embedsearch.encoders import text
from embedsearch.encoders.folder import EncoderFolder, hash_file, read_folder
from embedsearch.encoders.onnx import IMAGE
from embedsearch.encoders.state_dict import with_versions
from embedsearch.errors import DataError, EncoderError
from embedsearch.training.networks.architecture import read_architecture, told_architecture
from embedsearch.training.networks.building import build
from embedsearch.training.networks.dequantize import read_onnx_only
from embedsearch.training.networks.encoder import TrainableEncoder
from embedsearch.training.networks.encoder_files import write_text_tower
from embedsearch.training.networks.export import export_tower
from embedsearch.training.networks.token_table import TokenTable
from embedsearch.training.networks.towers import BagText
from embedsearch.training.recipe import About

TRAINING = "training"
WEIGHTS = "weights.safetensors"
ARCHITECTURE = "architecture.toml"
RECIPE = "recipe.toml"
_USUAL = About()
AGREEMENT = 1e-3
"""Largest difference of an embedding's number that the export may make; it makes about 1e-6."""


def write_trained(
    encoder: TrainableEncoder,
    folder: Path,
    *,
    description: str,
    about: About = _USUAL,
    recipe: str | None = None,
) -> EncoderFolder:
    """Write an encoder folder; other files in ``folder`` stay.

    It says of itself what ``about`` says, else ``description`` and the name of the folder.
    ``recipe`` is TOML, kept beside the weights. The text tower of an open_clip model is kept with
    its weights: ``openclip:ARCH@FOLDER/training/weights.safetensors`` is the whole of it. Raises
    :class:`~embedsearch.errors.EncoderError` where ONNX gives other embeddings than PyTorch.
    """
    (folder / TRAINING).mkdir(parents=True, exist_ok=True)
    encoder = encoder.cpu().eval()
    onnx.save(export_tower(encoder), folder / IMAGE)
    _check_export(encoder, folder / IMAGE)
    files = [IMAGE]
    if isinstance(encoder.text, BagText):
        rows = encoder.text.head.table.weight.detach().numpy()
        write_text_tower(folder, TokenTable(encoder.text.tokens, rows), encoder.text.head)
        files += text.FILES
    written = EncoderFolder(
        path=folder,
        name=_slug(about.name or folder.absolute().name),
        licence=about.licence or encoder.about.licence,
        description=about.description or description,
        dim=encoder.dim,
        input_size=encoder.size,
        resize=encoder.about.resize,
        interpolation=encoder.about.interpolation,
        mean=encoder.mean,
        std=encoder.std,
        pooling=encoder.about.pool,
        has_text=isinstance(encoder.text, BagText),
        hashes={file: hash_file(folder / file) for file in sorted(files)},
    )
    written.write()
    save_weights(encoder, folder / TRAINING / WEIGHTS)
    told = tomli_w.dumps(told_architecture(encoder.about))
    (folder / TRAINING / ARCHITECTURE).write_text(told, encoding="utf-8")
    if recipe is not None:
        (folder / TRAINING / RECIPE).write_text(recipe, encoding="utf-8")
    return written


def read_trained(folder: Path) -> TrainableEncoder:
    """The encoder of a folder, ready to be trained on. A folder without the part for training must
    hold a MobileNetV2.

    Raises :class:`~embedsearch.errors.EncoderError` and :class:`~embedsearch.errors.DataError`.
    """
    if not (folder / TRAINING / ARCHITECTURE).is_file():
        return read_onnx_only(read_folder(folder))
    path = folder / TRAINING / ARCHITECTURE
    try:
        about = read_architecture(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: not an architecture ({error})") from error
    state = _read_weights(folder / TRAINING / WEIGHTS)
    tokens: list[str] = []
    width = 0
    if about.text == "bag":
        listed = (folder / text.VOCABULARY).read_text(encoding="utf-8")
        tokens = listed.split("\n")[:-1]
        width = state["text.head.table.weight"].shape[1]
    encoder = build(about, tokens, width)
    try:
        _load_state(encoder, state)
    except RuntimeError as error:
        raise EncoderError(
            f"{folder / TRAINING / WEIGHTS}: not the weights of {about.kind} {about.model} "
            f"({str(error).splitlines()[0]})"
        ) from error
    encoder.requires_grad_(True).eval()
    return encoder


def _slug(name: str) -> str:
    """A name that an encoder may have."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in name.lower())
    return plain.lstrip("_.-") or "trained"


def save_weights(encoder: TrainableEncoder, path: Path) -> None:
    """Write all weights; of an open_clip model by the names that open_clip gives them."""
    state = encoder.state_dict()
    if encoder.about.kind == "openclip":
        state = {_open_clip_name(name): value for name, value in state.items()}
    save_file({name: value.contiguous().clone() for name, value in state.items()}, path)


def _load_state(encoder: TrainableEncoder, state: dict[str, Tensor]) -> None:
    if encoder.about.kind == "openclip":
        names = {_open_clip_name(name): name for name in encoder.state_dict()}
        state = {names.get(name, name): value for name, value in state.items()}
    encoder.load_state_dict(with_versions(state, encoder))


def _open_clip_name(name: str) -> str:
    if name.startswith("image.network."):
        return f"visual.{name.removeprefix('image.network.')}"
    return name.removeprefix("text.clip.")


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise EncoderError(f"{path}: cannot be read as weights ({error})") from error


def _check_export(encoder: TrainableEncoder, path: Path) -> None:
    """Embed noise both ways."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, encoder.size, encoder.size, 3), np.uint8)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    exported = session.run(None, {session.get_inputs()[0].name: pixels})[0]
    with torch.no_grad():
        expected = encoder.image(encoder.normalised(torch.from_numpy(pixels))).numpy()
    worst = float(np.abs(exported - expected).max())
    if not worst < AGREEMENT:
        raise EncoderError(f"{path}: ONNX gives embeddings that differ by {worst:.2g} from PyTorch")
