"""Ops that move or repeat, and their partners: ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ exactly, on integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg

# name: (op, partner, shape of x, options of the op, how the partner's options follow from x's shape)
PARTNERS = {
    "broadcast_to": (mg.broadcast_to, mg.sum_to, (3, 1), lambda rng: {"shape": (2, 3, 4)}, lambda o, s: {"shape": s}),
    "sum_to": (mg.sum_to, mg.broadcast_to, (2, 3, 4), lambda rng: {"shape": (3, 1)}, lambda o, s: {"shape": s}),
    "slice": (mg.getitem, mg.put_add, (5, 4), lambda rng: {"index": (slice(4, 0, -2), None, 1)}, None),
    "integers": (mg.getitem, mg.put_add, (5, 4), lambda rng: {"index": rng.integers(-5, 5, (2, 3))}, None),
    "two integers": (mg.getitem, mg.put_add, (5, 4), lambda rng: {"index": tuple(rng.integers(-4, 4, (2, 7)))}, None),
    "mask": (mg.getitem, mg.put_add, (5, 4), lambda rng: {"index": rng.random((5, 4)) < 0.5}, None),
    "row mask": (mg.getitem, mg.put_add, (5, 4), lambda rng: {"index": (slice(None), rng.random(4) < 0.5)}, None),
    "take": (mg.take, mg.index_add, (5, 4), lambda rng: {"indices": rng.integers(-5, 5, (2, 3)), "axis": 0}, None),
    "take flat": (mg.take, mg.index_add, (5, 4), lambda rng: {"indices": rng.integers(-20, 20, 9), "axis": None}, None),
    "take last": (mg.take, mg.index_add, (5, 4), lambda rng: {"indices": rng.integers(-4, 4, 9), "axis": -1}, None),
    "take_along_axis": (
        mg.take_along_axis, mg.scatter_add, (5, 4),
        lambda rng: {"indices": rng.integers(-5, 5, (7, 4)), "axis": 0}, None,
    ),
    "take_along_axis, last": (
        mg.take_along_axis, mg.scatter_add, (5, 4),
        lambda rng: {"indices": rng.integers(-4, 4, (5, 3)), "axis": -1}, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTNERS)
@given(seed=st.integers(0, 2**32 - 1))
def test_adjoint_partners(name, seed):
    f, partner, shape, choose, follow = PARTNERS[name]
    rng = np.random.default_rng(seed)
    options = choose(rng)
    arrays = [options.pop("indices")] if "indices" in options else []
    back = follow(options, shape) if follow else {**options, "shape": shape}
    x = rng.integers(-99, 99, shape).astype(np.float64)
    y = f(x, *arrays, **options)
    g = rng.integers(-99, 99, y.shape).astype(np.float64)
    pulled = partner(g, *arrays, **back)
    assert pulled.shape == shape
    assert np.sum(y * g) == np.sum(x * pulled)
    t = mg.tensor(x, requires_grad=True)
    f(t, *arrays, **options).backward(g)
    np.testing.assert_array_equal(t.grad.data, pulled)


@given(st.integers(0, 3000), st.integers(0, 2**32 - 1))
def test_sums_do_not_know_their_axis(n, seed):
    """x.sum(0) equals x.T.sum(1) to the bit, and each column sums as it would alone."""
    x = np.random.default_rng(seed).standard_normal((n, 3)).astype(np.float32)
    down = mg.sum(x, 0)
    assert down.tobytes() == mg.sum(x.T, 1).tobytes() == mg.sum(np.ascontiguousarray(x.T), 1).tobytes()
    assert down.tobytes() == np.array([mg.sum(x[:, i]) for i in range(3)], np.float32).tobytes()
    with mg.formulas():
        assert down.tobytes() == mg.sum(x, 0).tobytes()


def test_a_long_sum_is_no_sequential_chain():
    assert mg.sum(np.ones(2**24 + 2**10, np.float32)) == 2**24 + 2**10
