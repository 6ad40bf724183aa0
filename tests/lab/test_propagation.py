import math
import re
import sys
from itertools import pairwise

import numpy as np
import pytest

import minigrad as mg
from minigrad import init, lab, nn
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


# σ_w without biases.
KNOWN = {"tanh": 1.0, "erf": math.sqrt(math.pi) / 2, "relu": math.sqrt(2), "linear": 1.0}


@pytest.mark.parametrize("name", KNOWN)
def test_known_critical_values(name):
    """Without biases χ₁ is 1 where σ_w φ′(0) is, and for relu everywhere on σ_w = √2."""
    q, chi = lab.fixed_point(name, KNOWN[name], 0.0)
    assert chi == pytest.approx(1, abs=1e-12)
    assert q == pytest.approx(1.0 if name in ("relu", "linear") else 0.0, abs=1e-12)
    assert lab.fixed_point(name, 0.9 * KNOWN[name], 0.0)[1] == pytest.approx(0.81, rel=1e-9)
    assert lab.fixed_point(name, 0.9 * KNOWN[name], 0.0)[0] == 0
    assert lab.fixed_point(name, 1.1 * KNOWN[name], 0.0)[1] > 1
    assert lab.critical(name, [1e-6], sigma_w=[1], sigma_b=[0])[0][:2] == pytest.approx((KNOWN[name], 0), abs=1e-4)


def test_fixed_points():
    # A pair of variances with which deep tanh networks are trained in the literature on dynamical isometry.
    assert lab.fixed_point("tanh", math.sqrt(1.05), math.sqrt(2.01e-5))[1] == pytest.approx(1, abs=1e-4)
    assert lab.fixed_point("linear", 0.5, 3.0) == pytest.approx((12, 0.25))
    assert lab.fixed_point("relu", 1.0, 1.0) == pytest.approx((2, 0.5))
    assert lab.fixed_point("relu", 2.0, 0.1)[0] == math.inf
    q, _ = lab.fixed_point("erf", 2.0, 0.3)
    assert q == pytest.approx(8 / math.pi * math.asin(2 * q / (1 + 2 * q)) + 0.09, rel=1e-12)
    qs, chis = lab.fixed_point("tanh", np.array([[0.5], [2.0]]), [0.0, 0.3, 0.6])
    assert qs.shape == chis.shape == (2, 3)
    assert (qs[1, 2], chis[1, 2]) == pytest.approx(lab.fixed_point("tanh", 2.0, 0.6))
    # tanh has its fixed points where iterating ends, from above and from below
    for start in (0.01, 30.0):
        q = start
        for _ in range(300):
            q = 4 * init.moments("tanh", q)[0] + 0.36
        assert lab.fixed_point("tanh", 2.0, 0.6, q=start)[0] == pytest.approx(q, rel=1e-12)


@pytest.mark.parametrize("name", ["tanh", "erf", "selu", "elu", "gelu"])
def test_the_critical_line(name):
    line = lab.critical(name, sigma_w=[1.0], sigma_b=[0.0, 1.0])
    assert len(line) == 9
    assert list(line) == sorted(line, key=lambda point: point.q)
    for point in line:
        q, chi = lab.fixed_point(name, point.sigma_w, point.sigma_b, q=point.q * 1.0001)
        if point.stable:
            assert (q, chi) == pytest.approx((point.q, 1), rel=1e-6)
        else:
            assert not 0.9 < q / point.q < 1.1
    assert any(not point.stable for point in line) == (name == "gelu")


def test_the_phase_diagram():
    diagram = lab.critical("tanh", sigma_w=np.linspace(0.2, 3, 8), sigma_b=[0.0, 0.5])
    assert diagram.chi.shape == diagram.q.shape == (2, 8)
    for i, b in enumerate(diagram.sigma_b):
        for j, w in enumerate(diagram.sigma_w):
            assert diagram.chi[i, j] == pytest.approx(lab.fixed_point("tanh", w, b)[1])
    lines = str(diagram).splitlines()
    assert lines[1:3] == ["σ_b  0.50  . . . . # # # #", "σ_b  0.00  . . = # # # # #"]
    assert max(map(len, str(lab.critical("relu")).splitlines())) <= 100
    assert "none at these q*" in str(lab.critical("sigmoid", [1.0], sigma_w=[1], sigma_b=[0]))
    assert {round(p.sigma_w, 9) for p in lab.critical("relu", sigma_w=[1], sigma_b=[0])} == {round(2**0.5, 9)}


