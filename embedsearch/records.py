"""The plain records that travel between the layers: frozen, comparable, free of behaviour.

A ``path`` is absolute text as ``os.fsdecode`` gives it: ``open`` takes it as it is, a byte that is
not UTF-8 is a lone surrogate in it, and ``os.fsencode`` gives the very bytes back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["image", "object", "track"]
"""A whole picture (of a video: the mean of its shots), an object in one, or what lasts in a video:
an object that was followed, or, without a label, a shot."""
Stage = Literal["ocr", "detect", "segment", "track"]
"""What an enricher finds: written words, objects, masks; and objects followed through videos."""
Box = tuple[float, float, float, float]
"""x, y, width, height in pixels of the upright image (EXIF orientation applied)."""


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """What is known of an encoder without loading its weights."""

    id: str
    """Slug and 12 hex digits of weights, preprocessing and pooling, e.g. ``mini-0123456789ab``."""
    spec: str
    """What the user writes to get it, e.g. ``mini``."""
    dim: int
    has_text: bool
    licence: str
    weights_hash: str
    """SHA-256 over the weight files, 64 hex digits."""
    input_size: int
    """Side of the square input, pixels."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["squash", "crop", "pad"] = "squash"
    """How a picture becomes a square: the aspect given up, the middle cut out, or borders added."""
    pooling: str = "avg"
    description: str = ""


@dataclass(frozen=True, slots=True)
class EnricherInfo:
    """What is known of an enricher without loading its weights."""

    id: str
    """Slug and 12 hex digits of weights and settings, e.g. ``yolox-0123456789ab``."""
    spec: str
    """What the user writes to get it."""
    stage: Stage
    licence: str
    weights_hash: str
    """SHA-256 over the weight files, 64 hex digits."""
    look: int
    """It is given pictures whose shorter side has at least so many pixels, where they have them."""
    labels: tuple[str, ...] = ()
    """Names it can give; empty for words, and where any name can be asked for."""
    description: str = ""
    crop: Literal["box", "masked"] = "box"
    """How the objects it found in an index were cut out to be embedded."""


@dataclass(frozen=True, slots=True)
class Mask:
    """Which pixels belong to an object: COCO's compressed run-length code over a whole picture,
    column by column (Lin et al., "Microsoft COCO", 2014; ``pycocotools.mask``).

    The code may be of a smaller picture: it is scaled to where it is shown."""

    height: int
    width: int
    counts: str


@dataclass(frozen=True, slots=True)
class Detection:
    """An object in a picture."""

    label: str
    score: float
    """In [0, 1]."""
    box: Box
    mask: Mask | None = None


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of words in a picture. Lines come in reading order."""

    text: str
    confidence: float
    """In [0, 1]."""
    box: Box
    """The upright rectangle around it."""
    quad: tuple[float, ...] | None = None
    """x and y of its four corners, clockwise from where the text begins; None: those of the box."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of trying an encoder on one photo, in a process of its own."""

    milliseconds: float = 0.0
    """For one photo, decoded already: the median of several."""
    load_seconds: float = 0.0
    peak_bytes: int = 0
    """Memory of the process until the photo was encoded, PyTorch and all."""
    words: tuple[tuple[str, float], ...] | None = None
    """The nearest words and their cosines; None where the encoder knows no words."""
    runs_on: str | None = None
    """Where it ran; None where the encoder does not tell."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """An encoder that can be named, and what it costs."""

    info: EncoderInfo
    where: Literal["box", "index", "named"]
    runs_on: str
    weight_bytes: int | None
    """None where the weights are not to be seen without loading them."""
    embeddings: int = 0
    """How many the index has of it."""
    trial: Trial | None = None


@dataclass(frozen=True, slots=True)
class StageModel:
    """What a stage of ``index --enrich`` uses where nothing is named, and what may be."""

    stage: Stage
    spec: str
    info: EnricherInfo | None
    """None where it cannot be had."""
    error: str | None
    """Why."""
    weight_bytes: int | None
    """None where the weights are another package's."""
    others: tuple[str, ...]
    """Specs that may be named instead."""


@dataclass(frozen=True, slots=True)
class Image:
    """One picture file as the catalogue knows it."""

    id: int
    path: str
    size: int
    mtime_ns: int
    hash: str
    width: int
    height: int
    taken_at: str | None
    """ISO 8601 local time from EXIF, ``None`` where the picture does not say."""
    status: Literal["ok", "failed", "vanished"]


