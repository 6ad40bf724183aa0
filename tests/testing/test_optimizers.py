"""check_optimizer: right optimizers pass, wrong ones fail by the property that is meant to see it."""

import functools

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim, testing
from minigrad.kernels import jit
from minigrad.testing.optimizers import CHECKS

RIGHT = {
    "sgd": lambda p: optim.SGD(p, lr=0.05),
    "decay": lambda p: optim.SGD(p, lr=0.05, weight_decay=0.01),
    "momentum": lambda p: optim.SGD(p, lr=0.02, momentum=0.9),
    "nesterov": lambda p: optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01),
}


@pytest.mark.parametrize("name", RIGHT)
def test_every_optimizer_passes(name):
    report = testing.check_optimizer(RIGHT[name])
    assert report, report
    missing = {p.name for p in report.properties if p.verdict == "n/a"} - ({"compiled"} if not jit.AVAILABLE else set())
    assert missing == ({"scale"} if name in ("decay", "adamw") else set())


class Mine(optim.Optimizer):
    """Momentum, as a user writes it."""

    slots = ("m",)

    def __init__(self, params, lr=0.05):
        super().__init__(params, np.zeros(1), lr=lr)

    def rate(self, p):
        return mg.astype(self.h[0], p.dtype)

    def step(self):
        for p, (m,) in zip(self.params, self.state, strict=True):
            if p.grad is not None:
                self.update(p, p.grad, m)

    def update(self, p, g, m):
        mg.assign(m, 0.9 * m + g)
        mg.assign(p, p.detach() - self.rate(p) * m)


def test_a_users_optimizer_passes():
    report = testing.check_optimizer(Mine)
    assert report, report
    assert str(report).startswith("Mine(1 parameters, lr=0.05)\nsteps ")


class Ascends(Mine):
    def update(self, p, g, m):
        super().update(p, -g, m)


class OverwritesGradients(Mine):
    def update(self, p, g, m):
        g.data[...] *= 0.5
        super().update(p, g, m)


class KeepsGradients(Mine):
    def zero_grad(self):
        pass


class SharesState(Mine):
    def step(self):
        shared = {p.shape: m for p, (m,) in zip(self.params, self.state, strict=True)}
        for p in self.params:
            if p.grad is not None:
                self.update(p, p.grad, shared[p.shape])


class OneForAll(Mine):
    """The mean of all gradients' first entries goes into every parameter."""

    def update(self, p, g, m):
        super().update(
            p, g + 1e-3 * sum(float(np.sum(q.grad.data[..., :1])) for q in self.params[:1] if q.grad is not None), m
        )


class NewMemory(Mine):
    def update(self, p, g, m):
        grad = p.grad
        p.data = np.asarray(p.data - np.asarray(self.lr, p.dtype) * g.data)
        p.grad = grad


class BehindTheBack(Mine):
    def update(self, p, g, m):
        p.data[...] -= np.asarray(self.lr, p.dtype) * g.data


class FrozenRate(Mine):
    def __init__(self, params, lr=0.05):
        super().__init__(params, lr)
        self.first = lr

    def rate(self, p):
        return self.first


class DecayWithoutRate(Mine):
    def update(self, p, g, m):
        super().update(p, g, m)
        mg.assign(p, p.detach() * 0.999)


class ReadsTheRate(Mine):
    def rate(self, p):
        return float(self.h.data[0])


class CountsInPython(Mine):
    count = 0

    def step(self):
        self.count = self.count + 1
        super().step()

    def rate(self, p):
        return self.lr / self.count


class SharesItsState(Mine):
    def state_dict(self):
        return {"h": self.h.data, **{f"{i}.m": m.data for i, (m,) in enumerate(self.state)}}


class ForgetsItsState(Mine):
    def load_state_dict(self, state):
        mg.assign(self.h, state["h"])


class ForgetsTheLast(Mine):
    def update(self, p, g, m):
        last = np.ones(p.shape, p.dtype)
        last[..., -1:] = 0
        super().update(p, g * last, m)


class KnowsPlaces(Mine):
    def update(self, p, g, m):
        super().update(p, g * (1 + 1e-6 * np.arange(p.size).reshape(p.shape)), m)


class EdgesApart(Mine):
    """The entries after the last whole vector round otherwise."""

    def update(self, p, g, m):
        edge = np.arange(p.size).reshape(p.shape) >= p.size - p.size % 4
        super().update(p, mg.where(edge, g * np.asarray(1 + 2 * np.finfo(p.dtype).eps, p.dtype), g), m)


class NoneIsZero(Mine):
    def step(self):
        for p, (m,) in zip(self.params, self.state, strict=True):
            g = mg.tensor(np.zeros(p.shape, p.dtype)) if p.grad is None else p.grad
            self.update(p, g + 0.1 * p.detach(), m)


class DividesByZero(Mine):
    def update(self, p, g, m):
        super().update(p, mg.div(g, mg.norm(g)), m)


class Float32(Mine):
    def update(self, p, g, m):
        super().update(p, g, m)
        mg.assign(p, p.detach().astype("float32"))


class ByTheOrder(Mine):
    def update(self, p, g, m):
        super().update(p, g * (2.0 if p is self.params[0] else 1.0), m)


class SquaresLater(Mine):
    """Linear in the gradient at first, when there is no momentum yet."""

    def update(self, p, g, m):
        mg.assign(m, 0.9 * m * mg.abs(m) + g)
        mg.assign(p, p.detach() - self.rate(p) * m)


FAULTS = {
    Ascends: "minimises",
    OverwritesGradients: "gradients",
    KeepsGradients: "gradients",
    SharesState: "order",
    OneForAll: "order",
    NewMemory: "in place",
    BehindTheBack: "in place",
    FrozenRate: "lr",
    DecayWithoutRate: "lr",
    ReadsTheRate: "compiled",
    CountsInPython: "state",
    SharesItsState: "state",
    ForgetsItsState: "state",
    ForgetsTheLast: "steps",
    KnowsPlaces: "entries",
    EdgesApart: "twins",
    NoneIsZero: "no gradient",
    DividesByZero: "zero gradient",
    Float32: "precision",
    ByTheOrder: "order",
    SquaresLater: "scale",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda kind: kind.__name__)
def test_a_wrong_optimizer_is_caught(fault):
    if FAULTS[fault] == "compiled" and not jit.AVAILABLE:
        pytest.skip("kernels are off: nothing is compiled")
    with np.errstate(all="ignore"):
        report = testing.check_optimizer(functools.partial(fault))
    failing = {p.name: p.detail for p in report.properties if p.verdict == "fail"}
    assert FAULTS[fault] in failing, report
    assert failing[FAULTS[fault]]


def test_all_checks_have_caught_something():
    assert {*CHECKS} == {*FAULTS.values()}
