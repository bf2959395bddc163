"""Which of rapidocr's models reads a language, and where its file is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from embedsearch.errors import EnricherError
from embedsearch.settings import OCR_MODELS, ocr_models

SHORT = {
    "ar": "arabic", "fa": "arabic", "ur": "arabic", "ko": "korean", "zh": "ch", "ja": "japan",
    "ru": "eslav", "uk": "eslav", "be": "eslav", "bg": "cyrillic", "mk": "cyrillic",
    "sr": "cyrillic", "hi": "devanagari", "mr": "devanagari", "ne": "devanagari",
    "sa": "devanagari", "kn": "ka",
}  # fmt: skip
"""Languages by the names that rapidocr gives to their scripts."""


@dataclass(frozen=True, slots=True)
class Models:
    """A set of models that read together."""

    settings: dict[str, Any]
    """What rapidocr is told, by dotted names."""
    files: tuple[Path, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(file.stem for file in self.files)

    @property
    def weights_hash(self) -> str:
        """SHA-256 over the files."""
        return hashlib.sha256("".join(map(_hash, self.files)).encode()).hexdigest()


@cache
def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def models_for(language: str | None) -> Models:
    """The models for a language; without one, those that come with rapidocr, which read Chinese,
    Japanese and the languages written in Latin letters.

    Raises :class:`~embedsearch.errors.EnricherError` for a language that nothing reads, and where
    its model is neither there nor can be downloaded.
    """
    from rapidocr import ModelType, OCRVersion
    from rapidocr.utils.typings import TaskType

    own = _box()
    parts = [_file(task, OCRVersion.PPOCRV6, "en", ModelType.SMALL) for task in (TaskType.DET,)]
    parts.append(_file(TaskType.CLS, OCRVersion.PPOCRV4, "ch", ModelType.MOBILE))
    settings: dict[str, Any] = {}
    files = [own / part["model_dir"].rpartition("/")[2] for part in parts]
    asked = None if language is None else SHORT.get(language.lower(), language.lower())
    for version, size in (
        (OCRVersion.PPOCRV6, ModelType.SMALL),
        (OCRVersion.PPOCRV5, ModelType.MOBILE),
        (OCRVersion.PPOCRV4, ModelType.MOBILE),
    ):
        try:
            part = _file(TaskType.REC, version, asked or "en", size)
        except ValueError:
            continue
        if version is not OCRVersion.PPOCRV6:
            settings = {
                "Rec.ocr_version": version,
                "Rec.model_type": size,
                "Rec.lang_type": asked,
                "Rec.model_path": str(_provided(part, language or "")),
            }
            files.append(Path(settings["Rec.model_path"]))
        else:
            files.append(own / part["model_dir"].rpartition("/")[2])
        return Models(settings, tuple(files))
    raise EnricherError(
        f"rapidocr:{language}: rapidocr reads no language of that name. There are: "
        f"{', '.join(languages())}."
    )


def languages() -> list[str]:
    """All names of languages and scripts that can be asked for."""
    from rapidocr.utils.model_resolver import list_supported_langs
    from rapidocr.utils.typings import OCRVersion, TaskType

    named = {name for version in OCRVersion for name in list_supported_langs(TaskType.REC, version)}
    return sorted(named | SHORT.keys())


def _file(task: Any, version: Any, language: str, size: Any) -> dict[str, str]:
    """Where a model comes from. Raises ValueError for a language that the version has not."""
    from rapidocr.inference_engine.base import FileInfo, InferSession
    from rapidocr.utils.typings import EngineType

    asked = FileInfo(EngineType.ONNXRUNTIME, version, task, language, size)
    return dict(InferSession.get_model_url(asked))


def _box() -> Path:
    import rapidocr

    return Path(rapidocr.__file__).parent / "models"


def _provided(part: dict[str, str], language: str) -> Path:
    """The file of a model that is not in the box: given, or downloaded."""
    name = part["model_dir"].rpartition("/")[2]
    folder = ocr_models()
    for place in (folder / name, _box() / name):
        if place.is_file():
            return place
    try:
        _download(part, folder / name)
    except Exception as error:  # requests and rapidocr raise many types
        (folder / name).unlink(missing_ok=True)
        raise EnricherError(
            f"rapidocr:{language}: its model {name} is not in {folder}, and cannot be downloaded "
            f"({type(error).__name__}). Fetch {part['model_dir']} where there is a network, and "
            f"put it into that folder, or name another in ${OCR_MODELS}."
        ) from error
    return folder / name


def _download(part: dict[str, str], place: Path) -> None:
    import logging

    from rapidocr.utils.download_file import DownloadFile, DownloadFileInput

    silent = logging.Logger("embedsearch.ocr", logging.CRITICAL + 1)
    DownloadFile.run(
        DownloadFileInput(part["model_dir"], place, silent, part.get("SHA256"), verbose=False)
    )
