"""Transforms against closed forms, and against each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg

RNG = np.random.default_rng(0)
A = RNG.standard_normal((4, 3))
SYMMETRIC = A.T @ A
X = RNG.standard_normal(3)
V = RNG.standard_normal(3)


def near(a, b):
    np.testing.assert_allclose(np.asarray(a.data), b, rtol=1e-12, atol=1e-13)


def quadratic(x):
    return 0.5 * (x * (mg.tensor(SYMMETRIC) @ x)).sum()


def wave(x):
    return mg.sin(mg.tensor(A) @ x)


def quartic(x):
    return ((x * x) * (x * x)).sum() + (x[0] * x[1]) * x[2]


def test_closed_forms():
    value, gradient = mg.value_and_grad(quadratic)(X)
    near(value, 0.5 * X @ SYMMETRIC @ X)
    near(gradient, SYMMETRIC @ X)
    near(mg.hessian(quadratic)(X), SYMMETRIC)
    near(mg.hvp(quadratic, (X,), (V,))[0], SYMMETRIC @ V)
    jacobian = np.cos(A @ X)[:, None] * A
    near(mg.jacobian(wave)(X), jacobian)
    y, pulled = mg.vjp(wave, X)
    near(y, np.sin(A @ X))
    near(pulled(np.arange(4.0))[0], np.arange(4.0) @ jacobian)
    y, pushed = mg.jvp(wave, (X,), (V,))
    near(y, np.sin(A @ X))
    near(pushed, jacobian @ V)


@given(st.integers(0, 2**32 - 1))
def test_they_agree_with_each_other(seed):
    rng = np.random.default_rng(seed)
    x, v, u = rng.standard_normal(3), rng.standard_normal(3), rng.standard_normal(4)
    jacobian = mg.jacobian(wave)(x).data
    _, pull = mg.vjp(wave, x)
    _, jv = mg.jvp(wave, (x,), (v,))
    near(jv, jacobian @ v)
    near(pull(u)[0], u @ jacobian)
    hessian = mg.hessian(quartic)(x).data
    near(mg.tensor(hessian), hessian.T)
    near(mg.hvp(quartic, (x,), (v,))[0], hessian @ v)
    near(mg.jvp(mg.grad(quartic, create_graph=True), (x,), (v,))[1], hessian @ v)


def test_grad_of_grad_of_grad():
    f = mg.sin
    for expected in (np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x), np.sin):
        f = mg.grad(f)
        near(f(np.array(0.7)), expected(0.7))


def test_a_gradient_inside_a_loss():
    """A gradient penalty, by transforms and by backward, has the same bits."""
    x = mg.tensor(X, requires_grad=True)
    gradient = mg.grad(quartic)(x)
    assert gradient.requires_grad
    (gradient * gradient).sum().backward()
    by_transform = x.grad.data.copy()
    x.grad = None
    quartic(x).backward(create_graph=True)
    first, x.grad = x.grad, None
    (first * first).sum().backward()
    assert x.grad.data.tobytes() == by_transform.tobytes()
    near(x.grad, 2 * mg.hessian(quartic)(X).data @ first.data)


def test_argnums():
    def f(a, b, c):
        return (a * b * b + c).sum()

    args = (mg.tensor([1.0, 2.0]), mg.tensor([3.0, 4.0]), 1.0)
    assert mg.grad(f)(*args).tolist() == [9.0, 16.0]
    assert mg.grad(f, 1)(*args).tolist() == [6.0, 16.0]
    first, last = mg.grad(f, (0, -1))(*args)
    assert (first.tolist(), last.tolist()) == ([9.0, 16.0], 2.0)
    _, gradient = mg.value_and_grad(f, (1,))(*args)
    assert isinstance(gradient, tuple)


def test_nothing_outside_is_touched():
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    x = mg.tensor([3.0, 4.0], requires_grad=True)
    mg.grad(lambda x: (w * x).sum())(x)
    mg.jacobian(lambda x: w * x)(x)
    mg.hessian(lambda x: (w * x * x).sum())(x)
    assert w.grad is None
    assert x.grad is None


def test_what_the_output_does_not_depend_on_has_gradient_zero():
    assert mg.grad(lambda x, y: y.sum(), 0)(np.ones(2), mg.tensor(np.ones(3))).tolist() == [0.0, 0.0]
    assert mg.jacobian(lambda x: mg.tensor([1.0, 2.0]))(np.ones(3)).data.tolist() == np.zeros((2, 3)).tolist()
    assert mg.jvp(lambda x: mg.tensor([1.0]), (np.ones(3),), (np.ones(3),))[1].tolist() == [0.0]
    assert mg.hessian(lambda x: x.sum())(np.ones(2)).data.tolist() == np.zeros((2, 2)).tolist()


def test_transforms_record_even_inside_no_grad():
    with mg.no_grad():
        near(mg.grad(quadratic)(X), SYMMETRIC @ X)
        near(mg.hessian(quadratic)(X), SYMMETRIC)


def test_dtypes_and_keywords():
    assert mg.grad(lambda x: (x * x).sum())(X.astype(np.float32)).dtype == np.float32
    assert mg.jacobian(lambda x: x * x)(X.astype(np.float32)).dtype == np.float32
    assert mg.grad(lambda x, power: (x**power).sum())(np.array([2.0]), power=3).tolist() == [12.0]


def test_refusals():
    with pytest.raises(TypeError, match="argument 0 has dtype int64"):
        mg.grad(lambda x: x.sum())(np.arange(3))
    with pytest.raises(ValueError, match=r"one number, got shape \(3,\)"):
        mg.grad(lambda x: x * x)(X)
    with pytest.raises(ValueError, match="argnums names argument 2"):
        mg.grad(quadratic, 2)(X)
    with pytest.raises(TypeError, match="must return a tensor, got float"):
        mg.grad(lambda x: 1.0)(X)
    with pytest.raises(ValueError, match="1 primals but 2 tangents"):
        mg.jvp(wave, (X,), (V, V))
    with pytest.raises(ValueError, match=r"cotangent has shape \(3,\), the output \(4,\)"):
        mg.vjp(wave, X)[1](V)
    with pytest.raises(ValueError, match=r"tangent has shape \(4,\), its primal \(3,\)"):
        mg.jvp(wave, (X,), (np.ones(4),))
    with pytest.raises(ValueError, match="tangent"):
        mg.hvp(quartic, (X,), (np.ones(4),))
