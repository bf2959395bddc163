"""A recipe of ``finetune --task segment``: all that decides how the segmenter comes out."""

from __future__ import annotations

from dataclasses import dataclass, field

from embedsearch.training.recipe import About, Optimisation


@dataclass(frozen=True)
class Model:
    """The network: an encoder, and a decoder of segmentation-models-pytorch behind it."""

    start: str = "mini"
    """The encoder: what ``finetune`` starts an encoder from, where that is a MobileNetV2 (mini, a
    folder, mobilenetv2@FILE.npz); ``litert:FILE``, the MobileNetV2 that a LiteRT file begins with,
    be it a classifier or a segmenter; or ``smp:NAME``, an encoder of segmentation-models-pytorch
    with the weights that it downloads, ``smp:NAME@none`` with none."""
    decoder: str = "light"
    """light, ours, of 130,000 numbers; raspp, of DeepLabV3 on MobileNetV2, whose numbers a LiteRT
    file may have too; or one of segmentation-models-pytorch: unet,
    unetplusplus, fpn, linknet, manet, pan, pspnet, deeplabv3, deeplabv3plus, upernet."""
    options: dict[str, object] = field(default_factory=dict)
    """Options of the decoder, as the library names them: decoder_channels = 128,
    encoder_output_stride = 16 (maps no smaller than a sixteenth of the picture)."""
    size: int = 256
    """Side of the square in use, pixels; a multiple of 32."""
    fit: str = "pad"
    """pad keeps the aspect of a picture, squash gives it up."""


@dataclass(frozen=True)
class Data:
    """What it is trained on."""

    paths: tuple[str, ...] = ()
    """Folders with ``images`` and ``masks`` (PNG, the value of a pixel is its class); JSON lines
    with objects (polygons, or mask_value and a folder ``masks``); with a teacher also photos:
    folders, tables, JSON lines, as for encoders."""
    labels: tuple[str, ...] = ()
    """Names of the classes, background not among them. Of masks, in the order of their values, of
    which one alone means every value but 0. Empty: those of the objects or of the teacher."""
    half: str | None = None
    """odd or even, by the SHA-1 of the file's name: only these of the photos with masks or
    objects."""
    held_out: float = 0.1
    """Share of the photos with masks that are not trained on, but measured on."""
    measure: str | None = None
    """Other data of the same forms to measure on instead."""
    measure_half: str | None = None
    split_seed: int = 0
    sources: tuple[str, ...] = ()
    """For a teacher: photos of these sources, as the lists tell them; of all by default."""
    words: str | None = None
    """For a teacher: a regular expression for what is told of the photos that may hold the classes,
    in any case; of three photos two are such."""
    photos: int = 0
    """For a teacher: so many photos, drawn; 0 is all."""
    repeat: int = 1
    """How many times as often a photo with masks is looked at as one without."""


@dataclass(frozen=True)
class Loss:
    """What is made small."""

    cross_entropy: float = 1.0
    dice: float = 0.0
    """1 - 2|A and B| / (|A| + |B|), mean over classes (Milletari et al., "V-Net", 2016)."""


@dataclass(frozen=True)
class Distil:
    """What is learned of a teacher."""

    teacher: str | None = None
    """Any segmenter that tells how likely classes are: litert:FILE, torchvision:MODEL, a folder."""
    cache: str | None = None
    """Folder for what it said; one in the folder that is written where none is named."""
    weight: float = 1.0
    """Of the Kullback-Leibler divergence from the teacher's probabilities to the student's."""
    temperature: float = 1.0
    balance: float = 0.0
    """A pixel counts by how many of the batch the teacher gives its class, to this power, less: 0
    counts pixels alike, 1 classes."""


@dataclass(frozen=True)
class Looks:
    """How a photo is changed before it is shown, and its masks with it."""

    size: int = 224
    """Side of what is trained on, pixels; a multiple of 32."""
    least: float = 0.25
    """A part of a photo that is shown has at least, and"""
    most: float = 1.0
    """at most, this share of its area."""
    aspect: float = 1.6
    """It is stretched by up to this factor."""
    colour: float = 0.3
    """Brightness, contrast and saturation change by up to this share."""
    kept: int = 0
    """With ``freeze``: so many looks at each photo are drawn once, and what the frozen stages give
    for them is kept on disk. 0 draws a new look each time."""


@dataclass(frozen=True)
class Export:
    """What is written."""

    int8: bool = True
    """8-bit integers, else float32."""
    calibration: int = 64
    """Photos that the ranges of activations are seen on."""


def _usual() -> Optimisation:
    return Optimisation(batch=16, rate=3e-4, head_rate=2e-3, decay=0.01)


@dataclass(frozen=True)
class Recipe:
    """A recipe of ``finetune --task segment``."""

    about: About = field(default_factory=About)
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    loss: Loss = field(default_factory=Loss)
    distill: Distil = field(default_factory=Distil)
    looks: Looks = field(default_factory=Looks)
    export: Export = field(default_factory=Export)
    freeze: str | None = None
    """The first stage of a MobileNetV2 that is trained, such as blocks.3; None trains all of it."""
    optimisation: Optimisation = field(default_factory=_usual)
