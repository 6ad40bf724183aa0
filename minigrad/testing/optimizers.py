"""``check_optimizer``: everything that an optimizer must satisfy, whatever its rule."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from minigrad.compiler import compile
from minigrad.engine.tensor import Tensor
from minigrad.kernels import jit
from minigrad.testing.bits import Array, NotApplicableError, attempt, need, same
from minigrad.testing.report import Property, Report

Factory = Callable[[Sequence[Tensor]], Any]
SHAPES = ((5, 7), (), (37,), (2, 0), (5, 7))  # odd ones, so that no vector register is full; two alike
STEPS = 6


def check_optimizer(factory: Factory, seed: int = 0) -> Report:
    """Check everything that an optimizer must satisfy, in float32 and float64.

    factory: what makes one from a list of parameters, as ``lambda p: optim.SGD(p, lr=0.1)``; an optimizer of your own
    has ``step()`` and ``zero_grad()``, and best derives from ``optim.Optimizer``. It is given random gradients, and a
    quadratic to minimise. Equal entries must be treated alike: rules that look at a whole parameter (its norm, say) in
    floating point may fail "entries". A property that does not apply says why.

    >>> from minigrad import optim
    >>> bool(check_optimizer(lambda p: optim.Adam(p, lr=0.01)))
    True
    """
    made = factory([_parameter(np.zeros(1, np.float32))])
    return Report(repr(made), tuple(properties(factory, seed)))


def properties(factory: Factory, seed: int = 0) -> Iterator[Property]:
    """The properties of :func:`check_optimizer` one by one, as they are found."""
    tasks = [_Task(factory, np.dtype(dtype), seed) for dtype in (np.float32, np.float64)]
    for name, check in CHECKS.items():
        found = attempt(name, functools.partial(_each, check, tasks))
        yield found
        if name == "steps" and found.verdict == "fail":
            return


def _each(check: Callable[[_Task], None], tasks: Sequence[_Task]) -> int:
    for task in tasks:
        check(task)
    return len(tasks)


def _parameter(values: Array) -> Tensor:
    return Tensor(np.array(values)).requires_grad_()


class _Task:
    """Parameters, a sequence of gradients for each, and an optimizer."""

    def __init__(self, factory: Factory, dtype: Any, seed: int) -> None:
        self.factory, self.dtype, self.seed = factory, dtype, seed
        rng = np.random.default_rng(seed)
        self.start = [rng.uniform(-2, 2, shape).astype(dtype) for shape in SHAPES]
        self.gradients = [[rng.uniform(-2, 2, shape).astype(dtype) for shape in SHAPES] for _ in range(2 * STEPS)]

    def make(self, start: Sequence[Array] | None = None) -> tuple[list[Tensor], Any]:
        parameters = [_parameter(a) for a in (self.start if start is None else start)]
        return parameters, self.factory(parameters)

    def run(self, parameters: Sequence[Tensor], opt: Any, gradients: Any) -> list[Array]:
        """The parameters after a step for each list of gradients; None is no gradient."""
        for step in gradients:
            for p, g in zip(parameters, step, strict=True):
                p.grad = None if g is None else Tensor(g.copy())
            opt.step()
        return [p.data.copy() for p in parameters]


def _steps(t: _Task) -> None:
    """step() changes every parameter, to finite numbers, and keeps its dtype and shape."""
    parameters, opt = t.make()
    after = t.run(parameters, opt, t.gradients[:STEPS])
    for a, before in zip(after, t.start, strict=True):
        same(np.zeros_like(a), np.zeros_like(before), "a parameter after steps")
        need(np.isfinite(a).all(), "a parameter is not finite after steps")
        need(not a.size or (a != before).all(), f"{np.count_nonzero(a == before)} of {a.size} entries never move")


def _entries(t: _Task) -> None:
    """Permuting the entries of a parameter and of its gradients permutes the result."""
    rng = np.random.default_rng(t.seed)
    orders = [rng.permutation(a.size) for a in t.start]

    def permuted(arrays: Sequence[Array]) -> list[Array]:
        return [a.ravel()[order].reshape(a.shape) for a, order in zip(arrays, orders, strict=True)]

    expected = permuted(t.run(*t.make(), t.gradients[:STEPS]))
    got = t.run(*t.make(permuted(t.start)), [permuted(g) for g in t.gradients[:STEPS]])
    for a, b in zip(got, expected, strict=True):
        same(a, b, "with the entries of parameters and gradients permuted")


def _order(t: _Task) -> None:
    """The parameters may come in any order."""
    expected = t.run(*t.make(), t.gradients[:STEPS])
    got = t.run(*t.make(t.start[::-1]), [g[::-1] for g in t.gradients[:STEPS]])
    for a, b in zip(got, expected[::-1], strict=True):
        same(a, b, "with the parameters in another order")


def _twins(t: _Task) -> None:
    """Entries with equal values and equal gradients stay equal to the bit, within a parameter and across them."""
    start = [np.resize(t.start[0], shape) for shape in ((301,), (5, 7), (35,))]
    gradients = [[np.resize(g[0], a.shape) for a in start] for g in t.gradients]
    long, square, row = t.run(*t.make(start), gradients)
    same(row, square.ravel(), "two parameters with the same values and gradients")
    same(long[:280], np.resize(row, 280), "entries with the same values and gradients")


def _gradients(t: _Task) -> None:
    """step() does not write gradients, and zero_grad() drops them, or makes them zero."""
    parameters, opt = t.make()
    for p, g in zip(parameters, t.gradients[0], strict=True):
        p.grad = Tensor(g.copy())
    opt.step()
    for p, g in zip(parameters, t.gradients[0], strict=True):
        need(p.grad is not None, "step() drops the gradient")
        same(p.grad.data if p.grad is not None else None, g, "the gradient after step()")
    opt.zero_grad()
    need(all(p.grad is None or not p.grad.data.any() for p in parameters), "zero_grad() leaves gradients")


def _no_gradient(t: _Task) -> None:
    """A parameter without a gradient is left alone, and the others are not."""
    parameters, opt = t.make()
    without = [[None if i == 2 else g for i, g in enumerate(step)] for step in t.gradients[:STEPS]]
    got = t.run(parameters, opt, without)
    same(got[2], t.start[2], "a parameter without a gradient, after steps")
    same(got[0], t.run(*t.make(), t.gradients[:STEPS])[0], "a parameter beside one without a gradient")


def _zero_gradient(t: _Task) -> None:
    """Zero gradients from the start leave parameters alone, but for weight decay; nothing becomes NaN."""
    parameters, opt = t.make()
    got = t.run(parameters, opt, [[np.zeros_like(a) for a in t.start]] * 3)
    for a, before in zip(got, t.start, strict=True):
        need(np.isfinite(a).all(), "zero gradients give numbers that are not finite")
        if not getattr(opt, "weight_decay", 0):
            same(a, before, "a parameter after zero gradients")


def _precision(t: _Task) -> None:
    """A small difference between parameters is not lost: nothing is rounded to a narrower dtype."""
    near = [a * (1 + np.asarray(4 * np.finfo(t.dtype).eps, t.dtype)) for a in t.start]
    for a, b in zip(t.run(*t.make(near), t.gradients[:1]), t.run(*t.make(), t.gradients[:1]), strict=True):
        need(not a.size or (a != b).any(), f"parameters that differ by a few ulps of {t.dtype} are equal after a step")


def _in_place(t: _Task) -> None:
    """Parameters are written where they are, by ops, so that tapes and recordings see the write."""
    parameters, opt = t.make()
    memory, counts = [p.data for p in parameters], [p.cell[0] for p in parameters]
    t.run(parameters, opt, t.gradients[:1])
    for p, array, count in zip(parameters, memory, counts, strict=True):
        need(p.data is array, "the parameter has other memory after step(): write to it in place, as by mg.assign")
        need(p.cell[0] > count, "step() writes a parameter behind the engine's back: use an op, as mg.assign")


def _lr(t: _Task) -> None:
    """lr is read at every step: another one gives another step, and 0 none."""
    parameters, opt = t.make()
    if not isinstance(getattr(opt, "lr", None), float):
        raise NotApplicableError("it has no attribute lr that is a number")
    before = t.run(parameters, opt, t.gradients[:2])
    kept = opt.lr
    opt.lr = 0.0
    for a, b in zip(t.run(parameters, opt, t.gradients[2:3]), before, strict=True):
        same(a, b, "a parameter after a step with lr = 0")
    other, same_lr = t.make()[0], t.make()
    twin = t.factory(other)
    t.run(other, twin, t.gradients[:2])
    t.run(*same_lr, t.gradients[:2])
    twin.lr = kept / 2
    half, whole = t.run(other, twin, t.gradients[2:3]), t.run(*same_lr, t.gradients[2:3])
    need(not np.array_equal(half[0], whole[0]), "a step with half the lr is the same: lr is not read at every step")


def _state(t: _Task) -> None:
    """A new optimizer with another's state_dict continues with the same bits; the state_dict is a copy."""
    parameters, opt = t.make()
    if not hasattr(opt, "state_dict") or not hasattr(opt, "load_state_dict"):
        raise NotApplicableError("it has no state_dict and load_state_dict")
    middle = t.run(parameters, opt, t.gradients[:STEPS])
    state = opt.state_dict()
    kept = {name: np.array(a) for name, a in state.items()}
    expected = t.run(parameters, opt, t.gradients[STEPS:])
    for name, a in state.items():
        same(a, kept[name], f"{name} of the state_dict, after more steps: it must be a copy")
    others, twin = t.make(middle)
    twin.load_state_dict(kept)
    for a, b in zip(t.run(others, twin, t.gradients[STEPS:]), expected, strict=True):
        same(a, b, "a parameter after load_state_dict and more steps")


