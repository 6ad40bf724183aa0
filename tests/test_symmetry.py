"""Hidden units that start alike stay alike, to the bit: any activation, loss, optimizer, width, batch, precision."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim
from minigrad.kernels import jit

ACTIVATIONS = [nn.Tanh, nn.Sigmoid, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Softplus]
LOSSES = {
    "mse": lambda y, rng: mg.mse_loss(y, rng.standard_normal(y.shape).astype(y.dtype)),
    "l1": lambda y, rng: mg.l1_loss(y, rng.standard_normal(y.shape).astype(y.dtype)),
    "huber": lambda y, rng: mg.huber_loss(y, rng.standard_normal(y.shape).astype(y.dtype)),
    "bce": lambda y, rng: mg.bce_with_logits(y, rng.random(y.shape).astype(y.dtype)),
    "cross entropy": lambda y, rng: mg.cross_entropy(y, rng.integers(0, y.shape[1], y.shape[0])),
    "weighted cross entropy": lambda y, rng: mg.cross_entropy(
        y, rng.integers(0, y.shape[1], y.shape[0]), rng.uniform(0.5, 2, y.shape[1]).astype(y.dtype), "sum"
    ),
}
OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.05),
    "sgd, decay": lambda p: optim.SGD(p, lr=0.05, weight_decay=0.01),
    "momentum": lambda p: optim.SGD(p, lr=0.02, momentum=0.9),
    "nesterov": lambda p: optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


@dataclass
class Twins:
    """A network whose hidden units fall into classes: those of a class have equal weights in, bias and weights out."""

    net: nn.Sequential
    classes: list[np.ndarray]  # of the inputs (each its own), of every hidden layer, of the outputs (each its own)

    def layers(self):
        linear = [layer for layer in self.net if isinstance(layer, nn.Linear)]
        return zip(linear, self.classes[:-1], self.classes[1:], strict=True)

    def alike(self, arrays=lambda layer: (layer.weight.data, layer.bias.data)):
        """Whether every unit still equals the first one of its class."""
        for layer, inner, outer in self.layers():
            weight, bias = arrays(layer)
            column, row = (np.unique(c, return_index=True)[1][c] for c in (inner, outer))
            if not (_same(weight, weight[row][:, column]) and _same(bias, bias[row])):
                return False
        return True


def _same(a, b):
    return bool(np.all((a == b) | (np.isnan(a) & np.isnan(b))))


def build(sizes, activation, dtype, classes=1, constant: float | None = 0.1, seed=0, dropout=0.0):
    """An MLP of constant weights; each hidden layer has up to that many classes of units. ``constant`` None: random."""
    rng, layers = np.random.default_rng(seed), []
    for i, (n, m) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(n, m, weight_init=constant, bias_init=constant, dtype=dtype))
        if i < len(sizes) - 2:
            layers += [activation(), nn.Dropout(dropout)] if dropout else [activation()]
    net = nn.Sequential(*layers)
    units = [np.sort(rng.integers(0, classes, n)) for n in sizes]
    units[0], units[-1] = np.arange(sizes[0]), np.arange(sizes[-1])
    units = [np.unique(c, return_inverse=True)[1] for c in units]
    return Twins(net, units)


def symmetrise(twins, arrays_of, rng, low=-1.0, high=1.0):
    """Fill arrays with random numbers that respect the classes."""
    for layer, inner, outer in twins.layers():
        weight, bias = arrays_of(layer)
        random = rng.uniform(low, high, (outer.max() + 1, inner.max() + 1)) / np.sqrt(len(inner))
        weight[...] = random[outer][:, inner]
        bias[...] = rng.uniform(low, high, outer.max() + 1)[outer]


def train(twins, loss, optimizer, x, steps, seed=0, each=None):
    """Losses before every step, on targets that stay the same."""
    losses = []
    for _ in range(steps):
        value = loss(twins.net(x), np.random.default_rng(seed))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
        if each is not None:
            each()
    return losses


def data(rng, batch, n, dtype):
    return mg.tensor(rng.standard_normal((batch, n)).astype(dtype))


SIZE = st.integers(1, 300)
BATCH = SIZE | st.integers(8, 300)  # of a single row, half are dead under relu
# Where there are 13 inputs or fewer nothing ever differs, whoever multiplies: most draws have more than 32.
INPUTS = SIZE | st.integers(33, 300)
CASES = {
    "inputs": INPUTS,
    "hidden": st.lists(SIZE, min_size=1, max_size=3),
    "outputs": st.integers(2, 40),
    "batch": BATCH,
    "dtype": st.sampled_from(["float32", "float64"]),
    "loss": st.sampled_from(sorted(LOSSES)),
    "seed": st.integers(0, 2**32 - 1),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_constant_networks_stay_symmetric(activation):
    moved = []
    # Below 0 a deep relu network is dead.
    sums = [0.0, 0.3, 1.0, 3.0, 1.0 if activation is nn.ReLU else -1.0]

    @given(total=st.sampled_from(sums), name=st.sampled_from(sorted(OPTIMIZERS)), **CASES)
    def stay(inputs, hidden, outputs, batch, dtype, loss, seed, total, name):
        rng, sizes = np.random.default_rng(seed), [inputs, *hidden, outputs]
        twins = build(sizes, activation, dtype, constant=total / max(sizes))
        first = twins.net[0].weight.data.copy()
        optimizer = OPTIMIZERS[name](twins.net.parameters())

        def check():
            assert twins.alike(), "units that were equal differ"
            assert twins.alike(lambda layer: (layer.weight.grad.data, layer.bias.grad.data)), "gradients differ"

        with np.errstate(all="ignore"):
            train(twins, LOSSES[loss], optimizer, data(rng, batch, inputs, dtype), 3, seed, check)
        after = twins.net[0].weight.data
        moved.append(total == 0 or (not np.array_equal(first, after) and np.isfinite(after).all()))

    stay()
    assert sum(moved) > len(moved) / 2, "most draws did not move, or not to finite numbers: nothing was tested"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_step_from_any_symmetric_state(name):
    @given(activation=st.sampled_from(ACTIVATIONS), classes=st.integers(1, 5), steps=st.integers(0, 99), **CASES)
    def step(inputs, hidden, outputs, batch, dtype, loss, seed, activation, classes, steps):
        rng = np.random.default_rng(seed)
        twins = build([inputs, *hidden, outputs], activation, dtype, classes, seed=seed)
        symmetrise(twins, lambda layer: (layer.weight.data, layer.bias.data), rng)
        optimizer = OPTIMIZERS[name](twins.net.parameters())
        state = dict(zip(map(id, optimizer.params), optimizer.state, strict=True))

        def slot(k):
            return lambda layer: [state[id(p)][k].data for p in (layer.weight, layer.bias)]

        slots = range(len(optimizer.slots))
        for k in slots:
            symmetrise(twins, slot(k), rng, low=0.0 if optimizer.slots[k] == "v" else -1.0)
        if hasattr(optimizer, "betas"):
            optimizer.h.data[6:8] = np.power(optimizer.betas, steps)
        before = [p.data.copy() for p in optimizer.params]
        assert twins.alike()
        train(twins, LOSSES[loss], optimizer, data(rng, batch, inputs, dtype), 1, seed)
        assert twins.alike(), "units that were equal differ after one step"
        assert all(twins.alike(slot(k)) for k in slots), "the optimizer's state differs"
        moved.append(any(not np.array_equal(a, p.data) for a, p in zip(before, optimizer.params, strict=True)))

    moved = []
    step()
    # A saturated cross entropy has a gradient of exactly 0.
    assert sum(moved) > 0.9 * len(moved), "too many draws did not move: little was tested"


# Live configurations: a smooth activation or a positive start, so that gradients flow.
GRID = [
    ("float32", nn.Tanh, "mse", "adam", [64, 37, 10]),
    ("float32", nn.Tanh, "cross entropy", "momentum", [64, 48, 37, 10]),
    ("float32", nn.Sigmoid, "cross entropy", "adamw", [150, 33, 10]),
    ("float32", nn.ReLU, "mse", "sgd", [77, 29, 3]),
    ("float32", nn.GELU, "huber", "nesterov", [53, 101, 5]),
    ("float32", nn.Softplus, "l1", "adam", [40, 19, 7]),
    ("float64", nn.Tanh, "mse", "adam", [64, 37, 10]),
    ("float64", nn.SELU, "bce", "sgd, decay", [91, 43, 6]),
    ("float64", nn.ELU, "weighted cross entropy", "adam", [35, 27, 23, 4]),
    ("float64", nn.SiLU, "mse", "momentum", [64, 50, 10]),
]


@pytest.mark.parametrize(("dtype", "activation", "loss", "name", "sizes"), GRID)
def test_hundreds_of_steps_on_live_networks(dtype, activation, loss, name, sizes):
    rng = np.random.default_rng(1)
    twins = build(sizes, activation, dtype, constant=0.05)
    before = [p.data.copy() for p in twins.net.parameters()]
    optimizer = OPTIMIZERS[name](twins.net.parameters())
    if name.startswith(("sgd", "momentum", "nesterov")):
        optimizer.lr = 0.005
    losses = train(twins, LOSSES[loss], optimizer, data(rng, 50, sizes[0], dtype), 300)
    assert twins.alike()
    assert np.all(np.isfinite(losses))
    assert min(losses[-10:]) < 0.99 * losses[0], "the loss did not fall"
    assert all(not np.array_equal(a, p.data) for a, p in zip(before, twins.net.parameters(), strict=True))


def test_zero_weights_stay_zero_and_only_the_output_bias_learns():
    rng = np.random.default_rng(0)
    twins = build([40, 17, 1], nn.Tanh, "float64", constant=0.0)
    x, y = data(rng, 64, 40, "float64"), rng.standard_normal((64, 1))
    losses = train(twins, lambda out, _: mg.mse_loss(out, y), optim.SGD(twins.net.parameters(), lr=0.3), x, 100)
    for layer, *_ in twins.layers():
        assert not layer.weight.data.any()
    assert not twins.net[0].bias.data.any()
    assert losses[-1] == pytest.approx(np.var(y), rel=1e-12)


def test_equal_weights_in_but_not_out_break_the_symmetry_at_once():
    rng = np.random.default_rng(0)
    twins = build([40, 17, 3], nn.Tanh, "float64")
    twins.net[-1].weight.data[...] = rng.standard_normal((3, 17))
    train(twins, LOSSES["mse"], optim.SGD(twins.net.parameters(), lr=0.1), data(rng, 20, 40, "float64"), 1)
    rows = twins.net[0].weight.data
    assert len(np.unique(rows, axis=0)) == 17
    outgoing = twins.net[-1].weight.grad.data
    assert _same(outgoing, outgoing[:, [0] * 17]), "the gradients of the outgoing weights are equal all the same"


def test_twins_act_as_one_unit():
    """H twins follow the path of one unit with outgoing weight H v and rates lr/H, lr/H in and H lr out."""
    rng, units, lr = np.random.default_rng(0), 8, 0.01
    many, one = build([5, units, 2], nn.Tanh, "float64"), build([5, 1, 2], nn.Tanh, "float64")
    one.net[-1].weight.data[...] *= units
    x, y = data(rng, 30, 5, "float64"), rng.standard_normal((30, 2))
    for _ in range(50):
        for twins in (many, one):
            twins.net.zero_grad()
            mg.mse_loss(twins.net(x), y).backward()
        for a, b, rate in zip(
            many.net.parameters(), one.net.parameters(), (lr / units, lr / units, lr * units, lr), strict=True
        ):
            mg.assign(a, a.data - lr * a.grad.data)
            mg.assign(b, b.data - rate * b.grad.data)
    np.testing.assert_allclose(many.net(x).data, one.net(x).data, rtol=1e-12)


# What must break it: a test that cannot fail tests nothing.


def _breaks(twins, steps=30, dtype="float32"):
    rng = np.random.default_rng(1)
    x = data(rng, 50, len(twins.classes[0]), dtype)
    train(twins, LOSSES["cross entropy"], optim.Adam(twins.net.parameters(), lr=0.01), x, steps)
    return not twins.alike()


def test_random_initialization_breaks_it():
    assert _breaks(build([64, 37, 10], nn.Tanh, "float32", constant=None), steps=0)


def test_one_perturbed_unit_breaks_it():
    twins = build([64, 37, 10], nn.Tanh, "float32")
    assert twins.alike()
    twins.net[0].weight.data[20, 5] = np.nextafter(np.float32(0.1), np.float32(1))
    assert _breaks(twins)


def test_dropout_breaks_it():
    twins = build([64, 37, 10], nn.Tanh, "float32", dropout=0.5)
    twins.net.initialize(0)
    assert twins.alike()
    assert _breaks(twins)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_edge_tile_that_rounds_otherwise_breaks_it(monkeypatch, dtype):
    whole = mg.linear.kernel

    def edged(x, w, b=None):
        """The last columns, which fill no vector, by a multiply and an add."""
        y, start = whole(x, w, b), len(w) - len(w) % 16
        with mg.formulas():
            y[..., start:] = mg.linear.fn(x, w[start:], None if b is None else b[start:])
        return y

    assert not _breaks(build([64, 37, 10], nn.Tanh, dtype), dtype=dtype)
    if not jit.AVAILABLE:
        pytest.skip("kernels are off: there is no fused multiply-add to differ from")
    monkeypatch.setattr(mg.linear, "kernel", edged)
    assert _breaks(build([64, 37, 10], nn.Tanh, dtype), dtype=dtype)


@given(st.integers(1, 300), st.integers(33, 300), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_products_of_equal_columns_have_equal_columns(n, k, m, seed):
    """In all the three products of a layer; by BLAS they differ at many shapes."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((n, k)).astype(np.float32), rng.standard_normal(k).astype(np.float32)
    for c in (mg.matmul(a, np.repeat(b[:, None], m, 1)), mg.linear(a, np.tile(b, (m, 1)), np.ones(m, np.float32))):
        assert _same(c, np.broadcast_to(c[:, :1], c.shape))
    c = mg.matmul(np.tile(b, (m, 1)), a.T)
    assert _same(c, np.broadcast_to(c[:1], c.shape))
