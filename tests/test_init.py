import itertools
import math

import numpy as np
import pytest
import scipy.stats

import minigrad as mg
from minigrad import init, nn

SHAPE, FAN_IN, FAN_OUT = (250, 400), 400, 250  # not square: swapped fans must show
N = 250 * 400
DTYPES = [np.dtype(name) for name in ("float16", "float32", "float64")]

BOUNDS = {
    init.uniform(-0.5, 1.5): (-0.5, 1.5),
    init.default(): 1 / math.sqrt(FAN_IN),
    init.xavier_uniform(2.0): 2 * math.sqrt(6 / (FAN_IN + FAN_OUT)),
    init.kaiming_uniform(nonlinearity="relu"): math.sqrt(6 / FAN_IN),
    init.kaiming_uniform(a=math.sqrt(5)): 1 / math.sqrt(FAN_IN),
    init.kaiming_uniform(mode="fan_out", nonlinearity="tanh"): 5 / 3 * math.sqrt(3 / FAN_OUT),
}
STDS = {
    init.normal(0.0, 0.3): 0.3,
    init.xavier_normal(2.0): 2 * math.sqrt(2 / (FAN_IN + FAN_OUT)),
    init.kaiming_normal(nonlinearity="relu"): math.sqrt(2 / FAN_IN),
    init.kaiming_normal(mode="fan_out", nonlinearity="selu"): 0.75 / math.sqrt(FAN_OUT),
}


def drawn(rule, dtype=DTYPES[2], shape=SHAPE, seed=0):
    return rule(np.random.default_rng(seed), shape, FAN_IN, FAN_OUT, dtype)


def distance(values, cdf):
    """Kolmogorov and Smirnov's distance between a sample and a distribution."""
    x = np.sort(values, axis=None)
    steps = np.arange(len(x) + 1) / len(x)
    return max(np.max(steps[1:] - cdf(x)), np.max(cdf(x) - steps[:-1]))


EPSILON = math.sqrt(
    math.log(2 / 1e-9) / (2 * N)
)  # Dvoretzky, Kiefer, Wolfowitz (Massart's constant): fails once in 1e9
phi = np.vectorize(lambda z: 0.5 * math.erfc(-z / math.sqrt(2)))


def limits(bound):
    return bound if isinstance(bound, tuple) else (-bound, bound)


@pytest.mark.parametrize("rule", BOUNDS, ids=repr)
def test_uniform_rules(rule):
    low, high = limits(BOUNDS[rule])
    assert distance(drawn(rule), lambda x: (x - low) / (high - low)) < EPSILON


@pytest.mark.parametrize("rule", STDS, ids=repr)
def test_normal_rules(rule):
    assert distance(drawn(rule), lambda x: phi(x / STDS[rule])) < EPSILON


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rule", BOUNDS, ids=repr)
def test_bounds_hold_after_rounding(rule, dtype):
    low, high = limits(BOUNDS[rule])
    values = drawn(rule, dtype)
    assert values.dtype == dtype
    assert low * (1 + 1e-15) <= float(values.min()) <= float(values.max()) <= high * (1 + 1e-15)


def test_rounding_up_to_a_bound_would_be_seen():
    high = float(np.float16(0.1)) - 1e-9  # float16 rounds it up
    values = drawn(init.uniform(-high, high), DTYPES[0])
    assert float(values.max()) <= high < float(np.float16(high))


@pytest.mark.parametrize(
    "mutant",
    [
        init.xavier_uniform(2.0 * math.sqrt(2)),
        lambda rng, shape, fan_in, fan_out, dtype: init.default()(rng, shape, fan_out, fan_in, dtype),
        lambda rng, shape, fan_in, fan_out, dtype: init.default()(rng, shape, fan_in + 20, fan_out, dtype),
        lambda rng, shape, fan_in, fan_out, dtype: abs(init.default()(rng, shape, fan_in, fan_out, dtype)),
        init.normal(0, 1 / math.sqrt(3 * FAN_IN)),
        init.normal(0, 1 / (3 * FAN_IN)),
    ],
)
def test_mutants_are_caught(mutant):
    bound = 1 / math.sqrt(FAN_IN)
    assert distance(drawn(mutant), lambda x: np.clip((x + bound) / (2 * bound), 0, 1)) > EPSILON


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (20, 5, 7)])
def test_orthogonal(shape):
    q = init.orthogonal(gain=2.0)(np.random.default_rng(0), shape, 1, 1, DTYPES[2]).reshape(shape[0], -1) / 2
    few = q @ q.T if q.shape[0] < q.shape[1] else q.T @ q
    np.testing.assert_allclose(few, np.eye(len(few)), atol=64 * np.finfo(float).eps)


