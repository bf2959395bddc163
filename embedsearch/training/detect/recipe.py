"""A recipe of ``finetune --task detect``; see :mod:`embedsearch.training.recipe`."""

from __future__ import annotations

from dataclasses import dataclass, field

from embedsearch.training.recipe import About, Optimisation


@dataclass(frozen=True)
class Model:
    """What is trained."""

    start: str = "yolox"
    """yolox, the one in the box; yolo:MODEL.onnx, a YOLOX-nano in float32; torchvision:MODEL,
    whose backbone is kept, with @FILE.pth for a checkpoint; or a folder that was trained before."""
    size: int | None = None
    """Side of the input, a multiple of 32; that of ``start`` where none is given."""
    head_only: bool = False
    """Train nothing but the head: for a handful of photos."""
    scratch: bool = False
    """Forget the weights first: nothing is loaded or downloaded."""


@dataclass(frozen=True)
class Data:
    """What it is trained on."""

    paths: tuple[str, ...] = ()
    """COCO's JSON, with the photos beside it or in a folder beside it; a folder of VOC's XML; or
    JSON lines as ``evaluate detection`` takes."""
    half: str = ""
    """odd or even: only the photos whose name has such a SHA-1."""
    held_out: float = 0.1
    """Share of the photos that are not trained on, but measured on."""
    split_seed: int = 0
    check: str = ""
    """Measure on these instead, in the same forms."""
    check_half: str = ""
    own: bool = False
    """Only the labels of the photos. Else those that ``start`` knows stay too."""
    photos: tuple[str, ...] = ()
    """Photos without labels, as JSON lines or CSV with ``file``, or folders: what ``start`` finds
    there is what is to be found (pseudo-labels)."""
    sure: float = 0.5
    """The least score of a pseudo-label."""
    most: int = 0
    """So many photos without labels; 0 is all."""


@dataclass(frozen=True)
class Looks:
    """What training makes of a photo."""

    mirror: float = 0.5
    """Share that is mirrored."""
    least: float = 0.5
    """Smallest and largest zoom."""
    largest: float = 1.5
    colour: float = 0.3
    """How far brightness, contrast and saturation go."""
    mosaic: float = 0.5
    """Share that is four photos in one."""


@dataclass(frozen=True)
class Occlusion:
    """Objects that are partly hidden."""

    paste: float = 0.0
    """Share of the looks onto which objects of other photos are pasted."""
    erase: float = 0.0
    """Share of the objects of which a part is erased."""
    most: float = 0.5
    """At most so much of an object is hidden."""
    repulsion: float = 0.0
    """Weight of the repulsion loss: boxes keep away from other objects, and from the boxes of other
    objects (Wang et al., "Repulsion Loss", 2018)."""
    compare: bool = False
    """Train a second time without any of this, and report both."""


def _usual() -> Optimisation:
    return Optimisation(batch=8, rate=2e-5, head_rate=5e-4, ema=0.998, clip=10.0, decay=5e-4)


@dataclass(frozen=True)
class Recipe:
    """A recipe. Of ``optimisation``, ``rate`` is that of what ``start`` knows already, and
    ``head_rate`` that of what is new."""

    about: About = field(default_factory=About)
    model: Model = Model()
    data: Data = Data()
    looks: Looks = Looks()
    occlusion: Occlusion = Occlusion()
    optimisation: Optimisation = field(default_factory=_usual)
