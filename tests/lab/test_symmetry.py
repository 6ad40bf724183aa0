import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad import init, lab, nn, optim
from minigrad.kernels import jit


def network(incoming, outgoing, bias=0.0, activation=nn.Tanh, hidden=6):
    return nn.Sequential(
        nn.Linear(4, hidden, weight_init=incoming, bias_init=bias),
        activation(),
        nn.Linear(hidden, 2, weight_init=outgoing),
    ).initialize(0)


ROWS = np.arange(24.0).reshape(6, 4)
PAIR = ROWS.copy()
PAIR[4] = PAIR[1]


def reasons(found, name="0"):
    return {one.units: one.reason for one in found.classes[name] if one.reason}


def test_a_constant_layer_is_one_unit():
    found = lab.distinct_units(network(0.05, 0.1))
    assert found == {"0": 1}
    assert repr(found) == "{'0': 1}"
    (reason,) = reasons(found).values()
    assert reason.startswith("constant(value=0.05) makes them equal")
    assert reason.endswith("so they stay one")
    assert reasons(lab.distinct_units(network(0.05, "default"))) == {
        (0, 1, 2, 3, 4, 5): "constant(value=0.05) makes them equal; outgoing weights differ, so a step parts them"
    }


def test_two_twins_among_six():
    found = lab.distinct_units(network(PAIR, 0.1))
    assert found == {"0": 5}
    assert [one.units for one in found.classes["0"]] == [(0,), (1, 4), (2,), (3,), (5,)]
    assert (
        reasons(found)[1, 4]
        == "identical incoming weights and bias; outgoing weights are identical, too, so they stay one"
    )
    assert str(found).splitlines()[0] == "0: 5 distinct of 6 units"
    outgoing = np.ones((2, 6))
    outgoing[1, 4] = np.nextafter(1, 2, dtype=np.float32)
    assert "a step parts them" in reasons(lab.distinct_units(network(PAIR, outgoing)))[1, 4]


def test_bits_decide():
    assert lab.distinct_units(network(ROWS, 0.1)) == {"0": 6}
    assert lab.distinct_units(network(0.0, 0.1, bias=np.arange(6.0))) == {"0": 6}, "biases differ"
    one_ulp = np.full((6, 4), 0.05, np.float32)
    one_ulp[3, 2] = np.nextafter(one_ulp[3, 2], np.float32(1))
    assert lab.distinct_units(network(one_ulp, 0.1)) == {"0": 2}
    zeros = np.zeros((6, 4))
    zeros[2] = -0.0
    net = network(zeros, 0.1)
    assert lab.distinct_units(net) == {"0": 1}, "−0 is 0"
    net[0].weight.data[:2, 1] = np.frombuffer(np.array([0x7FC00000, 0x7FC00001], np.uint32).tobytes(), np.float32)
    assert lab.distinct_units(net) == {"0": 2}, "a NaN is a NaN"
    no_bias = nn.Sequential(nn.Linear(4, 6, bias=False, weight_init=1.0), nn.Linear(6, 2))
    assert lab.distinct_units(no_bias) == {"0": 1}


def test_dead_units_are_one():
    x = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    bias = np.array([-1e3, 0.0, -1e3, 1e3, -1e3, 0.0])  # units 1 and 5 are dead on some inputs, not on all
    net = network(ROWS - 9, "default", bias, nn.ReLU)
    assert lab.distinct_units(net) == {"0": 6}
    found = lab.distinct_units(net, x)
    assert found == {"0": 4}
    assert reasons(found) == {(0, 2, 4): "dead: slope 0 on every input, so that they learn nothing"}
    assert "units 0, 2, 4 (3): dead" in str(found)
    whole = nn.Sequential(part=net, more=nn.Linear(2, 2))
    assert lab.distinct_units(whole, x)["part.0"] == 4
    assert lab.distinct_units(whole.part, x) == {"0": 4}


