"""Floor 0: the numbers. Kernels on NumPy arrays, in the promised order of rounding; nothing of minigrad above.

``jit`` runs them, ``simd`` and ``vector_math`` are what they are written in; the other rooms are what the ops call.
Nothing is compiled before it is first used.
"""

from collections.abc import Iterator

import numpy as np

from minigrad.kernels import elementwise, gemm, jit, loss, pool, random, reduction, replay, statistics, update
from minigrad.kernels.pool import get_num_threads, set_num_threads

__all__ = [
    "count",
    "elementwise",
    "gemm",
    "get_num_threads",
    "loss",
    "random",
    "reduction",
    "replay",
    "set_num_threads",
    "statistics",
    "update",
    "warm_up",
]


def _all() -> dict[jit.Kernel, str]:
    """Every kernel of these rooms, with its name."""
    found = {}
    for room in (elementwise, gemm, loss, pool, random, reduction, replay, statistics, update):
        for thing in vars(room).values():
            kernel = getattr(thing, "kernel", thing)
            if isinstance(kernel, jit.Kernel):
                found[kernel] = f"{room.__name__.rpartition('.')[2]}.{kernel.__name__}"
    return found


_PRECISIONS = (np.dtype(np.float32), np.dtype(np.float64))


def count() -> int:
    """How many kernels :func:`warm_up` makes ready."""
    return len(_PRECISIONS) * len(_all())


def warm_up() -> Iterator[tuple[str, str]]:
    """Compile every kernel in both precisions, or load it from the cache; yields (kernel, dtype) after each.

    >>> for kernel, dtype in warm_up():
    ...     pass
    """
    for kernel, name in _all().items() if jit.AVAILABLE else ():
        for dtype in _PRECISIONS:
            kernel[dtype]
            yield name, dtype.name
