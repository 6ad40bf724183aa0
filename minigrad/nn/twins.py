"""Twins: units that are one, because all their numbers are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def first_alike(*arrays: NDArray[Any]) -> list[int]:
    """For each row, the first row that is equal in all of the arrays, which have as many rows.

    To the bit, but any NaN equals any NaN, and −0 is 0: a step by a gradient of −0 is none.

    >>> first_alike(np.array([[1.0], [2.0], [1.0], [1.0]]), np.array([5.0, 5.0, 5.0, 6.0]))
    [0, 1, 0, 3]
    """
    rows = np.concatenate([np.reshape(a, (len(a), -1)) for a in arrays], axis=1) + 0.0
    if np.isnan(rows).any():
        rows = np.where(np.isnan(rows), np.array(np.nan, rows.dtype), rows)
    data, size = rows.tobytes(), rows.shape[1] * rows.itemsize
    known: dict[bytes, int] = {}
    return [known.setdefault(data[i * size : i * size + size], i) for i in range(len(rows))]
