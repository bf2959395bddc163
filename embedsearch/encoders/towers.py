"""What the towers of an encoder give, without what is added to their rows."""

from __future__ import annotations

from collections.abc import Sequence

from embedsearch.encoders.base import Encoder
from embedsearch.encoders.compound import JoinedEncoder
from embedsearch.encoders.litert import LiteRTEncoder
from embedsearch.encoders.onnx import OnnxEncoder


def towers_of(encoder: Encoder) -> Encoder:
    """The same encoder, whose rows are those of its towers alone: what tells hubs apart
    (:mod:`~embedsearch.encoders.hubs`) is made of these, and is between texts and pictures: nothing
    to learn, nor to compare texts with texts or parts of a picture by."""
    if isinstance(encoder, JoinedEncoder):
        return joined_again(encoder, [towers_of(part) for part in encoder.parts])
    return encoder.without_hubs() if isinstance(encoder, OnnxEncoder | LiteRTEncoder) else encoder


def joined_again(encoder: JoinedEncoder, parts: Sequence[Encoder]) -> JoinedEncoder:
    """Others in the place of the parts, joined as they are."""
    told = encoder.told()
    return JoinedEncoder(parts, told["weights"], told["join"], spec=encoder.info.spec)