def test_the_phase_diagram_drawn(requires, tmp_path):
    requires("matplotlib")
    figure = lab.critical("tanh", sigma_w=[0.5, 1, 2], sigma_b=[0, 1]).plot()
    (line,) = figure.axes[0].lines
    assert len(line.get_xydata()) == 9
    figure.savefig(tmp_path / "a.png", dpi=40)


def test_pictures_say_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install 'minigrad"):
        lab.critical("tanh", [1.0], sigma_w=[1], sigma_b=[0]).plot()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: lab.critical("tahn"), ValueError, "did you mean 'tanh'"),
        (lambda: lab.critical(3), TypeError, "an activation is a name or a function"),
        (lambda: lab.critical("tanh", [0.0]), ValueError, "q must be finite numbers above 0"),
        (lambda: lab.critical("tanh", sigma_w=[math.nan]), ValueError, "sigma_w must be finite numbers from 0"),
        (lambda: lab.critical("tanh", sigma_b=[]), ValueError, "sigma_b must be"),
        (lambda: lab.fixed_point("tanh", -1.0, 0.0), ValueError, "deviations of 0 or more"),
        (lambda: lab.fixed_point("tanh", 1.0, 0.0, q=0), ValueError, "q above 0"),
    ],
)
def test_what_has_no_phase(call, error, words):
    with pytest.raises(error, match=words):
        call()


def close(result, absolute=True):
    """Within 0.15 of the prediction; or else within 4 standard errors and 0.03."""
    pairs = (
        (result.forward_gain - result.forward_predicted, result.forward_error),
        (result.backward_gain - result.backward_predicted, result.backward_error),
    )
    return all(abs(off) < (0.15 if absolute else 4 * error + 0.03) for off, error in pairs)


# Width 128 costs a quarter of the 256 of test_every_cell. A gain that is off by 2 % in every layer moves the total by
# 29 · 2 log10 1.02 = 0.5.
@pytest.mark.parametrize("cell", ["relu he", "tanh xavier"])
def test_the_prediction(cell):
    activation, how = cell.split()
    result = lab.propagate(activation=activation, weight_init=INITS[how], width=128)
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


# Networks


def deep(activation, depth=30, width=256, **options):
    layers = [nn.Linear(width, width, **options) for _ in range(depth)]
    return nn.Sequential(*[part for layer in layers for part in (layer, activation())][:-1]).initialize(0)


X = np.random.default_rng(0).standard_normal((32, 256)).astype(np.float32)


def test_a_network_and_a_random_one_agree():
    """The same weights, once as a network and once by hand, have the same table, theory included."""
    ours = lab.propagate(depth=4, width=20, activation="tanh", weight_init="xavier_normal", seeds=[7], batch=6)
    rng = np.random.default_rng(7)
    x, _ = rng.standard_normal((2, 6, 20))
    net = deep(nn.Tanh, 4, 20, dtype="float64")
    for layer in net:
        if isinstance(layer, nn.Linear):
            mg.assign(layer.weight, init.xavier_normal()(rng, (20, 20), 20, 20, x.dtype))
            mg.assign(layer.bias, 0)
    theirs = lab.propagate(net, x)
    assert [layer.name for layer in theirs.layers] == ["0", "2", "4", "6"]
    for a, b in zip(ours.layers, theirs.layers, strict=True):
        assert b.forward == pytest.approx(a.forward, rel=1e-9)
        assert b.varying == pytest.approx(a.varying, rel=1e-9)
        assert b.correlation == pytest.approx(a.correlation, abs=1e-9)
    for a, b in zip(ours.layers[:-1], theirs.layers[:-1], strict=True):
        assert (b.saturated, b.dead) == (a.saturated, a.dead)
        assert 0.3 < b.backward_predicted / a.backward_predicted < 3


