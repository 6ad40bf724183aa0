import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim

KINDS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, weight_decay=0.01),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.1, weight_decay=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.1),
}


def leaf(values, dtype="f8"):
    return mg.tensor(np.array(values, dtype), requires_grad=True)


def bytes_of(state):
    return {name: array.tobytes() for name, array in state.items()}


def by_hand(kind, p, gradients):
    """The formulas as their papers write them, in plain NumPy."""
    m = v = np.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        if kind in ("adam", "adamw"):
            if kind == "adamw":
                p = p - 0.1 * 0.01 * p
            else:
                g = g + 0.01 * p
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            p = p - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        else:
            g = g + 0.01 * p if kind != "nesterov" else g
            m = 0.9 * m + g
            p = p - 0.1 * {"sgd": g, "momentum": m, "nesterov": g + 0.9 * m}[kind]
    return p


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_formulas(kind, kernels):
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(3, 5)), rng.normal(size=(20, 3, 5))
    p = leaf(start)
    opt = KINDS[kind]([p])
    for g in gradients:
        p.grad = mg.tensor(g)
        if kernels:
            opt.step()
        else:
            with mg.formulas():
                opt.step()
    np.testing.assert_allclose(p.data, by_hand(kind, start, gradients), rtol=1e-12)
    other = {"sgd": "momentum", "momentum": "nesterov", "nesterov": "sgd", "adam": "adamw", "adamw": "adam"}[kind]
    assert abs(p.data - by_hand(other, start, gradients)).max() > 1e-4


def task(kind):
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3)).initialize(0)
    return net, KINDS[kind](net.parameters())


def train(net, opt, steps):
    rng = np.random.default_rng(1)
    batches = [(rng.normal(size=(6, 4)).astype("f4"), rng.integers(0, 3, 6)) for _ in range(8)]
    for i in steps:
        x, y = batches[i % 8]
        opt.zero_grad()
        mg.cross_entropy(net(mg.from_numpy(x)), y).backward()
        opt.step()


@pytest.mark.parametrize("kind", KINDS)
def test_going_on_is_not_having_stopped(kind):
    whole = task(kind)
    train(*whole, range(16))
    first, second = task(kind), task(kind)
    train(*first, range(9))
    second[0].load_state_dict(first[0].state_dict())
    second[1].load_state_dict(first[1].state_dict())
    train(*second, range(9, 16))
    assert bytes_of(second[0].state_dict()) == bytes_of(whole[0].state_dict())
    assert bytes_of(second[1].state_dict()) == bytes_of(whole[1].state_dict())
    if kind != "sgd":  # a planted fault: an optimizer that forgets its state is seen
        third = task(kind)
        third[0].load_state_dict(first[0].state_dict())
        train(*third, range(9, 16))
        assert bytes_of(third[0].state_dict()) != bytes_of(whole[0].state_dict())


@pytest.mark.parametrize("kind", ["momentum", "adam"])
def test_a_state_that_does_not_fit_writes_nothing(kind):
    net, opt = task(kind)
    train(net, opt, range(2))
    before = bytes_of(opt.state_dict())
    train(net, other := KINDS[kind](net.parameters()), range(3))
    last = list(before)[-1]
    good = other.state_dict()
    for change, error, words in [
        ({last: np.zeros(7, "f4")}, ValueError, "has shape"),
        ({last: np.zeros(3, int)}, TypeError, "int64"),
        ({"h": good["h"] * np.nan}, ValueError, "lr must be finite"),
        ({"h": -good["h"]}, ValueError, "lr must be finite and not negative"),
        ({"extra": np.zeros(1)}, KeyError, "'extra' is not known"),
    ]:
        with pytest.raises(error, match=words):
            opt.load_state_dict(good | change)
        assert bytes_of(opt.state_dict()) == before
    with pytest.raises(KeyError, match="missing"):
        opt.load_state_dict({"h": good["h"]})
    opt.load_state_dict(good)
    assert bytes_of(opt.state_dict()) == bytes_of(good)


def test_adam_and_adamw_do_not_mix():
    p = leaf([1.0])
    with pytest.raises(ValueError, match="the state belongs to AdamW"):
        optim.Adam([p]).load_state_dict(optim.AdamW([p]).state_dict())