@dataclass(frozen=True, slots=True)
class Region:
    """Anything that has an embedding. Its ``id`` is its FAISS id and is never used again."""

    id: int
    path: str
    kind: Kind
    box: Box
    label: str | None = None
    score: float | None = None
    start: float | None = None
    """When a track begins, and ends, and when it was seen best: seconds from the beginning of its
    video. None for what has no time."""
    until: float | None = None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """One reason why a picture is a hit."""

    kind: Literal["image", "object", "track", "text", "label"]
    score: float
    box: Box | None = None
    label: str | None = None
    text: str | None = None
    time: float | None = None
    """In a video: seconds from its beginning."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One result picture with the signals that explain it. ``score`` is a cosine in [-1, 1]."""

    rank: int
    path: str
    score: float
    signals: tuple[Signal, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A picture that could not be used, and why."""

    path: str
    stage: Literal["scan", "read", "decode", "encode", "ocr", "detect", "segment", "track"]
    reason: str


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one stage of enriching did in a run. Counts are pictures, but for objects and lines."""

    stage: Stage
    enricher: str
    """Its id."""
    looked_at: int = 0
    copied: int = 0
    """Pictures whose content had been looked at in another file."""
    objects: int = 0
    lines: int = 0
    failed: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class StageCoverage:
    """What an enricher has looked at. Counts are pictures that are there, but for objects and
    lines."""

    stage: Stage
    enricher: str
    """Its id."""
    pictures: int
    objects: int
    lines: int
    failed: int
    """Pictures that could not be looked at in this stage."""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What one ``index`` run did. Counts are pictures."""

    new: int = 0
    changed: int = 0
    moved: int = 0
    copies: int = 0
    unchanged: int = 0
    vanished: int = 0
    encoded: int = 0
    """Embeddings computed by this run; copies, moved and touched pictures need none."""
    derived: int = 0
    """Embeddings made from those that other encoders have in the index; no picture was read."""
    taken: int = 0
    """Embeddings taken as they are from a folder in the layout of clip-retrieval."""
    failed: int = 0
    """Pictures under the roots of this run that cannot be used, old failures included."""
    failures: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    interrupted: bool = False
    stages: tuple[StageReport, ...] = ()
    """What enrichers did, stage by stage."""


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What ``info`` tells about an index."""

    path: str
    pictures: int
    vanished: int
    regions: int
    roots: tuple[str, ...]
    encoders: tuple[EncoderInfo, ...]
    embeddings: dict[str, int]
    """Embeddings by encoder id."""
    bytes_on_disk: int
    last_run: dict[str, Any] | None
    failures: tuple[Failure, ...] = ()
    newer: dict[str, str] = field(default_factory=dict)
    """By the id of an encoder of the index, the id of what its spec names now, where that is newer
    weights that the index is not used with yet."""
    stages: tuple[StageCoverage, ...] = ()
    """What enrichers have looked at."""


@dataclass(frozen=True, slots=True)
class ForgottenEncoder:
    """What ``forget --encoder`` takes out of an index."""

    encoder: str
    """Its id."""
    embeddings: int
    last_of: int
    """Pictures that no other encoder has an embedding of; the next ``index`` encodes them anew."""
    clusters: bool
    """Whether the clusters were made of these embeddings, and go with them."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something ``verify`` found. ``repaired`` tells whether ``--repair`` mended it."""

    where: Literal["files", "catalogue", "vectors", "encoders"]
    what: str
    path: str | None = None
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class ExportRow:
    """One region as ``export`` writes it; ``embedding`` is float32 of shape (dim,)."""

    path: str
    kind: Kind
    box: Box
    label: str | None
    cluster: int | None
    width: int
    height: int
    taken_at: str | None
    embedding: Any = field(default=None, compare=False)
    size: int = 0
    """Bytes of the file."""
    mtime_ns: int = 0
    hash: str = ""
    """Of the file's content, as the catalogue keeps it."""
    start: float | None = None
    """Of a shot or track, seconds from the beginning of its video; so are the next two."""
    until: float | None = None
    at: float | None = None
    """When the box was seen."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """One picture of a group of duplicates."""

    path: str
    similarity: float
    """Cosine between its embedding and that of the best picture of the group, in [-1, 1]."""
    hash_distance: int | None
    """Bits in which the perceptual hashes of it and of the best picture differ, 0 to 64, where
    both show the same; None where pictures were not compared (exact copies, bursts)."""
    changed: str
    """How it lies upon the best picture: ``"mirrored"``, ``"turned 15°"``...; empty where as it
    is."""
    width: int
    height: int
    size: int
    """Bytes."""
    taken_at: str | None


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Pictures of which one would do. ``best`` is the path of the one proposed to be kept; it is
    the first of ``pictures``."""

    kind: Literal["exact", "near", "burst"]
    best: str
    pictures: tuple[Duplicate, ...]


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """What ``duplicates`` found."""

    groups: tuple[DuplicateGroup, ...]
    skipped: tuple[Failure, ...] = ()
    """Pictures that could not be compared: gone, changed or unreadable since they were indexed."""
    pictures: int = 0
    """How many were looked at."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Pictures that are alike."""

    cluster: int
    """Its number: kept when pictures are added later."""
    name: str
    size: int
    medoid: str
    """Path of the picture that shows it best."""


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """The clusters of an index, by number, and what the run that reports them did."""

    clusters: tuple[Cluster, ...]
    unclustered: int
    """Pictures that are in no cluster."""
    method: str = "kmeans"
    where: str | None = None
    """Only pictures for which this was true were put into clusters."""
    added: int = 0
    """Pictures that this run put into clusters."""
    anew: bool = False
    """Whether this run made the clusters, or added to those that were there."""


@dataclass(frozen=True, slots=True)
class TagCount:
    """A tag, and how many pictures have it: given by a person, or found in the picture."""

    tag: str
    pictures: int
    given: int
    """How many of them got it from a person."""


@dataclass(frozen=True, slots=True)
class MapPoint:
    """One picture on a map, with what it can be coloured, labelled and found by."""

    image: Image
    x: float
    y: float
    cluster: int | None = None
    cluster_name: str | None = None
    label: str | None = None
    """What the picture shows: the label of the whole, else that of its largest labelled region."""
    tags: tuple[str, ...] = ()
    """Those given by a person first, then by falling score."""


@dataclass(frozen=True, slots=True)
class PictureMap:
    """A collection laid out in the plane: pictures that look alike lie close together."""

    method: Literal["pca", "tsne", "umap"]
    encoder: str
    """Id of the encoder whose embeddings were laid out."""
    made_at: str
    """When the places of the first pictures were computed, ISO 8601."""
    points: tuple[MapPoint, ...]
    placed: int = 0
    """Pictures that this call placed into a map that was there."""
    kept: int = 0
    """Pictures that lie where they lay before."""
    not_kept: str | None = None
    """Why the places could not be written down in the index, where they could not."""
