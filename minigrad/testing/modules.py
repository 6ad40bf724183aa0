"""``check_module``: everything that a module must satisfy, whatever it computes."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from minigrad.compiler import compile
from minigrad.engine.state import no_grad
from minigrad.engine.tape import Node, Tape
from minigrad.engine.tensor import Tensor
from minigrad.kernels import jit
from minigrad.nn.module import Module
from minigrad.ops.update import assign
from minigrad.optim import SGD, Adam, Optimizer
from minigrad.testing.bits import LAYOUTS, Array, NotApplicableError, attempt, need, same
from minigrad.testing.gradcheck import gradcheck
from minigrad.testing.report import Property, Report

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def check_module(module: Module | Callable[[], Module], *inputs: Any, rows: bool = True, seed: int = 0) -> Report:
    """Check everything that a module must satisfy, at these inputs of its ``forward``.

    module: a module, which is copied, or what makes one: a class or function without arguments (then parts that are
    made anew must be equal, too, once they have the same seed or state). inputs: arrays or tensors, a batch of several
    rows first if there is one; floats are taken in the dtype of the parameters. ``rows=False``: the rows of the batch
    may know of each other, as in attention over them. A property that does not apply says why.

    Raises TypeError for what is no module and makes none.

    >>> import numpy as np
    >>> from minigrad import nn
    >>> net = lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> bool(check_module(net, np.linspace(-1, 1, 6).reshape(2, 3)))
    True
    """
    subject = _Subject(module, inputs, rows, seed)
    return Report(subject.name, tuple(properties(subject)))


def properties(subject: _Subject) -> Iterator[Property]:
    """The properties of :func:`check_module` one by one, as they are found."""
    for name, check in CHECKS.items():
        found = attempt(name, functools.partial(check, subject))
        yield found
        if name == "runs" and found.verdict == "fail":
            return


class _Subject:
    """A module that can be had anew, and what it is called with."""

    def __init__(self, module: Any, inputs: Any, rows: bool, seed: int) -> None:
        self.module, self.rows, self.seed = module, rows, seed
        if not isinstance(module, Module) and not callable(module):
            raise TypeError(f"check_module: need a module or what makes one, got {type(module).__name__}")
        made = self.make()
        self.name = type(made).__name__
        self.dtype = next((p.dtype for p in made.parameters()), None)
        arrays = [np.asarray(x.data if isinstance(x, Tensor) else x) for x in inputs]
        self.inputs = [a.astype(self.dtype or a.dtype) if a.dtype.kind == "f" else a for a in arrays]

    def make(self, training: bool = False) -> Module:
        if isinstance(self.module, Module):
            return copy.deepcopy(self.module).train(training)
        made = self.module()
        if not isinstance(made, Module):
            raise TypeError(f"check_module: need a module or what makes one, which gave {type(made).__name__}")
        return made.initialize(self.seed).train(training)

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    def target(self, shape: tuple[int, ...], dtype: Any = F64) -> Array:
        return np.asarray(self.rng().uniform(0.5, 2, shape) * self.rng().choice([-1, 1], shape), dtype)


def _out(m: Module, inputs: Any) -> Tensor:
    out = m(*[x if isinstance(x, Tensor) else Tensor(x) for x in inputs])
    if not isinstance(out, Tensor):
        raise AssertionError(f"forward must return a tensor, got {type(out).__name__}")
    return out


#: Calls of what may be random: all alike once in 2^31 times, even where one number is dropped or kept by equal odds.
CALLS = 32
#: How far another seed is: a module that is given, not made, was hardly initialized with that.
OTHER = 1_000_003


def _outputs(m: Module, inputs: Any) -> set[bytes]:
    """The different outputs of so many calls."""
    return {_out(m, inputs).data.tobytes() for _ in range(CALLS)}


def _pull(s: _Subject, m: Module, inputs: list[Array]) -> tuple[Array, dict[str, Array]]:
    """The output, and the gradient of every parameter and float input for one cotangent."""
    leaves = [Tensor(a).requires_grad_() if a.dtype.kind == "f" else Tensor(a) for a in inputs]
    out = _out(m, leaves)
    m.zero_grad()
    if out.requires_grad:
        out.backward(s.target(out.shape, out.dtype))
    named = {f"input {i}": x for i, x in enumerate(leaves) if x.requires_grad} | dict(m.named_parameters())
    return out.data, {name: np.zeros(x.shape) if x.grad is None else x.grad.data for name, x in named.items()}


def _train(s: _Subject, m: Module, steps: int = 3, make: Callable[..., Optimizer] | None = None) -> list[Array]:
    """The outputs of some steps of training towards a fixed target, before each."""
    parameters = list(m.parameters())
    if not parameters:
        raise NotApplicableError("it has no parameters")
    opt = make(parameters) if make else SGD(parameters, lr=0.05, momentum=0.5)
    outs = []
    for _ in range(steps):
        out = _out(m, s.inputs)
        outs.append(out.data.copy())
        opt.zero_grad()
        _loss(s, out).backward()
        opt.step()
    return outs


def _loss(s: _Subject, out: Tensor) -> Any:
    error: Any = out - s.target(out.shape, out.dtype)
    return (error * error).mean()


def _same_states(got: dict[str, Array], expected: dict[str, Array], what: str) -> None:
    need(got.keys() == expected.keys(), f"{what}: the names are {[*got]}, but must be {[*expected]}")
    for name, a in got.items():
        same(a, expected[name], f"{what}, {name}")


def _runs(s: _Subject) -> None:
    """The output is a tensor of floats, and finite."""
    for training in (False, True):
        out = _out(s.make(training), s.inputs)
        need(out.dtype.kind == "f", f"the output has dtype {out.dtype}, which cannot be trained")
        need(np.isfinite(out.data).all(), "the output is not finite")


def _repr(s: _Subject) -> None:
    """repr names the class, and those of all modules inside."""
    m = s.make()
    for _, inner in m.named_modules():
        need(type(inner).__name__ in repr(m), f"repr does not name {type(inner).__name__}: {m!r}")


def _parameters(s: _Subject) -> None:
    """Every leaf that the output depends on is a parameter, and found by ``parameters()``."""
    m = s.make()
    out = _out(m, s.inputs)
    if out.node is None:
        raise NotApplicableError("the output depends on no leaf")
    known = {p.node for p in m.parameters()}
    for leaf in Tape.of(out):
        need(
            leaf.op is not None or leaf in known,
            f"a tensor of shape {leaf.shape} needs a gradient, but is not among the parameters: "
            "keep it in an attribute, as nn.Parameter",
        )


def _power(s: _Subject) -> None:
    """Every parameter has a gradient that is not zero everywhere: it has an influence, and can learn."""
    m = s.make()
    if not list(m.parameters()):
        raise NotApplicableError("it has no parameters")
    _, gradients = _pull(s, m, s.inputs)
    for name, p in m.named_parameters():
        need(not p.size or gradients[name].any(), f"the gradient of {name} is zero: it has no influence on the output")


def _pure(s: _Subject) -> None:
    """Neither inputs nor cotangent nor parameters are written; in evaluation buffers are not, either."""
    for training in (False, True):
        m, inputs = s.make(training), [a.copy() for a in s.inputs]
        before = m.state_dict()
        _pull(s, m, inputs)
        for i, (a, b) in enumerate(zip(inputs, s.inputs, strict=True)):
            same(a, b, f"input {i} after forward and backward")
        names = before if not training else dict(m.named_parameters())
        for name in names:
            same(m.state_dict()[name], before[name], f"{name} after forward and backward")


def _gradients(s: _Subject, order: Literal[1, 2]) -> None:
    """gradcheck, in training where the output is not random, and in evaluation; of order 2, in one of them."""
    if not s.dtype and not any(a.dtype.kind == "f" for a in s.inputs):
        raise NotApplicableError("there is nothing to differentiate by")
    for training in (True, False):
        m = s.make(training)
        if training and len(_outputs(m, s.inputs)) > 1:
            continue
        report = gradcheck(m, tuple(s.inputs), order, seed=s.seed)
        if report.verdict == "wrong":
            need(False, f"{report}{' (in training)' if training else ''}")
        if not report:
            raise NotApplicableError(f"it cannot be judged at these inputs: {report.verdict}: {report.sentence}")
        if order == 2:
            break


def _modes(s: _Subject) -> None:
    """train() and eval() reach every module; in evaluation the output is a function of the inputs."""
    m = s.make(True)
    for training in (False, True, False):
        m.train(training)
        for name, inner in m.named_modules():
            need(inner.training is training, f"train({training}) does not reach {name or 'the module itself'}")
    same(_out(m, s.inputs).data, _out(m, s.inputs).data, "a second call in evaluation")


def _same_seed(s: _Subject) -> None:
    """The same seed gives the same bytes: parameters, buffers, and outputs in training."""
    one, two = s.make(True), s.make(True)
    _train(s, two) if list(two.parameters()) else _out(two, s.inputs)
    one.initialize(s.seed + 1)
    two.initialize(s.seed + 1)
    _same_states(two.state_dict(), one.state_dict(), "initialize with the same seed")
    for _ in range(2):
        same(_out(two, s.inputs).data, _out(one, s.inputs).data, "the output in training, from the same seed")


def _noise(s: _Subject) -> None:
    """What is random in training, and not in evaluation, is drawn anew by each call."""
    one, two = s.make(), s.make().initialize(s.seed + OTHER)
    for name, p in two.named_parameters():
        assign(p, dict(one.named_parameters())[name].data)

    def differ(training: bool) -> bool:
        mine, other = (_out(m.train(training), s.inputs).data for m in (one, two))
        return not np.array_equal(mine, other)

    if differ(False) or not any(differ(True) for _ in range(CALLS)):
        raise NotApplicableError("the seed says nothing of the output in training, or as much in evaluation")
    different = len(_outputs(one, s.inputs)) > 1
    need(different, f"{CALLS} calls in training have the same output, and another seed has another")


def _twice(s: _Subject) -> None:
    """It may be called twice before one backward: the gradients are the sums of those of either call."""
    one, two = s.make(True), s.make(True)
    leaves = [Tensor(a).requires_grad_() if a.dtype.kind == "f" else Tensor(a) for a in s.inputs]
    out: Any = _out(two, leaves)
    if not out.requires_grad:
        raise NotApplicableError("there is nothing to differentiate by")
    again: Any = _out(two, leaves)
    two.zero_grad()
    (out + again).backward(s.target(out.shape, out.dtype))
    first, second = (_pull(s, one, s.inputs)[1] for _ in range(2))
    named = {f"input {i}": x for i, x in enumerate(leaves) if x.requires_grad} | dict(two.named_parameters())
    for name, a in first.items():
        got, expected = named[name].grad, a + second[name]
        off = np.abs((0.0 if got is None else got.data) - expected).max(initial=0)
        allowed = 1e3 * float(np.finfo(out.dtype).eps) * max(1.0, np.abs(expected).max(initial=0))
        need(off <= allowed, f"the gradient of {name} after two calls is {off:.2g} off the sum of both")


def _container(s: _Subject) -> int:
    """A sequence of modules has the same ones by position, from either end, in slices and when iterated over."""
    m: Any = s.make()
    if not all(hasattr(type(m), name) for name in ("__len__", "__iter__", "__getitem__")):
        raise NotApplicableError("it is no sequence: it has no length, cannot be iterated over, or not indexed")
    parts = list(m)
    if not all(isinstance(part, Module) for part in parts):
        raise NotApplicableError("it does not iterate over modules")
    n = len(parts)
    need(len(m) == n, f"its length is {len(m)}, but it iterates over {n}")
    inside = {id(part) for _, part in m.named_modules()}
    for i, part in enumerate(parts):
        need(m[i] is part, f"[{i}] is not module {i} of those that it iterates over")
        need(m[i - n] is part, f"[{i - n}] is not [{i}]")
        need(id(part) in inside, f"[{i}] is not among its modules")
    for i in (n, -n - 1):
        try:
            found = m[i]
        except IndexError:
            continue
        need(False, f"[{i}] of {n} is {type(found).__name__}, but must raise IndexError")
    for where in (slice(1, None), slice(None, -1), slice(None, None, 2)):
        try:
            some = m[where]
        except TypeError:  # it has no slices
            break
        need([id(a) for a in some] == [id(a) for a in parts[where]], f"{where} is not those of its modules")
    return n


def _state(s: _Subject) -> None:
    """A module with another's state_dict continues as that one does; the state_dict is a copy."""
    one, two = s.make(True), s.make(True)
    _train(s, one) if list(one.parameters()) else _out(one, s.inputs)
    state = one.state_dict()
    two.load_state_dict(state)
    _same_states(two.state_dict(), state, "state_dict after load_state_dict")
    for training in (False, True):
        one.train(training)
        two.train(training)
        expected = _out(one, s.inputs).data
        same(_out(two, s.inputs).data, expected, f"the output after load_state_dict, {_mode(training)}")
    state = one.state_dict()
    for a in state.values():
        a[...] = 3
    if state:
        changed = all(np.array_equal(a, state[name]) for name, a in one.state_dict().items())
        need(not changed, "writing to what state_dict gave changes the module: it must be a copy")


