import numpy as np
import pytest

import minigrad as mg
from minigrad import lab
from minigrad.kernels import jit


def test_twins_drift_through_blas_and_only_there():
    rows = lab.blas_drift(steps=300)
    assert [row.step for row in rows] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert all(row.own == 0 for row in rows)
    if rows[-1].blas == 0:
        pytest.skip("no drift to see: kernels are off, or this BLAS rounds these products alike in every column")
    assert 0 < rows[-1].blas < 1e-2


def test_what_can_not_be_trained_is_refused():
    with pytest.raises(ValueError, match="hidden must be at least 1, got 0"):
        lab.blas_drift(hidden=0)


def test_blas_mode_computes_the_same_numbers_but_for_rounding():
    rng = np.random.default_rng(1)
    x, w, b = (rng.standard_normal(s) for s in ((7, 5), (3, 5), (3,)))

    def gradients():
        leaves = [mg.tensor(a, requires_grad=True) for a in (x, w, b)]
        y = mg.tanh(mg.linear(*leaves)) @ w
        (y * y).sum().backward()
        return [y.data, *[leaf.grad.data for leaf in leaves]]

    own = gradients()
    with mg.blas():
        through_blas = gradients()
    for a, b_ in zip(own, through_blas, strict=True):
        assert np.allclose(a, b_, rtol=1e-12)


def test_blas_mode_refuses_the_same_shapes():
    with mg.blas():
        with pytest.raises(ValueError, match=r"matmul: k is 4 in a \(3, 4\) but 5 in b \(5, 2\)"):
            mg.tensor(np.ones((3, 4))) @ np.ones((5, 2))
        with pytest.raises(ValueError, match="linear: m is 3"):
            mg.linear(mg.tensor(np.ones((2, 4))), np.ones((3, 4)), np.ones(1))


@pytest.mark.skipif(not jit.AVAILABLE, reason="kernels are off, and so is BLAS")
def test_blas_mode_ends_with_its_block():
    a, b = np.float32(np.random.default_rng(2).standard_normal((2, 60, 60)))
    own = mg.matmul(a, b)
    with mg.blas():
        assert np.array_equal(mg.matmul(a, b), a @ b)
        assert np.array_equal(mg.matmul(mg.tensor(a), b).data, a @ b)
    assert np.array_equal(mg.matmul(a, b), own)
