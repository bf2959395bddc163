"""What the encoders on PyTorch share: the device, the weights, and the way from pixels to rows."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from embedsearch.encoders.base import Embeddings, Pixels
from embedsearch.encoders.model_spec import ModelSpec
from embedsearch.encoders.preprocess import ResizeWay
from embedsearch.encoders.state_dict import with_versions
from embedsearch.errors import EncoderError, QueryError
from embedsearch.records import EncoderInfo
from embedsearch.settings import Device

GPU_BATCH = 64
"""Pictures that go to a GPU at once."""
_LONGEST_ASPECT = 3
"""Of a longer picture only the middle is resized, where its middle square is all that is used."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a model's own configuration says of its input, and the library's transform for it."""

    size: int
    resize: ResizeWay
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: float
    """Side of the square that is cut out, as a part of the shorter side of the resized picture."""
    transform: Callable[..., Tensor] = field(compare=False)
    """From a Pillow image in RGB to float32 (3, size, size), normalised."""

    def told(self) -> dict[str, object]:
        """What enters the encoder's id."""
        return {
            "size": self.size,
            "resize": self.resize,
            "interpolation": self.interpolation,
            "mean": self.mean,
            "std": self.std,
            "crop": self.crop,
        }


@dataclass(frozen=True, slots=True)
class Towers:
    """A loaded model, in evaluation mode and float32, and how it is called."""

    spec: ModelSpec
    name: str
    model: nn.Module
    images: Callable[[Tensor], Tensor]
    """From (N, 3, size, size) to (N, dim), of any length."""
    preprocessing: Preprocessing
    pooling: str
    licence: str
    description: str
    variant: str = ""
    """What else decides about the rows, and is neither weights, preprocessing nor pooling."""
    texts: Callable[[list[str], torch.device], Tensor] | None = None
    """From texts to (N, dim), of any length; ``None`` where the model has no text tower."""


class TorchEncoder:
    """An encoder on PyTorch; float32 on a CPU, bfloat16 on a GPU.

    On a CPU pictures run one by one, so that neighbours in a batch never change a result. On a GPU
    they run in batches of up to :data:`GPU_BATCH`, and rows may differ in the last bits of bfloat16
    with the size of the batch. One object may be shared by any number of threads.
    """

    def __init__(self, towers: Towers, device: Device) -> None:
        self._towers = towers
        self._device = choose_device(device)
        self._running = threading.Lock()
        towers.model.eval().requires_grad_(False)
        digest = weights_hash(towers.model)
        if self._device.type == "cuda":
            towers.model.to(self._device, memory_format=torch.channels_last)
        size = towers.preprocessing.size
        dim = self._run(lambda: towers.images(self._placed(torch.zeros(1, 3, size, size)))).shape[1]
        self._info = _info(towers, digest, dim)

    @property
    def info(self) -> EncoderInfo:
        return self._info

    @property
    def towers(self) -> Towers:
        """The model itself, for those who train it further or export it."""
        return self._towers

    @property
    def weight_bytes(self) -> int:
        """Size of the weights in memory, text tower included."""
        return sum(value.nbytes for value in self._towers.model.state_dict().values())

    @property
    def runs_on(self) -> str:
        if self._device.type == "cuda":
            return f"GPU ({torch.cuda.get_device_name(self._device)})"
        return "CPU"

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        """Embed pictures, uint8 (H, W, 3) of any sizes: float32 (len(images), dim), unit rows."""
        step = GPU_BATCH if self._device.type == "cuda" else 1
        rows = np.empty((len(images), self._info.dim), np.float32)
        for start in range(0, len(images), step):
            batch = torch.stack([self._input(image) for image in images[start : start + step]])
            rows[start : start + step] = self._run(
                lambda batch=batch: self._towers.images(self._placed(batch))  # type: ignore[misc]
            )
        return _unit(rows)

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed texts: float32 (len(texts), dim), unit rows.

        Raises :class:`~embedsearch.errors.EncoderError` where there is no text tower, and
        :class:`~embedsearch.errors.QueryError` for a text without any word.
        """
        tower = self._towers.texts
        if tower is None:
            raise EncoderError(f"{self._info.spec} has no text tower; search with --image.")
        # Lone surrogates, as file names may bring, are dropped.
        readable = [text.encode("utf-8", "ignore").decode("utf-8").strip() for text in texts]
        if not all(readable):
            raise QueryError(f"{texts[readable.index('')]!r} holds no word.")
        rows = np.empty((len(texts), self._info.dim), np.float32)
        for place, text in enumerate(readable):
            rows[place] = self._run(lambda text=text: tower([text], self._device))[0]  # type: ignore[misc]
        return _unit(rows)

    def _input(self, pixels: Pixels) -> Tensor:
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise EncoderError(
                f"a picture must be a uint8 array of shape (height, width, 3), "
                f"not {pixels.dtype} {pixels.shape}"
            )
        from PIL import Image

        preprocessing = self._towers.preprocessing
        if preprocessing.resize == "crop":
            pixels = _without_far_ends(pixels)
        return preprocessing.transform(Image.fromarray(np.ascontiguousarray(pixels)))

    def _placed(self, batch: Tensor) -> Tensor:
        if self._device.type == "cuda":
            return batch.to(self._device, memory_format=torch.channels_last)
        return batch

    def _run(
        self, compute: Callable[[], Tensor]
    ) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """One call at a time: PyTorch itself spreads it over the cores, or over the GPU."""
        half = self._device.type == "cuda"
        with (
            self._running,
            torch.inference_mode(),
            torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=half),
        ):
            rows: np.ndarray[tuple[int, int], np.dtype[np.float32]] = (
                compute().float().cpu().numpy()
            )
        return rows


def choose_device(device: Device) -> torch.device:
    """``auto`` is the GPU where there is one, which is said on stderr, once.

    Raises :class:`~embedsearch.errors.EncoderError` for ``cuda`` where there is none.
    """
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise EncoderError("PyTorch finds no GPU for --device cuda; use --device cpu.")
    if device == "auto" and there:
        _say_gpu()
    return torch.device("cuda" if there and device != "cpu" else "cpu")


@cache
def _say_gpu() -> None:
    sys.stderr.write(
        f"The encoder runs on {torch.cuda.get_device_name()}; --device cpu turns that off.\n"
    )


def weights_hash(model: nn.Module) -> str:
    """SHA-256, 64 hex digits, over the names, types, shapes and values of all weights.

    The same weights give the same hash whichever file they came from.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def load_weights(model: nn.Module, file: Path, unused: Sequence[str]) -> None:
    """Load a checkpoint: safetensors, or a state dict of ``torch.save``, which is never unpickled
    as code. Weights of the modules ``unused`` (a classifier: ``head.fc``) are left out; all others
    must fit.

    Raises :class:`~embedsearch.errors.EncoderError`.
    """
    from timm.models import load_state_dict

    try:
        load_state(model, load_state_dict(str(file), use_ema=True, weights_only=True), unused)
    except Exception as error:  # the libraries raise nearly every type there is
        raise EncoderError(
            f"{file}: cannot be loaded into this model ({_brief(error)}). It must be a "
            ".safetensors file, or a state dict that torch.save wrote, of the very same model."
        ) from error


