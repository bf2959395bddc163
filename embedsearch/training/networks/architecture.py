"""What an encoder is built like: all that must be known before its weights are loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from embedsearch.encoders.preprocess import Interpolation, ResizeWay
from embedsearch.training.networks.folding import GREY
from embedsearch.training.networks.mobilenetv2 import MEAN, STD

MOBILENETV2 = "mobilenetv2"
FOLDED = "folded-mobilenetv2"
_LISTS = ("mean", "std", "without", "expanded")
"""What a file holds as a list is a tuple here."""


@dataclass(frozen=True)
class Architecture:
    """All that must be known to build an encoder before its weights are loaded."""

    kind: str
    """``mobilenetv2``, ``folded-mobilenetv2``, ``timm``, ``torchvision`` or ``openclip``."""
    model: str
    """Name in the library."""
    size: int
    resize: ResizeWay
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pool: str
    dim: int
    """Of the embeddings; 0 where they are the pooled features themselves."""
    text: str
    """``none``, ``bag`` or ``openclip``."""
    licence: str = "see where the weights are from"
    last: str = ""
    """The module of a torchvision model that gives the maps."""
    dropout: float = 0.0
    hidden: int = 512
    """Hidden units of a ``bag``."""
    without: tuple[str, ...] = ()
    """Stages that are left out of the network."""
    expanded: tuple[int, ...] = ()
    """Of a MobileNetV2 that was made narrower: channels inside each block, 0 for the usual."""
    stem: int = 0
    """And those that enter the first block, 0 for the usual."""

    @property
    def name(self) -> str:
        """What encoders of this kind are called."""
        return self.model.lower().replace("/", "-")


def read_architecture(told: dict[str, Any]) -> Architecture:
    """An architecture from what :func:`asdict` made of it."""
    lists = {name: tuple(told[name]) for name in _LISTS if name in told}
    return Architecture(**told | lists)


def told_architecture(about: Architecture) -> dict[str, Any]:
    """An architecture as TOML and JSON can hold it."""
    return asdict(about) | {name: list(getattr(about, name)) for name in _LISTS}


def _mobilenetv2(kind: str, mean: Any, std: Any, **told: Any) -> Architecture:
    plain = Architecture(
        kind=kind,
        model="mobilenetv2",
        size=224,
        resize="squash",
        interpolation="bicubic",
        mean=mean,
        std=std,
        pool="avg",
        dim=0,
        text="none",
    )
    return replace(plain, **told)


def folded_architecture(**told: Any) -> Architecture:
    """The MobileNetV2 whose BatchNorm and normalisation are in its convolutions."""
    return _mobilenetv2(FOLDED, (GREY / 255,) * 3, (1.0,) * 3, **told)


def mobilenetv2_architecture() -> Architecture:
    """The MobileNetV2 of MXNet's model zoo, as its ImageNet weights are."""
    return _mobilenetv2(MOBILENETV2, MEAN, STD)
