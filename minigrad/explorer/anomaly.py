"""``mg.detect_anomaly``: the first number that is none, where it came from, and parameters that learn nothing."""

from __future__ import annotations

import contextlib
import sys
import warnings
import zlib
from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from minigrad.engine.state import Observer, current, line_of, observe, user_site
from minigrad.engine.tape import Node
from minigrad.engine.tensor import Tensor

Array = np.ndarray[Any, Any]

#: By op: (what is wrong with its operands where the result is not finite, how to say so).
FORWARD: MappingProxyType[str, tuple[Any, str]] = MappingProxyType(
    {
        "log": (lambda x: x <= 0, "log of 0 or of a negative number: add a small constant, or use log_softmax"),
        "log1p": (lambda x: x <= -1, "log1p of −1 or less"),
        "div": (lambda a, b: b == 0, "division by 0"),
        "sqrt": (lambda x: x < 0, "sqrt of a negative number"),
        "exp": (lambda x: x > 0, "overflow in exp: subtract the maximum first, or use logsumexp or softmax"),
        "expm1": (lambda x: x > 0, "overflow in expm1"),
        "pow": (lambda x, b: (x == 0) | (x < 0), "0 to a negative power, or a negative number to a broken one"),
    }
)
#: The same for rules: operands at which the derivative has no bound.
BACKWARD: MappingProxyType[str, tuple[Any, str]] = MappingProxyType(
    {
        "sqrt": (lambda x: x == 0, "the derivative of sqrt at 0 is infinite: add a small constant inside"),
        "log": (lambda x: x == 0, "the derivative of log at 0 is infinite"),
        "div": (lambda a, b: b == 0, "division by 0"),
        "pow": (lambda x, b: x == 0, "the derivative of a power below 1 at 0 is infinite"),
    }
)


class AnomalyError(FloatingPointError):
    """A number that is none: ``op``, ``where`` (the user's file:line), ``backward`` (in a rule) and ``cause``."""

    def __init__(self, op: str, where: str, text: str, cause: str, backward: bool) -> None:
        super().__init__(f"{op} ({where}), {'backward' if backward else 'forward'}: {text}\n  likely: {cause}")
        self.op, self.where, self.cause, self.backward = op, where, cause, backward


@contextlib.contextmanager
def detect_anomaly() -> Iterator[Anomaly]:
    """Look at every number inside this block, forward, backward and in updates; compiled steps run eagerly.

    Raises :class:`AnomalyError` for the first NaN or infinity, with the op, the user's line, the operands' shapes, the
    values and where they are, and the likely cause; RuntimeError when memory that an op saved was written behind the
    engine's back. At the end it warns (RuntimeWarning) of parameters whose gradient was missing, or exactly zero.

    >>> import minigrad as mg
    >>> with mg.detect_anomaly():
    ...     mg.log(mg.tensor([1.0, 0.0]))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    minigrad.explorer.anomaly.AnomalyError: log (...), forward: the result (2,) is -inf at [1], 1 of 2 elements; x (2,)
      likely: log of 0 or of a negative number: add a small constant, or use log_softmax
    """
    anomaly = Anomaly()
    with observe(anomaly):
        yield anomaly
    for note in anomaly.notes():
        warnings.warn(note, RuntimeWarning, stacklevel=3)


class Anomaly(Observer):
    """The observer of :func:`detect_anomaly`. It holds on to no tape."""

    __slots__ = ("moved", "owners", "quiet", "reached", "used")
    looks_inside = False

    def __init__(self) -> None:  # nodes by their sequence number, which no other node ever has
        self.quiet: dict[int, str] = {}  # why a node's cotangent is exactly zero
        self.used: set[int] = set()  # leaves that an op took
        self.reached: dict[int, str] = {}  # leaves with a cotangent, and why it was zero
        self.moved: set[int] = set()  # leaves whose cotangent was not zero once
        self.owners: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # modules that ran

    def uses(self, owner: Any) -> None:
        if hasattr(owner, "named_parameters"):
            self.owners[owner] = True

    def ran(self, op: Any, args: Any, options: dict[str, Any], out: Any, outs: tuple[Any, ...]) -> None:
        if current().undoing is not None:
            return  # a rule's own arithmetic: what it gives is looked at when it is sent
        results = outs[:1] if outs else [args[i]._data for i in op.written if args[i] is not None]
        for array in results:
            if not _finite(array):
                where = out.node.where if outs and out.node is not None else line_of(user_site(sys._getframe(2)))
                values = [getattr(arg, "_data", arg) for arg in args]
                names = [op.arrays[0]] * len(args) if op.sequence else op.arrays
                text = f"the result {_bad(array)}; {_operands(names, values)}"
                raise AnomalyError(op.name, where, text, _forward(op, names, values, array), False)
        for arg in args:
            if isinstance(arg, Tensor) and arg.node is not None and arg.node.op is None:
                self.used.add(arg.node.seq)
        if outs and out.node is not None and out.node.saved:
            out.node.checksums = _sums(out.node.saved)

    def sent(self, node: Node, cotangent: Any, contributions: Sequence[tuple[Node, Any]]) -> None:
        g = getattr(cotangent, "_data", cotangent)
        name = node.op.name if node.op is not None else node.name or "leaf"
        if node.saved and node.checksums is not None and node.checksums != _sums(node.saved):
            raise RuntimeError(
                f"{name} ({node.where}): memory that it saved for backward was written through NumPy since it ran, so "
                "the gradient would be wrong: copy the array first, or write with mg.assign"
            )
        if not _finite(g):
            cause = "contributions to it overflow when added, or the gradient given to backward is not finite"
            raise AnomalyError(name, node.where, f"its whole cotangent {_bad(g)}", cause, True)
        if node.op is None:
            self.reached[node.seq] = self.quiet.pop(node.seq, "every contribution to it was exactly zero")
            if np.count_nonzero(g):
                self.moved.add(node.seq)
            return
        for parent, contribution in contributions:
            new = getattr(contribution, "_data", contribution)
            if not _finite(new):
                names, values = _saved(node)
                text = f"the cotangent that it sends to {_label(node, parent)} {_bad(new)}; {_operands(names, values)}"
                raise AnomalyError(name, node.where, text, _backward(node, g, new, names, values), True)
            if not np.count_nonzero(new):
                self.quiet[parent.seq] = _silence(node) if np.count_nonzero(g) else self.quiet.get(node.seq, "")
            elif self.quiet:
                self.quiet.pop(parent.seq, None)
        self.quiet.pop(node.seq, None)

    def notes(self) -> list[str]:
        """A sentence for each parameter of the modules that ran whose gradient was missing, or exactly zero."""
        found = {}
        for module in list(self.owners) if self.reached else ():
            for _name, parameter in module.named_parameters():
                node = parameter.node
                if node is None or node.seq in self.moved:
                    continue
                what = f"parameter {node.name} {node.shape}"
                if node.seq in self.reached:
                    found[node] = f"{what}: its gradient is exactly zero: {self.reached[node.seq]}"
                elif node.seq in self.used:
                    found[node] = f"{what} gets no gradient: it is detached: no loss depends on the ops that used it"
                else:
                    found[node] = f"{what} gets no gradient: it is unused: no op took it"
        return list(found.values())


