"""The classes of PASCAL VOC, and one spelling for each.

Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", 2010.
"""

from __future__ import annotations

BACKGROUND = "background"
_SPELLINGS = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
"""VOC's own names of what COCO, and everyone who asks, calls otherwise."""

VOC = (
    *("airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("dining table", "dog", "horse", "motorcycle", "person", "potted plant", "sheep", "couch"),
    *("train", "tv"),
)
"""Its twenty classes in VOC's order, in COCO's spelling; background comes before the first."""


def usual(name: str) -> str:
    """The usual spelling of a class's name: COCO's where VOC has another, ``_`` read as space."""
    plain = " ".join(name.replace("_", " ").lower().split())
    return _SPELLINGS.get(plain, plain)
