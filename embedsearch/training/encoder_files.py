"""Writing a text tower that was trained, as encoder folders hold it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders import text
from embedsearch.training.heads import TextHead
from embedsearch.training.token_table import TokenTable, quantize_rows


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