def test_gradients_are_those_of_the_network():
    """Against backward() with the same cotangent, through a softmax, rectangular layers and a custom module."""

    class Two(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(9, 7), nn.Linear(7, 5)

        def forward(self, x):
            self.seen = [self.a(x)]
            self.seen.append(self.b(mg.tanh(self.seen[0]) * 0.5))
            for z in self.seen:
                z.retain_grad()
            return mg.softmax(self.seen[1])

    net, x = Two().initialize(1), X[:, :9]
    result = lab.propagate(net, x)
    assert [layer.name for layer in result.layers] == ["a", "b"]
    assert all(p.grad is None for p in net.parameters())
    net(x).backward(np.random.default_rng(0).standard_normal((32, 5)).astype(np.float32))
    down = [(z.grad.data.astype(float) ** 2).mean() for z in net.seen]
    assert [layer.backward for layer in result.layers] == pytest.approx([down[0] / down[1], 1], rel=1e-6)


@pytest.mark.parametrize("sizes", [(64, 256, 256, 256), (256, 64, 256, 128)])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_rectangular_networks(sizes, activation):
    """One network of a thousand: what theory says of wide layers holds within a quarter for 64 units and more."""
    net = [
        [nn.Linear(n, m, weight_init="kaiming_normal", bias_init=init.normal(0.3, 0.2)), activation()]
        for n, m in pairwise(sizes)
    ]
    result = lab.propagate(nn.Sequential(*[part for pair in net for part in pair][:-1]).initialize(3), X[:, : sizes[0]])
    for layer in result.layers:
        assert layer.forward == pytest.approx(layer.forward_predicted, rel=0.25)
        assert layer.varying == pytest.approx(layer.varying_predicted, rel=0.25)
        assert layer.backward == pytest.approx(layer.backward_predicted, rel=0.25)
        assert layer.correlation == pytest.approx(layer.correlation_predicted, abs=0.08)


def test_pytorchs_default_before_relu():
    """Healthy moments, no information: both as a table and in words."""
    result = lab.propagate(deep(nn.ReLU), X)
    assert all(layer.forward > 1e-3 for layer in result.layers)
    assert result.layers[19].varying < 1e-12 * result.layers[19].forward
    assert result.layers[19].correlation > 0.99999
    assert "carries no information from layer 36 (19 of 30) on" in result.verdict
    assert "gradient vanishes at layer 26 (14 of 30)" in result.verdict
    for layer in result.layers[:19]:
        assert 0.5 < layer.varying / layer.varying_predicted < 2
        assert 0.5 < layer.backward / layer.backward_predicted < 2


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.SELU, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU])
def test_the_advice_helps(activation):
    """What the verdict says to try is tried."""
    sick = lab.propagate(deep(activation, width=128, weight_init=init.normal(std=0.01)), X[:, :128])
    assert not sick.verdict.startswith("healthy")
    weight, bias = re.search(r"weight_init=(.*), bias_init=(.*)$", sick.verdict).groups()
    better = {"weight_init": eval(weight, {"init": init}), "bias_init": eval(bias, {"init": init})}
    well = lab.propagate(deep(activation, width=128, **better), X[:, :128])
    assert well.verdict.startswith("healthy")
    assert well.chi == pytest.approx(1, abs=0.15)


def test_where_theory_begins_anew():
    net = nn.Sequential(
        first=nn.Linear(256, 64, weight_init=0.01),
        tanh=nn.Tanh(),
        second=nn.Linear(64, 50, weight_init="xavier_normal"),
        mixed=nn.Softmax(),
        drop=nn.Dropout(0.5),
        third=nn.Linear(50, 40),
        last=nn.Linear(40, 10),
    ).initialize(0)
    count = net.drop.count.tolist()
    result = lab.propagate(net, X)
    assert net.training
    assert net.drop.training
    assert net.drop.count.tolist() == count
    first, second, third, last = result.layers
    assert math.isnan(first.forward_predicted)
    assert "layer first (1 of 4): weights have the mean 0.01" in result.verdict
    assert "layer third (3 of 4): softmax is not elementwise" in result.verdict
    assert second.backward_predicted == second.backward
    assert math.isnan(second.dead)
    for layer in (second, third, last):
        assert layer.forward == pytest.approx(layer.forward_predicted, rel=0.5)


