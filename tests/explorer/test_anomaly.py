"""Faults planted at every line of random tapes are reported where they were planted; and what else is noticed."""

import copy
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.kernels import jit

UNARY = ["tanh", "sin", "cos", "sigmoid", "softplus", "softmax", "relu", "swapaxes"]
BINARY = ["add", "sub", "mul", "maximum", "matmul"]
LINES = 14


def program(seed):
    """The ops of a random tape, as a list of (name, operands), each operand a number of an earlier value."""
    rng = np.random.default_rng(seed)
    lines = []
    for i in range(LINES):
        names = BINARY if rng.random() < 0.5 else UNARY
        name = names[rng.integers(len(names))]
        operands = [int(rng.integers(max(0, i - 3), i + 2)) for _ in range(2 if names is BINARY else 1)]
        lines.append((name, operands))
    return lines


def planted(op, value, rng, argument=None):
    """The op with one wrong number in its result, or in what its rule for ``argument`` gives."""

    def spoil(run):
        def wrong(*args, **options):
            out = np.array(getattr(out := run(*args, **options), "_data", out))
            out.flat[rng.integers(out.size)] = value
            return out

        return run and wrong

    twin = copy.copy(op)
    twin._plans, twin.fused, twin.rules = {}, None, dict(op.rules)
    if argument is None:
        twin.fn, twin.kernel, twin.view = spoil(op.fn), spoil(op.kernel), False
    else:
        rule = op.rules[argument]
        twin.rules[argument] = replace(rule, fn=spoil(rule.fn), kernel=spoil(rule.kernel))
    return twin


def run(lines, file, ops):
    """Run a program, one line of source for each op, and backward."""
    source = []
    for i, (_name, operands) in enumerate(lines):
        args = ", ".join(f"v[{k}]" for k in operands)
        source.append(f"v.append(ops[{i}]({args}{', 0, 1' if lines[i][0] == 'swapaxes' else ''}))")
    rng = np.random.default_rng(0)
    v = [mg.tensor(rng.uniform(-1, 1, (4, 4)), requires_grad=True) for _ in range(2)]
    exec(compile("\n".join(source), file, "exec"), {"v": v, "ops": ops})
    loss = v[0].sum()
    for value in v[1:]:
        loss = loss + mg.tanh(value).sum()
    loss.backward()


def injections(seed):
    """Plant at every line of one tape, forward and in each rule; yields (planted, reported)."""
    lines = program(seed)
    ops = [mg.REGISTRY[name] for name, _ in lines]
    run(lines, "sound.py", ops)
    rng = np.random.default_rng(seed)
    for i, op in enumerate(ops):
        for argument in [None, *op.rules]:
            for value in (np.nan, np.inf, -np.inf):
                spoiled = [*ops[:i], planted(op, value, rng, argument), *ops[i + 1 :]]
                with pytest.raises(mg.AnomalyError) as caught, mg.detect_anomaly():
                    run(lines, "planted.py", spoiled)
                error = caught.value
                yield ("planted.py", i + 1, op.name, argument is not None), (*where(error), error.op, error.backward)


def where(error):
    file, _, line = error.where.rpartition(":")
    return file, int(line)


@pytest.mark.parametrize(
    "seed", [pytest.param(s, marks=() if s < 4 else pytest.mark.intense, id=f"tape {s}") for s in range(50)]
)
def test_the_line_reported_is_the_one_planted(seed):
    count = 0
    for expected, reported in injections(seed):
        assert reported == expected
        count += 1
    assert count >= LINES * 6


def test_a_sound_program_raises_nothing_and_keeps_its_bits():
    def train():
        net = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Dropout(0.3), nn.Linear(7, 3)).initialize(0)
        opt = optim.Adam(net.parameters(), lr=0.01)
        x = np.random.default_rng(0).normal(size=(9, 5)).astype("f4")
        for _ in range(3):
            loss = mg.cross_entropy(net(x), np.arange(9) % 3)
            opt.zero_grad()
            loss.backward()
            opt.step()
        return b"".join(value.tobytes() for value in net.state_dict().values())

    with mg.detect_anomaly():
        watched = train()
    assert watched == train()


def leaf(*values):
    return mg.tensor(np.array(values), requires_grad=True)


def trap(x):
    return mg.where(x > 0, mg.sqrt(x), 0.0 * x).sum().backward()