def _mode(training: bool) -> str:
    return "in training" if training else "in evaluation"


def _dtypes(s: _Subject) -> None:
    """astype converts all of it: outputs and gradients have the dtype of parameters and inputs; values agree."""
    outs = {}
    for dtype in (F32, F64):
        m = s.make().astype(dtype)
        inputs = [a.astype(dtype) if a.dtype.kind == "f" else a for a in s.inputs]
        if not s.dtype and all(a.dtype.kind != "f" for a in inputs):
            raise NotApplicableError("neither inputs nor parameters are floats")
        outs[dtype], gradients = _pull(s, m, inputs)
        need(outs[dtype].dtype == dtype, f"the output is {outs[dtype].dtype} for inputs and parameters of {dtype}")
        for name, a in m.state_dict().items():
            need(a.dtype.kind != "f" or a.dtype == dtype, f"{name} is still {a.dtype} after astype({dtype})")
        for name, a in gradients.items():
            need(a.dtype == dtype or not a.any(), f"the gradient of {name} is {a.dtype}, but must be {dtype}")
    wide = outs[F64]
    off = np.abs(outs[F32] - wide).max(initial=0)
    allowed = 1e4 * float(np.finfo(F32).eps) * max(1.0, np.abs(wide).max(initial=0))  # many ulps, far below an error
    need(off <= allowed, f"the outputs in float32 and float64 are {off:.2g} apart")
    _precise(s)


