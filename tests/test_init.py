import math

import numpy as np
import pytest

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
