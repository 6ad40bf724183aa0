import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.kernels import jit


def with_gradients(*arrays):
    params = []
    for array in arrays:
        p = mg.tensor(np.zeros_like(array), requires_grad=True)
        p.grad = mg.tensor(array)
        params.append(p)
    return params


def test_the_norm_of_all_together():
    params = with_gradients(np.array([3.0]), np.array([[0.0, 4.0]]))
    assert optim.clip_grad_norm(params, 1.0).item() == 5.0
    np.testing.assert_allclose([params[0].grad.item(), *params[1].grad.data[0]], [0.6, 0.0, 0.8], rtol=1e-15)
    assert optim.clip_grad_norm([mg.tensor([1.0], requires_grad=True)], 1.0).item() == 0.0
    assert optim.clip_grad_norm([], 1.0).shape == ()


@pytest.mark.parametrize(("dtype", "size"), [("f4", 1e20), ("f4", 1e38), ("f8", 1e200), ("f8", 1e-200), ("f4", 1e-30)])
def test_nothing_overflows_or_vanishes(dtype, size):
    params = with_gradients(np.full(3, size, dtype), np.full((2, 3), size, dtype))
    norm = optim.clip_grad_norm(params, size)
    np.testing.assert_allclose(norm.item(), 3 * float(np.array(size, dtype)), rtol=1e-14)
    np.testing.assert_allclose(params[1].grad.data, size / 3, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_within_the_bound_not_a_bit_changes(dtype):
    values = np.array([1.1, -0.0, 2.0**-126 / 3], dtype)
    for bound in (1.5, float("inf"), np.sqrt(np.sum(np.square(values.astype("f8"))))):
        params = with_gradients(values)
        writes = params[0].grad.data.tobytes()
        optim.clip_grad_norm(params, bound)
        assert params[0].grad.data.tobytes() == writes == values.tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad):
    values = np.array([1.0, bad, 2.0])
    params = with_gradients(values, np.ones(2))
    norm = optim.clip_grad_norm(params, 1.0)
    assert not np.isfinite(norm.item())
    assert params[0].grad.data.tobytes() == values.tobytes()
    assert params[1].grad.tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="the norm of the gradients is"):
        optim.clip_grad_norm(params, 1.0, error_if_nonfinite=True)


@pytest.mark.parametrize("bound", [-1.0, float("nan")])
def test_bad_bounds(bound):
    with pytest.raises(ValueError, match="max_norm must not be negative"):
        optim.clip_grad_norm([], bound)


@pytest.mark.skipif(not jit.AVAILABLE, reason="kernels are off")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_that_clips_needs_no_python_and_keeps_the_bits(dtype):
    rng = np.random.default_rng(0)
    x, y = mg.tensor(rng.standard_normal((6, 5)), dtype=dtype), rng.integers(0, 3, 6)
    parameters, norms = [], []
    for compiled in (False, True):
        net = nn.Sequential(nn.Linear(5, 4, dtype=dtype), nn.Tanh(), nn.Linear(4, 3, dtype=dtype)).initialize(seed=0)
        opt = optim.Adam(net.parameters(), lr=0.1)

        def step(x, y, net=net, opt=opt):
            loss = mg.cross_entropy(net(x), y)
            opt.zero_grad()
            loss.backward()
            norm = optim.clip_grad_norm(net.parameters(), 0.2)
            opt.step()
            return norm

        step = mg.compile(step) if compiled else step
        norms.append([step(x, y).item() for _ in range(30)])
        parameters.append([p.data.tobytes() for p in net.parameters()])
    assert norms[0] == norms[1]
    assert min(norms[0]) < 0.2 < max(norms[0]), "one of the two ways is not taken"
    assert parameters[0] == parameters[1]
    assert [c.op.name for c in step.program.calls if c.launches is None and not c.view] == []