def _precise(s: _Subject) -> None:
    """In float64 a change of 2⁻³⁰ along the gradient's signs moves the output by what the gradient says."""
    m, inputs, step = s.make().astype(F64), [a.astype(F64) if a.dtype.kind == "f" else a for a in s.inputs], 2.0**-30
    out, gradients = _pull(s, m, inputs)
    g = s.target(out.shape)
    blur = 64 * float(np.finfo(F64).eps) * np.abs(g * out).sum()
    for name, gradient in gradients.items():
        expected, other, moved = step * np.abs(gradient).sum(), s.make().astype(F64), list(inputs)
        if name.startswith("input "):
            i = int(name.removeprefix("input "))
            moved[i] = inputs[i] + step * np.sign(gradient)
        else:
            p = dict(other.named_parameters())[name]
            assign(p, p.data + step * np.sign(gradient))
        got = float((g * (_out(other, moved).data - out)).sum())
        what = f"{name}, changed by {step:.1g}, moves the output by {got:.3g}, and not by {expected:.3g}"
        need(abs(got - expected) <= expected / 2 + blur, f"{what}: a narrower dtype is in between")


def _layouts(s: _Subject) -> None:
    """The same bits for every memory layout of the inputs."""
    if not s.inputs:
        raise NotApplicableError("it has no inputs")
    m = s.make()
    out, gradients = _pull(s, m, s.inputs)
    for layout, change in LAYOUTS.items():
        got, others = _pull(s, m, [np.asarray(change(a)) for a in s.inputs])
        same(got, out, f"the output for {layout} inputs")
        _same_states(others, gradients, f"gradients for {layout} inputs")