def test_every_hidden_layer_and_no_other():
    class Inside(nn.Module):
        def __init__(self):
            self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3, weight_init=0.5, bias_init=1.0)

        def forward(self, x):
            return self.second(mg.tanh(self.first(x)))

    net = nn.Sequential(body=Inside(), tanh=nn.Tanh(), head=nn.Linear(3, 2, weight_init=1.0)).initialize(0)
    assert lab.distinct_units(net) == {"body.first": 5, "body.second": 1}
    x = np.eye(4, dtype=np.float32)
    assert lab.distinct_units(net, x) == {"body.first": 5, "body.second": 1}
    assert lab.distinct_units(net.body, x) == {"first": 5}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: lab.distinct_units(3), TypeError, "need a module"),
        (lambda: lab.distinct_units(nn.Sequential(nn.Linear(4, 2))), ValueError, "hidden units lie between two layers"),
        (lambda: lab.distinct_units(network(1.0, 1.0), [[np.nan] * 4] * 2), ValueError, "distinct_units: 8 of x's 8"),
        (lambda: lab.distinct_units(network(1.0, 1.0), np.ones((2, 5))), ValueError, "all 2 inputs are equal"),
        (lambda: lab.distinct_units(network(1.0, 1.0), np.eye(5)), ValueError, "k is 5 in x"),
        (lambda: lab.symmetry_run(hidden=1), ValueError, "hidden must be at least 2, got 1"),
        (lambda: lab.symmetry_run(steps=0), ValueError, "steps must be at least 1"),
        (lambda: lab.symmetry_run(twins=[3, 0]), ValueError, "twins must be at least 1"),
    ],
)
def test_what_has_no_units(call, error, words):
    with pytest.raises(error, match=words):
        call()


STEPS = 200 if jit.AVAILABLE else 20


@pytest.fixture(scope="module")
def run():
    return lab.symmetry_run(hidden=12, steps=STEPS, twins=[1, 5], blas=jit.AVAILABLE)


def test_which_beginnings_stay_one(run):
    counts = {}
    for record in run.records:
        counts.setdefault(record.case, []).append((record.step, record.units))
    last = [0, *itertools.takewhile(lambda k: k < STEPS, (1, 2, 4, 8, 16, 32, 64, 128)), STEPS]
    expected = {
        "constant": [1, 1],
        "nearly constant": [12, 12],
        "random": [12, 12],
        "one perturbed unit": [2, 2],
        "dropout 0.5": [1, 12],
        "random weights out": [1, 12],
    }
    for case, (first, then) in expected.items():
        assert counts[case] == [(0, first), *((step, then) for step in last[1:])], case


def test_what_the_accuracy_says(run):
    at_the_end = {record.case: record for record in run.records if record.step == STEPS}
    assert at_the_end["constant"].spread == 0
    assert at_the_end["one perturbed unit"].spread > 1e-7
    if jit.AVAILABLE:
        assert at_the_end["constant"].accuracy < 0.4 < 0.8 < at_the_end["random"].accuracy


def test_twins_follow_one_unit(run):
    one, five = run.twins
    assert (one.units, five.units) == (1, 5)
    assert one.gap == 0
    assert five.moved > 0.1
    assert five.gap < 1e-12


def test_rates_that_are_not_scaled_lead_elsewhere(monkeypatch):
    """The control: with equal rates five twins and one unit part."""
    sgd = optim.SGD
    monkeypatch.setattr("minigrad.lab.symmetry.optim.SGD", lambda parameters, lr: sgd(parameters, 0.1))
    assert lab.symmetry_run(hidden=2, steps=1, twins=[5]).twins[0].gap > 0.01


def test_the_table(run):
    lines = str(run).splitlines()
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith("constant ") for line in lines) == 1
    assert ("through BLAS" in str(run)) == jit.AVAILABLE
    assert [row.own for row in run.drift] == [0] * len(run.drift)


def test_the_picture(run, requires):
    requires("matplotlib")
    figure = run.plot()
    assert [len(axes.lines) for axes in figure.axes] == [6, 6 + bool(run.drift), 6]


def test_any_optimizer_and_the_same_seed():
    def make(parameters):
        return optim.SGD(parameters, lr=0.1, momentum=0.9)

    one, two = (lab.symmetry_run(hidden=3, steps=3, optimizer=make, twins=[], seed=5) for _ in range(2))
    assert one == two
    assert one.optimizer.startswith("SGD(4 parameters, lr=0.1, momentum=0.9")
    assert one != lab.symmetry_run(hidden=3, steps=3, optimizer=make, twins=[], seed=6)
    assert "twins beside" not in str(one)


def test_an_array_that_is_equal_by_chance_has_no_initializer_to_blame():
    net = network(init.normal(), 0.1)
    mg.assign(net[0].weight, np.ones((6, 4)))
    assert next(iter(reasons(lab.distinct_units(net)).values())).startswith("identical incoming weights and bias")
