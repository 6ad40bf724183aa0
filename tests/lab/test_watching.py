import contextlib
import csv
import gc
import math
import warnings
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import data, lab, nn, optim
from minigrad.kernels import jit
from minigrad.lab import watching

digits = data.digits()
X, Y = digits.x_train[:64], digits.y_train[:64]


def small(activation=None, outgoing=None, **options):
    layers = nn.Linear(64, 12, **options), activation or nn.Tanh(), nn.Linear(12, 10, weight_init=outgoing)
    return nn.Sequential(*layers).initialize(seed=0)


def train(net, steps, watch=None, lr=0.1, make=optim.SGD, after=lambda step: None, x=X, scale=1.0):
    opt = make(net.parameters(), lr=lr)
    with watch or contextlib.nullcontext() as seen:
        for step in range(steps):
            loss = mg.cross_entropy(net(x), Y[: len(x)])
            opt.zero_grad()
            loss.backward(np.float32(scale))
            opt.step()
            after(step)
    return seen


def bits(net):
    return {name: array.tobytes() for name, array in net.state_dict().items()}


def troubles(net, steps=1, **options):
    return train(net, steps, lab.watch(net, report=lambda t: None), **options).troubles


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_the_figures(name):
    """All of one step, beside the same by hand in float64."""
    net = small({"tanh": nn.Tanh(), "relu": nn.ReLU()}[name]).astype("float64")
    net[0].bias.data = net[0].bias.data - np.where(np.arange(12) < 3, 90.0, 0.0)  # three units are dead
    net[0].weight.data = net[0].weight.data * 15  # so that some are saturated
    w, b, v, c = (p.data.copy() for p in net.parameters())
    x = X.astype("float64")
    z = x @ w.T + b
    h, slope = (np.tanh(z), 1 - np.tanh(z) ** 2) if name == "tanh" else (np.maximum(z, 0), (z > 0) * 1.0)
    y = h @ v.T + c
    p = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
    dy = (p - np.eye(10)[Y]) / len(x)
    dh = dy @ v
    dz = dh * slope
    seen = train(net, 1, lab.watch(net, report=lambda t: None))
    for record, out, down, weights, gradients in zip(
        seen.records,
        (z, h, y),
        (dz, dh, dy),
        ((w, b), (), (v, c)),
        ((dz.T @ x, dz.sum(axis=0)), (), (dy.T @ h, dy.sum(axis=0))),
        strict=True,
    ):
        signal = out.mean(), out.std(), out.var(axis=0, ddof=1).mean()
        assert record[3:6] == pytest.approx(signal, rel=1e-9)
        assert record.forward == pytest.approx(np.mean(out * out))
        assert record.backward == pytest.approx(np.mean(down * down))
        if weights:
            norms = [math.sqrt(sum(np.sum(a * a) for a in arrays)) for arrays in (gradients, weights)]
            assert record[9:11] == pytest.approx(norms)
            assert record.ratio == pytest.approx(0.1 * norms[0] / norms[1])
            assert math.isnan(record.saturated)
            assert math.isnan(record.dead)
        else:
            assert record.saturated == pytest.approx(np.mean(slope < 0.01))
            assert name == "relu" or np.mean(slope < 0.1) > record.saturated > 0.25, "the sample has no power"
            assert record.dead == 0.25
            assert np.isnan(record[9:]).all()
    assert [(r.layer, r.op) for r in seen.records] == [("0", "linear"), ("1", name), ("2", "linear")]


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1.0, 1e25])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e4])
def test_a_signal_of_any_size(size, offset):
    """float32 squares under- and overflow, and a large mean hides a small variance."""
    y = ((np.random.default_rng(0).standard_normal((50, 7)) + offset) * size).astype("float32")
    net = nn.Sequential(nn.Identity(), nn.LeakyReLU(1.0))
    net.w = nn.Parameter([0.0])
    with lab.watch(net, report=lambda t: None) as seen:
        net(mg.from_numpy(y, requires_grad=True)).sum().backward()
        mg.assign(net.w, 1.0)
    wide = y.astype(np.float64)
    expected = wide.mean(), wide.std(), wide.var(axis=0, ddof=1).mean()
    assert seen.records[0][3:6] == pytest.approx(expected, rel=1e-3 if offset == 1e4 else 1e-4, abs=1e-6 * size)


