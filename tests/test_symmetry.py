"""Hidden units that start alike stay alike, to the bit: any activation, loss, optimizer, width, batch, precision."""

import functools
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim
from minigrad.kernels import jit
from minigrad.testing import metamorphic, units
from minigrad.testing.strategies import INPUTS, LOSSES, Network, Run, networks, optimizers, runs, symmetric_states

ACTIVATIONS = [nn.Tanh, nn.Sigmoid, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Softplus]
OPTIMIZERS = {
    "sgd": functools.partial(optim.SGD, lr=0.05),
    "sgd, decay": functools.partial(optim.SGD, lr=0.05, weight_decay=0.01),
    "momentum": functools.partial(optim.SGD, lr=0.02, momentum=0.9),
    "nesterov": functools.partial(optim.SGD, lr=0.02, momentum=0.9, nesterov=True),
    "adam": functools.partial(optim.Adam, lr=0.01),
    "adamw": functools.partial(optim.AdamW, lr=0.01, weight_decay=0.1),
}
# By formula an example takes up to 2 s; a busy machine has taken 100 times as long as an idle one.
PATIENT = settings(deadline=timedelta(seconds=30))
BATCH = st.integers(1, 300) | st.integers(8, 300)  # of a single row, half are dead under relu


class Watched:
    """Makes an optimizer, and remembers it."""

    def __init__(self, make):
        self.make = make

    def __call__(self, parameters):
        self.optimizer = self.make(parameters)
        self.before = [p.data.copy() for p in parameters]
        return self.optimizer

    def after(self):
        return [p.data for p in self.optimizer.params]


