"""Figures for people: against NumPy in float64, whichever path computes them."""

import numpy as np
import pytest

from minigrad.kernels import statistics

DTYPES = [np.float16, np.float32, np.float64]
SHAPES = [(1, 1), (1, 300), (300, 1), (7, 65), (64, 64), (130, 3)]


def drawn(shape, dtype):
    rng = np.random.default_rng(sum(shape))
    return (3 + 2 * rng.standard_normal(shape)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_they_are_those_of_numpy(shape, dtype):
    a, b = drawn(shape, dtype), drawn(shape[::-1], dtype).T
    wide, other = a.astype(np.float64), b.astype(np.float64)
    near = {"rel": 1e-12, "abs": 1e-13}
    *three, sums = statistics.moments(b)
    assert three == pytest.approx((other.mean(), (other**2).mean(), other.mean(0).var()), **near)
    assert sums == pytest.approx(other.sum(0), **near)
    assert statistics.square_sum(b) == pytest.approx((other**2).sum(), **near)
    assert statistics.change(a, b) == pytest.approx(((wide**2).sum(), ((other - wide) ** 2).sum()), **near)
    b = np.where(np.arange(shape[1]) % 3 == 0, 0, b).astype(dtype)
    assert statistics.slopes(b, 2.0) == (np.sum(np.abs(b) < 2), (shape[1] + 2) // 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_range_of_a_dtype_is_none_of_sums(dtype):
    large = np.full((3, 70), np.finfo(dtype).max / 2, dtype) if dtype != np.float64 else np.full((3, 70), 1e150)
    assert statistics.square_sum(large) == pytest.approx(210 * float(large[0, 0]) ** 2)
    tiny = large.dtype.type(1) / large
    assert statistics.moments(tiny).square == pytest.approx(float(tiny[0, 0]) ** 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_of_no_number_is_hidden(dtype):
    a = np.array([[1.0, np.nan], [0.0, 0.0]], dtype)
    assert np.isnan([*statistics.moments(a)[:3], statistics.square_sum(a), *statistics.change(a, a)]).all()
    assert statistics.slopes(a, np.inf) == (3, 0)
    assert statistics.square_sum(np.array([np.inf, 1], dtype)) == np.inf
    assert statistics.square_sum(np.empty((0, 3), dtype)) == 0