def _finite(array: Any) -> bool:
    return array.dtype.kind != "f" or bool(np.count_nonzero(np.isfinite(array)) == array.size)


def _sums(saved: Sequence[Any]) -> list[int]:
    return [zlib.crc32(np.ascontiguousarray(x).data) if isinstance(x, np.ndarray) else 0 for x in saved]


def _bad(array: Array) -> str:
    """Shape, the first values that are not finite, and where."""
    at = np.argwhere(~np.isfinite(array))
    shown = ", ".join(f"{array[tuple(i)]} at {i.tolist()}" for i in at[:3])
    return f"{array.shape} is {shown}{', …' if len(at) > 3 else ''}, {len(at)} of {array.size} elements"


def _operands(names: Sequence[str], values: Sequence[Any]) -> str:
    return ", ".join(
        f"{name} {np.shape(value)}" for name, value in zip(names, values, strict=True) if value is not None
    )


def _forward(op: Any, names: Sequence[str], values: Sequence[Any], result: Array) -> str:
    for name, value in zip(names, values, strict=True):
        if isinstance(value, np.ndarray) and name not in op.writes and not _finite(value):
            return f"{name} is not finite itself: it came in so, as a constant or a leaf"
    if op.writes:
        return "the update explodes: the gradient or the learning rate is too large"
    return _listed(FORWARD, op.name, values, ~np.isfinite(result)) or f"overflow of {result.dtype}"


def _backward(node: Node, g: Array, new: Array, names: Sequence[str], values: Sequence[Any]) -> str:
    if g.shape == new.shape and not g[~np.isfinite(new)].any():
        return (
            "0 times an infinite derivative: the where trap, if a where masks this result: "
            "mask the operand as well, so that the branch not taken is harmless"
        )
    assert node.op is not None
    operands = [dict(zip(names, values, strict=True)).get(name) for name in node.op.arrays]
    return (
        _listed(BACKWARD, node.op.name, operands, ~np.isfinite(new)) or f"the rule is wrong, or {new.dtype} overflows"
    )


def _listed(table: Any, name: str, values: Sequence[Any], bad: Array) -> str:
    """The cause that a table gives, where it holds at a bad element."""
    if name not in table or any(value is None for value in values):
        return ""
    wrong, text = table[name]
    at = wrong(*[np.asarray(value) for value in values])
    with contextlib.suppress(ValueError):  # an operand of another shape than the cotangent's: anywhere will do
        at = np.broadcast_to(at, bad.shape) & bad
    return str(text) if np.any(at) else ""


def _saved(node: Node) -> tuple[list[str], list[Any]]:
    """Operands of a node as far as it saved them, by name; for a sqrt, whose rule has y, that too."""
    assert node.op is not None
    assert node.plan is not None
    assert node.saved is not None
    n = len(node.parents)
    arrays = [node.op.arrays[0]] * n if node.op.sequence else list(node.op.arrays)
    names = [*arrays, node.op.output, *node.op.residuals]
    found = {names[i]: value for i, value in zip(node.plan.saved, node.saved, strict=True)}
    if node.op.name == "sqrt":  # 0 where y is
        found.setdefault("x", found.get("y"))
    return list(found), list(found.values())


def _label(node: Node, parent: Node) -> str:
    assert node.op is not None
    at = next(i for i, p in enumerate(node.parents) if p is parent)
    return parent.name or (node.op.arrays[0] if node.op.sequence else node.op.arrays[at])


def _silence(node: Node) -> str:
    """Why a node with a cotangent sends exactly zero."""
    assert node.op is not None
    if node.op.name in ("relu", "clip"):
        return f"dead: {node.op.name} ({node.where}) is flat for every input"
    if node.op.name in ("linear", "matmul", "mul"):
        return f"{node.op.name} ({node.where}) multiplies by zeros: weights or twins that are all zero"
    return f"{node.op.name} ({node.where}) sends exactly zero"
