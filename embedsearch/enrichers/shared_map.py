"""One feature map of a picture for all boxes in it, by the image tower of an encoder folder.

Girshick, "Fast R-CNN", 2015, with the aligned pooling of He et al., "Mask R-CNN", 2017: the picture
goes through the convolutions once; what lies in a box is pooled from the map and goes through the
rest of the tower.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.base import Pixels
from embedsearch.errors import EnricherError, MissingExtraError

IMAGE = "image.onnx"
_POOLING = ("GlobalAveragePool", "ReduceMean")
_CELLS = 4
"""A box is pooled from so many times so many places, whose mean is taken."""
_ERRORS_ONLY = 3


class SharedMap:
    """Embeds boxes of a picture. One object serves any number of threads."""

    def __init__(self, folder: Path, side: int) -> None:
        """``folder`` holds ``image.onnx``, a CNN that takes uint8 (N, S, S, 3) and pools its last
        map by the mean; pictures are squashed to ``side`` pixels.

        Raises :class:`~embedsearch.errors.EnricherError` for another network.
        """
        try:
            import onnx
            from onnx.utils import Extractor
        except ImportError as error:
            raise MissingExtraError("fast-rcnn", "train") from error
        path = folder / IMAGE
        if not path.is_file():
            raise EnricherError(
                f"{path}: there is no such file. fast-rcnn needs an encoder folder on ONNX "
                "Runtime, such as mini; rcnn works with any encoder."
            )
        model = onnx.load(path)
        pool = next((node for node in model.graph.node if node.op_type in _POOLING), None)
        if pool is None:
            raise EnricherError(f"{path}: pools no feature map by its mean; rcnn works with it.")
        for place in (1, 2):
            model.graph.input[0].type.tensor_type.shape.dim[place].dim_value = side
        del model.graph.value_info[:]
        # The map may come out of a DequantizeLinear, whose shape nobody wrote down.
        for name in (pool.input[0], pool.output[0]):
            model.graph.value_info.append(
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            )
        taken = model.graph.input[0].name
        parts = Extractor(model)
        self._map = _session(parts.extract_model([taken], [pool.input[0]]))
        self._rest = _session(parts.extract_model([pool.output[0]], [model.graph.output[0].name]))
        self._flat = pool.op_type == "ReduceMean" and not _keeps(pool)
        self._side = side

    def embed(self, picture: Pixels, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit rows (N, dim) of boxes (N, 4) as x, y, width, height in pixels of the picture."""
        import cv2
        import torch
        from torchvision.ops import roi_align

        square = cv2.resize(picture, (self._side, self._side), interpolation=cv2.INTER_AREA)
        maps = torch.from_numpy(_run(self._map, square[None]))
        height, width = picture.shape[:2]
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
        shares = corners / np.array([width, height] * 2, np.float32)
        cells = np.array([maps.shape[3], maps.shape[2]] * 2, np.float32)
        places = torch.from_numpy((shares * cells).astype(np.float32))
        pooled = roi_align(maps, [places], (_CELLS, _CELLS), sampling_ratio=2, aligned=True)
        means = pooled.mean((2, 3), keepdim=not self._flat).numpy()
        rows = _run(self._rest, means)
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


def _keeps(pool: Any) -> bool:
    return all(item.i for item in pool.attribute if item.name == "keepdims")


def _run(session: Any, given: NDArray[Any]) -> NDArray[np.float32]:
    made: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: given})[0]
    return made


def _session(model: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
