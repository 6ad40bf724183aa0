"""A kernel that serves several rules at once gives the bits of the rules one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.engine.op import REGISTRY


def test_these_ops_are_fused():
    assert [op.name for op in REGISTRY.values() if op.fused] == ["linear"]


@given(
    shape=st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40)),
    needs=st.sampled_from([(1, 1, 1), (0, 1, 1), (1, 0, 0), (0, 1, 0), (1, 0, 1), (0, 0, 1)]),
    batch=st.sampled_from([(), (1,), (2, 3)]),
    dtype=st.sampled_from(["float32", "float64"]),
    layout=st.sampled_from("CF"),
    seed=st.integers(0, 99),
)
def test_linear(shape, needs, batch, dtype, layout, seed):
    n, k, m = shape
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(s).astype(dtype, order=layout) for s in ((*batch, n, k), (m, k), (m,))]
    g = rng.standard_normal((*batch, n, m)).astype(dtype, order=layout)

    def gradients(fused):
        linear = REGISTRY["linear"]
        kept, linear.fused = linear.fused, linear.fused if fused else None
        linear._plans.clear()
        try:
            tensors = [mg.tensor(a, requires_grad=bool(need)) for a, need in zip(arrays, needs, strict=True)]
            mg.linear(*tensors).backward(g)
        finally:
            linear.fused = kept
            linear._plans.clear()
        return [None if t.grad is None else (t.grad.shape, t.grad.data.tobytes()) for t in tensors]

    assert gradients(True) == gradients(False)
