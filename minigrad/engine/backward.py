"""Walking a tape backwards: cotangents in, one rule for each argument, gradients out."""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from minigrad.engine.apply import apply
from minigrad.engine.op import REGISTRY, Op, Rule, attach, op
from minigrad.engine.state import Kernels, current, mode
from minigrad.engine.tape import Node
from minigrad.engine.tensor import Tensor

_SEQ = operator.attrgetter("seq")
_NO_TAPE = "backward: this tensor does not depend on a tensor that requires a gradient"


@op("y = x", view=True)
def identity(x: Any) -> Any:
    """The same values, as a new line of the tape."""
    return x


@identity.vjp("x", "x̄ = ȳ")
def _(g: Any) -> Any:
    return g


class Step(NamedTuple):
    """One step of the backward walk: a node, its whole cotangent, and what that sends to each parent."""

    node: Node
    cotangent: Any
    contributions: Sequence[tuple[Node, Any]]


def steps(
    loss: Tensor,
    gradient: Any = None,
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> Iterator[Step]:
    """Walk backward one op at a time, from the loss to the leaves; ``backward()`` exhausts this.

    Yields a :class:`Step` for each node that has a cotangent (arrays; tensors with create_graph), latest first.
    When the walk completes, and only then, gradients are added to ``.grad`` of leaves and kept tensors. What is given
    and raised is that of :func:`backward`.

    >>> import minigrad as mg
    >>> x = mg.tensor(3.0, requires_grad=True)
    >>> [step.node.op.name if step.node.op else "leaf" for step in mg.steps(mg.tanh(x * x))]
    ['tanh', 'mul', 'leaf']
    """
    if loss.node is None:
        raise RuntimeError(_NO_TAPE)
    return _walk(loss.node, _seed(loss, gradient), create_graph, retain_graph or create_graph)


def backward(loss: Tensor, gradient: Any = None, *, retain_graph: bool = False, create_graph: bool = False) -> None:
    """Add the gradient of this tensor to ``.grad`` of every leaf behind it.

    gradient: the cotangent of this tensor, of its shape; may be left out for one element, and is 1 then.
    retain_graph: keep what the tape saved, for another backward. create_graph: record the backward as well, so that
    gradients can be differentiated again.
    Raises RuntimeError if nothing was recorded, if an earlier backward has freed the tape, or if saved memory was
    written since; ValueError for a missing or misshapen gradient. ``.grad`` is untouched then.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """
    if loss.node is None:
        raise RuntimeError(_NO_TAPE)
    seed = _seed(loss, gradient)
    for _step in _walk(loss.node, seed, create_graph, retain_graph or create_graph, quiet=True):
        pass


attach("backward", backward)


@functools.cache
def _one(dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    one = np.ones((), dtype)
    one.flags.writeable = False
    return one


def _seed(loss: Tensor, gradient: Any) -> Any:
    if gradient is None:
        if loss._data.size != 1:
            raise ValueError(
                f"backward: the loss has shape {loss.shape}, so its gradient must be given: "
                "backward(gradient), or reduce it first, for example with .sum() or .mean()"
            )
        return _one(loss.dtype) if not loss.shape else np.ones(loss.shape, loss.dtype)
    if not isinstance(gradient, Tensor):
        gradient = np.asarray(gradient, loss.dtype)
    if gradient.shape != loss.shape:
        raise ValueError(
            f"backward: the gradient has shape {gradient.shape}, the tensor {loss.shape}: they must be equal"
        )
    if gradient.dtype != loss.dtype:
        gradient = REGISTRY["astype"](gradient, loss.dtype)
    return gradient


def cotangents(root: Node, seed: Any, inputs: Collection[Node], graph: bool, retain: bool) -> dict[Node, Any]:
    """The cotangents of ``inputs``, no one of which lies behind another; ``.grad`` is not touched."""
    walk = _walk(root, seed, graph, retain, inputs, quiet=True)
    try:
        next(walk)
    except StopIteration as done:
        return {node: g for node, g in done.value.items() if node in inputs}
    raise AssertionError("a quiet walk yields nothing")


def _commit(node: Node, g: Any, graph: bool, borrowed: bool) -> None:
    """Add a finished cotangent to ``.grad``, which belongs to the node alone."""
    if isinstance(g, Tensor):
        if (observer := current().observer) is not None:
            observer.gradient(node, write=False)
        with mode(grad=graph):
            node.grad = REGISTRY["copy"](g) if node.grad is None else node.grad + g
        return
    array = g
    if node.grad is not None:
        array = np.asarray(node.grad._data + array)
    elif borrowed:
        array = array.copy()
    node.grad = Tensor(array)


def _between(root: Node, inputs: Collection[Node] | None) -> list[Node]:
    """The nodes that backward passes through, in order: between the root and the leaves, or the inputs."""
    if root.op is None or (inputs is not None and root in inputs):
        return []
    seen = {root}
    nodes = [root]
    for node in nodes:  # grows while it is walked
        for parent in node.parents:
            if (
                type(parent) is Node
                and parent.op is not None
                and parent not in seen
                and (inputs is None or parent not in inputs)
            ):
                seen.add(parent)
                nodes.append(parent)
    nodes.sort(key=_SEQ)
    if inputs is None:
        return nodes
    leading = set(inputs)
    for node in nodes:
        if any(type(parent) is Node and parent in leading for parent in node.parents):
            leading.add(node)
    return [node for node in nodes if node in leading]


def _walk(
    root: Node, seed: Any, graph: bool, retain: bool, inputs: Collection[Node] | None = None, quiet: bool = False
) -> Generator[Step, None, dict[Node, Any]]:
    """The walk itself; returns the cotangents of the nodes where it ends.

    Without ``inputs`` these are the leaves, and gradients are committed. With them the walk sends cotangents only
    towards the inputs, ends there and commits nothing. A quiet walk yields nothing: no one looks.
    """
    nodes = _between(root, inputs)
    for node in reversed(nodes):  # all before the first step, so that a refused walk has freed nothing
        version = node.version
        for cell in node.cells:
            version -= cell[0]
        if version or node.saved is None:
            raise _stale(node)
    wanted = None if inputs is None else {*nodes, *inputs}
    state = current()
    observer = state.observer if state.undoing is None else None
    wrap = graph or (state.observer is not None and state.observer.looks_inside)
    if wrap and not isinstance(seed, Tensor):
        seed = Tensor(seed)
    elif not wrap and isinstance(seed, Tensor):
        seed = seed._data
    pending: dict[Node, Any] = {root: seed}
    borrowed = {root}  # nodes whose cotangent's memory may belong to someone else
    kept = []
    for node in reversed(nodes):
        g = pending.pop(node, None)
        if g is None:
            continue
        if node.keep:
            kept.append((node, g))
        if wrap:
            with mode(grad=graph, path=node.path, undoing=state.undoing or node):
                contributions = _pull(node, g, wanted, graph, wrap, state.kernels)
                for parent, new in contributions:
                    pending[parent] = pending[parent] + new if parent in pending else new
        else:
            contributions = _pull(node, g, wanted, graph, wrap, state.kernels)
            for parent, new in contributions:
                if parent in pending:
                    pending[parent] = np.asarray(pending[parent] + new)
                    borrowed.discard(parent)
                else:
                    pending[parent] = new
                    if new is g or new.base is not None:
                        borrowed.add(parent)
        if observer is not None:
            observer.sent(node, g, contributions)
        if not retain:
            node.saved = None
        if not quiet:
            yield Step(node, g, contributions)
    if observer is not None:
        for node, g in pending.items():
            observer.sent(node, g, ())
    if not quiet:
        for node in sorted(pending, key=_SEQ, reverse=True):
            yield Step(node, pending[node], ())
    if inputs is None:
        for node, g in kept:
            _commit(node, g, graph, True)
        for node, g in pending.items():
            if wrap or node.grad is not None or node in borrowed:
                _commit(node, g, graph, wrap or node in borrowed)
            else:
                node.grad = Tensor(g)
    return pending


def _stale(node: Node) -> RuntimeError:
    name = node.op.name if node.op else "a leaf"
    if node.saved is None:
        return RuntimeError(
            f"backward: what {name} ({node.where}) saved was freed by an earlier backward; "
            "pass retain_graph=True to that one, or compute the loss again"
        )
    return RuntimeError(
        f"backward: memory that {name} ({node.where}) saved was written after it ran, so its gradient would be "
        "wrong; call backward before the write, or compute the loss again"
    )


def _pull(
    node: Node, g: Any, wanted: set[Node] | None, graph: bool, wrap: bool, kernels: Kernels
) -> list[tuple[Node, Any]]:
    """What the cotangent of a node's output sends to its parents, by the op's rules."""
    op, plan, saved, parents = node.op, node.plan, node.saved, node.parents
    assert op is not None
    assert plan is not None
    assert saved is not None
    if not plan.calls:
        return _through(node, g, graph, wanted)
    if wrap:
        saved = _rewrap(node)
    direct = node.clean and kernels == "own" and not wrap
    if direct and wanted is None and plan.quick is not None:
        return plan.quick(g, saved, parents)
    contributions = []
    for position, rule, keys, getters in plan.calls:
        parent = parents[position]
        if wanted is not None and parent not in wanted:
            continue
        if keys is None:
            values = []
            for kind, key in getters:
                values.append(saved[key] if kind == "saved" else _named(node, g, kind, key))
        else:
            values = [g]
            for key in keys:
                values.append(saved[key])
        if rule.kernel is None:
            new = rule.fn(*values)
        elif direct:
            new = rule.kernel(*values)
        else:
            new = _as_op(rule, values) if wrap else rule.run(values, kernels)
        if type(new) is not np.ndarray or new.shape != parent.shape or new.dtype is not parent.dtype:
            if new is None:
                continue
            new = _fit(new, parent, rule, node)
        contributions.append((parent, new))
    return contributions


def _named(node: Node, g: Any, kind: str, key: Any) -> Any:
    """The value of one of a rule's names that is not saved: see ``Plan.calls``."""
    if kind == "g":
        return g
    if kind == "option":
        return node.options[key]
    if kind == "shape":
        return _shape(node.parents[key])
    if kind == "shapes":
        return [_shape(parent) for parent in node.parents]
    return key


def _shape(parent: Any) -> tuple[int, ...]:
    return parent.shape if hasattr(parent, "shape") else ()


def _fit(new: Any, parent: Node, rule: Rule, node: Node) -> Any:
    """The contribution in the primal's shape and dtype: undoes broadcasting and promotion."""
    if not isinstance(new, np.ndarray | Tensor):
        new = np.asarray(new)
    if new.shape != parent.shape:
        if rule.op.shapes != "elementwise" and "..." not in rule.op.shapes:
            raise ValueError(
                f"{rule.op.name}: the rule for {rule.argument} gave shape {new.shape}, but {rule.argument} "
                f"has shape {parent.shape} ({node.where})"
            )
        new = REGISTRY["sum_to"](new, parent.shape)
    if new.dtype != parent.dtype:
        new = REGISTRY["astype"](new, parent.dtype)
    return new


def _rewrap(node: Node) -> tuple[Any, ...]:
    """The saved arrays as tensors, each with the node that it came from."""
    assert node.op is not None
    assert node.plan is not None
    assert node.saved is not None
    wrapped: list[Any] = []
    n = len(node.parents)
    for source, value in zip(node.plan.saved, node.saved, strict=True):
        if source == n:
            value = Tensor(value, node)
        elif source > n:
            value = _residual(node, list(node.op.residuals.values())[source - n - 1], value)
        elif type(node.parents[source]) is Node:
            value = Tensor(value, node.parents[source])
        elif isinstance(value, np.ndarray):
            value = Tensor(value)
        wrapped.append(value)
    return tuple(wrapped)


class Formula(Op):
    """A rule, or a residual, seen as an op: its value by kernel or as saved, its derivative through its formula."""

    def __init__(self, rule: Rule, known: Any = None) -> None:
        free = [name for name, is_array in zip(rule.names, rule.arrays, strict=True) if not is_array]
        self.name, self.formula, self.rule, self.known = f"{rule.op.name}.{rule.argument}", rule.formula, rule, known
        self.__module__ = rule.op.__module__
        self.arrays = tuple(name for name in rule.names if name not in free)
        self.defaults = dict.fromkeys(free)
        self.shapes, self.letters, self.output = rule.op.shapes, None, "y"
        self.differentiable, self.writes, self.view, self.sequence = True, (), False, False
        self.fused = None
        self.rules, self.residuals, self._plans = {}, {}, {}
        self.takes_any_shape, self.checks_letters, self.integral = False, False, 0

    def fn(self, *values: Any, **options: Any) -> Any:
        return self.rule.fn(*self.ordered(values, options))

    def run(self, values: Sequence[Any], options: dict[str, Any], kernels: Kernels = "own") -> tuple[Any, ...]:
        if self.known is not None:
            return (self.known,)
        return (np.asarray(self.rule.run(self.ordered(values, options), kernels)),)

    def ordered(self, values: Sequence[Any], options: dict[str, Any]) -> list[Any]:
        if not self.defaults:
            return list(values)
        arrays = iter(values)
        pairs = zip(self.rule.names, self.rule.arrays, strict=True)
        return [next(arrays) if is_array else options[name] for name, is_array in pairs]


_formula = functools.cache(Formula)


def _as_op(rule: Rule, values: Sequence[Any]) -> Any:
    pairs = list(zip(rule.names, rule.arrays, values, strict=True))
    arrays = tuple([value for _, is_array, value in pairs if is_array])
    return apply(_formula(rule), arrays, {name: value for name, is_array, value in pairs if not is_array})


def _residual(node: Node, rule: Rule, value: Any) -> Any:
    """A residual as a function of the node's arguments: the value that was saved, the formula's derivative."""
    assert node.op is not None
    assert node.plan is not None
    assert node.saved is not None
    arguments: dict[str, Any] = dict(node.options)
    wrapped = dict(zip(node.plan.saved, node.saved, strict=True))
    for i, name in enumerate(node.op.arrays):
        if name in rule.names:
            parent = node.parents[i]
            arguments[name] = Tensor(wrapped[i], parent) if type(parent) is Node else parent
    values = [arguments[name] for name in rule.names]
    pairs = list(zip(rule.names, rule.arrays, values, strict=True))
    arrays = tuple(v for _, is_array, v in pairs if is_array)
    return apply(Formula(rule, value), arrays, {name: v for name, is_array, v in pairs if not is_array})


def _through(node: Node, g: Any, graph: bool, wanted: set[Node] | None) -> list[tuple[Node, Any]]:
    """Cotangents of an op without rules: its formula is recorded on its own inputs, and walked back."""
    assert node.op is not None
    assert node.saved is not None
    inputs = list(_rewrap(node))
    targets: list[tuple[Node, Node]] = []
    undoing = current().undoing or node
    with mode(grad=True, undoing=undoing):
        for i, parent in enumerate(node.parents):
            if type(parent) is Node and (wanted is None or parent in wanted):
                inputs[i] = identity(inputs[i]) if graph else Tensor(inputs[i]._data).requires_grad_()
                targets.append((parent, inputs[i].node))
            elif isinstance(inputs[i], Tensor) and not graph:
                inputs[i] = inputs[i].detach()
        out = node.op.fn(inputs, **node.options) if node.op.sequence else node.op.fn(*inputs, **node.options)
    if not isinstance(out, Tensor) or out.node is None:
        return []
    with mode(grad=graph, undoing=undoing):
        found = cotangents(out.node, g, {inner for _, inner in targets}, graph, graph)
    return [(parent, found[inner]) for parent, inner in targets if inner in found]
