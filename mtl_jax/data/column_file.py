"""A table of many columns as one .npy of rows, written through a file of columns.

Columns come one after the other and are as long as the log; readers want rows. Neither the table
nor its transpose has to fit into memory.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_ROWS = 250_000  # rows turned at once


def write_columns(
    path: Path, columns: Iterator[np.ndarray], rows: int, train: np.ndarray
) -> dict[str, Any]:
    """Writes [rows, F] float32.

    Args:
        columns: F arrays of [rows].  train: [rows] bool, at least one.

    Returns:
        "mean" and "std" of each column over the training rows; a constant column has std 1.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".columns")
    means, stds = [], []
    try:
        with scratch.open("wb") as file:
            for column in columns:
                seen = column[train]
                spread = float(seen.std(dtype=np.float64))
                means.append(float(seen.mean(dtype=np.float64)))
                stds.append(spread if spread > 1e-6 else 1.0)
                column.astype("<f4", copy=False).tofile(file)
        with scratch.open("rb") as read, path.open("wb") as write:
            shape = (rows, len(means))
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(write, header)
            for start in range(0, rows, _ROWS):
                block = np.empty((min(_ROWS, rows - start), len(means)), "<f4")
                for place in range(len(means)):
                    read.seek(4 * (place * rows + start))
                    block[:, place] = np.fromfile(read, "<f4", len(block))
                block.tofile(write)
    finally:
        scratch.unlink(missing_ok=True)
    return {"mean": means, "std": stds}
