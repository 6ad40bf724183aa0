"""The verdicts of gradcheck, each from samples whose label is known: a confusion matrix in small."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings

import minigrad as mg
from minigrad import nn
from minigrad.engine.op import REGISTRY
from minigrad.testing import assert_gradients, gradcheck

from ..ops import laws

SEEDS = {"dev": 1, "ci": 5, "intense": 50}[settings.get_current_profile_name() or "dev"]
SCALES = 10.0 ** np.array([-8, -4, 0, 4, 8])
OPS = [name for name, op in sorted(REGISTRY.items()) if op.differentiable and not op.writes]


def drawn(name, seeds):
    """Float64 and float32 samples of the op, away from its kinks and ties."""
    found = []

    # it draws, and checks nothing: there is no example whose time could tell anything
    @settings(max_examples=2 * seeds, phases=[Phase.generate], derandomize=True, database=None, deadline=None)
    @given(laws.samples(REGISTRY[name], (1, 2, 3), (laws.F32, laws.F64)))
    def collect(s):
        found.append(s)

    collect()
    return [s for s in found if s.active and all(s.args[i].size for i in s.active)]


def as_function(s):
    def f(*active):
        args = list(s.args)
        for i, a in zip(s.active, active, strict=True):
            args[i] = a
        return s(args)

    return f, [s.args[i] for i in s.active]


@pytest.mark.parametrize("name", OPS)
def test_a_correct_rule_is_correct(name):
    for s in drawn(name, SEEDS):
        f, inputs = as_function(s)
        report = gradcheck(f, inputs)
        assert report.verdict == "correct", f"{s}\n{report}"


CURVES = {
    "sin": (np.sin, np.cos),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "exp": (np.exp, np.exp),
    "square": (np.square, lambda x: 2 * x),
    "log": (lambda x: np.log(np.abs(x)), lambda x: 1 / x),
    "line": (lambda x: 3 * x - 1, lambda x: 3.0 + 0 * x),
    "bump": (lambda x: 1 / (1 + x * x), lambda x: -2 * x / (1 + x * x) ** 2),
}


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_right_and_wrong_at_every_scale(curve, dtype):
    """Never wrong on a right gradient; wrong for a relative error of a thousandth wherever the right one is correct."""
    f, slope = CURVES[curve]
    rng = np.random.default_rng(0)
    judged = 0
    for x in np.array([s * rng.uniform(0.5, 2) * rng.choice([-1, 1]) for s in SCALES for _ in range(4)], dtype):
        with np.errstate(all="ignore"):
            y, d = f(np.float64(x)), slope(np.float64(x))
            condition = abs(x * d / y)
        if not (np.isfinite(y) and np.isfinite(d) and d):
            continue
        verdict = gradcheck(f, [x], gradient=slope).verdict
        assert verdict in ("correct", "noise"), (x, gradcheck(f, [x], gradient=slope))
        if 1e-6 < condition < 1e6:
            judged += 1
            assert verdict == "correct", (x, gradcheck(f, [x], gradient=slope))
            for error in (1e-3, -1e-3, 1.0, -2.0):
                report = gradcheck(f, [x], gradient=lambda x, e=error: slope(x) * (1 + e))
                assert report.verdict == "wrong", (x, error, report)
    assert judged >= 4


@pytest.mark.parametrize(
    ("f", "at"),
    [
        (mg.relu, [0.0, 1.0]),
        (mg.abs, 0.0),
        (lambda x: mg.clip(x, -1, 1), 1.0),
        (mg.leaky_relu, 0.0),
        (mg.max, np.array([1.0, 1.0, 0.0])),
        (mg.norm, np.zeros(3)),
        (lambda x: 1e8 * mg.abs(x - 1e-3), 1e-3),
        (mg.sqrt, 0.0),
        (mg.sign, 0.0),
        (lambda x: mg.sqrt(mg.abs(x)), 0.0),
        (lambda x: 3 + x * x + 1e-2 * mg.abs(x), 0.0),
    ],
)
def test_a_kink_is_a_kink(f, at):
    assert gradcheck(f, [np.asarray(at)]).verdict == "kink"


def test_close_to_a_kink_is_not_at_it():
    assert gradcheck(mg.relu, [np.array([1e-3, -1e-3, 1e-5])]).verdict == "correct"


def test_noise_is_noise():
    rng = np.random.default_rng(0)
    assert gradcheck(lambda x: x * rng.normal(), 1.0).verdict == "noise"
    assert gradcheck(lambda x: x + 1e-3 * np.sin(1e15 * x), 0.3, gradient=np.ones_like).verdict == "noise"
    assert gradcheck(mg.log, -1.0).verdict == "noise"


def test_the_evidence_names_the_entry():
    report = gradcheck(lambda x: (x**3).sum(), [np.arange(1.0, 7).reshape(2, 3)], gradient=lambda x: 3 * x**2)
    assert report, report
    bad = gradcheck(
        lambda x: (x**3).sum(),
        [np.arange(1.0, 7).reshape(2, 3)],
        gradient=lambda x: 3 * x**2 * np.where(x == 4, 1.001, 1),
    )
    assert (bad.verdict, bad.input, bad.index) == ("wrong", "input 0", (1, 0))
    assert bad.expected == pytest.approx(48, rel=1e-9)
    assert bad.got == pytest.approx(48.048)
    assert bad.taylor == pytest.approx(1, abs=0.1)
    assert "48.048" in str(bad)
    assert "48.048" in bad._repr_html_()
    with pytest.raises(AssertionError, match="wrong"):
        assert_gradients(lambda x: x * x, [2.0], gradient=lambda x: x)


def test_a_module_is_checked_in_every_parameter_and_left_alone():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).initialize(seed=0)
    before = {k: v.copy() for k, v in net.state_dict().items()}
    report = gradcheck(net, [np.ones((2, 3), np.float32) / 3])
    assert report, report
    assert report.entries == 6 + 12 + 4 + 8 + 2
    assert all(np.array_equal(v, before[k]) and v.dtype == np.float32 for k, v in net.state_dict().items())


def test_the_second_order_finds_a_detached_derivative():
    assert gradcheck(lambda x: mg.tanh(x) * x, [np.array([0.3, -1.0])], order=2)

    @mg.op("y = x³", shapes="elementwise")
    def cube_with_a_constant_slope(x):
        """The cube."""
        return x * x * x

    try:

        @cube_with_a_constant_slope.vjp("x", "x̄ = 3 x² ȳ")
        def _(g, x):
            fixed = x.detach() if isinstance(x, mg.Tensor) else x
            return 3 * fixed * fixed * g

        assert gradcheck(cube_with_a_constant_slope, [2.0])
        report = gradcheck(cube_with_a_constant_slope, [2.0], order=2)
        assert (report.verdict, report.order) == ("wrong", 2)
    finally:
        del REGISTRY["cube_with_a_constant_slope"]


def test_what_cannot_be_checked_says_so():
    with pytest.raises(TypeError, match="no input is floating-point"):
        gradcheck(mg.sum, [np.arange(3)])
    with pytest.raises(ValueError, match="order is 3"):
        gradcheck(mg.tanh, [1.0], 3)
    with pytest.raises(ValueError, match="the gradient has shapes"):
        gradcheck(np.sum, [np.ones(3)], gradient=lambda x: 1.0)
