"""What is said to be elementwise: a part of the elements, computed alone, has the bits of the whole."""

import gc

import numpy as np
import pytest

from minigrad.kernels.jit import Kernel

#: Parameters that are options, not one number for each element.
OPTIONS = {"slope", "alpha", "norm", "limit", "h"}

KERNELS = sorted(
    (k for k in gc.get_objects() if type(k) is Kernel and k.elementwise and k.body.__module__.startswith("minigrad.")),
    key=lambda k: k.symbol(""),
)


def operands(kernel, dtype, n):
    """Positive numbers, options the smaller the later they come; and which arrays have n elements."""
    rng = np.random.default_rng(0)
    arrays, whole = [], []
    for i, (code, name) in enumerate(zip(kernel.codes, kernel.body.__code__.co_varnames, strict=False)):
        whole.append(name not in OPTIONS and (kernel.__name__, name) != ("_mse_vjp", "g"))
        values = rng.uniform(0.5, 1, n) if whole[-1] else rng.uniform(0.5, 1, 8) / 4**i
        arrays.append(values.astype("f8" if code == "d" else dtype))
    return arrays, whole


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.__name__)
def test_a_part_has_the_bits_of_the_whole(kernel, dtype):
    n = 1000
    arrays, whole = operands(kernel, dtype, n)
    want = [array.copy() for array in arrays]
    kernel[dtype](*want, *[n] * kernel.ints)
    assert any(w.tobytes() != a.tobytes() for w, a in zip(want, arrays, strict=True))
    for start, stop in ((640, n), (0, 640)):
        parts = [array[start:stop] if cut else array for array, cut in zip(arrays, whole, strict=True)]
        kernel[dtype](*parts, *[n] * (kernel.ints - 1), stop - start)
    assert [array.tobytes() for array in arrays] == [array.tobytes() for array in want]


def test_there_are_such_kernels():
    assert {"tanh_loop", "_sgd", "_adam_step", "_mse_vjp"} <= {kernel.__name__ for kernel in KERNELS}
