"""Errors a person can act on: each message says what went wrong, where, and what to do next."""

from __future__ import annotations


class EmbedSearchError(Exception):
    """Base of every foreseeable failure. The command line prints it and exits 1."""


class IndexNotFoundError(EmbedSearchError):
    """There is no index at the place that was named."""


class IndexLockedError(EmbedSearchError):
    """Another process is writing to the index."""


class IndexFormatError(EmbedSearchError):
    """The index is damaged, or was written by a newer version."""


class PictureError(EmbedSearchError):
    """One picture cannot be used; the run goes on without it.

    ``stage`` is ``"read"`` (the file cannot be opened or read: worth trying again) or ``"decode"``
    (its bytes are no picture that we can show: not worth trying again until they change).
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason


class EncoderError(EmbedSearchError):
    """An encoder is unknown, cannot be loaded, or lacks the tower that a query needs."""


class EncoderMismatchError(EncoderError):
    """A query names an encoder that the index was not made with."""


class EnricherError(EmbedSearchError):
    """A detector, segmenter or reader is unknown, or cannot be loaded."""


class QueryError(EmbedSearchError):
    """A query cannot be understood (empty, a bad ``--where``, an unreadable example)."""


class MissingExtraError(EmbedSearchError):
    """An optional library is not installed; the message gives the exact install command."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f'{what} needs an optional part: pip install "embedsearch[{extra}]"')


class DataError(EmbedSearchError):
    """A file of labels, captions or weights that was handed to us is not what it should be."""


class OutputError(EmbedSearchError):
    """A result cannot be written where it was asked for."""