def _rows(s: _Subject) -> None:
    """In evaluation, rows of the batch do not know of each other: f(x)[i] is f(x[i:i+1])."""
    if not s.rows:
        raise NotApplicableError("its rows may know of each other, says rows=False")
    m = s.make()
    out = _out(m, s.inputs).data
    n = out.shape[0] if out.ndim else 0
    whole = [a.ndim > 0 and a.shape[0] == n for a in s.inputs]
    if n < 2 or not any(whole):
        raise NotApplicableError("the first axes of output and inputs are no batch of several rows")
    for i in range(n):
        alone = [a[i : i + 1] if w else a for a, w in zip(s.inputs, whole, strict=True)]
        same(_out(m, alone).data, out[i : i + 1], f"row {i} alone")


# Hidden units


def hidden(m: Module, inputs: list[Array]) -> list[list[tuple[str, int]]]:
    """The groups of hidden units of a module, each as the axes of parameters, (name, axis), that they run along.

    Read from the tape: axes are one where an op identifies them (elementwise ops, letters, exchanged axes); a group is
    an axis that neither the inputs, nor the output, nor another op knows of, so its units have no places of their own.
    """
    out = _out(m, inputs)
    if out.node is None:
        return []
    names = {p.node: name for name, p in m.named_parameters() if p.node is not None}
    leader: dict[Any, Any] = {}
    known = [(out.node, axis) for axis in range(out.ndim)]

    def find(key: Any) -> Any:
        while (above := leader.setdefault(key, key)) != key:
            key = above
        return key

    for node in Tape.of(out):
        if node.op is None:
            known += [] if node in names else [(node, axis) for axis in range(len(node.shape))]
            continue
        for place, axis in _identified(node, known):
            leader[find(place)] = find(axis)
    placed = {find(key) for key in known}
    groups: dict[Any, list[tuple[str, int]]] = {}
    for node, name in names.items():
        for axis in range(len(node.shape)):
            if find((node, axis)) not in placed and (node, axis) in leader:
                groups.setdefault(find((node, axis)), []).append((name, axis))
    sizes = {name: p.shape for name, p in m.named_parameters()}
    return [group for group in groups.values() if sizes[group[0][0]][group[0][1]] > 1]


