"""Floor 0: the numbers. Kernels on NumPy arrays, in the promised order of rounding; nothing of minigrad above.

``jit`` runs them, ``simd`` and ``vector_math`` are what they are written in; the other rooms are what the ops call.
Nothing is compiled before it is first used.
"""

from collections.abc import Iterator

import numpy as np

from minigrad.kernels import elementwise, gemm, jit, loss, reduction, update
from minigrad.kernels.pool import get_num_threads, set_num_threads

__all__ = ["elementwise", "gemm", "get_num_threads", "loss", "reduction", "set_num_threads", "update", "warm_up"]


def warm_up() -> Iterator[tuple[str, str]]:
    """Compile every kernel in both precisions, or load it from the cache; yields (kernel, dtype) before each.

    >>> for kernel, dtype in warm_up():
    ...     pass
    """
    kernels = {}
    for room in (elementwise, gemm, loss, reduction, update):
        for thing in vars(room).values():
            kernel = getattr(thing, "kernel", thing)
            if isinstance(kernel, jit.Kernel):
                kernels[kernel] = f"{room.__name__.rpartition('.')[2]}.{kernel.__name__}"
    for kernel, name in kernels.items() if jit.AVAILABLE else ():
        for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
            yield name, dtype.name
            kernel[dtype]
