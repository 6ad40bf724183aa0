"""The verdicts of gradcheck, each from samples whose label is known: a confusion matrix in small."""

import importlib.util
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

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
OPS = [
    name
    for name, op in sorted(REGISTRY.items())
    if op.differentiable and not op.writes and op.__module__.startswith("minigrad.")
]


def bench():
    """bench/verdicts.py, whose op for planting errors leaves the registry again."""
    spec = importlib.util.spec_from_file_location("verdicts", Path(__file__).parents[2] / "bench" / "verdicts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    del REGISTRY["scaled"]
    return module


VERDICTS = bench()


@pytest.mark.parametrize("name", OPS)
def test_the_verdicts_in_small(name):
    """At one scale and dtype for each seed: no right rule is wrong, no planted error correct, every kink a kink.

    (``python bench/verdicts.py 50`` prints the whole matrix, at all scales and in both dtypes.)
    """
    for seed in range(SEEDS):
        rng = np.random.default_rng([seed, OPS.index(name)])
        scale, dtype = rng.choice(VERDICTS.SCALES), (np.float32, np.float64)[rng.integers(2)]
        with np.errstate(all="ignore"):
            for label, report, where in VERDICTS.judge(REGISTRY[name], seed, dtype, scale):
                if label.startswith("right"):
                    assert report.verdict != "wrong", f"{where}\n{report}"
                elif label.endswith("calm"):
                    assert not report or report.unresolved, f"{label}: {where}\n{report}"
    for label, report, where in VERDICTS.kinks(REGISTRY[name]):
        assert report.verdict == label, f"{where}\n{report}"


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
    report = gradcheck(lambda x: x * rng.normal(), 1.0)
    assert (report.verdict, report.sentence) == ("noise", "f gives different values at the same point")
    assert gradcheck(lambda x: x + 1e-3 * np.sin(1e15 * x), 0.3, gradient=np.ones_like).verdict == "noise"
    assert gradcheck(mg.log, -1.0).verdict == "noise"


F32 = np.float32
#: Functions that round to float32 inside, and their gradients.
STAIRCASES = {
    "input": (lambda x: 3 * np.float64(F32(x)) + 1, lambda x: 3 + 0 * x),
    "output": (lambda x: np.float64(F32(np.sin(x))), np.cos),
    "all": (lambda x: np.float64(np.sin(F32(x))), np.cos),
    "sum": (
        lambda x: np.float64(np.sum(np.exp(F32(x) * np.arange(3, dtype=F32)))),
        lambda x: np.exp(x) + 2 * np.exp(2 * x),
    ),
}


@pytest.mark.parametrize("name", STAIRCASES)
def test_a_staircase_is_judged_by_its_slope(name):
    f, slope = STAIRCASES[name]
    for x in (0.3, 0.5, 1.7, -0.77, 3e-8):
        assert gradcheck(f, [x], gradient=slope), (x, gradcheck(f, [x], gradient=slope))
        for factor in (1.002, 0.998, 0, -1):
            report = gradcheck(f, [x], gradient=lambda x, k=factor: k * slope(x))
            assert report.verdict == "wrong", (x, factor, report)


def test_a_staircase_with_slopes_of_its_own_is_noise():
    """Only one factor is rounded: between the jumps the slope is another, and differences cannot tell whose it is."""
    for x in (0.3, 0.5, 1.7, 3e8):
        for factor in (1, 1.01):
            report = gradcheck(
                lambda x: x * np.float64(np.sin(F32(x))),
                [x],
                gradient=lambda x, k=factor: k * (np.sin(x) + x * np.cos(x)),
            )
            assert report.verdict == "noise", (x, report)


def test_tensors_in_float32_inside():
    for order in (1, 2):
        assert gradcheck(lambda x: mg.tanh(mg.astype(x, "float32")), [np.array([0.3, -1.2, 2.0])], order)


def planted(at, factor, f=lambda x: 3 * x**2):
    def gradient(x):
        g = f(x)
        g[at] *= factor
        return g

    return gradient


@pytest.mark.parametrize("at", [(0, 0), (17, 33), (39, 49)])
def test_one_wrong_entry_of_a_large_array_is_found(at):
    """Few entries are looked at alone; what a direction through all sees is narrowed down to the entry."""
    x = np.random.default_rng(1).normal(size=(40, 50))
    right = gradcheck(lambda x: (x * x * x).sum(), [x], gradient=lambda x: 3 * x * x)
    assert (right.verdict, right.total, right.directions) == ("correct", 2000, 4), right
    assert right.entries < 2000
    assert f"{right.entries} of 2000 entries and 4 directions" in str(right)
    report = gradcheck(lambda x: (x * x * x).sum(), [x], gradient=planted(at, 1.001))
    assert (report.verdict, report.input, report.index) == ("wrong", "input 0", at), report
    assert report.expected == pytest.approx(3 * x[at] ** 2, rel=1e-6)
    assert report.got == pytest.approx(3.003 * x[at] ** 2, rel=1e-12)


def test_one_kink_in_a_large_array_is_found():
    x = np.random.default_rng(1).normal(size=(20, 15))
    assert gradcheck(mg.relu, [x])
    x[3, 4] = 0
    report = gradcheck(mg.relu, [x])
    assert (report.verdict, report.index) == ("kink", (3, 4)), report


def test_a_kink_beside_an_error_is_told():
    report = gradcheck(lambda x: np.abs(x).sum(), [np.arange(4.0)], gradient=planted(2, 1.5, np.sign))
    assert (report.verdict, report.index) == ("wrong", (2,))
    assert report.tally == {"wrong": 1, "kink": 1, "correct": 2}
    assert report.also == ("kink at input 0[0]: the slopes of f are -1 from the left and 1 from the right",)
    assert "also" in str(report)


def test_what_differences_cannot_resolve_is_never_correct():
    """f is flat to its rounding where its derivative is 1e-36."""
    for factor in (1, 1.001, 3):
        at = [np.array([82.0, 85.0])]
        report = gradcheck(lambda x: (1 / (1 + np.exp(-x))).sum(), at, gradient=lambda x, k=factor: k * np.exp(-x))
        assert (report.verdict, report.unresolved) == ("noise", 2), report
    mixed = gradcheck(
        lambda x: (1 / (1 + np.exp(-x))).sum(),
        [np.array([82.0, 1.0])],
        gradient=lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2,
    )
    assert (mixed.verdict, mixed.unresolved) == ("correct", 1)
    assert "too small beside f" in mixed.sentence


def test_terms_that_cancel_to_the_last_bit_blame_no_gradient():
    """log(e⁶⁶ + e⁵) − 66 is 0 in float64, with a derivative of 3e-27 by 5; a gradient of 1e-9 is wrong all the same."""
    at = np.array([66.0, 5.0])
    report = gradcheck(lambda x: mg.logsumexp(x) - x[0], at)
    assert report
    assert report.unresolved
    share = np.exp(5.0 - 66.0)
    assert gradcheck(lambda x: 0.0 * x.sum(), at, gradient=lambda x: np.array([0.0, share]))
    assert gradcheck(lambda x: 0.0 * x.sum(), at, gradient=lambda x: np.array([0.0, 1e-9])).verdict == "wrong"


@pytest.mark.parametrize(
    ("x", "weight"),
    [([37.21276172, 66.54447177, -59.32553935], 1.0), ([-96.93220341, -146.08604159, -122.30449165], 179.72581577)],
)
def test_stairs_of_terms_that_cancel_blame_no_gradient(x, weight):
    """A loss of 1e-9 or less in steps of an ulp of the logits: fine steps see nothing, wide ones the next stairs."""
    target, weights = np.array([int(np.argmax(x))]), np.full(3, weight)
    loss = lambda x: mg.cross_entropy(x, target, weights, reduction="none")  # noqa: E731
    at = [np.array([x])]
    assert gradcheck(loss, at).verdict == "correct"
    share = mg.grad(lambda x: loss(x).sum())(mg.tensor(at[0])).data
    wrong = lambda x: share + np.array([[0.0, 0.0, 1e-6]])  # noqa: E731
    assert gradcheck(lambda x: loss(x).sum(), at, gradient=wrong).verdict == "wrong"


@pytest.mark.parametrize("x", [[100.0, 74.27], [200.0, 171.5, 160.0], [30.0, 0.0]])
def test_an_output_that_is_a_small_difference_is_not_wrong(x):
    """log_softmax of a dominant entry is -1e-12, in steps of an ulp of x: its derivative is not that of the steps."""
    assert gradcheck(lambda x: mg.log_softmax(x, -1), [np.array(x)]).verdict == "correct"


@pytest.mark.parametrize("planted", range(3))
def test_slopes_whose_squares_overflow_are_resolved(planted):
    """Outputs of 1e-57, 1e244 and 1e247: their slopes are known, the squares of these are not."""
    at = np.array([168.63393292, 94.33803688, 90.53895975])
    factor = np.where(np.arange(3) == planted, 1.001, 1.0)
    powers = mg.tensor([-25.5, 125.1, 124.6])
    assert not (report := gradcheck(lambda x: VERDICTS.scaled(x, factor) ** powers, at)), report
    assert report.index == (planted,)
    assert gradcheck(lambda x: x**powers, at).verdict == "correct"


def test_entries_of_other_scales_are_judged_by_their_own():
    """Inputs, and outputs, that are 1e16 apart: the large ones lend the small ones no tolerance."""
    a, b = np.array([1e8]), np.array([1e-8])
    for k, verdict in ((1, "correct"), (1.001, "wrong")):
        f = lambda a, b: (a * b).sum()  # noqa: E731
        assert gradcheck(f, [a, b], gradient=lambda a, b, k=k: (k * b, a)).verdict == verdict
        assert gradcheck(f, [a, b], gradient=lambda a, b, k=k: (b, k * a)).verdict == verdict
        both = np.array([1e8, 1e-8])
        assert gradcheck(np.prod, [both], gradient=lambda x, k=k: x[::-1] * [k, 1]).verdict == verdict
        assert gradcheck(np.prod, [both], gradient=lambda x, k=k: x[::-1] * [1, k]).verdict == verdict


@contextmanager
def an_op(rule, formula="y = x²", fn=lambda x: x * x):
    """An op of one argument with this rule, as long as the block runs."""

    def passing(x):
        """For a test."""
        return fn(x)

    try:
        op = mg.op(formula, shapes="elementwise")(passing)
        op.vjp("x", "x̄ = …")(rule)
        yield op
    finally:
        del REGISTRY["passing"]


def overwrites_its_cotangent(g, x):
    if isinstance(g, np.ndarray):
        g *= 2 * x
        return g
    return g * 2 * x


def overwrites_its_input(g, x):
    out = g * 2 * x
    if isinstance(x, np.ndarray):
        x += 1
    return out


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (overwrites_its_cotangent, "writes on the cotangent"),
        (overwrites_its_input, "a rule writes on input 0"),
        (lambda g, x: 2 * x * g * g, "the gradient is"),
        (lambda g, x: 2 * x * abs(g), "the gradient is"),
        (lambda g, x: 2 * x * mg.sum(g) / g.size, "the gradient is"),
        (lambda g, x: 2 * x * mg.flip(g), "the gradient is"),
        (lambda g, x: 0 * x * g, "the gradient is 0"),
    ],
)
def test_a_wrong_rule_is_wrong(rule, said):
    with an_op(rule) as op:
        for n in (3, 100):
            report = gradcheck(op, [np.linspace(0.5, 1.5, n)])
            assert report.verdict == "wrong", report
            assert said in report.sentence


