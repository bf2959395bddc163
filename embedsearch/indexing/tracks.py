"""The stage ``track``: objects followed through each video, one region for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from embedsearch.encoders.base import Encoder, Pixels
from embedsearch.enrichers.following import Track, Vectors
from embedsearch.enrichers.track import Shown, Tracking
from embedsearch.images.shots import LOOK_SIDE, Cuts
from embedsearch.images.video import Video, open_video
from embedsearch.indexing.crops import BATCH, read_unchanged
from embedsearch.indexing.enrich import StageRun
from embedsearch.records import Box, Detection, Image
from embedsearch.store.findings import Found


class TrackRun(StageRun):
    """Follows objects through the videos of an index; else as other stages."""

    def find(self, image: Image) -> Found | None:
        assert isinstance(self._enricher, Tracking)
        with open_video(read_unchanged(image)) as video:
            step = self._enricher.step(video.rate)
            look = max(self._enricher.info.look, self._encoder.info.input_size)
            shown = _shown(video, step, look)
            rate = video.rate / step
            tracks = self._enricher.follow(self._until_stopped(shown), rate, self._embed)
            if self._stop.is_set():
                return None
            scale = _scale(video, look)
        return found_tracks(tracks, scale, rate, self._encoder.info.dim)

    def _until_stopped(self, frames: Iterator[Shown]) -> Iterator[Shown]:
        for shown in frames:
            if self._stop.is_set():
                return
            yield shown

    def _embed(self, pictures: Sequence[Pixels]) -> Vectors:
        return embedded(self._encoder, pictures)


def embedded(encoder: Encoder, pictures: Sequence[Pixels]) -> Vectors:
    """Embeddings of some pictures, a few at a time: float32 (N, dim)."""
    some = [pictures[at : at + BATCH] for at in range(0, len(pictures), BATCH)]
    return np.concatenate([encoder.encode_images(batch) for batch in some])


def found_tracks(
    tracks: Sequence[Track], scale: tuple[float, float], rate: float, dim: int
) -> Found:
    """What is stored of tracks: the box where each was seen best, ``scale`` times larger across and
    down, its times, and its mean look; its score is the mean of those of the detector."""
    across, down = scale
    objects, times, vectors = [], [], []
    for track in tracks:
        best, look = track.best, track.look
        if look is None:
            continue
        x, y, w, h = best.box
        sides = (round(x * across, 1), round(y * down, 1), round(w * across, 1), round(h * down, 1))
        box: Box = sides
        score = float(np.mean([one.score for one in track.sightings]))
        objects.append(Detection(track.label, score, box))
        first, last = track.sightings[0].time, track.sightings[-1].time + 1 / rate
        times.append((round(first, 3), round(last, 3), round(best.time, 3)))
        vectors.append(look)
    rows = np.stack(vectors) if vectors else np.empty((0, dim), np.float32)
    return Found(objects=objects, vectors=rows, times=times)


def _shown(video: Video, step: int, look: int) -> Iterator[Shown]:
    """Every ``step``-th frame, its shorter side at least ``look`` pixels where it has them."""
    cuts = Cuts()
    for number, frame in enumerate(video.frames()):
        if number % step == 0:
            is_cut = cuts.between(frame.pixels(LOOK_SIDE))
            yield Shown(frame.time, frame.pixels(look), is_cut)


def _scale(video: Video, look: int) -> tuple[float, float]:
    """From pixels of the frames that were looked at to those of the upright video."""
    rows, columns = next(video.frames()).pixels(look).shape[:2]
    return video.width / columns, video.height / rows