def _identified(node: Node, known: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Pairs of axes that the op of this node makes one; those that it treats as places go to ``known``."""
    op, out = node.op, len(node.shape)
    assert op is not None
    if op.shapes == "elementwise" or op.letters is not None:
        terms = op.letters.inputs if op.letters is not None else ["..."] * len(node.parents)
        result = op.letters.output if op.letters is not None else "..."
        axes = {c: (node, out - len(result) + i) for i, c in enumerate(result) if c != "."}
        for parent, term in zip(node.parents, terms, strict=True):
            shape = np.shape(getattr(parent, "_data", parent)) if type(parent) is not Node else parent.shape
            fixed = len(term.replace("...", ""))
            tail = len(result.replace("...", ""))
            for axis, size in enumerate(shape):
                back = len(shape) - axis
                if back > fixed:  # of the batch, which is broadcast
                    if size == 1 or "..." not in result:
                        continue
                    other = (node, out - (back - fixed) - tail)
                else:
                    other = axes.setdefault(term[len(term) - back], (parent, axis))
                if type(parent) is Node:
                    yield (parent, axis), other
                else:
                    known.append(other)
    elif op.name in ("transpose", "swapaxes"):
        parent = node.parents[0]
        order = op.fn(np.zeros(tuple(range(2, 2 + out))), **node.options).shape
        yield from (((parent, size - 2), (node, axis)) for axis, size in enumerate(order))
    else:
        known += [(node, axis) for axis in range(out)]
        known += [(p, axis) for p in node.parents if type(p) is Node for axis in range(len(p.shape))]


def _groups(s: _Subject) -> list[list[tuple[str, int]]]:
    if not (found := hidden(s.make(), s.inputs)):
        raise NotApplicableError("its tape shows no hidden units: linear maps with elementwise ops between them")
    return found


def _permutations(s: _Subject) -> int:
    """Permuting hidden units changes no bit of the output, and permutes the gradients.

    With two weights of ±1 for each sum over the units, all others 0, so that a sum has one rounding in any order.
    """
    groups, rng = _groups(s), s.rng()
    for group in groups:
        one, two = s.make(), s.make()
        mine, theirs = dict(one.named_parameters()), dict(two.named_parameters())
        cycle = rng.permutation(mine[group[0][0]].shape[group[0][1]])
        order = np.empty_like(cycle)
        order[cycle] = np.roll(cycle, 1)  # no unit stays where it is
        for name, axis in group:
            p = mine[name]
            if p.ndim > 1:
                ranks = rng.random(p.shape).argsort(axis).argsort(axis)
                assign(p, np.where(ranks < 2, rng.choice([-1, 1], p.shape), 0))
            assign(theirs[name], p.data)
        for name, axis in group:
            assign(theirs[name], np.take(theirs[name].data, order, axis))
        out, gradients = _pull(s, one, s.inputs)
        got, others = _pull(s, two, s.inputs)
        what = f"with the {len(order)} units of {', '.join(f'{n} (axis {a})' for n, a in group)} permuted"
        same(got, out, f"the output {what}")
        for name, axis in group:
            gradients[name] = np.take(gradients[name], order, axis)
        for name in mine:
            same(others[name], gradients[name], f"the gradient of {name} {what}")
    return len(groups)


def _twins(s: _Subject) -> int:
    """Two hidden units with equal weights in and out, and equal biases, stay equal to the bit while they train."""
    groups = _groups(s)
    for group in groups:
        for make in (lambda p: SGD(p, lr=0.05, momentum=0.5), lambda p: Adam(p, lr=0.01)):
            m = s.make()
            named = dict(m.named_parameters())
            for name, axis in group:
                values = named[name].data.copy()
                np.moveaxis(values, axis, 0)[1] = np.moveaxis(values, axis, 0)[0]
                assign(named[name], values)
            _train(s, m, 4, make)
            for name, axis in group:
                values = np.moveaxis(named[name].data, axis, 0)
                same(values[1], values[0], f"unit 1, which was a twin of unit 0, in {name} (axis {axis})")
    return len(groups)


def _compiled(s: _Subject) -> None:
    """Compiled training, and compiled evaluation after it, give the bits of the eager ones."""
    if not jit.AVAILABLE:
        raise NotApplicableError("kernels are off (NUMBA_DISABLE_JIT)")
    eager, recorded = s.make(True), s.make(True)
    if parameters := list(recorded.parameters()):
        opt = SGD(parameters, lr=0.05, momentum=0.5)

        @compile
        def step(*inputs: Any) -> Any:
            out = _out(recorded, inputs)
            opt.zero_grad()
            _loss(s, out).backward()
            opt.step()
            return out

        for i, out in enumerate(_train(s, eager, 4)):
            same(step(*s.inputs).data, out, f"the output of compiled step {i}")
        _same_states(recorded.state_dict(), eager.state_dict(), "after compiled steps")
    eager.eval()
    recorded.eval()
    with no_grad():
        expected = _out(eager, s.inputs).data
    run = compile(lambda *inputs: _out(recorded, inputs))
    for _ in range(2):
        same(run(*s.inputs).data, expected, "the compiled output in evaluation")


#: Each raises what is wrong, or NotApplicableError, or returns on how many examples it holds.
CHECKS = MappingProxyType[str, Callable[[_Subject], int | None]](
    {
        "runs": _runs,
        "repr": _repr,
        "parameters": _parameters,
        "power": _power,
        "pure": _pure,
        "first": lambda s: _gradients(s, 1),
        "second": lambda s: _gradients(s, 2),
        "train and eval": _modes,
        "same seed": _same_seed,
        "noise": _noise,
        "twice": _twice,
        "container": _container,
        "state": _state,
        "dtypes": _dtypes,
        "layouts": _layouts,
        "rows": _rows,
        "permutations": _permutations,
        "twins": _twins,
        "compiled": _compiled,
    }
)