def test_where_branches_meet():
    class Residual(nn.Module):
        def __init__(self):
            self.a, self.b, self.c = (nn.Linear(256, 256, weight_init="lecun_normal") for _ in range(3))

        def forward(self, x):
            h = mg.tanh(self.a(x))
            return self.c(h + mg.tanh(self.b(h)))

    result = lab.propagate(Residual().initialize(0), X)
    assert "layer b (2 of 3): what enters it goes elsewhere, too" in result.verdict
    assert "layer c (3 of 3): branches meet" in result.verdict
    for layer in result.layers:
        assert layer.forward == pytest.approx(layer.forward_predicted, rel=0.1)
        assert layer.backward == pytest.approx(layer.backward_predicted, rel=0.1)


def test_a_layer_that_no_gradient_reaches():
    class Signs(nn.Module):
        def forward(self, x):
            return mg.sign(x)

    net = nn.Sequential(gate=nn.Linear(256, 8), sign=Signs(), last=nn.Linear(8, 8)).initialize(0)
    result = lab.propagate(net, X)
    assert [layer.backward for layer in result.layers] == [0, 1]
    assert result.layers[0].dead == 1
    assert "gradient vanishes at layer gate (1 of 2)" in result.verdict


def test_dead_and_saturated_units():
    bias = np.zeros(256)
    bias[:64] = -1e3
    net = nn.Sequential(nn.Linear(256, 256, bias_init=bias), nn.ReLU(), nn.Linear(256, 3), nn.Sigmoid()).initialize(0)
    assert lab.propagate(net, X).layers[0].dead == 0.25
    # The slopes of a sigmoid at 5.3 and 6.2 are 1/50 and 1/123 of that at 0.
    mg.assign(net[2].weight, 1e-6 * net[2].weight.data)
    mg.assign(net[2].bias, np.array([0.0, 5.3, 6.2]))
    assert lab.propagate(net, X).layers[1].saturated == pytest.approx(1 / 3)


