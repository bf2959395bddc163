"""LiteRT files that are not what a spec takes them for are refused, whoever opens them."""

from __future__ import annotations

from pathlib import Path

import pytest
from encoder_folder import make_litert_folder
from small_segmenters import SIDE, colour_tflite

from embedsearch.encoders import registry
from embedsearch.enrichers.segment_litert import LiteRTSegmenter
from embedsearch.errors import EncoderError, EnricherError


def test_a_segmenter_is_no_encoder_and_the_other_way_round(tmp_path: Path) -> None:
    """And both say by their shapes what they are, as plain numbers."""
    segmenter = colour_tflite(tmp_path / "colours.tflite")
    with pytest.raises(EncoderError) as refused:
        registry.load(f"litert:{segmenter}")
    assert f"[('uint8', [1, {SIDE}, {SIDE}, 3]), ('int64', [1, " in str(refused.value)
    assert "expected uint8 [1, size, size, 3] and [1, dim]." in str(refused.value)
    encoder = make_litert_folder(tmp_path / "encoder") / "image.tflite"
    with pytest.raises(EnricherError, match=r"expected uint8 .* and classes \[1, height, width\]"):
        LiteRTSegmenter(encoder)


def test_what_is_no_litert_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "junk.tflite"
    file.write_bytes(b"junk")
    with pytest.raises(EncoderError, match=r"junk\.tflite: LiteRT cannot load it"):
        registry.load(f"litert:{file}")
    with pytest.raises(EnricherError, match=r"junk\.tflite: LiteRT cannot load it"):
        LiteRTSegmenter(file)
