"""Ops that write: their declared arguments only, counted, by kernel as by formula."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg

STEP = {
    "sgd": [[0.1, 0, 0.01, 0, 0]],
    "sgd_momentum": [[0.1, 0.9, 0.01, 0, 0.5], [0.1, 0.9, 0.0, 1, 0]],
    "adam": [[0.1, 0.9, 0.99, 1e-8, 0.01, 0, 0.9, 0.99], [0.1, 0.9, 0.99, 1e-8, 0.01, 1, 0.81, 0.98]],
}
WRITING = [name for name, op in mg.REGISTRY.items() if op.writes and op.__module__.startswith("minigrad.")]


def cases(name):
    op = mg.REGISTRY[name]
    if op.cases:
        return [(shapes, options) for shapes, options in op.cases]
    return [(((3, 5),) * len(op.arrays), {"h": np.array(h)}) for h in STEP[name]]


@pytest.mark.parametrize("name", WRITING)
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from([np.float32, np.float64]))
def test_writes_what_it_declares(name, seed, dtype):
    op = mg.REGISTRY[name]
    for shapes, options in cases(name):
        rng = np.random.default_rng(seed)
        arrays = [rng.uniform(0.6, 2, shape).astype(dtype) for shape in shapes]
        kernel, formula = [mg.tensor(a) for a in arrays], [mg.tensor(a) for a in arrays]
        assert op(*kernel, **options) is kernel[0]
        with mg.formulas():
            op(*formula, **options)
        for argument, before, a, b in zip(op.arrays, arrays, kernel, formula, strict=True):
            written = argument in op.writes
            assert a.cell[0] == written
            assert written or a.data.tobytes() == before.tobytes()
            assert not written or not np.array_equal(a.data, before)
            np.testing.assert_allclose(a.data, b.data, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", WRITING)
def test_writes_only_memory_that_may_be_written(name):
    op = mg.REGISTRY[name]
    shapes, options = cases(name)[0]
    arrays = [np.ones(shape, np.float32) for shape in shapes]
    with pytest.raises(TypeError, match=f"{name}: .* is written, so it must be a tensor"):
        op(*arrays, **options)
    computed = [mg.tensor(a, requires_grad=True) * 1 for a in arrays]
    with pytest.raises(RuntimeError, match="only leaves and constants can be written"):
        op(*computed, **options)
    for a in arrays:
        a.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        op(*map(mg.from_numpy, arrays), **options)
