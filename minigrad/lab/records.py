"""Records as comma-separated values."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def csv_text(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A line of names, and one for each row; floats so that they come back with their bits.

    >>> print(csv_text(["step", "x"], [(0, 0.1), (1, None)]), end="")
    step,x
    0,0.1
    1,
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return out.getvalue()


def save(text: str, path: str | os.PathLike[str]) -> None:
    """Write a text file. Raises OSError where it cannot be written."""
    Path(path).write_text(text, encoding="utf-8", newline="\n")
