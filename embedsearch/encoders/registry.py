"""From a spec to an encoder: the one in the box, a folder, a model of another library, or what
another package brings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from embedsearch.encoders import compound_folder
from embedsearch.encoders.base import Encoder
from embedsearch.encoders.compound import Compound, JoinedEncoder, ReducedEncoder
from embedsearch.encoders.compound_spec import MEAN_OF_WEIGHTS, Joined, Single, Tree, parse
from embedsearch.encoders.folder import LITERT_IMAGE, described_id, verify_files
from embedsearch.errors import EncoderError
from embedsearch.records import EncoderInfo
from embedsearch.settings import Device

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

WEIGHTS = Path(__file__).parent.parent / "weights"
COPY_LIMIT = 16 * 1024 * 1024
"""An index keeps a copy of encoders up to this many bytes."""
ENTRY_POINTS = "embedsearch.encoders"


@dataclass(frozen=True, slots=True)
class Family:
    """Models of another library, all named by one prefix. Their weights are not in the box."""

    prefix: str
    """What specs begin with; also the module here whose ``load(spec, device)`` makes encoders."""
    spec: str
    example: str
    has_text: bool
    package: str
    """What is installed under which name."""
    runs_on: str = "CPU (float32), NVIDIA GPU (bfloat16)"


FAMILIES = (
    Family(
        "openclip",
        "openclip:ARCH/PRETRAINED",
        "openclip:convnext_base_w/laion2b_s13b_b82k",
        True,
        "open_clip_torch",
    ),
    Family(
        "timm", "timm:MODEL?pool=POOL&layer=LAYER", "timm:convnext_tiny?pool=gem", False, "timm"
    ),
    Family(
        "torchvision",
        "torchvision:MODEL?pool=POOL&layer=LAYER",
        "torchvision:resnet50?pool=rmac&layer=layer3",
        False,
        "torchvision",
    ),
    Family(
        "litert",
        "litert:FILE",
        "litert:my-encoder/image.tflite",
        True,
        "ai-edge-litert",
        "CPU",
    ),
)


def in_the_box() -> list[str]:
    """Specs of the encoders whose weights come with the package."""
    return sorted(folder.parent.name for folder in WEIGHTS.glob("*/encoder.json"))


Fit = Callable[[Encoder, int], ReducedEncoder]
"""Reduces an encoder to so many dimensions, fitted on pictures."""


def load(spec: str, device: Device = "auto", fit: Fit | None = None) -> Encoder:
    """Load the encoder that ``spec`` names.

    ``spec`` is an encoder in the box (``mini``), a folder that holds ``encoder.json``, a model of
    one of the :data:`FAMILIES`, or ``PREFIX`` or ``PREFIX:...`` where a package registered PREFIX
    under the entry points ``embedsearch.encoders`` (a callable that takes spec and device and
    returns an Encoder); or what :mod:`~embedsearch.encoders.compound_spec` makes of such. ``fit``
    is asked for every ``dim=``.

    Raises :class:`~embedsearch.errors.EncoderError`.
    """
    return _build(taken_apart(spec), device, fit)


def taken_apart(spec: str) -> Tree:
    """What ``spec`` is made of. Raises :class:`~embedsearch.errors.EncoderError`."""
    if _is_boxed_or_folder(spec):  # also those with a "+" or a "?" in their names
        return Single(spec)
    return parse(spec, _is_whole)


def _build(tree: Tree, device: Device, fit: Fit | None) -> Encoder:
    if isinstance(tree, Single):
        return _load_single(tree.spec, device)
    if isinstance(tree, Joined):
        if tree.way == MEAN_OF_WEIGHTS:
            raise EncoderError(
                "join=weights is what training may start from (embedsearch finetune --encoder, "
                "distill --student). To search with several encoders as one, ask for join=mean."
            )
        return JoinedEncoder(
            [_build(part, device, fit) for part in tree.parts], tree.weights, tree.way
        )
    base = _build(tree.base, device, fit)
    if tree.dim >= base.info.dim:
        raise EncoderError(
            f"dim={tree.dim}: {base.info.spec} has {base.info.dim} dimensions; ask for fewer."
        )
    if fit is None:
        raise EncoderError(
            f"dim={tree.dim} is fitted on the pictures of an index: embedsearch index FOLDER "
            f'--encoder "...?dim={tree.dim}". Elsewhere, name what was fitted: the folder '
            f"encoders/{base.info.id.rpartition('-')[0]}-dim{tree.dim}-... in that index."
        )
    return fit(base, tree.dim)


def _is_boxed_or_folder(spec: str) -> bool:
    # Not pathlib's: they raise for a user that does not exist, and for what is too long for a name.
    return spec in in_the_box() or os.path.isfile(Path(os.path.expanduser(spec)) / "encoder.json")


def _is_whole(spec: str) -> bool:
    """Whether ``spec`` names an encoder as far as can be seen without loading it."""
    if _is_boxed_or_folder(spec):
        return True
    prefix, colon, rest = spec.partition(":")
    if colon and prefix in {family.prefix for family in FAMILIES}:
        _, at, file = rest.partition("@")
        return os.path.isfile(os.path.expanduser(file)) if at else bool(rest)
    from importlib.metadata import entry_points

    return prefix in entry_points(group=ENTRY_POINTS).names


def _load_single(spec: str, device: Device) -> Encoder:
    if spec in in_the_box():
        return _from_folder(WEIGHTS / spec, spec, device)
    folder = Path(os.path.expanduser(spec))
    if os.path.isfile(folder / "encoder.json"):
        return _from_folder(folder, str(folder.resolve()), device)
    prefix, colon, _ = spec.partition(":")
    for family in FAMILIES:
        if colon and family.prefix == prefix:
            made: Encoder = import_module(f"{__package__}.{prefix}").load(spec, device)
            return made
    from importlib.metadata import entry_points  # 20 ms, which a query with mini does without

    entries = entry_points(group=ENTRY_POINTS)
    for entry in entries:
        if entry.name == prefix:
            return _from_package(entry, spec, device)
    brought = sorted({entry.name for entry in entries})
    packages = f", one that a package brings ({', '.join(brought)})" if brought else ""
    raise EncoderError(
        f"There is no encoder {spec!r}. Name one in the box ({', '.join(in_the_box())}){packages}, "
        "or a folder that holds an encoder.json, or a model of another library: "
        + ", ".join(family.spec.partition("?")[0] for family in FAMILIES)
        + "."
    )


def load_stored(info: EncoderInfo, index_folder: Path, device: Device = "auto") -> Encoder:
    """The very encoder that an index was made with: from the copy in the index, else by its spec.

    Raises :class:`~embedsearch.errors.EncoderError` where the spec leads to other weights, or the
    copy is not what its name says.
    """
    return _stored(info.id, info.spec, index_folder / "encoders", device)


def _stored(id_: str, spec: str, encoders: Path, device: Device) -> Encoder:
    copy = encoders / id_
    if (copy / "encoder.json").is_file():
        kept = _from_folder(copy, spec, device)
        if kept.info.id != id_:
            raise EncoderError(
                f"{copy} holds {kept.info.id}, not the encoder the index was made with. "
                "Restore it: embedsearch verify --repair"
            )
        return kept
    encoder = load(spec, device)
    if encoder.info.id != id_:
        raise EncoderError(
            f"The index at {encoders.parent} was made with {id_}, but {spec} is now "
            f"{encoder.info.id}. Restore the older weights, or index the pictures anew with "
            f"embedsearch index --encoder {spec} FOLDER"
        )
    return encoder


def keep_copy(encoder: Encoder, index_folder: Path, *, anew: bool = False) -> bool:
    """Copy a small encoder into the index, so that it can always encode a query. Returns whether
    the index has a copy now. The copy appears whole or not at all; one that is there is kept,
    unless ``anew``. Of an encoder made of others each part is kept by itself."""
    import shutil

    target = index_folder / "encoders" / encoder.info.id
    if isinstance(encoder, Compound):
        for part in encoder.parts:
            keep_copy(part, index_folder, anew=anew)
        if anew or not (target / "encoder.json").is_file():
            compound_folder.write(encoder, target)
        return True
    source: Path | None = getattr(encoder, "folder", None)
    if (target / "encoder.json").is_file() and not anew:
        return True
    if source is None or sum(file.stat().st_size for file in _files(source)) > COPY_LIMIT:
        return False
    beside = target.with_name(target.name + ".partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for file in _files(source):
        shutil.copyfile(file, beside / file.name)
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)
    return True


def drop_copies(id_: str, kept: Iterable[str], index_folder: Path) -> None:
    """Remove the copy of an encoder from the index, and those of its parts, but for what the
    encoders ``kept`` need."""
    import shutil

    folder = index_folder / "encoders"
    needed = {needed for one in kept for needed in _with_parts(one, folder)}
    for gone in _with_parts(id_, folder):
        if gone not in needed:
            shutil.rmtree(folder / gone, ignore_errors=True)


def _with_parts(id_: str, encoders: Path) -> set[str]:
    """The id itself and those of all that it is made of, as far as the copies tell."""
    try:
        parts = compound_folder.parts_of(encoders / id_)
    except EncoderError:
        return {id_}
    return {id_}.union(*(_with_parts(part, encoders) for part, _ in parts))


def verify_copy(id_: str, index_folder: Path) -> None:
    """Check the files of the copy in the index, and of the copies of its parts, where there are
    such. Raises :class:`~embedsearch.errors.EncoderError` naming the first bad one."""
    copy = index_folder / "encoders" / id_
    if not copy.exists():
        return
    verify_files(copy)
    for part, _ in compound_folder.parts_of(copy):
        verify_copy(part, index_folder)


def restore_copy(info: EncoderInfo, index_folder: Path) -> bool:
    """Copy an encoder anew from where its spec leads, where that is the same encoder; of one made
    of others, the parts. Returns whether all is sound then.

    Raises :class:`~embedsearch.errors.EncoderError` where a spec leads nowhere.
    """
    folder = index_folder / "encoders" / info.id
    for id_, spec in compound_folder.parts_of(folder) if _is_sound(folder) else ():
        if not _is_sound(folder.parent / id_):
            fresh = load(spec)
            if fresh.info.id != id_ or not keep_copy(fresh, index_folder, anew=True):
                return False
    if _is_sound(folder):
        return True
    fresh = load(info.spec)
    return fresh.info.id == info.id and keep_copy(fresh, index_folder, anew=True)


def _is_sound(folder: Path) -> bool:
    """Whether a copy is whole, and the encoder that its name says."""
    try:
        verify_files(folder)
        return described_id(folder) == folder.name
    except EncoderError:
        return False


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.iterdir()) if file.is_file())


def _from_package(entry: EntryPoint, spec: str, device: Device) -> Encoder:
    try:
        maker = entry.load()
    except (ImportError, AttributeError) as error:
        raise EncoderError(
            f"The package that brings {entry.name} cannot be loaded ({entry.value}: {error}). "
            "Install it anew, or uninstall it."
        ) from error
    made = maker(spec, device)
    if not isinstance(made, Encoder):
        raise EncoderError(f"{entry.value} did not return an encoder for {spec!r}.")
    return made


def _from_folder(folder: Path, spec: str, device: Device) -> Encoder:
    if compound_folder.is_compound(folder):
        return compound_folder.read(
            folder, spec, lambda part: _stored(part[0], part[1], folder.parent, device)
        )
    if device == "cuda":
        raise EncoderError(
            f"{spec} is made for CPUs and does not run on a GPU; use --device cpu, or, where it is "
            "joined with others, --device auto."
        )
    if (folder / LITERT_IMAGE).is_file():
        from embedsearch.encoders.litert import LiteRTEncoder

        return LiteRTEncoder(folder / LITERT_IMAGE, spec=spec)
    from embedsearch.encoders.onnx import OnnxEncoder

    return OnnxEncoder(folder, spec=spec)
