"""The metamorphic pack: it holds on drawn networks, and each property falls when what it guards is broken."""

import contextlib
import functools
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim, testing
from minigrad.testing import metamorphic as pack
from minigrad.testing.strategies import activations, networks
from minigrad.testing.units import hidden_layers

# By formula an example takes up to 2 s; a busy machine has taken 100 times as long as an idle one.
PATIENT = timedelta(seconds=20)
QUICK = {"twins_after_training": {"steps": 3}, "classes_never_grow": {"steps": 3}, "zero_weights_stay_zero": {}}
KINDS = {
    "flipped_signs": [functools.partial(nn.Tanh)],
    "scaled_units": [functools.partial(nn.ReLU), functools.partial(nn.LeakyReLU, slope=0.25)],
    "balanced_units": [functools.partial(nn.ReLU), functools.partial(nn.LeakyReLU)],
}


@pytest.mark.parametrize("check", [*pack.STEPLESS, *pack.TRAINING], ids=lambda check: check.__name__)
def test_it_holds_for_any_network(check):
    kinds = KINDS.get(check.__name__)
    drawn = networks(activation=st.sampled_from(kinds) if kinds else activations())

    @settings(max_examples=max(4, settings().max_examples // 2), deadline=PATIENT)
    @given(drawn, st.integers(1, 60), st.integers(0, 2**16))
    def holds(network, batch, seed):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((batch, network.sizes[0])).astype(network.dtype)
        allowed = testing.NotApplicableError if check is pack.zero_weights_stay_zero else ()
        with contextlib.suppress(allowed):
            check(network.build(), x, seed=seed, **QUICK.get(check.__name__, {}))
            applied.append(network)

    applied = []
    holds()
    assert applied


class Own(nn.Module):
    """No Sequential: layers in a dict, ops for activations, a parameter beside them."""

    def __init__(self):
        self.parts = {"in": nn.Linear(40, 17), "mid": nn.Linear(17, 9, bias=False), "out": nn.Linear(9, 3)}
        self.scale = nn.Parameter([1.0, 2.0, 0.5])

    def forward(self, x):
        x = mg.relu(self.parts["in"](x))
        return self.scale * self.parts["out"](mg.tanh(-self.parts["mid"](x)))


def test_hidden_units_are_found_on_the_tape_of_any_class():
    found = hidden_layers(Own(), mg.tensor(np.ones((2, 40), "float32")))
    assert [(h.weight, h.bias, h.outgoing, h.ops) for h in found] == [
        ("parts.in.weight", "parts.in.bias", "parts.mid.weight", ("relu",)),
        ("parts.mid.weight", None, "parts.out.weight", ("neg", "tanh")),
    ]
    report = testing.check_network(Own())
    assert report, report
    assert [p.name for p in report.properties if p.verdict == "n/a"] == ["zero weights stay zero"]


def test_units_that_are_not_hidden_are_not_found():
    shared = nn.Linear(4, 4)
    x = mg.tensor(np.ones((3, 4), "float32"))

    class Skip(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            h = mg.tanh(self.a(x))
            return self.b(h) + mg.sum(h)

    for net in (nn.Sequential(shared, nn.Tanh(), shared), Skip(), nn.Linear(4, 2)):
        assert hidden_layers(net, x) == []
    with pytest.raises(testing.NotApplicableError, match="no hidden layer"):
        pack.permuted_units(Skip())
    softmax = nn.Sequential(nn.Linear(4, 4), nn.Softmax(), nn.Linear(4, 2))
    assert hidden_layers(softmax, x) == []


def test_a_network_is_never_written():
    net = nn.Sequential(nn.Linear(20, 7), nn.ReLU(), nn.Dropout(0.5), nn.Linear(7, 2))
    before = {name: value.copy() for name, value in net.state_dict().items()}
    report = testing.check_network(net, np.ones((5, 20), "float32"), examples=1)
    assert report
    assert {p.verdict for p in report.properties} == {"pass", "n/a"}
    for name, value in net.state_dict().items():
        assert np.array_equal(value, before[name]), name
    assert all(p.grad is None for p in net.parameters())


def test_without_a_linear_inputs_must_be_given():
    with pytest.raises(ValueError, match="no Linear to draw inputs for: give x"):
        testing.check_network(nn.Tanh())
    with pytest.raises(ValueError, match="depends on no parameter"):
        testing.check_network(nn.Tanh(), np.ones((2, 3)))


# Faults, each in a computation that a property guards


@contextlib.contextmanager
def forward(op, spoil):
    """The op's result spoilt, by kernel and by formula."""

    def wrong(run):
        return run and (lambda *args, **options: spoil(np.array(run(*args, **options)), *args))

    kept = op.fn, op.kernel
    op.fn, op.kernel = wrong(op.fn), wrong(op.kernel)
    try:
        yield
    finally:
        op.fn, op.kernel = kept


@contextlib.contextmanager
def rule(op, argument, fn):
    """Another rule, in place of kernel and formula."""
    kept, fused = op.rules[argument], op.fused
    op.rules[argument], op.fused = op._rule(argument, kept.formula, fn, None), None
    op._plans.clear()
    try:
        yield
    finally:
        op.rules[argument], op.fused = kept, fused
        op._plans.clear()


def array(v):
    return np.asarray(getattr(v, "data", v))


def last_unit_off(y, *_):
    y[..., -1] += 1
    return y


def last_row_off(y, x, *_):
    if len(y) > 4:
        y[4] = np.nextafter(y[4], 9)
    return y


class Uneven(optim.SGD):
    """A rate for each unit."""

    def step(self):
        for p in self.params:
            p.data[...] -= p.grad.data * np.linspace(0.01, 0.02, p.size, dtype=p.dtype).reshape(p.shape)


TANH = nn.Sequential(nn.Linear(40, 17), nn.Tanh(), nn.Linear(17, 3)).initialize(0)
RELU = nn.Sequential(nn.Linear(40, 17), nn.ReLU(), nn.Linear(17, 3)).initialize(0)
FAULTS = {
    "a unit by its place": (pack.permuted_units, RELU, lambda: forward(mg.linear, last_unit_off)),
    "a gradient by its place": (
        pack.permuted_units, TANH, lambda: rule(mg.linear, "w", lambda g, x: last_unit_off(array(g).T @ array(x))),
    ),
    "no odd function": (pack.flipped_signs, TANH, lambda: forward(mg.tanh, lambda y, x: np.maximum(y, -0.9))),
    "no even derivative": (
        pack.flipped_signs, TANH, lambda: rule(mg.tanh, "x", lambda g, y: (array(g) - g * y) * (1 - y)),
    ),
    "a last bit by the sign": (
        pack.flipped_signs, TANH, lambda: forward(mg.tanh, lambda y, x: np.where(x > 0, np.nextafter(y, 9), y)),
    ),
    "not homogeneous": (pack.scaled_units, RELU, lambda: forward(mg.relu, lambda y, x: y + 1e-6)),
    "a derivative that sees the size": (
        pack.scaled_units, RELU, lambda: rule(mg.relu, "x", lambda g, y: array(g) * (array(y) > 0.3)),
    ),
    "a row by its place": (pack.permuted_batch, TANH, lambda: forward(mg.linear, last_row_off)),
    "rows that see each other": (
        pack.permuted_batch, TANH, lambda: forward(mg.tanh, lambda y, x: y - y.mean(axis=0, keepdims=True)),
    ),
    "a row that is forgotten": (
        pack.permuted_batch, RELU, lambda: rule(mg.linear, "w", lambda g, x: array(g)[:-1].T @ array(x)[:-1]),
    ),
    "a rule that is not linear": (
        pack.scaled_loss, TANH, lambda: rule(mg.tanh, "x", lambda g, y: (g + 1e-3 * array(g) ** 2) * (1 - y * y)),
    ),
    "a softmax without its shift": (
        pack.shifted_logits, TANH,
        lambda: forward(mg.softmax, lambda p, x, *_: np.exp(x - 3) / np.exp(x - 3).sum(-1, keepdims=True)),
    ),
    "a relu rule off by a thousandth": (
        pack.balanced_units, RELU, lambda: rule(mg.relu, "x", lambda g, y: 0.999 * array(g) * (array(y) > 0)),
    ),
    "a bias rule that forgets a row": (
        pack.balanced_units, RELU, lambda: rule(mg.linear, "b", lambda g: array(g)[1:].sum(0)),
    ),
    "sums that are means": (pack.twins_as_one_unit, TANH, lambda: forward(mg.linear, lambda y, x, w, b: y / len(w.T))),
    "weights that learn from nothing": (
        pack.zero_weights_stay_zero, TANH, lambda: rule(mg.linear, "w", lambda g, x: array(g).T @ array(x) + 1e-3),
    ),
    "a bias that learns the wrong way": (
        pack.zero_weights_stay_zero, TANH, lambda: rule(mg.linear, "b", lambda g: -array(g).sum(0)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault):
    check, net, plant = FAULTS[fault]

    def thrice():
        for seed in range(3):
            check(net, seed=seed)

    thrice()
    with plant(), pytest.raises(AssertionError, match=r"\d"):
        thrice()


@pytest.mark.parametrize("check", [pack.twins_after_one_step, pack.twins_after_training, pack.classes_never_grow])
@pytest.mark.parametrize("fault", ["a rate for each unit", "a unit by its place", "dropout"])
def test_what_tells_twins_apart_is_found(check, fault):
    plant, options, net = contextlib.nullcontext(), {}, TANH
    if fault == "a rate for each unit":
        options = {"optimizer": lambda p: Uneven(p, lr=0.1)}
    elif fault == "a unit by its place":
        plant = forward(mg.linear, lambda y, *_: y * np.linspace(1, 1.001, y.shape[-1]).astype(y.dtype))
    else:
        net = nn.Sequential(nn.Linear(40, 17), nn.Tanh(), nn.Dropout(0.3), nn.Linear(17, 3)).initialize(0)
    with plant, pytest.raises(AssertionError, match=r"were twins, but differ|kinds became"):
        check(net, **options)


def test_a_failure_names_the_units_and_the_numbers():
    with pytest.raises(AssertionError, match=r"units 0 and 1 of 17 were twins, but differ after step 1: 0.weight has"):
        pack.twins_after_training(TANH, optimizer=lambda p: Uneven(p, lr=0.1))
    report = testing.check_network(TANH, optimizer=lambda p: Uneven(p, lr=0.1), examples=2)
    assert not report
    assert {p.name for p in report.properties if p.verdict == "fail"} == {
        "twins after one step",
        "twins after training",
        "classes never grow",
    }
