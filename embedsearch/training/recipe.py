"""A recipe: one TOML file with all that decides how a training run goes.

A recipe is a frozen dataclass of sections, which are frozen dataclasses of plain values. The file
holds what differs from the usual or everything; the command line changes single values; what came
of it is stored with what was made.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self


@dataclass(frozen=True)
class Model:
    """What is trained."""

    start: str = "mini"
    """Spec of the encoder to start from."""
    size: int | None = None
    """Side of the square input; the encoder's own where none is given."""
    used_at: int | None = None
    """Side in use, where it is another than in training. Crops show things larger than they are in
    whole photos, so a larger side in use brings both together (Touvron et al., "Fixing the
    train-test resolution discrepancy", 2019)."""
    pool: str | None = None
    """Another pooling: avg, max, l2, rmac, or gem, whose power is learned."""
    dim: int | None = None
    """A new linear head of so many dimensions; 0 takes the head away."""
    text: str | None = None
    """A model2vec folder to start a new text tower from."""
    hidden: int = 512
    dropout: float = 0.0
    scratch: bool = False
    """Forget the weights of the image network first."""
    without: tuple[str, ...] = ()
    """Stages to leave out, such as block 8. They must give maps of the shape that they take."""
    narrower: float = 0.0
    """Share of the multiplications to leave out, with channels inside the blocks of a MobileNetV2
    and of its first convolution. A run of ``finetune`` by itself, of no epochs."""
    hubs: int = 0
    """So many groups of captions, such as 1024, by which rows tell pictures apart that are near to
    every sentence (:mod:`embedsearch.encoders.hubs`); 0 is none. ``finetune`` alone."""
    norm: str = "frozen"
    """frozen: BatchNorm keeps its statistics; batch: it learns them anew."""


@dataclass(frozen=True)
class Data:
    """What it is trained on."""

    paths: tuple[str, ...] = ()
    only: str | None = None
    """COLUMN=VALUE: the lines of a table that count."""
    per_class: int = 0
    """So many photos of each class; 0 is all."""
    held_out: float = 0.1
    """Share of the photos that are not trained on, but measured on."""
    split_seed: int = 0
    """Which photos are held out; another seed of the run leaves them the same."""
    text_check: str | None = None
    """JSON lines with captions, not trained on: whether text search survives is measured there."""
    augmentation: str = "standard"
    classifier: str | None = None
    """For the loss ``guesses``: a classifier that says what the photos show, as ``litert:FILE``."""
    class_names: str | None = None
    """The names of its classes: a file with a class a line, its names parted by commas."""
    sentences: str = "minilm"
    """For the losses ``sentences`` and ``words``: who knows what texts mean. minilm, a folder of
    sentence-transformers, or an encoder that knows words."""
    words: str | None = None
    """For the loss ``words``: a file with a word or phrase a line; the vocabulary of tags where
    none is named."""


@dataclass(frozen=True)
class Loss:
    """What is made small."""

    losses: tuple[str, ...] = ()
    """Names, a weight and a colon before each where it is not 1. Empty: info-nce where there is a
    text tower, else cross-entropy."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the losses of labels, such as label_smoothing."""
    temperature: float = 0.05
    """Of info-nce; where its learned temperature starts."""
    label_weight: float = 0.5
    """How much a labelled photo counts beside one with captions, for info-nce."""
    view_temperature: float = 0.1
    """Of views, the loss that brings two looks at a photo together."""
    feature_temperature: float = 0.1
    """Of features: how fast a neighbour counts less the farther it is."""
    sentence_temperature: float = 0.1
    """Of sentences: how alike two texts must be to be taken for one another."""
    words: int = 128
    """Of words: so many in a step."""
    keep: float = 0.0
    """Weight of a pull back to the embeddings before training, 1 - cosine."""


@dataclass(frozen=True)
class Balance:
    """Classes of unlike size."""

    weights: str = "none"
    """none, inverse, effective: how much a photo of a rare class counts."""
    beta: float = 0.999
    """Of effective: towards 1 for classes of thousands of photos, 0.9 for classes of tens."""
    sampling: str = "none"
    """none, balanced, over, under."""
    rare_strength: float = 1.0
    """How much stronger the rarest classes are augmented."""
    probe: str = "none"
    """The same for the probe; also smote, adasyn, bagging, boosting."""


@dataclass(frozen=True)
class Adversarial:
    """Training on the worst that can happen to a photo."""

    attack: str | None = None
    """fgsm, pgd, occlusion or light."""
    epsilon: float = 4 / 255
    steps: int = 3
    tries: int = 4
    strength: float = 1.0
    weight: float = 0.5
    """Share of the loss that is taken on the changed photos."""


@dataclass(frozen=True)
class Freeze:
    """Which stages of the image network stay as they are."""

    until: str | None = None
    """The first stage that is trained; ``head`` freezes all of the network."""
    unfreeze_every: float = 0.0
    """Gradual unfreezing: begin with the head, and open one more stage every so many epochs."""
    layer_decay: float = 1.0
    """Each stage further from the head takes so much smaller steps."""
    text: bool = False
    """Leave the text tower as it is."""
    cache: str | None = None
    """Folder for the activations of the frozen stages; for looks as pixels where none is frozen."""
    views: int = 4
    """Looks at each photo that are kept there."""


