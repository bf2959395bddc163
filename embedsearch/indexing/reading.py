"""The stage ``ocr``: words in pictures, and in the shots of videos with the time when they stand
there."""

from __future__ import annotations

from embedsearch.images.decode import Decoded
from embedsearch.images.files import FileBytes
from embedsearch.images.shots import find_shots
from embedsearch.images.video import is_video, open_video
from embedsearch.indexing.crops import read_unchanged
from embedsearch.indexing.enrich import StageRun, scaled
from embedsearch.records import Image, TextLine
from embedsearch.store.findings import Found


class ReadingRun(StageRun):
    """Reads words in pictures and videos; else as other stages."""

    def find(self, image: Image) -> Found | None:
        file = read_unchanged(image)
        return self._in_shots(file) if is_video(file) else super().find(image)

    def _in_shots(self, file: FileBytes) -> Found | None:
        look = max(self._enricher.info.look, self._encoder.info.input_size)
        lines: list[TextLine] = []
        times: list[float] = []
        with open_video(file) as video:
            for shot in find_shots(video, look, go_on=lambda: not self._stop.is_set()):
                whole = Decoded(shot.pixels, video.width, video.height, video.format)
                found = scaled(self._enricher.enrich(shot.pixels), whole)
                lines += found.lines
                times += [round(shot.at, 3)] * len(found.lines)
        return None if self._stop.is_set() else Found(lines=lines, line_times=times)
