"""What a recording takes for granted, and how to see that it is still so."""

from __future__ import annotations

import inspect
import operator
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.compiler.trace import Trace
from minigrad.engine.state import State
from minigrad.kernels.jit import address_of
from minigrad.kernels.pool import POOL

_is = operator.is_


def counts_changes(kind: type) -> bool:
    """Whether setting an attribute of such an object is counted in ``State.changes``: modules and optimizers do."""
    return any("__setattr__" in vars(base) and base.__module__.startswith("minigrad.") for base in kind.__mro__)


class Guard:
    """What a recording depends on besides its arguments; ``changed()`` names what is not as it was."""

    def __init__(self, fn: Callable[..., Any], trace: Trace) -> None:
        plain = inspect.unwrap(fn)
        plain = getattr(plain, "__func__", plain)
        code = getattr(plain, "__code__", None)
        names = [n for n in code.co_names if n in plain.__globals__] if code else []
        names = [n for n in names if not inspect.ismodule(plain.__globals__[n])]
        cells = getattr(plain, "__closure__", None) or ()
        self.cells = [cell for cell in cells if _has_contents(cell)]
        self.contents = [cell.cell_contents for cell in self.cells]
        self.scope = plain.__globals__ if code else {}
        self.names, self.values = names, [self.scope[n] for n in names]
        owners = [fn.__self__] if hasattr(fn, "__self__") and hasattr(fn.__self__, "__dict__") else []
        for owner in [*self.contents, *self.values]:
            if hasattr(owner, "__dict__") and not isinstance(owner, type) and not callable(owner):
                owners.append(owner)
        for owner in owners:
            if not inspect.ismodule(owner):
                trace.uses(owner)
        self.owners = list(trace.owners)
        self.attributes = [(vars(owner), tuple(vars(owner).values())) for owner in self.owners]
        for owner, before in trace.owners.items():
            if not _alike(before, tuple(vars(owner).values())):
                warnings.warn(
                    f"an attribute of {type(owner).__name__} changed while {fn.__name__} was recorded: "
                    "that is Python's doing, and will not happen again in a replay",
                    RuntimeWarning,
                    stacklevel=5,
                )
        # what counts its changes need not be looked at
        self.foreign = [
            pair for owner, pair in zip(self.owners, self.attributes, strict=True) if not counts_changes(type(owner))
        ]
        self.tensors, self.arrays = list(trace.tensors), list(trace.tensors.values())
        self.presence = [(g.node, g.present) for g in trace.gradients.values() if g.read]
        self.plain = not (self.names or self.foreign or self.presence)
        self.threads = POOL.size
        # what is looked at in memory: the counter of changes, and the contents of cells (after an object's header)
        words = [1 + len(self.cells), address_of(State.changes), int(State.changes[0])]
        for cell, value in zip(self.cells, self.contents, strict=True):
            words += [id(cell) + object.__basicsize__, id(value)]
        self.words = np.array(words)

    def holds(self) -> bool:
        """Whether all is as it was that ``words`` does not say, object by object; :meth:`changed` looks closer."""
        if self.threads != POOL.size:
            return False
        if self.plain:
            return True
        if self.names and not all(map(_is, map(self.scope.get, self.names), self.values)):
            return False
        if self.foreign:
            for attributes, values in self.foreign:
                if len(attributes) != len(values) or not all(map(_is, attributes.values(), values)):
                    return False
        if self.presence:
            for node, present in self.presence:
                if (node.grad is not None) is not present:
                    return False
        return True

    def changed(self) -> str:
        """What changed, or an empty text."""
        for t, array in zip(self.tensors, self.arrays, strict=True):
            if t._data is not array:
                return f"the memory of {t.name or 'a tensor'}"
        for owner, (attributes, values) in zip(self.owners, self.attributes, strict=True):
            now = tuple(attributes.values())
            if not _alike(now, values):
                names = [n for n, a, b in zip(attributes, now, values, strict=False) if not _alike((a,), (b,))]
                return f"{type(owner).__name__}.{names[0] if names else 'its attributes'}"
        for cell, value in zip(self.cells, self.contents, strict=True):
            if not _alike((cell.cell_contents,), (value,)):
                return f"a variable of the closure, which was {value!r:.40}"
        for name, value in zip(self.names, self.values, strict=True):
            if not _alike((self.scope.get(name),), (value,)):
                return f"the global {name}"
        for node, present in self.presence:
            if (node.grad is not None) is not present:
                return f"whether {node.name or 'a leaf'} has a gradient"
        if self.threads != POOL.size:
            return "the number of threads"
        self.words[2] = State.changes[0]
        return ""


def _has_contents(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 (raises where it is empty)
    except ValueError:
        return False
    return True


def _alike(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """The same objects, or equal numbers and texts."""
    plain = (int, float, str)
    return len(a) == len(b) and all(
        x is y or (isinstance(x, plain) and type(x) is type(y) and x == y) for x, y in zip(a, b, strict=True)
    )