def constant_networks(activation, widths, moved, inputs):
    """The property, on drawn runs: three steps from constants, any optimizer and loss; notes what moved, and widths."""
    # Below 0 a deep relu network is dead.
    sums = [0.0, 0.3, 1.0, 3.0, 1.0 if activation is nn.ReLU else -1.0]
    net = networks(activation=st.just(functools.partial(activation)), inputs=widths, outputs=st.integers(2, 40))

    @given(runs(net, batch=BATCH, steps=st.just(3), live=False), st.sampled_from(sums))
    def stay(run, total):
        sizes, made = run.network.sizes, Watched(run.optimizer)
        training, constant = run.build(), total / max(sizes)
        metamorphic.twins_after_training(
            training.net, training.x, loss=training.loss, optimizer=made, steps=3, constant=constant
        )
        inputs.append(sizes[0])
        first = made.after()[0]
        moved.append(total == 0 or (bool(np.any(first != first.dtype.type(constant))) and np.isfinite(first).all()))

    return stay


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_constant_networks_stay_symmetric(activation):
    moved, inputs = [], []
    for widths in (st.integers(33, 300), INPUTS):
        half = settings(PATIENT, max_examples=settings().max_examples // 2)
        half(constant_networks(activation, widths, moved, inputs))()
    assert sum(moved) > len(moved) / 2, "most draws did not move, or not to finite numbers: nothing was tested"
    assert sum(n > 32 for n in inputs) >= len(inputs) / 2, "most layers are too small to round by position"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_step_from_any_symmetric_state(name):
    run = runs(networks(outputs=st.integers(2, 40)), st.just(OPTIMIZERS[name]) | optimizers(), batch=BATCH, live=False)

    @PATIENT
    @given(symmetric_states(run))
    def step(state):
        training = state.build()
        before = [p.data.copy() for p in training.net.parameters()]
        state.assert_twins(training, "before any step")
        training.step()
        state.assert_twins(training, "after one step")
        moved.append(any(not np.array_equal(a, p.data) for a, p in zip(before, training.net.parameters(), strict=True)))

    moved = []
    step()
    # A saturated cross entropy has a gradient of exactly 0.
    assert sum(moved) > 0.8 * len(moved), "too many draws did not move: little was tested"


# Live configurations: a smooth activation or a positive start, so that gradients flow.
GRID = [
    ("float32", nn.Tanh, "mse_loss", "adam", (64, 37, 10)),
    ("float32", nn.Tanh, "cross_entropy", "momentum", (64, 48, 37, 10)),
    ("float32", nn.Sigmoid, "cross_entropy", "adamw", (150, 33, 10)),
    ("float32", nn.ReLU, "mse_loss", "sgd", (77, 29, 3)),
    ("float32", nn.GELU, "huber_loss", "nesterov", (53, 101, 5)),
    ("float32", nn.Softplus, "l1_loss", "adam", (40, 19, 7)),
    ("float64", nn.Tanh, "mse_loss", "adam", (64, 37, 10)),
    ("float64", nn.SELU, "bce_with_logits", "sgd, decay", (91, 43, 6)),
    ("float64", nn.ELU, "cross_entropy", "adam", (35, 27, 23, 4)),
    ("float64", nn.SiLU, "mse_loss", "momentum", (64, 50, 10)),
]


def listed(dtype, activation, loss, optimizer, sizes, steps, dropout=0.0):
    acts = (functools.partial(activation),) * (len(sizes) - 2)
    return Run(Network(sizes, acts, 0.05, 0.05, True, dtype, dropout, seed=0), optimizer, loss, 50, steps, seed=1)


@pytest.mark.parametrize(("dtype", "activation", "loss", "name", "sizes"), GRID)
def test_hundreds_of_steps_on_live_networks(dtype, activation, loss, name, sizes):
    make = OPTIMIZERS[name]
    make = functools.partial(make, lr=0.005) if make.func is optim.SGD else make
    training, made, losses = listed(dtype, activation, loss, make, sizes, 300).build(), Watched(make), []

    def watched(y):
        losses.append(value := training.loss(y))
        return value

    metamorphic.twins_after_training(training.net, training.x, loss=watched, optimizer=made, steps=300)
    assert len(losses) == 300
    losses = [value.item() for value in losses]
    assert np.all(np.isfinite(losses))
    assert min(losses[-10:]) < 0.99 * losses[0], "the loss did not fall"
    assert all(not np.array_equal(a, b) for a, b in zip(made.before, made.after(), strict=True))


def test_weighted_classes_keep_it():
    weights = np.random.default_rng(0).uniform(0.5, 2, 4)
    net = nn.Sequential(nn.Linear(35, 27, dtype="float64"), nn.ELU(), nn.Linear(27, 4, dtype="float64"))
    target = np.random.default_rng(1).integers(0, 4, metamorphic.BATCH)
    metamorphic.twins_after_training(net, loss=lambda y: mg.cross_entropy(y, target, weights, "sum"))


def test_equal_weights_in_but_not_out_break_the_symmetry_at_once():
    training = listed("float64", nn.Tanh, "mse_loss", OPTIMIZERS["sgd"], (40, 17, 3), 1).build()
    training.net[-1].weight.data[...] = np.random.default_rng(0).standard_normal((3, 17))
    training.step()
    rows = training.net[0].weight.data
    assert len(np.unique(rows, axis=0)) == 17
    outgoing = training.net[-1].weight.grad.data
    same = units.same_numbers(outgoing, outgoing[:, [0] * 17])
    assert same, "the gradients of the outgoing weights are equal all the same"


# What must break it: a test that cannot fail tests nothing.

ADAM = functools.partial(optim.Adam, lr=0.01)


def breaks(dtype="float32", steps=30, dropout=0.0, change=lambda net: None):
    """Whether a constant network, once changed, has units that differ after some steps."""
    training = listed(dtype, nn.Tanh, "cross_entropy", ADAM, (64, 37, 10), steps, dropout).build()
    layers = units.hidden_layers(training.net, training.x)
    change(training.net)
    for _ in range(steps):
        training.step()
    try:
        units.assert_twins(training.net, training.optimizer, layers, [np.zeros(37, int)], "at the end")
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_constant_network_is_not_broken(dtype):
    assert not breaks(dtype)


def test_random_initialization_breaks_it():
    def random(net):
        for layer in (net[0], net[2]):
            layer.weight.data[...] = np.random.default_rng(0).standard_normal(layer.weight.shape)

    assert breaks(steps=0, change=random)


def test_one_perturbed_unit_breaks_it():
    def perturb(net):
        net[0].weight.data[20, 5] = np.nextafter(np.float32(0.05), np.float32(1))

    assert breaks(change=perturb)


def test_dropout_breaks_it():
    assert not breaks(dropout=0.5, steps=0)
    assert breaks(dropout=0.5)


@pytest.fixture
def edged(monkeypatch):
    """linear computes its last columns, which fill no vector, by a multiply and an add."""
    if not jit.AVAILABLE:
        pytest.skip("kernels are off: there is no fused multiply-add to differ from")
    whole = mg.linear.kernel

    def kernel(x, w, b=None):
        y, start = whole(x, w, b), len(w) - len(w) % 16
        with mg.formulas():
            y[..., start:] = mg.linear.fn(x, w[start:], None if b is None else b[start:])
        return y

    monkeypatch.setattr(mg.linear, "kernel", kernel)


@pytest.mark.usefixtures("edged")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_edge_tile_that_rounds_otherwise_breaks_it(dtype):
    assert breaks(dtype)
    with pytest.raises(AssertionError, match="were twins, but differ after step"):
        metamorphic.twins_after_training(nn.Sequential(nn.Linear(64, 37), nn.Tanh(), nn.Linear(37, 10)))


@pytest.mark.usefixtures("edged")
def test_drawn_networks_see_the_edge_tile():
    """In as few draws as the profile dev makes."""
    few = settings(max_examples=20, derandomize=True, database=None, deadline=None, phases=[Phase.generate])
    with pytest.raises(AssertionError, match="were twins, but differ after step"):
        few(constant_networks(nn.Tanh, INPUTS, [], []))()


@given(st.integers(1, 300), st.integers(33, 300), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_products_of_equal_columns_have_equal_columns(n, k, m, seed):
    """In all the three products of a layer; by BLAS they differ at many shapes."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((n, k)).astype(np.float32), rng.standard_normal(k).astype(np.float32)
    for c in (mg.matmul(a, np.repeat(b[:, None], m, 1)), mg.linear(a, np.tile(b, (m, 1)), np.ones(m, np.float32))):
        assert units.same_numbers(c, np.repeat(c[:, :1], m, 1))
    c = mg.matmul(np.tile(b, (m, 1)), a.T)
    assert units.same_numbers(c, np.repeat(c[:1], m, 0))


def test_every_loss_and_optimizer_was_listed():
    assert {loss for _, _, loss, _, _ in GRID} == set(LOSSES)
    assert {name for _, _, _, name, _ in GRID} == set(OPTIMIZERS)