def test_orthogonal_has_both_signs():
    """Without the correction by R's diagonal, Q[0, 0] is negative always."""
    corners = [init.orthogonal()(np.random.default_rng(i), (4, 3), 1, 1, DTYPES[2])[0, 0] for i in range(40)]
    assert 5 < sum(corner < 0 for corner in corners) < 35
    bare = [np.linalg.qr(np.random.default_rng(i).standard_normal((4, 3)))[0][0, 0] for i in range(40)]
    assert sum(corner < 0 for corner in bare) == 40


def test_the_law_of_a_truncated_normal():
    """Against SciPy's, and the constant that variance_scaling divides by."""
    for mean, std, low, high in ((0, 1, -2, 2), (1, 2, 0, 1.5), (-1, 0.5, -1, math.inf)):
        law = init.truncated_normal(mean, std, low, high).law((), 1, 1)
        known = scipy.stats.truncnorm((low - mean) / std, (high - mean) / std, mean, std)
        np.testing.assert_allclose([law.mean, law.variance], [known.mean(), known.var()], rtol=1e-9)
        x = np.linspace(-3, 3, 50)
        np.testing.assert_allclose(law.cdf(x), known.cdf(x), atol=1e-12)
    law = init.variance_scaling(2.0, "fan_avg").law((), 30, 10)
    np.testing.assert_allclose(law.variance, 2 / 20, rtol=1e-12)


def test_the_family_contains_the_others():
    scaling = init.variance_scaling
    pairs = {
        scaling(1, "fan_avg", "uniform"): init.xavier_uniform(),
        scaling(2, "fan_in", "normal"): init.kaiming_normal(),
        scaling(1, "fan_in", "uniform"): init.lecun_uniform(),
        scaling(1, "fan_in", "normal"): init.lecun_normal(),
        scaling(1 / 3, "fan_in", "uniform"): init.default(),
    }
    for one, other in pairs.items():
        a, b = (rule.law((3, 7), 7, 3) for rule in (one, other))
        np.testing.assert_allclose([a.variance, *a.support], [b.variance, *b.support], rtol=1e-14)


@pytest.mark.parametrize("name", init.NAMES)
def test_it_breaks_symmetry_or_says_that_it_does_not(name):
    rule = init.get(name)
    rows = np.unique(drawn(rule, shape=(20, 4)), axis=0)
    assert rule.breaks_symmetry == (len(rows) > 1)
    assert name in init.explain(name)
    assert ("breaks symmetry" in init.explain(name)) == rule.breaks_symmetry
    assert not init.normal(1.0, 0.0).breaks_symmetry
    assert not init.get(np.full((3, 2), [1.0, 2.0])).breaks_symmetry
    assert init.get(np.eye(3)).breaks_symmetry


def test_sparse_and_eye():
    w = drawn(init.sparse(0.3, std=1.0), shape=(7, 50))
    assert (np.count_nonzero(w == 0, axis=0) == 3).all()
    assert len(np.unique(w == 0, axis=1).T) > 10, "the same rows are zero in every column"
    assert drawn(init.eye(2.0), shape=(2, 3)).tolist() == [[2, 0, 0], [0, 2, 0]]


def test_fans():
    assert init.fans((3, 7)) == (7, 3)
    assert init.fans((3, 7, 2, 5)) == (70, 30)
    with pytest.raises(ValueError, match="two axes or more"):
        init.fans((3,))


IN_PLACE = [name for name in init.__all__ if name.endswith("_")]


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name):
    """The bytes that a layer would draw; the tensor is the same one, and its write is counted."""
    kind = getattr(init, {"trunc_normal_": "truncated_normal"}.get(name, name[:-1]))
    options = (2.0,) if kind is init.constant else ()
    weight = nn.Linear(4, 3).weight
    before, writes = weight.data, weight.cell[0]
    assert getattr(init, name)(weight, *options, rng=np.random.default_rng(5)) is weight
    expected = kind(*options)(np.random.default_rng(5), (3, 4), 4, 3, DTYPES[1])
    assert weight.data is before
    assert weight.data.tobytes() == expected.tobytes()
    assert weight.cell[0] == writes + 1
    if kind(*options).scaled:
        with pytest.raises(ValueError, match="two axes or more"):
            getattr(init, name)(nn.Linear(4, 3).bias)


