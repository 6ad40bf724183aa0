"""The table of conventions where a derivative is not what a limit of differences says."""

from contextlib import nullcontext

import numpy as np
import pytest

import minigrad as mg
from minigrad.engine.state import formulas

INF = np.inf

# name: (function, point, derivative, second derivative or None where the table is silent), all by hand
ONE = {
    "relu at 0": (mg.relu, [0.0, -0.0], [0, 0], [0, 0]),
    "abs at 0": (mg.abs, [0.0, -0.0], [0, 0], [0, 0]),
    "leaky relu at 0": (lambda x: mg.leaky_relu(x, 0.2), [0.0], [0.2], [0]),
    "elu at 0": (lambda x: mg.elu(x, 2.0), [0.0], [2.0], [2.0]),
    "sign at 0": (mg.sign, [0.0], [0], [0]),
    "softplus at 0": (mg.softplus, [0.0], [0.5], [0.25]),
    "sqrt at 0": (mg.sqrt, [0.0], [INF], None),
    "clip at its edges": (lambda x: mg.clip(x, -1, 1), [-1.0, 1.0, -2.0, 2.0], [1, 1, 0, 0], [0, 0, 0, 0]),
    "clip from above": (lambda x: mg.clip(x, high=1), [-2.0, 1.0, 2.0], [1, 1, 0], [0, 0, 0]),
    "max, all tied": (mg.max, [3.0, 3.0, 3.0], [1 / 3] * 3, [0, 0, 0]),
    "max, two of three tied": (mg.max, [3.0, 1.0, 3.0], [0.5, 0, 0.5], [0, 0, 0]),
    "min, two of three tied": (mg.min, [1.0, 1.0, 3.0], [0.5, 0.5, 0], [0, 0, 0]),
    "norm at the zero vector": (mg.norm, [0.0, 0.0], [0, 0], [0, 0]),
    "std of a constant slice": (mg.std, [0.1, 0.1, 0.1], [0, 0, 0], [0, 0, 0]),
    "std of zeros": (mg.std, [0.0, 0.0], [0, 0], [0, 0]),
    "prod with one zero": (mg.prod, [0.0, 2.0, 3.0], [6, 0, 0], [0 + 3 + 2, 3, 2]),
    "prod with two zeros": (mg.prod, [0.0, 0.0, 3.0], [0, 0, 0], [3, 3, 0]),
    "x to the 0": (lambda x: x**0, [0.0, 2.0], [0, 0], [0, 0]),
    "x to the 1": (lambda x: x**1, [0.0, 2.0], [1, 1], [0, 0]),
    "x to the array 0": (lambda x: x ** np.zeros(2), [0.0, 2.0], [0, 0], [0, 0]),
    "x to the array 1": (lambda x: x ** np.ones(2), [0.0, 2.0], [1, 1], [0, 0]),
    "x squared at 0": (lambda x: x**2, [0.0, -1.0], [0, -2], [2, 2]),
    "x cubed at 0": (lambda x: x**3, [0.0, -1.0], [0, 3], [0, -6]),
    "0 to the b > 0": (lambda p: mg.pow(0.0, p), [1.0, 2.5], [0, 0], None),
    "array 0 to the b > 0": (lambda p: mg.pow(np.zeros(2), p), [1.0, 2.5], [0, 0], None),
    "0 to the 0": (lambda p: mg.pow(0.0, p), [0.0], [0], None),
    "array 0 to the 0": (lambda p: mg.pow(np.zeros(1), p), [0.0], [0], None),
    "negative to the b": (lambda p: mg.pow(-2.0, p), [2.0], [np.nan], None),
    "array negative to the b": (lambda p: mg.pow(np.full(1, -2.0), p), [2.0], [np.nan], None),
    "logsumexp of all -inf": (mg.logsumexp, [-INF, -INF], [0, 0], [0, 0]),
    "logsumexp with one -inf": (mg.logsumexp, [-INF, 0.0], [0, 1], [0, 0]),
    "where, untaken": (lambda x: mg.where(np.array([True, False]), x, 2 * x), [1.0, 1.0], [1, 2], [0, 0]),
    "relu of NaN": (mg.relu, [np.nan], [1], None),
    "l1 loss where equal": (lambda x: mg.l1_loss(x, np.zeros(2)), [0.0, 3.0], [0, 0.5], [0, 0]),
    "huber loss at its edge": (lambda x: mg.huber_loss(x, np.zeros(2), "sum"), [1.0, 2.0], [1, 1], None),
}


@pytest.mark.parametrize("how", [nullcontext, formulas], ids=["kernels", "formulas"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", ONE)
def test_convention(case, dtype, how):
    f, point, slope, curve = ONE[case]
    x = mg.tensor(np.array(point, dtype), requires_grad=True)
    with np.errstate(all="ignore"), how():
        f(x).sum().backward(create_graph=curve is not None)
        np.testing.assert_allclose(x.grad.data, slope, rtol=4 * np.finfo(dtype).eps, err_msg="first order")
        if curve is not None:
            (gradient,) = (x.grad,)
            x.grad = None
            if gradient.requires_grad:
                gradient.sum().backward()
            got = np.zeros(len(point)) if x.grad is None else x.grad.data
            np.testing.assert_allclose(
                got, curve, rtol=4 * np.finfo(dtype).eps, err_msg="second order, along (1, 1, …)"
            )


@pytest.mark.parametrize("f", [mg.maximum, mg.minimum])
def test_equal_operands_share_evenly(f):
    a, b = (mg.tensor([2.0, 1.0, 5.0], requires_grad=True) for _ in "ab")
    f(a, b).sum().backward()
    assert a.grad.tolist() == b.grad.tolist() == [0.5] * 3


def test_one_tensor_against_itself_keeps_the_whole_gradient():
    a = mg.tensor([2.0, 1.0], requires_grad=True)
    mg.maximum(a, a).sum().backward()
    assert a.grad.tolist() == [1, 1]


@pytest.mark.parametrize("ties", [2, 3, 7, 49])
def test_shares_sum_to_the_incoming_within_an_ulp_per_tie(ties):
    x = mg.tensor(np.ones(ties, np.float32), requires_grad=True)
    x.max().backward(np.float32(0.7))
    assert abs(float(x.grad.data.astype(np.float64).sum()) - np.float32(0.7)) <= ties * np.finfo(np.float32).eps
    assert len(set(x.grad.tolist())) == 1


def test_the_untaken_branch_gets_exactly_zero():
    a, b = (mg.tensor([1.0, 1.0], requires_grad=True) for _ in "ab")
    mg.where(np.array([True, False]), a, b).backward(np.array([np.inf, np.nan], np.float32))
    assert a.grad.tolist() == [np.inf, 0]
    assert b.grad.data[0] == 0
    assert np.isnan(b.grad.data[1])


def test_norms_survive_huge_and_tiny_numbers():
    for scale in (1e-30, 1e30):
        x = mg.tensor(np.array([3 * scale, 4 * scale], np.float32), requires_grad=True)
        y = x.norm()
        y.backward()
        np.testing.assert_allclose(y.data, 5 * scale, rtol=1e-6)
        np.testing.assert_allclose(x.grad.data, [0.6, 0.8], rtol=1e-6)


def test_defaults_of_variance_and_gelu():
    x = np.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose([mg.var(x), mg.std(x), mg.var(x, ddof=1)], [np.var(x), np.std(x), np.var(x, ddof=1)])
    np.testing.assert_allclose(mg.gelu(np.array([1.0])), [0.8413447460685429])
    np.testing.assert_allclose(mg.gelu(np.array([1.0]), "tanh"), [0.8411919906082768])