def load_state(model: nn.Module, state: dict[str, Tensor], unused: Sequence[str]) -> None:
    """Load a state dict; a weight that is missing, or too many, raises :class:`ValueError`."""
    left = tuple(f"{module}." for module in unused)
    body = {name: value for name, value in state.items() if not name.startswith(left)}
    told = getattr(state, "_metadata", None)
    missing, surplus = model.load_state_dict(with_versions(body, model, told), strict=False)
    if missing or surplus:
        kind, names = ("lacks", missing) if missing else ("has, but the model lacks,", surplus)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ValueError(f"it {kind} {', '.join(names[:3])}{more}")


def weights_unavailable(spec: ModelSpec, what: str, sought: str, error: Exception) -> EncoderError:
    """The error for weights that are not on this machine and cannot be downloaded."""
    return EncoderError(
        f"{spec}: the weights ({what}) cannot be had: {_brief(error)}\n"
        f"They were sought in {sought}, then on the network. Either run this once with a network; "
        "or copy that folder from a machine that has them (HF_HUB_CACHE and TORCH_HOME say where "
        "such folders lie); or download the file elsewhere and name it: "
        f"{spec.family}:{spec.model}@/path/to/FILE"
    )


def cached_hub_file(repository: str, names: Sequence[str]) -> str | None:
    """Path of the first of these files that the Hugging Face cache holds. Asks no network, which
    takes the hub's own client most of a minute to find out about where there is none."""
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return found
    return None


def hub_cache() -> str:
    """The folder where Hugging Face keeps what it downloads."""
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def _info(towers: Towers, digest: str, dim: int) -> EncoderInfo:
    preprocessing = towers.preprocessing
    told = json.dumps(
        {
            "weights": digest,
            "preprocessing": preprocessing.told(),
            "pooling": towers.pooling,
            "variant": towers.variant,
        },
        sort_keys=True,
    )
    short = hashlib.sha256(told.encode()).hexdigest()[:12]
    return EncoderInfo(
        id=f"{towers.spec.slug(towers.name)}-{short}",
        spec=str(towers.spec),
        dim=dim,
        has_text=towers.texts is not None,
        licence=towers.licence,
        weights_hash=digest,
        input_size=preprocessing.size,
        mean=preprocessing.mean,
        std=preprocessing.std,
        resize=preprocessing.resize,
        pooling=towers.pooling,
        description=towers.description,
    )


def _without_far_ends(pixels: Pixels) -> Pixels:
    """The middle of a very long picture. Resizing all of it would take gigabytes."""
    height, width = pixels.shape[:2]
    longest = _LONGEST_ASPECT * min(height, width)
    top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
    return pixels[top : top + longest, left : left + longest]


def _unit(rows: Embeddings) -> Embeddings:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not ((lengths > 0) & np.isfinite(lengths)).all():
        raise ValueError("the model gave a vector of no or infinite length")
    unit: Embeddings = rows / lengths
    return unit


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