def _scale(t: _Task) -> None:
    """Where the first step is that of a rule which is linear in the gradient, or does not know its scale, all are."""
    if getattr(t.make()[1], "weight_decay", 0):
        raise NotApplicableError("its weight decay has a scale of its own")

    def moves(factor: float, steps: int) -> Array:
        zero = [np.zeros_like(a) for a in t.start]
        gradients = [[np.asarray(factor * g, g.dtype) for g in step] for step in t.gradients[:steps]]
        return t.run(*t.make(zero), gradients)[0]

    for degree, rule in ((1, "linear in the gradient"), (0, "of any scale of the gradient")):

        def off(steps: int, degree: int = degree) -> float:
            expected = 4**degree * moves(1, steps)
            return float(np.abs(moves(4, steps) - expected).max() / np.abs(expected).max())

        near = 256 * float(np.finfo(t.dtype).eps) + (1e-4 if degree == 0 else 0)  # an ε in a denominator has a scale
        if off(1) <= near:
            need(off(STEPS) <= near, f"the first step is {rule}, but {STEPS} steps are not: {off(STEPS):.2g} off")
            return
    raise NotApplicableError("the first step is neither linear in the gradient nor independent of its scale")


def _minimises(t: _Task) -> None:
    """On a quadratic the loss falls in the first step, and is lower still after a hundred."""
    target = [np.zeros_like(a) for a in t.start]
    parameters, opt = t.make()

    def loss() -> float:
        return float(sum(np.sum((p.data.astype(np.float64) - a) ** 2) for p, a in zip(parameters, target, strict=True)))

    losses = [loss()]
    for _ in range(100):
        t.run(parameters, opt, [[p.data - a for p, a in zip(parameters, target, strict=True)]])
        losses.append(loss())
    need(losses[1] < losses[0], f"the first step takes a quadratic from {losses[0]:.6g} to {losses[1]:.6g}")
    need(losses[-1] < losses[1], f"100 steps take a quadratic from {losses[0]:.6g} to {losses[-1]:.6g}")


