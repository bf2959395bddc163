"""Writing what was trained as an encoder folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from embedsearch.encoders import text
from embedsearch.encoders.folder import EncoderFolder, hash_file
from embedsearch.encoders.onnx import IMAGE
from embedsearch.training.networks.heads import TextHead
from embedsearch.training.networks.mobilenetv2 import MEAN, STD
from embedsearch.training.networks.token_table import TokenTable, quantize_rows


def write_encoder(
    folder: Path,
    image: ModelProto,
    table: TokenTable,
    head: TextHead,
    *,
    name: str,
    licence: str,
    description: str,
    dim: int,
    size: int,
    pooling: str,
) -> EncoderFolder:
    """Write image tower, text tower and ``encoder.json``; other files in ``folder`` stay."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(image, folder / IMAGE)
    write_text_tower(folder, table, head)
    about = EncoderFolder(
        path=folder,
        name=name,
        licence=licence,
        description=description,
        dim=dim,
        input_size=size,
        resize="squash",
        interpolation="bicubic",
        mean=MEAN,
        std=STD,
        pooling=pooling,
        has_text=True,
        hashes={file: hash_file(folder / file) for file in sorted((IMAGE, *text.FILES))},
    )
    about.write()
    return about


def write_text_tower(folder: Path, table: TokenTable, head: TextHead) -> None:
    """Write the files of ``encoders.text``: the table in 8 bits, the small network in float32."""
    rows, scales = quantize_rows(table.rows)
    listed = "".join(f"{token}\n" for token in table.tokens)
    (folder / text.VOCABULARY).write_text(listed, encoding="utf-8", newline="\n")
    arrays: dict[str, NDArray[np.generic]] = {
        text.ROWS: rows,
        text.SCALES: scales,
        text.HIDDEN_WEIGHT: head.hidden.weight.detach().numpy().T,
        text.HIDDEN_BIAS: head.hidden.bias.detach().numpy(),
        text.OUTPUT_WEIGHT: head.output.weight.detach().numpy().T,
        text.OUTPUT_BIAS: head.output.bias.detach().numpy(),
    }
    for name, array in arrays.items():
        np.save(folder / name, np.ascontiguousarray(array))
