import math

import numpy as np
import pytest
from kernel_tools import layouts, same, tree
from scipy import special

from minigrad.kernels import elementwise as ew
from minigrad.kernels import reduction as rd

LENGTHS = [0, 1, 2, 7, 15, 16, 17, 31, 100, 1023, 1024, 1025, 2048, 3000, 5 * 1024, 7 * 1024 + 3]


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("columns", [1, 3, 21, 70])
def test_the_promised_order(n, columns, dtype, rng):
    x = rng.standard_normal((n, columns)).astype(dtype)
    y = (1 + x / 50).astype(dtype)
    some = sorted({0, columns // 2, columns - 1})
    for f, a, want in (
        (rd.sum, x, [tree(x[:, j]) for j in some]),
        (rd.prod, y, [tree(y[:, j], np.multiply, 1, 1) for j in some]),
    ):
        down = f(a, (0,))
        assert same(down[some], np.array(want, dtype))
        assert same(down, f(a.T, (1,)))
        assert same(down, f(a.T.copy(), (1,)))
        assert same(down, f(np.stack([a, a]), (1,))[1])


@pytest.mark.parametrize("n", [2, 17, 1000, 1025, 100_000])
def test_the_error_is_within_the_bound_of_the_tree(n, dtype, rng):
    """Each term passes through so many additions: in its lane, over 16 lanes, over the blocks (Higham 2002, 4.2)."""
    depth = -(-min(n, 1024) // 16) + 4 + int(np.ceil(np.log2(-(-n // 1024))))
    unit = np.finfo(dtype).eps / 2
    for low, spread in ((0, 0), (-1, 0), (-1, 4), (-1, 12)):  # a plain chain of 10⁵ positive terms is far outside
        x = (rng.uniform(low, 1, (n, 2)) * 10.0 ** rng.uniform(-spread, spread, (n, 2))).astype(dtype)
        for j, total in enumerate(rd.sum(x, (0,))):
            terms = x[:, j].astype(float)
            error = abs(math.fsum([float(total), *-terms]))
            assert error <= depth * unit / (1 - depth * unit) * math.fsum(np.abs(terms))


def test_axes_and_layouts(dtype, rng):
    x = rng.standard_normal((3, 40, 5, 33)).astype(dtype)
    for axes in [(0,), (1,), (2,), (3,), (0, 1), (1, 2), (2, 3), (0, 2), (1, 3), (0, 3), (0, 1, 2), (0, 1, 2, 3)]:
        got = rd.sum(x, axes)
        kept = [i for i in range(4) if i not in axes]
        moved = np.ascontiguousarray(x.transpose(*kept, *axes)).reshape(*got.shape, -1)
        assert same(got, rd.sum(moved, (moved.ndim - 1,)))
        assert got.shape == tuple(x.shape[i] for i in kept)
        assert np.allclose(got, x.sum(axes), rtol=1e-4, atol=1e-4)
        for other in layouts(x):
            assert same(rd.sum(other, axes), got)


def test_signed_zero_nothing_and_special_values(dtype):
    assert same(rd.sum(np.full((3, 2), -0.0, dtype), (0,)), np.full(2, -0.0, dtype))
    assert same(rd.sum(np.full((3, 2), -0.0, dtype), (1,)), np.full(3, -0.0, dtype))
    assert same(rd.sum(np.zeros((0, 2), dtype), (0,)), np.zeros(2, dtype))
    assert same(rd.sum(np.zeros((2, 0), dtype), (1,)), np.zeros(2, dtype))
    assert same(rd.prod(np.zeros((0, 2), dtype), (0,)), np.ones(2, dtype))
    assert rd.sum(np.zeros((0, 2), dtype), (1,)).shape == (0,)
    for i in range(20):
        x = np.ones((20, 20), dtype)
        x[i, i] = np.nan
        assert np.isnan(rd.sum(x, (0,))[i])
        assert np.isnan(rd.logsumexp(x, 1)[i])
        assert np.isnan(rd.softmax(x, 1)[i]).all()


def test_many_ones():
    assert rd.sum(np.ones(2**25, np.float32), (0,)) == 2**25


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_logsumexp_and_softmax(axis, dtype, rng):
    x = (rng.standard_normal((6, 37, 5)) * 4).astype(dtype)
    g, wide = rng.standard_normal(x.shape).astype(dtype), x.astype(np.float64)
    near = {"rtol": 3e-6, "atol": 3e-6} if dtype == np.float32 else {"rtol": 1e-14, "atol": 1e-14}
    assert np.allclose(rd.logsumexp(x, axis), special.logsumexp(wide, axis), **near)
    y, z = rd.softmax(x, axis), rd.log_softmax(x, axis)
    assert np.allclose(y, special.softmax(wide, axis), **near)
    assert np.allclose(z, special.log_softmax(wide, axis), **near)
    total = np.expand_dims(rd.sum(g * y, (axis,)), axis)
    assert same(rd.softmax_vjp(g, y, axis), y * (g - total))
    assert same(z, x - np.expand_dims(rd.logsumexp(x, axis), axis))
    wanted = g.astype(np.float64) - np.exp(z.astype(np.float64)) * g.sum(axis, keepdims=True, dtype=np.float64)
    assert np.allclose(rd.log_softmax_vjp(g, z, axis), wanted, **near)
    for f in (rd.logsumexp, rd.softmax, rd.log_softmax):
        assert all(same(f(other, axis), f(x, axis)) for other in layouts(x))


@pytest.mark.parametrize("n", [1, 5, 15, 16, 17, 33, 100, 1024, 1025, 3100])
def test_exponentials_are_summed_in_the_promised_order(n, dtype, rng):
    x, g = ((rng.standard_normal((3, n)) * 4).astype(dtype) for _ in "xg")
    top = x.max(axis=1, keepdims=True)
    powers = ew.exp(x - top)
    totals = np.array([[tree(row)] for row in powers], dtype)
    lse = top + ew.log(totals)
    assert same(rd.logsumexp(x, 1), lse[:, 0])
    assert same(rd.softmax(x, 1), powers * (1 / totals))
    assert same(rd.log_softmax(x, 1), x - lse)
    y = rd.log_softmax(x, 1)
    assert same(rd.log_softmax_vjp(g, y, 1), g - ew.exp(y) * np.array([[tree(row)] for row in g], dtype))
    y = rd.softmax(x, 1)
    assert same(rd.softmax_vjp(g, y, 1), y * (g - np.array([[tree(row)] for row in g * y], dtype)))


def test_logsumexp_at_infinity(dtype):
    inf = np.inf
    x = np.array([[-inf] * 3, [inf, 1, 2], [np.nan, 1, 2], [-inf, 0, 0], [1e4, 1e4, -1e4]], dtype)
    want = np.array([-inf, inf, np.nan, np.log(2), 1e4 + np.log(2)], dtype)
    assert np.allclose(rd.logsumexp(x, 1), want, equal_nan=True)
    assert np.array_equal(rd.softmax(x, 1)[3:], np.array([[0, 0.5, 0.5], [0.5, 0.5, 0]], dtype))
    assert np.isneginf(rd.logsumexp(np.zeros((2, 0), dtype), 1)).all()


@pytest.mark.parametrize("n", [0, 1, 3, 16, 17, 1025, 3000])
def test_norms_are_scaled_by_the_largest_size(n, dtype, rng):
    x = rng.standard_normal((4, n)).astype(dtype) * dtype.type(10.0) ** rng.choice([-30, 0, 30], (4, 1)).astype(dtype)
    x[3] = 0
    top = np.abs(x).max(1, keepdims=True, initial=0)
    top[top == 0] = 1
    want = [m * np.sqrt(tree(row * row)) for m, row in zip(top[:, 0], x / top, strict=True)]
    assert same(rd.norm(x, 1), np.array(want, dtype))
    assert same(rd.norm(x.T, 0), rd.norm(x, 1))
    if n:
        for bad, size in ((np.nan, np.nan), (-np.inf, np.inf), (np.inf, np.inf)):
            x[:, n // 2] = bad
            assert same(rd.norm(x, 1), np.full(4, size, dtype))


def test_softmax_is_shift_invariant_on_integers(dtype, rng):
    x = rng.integers(-9, 9, (8, 21)).astype(dtype)
    assert same(rd.softmax(x, 1), rd.softmax(x + dtype.type(64), 1))