def _compiled(t: _Task) -> None:
    """Compiled steps give the bits of the eager ones, also after lr has changed."""
    if not jit.AVAILABLE:
        raise NotApplicableError("kernels are off (NUMBA_DISABLE_JIT)")
    full = [a for a in t.start if a.size]
    mine, other = t.make(full), t.make(full)

    def train(parameters: list[Tensor], opt: Any) -> Callable[..., Any]:
        def step(*targets: Any) -> Any:
            losses = [((p - a) * (p - a)).sum() for p, a in zip(parameters, targets, strict=True)]
            opt.zero_grad()
            for loss in losses:
                loss.backward()
            opt.step()

        return step

    eager, recorded = train(*mine), compile(train(*other))
    for i in range(2 * STEPS):
        for _, opt in (mine, other) if i == STEPS else ():
            if isinstance(getattr(opt, "lr", None), float):
                opt.lr = opt.lr / 2
        targets = [np.asarray(a) for a, b in zip(t.gradients[i], t.start, strict=True) if b.size]
        eager(*map(Tensor, targets))
        recorded(*targets)
        for a, b in zip(other[0], mine[0], strict=True):
            same(a.data, b.data, f"a parameter after compiled step {i}{' (lr has changed)' if i >= STEPS else ''}")


#: Each raises what is wrong, or NotApplicableError.
CHECKS = MappingProxyType[str, Callable[[_Task], None]](
    {
        "steps": _steps,
        "entries": _entries,
        "order": _order,
        "twins": _twins,
        "gradients": _gradients,
        "no gradient": _no_gradient,
        "zero gradient": _zero_gradient,
        "precision": _precision,
        "in place": _in_place,
        "lr": _lr,
        "state": _state,
        "scale": _scale,
        "minimises": _minimises,
        "compiled": _compiled,
    }
)