class Scaled(nn.Module):
    def __init__(self):
        self.by = nn.Parameter(np.linspace(0, 1, 9))

    def forward(self, x):
        return x * self.by


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: lab.propagate(nn.Sequential(nn.Tanh()), X), ValueError, "has no linear layers"),
        (lambda: lab.propagate(nn.Sequential(), X), ValueError, "has no linear layers"),
        (lambda: lab.propagate(mg.tanh, X), TypeError, "need a module, such as nn.Sequential, got Op"),
        (lambda: lab.propagate(nn.Linear(9, 9)), TypeError, "needs inputs"),
        (lambda: lab.propagate(x=X), TypeError, "x without a network"),
        (lambda: lab.propagate(nn.Linear(9, 9), X, depth=3), TypeError, "depth shape random networks"),
        (lambda: lab.propagate(nn.Linear(9, 9), X), ValueError, r"k is 256 in x \(32, 256\) but 9 in w"),
        (lambda: lab.propagate(nn.Linear(256, 9), X[:1]), ValueError, "two inputs or more"),
        (lambda: lab.propagate(nn.Linear(256, 9), X[0]), ValueError, "two inputs or more"),
        (lambda: lab.propagate(nn.Linear(256, 9), X[:1].repeat(3, 0)), ValueError, "all 3 inputs are equal"),
        (
            lambda: lab.propagate(nn.Linear(2, 9), [[0.0, 1.0], [math.nan, 2.0]]),
            ValueError,
            r"1 of x's 4 values are not finite, the first at \(1, 0\)",
        ),
        (
            lambda: lab.propagate(nn.Sequential(nn.Linear(256, 9), nn.Softmax(), nn.Linear(9, 2)), X, jacobian=True),
            ValueError,
            "no Jacobian, because before layer 2 softmax is not elementwise",
        ),
        (
            lambda: lab.propagate(nn.Sequential(nn.Linear(256, 9), Scaled(), nn.Linear(9, 2)), X, jacobian=True),
            ValueError,
            "differs from unit to unit",
        ),
    ],
)
def test_what_can_not_be_read(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_float32_that_overflows_is_said_to_explode():
    """Twenty layers that multiply by 160 leave the range of float32."""
    result = lab.propagate(deep(nn.ReLU, 20, width=64, weight_init=init.normal(std=28.0)), X[:, :64])
    assert "explodes on its way up at layer" in result.verdict
    assert "gradient explodes at layer" in result.verdict
    str(result)


def test_weights_that_are_no_numbers():
    net = nn.Sequential(nn.Linear(256, 9), nn.Tanh(), nn.Linear(9, 2))
    net[2].weight.data[0, 0] = math.nan
    with pytest.raises(ValueError, match="the weight of layer 2 has values that are not finite"):
        lab.propagate(net, X)


# Jacobians

CORNERS = pytest.mark.parametrize(
    ("activation", "how"), [(f, how) for f in ("linear", "relu") for how in ("gaussian", "orthogonal")]
)


def spreads_as_predicted(activation, how, depth, width, seeds):
    """The relative variance of s² is 1 for each Gaussian layer, and one more for each relu (Pennington et al. 2017)."""
    rule = init.normal(std=width**-0.5) if how == "gaussian" else init.orthogonal()
    options = {"depth": depth, "width": width, "activation": activation, "weight_init": rule, "batch": 2}
    found = lab.propagate(**options, seeds=seeds, jacobian=True).jacobian
    known = depth * (how == "gaussian") + (depth - 1) * (activation == "relu")
    assert found.spread_predicted == pytest.approx(known, rel=0.01, abs=1e-9)
    assert found.spread == pytest.approx(known, rel=0.1, abs=1e-9)
    assert found.mean_square_predicted == pytest.approx(0.5 ** ((depth - 1) * (activation == "relu")))


@CORNERS
def test_the_spread_of_singular_values(activation, how):
    spreads_as_predicted(activation, how, depth=5, width=128, seeds=4)


@pytest.mark.intense
@CORNERS
@pytest.mark.parametrize("seeds", [range(20), range(1000, 1020)], ids=["published", "fresh"])
def test_the_spread_of_deeper_ones(activation, how, seeds):
    spreads_as_predicted(activation, how, depth=10, width=256, seeds=seeds)


def test_the_jacobian_is_the_one_of_autograd():
    net = nn.Sequential(nn.Linear(9, 6), nn.Tanh(), nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 5)).astype("float64")
    x = X[:3, :9].astype(np.float64)
    found = lab.propagate(net, x, jacobian=True).jacobian
    for row, values in zip(x, found.singular_values, strict=True):
        known = np.linalg.svd(mg.jacobian(net)(mg.tensor(row)).data, compute_uv=False)
        assert values == pytest.approx(known, rel=1e-9)
    squares = found.singular_values**2
    assert found.mean_square == pytest.approx(squares.sum(axis=1).mean() / 9)
    assert found.spread == pytest.approx(np.mean([9 * (s**2).sum() / s.sum() ** 2 - 1 for s in squares]))


def test_lyapunov_exponents(requires):
    """Newman 1986: ½ (ψ(i/2) + log(2/n)), i = n … 1, for products of n × n Gaussian matrices of variance 1/n."""
    n, i = 4, np.arange(4, 0, -1)
    known = 0.5 * (requires("scipy.special").digamma(i / 2) + math.log(2 / n))
    found = lab.propagate(
        depth=100, width=n, activation="linear", weight_init=init.normal(std=n**-0.5), batch=2, jacobian=True
    ).jacobian.lyapunov
    assert found == pytest.approx(known, abs=0.07)
    assert known[0] < 0, "typical products shrink, though the mean of their squares does not"
    # A diagonal network: the exponents are logarithms of its weights, beyond the range of float64, too.
    net = nn.Sequential(*[nn.Linear(2, 2, weight_init=[[0.1, 0.0], [0.0, 300]], dtype="float64") for _ in range(150)])
    result = lab.propagate(net, np.eye(2), jacobian=True)
    assert result.jacobian.lyapunov == pytest.approx([math.log(300), math.log(0.1)], abs=0.03)
    assert "explodes on its way up" in result.verdict


def test_directions_that_relu_shuts_do_not_grow():
    size = {"depth": 4, "width": 32, "batch": 2, "jacobian": True}
    found = lab.propagate(activation="relu", weight_init=init.kaiming_normal(), **size)
    told = np.isfinite(found.jacobian.lyapunov)
    assert 0 < np.count_nonzero(told) < 20
    assert told[0]
    assert "median -inf" in str(found.jacobian)
    open_ = lab.propagate(activation="tanh", weight_init=init.lecun_normal(), **size)
    assert np.isfinite(open_.jacobian.lyapunov).all()