@dataclass(frozen=True)
class Optimisation:
    """How the loss is made small: what every task of training has a place for."""

    epochs: int = 10
    """0 trains nothing: a linear probe."""
    batch: int = 64
    """Photos in a step, before accumulation."""
    captioned: float = 0.5
    """Share of a batch that are photos with captions, where there are both kinds."""
    optimizer: str = "adamw"
    """sgd, adamw or rmsprop."""
    rate: float = 3e-4
    """Step size of the last stage of the network."""
    head_rate: float = 1e-3
    """Of heads, losses and the small network of the text tower."""
    table_rate: float = 2e-3
    """Of the table of token embeddings."""
    text_rate: float = 1e-5
    """Of an open_clip text tower."""
    decay: float = 0.05
    """Weight decay of the network."""
    head_decay: float = 0.05
    momentum: float = 0.9
    """Of sgd and rmsprop."""
    warm_up: float = 0.5
    """Epochs in which steps grow."""
    schedule: str = "cosine"
    """cosine or constant."""
    accumulate: int = 1
    """Batches that make one step."""
    clip: float = 0.0
    """Longest gradient; 0 is any."""
    ema: float = 0.0
    """Decay of the running mean of the weights that is kept in the end; 0 is none."""
    amp: str = "auto"
    """auto, off, bf16, fp16."""
    patience: int = 0
    """Stop after so many epochs without a better figure on the photos held out; 0 is never."""
    keep_best: bool = True
    """Keep the weights of the epoch with the best figure rather than the last."""
    checkpoint_minutes: float = 10.0
    seed: int = 0
    threads: int | None = None
    strategy: str = "ddp"
    """Under torchrun: ddp, fsdp or pipeline."""

    def what_is_learned(self) -> Self:
        """These settings without those that change where and how fast steps are taken, and not
        which: a run that was broken off may go on with others."""
        return replace(self, checkpoint_minutes=0.0, threads=None, strategy="ddp")


@dataclass(frozen=True)
class EncoderOptimisation(Optimisation):
    """The same of encoders. Shared with distillation."""

    pieces: int = 1
    """So many pieces in which the photos of a batch pass through the network, twice, so that memory
    is that of one piece, and losses are those of the whole batch (gradient caching, Gao et al.
    2021). BatchNorm must keep its statistics."""

    def what_is_learned(self) -> Self:
        return replace(super().what_is_learned(), pieces=1)


@dataclass(frozen=True)
class About:
    """What the folder that is written says of itself. Shared with distillation."""

    name: str | None = None
    """The name of the folder where none is given. Its id begins with it."""
    description: str | None = None
    """What it was trained from, and on how many photos, where none is given."""
    licence: str | None = None
    """That of what it started from where none is given."""


@dataclass(frozen=True)
class Recipe:
    """A recipe of ``finetune``."""

    about: About = About()
    model: Model = Model()
    data: Data = Data()
    loss: Loss = field(default_factory=Loss)
    balance: Balance = Balance()
    adversarial: Adversarial = Adversarial()
    freeze: Freeze = Freeze()
    optimisation: EncoderOptimisation = EncoderOptimisation()
    wise_ft: str = "1"
    """How much of the trained weights is kept: 0 to 1, or auto, which is chosen on the photos held
    out."""


@dataclass(frozen=True)
class Teaching:
    """Who teaches."""

    spec: str = ""
    """Any encoder, or several: A+B, (A+B)?join=mean."""
    views: tuple[str, ...] = ("plain", "mirror")
    """plain, mirror, crops: the teacher's answer is the mean over them."""
    text: str = "auto"
    """The student's text tower. copy: the teacher's, which stays as it is; train: its own, else
    the teacher's to begin with; none; auto: a copy where the teacher has one that can be copied,
    else its own."""
    sentences: str | None = None
    """A text teacher: minilm, a folder of sentence-transformers, or an encoder that knows words."""
    words: str | None = None
    """A file with a word or phrase a line, which it teaches beside captions and names; the
    vocabulary of tags where none is named."""
    cache: str | None = None
    """Folder for what the teachers said; one in the folder that is written where none is named."""
    sees: str | None = None
    """A policy: what the teacher sees of each look that is kept (``freeze.cache``), so that both
    look at the same part of a photo. Steps of it are drawn as the student's are; what the student's
    policy has beside them, such as blur, the teacher does not see. None: the photo itself."""
    look_size: int | None = None
    """Side of the looks kept for the teacher; its input size where none is given. Of looks that it
    is asked about live: the student's, where none is given; the student sees them reduced."""
    live: bool = False
    """Ask it at every step about the looks as the student has them, rather than once before: they
    may be new each time, and mixed with one another."""
    axes: str = "learned"
    """Where the teacher has more dimensions than the student. learned: a projection of the
    student's rows onto them, thrown away in the end; principal: the student learns the teacher's
    rows on as many axes as it has itself, which keep most of them."""


@dataclass(frozen=True)
class Imitate:
    """What of the teacher is learned."""

    losses: tuple[str, ...] = ()
    """Names, a weight and a colon before each where it is not 1. Empty: cosine; affinity and text
    where both know words; words where there is a text teacher."""
    scale: float = 20.0
    """What cosines are multiplied by to be logits, for soft, affinity and info-nce."""
    temperature: float = 2.0
    """Of soft."""
    words: int = 96
    """Words of a step."""
    maps: tuple[str, ...] = ()
    """Stages behind which the loss maps compares, such as block 1."""
    label_weight: float = 0.5
    """How much a labelled photo counts beside one with captions, for info-nce."""


@dataclass(frozen=True)
class Distillation:
    """A recipe of ``distill``. ``model.start`` is the student."""

    about: About = About()
    model: Model = Model(start="")
    teacher: Teaching = Teaching()
    data: Data = Data()
    loss: Imitate = Imitate()
    freeze: Freeze = Freeze()
    optimisation: EncoderOptimisation = EncoderOptimisation()