def test_a_unit_is_dead_if_all_its_slopes_are_0():
    """In float32 the slope of a sigmoid is 0 at 20, but not at 16; at 0 it is ¼."""
    x = np.array([[20, 20, 20, 0], [20, 16, 0, 0]], np.float32)
    net = nn.Sequential(nn.Sigmoid())
    net.w = nn.Parameter([0.0])
    with lab.watch(net, report=lambda t: None) as seen:
        net(mg.from_numpy(x, requires_grad=True)).sum().backward()
        mg.assign(net.w, 1.0)
    assert seen.records[0].dead == 0.25
    assert seen.records[0].saturated == 5 / 8


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_no_bit_changes(make, every):
    one, other = small(), small()
    train(one, 7, make=make)
    seen = train(other, 7, lab.watch(other, every, report=lambda t: None), make=make)
    assert bits(one) == bits(other)
    assert seen.step == 7
    assert sorted({r.step for r in seen.records}) == list(range(0, 7, every))


@pytest.mark.parametrize("how", ["calls", "run"])
@pytest.mark.parametrize("every", [1, 2, 5])
def test_compiled_steps(how, every):
    """The same bits and the same records; between the steps that are looked at, Python is not entered."""
    one, other, entered = small(), small(), []
    plain, steps, size = optim.SGD(one.parameters(), lr=0.1, momentum=0.9), 16, 16

    def eager(x, y):
        loss = mg.cross_entropy(one(x), y)
        plain.zero_grad()
        loss.backward()
        plain.step()

    opt = optim.SGD(other.parameters(), lr=0.1, momentum=0.9)

    @mg.compile
    def step(x, y):
        entered.append(True)
        loss = mg.cross_entropy(other(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    @mg.compile
    def evaluate(x):  # it writes nothing, and is no step
        return other(x)

    batches = [b for e in range(4) for b in data.batches(X, Y, size, seed=0, epoch=e)]
    with lab.watch(one, every, report=lambda t: None) as expected:
        for batch in batches:
            eager(*batch)
    with lab.watch(other, every, report=lambda t: None) as seen:
        if how == "run":
            step.run(X, Y, batch_size=size, epochs=4, seed=0)
        else:
            for batch in batches:
                step(*batch)
                evaluate(batch[0])
    assert bits(one) == bits(other)
    assert seen.step == expected.step == steps
    np.testing.assert_array_equal([r[3:] for r in seen.records], [r[3:] for r in expected.records])
    assert [r[:3] for r in seen.records] == [r[:3] for r in expected.records]
    assert len(entered) == len(range(0, steps, every)) + (every > 1) if jit.AVAILABLE else steps


def test_steps_are_replayed_again_afterwards():
    net, entered = small(), []
    opt = optim.SGD(net.parameters(), lr=0.1)

    @mg.compile
    def step(x, y):
        entered.append(True)
        loss = mg.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()

    step(X, Y)
    with lab.watch(net) as seen:
        step(X, Y)
    step(X, Y)
    assert len(seen.records) == 3
    assert len(entered) == (2 if jit.AVAILABLE else 3)


def deep(activation, weight_init, bias_init=0.0, depth=30, width=64):
    layers = []
    for _ in range(depth):
        layers += [nn.Linear(64, width, weight_init=weight_init, bias_init=bias_init), activation()]
    return nn.Sequential(*layers, nn.Linear(width, 10)).initialize(seed=0)


def with_bias(net, value):
    net[0].bias.data = net[0].bias.data * 0 + np.float32(value)
    return net


BY_CLASS = np.repeat(np.linspace(-0.1, 0.1, 10)[:, None], 12, axis=1)
TWINS, ROWS = np.arange(12)[:, None] < 7, np.random.default_rng(0).standard_normal((12, 64)) / 8
HE, RANDOM = mg.init.kaiming_normal(nonlinearity="relu"), mg.init.normal
PLANTED = {
    "healthy": (lambda: deep(nn.ReLU, HE), {}, ""),
    "small weights": (
        lambda: deep(nn.Tanh, RANDOM(std=0.01)),
        {},
        "vanishing 12 second moment of what, vanishing 49 second moment of the gradient, vanishing 60 depends on",
    ),
    "large weights": (
        lambda: deep(nn.ReLU, RANDOM(std=1.0)),
        {"lr": 1e-30},
        "exploding 18 second moment of what, exploding 41 second moment of the gradient",
    ),
    "a large step": (small, {"lr": 1e4}, "exploding 0 the update"),
    "no information": (
        lambda: deep(nn.ReLU, None, None),
        {},
        "vanishing 34 depends on the input, vanishing 31 second moment of the gradient, dead 9 52%",
    ),
    "dead": (
        lambda: with_bias(small(nn.ReLU()), -100),
        {},
        "vanishing 1 second moment of what, vanishing 0 second moment of the gradient, dead 1 100%",
    ),
    "saturated": (lambda: with_bias(small(nn.Sigmoid()), 7), {}, "saturated 1 100%"),
    "mostly saturated": (lambda: small(weight_init=RANDOM(std=9.0)), {}, "saturated 1 9"),
    "straight": (lambda: with_bias(small(nn.LeakyReLU(1e-3)), -100), {}, ""),
    "twins": (
        lambda: small(weight_init=0.01, bias_init=0.0, outgoing=BY_CLASS),
        {},
        "twins 0 its 12 units act as 1: equal",
    ),
    "seven twins": (
        lambda: small(
            weight_init=np.where(TWINS, 0.01, ROWS), bias_init=np.where(np.arange(12) < 3, -0.0, 0.0), outgoing=BY_CLASS
        ),
        {},
        "twins 0 its 12 units act as 6: equal",
    ),
    "unequal outgoing weights": (lambda: small(weight_init=0.01, bias_init=0.0), {}, ""),
    "zeros": (
        lambda: small(weight_init=0.0, bias_init=0.0, outgoing=0.0),
        {},
        "vanishing 0 second moment of what, twins 0 its 12 units act as 1: equal",
    ),
    "an infinite input": (small, {"x": np.where(np.arange(64) == 5, np.float32(np.inf), X)}, "nan 0 puts out"),
    "an infinite gradient": (small, {"scale": math.inf}, "nan 2 gradient"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted(name):
    make, options, expected = PLANTED[name]
    with np.errstate(all="ignore"):
        found = troubles(make(), **options)
    print(*found, sep="\n")
    wanted = [part.split(" ", 2) for part in expected.split(", ") if part]
    for kind, *where in wanted:
        assert [t for t in found if t.kind == kind and (not where or (t.layer == where[0] and where[1] in t.text))]
    assert {t.kind for t in found} == {kind for kind, *_ in wanted}
    assert all(t.step == 0 for t in found)


def test_it_is_told_while_it_happens():
    """When the next step begins; once, and nothing of what follows from it."""
    net, told, at = small(), [], []

    def after(step):
        at.append(len(told))
        if step == 3:
            net[0].weight.data = net[0].weight.data * np.float32(np.inf)

    with np.errstate(all="ignore"):
        seen = train(net, 7, lab.watch(net, report=told.append), after=after)
    assert [str(t) for t in told] == [
        "step 3, layer 0: nan: the update is not finite, or leaves a parameter of another shape"
    ]
    assert seen.troubles == told
    assert at == [0, 0, 0, 0, 1, 1, 1]


def test_by_default_it_warns_at_the_line_that_goes_on():
    net = small(nn.Sigmoid())
    with_bias(net, 9)
    with pytest.warns(RuntimeWarning, match="step 0, layer 1: saturated: 100%") as caught:
        train(net, 2, lab.watch(net))
    assert [w.filename for w in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = lab.watch(net)
        with pytest.raises(RuntimeWarning, match="saturated"):
            train(net, 20, seen)
    assert seen.step == 1
    assert len(seen.records) == 3


def test_what_was_raised_is_not_hidden():
    net = with_bias(small(nn.Sigmoid()), 9)

    def after(step):
        raise KeyError("mine")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = lab.watch(net)
        with pytest.raises(KeyError, match="mine"):
            train(net, 5, seen, after=after)
    assert [t.kind for t in seen.troubles] == ["saturated"]
    assert mg.engine.state.current().observer is None


@pytest.mark.parametrize("outside", [True, False])
def test_anomalies_are_looked_for_as_well(outside):
    net = small()
    watch = lab.watch(net, 2, report=lambda t: None)
    opt = optim.SGD(net.parameters(), lr=0.1)

    @mg.compile
    def step(x):
        loss = mg.log(net(x).sum() * 0)
        opt.zero_grad()
        loss.backward()
        opt.step()

    with mg.detect_anomaly() if outside else watch, watch if outside else mg.detect_anomaly():
        assert not mg.engine.state.current().observer.looks_inside, "backward runs as ever"
        train(net, 3)
        with pytest.raises(mg.AnomalyError, match="log of 0"):
            step(X)
        with pytest.raises(mg.AnomalyError, match="log of 0"):
            mg.log(mg.tensor([0.0]))
    assert watch.step == 3
    assert {r.step for r in watch.records} == {0, 2}


def test_two_watches():
    net = small()
    with lab.watch(net, 2, report=lambda t: None) as one, lab.watch(net, 3, report=lambda t: None) as other:
        train(net, 7)
    assert {r.step for r in one.records} == {0, 2, 4, 6}
    assert {r.step for r in other.records} == {0, 3, 6}
    last = [[r for r in watch.records if r.step == 6] for watch in (one, other)]
    np.testing.assert_array_equal([r[3:] for r in last[0]], [r[3:] for r in last[1]])


def test_what_counts_as_a_step():
    """Validation and accumulated gradients do not; nor does a parameter that is drawn without a backward before."""
    net = small()
    opt = optim.SGD(net.parameters(), lr=0.1)
    with lab.watch(net, report=lambda t: None) as seen:
        net.initialize(seed=1)
        for _ in range(4):
            opt.zero_grad()
            for half in (slice(0, 32), slice(32, 64)):
                mg.cross_entropy(net(X[half]), Y[half]).backward()
            opt.step()
            with mg.no_grad():
                net(X)
            net(X)
    assert seen.step == 4
    assert [(r.step, r.layer) for r in seen.records] == [(i, layer) for i in range(4) for layer in "012"]


def test_another_network_in_the_same_loop():
    """Its layers have the same names; and an op outside a layer is the network's that runs."""

    class Block(nn.Module):
        def __init__(self, inputs, outputs):
            self.way = nn.Linear(inputs, 12)
            self.back = nn.Linear(12, outputs)

        def forward(self, x):
            return mg.relu(self.back(mg.tanh(mg.tanh(self.way(x)))))

    one, other = Block(64, 8), Block(8, 10)
    opts = [optim.SGD(net.parameters(), lr=0.1) for net in (one, other)]
    with lab.watch(one, report=lambda t: None) as seen:
        mg.cross_entropy(other(one(X)), Y).backward()
        for opt in opts:
            opt.step()
    names = [("way", "linear"), ("", "tanh"), ("", "tanh 2"), ("back", "linear"), ("", "relu")]
    assert [(r.layer, r.op) for r in seen.records] == names
    assert all(r.backward > 0 for r in seen.records)


def test_shared_parameters_and_written_memory():
    """A parameter that two ops take, and an update by assignments of the user's own."""
    layer = nn.Linear(64, 64)
    net = nn.Sequential(a=layer, b=nn.Tanh(), c=layer).initialize(seed=0)
    before = [p.data.copy() for p in net.parameters()]
    with lab.watch(net, report=lambda t: None) as seen:
        net(X).sum().backward()
        for p in net.parameters():
            mg.assign(p, p.data - 0.5 * p.grad.data)
    moved = math.sqrt(sum(np.sum((p.data - old) ** 2) for p, old in zip(net.parameters(), before, strict=True)))
    size = math.sqrt(sum(np.sum(old**2) for old in before))
    assert [r.op for r in seen.records] == ["linear", "tanh", "linear 2"]
    for record in seen.records[::2]:
        assert (record.weight, record.ratio) == pytest.approx((size, moved / size), rel=1e-5)


def test_a_backward_that_is_recorded():
    """What rules compute is no layer."""
    net = small()
    x = mg.tensor(X, requires_grad=True)
    with lab.watch(net, report=lambda t: None) as seen:
        mg.cross_entropy(net(x), Y).backward(create_graph=True)
        (x.grad * x.grad).sum().backward()
        for p in net.parameters():
            mg.assign(p, p.data * 0.5)
    assert [r.op for r in seen.records] == ["linear", "tanh", "linear"]


def test_no_tape_is_kept():
    net = small()
    with lab.watch(net, report=lambda t: None):
        loss = mg.cross_entropy(net(X), Y)
        loss.backward()
        node = weakref.ref(loss.node)
        gc.disable()
        del loss
        gone = node() is None
        gc.enable()
    assert gone


def test_the_table_and_the_file(tmp_path):
    net = nn.Sequential(a_rather_long_name=small(nn.ReLU()), last=nn.Linear(10, 10)).initialize(seed=0)
    seen = train(net, 5, lab.watch(net, 2, report=lambda t: None))
    text = str(seen)
    print(text)
    assert all(len(line) <= 100 for line in text.splitlines())
    assert text.startswith("step 4\n")
    assert text.splitlines()[2].startswith("…r_long_name.0 linear ")
    assert seen.table(2).splitlines()[1:2] == text.splitlines()[1:2]
    rows = list(csv.DictReader(seen.to_csv(tmp_path / "run.csv").splitlines()))
    assert (tmp_path / "run.csv").read_text(encoding="utf-8") == seen.to_csv()
    assert len(rows) == len(seen.records) == 12
    for row, record in zip(rows, seen.records, strict=True):
        assert list(row) == list(lab.Record._fields)
        np.testing.assert_array_equal([float(x) for x in list(row.values())[3:]], record[3:])
    with pytest.raises(FileNotFoundError):
        seen.to_csv(tmp_path / "nowhere" / "run.csv")
    with pytest.raises(ValueError, match="step 1 was not looked at; those that were: 0, 2, 4"):
        seen.table(1)


def test_the_picture(requires):
    requires("matplotlib")
    net = deep(nn.ReLU, HE, depth=5)
    train(net, 3, seen := lab.watch(net, report=lambda t: None))
    figure = seen.plot()
    assert [len(axes.lines) for axes in figure.axes] == [11, 11, 6, 5]
    assert len(figure.axes[0].get_legend().get_texts()) == 8
    figure.draw_without_rendering()
    with lab.watch(small()) as none:
        pass
    with pytest.raises(ValueError, match="no step"):
        none.plot()
    assert str(none) == "watch: no step is over yet"


def test_bad_arguments():
    with pytest.raises(TypeError, match="need a module, got list"):
        lab.watch([])
    for every, error in ((0, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="every"):
            lab.watch(small(), every)
    watch = lab.watch(small())
    with watch, pytest.raises(RuntimeError, match="watching already"), watch:
        pass
    with watch:  # and it goes on where it was
        pass


@pytest.mark.skipif(not jit.AVAILABLE, reason="kernels are off (NUMBA_DISABLE_JIT), and BLAS is with them")
def test_twins_are_told_though_blas_rounds_them_apart(monkeypatch):
    moments = watching.statistics.moments
    apart = lambda rows: moments(rows)._replace(sums=np.arange(rows.shape[1]))  # noqa: E731 (as an unlucky BLAS might)
    monkeypatch.setattr(watching.statistics, "moments", apart)
    net = nn.Sequential(nn.Linear(3, 2, weight_init=0.5, bias_init=0.0), nn.Tanh(), nn.Linear(2, 1, weight_init=0.5))
    opt = optim.SGD(net.parameters(), lr=0.1)
    with mg.blas(), lab.watch(net, report=lambda trouble: None) as seen:
        net(mg.tensor([[1.0, 2.0, 3.0]])).sum().backward()
        opt.step()
    assert "twins" in [trouble.kind for trouble in seen.troubles]
