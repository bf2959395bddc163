"""Objects followed through clips: with the boxes of a detector and with given ones, by how things
look and by their places alone; one object from its first box on; and milliseconds a frame.

Clips are folders of frames with ``gt.csv``, see docs/video.md. In clips whose name begins with
``synth`` the detector's boxes have bars; a clip of one object is followed from its first box.
Milliseconds are those of all cores together.

    python benchmarks/tracking.py TRACKING [--detector yolox] [--encoder mini]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from measure import report

from embedsearch.encoders import registry as encoders
from embedsearch.enrichers import registry
from embedsearch.enrichers.track import Tracking
from embedsearch.training.evaluate import evaluate_one_object, evaluate_tracking
from embedsearch.training.evaluate.tracking import read_truth

BAR_MOTA, BAR_IDF1, BAR_IOU = 0.35, 0.45, 0.35


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--detector", default="yolox")
    arguments.add_argument("--encoder", default="mini")
    given = arguments.parse_args()
    encoder = encoders.load(given.encoder)
    tracking = Tracking(registry.load("detect", given.detector, "auto", encoder))
    clips = sorted(path.parent for path in given.folder.glob("*/gt.csv"))
    objects = {
        clip: len({o.number for f in read_truth(clip).values() for o in f}) for clip in clips
    }
    rows: list[tuple[str, str, str]] = []
    figures: dict[str, Any] = {}
    for clip in clips:
        if objects[clip] == 1:
            figures[clip.name] = evaluate_one_object(clip)
            mean = f"{figures[clip.name]['mean_iou']:.3f}"
            rows.append((f"{clip.name}: first box, mean IoU", mean, f">= {BAR_IOU}"))
            continue
        found = figures[clip.name] = {
            f"{boxes}, {how}": _timed(clip, detector, looks)
            for boxes, detector in (("detector", tracking), ("gt", None))
            for how, looks in (("looks", encoder), ("places", None))
        }
        for way, one in found.items():
            barred = clip.name.startswith("synth") and way == "detector, looks"
            rows.append(
                (f"{clip.name}, {way}: MOTA", f"{one['MOTA']:.3f}", f">= {BAR_MOTA}" * barred)
            )
            rows.append(
                (f"{clip.name}, {way}: IDF1", f"{one['IDF1']:.3f}", f">= {BAR_IDF1}" * barred)
            )
            bar = f"<= {found['gt, places']['id_switches']}" if way == "gt, looks" else ""
            rows.append((f"{clip.name}, {way}: switches", str(one["id_switches"]), bar))
            rows.append((f"{clip.name}, {way}: a frame", f"{one['ms']:.0f} ms", ""))
    report("tracking", rows, {"detector": given.detector, "clips": figures})


def _timed(clip: Path, tracking: Tracking | None, encoder: Any) -> dict[str, Any]:
    begun = time.process_time()
    measured = evaluate_tracking(clip, tracking, encoder)
    frames = len(read_truth(clip))
    return {**measured, "ms": (time.process_time() - begun) * 1000 / frames}


if __name__ == "__main__":
    main()