def test_a_function_that_writes_on_its_input_is_wrong():
    def f(x):
        x *= 2
        return (x * x).sum()

    report = gradcheck(f, [np.ones(2)], gradient=lambda x: 8 * x)
    assert (report.verdict, report.sentence) == ("wrong", "f writes on input 0")


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

    def constant_slope(g, x):
        fixed = x.detach() if isinstance(x, mg.Tensor) else x
        return 3 * fixed * fixed * g

    with an_op(constant_slope, "y = x³", lambda x: x * x * x) as cube:
        assert gradcheck(cube, [2.0])
        report = gradcheck(cube, [2.0], order=2)
        assert (report.verdict, report.order) == ("wrong", 2)


def test_what_cannot_be_checked_says_so():
    with pytest.raises(TypeError, match="no input is floating-point"):
        gradcheck(mg.sum, [np.arange(3)])
    with pytest.raises(ValueError, match="order is 3"):
        gradcheck(mg.tanh, [1.0], 3)
    with pytest.raises(ValueError, match="the gradient has shapes"):
        gradcheck(np.sum, [np.ones(3)], gradient=lambda x: 1.0)
    with pytest.raises(ValueError, match=r"must return one number, got shape \(3,\)"):
        gradcheck(np.sin, [np.ones(3)], gradient=np.cos)


def test_a_kink_in_a_large_array_hides_no_error():
    x = np.random.default_rng(1).normal(size=300)
    x[7] = 0
    report = gradcheck(lambda x: np.abs(x).sum(), [x], gradient=planted(200, 1.001, np.sign))
    assert (report.verdict, report.index) == ("wrong", (200,)), report
    assert report.also == ("kink at input 0[7]: the slopes of f are -1 from the left and 1 from the right",)


def test_values_of_many_outputs_are_not_kept():
    def f(x):
        return mg.tanh(x + np.ones((50_000, 1)))

    gradcheck(f, [np.array([0.5])])
    tracemalloc.start()
    try:
        assert gradcheck(f, [np.array([0.5])])
        assert tracemalloc.get_traced_memory()[1] < 40 * 50_000 * 8  # half of what one ladder of steps looks at
    finally:
        tracemalloc.stop()