def explode(x):
    x.grad = mg.tensor(np.full(x.shape, 1e300))
    optim.SGD([x], lr=1e300).step()


CAUSES = {
    "log of 0": (lambda x: mg.log(x), (1.0, 0.0), False),
    "division by 0": (lambda x: 1.0 / x, (1.0, 0.0), False),
    "overflow in exp": (lambda x: mg.exp(x), (1.0, 1000.0), False),
    "sqrt of a negative": (lambda x: mg.sqrt(x), (1.0, -1.0), False),
    "it came in so": (lambda x: x + 1.0, (1.0, np.nan), False),
    "overflow of float64": (lambda x: x * x, (1.0, 1e200), False),
    "the update explodes": (explode, (1.0, 2.0), False),
    "sqrt at 0 is infinite": (lambda x: mg.sqrt(x).sum().backward(), (1.0, 0.0), True),
    "the where trap": (trap, (1.0, 0.0), True),
    "overflow when added": (lambda x: (x * 1e308 + x * 1e308).sum().backward(), (0.1, 0.2), True),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_a_cause_that_can_be_known_is_named(cause):
    f, values, backward = CAUSES[cause]
    with np.errstate(all="ignore"), pytest.raises(mg.AnomalyError, match=cause) as caught, mg.detect_anomaly():
        f(leaf(*values))
    assert caught.value.backward == backward
    assert "[" in str(caught.value)
    assert backward or "test_anomaly.py:" in caught.value.where


def test_a_fault_in_a_recorded_backward_is_found_too():
    with np.errstate(all="ignore"), pytest.raises(mg.AnomalyError, match="sqrt at 0"), mg.detect_anomaly():
        mg.sqrt(leaf(1.0, 0.0)).sum().backward(create_graph=True)


def test_an_op_without_rules_is_named_itself():
    with np.errstate(all="ignore"), pytest.raises(mg.AnomalyError) as caught, mg.detect_anomaly():
        mg.mean(leaf(1e308, 1e308)).backward(np.float64(np.inf))
    assert caught.value.op == "mean"


@pytest.mark.parametrize("write", [True, False])
def test_a_raw_write_to_what_was_saved_is_caught(write):
    x = leaf(1.0, 2.0)
    with mg.detect_anomaly():
        y = mg.tanh(x)
        if not write:
            y.sum().backward()
            return
        y.data[0] = 0.5
        with pytest.raises(RuntimeError, match=r"tanh .*written through NumPy"):
            y.sum().backward()


@pytest.mark.skipif(not jit.AVAILABLE, reason="nothing is compiled without kernels")
def test_compiled_steps_are_looked_at_too():
    w = leaf(1.0, 2.0)

    @mg.compile
    def step(x):
        return mg.log(w * x).sum()

    step(np.array([1.0, 2.0]))
    step(np.array([1.0, 2.0]))
    with np.errstate(all="ignore"), pytest.raises(mg.AnomalyError, match="log of 0"), mg.detect_anomaly():
        step(np.array([1.0, 0.0]))
    assert np.isinf(step(np.array([1.0, 0.0])).item())


class Parts(nn.Module):
    def __init__(self, kind):
        self.kind = kind
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)
        if kind == "dead":
            mg.assign(self.a.weight, 0.0)
            mg.assign(self.a.bias, -1.0)
        if kind == "zeros":
            mg.assign(self.b.weight, 0.0)

    def forward(self, x):
        h = self.a(x) if self.kind != "unused" else mg.tensor(np.ones((5, 4), "f4"))
        h = h.detach() if self.kind == "detached" else h
        return self.b(mg.relu(h) if self.kind == "dead" else h)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("unused", "a.weight .*unused"),
        ("detached", "a.weight .*detached"),
        ("dead", "a.weight .*dead: relu"),
        ("zeros", "a.weight .*all zero"),
        ("alive", None),
    ],
)
def test_a_parameter_that_learns_nothing_is_named_with_the_reason(kind, reason):
    net = Parts(kind)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with mg.detect_anomaly():
            (net(mg.tensor(np.ones((5, 3), "f4"))) ** 2.0 + 0.0).sum().backward()
    texts = [str(w.message) for w in caught]
    if reason is None:
        assert texts == []
    else:
        assert any(re.search(reason, text) for text in texts), texts
        assert not [text for text in texts if "b.bias" in text]
