"""Every mode of the engine, in one context-local place."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar, Literal

import numpy as np

from minigrad.kernels import jit

#: The folder of the package: code elsewhere is the user's.
PACKAGE = str(Path(__file__).parent.parent)


def user_site(frame: Any) -> tuple[CodeType, int]:
    """(code object, instruction offset) of the nearest line outside the package, from this frame on."""
    while frame.f_code.co_filename.startswith(PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


def line_of(site: tuple[CodeType, int] | str | None) -> str:
    """``file:line`` of a place that :func:`user_site` found, or that a file tells; an empty text for None."""
    if site is None or isinstance(site, str):
        return site or ""
    code, offset = site
    line = next((line for start, end, line in code.co_lines() if start <= offset < end), code.co_firstlineno)
    return f"{code.co_filename}:{line}"


class Observer:
    """What the one observer slot of a State holds: it is told what happens in that context. This one ignores it.

    While there is one that looks inside, backward computes with tensors, by the rules of each argument, so that it
    sees those ops, too.
    """

    __slots__ = ()
    looks_inside = True

    def ran(self, op: Any, args: Any, options: dict[str, Any], out: Any, outs: tuple[Any, ...]) -> None:
        """An op ran on tensors: it returned ``out``, or wrote it; ``outs``: the output's array, residuals' arrays."""

    def reads(self, tensor: Any) -> None:
        """A value is about to leave the engine, as a number, an array, or a truth."""

    def sent(self, node: Any, cotangent: Any, contributions: Any) -> None:
        """Backward has a node's whole cotangent, and the node's rules gave [(parent, contribution), …]."""

    def gradient(self, node: Any, write: bool) -> None:
        """``node.grad`` is about to be read, or to be replaced."""

    def uses(self, owner: Any) -> None:
        """A module or an optimizer is about to run."""

    def unseen(self, steps: int) -> int:
        """How many of the next ``steps`` compiled steps may be replayed, so that nothing is told of them."""
        return 0


class Observers(Observer):
    """Several observers in the one slot: each is told, those that came first before the others."""

    __slots__ = ("looks_inside", "members")

    def __init__(self, *members: Observer) -> None:
        self.members = members
        self.looks_inside = any(member.looks_inside for member in members)

    def ran(self, op: Any, args: Any, options: dict[str, Any], out: Any, outs: tuple[Any, ...]) -> None:
        for member in self.members:
            member.ran(op, args, options, out, outs)

    def reads(self, tensor: Any) -> None:
        for member in self.members:
            member.reads(tensor)

    def sent(self, node: Any, cotangent: Any, contributions: Any) -> None:
        for member in self.members:
            member.sent(node, cotangent, contributions)

    def gradient(self, node: Any, write: bool) -> None:
        for member in self.members:
            member.gradient(node, write)

    def uses(self, owner: Any) -> None:
        for member in self.members:
            member.uses(owner)

    def unseen(self, steps: int) -> int:
        for member in self.members:
            steps = member.unseen(steps)
        return steps


#: Whose kernels run: minigrad's own, or BLAS for the ops that have such a kernel; or none.
Kernels = Literal["own", "blas", ""]


class State:
    """The modes of one context (a thread, or an asyncio task). ``current()`` gives it.

    Entering a mode installs a changed copy, so that a mode never leaks into another context.
    """

    __slots__ = ("grad", "kernels", "observer", "path", "record", "site", "undoing")

    #: Numbers the nodes of all contexts, so that a graph may be built by several threads.
    sequence = itertools.count()

    #: Counts, for all contexts, what recorded steps cannot see: an attribute of a module or optimizer that was set, a
    #: tensor whose array was replaced.
    changes: ClassVar[np.ndarray[Any, Any]] = np.zeros(1, np.int64)

    def __init__(self) -> None:
        self.grad = True  # record nodes
        self.record = False  # nodes keep their values, for replay after a leaf was written
        self.kernels: Kernels = "own" if jit.AVAILABLE else ""  # which ones run; "": formulas in plain NumPy
        self.observer: Observer | None = None  # is told what happens
        self.path = ""  # dotted path of the module that is running
        self.site: tuple[CodeType, int] | None = None  # the user's line that called it
        self.undoing: Any = None  # the node whose rules are running, if an observer is to know

    def copy(self, **changes: Any) -> State:
        new = State.__new__(State)
        new.grad, new.record, new.kernels, new.observer = self.grad, self.record, self.kernels, self.observer
        new.path, new.site, new.undoing = self.path, self.site, self.undoing
        for name, value in changes.items():
            setattr(new, name, value)
        return new


_STATE: ContextVar[State] = ContextVar("minigrad")


def current() -> State:
    """The state of this context."""
    try:
        return _STATE.get()
    except LookupError:
        state = State()
        _STATE.set(state)
        return state


@contextlib.contextmanager
def mode(**changes: Any) -> Iterator[State]:
    """Run a block under a changed state."""
    token = _STATE.set(current().copy(**changes))
    try:
        yield _STATE.get()
    finally:
        _STATE.reset(token)


def observe(observer: Observer) -> contextlib.AbstractContextManager[State]:
    """Put an observer into the slot, beside the one that is there: then each is told, the outer one first."""
    present = current().observer
    return mode(observer=observer if present is None else Observers(present, observer))


def no_grad() -> contextlib.AbstractContextManager[State]:
    """Record nothing inside this block: results do not require gradients. Also a decorator.

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> with mg.no_grad():
    ...     (w * 2).requires_grad
    False
    """
    return mode(grad=False)


def record() -> contextlib.AbstractContextManager[State]:
    """Keep every node's value, so that a tape can be replayed after its leaves were written."""
    return mode(record=True)


def formulas() -> contextlib.AbstractContextManager[State]:
    """Run every op by its formula in plain NumPy, without kernels, as under NUMBA_DISABLE_JIT=1.

    Bits are promised within this mode, and within the other, but not across the two.
    """
    return mode(kernels="")


def blas() -> contextlib.AbstractContextManager[State]:
    """Let matrix products run through NumPy's BLAS, and their derivatives; everything else as ever.

    Nothing is promised of bits then: the last one depends on an element's position, so that units which start equal
    drift apart. ``lab.blas_drift`` shows how far. Without kernels (NUMBA_DISABLE_JIT) formulas run here too.

    >>> import minigrad as mg
    >>> with mg.blas():
    ...     mg.matmul(mg.tensor([[1.0, 2.0]]), mg.tensor([[3.0], [4.0]]))
    tensor([[11.]])
    """
    return mode(kernels="blas" if jit.AVAILABLE else "")
