import numpy as np
import pytest
from kernel_tools import layouts, same, tree

from minigrad.kernels import elementwise as ew
from minigrad.kernels import loss
from minigrad.kernels import reduction as rd


@pytest.mark.parametrize("c", [1, 3, 10, 33])
def test_cross_entropy(c, dtype, rng):
    n = 9
    x, t = (rng.standard_normal((n, c)) * 3).astype(dtype), rng.integers(0, c, n)
    w, g = rng.uniform(0.5, 2, c).astype(dtype), rng.standard_normal(n).astype(dtype)
    rows = np.arange(n)
    losses, lse, total = loss.cross_entropy(x, t)
    assert same(total, rd.sum(losses, (0,)))
    assert same(loss.cross_entropy(x, t, None, n)[2], np.asarray(total / dtype.type(n)))
    assert same(lse, rd.logsumexp(x, 1))
    assert same(losses, lse - x[rows, t])
    assert same(loss.cross_entropy(x, t, w)[0], w[t] * (lse - x[rows, t]))
    hot = np.zeros_like(x)
    hot[rows, t] = 1
    slope = ew.exp(x - lse[:, None]) - hot
    assert same(loss.cross_entropy_vjp(g, x, t, lse), g[:, None] * slope)
    assert same(loss.cross_entropy_vjp(g, x, t, lse, w), (g * w[t])[:, None] * slope)
    assert same(loss.cross_entropy_vjp(g[:2], x[:2], t[:2], lse[:2]), g[:2, None] * slope[:2])
    one = np.asarray(g[0])
    assert same(loss.cross_entropy_vjp(one, x, t, lse, None, n), (one / dtype.type(n)) * slope)
    for other in layouts(x):
        assert same(loss.cross_entropy(other, t)[0], losses)
        assert same(loss.cross_entropy_vjp(g, other, t, lse), g[:, None] * slope)
    assert loss.cross_entropy(x[:0], t[:0])[0].shape == (0,)


def test_binary_cross_entropy(dtype, rng):
    x, t, g = (rng.standard_normal(50).astype(dtype) for _ in range(3))
    wide = x.astype(np.float64)
    want = np.maximum(wide, 0) - wide * t + np.log1p(np.exp(-abs(wide)))
    assert np.allclose(loss.bce_with_logits(x, t), want, rtol=1e-5 if dtype == np.float32 else 1e-13)
    assert same(loss.bce_with_logits_vjp(g, x, t), g * (ew.sigmoid(x) - t))
    far = np.array([1e4, -1e4], dtype)
    assert same(loss.bce_with_logits(far, np.array([1, 0], dtype)), np.zeros(2, dtype))


@pytest.mark.parametrize("shape", [(), (1,), (7, 5), (3, 1000)])
def test_mse(shape, dtype, rng):
    a, b = (np.asarray(rng.standard_normal(shape)).astype(dtype) for _ in range(2))
    d, n = (a - b).ravel(), dtype.type(a.size)
    got = loss.mse(a, b)
    assert got.shape == ()
    assert same(got, tree(d * d) / n)
    assert same(loss.mse(np.asfortranarray(a), b), got)
    g = np.asarray(0.7, dtype)
    assert same(loss.mse_vjp(g, a, b), (a - b) * (g * dtype.type(2 / a.size)))


@pytest.mark.parametrize("c", [1, 5, 16, 17])
def test_missing_terms_of_a_row_are_no_terms(c):
    x = np.random.default_rng(c).standard_normal((3, c)) - 200.0  # e^-80 would be more than all of them
    _, lse, _ = loss.cross_entropy(x, np.zeros(3, np.int64))
    np.testing.assert_allclose(lse + 200.0, np.log(np.exp(x + 200.0).sum(axis=1)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("divisor", [1, 2, 3])
def test_both_ways_divide(divisor, dtype):
    x, g, target = np.array([[0.5, -1.0, 2.0]], dtype), np.asarray(0.7, dtype), np.array([1])
    _, lse, total = loss.cross_entropy(x, target, None, divisor)
    assert same(total, loss.cross_entropy(x, target)[2] / dtype.type(divisor))
    due = loss.cross_entropy_vjp(g / dtype.type(divisor), x, target, lse)
    assert same(loss.cross_entropy_vjp(g, x, target, lse, None, divisor), due)


@pytest.mark.parametrize("wrong", [-1, 3, 2**40])
@pytest.mark.parametrize("row", [0, 4])
def test_classes_out_of_range(wrong, row, dtype):
    target = np.array([0, 2, 1, 2, 0])
    target[row] = wrong
    with pytest.raises(IndexError, match="0 to 2"):
        loss.cross_entropy(np.zeros((5, 3), dtype), target)


def test_infinite_logits_and_nothing_to_lose(dtype):
    x = np.array([[np.inf, 1, 2], [-np.inf, 1, 1]], dtype)
    losses, lse, _ = loss.cross_entropy(x, np.array([1, 2]))
    assert same(lse, np.array([np.inf, 1 + np.log(dtype.type(2))], dtype))
    assert losses[0] == np.inf
    assert np.isnan(loss.mse(np.empty(0, dtype), np.empty(0, dtype)))
    assert loss.cross_entropy(x[:0], np.empty(0, np.int64), None, 1)[2] == 0
