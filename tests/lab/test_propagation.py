import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import init, lab
from minigrad.kernels import jit

HE = init.kaiming_normal(nonlinearity="relu")
INITS = {"small": init.normal(std=0.01), "default": init.default(), "xavier": init.xavier_normal(), "he": HE}
ACTIVATIONS = ("linear", "tanh", "relu", "sigmoid", "erf")


@pytest.mark.parametrize("c", [-1.0, -0.7, 0.0, 0.3, 0.99, 0.999999, 1.0])
@pytest.mark.parametrize(("q1", "q2"), [(1.0, 1.0), (0.3, 4.0)])
def test_quadrature_against_closed_forms(q1, q2, c):
    """Cho & Saul 2009 for relu, Williams 1997 for erf."""
    angle, size = math.acos(c), math.sqrt(q1 * q2)
    relu = size * (math.sin(angle) + (math.pi - angle) * c) / (2 * math.pi)
    erf = 2 / math.pi * math.asin(2 * c * size / math.sqrt((1 + 2 * q1) * (1 + 2 * q2)))
    assert lab.correlation_moment("relu", q1, q2, c) == pytest.approx(relu, rel=1e-10, abs=1e-10)
    assert lab.correlation_moment("erf", q1, q2, c) == pytest.approx(erf, rel=1e-10, abs=1e-10)
    assert lab.correlation_moment("linear", q1, q2, c) == pytest.approx(c * size, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("q", [0.01, 1.0, 30.0])
def test_moments_against_closed_forms(q):
    assert init.moments("relu", q) == pytest.approx((q / 2, 0.5), rel=1e-10)
    known = 2 / math.pi * math.asin(2 * q / (1 + 2 * q)), 4 / math.pi / math.sqrt(1 + 4 * q)
    assert init.moments("erf", q) == pytest.approx(known, rel=1e-10)


def test_the_critical_line():
    assert lab.fixed_point("erf", math.sqrt(math.pi) / 2, 0.0)[1] == pytest.approx(1, abs=1e-2)
    for point in lab.critical("tanh"):
        q, chi = lab.fixed_point("tanh", point.sigma_w, point.sigma_b, q=2 * point.q)
        assert chi == pytest.approx(1, abs=2e-3)
        assert q == pytest.approx(point.q, rel=3e-2)
    # Pennington, Schoenholz & Ganguli 2017: tanh is critical at (1, 0), and near (1.3, √0.013) with q* = 0.3
    assert [round(x, 4) for x in lab.critical("tanh", [1e-6])[0][:2]] == [1, 0]
    assert {round(p.sigma_w, 9) for p in lab.critical("relu")} == {round(2**0.5, 9)}
    assert {p.sigma_b for p in lab.critical("relu")} == {0.0}
    assert lab.fixed_point("relu", 2.0, 0.1)[0] == math.inf


def close(result, absolute=True):
    """Within 0.15 of the prediction; or else within 4 standard errors and 0.03."""
    pairs = (
        (result.forward_gain - result.forward_predicted, result.forward_error),
        (result.backward_gain - result.backward_predicted, result.backward_error),
    )
    return all(abs(off) < (0.15 if absolute else 4 * error + 0.03) for off, error in pairs)


@pytest.mark.parametrize("cell", ["relu he", "tanh xavier"])
def test_the_prediction(cell):
    activation, how = cell.split()
    result = lab.propagate(activation=activation, weight_init=INITS[how])
    assert close(result)
    assert len(str(result).splitlines()) == 32
    assert max(map(len, str(result).splitlines()[:-1])) <= 100


@pytest.mark.intense
@pytest.mark.skipif(not jit.AVAILABLE, reason="erf is a loop in Python without kernels")
@pytest.mark.parametrize("how", INITS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_cell(activation, how):
    assert close(lab.propagate(activation=activation, weight_init=INITS[how]))
    assert close(lab.propagate(activation=activation, weight_init=INITS[how], seeds=range(1000, 1020)), False)


def test_it_measures_what_a_network_does():
    """One seed, again by tape and by hand."""
    options = {"depth": 3, "width": 6, "batch": 4}
    result = lab.propagate(**options, activation="tanh", weight_init="xavier_normal", bias_init="default", seeds=[7])
    rng = np.random.default_rng(7)
    x, g = rng.standard_normal((2, 4, 6))
    zs, h = [], mg.tensor(x, requires_grad=True)
    for _ in range(3):
        w = init.xavier_normal()(rng, (6, 6), 6, 6, x.dtype)
        zs.append(h @ w.T + init.default()(rng, (6,), 6, 6, x.dtype))
        zs[-1].retain_grad()
        h = mg.tanh(zs[-1])
    zs[-1].backward(g)
    squares = [(z.data**2).mean() for z in zs]
    down = np.array([(z.grad.data**2).mean() for z in zs])
    np.testing.assert_allclose([layer.forward for layer in result.layers], squares, rtol=1e-10)
    np.testing.assert_allclose([layer.backward for layer in result.layers], down / down[-1], rtol=1e-10)
    varying = [z.data.var(axis=0, ddof=1).mean() for z in zs]
    np.testing.assert_allclose([layer.varying for layer in result.layers], varying, rtol=1e-10)


def test_healthy_moments_without_information():
    """PyTorch's default, biases included, before relu."""
    result = lab.propagate(activation="relu", weight_init="default", bias_init="default", seeds=5)
    assert 1e-3 < result.layers[19].forward < 2e-3
    assert result.layers[19].varying < 1e-15
    assert result.layers[19].correlation > 0.99999
    assert result.verdict.startswith("carries no information from layer 19 on")
    assert 0.3 < result.layers[19].varying / result.layers[19].varying_predicted < 3
    assert result.layers[29].varying / result.layers[29].varying_predicted == pytest.approx(1, abs=0.7)


@pytest.mark.parametrize(
    ("activation", "how", "words"),
    [
        ("tanh", "xavier_normal", "healthy"),
        ("sigmoid", "xavier_normal", "gradient vanishes at layer 20"),
        ("linear", init.normal(std=1.0), "explodes on its way up at layer"),
        ("linear", init.normal(std=1.0), "gradient explodes at layer"),
        ("linear", "zeros", "no information from layer 1"),
    ],
)
def test_verdicts(activation, how, words):
    assert words in lab.propagate(activation=activation, weight_init=how, width=64, seeds=3).verdict


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 1}, "depth must be at least 2"),
        ({"batch": 1}, "batch must be at least 2"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"activation": "tahn"}, "did you mean 'tanh'"),
        ({"weight_init": init.uniform()}, "weights of mean 0"),
        ({"weight_init": lambda *a: None}, "needs the law"),
    ],
)
def test_bad_input(options, words):
    with pytest.raises(ValueError, match=words):
        lab.propagate(**options)
