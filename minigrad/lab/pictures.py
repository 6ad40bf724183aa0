"""Pictures, by matplotlib, which is asked for only when one is drawn."""

from __future__ import annotations

from typing import Any


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib Figure, sizes in inches: ``figure.savefig("a.png")``; a notebook shows it.

    Raises ImportError, which says what to install, without matplotlib.

    >>> new_figure(4, 3).get_size_inches().tolist()
    [4.0, 3.0]
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'minigrad[cli]'") from None
    return Figure(figsize=(width, height), layout="constrained")