def test_derived_gains():
    known = {"relu": 2**0.5, "selu": 1.0, "linear": 1.0, "tanh": 1.5925374197228312}
    for name, value in known.items():
        np.testing.assert_allclose(init.derived_gain(name), value, rtol=1e-12)
    np.testing.assert_allclose(init.derived_gain(lambda x: mg.leaky_relu(x, 0.5)), init.gain("leaky_relu", 0.5))
    np.testing.assert_allclose(init.derived_gain("relu", "backward"), 2**0.5, rtol=1e-12)
    z, w = init.nodes()
    np.testing.assert_allclose([w.sum(), w @ z**2, w @ z**4], [1, 1, 3], rtol=1e-13)


def test_lsuv():
    x = np.random.default_rng(0).standard_normal((300, 12)).astype("float32")
    widths = (12, 40, 30, 5)
    parts = [part for i, o in itertools.pairwise(widths) for part in (nn.Linear(i, o), nn.ReLU())]
    net = nn.Sequential(*parts)
    reached = init.lsuv(net, x, rng=np.random.default_rng(1))
    assert len(reached) == 3
    out = x
    for i, layer in enumerate(net):
        out = layer(mg.tensor(out)).data
        if isinstance(layer, nn.Linear):
            assert reached[i // 2] == pytest.approx(float(out.std(dtype=np.float64)))
            assert abs(out.std() - 1) < 0.1
            assert not layer.bias.data.any()
    with pytest.raises(ValueError, match="does not vary"):
        init.lsuv(net, np.zeros((3, 12), "float32"))
    with pytest.raises(ValueError, match="no weight matrices"):
        init.lsuv(nn.Sequential(nn.ReLU()), x)


def test_a_named_child_leaves_the_others_alone():
    def bytes_of(**more):
        net = nn.Sequential(first=nn.Linear(3, 4), **more, last=nn.Linear(4, 2)).initialize(seed=3)
        return {name: p.data.tobytes() for name, p in net.named_parameters()}

    small, large = bytes_of(), bytes_of(between=nn.Linear(4, 4))
    assert {name: large[name] for name in small} == small
    assert len(set(large.values())) == len(large), "two layers have the same numbers"


@pytest.mark.parametrize("name", init.NAMES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_name(name, dtype):
    rule = init.get(name)
    for shape in [(3, 4), (0, 4), (4, 0)]:
        values = init.draw(rule, np.random.default_rng(0), shape, shape[1], shape[0], dtype)
        assert values.shape == shape
        assert values.dtype == dtype
    again = [init.draw(rule, np.random.default_rng(0), (3, 4), 4, 3, dtype).tobytes() for _ in range(2)]
    assert again[0] == again[1]
    assert repr(rule).startswith(name + "(")


def test_gains():
    table = {"linear": 1, "sigmoid": 1, "tanh": 5 / 3, "relu": 2**0.5, "selu": 0.75}
    assert {name: init.gain(name) for name in table} == table
    assert init.gain("leaky_relu", 2.0) == math.sqrt(2 / 5)
    assert init.gain("leaky_relu") == math.sqrt(2 / (1 + 0.01**2))


def test_what_get_takes():
    given = np.ones((2, 3))
    rule = init.get(given)
    given[:] = 7
    assert drawn(rule, shape=(2, 3)).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert init.get(0) == init.constant(0.0)
    assert init.get("xavier_normal") == init.xavier_normal()
    custom = init.uniform(0, 1).__call__
    assert init.get(custom) is custom


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: init.get("xavier_unifrom"), ValueError, "did you mean 'xavier_uniform'"),
        (lambda: init.get("qqq"), ValueError, "use one of default, zeros"),
        (lambda: init.get(init.zeros), TypeError, "the class zeros: call it"),
        (lambda: init.get(None), TypeError, "not NoneType"),
        (lambda: init.get(True), TypeError, "not bool"),
        (lambda: init.get(np.array(["a"])), TypeError, "an array of numbers"),
        (lambda: init.gain("rleu"), ValueError, "did you mean 'relu'"),
        (lambda: init.uniform(1, 0), ValueError, "low must not exceed high"),
        (lambda: init.truncated_normal(low=8.0, high=9.0), ValueError, "need 1e-3 or more"),
        (lambda: init.truncated_normal(low=2.0, high=1.0), ValueError, "low < high"),
        (lambda: init.variance_scaling(1, "fan"), ValueError, "mode must be one of fan_in"),
        (lambda: init.variance_scaling(1, "fan_in", "n"), ValueError, "distribution must be one of"),
        (lambda: init.variance_scaling(-1), ValueError, "scale must not be negative"),
        (lambda: init.sparse(1.5), ValueError, r"sparsity in \[0, 1\]"),
        (lambda: init.derived_gain("tahn"), ValueError, "did you mean 'tanh'"),
        (lambda: init.derived_gain("tanh", "up"), ValueError, "direction must be"),
        (lambda: init.derived_gain(lambda x: x.sum()), ValueError, "keeps its argument's shape"),
        (lambda: init.derived_gain(lambda x: x * 0), ValueError, "second moment"),
        (lambda: init.derived_gain(nn.Tanh), TypeError, "an activation is a name or a function"),
        (lambda: init.explain("xavier"), ValueError, "did you mean 'xavier_"),
        (lambda: nn.Linear(3, 2, bias_init="eye"), ValueError, "bias: eye needs two axes"),
        (lambda: init.normal(std=-1), ValueError, "std must not be negative"),
        (lambda: init.kaiming_normal(mode="fan"), ValueError, "fan_in"),
        (lambda: init.kaiming_normal(nonlinearity="rleu"), ValueError, "did you mean 'relu'"),
        (lambda: nn.Linear(3, 2, weight_init=np.zeros((3, 2))), ValueError, r"weight: .*\(3, 2\).*\(2, 3\)"),
        (lambda: nn.Linear(3, 2, bias_init="orthogonal"), ValueError, "bias: orthogonal needs"),
        (lambda: nn.Linear(3, 2, weight_init=math.nan), ValueError, "weight: .* not finite"),
        (lambda: nn.Linear(3, 2, weight_init=1e5, dtype="float16"), ValueError, "not finite in float16"),
        (lambda: nn.Linear(3, 2, weight_init=lambda *a: np.zeros((3, 2))), ValueError, r"weight: .* returned shape"),
        (lambda: nn.Linear(3, 2, weight_init=lambda *a: np.zeros((2, 3))), TypeError, "float64, need float32"),
        (lambda: nn.Linear(3, 2, bias_init=lambda *a: 0.0), TypeError, "bias: .* returned float, need an array"),
        (lambda: drawn(init.uniform(0.1, 0.1), DTYPES[1]), ValueError, "float32 has no number between"),
    ],
)
def test_bad_input(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_shared_array_is_copied():
    shared = np.zeros((2, 2), np.float32)
    one, two = (nn.Linear(2, 2, weight_init=lambda *a: shared) for _ in range(2))
    assert not np.shares_memory(one.weight.data, two.weight.data)
    assert not np.shares_memory(one.weight.data, shared)


def test_an_in_place_form_fills_tensors_only():
    with pytest.raises(
        TypeError, match=r"xavier_uniform_: need a Tensor to fill, got ndarray; an array: mg.from_numpy"
    ):
        init.xavier_uniform_(np.zeros((2, 3)))


@pytest.mark.parametrize("name", sorted({*init.NAMES} - {"orthogonal", "eye", "sparse"}))
def test_a_number_without_axes_is_drawn_too(name):
    p = nn.Parameter(name, (), fan_in=3, fan_out=2, dtype="float16")
    assert (p.shape, p.dtype, np.isfinite(p.data)) == ((), np.float16, True)


def test_the_sign_of_a_gain_does_not_matter():
    for kind in (init.xavier_normal, init.xavier_uniform):
        assert drawn(kind(-0.5)).tobytes() == drawn(kind(0.5)).tobytes()
        law = kind(-0.5).law(SHAPE, FAN_IN, FAN_OUT)
        assert law.cdf(np.array([-0.01])) < 0.5 < law.cdf(np.array([0.01]))
