import numpy as np
import pytest
from kernel_tools import same

from minigrad.kernels import update


def state(rng, dtype, count, order="C"):
    arrays = [rng.standard_normal((7, 13)).astype(dtype) for _ in range(count)]
    return [np.asarray(a, order=order) for a in arrays]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_sgd(order, decay, dtype, rng):
    p, d = state(rng, dtype, 2, order)
    lr, wd = dtype.type(0.1), dtype.type(decay)
    want, before = p - lr * (d + wd * p if decay else d), d.copy()
    assert update.sgd(p, d, np.array([0.1, 0, decay, 0, 0])) is None
    assert same(p, want)
    assert same(d, before)


@pytest.mark.parametrize("order", ["C", "F"])
def test_shorten(order, dtype, rng):
    (g,) = state(rng, dtype, 1, order)
    for norm, factor in ((0.7, 0.3 / 0.7), (0.3, 1), (0.1, 1), (np.inf, 1), (np.nan, 1)):
        want, view = dtype.type(factor) * g, g[:, ::-1].copy(order)[:, ::-1]
        for p in (g.copy(order), view):
            assert update.shorten(p, np.array(norm), 0.3) is None
            assert same(p, want)
    before = g.copy()
    for norm in (np.zeros(2), np.float32(2).reshape(()), np.array(2)):
        with pytest.raises(ValueError, match="must be one float64 number"):
            update.shorten(g, norm, 0.3)
    assert same(g, before)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("nesterov", [0.0, 1.0])
@pytest.mark.parametrize("dampening", [0.0, 0.25])
def test_momentum(order, nesterov, dampening, dtype, rng):
    p, d, buf = state(rng, dtype, 3, order)
    lr, mu, wd, kept = (dtype.type(v) for v in (0.1, 0.9, 0.01, 1 - dampening))
    s = d + wd * p
    new = mu * buf + (kept * s if dampening else s)
    want = p - lr * (s + mu * new if nesterov else new)
    update.sgd_momentum(p, d, buf, np.array([0.1, 0.9, 0.01, nesterov, dampening]))
    assert same(buf, new)
    assert same(p, want)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("decay", "decoupled"), [(0.0, 0.0), (0.01, 0.0), (0.01, 1.0)])
def test_adam(order, decay, decoupled, dtype, rng):
    p, d, m, v = state(rng, dtype, 4, order)
    v[...] = abs(v)
    v[:, ::2] = 0  # as at the first step: beside a large v the order of the new term does not show
    lr, b1, b2, eps, t = 1e-3, 0.9, 0.999, 1e-8, 3
    scalars = (b1, 1 - b1, b2, 1 - b2, 1 - lr * decay, lr / (1 - b1**t), np.sqrt(1 - b2**t), eps, decay)
    B1, C1, B2, C2, keep, step, root, e, wd = (dtype.type(s) for s in scalars)
    q = keep * p if decoupled else p
    s = d + wd * p if decay and not decoupled else d
    first, second = B1 * m + C1 * s, B2 * v + (C2 * s) * s
    want = q - (step * first) / (np.sqrt(second) / root + e)
    update.adam(p, d, m, v, np.array([lr, b1, b2, eps, decay, decoupled, b1**t, b2**t]))
    assert same(m, first)
    assert same(v, second)
    assert same(p, want)


@pytest.mark.parametrize("step", [1, 2])
def test_scalars_in_an_array_of_any_layout(step):
    """A counter, the running powers of Adam, one number of the hyper-parameters, from either end."""
    n = np.array([41])
    update.tick(n)
    assert n == 42
    h = np.repeat(np.arange(1.0, 9.0), step)[::step]
    update.advance(h)
    assert h.tolist() == [1, 2, 3, 4, 5, 6, 14, 24]
    for i, value in ((2, 0.5), (-1, 0.25), (-8, 0.75), (7, 0.125)):
        update.put(h, np.array([value]), i)
        assert h[i] == value
    assert h.tolist() == [0.75, 2, 0.5, 4, 5, 6, 14, 0.125]
    for i in (8, -9):
        with pytest.raises(IndexError, match=f"no element {i} of 8"):
            update.put(h, np.array([1.0]), i)
    with pytest.raises(ValueError, match="one element"):
        update.tick(np.arange(2))
    p = np.ones((2, 3))
    with pytest.raises(ValueError, match="h needs 5"):
        update.sgd(p, p.copy(), np.zeros(4))
    with pytest.raises(ValueError, match="h needs 8"):
        update.adam(p, p.copy(), p.copy(), p.copy(), np.zeros(7))
    with pytest.raises(ValueError, match="shape"):
        update.sgd_momentum(p, np.ones((3, 2)), p.copy(), np.zeros(5))


STEPS = [(update.sgd, 1, 5), (update.sgd_momentum, 2, 5), (update.adam, 3, 8)]


@pytest.mark.parametrize(("step", "written", "numbers"), STEPS)
def test_what_is_refused_is_left_alone(step, written, numbers, dtype):
    """A gradient, or a state, of another shape, be it as large or larger; hyper-parameters that are too few, or no
    float64."""
    h = np.full(numbers, 0.5)

    def refused(arrays, h, match):
        before = [a.copy() for a in (*arrays, h)]
        with pytest.raises(ValueError, match=match):
            step(*arrays, h)
        assert all(same(a, b) for a, b in zip((*arrays, h), before, strict=True))

    for place in range(1 + written):
        for shape in ((4, 3), (12,), (3, 5)):
            arrays = [np.ones((3, 4), dtype) for _ in range(1 + written)]
            arrays[place] = np.ones(shape, dtype)
            refused(arrays, h, "shape")
    arrays = [np.ones((3, 4), dtype) for _ in range(1 + written)]
    refused(arrays, h[1:], f"h needs {numbers} float64 numbers, got {numbers - 1} of float64")
    refused(arrays, h.astype(np.float32), f"got {numbers} of float32")


@pytest.mark.parametrize(("step", "written", "numbers"), STEPS)
def test_any_of_the_arrays_may_be_of_another_layout(step, written, numbers, dtype, rng):
    first, h = [abs(a) for a in state(rng, dtype, 1 + written)], np.full(numbers, 0.5)
    plain = [a.copy() for a in first]
    step(*plain, h)
    for place in range(1 + written):
        other = [np.array(a, order="F" if i == place else "C") for i, a in enumerate(first)]
        step(*other, h)
        assert all(same(a, b) for a, b in zip(other, plain, strict=True))