def test_hyper_parameters_are_state():
    p = leaf([1.0])
    opt = optim.SGD([p], lr=0.1)
    p.grad = mg.tensor(np.ones(1))
    opt.lr = 0.5
    opt.step()
    assert p.tolist() == [0.5]
    assert opt.state_dict()["h"][0] == opt.lr == 0.5
    adam = optim.Adam([p])
    adam.betas = (0.5, 0.75)
    assert adam.betas == (adam.beta1, adam.beta2) == (0.5, 0.75)
    with pytest.raises(ValueError, match="lr must be finite and not negative, got -1"):
        opt.lr = -1
    with pytest.raises(ValueError, match="make another"):
        opt.momentum = 0.9
    assert (opt.lr, opt.momentum) == (0.5, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_all_writes_are_seen(kind):
    """An observer of the engine sees the write of every array that a step changes."""
    net, opt = task(kind)
    train(net, opt, range(1))
    before = {id(t): (t.data.tobytes(), t.cell[0]) for t in [*opt.params, *opt._tensors().values()]}
    opt.step()
    for t in [*opt.params, *opt._tensors().values()]:
        data, writes = before[id(t)]
        assert (t.data.tobytes() == data) or t.cell[0] > writes
    assert all(p.cell[0] > before[id(p)][1] for p in opt.params)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_without_a_gradient_rest(kind):
    p, q = leaf([1.0]), leaf([1.0])
    opt = KINDS[kind]([p, q])
    p.grad = mg.tensor(np.ones(1))
    opt.step()
    assert p.item() != 1.0
    assert q.item() == 1.0
    opt.zero_grad()
    assert p.grad is None


def test_zero_elements_and_layouts():
    empty, column = leaf(np.zeros((0, 3))), mg.from_numpy(np.asfortranarray(np.ones((3, 2))), requires_grad=True)
    opt = optim.Adam([empty, column], lr=0.5)
    empty.grad = mg.tensor(np.zeros((0, 3)))
    column.grad = mg.from_numpy(np.arange(1.0, 7.0).reshape(2, 3).T)
    opt.step()
    np.testing.assert_allclose(column.data, 0.5)


P = leaf([1.0])


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: optim.SGD([], 0.1), ValueError, "no parameters"),
        (lambda: optim.SGD([P, P], 0.1), ValueError, "listed twice"),
        (lambda: optim.SGD([np.ones(2)], 0.1), TypeError, "must be tensors, got ndarray"),
        (lambda: optim.SGD(P, 0.1), TypeError, "a list of parameters"),
        (lambda: optim.SGD(nn.Linear(1, 1), 0.1), TypeError, r"net\.parameters\(\)"),
        (lambda: optim.SGD([P * 2], 0.1), ValueError, "computed by mul"),
        (lambda: optim.SGD([mg.tensor([1], dtype="int64")], 0.1), TypeError, "float dtype"),
        (lambda: optim.SGD([P], -0.1), ValueError, "SGD: lr must be finite and not negative"),
        (lambda: optim.SGD([P], "fast"), TypeError, "lr must be a number"),
        (lambda: optim.SGD([P], float("nan")), ValueError, "lr must be finite"),
        (lambda: optim.SGD([P], 0.1, momentum=1.5), ValueError, r"momentum must lie in \[0, 1\)"),
        (lambda: optim.SGD([P], 0.1, nesterov=True), ValueError, "nesterov needs a momentum"),
        (lambda: optim.SGD([P], 0.1, weight_decay=-1), ValueError, "weight_decay must be"),
        (lambda: optim.Adam([P], betas=(0.9, 1.0)), ValueError, "beta2 must lie in"),
        (lambda: optim.Adam([P], betas=0.9), TypeError, "betas must be two numbers"),
        (lambda: optim.AdamW([P], eps=-1e-8), ValueError, "AdamW: eps must be"),
    ],
)
def test_bad_input(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_repr():
    assert repr(optim.SGD([P], 0.1)) == "SGD(1 parameters, lr=0.1, momentum=0, weight_decay=0)"
