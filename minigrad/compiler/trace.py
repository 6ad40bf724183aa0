"""Recording a step: what it calls, and whose memory these calls read and write.

A value is known by its memory: a view, a detached tensor or a tensor wrapped anew are the same value, so nothing has
to follow tensors around. All memory that was seen stays alive until the recording ends, so that no address is used
twice.
"""

from __future__ import annotations

import bisect
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.compiler.program import Array, Call, Gradient, Program, Ref, Root, extent
from minigrad.engine.backward import Formula
from minigrad.engine.state import PACKAGE, Observer, current, line_of, user_site
from minigrad.engine.tensor import Tensor
from minigrad.kernels.jit import address_of


class TraceError(RuntimeError):
    """A step does something that a recording would freeze."""


class Trace(Observer):
    """Observes a step while it runs, and makes a :class:`Program` of what it saw."""

    __slots__ = ("alive", "calls", "gradients", "inputs", "owners", "refs", "roots", "starts", "state", "tensors")

    def __init__(self, inputs: Sequence[Array]) -> None:
        self.starts: list[int] = []  # addresses of blocks of memory, sorted, and the blocks
        self.roots: list[tuple[int, Root]] = []
        self.refs: dict[int, Ref] = {}  # by the id of an array, which stays alive
        self.alive: list[Any] = []
        self.calls: list[Call] = []
        self.gradients: dict[Any, Gradient] = {}
        self.owners: dict[Any, tuple[Any, ...]] = {}
        self.tensors: dict[Tensor, Array] = {}  # those of before, and their arrays
        self.state: list[Root] = []
        self.inputs = [Root("input", x.nbytes, name=f"argument {i}", index=i) for i, x in enumerate(inputs)]
        for x, root in zip(inputs, self.inputs, strict=True):
            self._add(x, root)

    # Memory

    def _add(self, array: Array, root: Root) -> None:
        self.alive.append(array)
        if array.size:
            low, _high = extent(array)
            at = bisect.bisect(self.starts, low)
            self.starts.insert(at, low)
            self.roots.insert(at, (low, root))

    def known(self, array: Array) -> Ref | None:
        """Where an array lies, if its memory has been seen."""
        ref = self.refs.get(id(array))
        if ref is not None or array.size == 0:
            return ref
        address = address_of(array)
        at = bisect.bisect(self.starts, address) - 1
        if at < 0:
            return None
        start, root = self.roots[at]
        if address >= start + root.size:
            return None
        self.alive.append(array)
        ref = self.refs[id(array)] = Ref(root, address - start, array.shape, array.strides, array.dtype)
        return ref

    def _new(self, array: Array, kind: Any, name: str = "") -> Ref:
        """The place of an array whose memory has not been seen: all of the memory that it is a view of."""
        base = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        low, high = extent(base)
        root = Root(kind, high - low, None if kind == "temporary" else base, name)
        if kind != "temporary":
            root.name = name or f"state {len(self.state)}"
            self.state.append(root)
        self._add(base, root)
        return self.known(array) or Ref(root, 0, array.shape, array.strides, array.dtype)

    def _ref(self, value: Any) -> Any:
        """An argument as a call keeps it."""
        if isinstance(value, Tensor):
            array = value._data
            ref = self.known(array)
            if ref is None:
                self.tensors[value] = array
                ref = self._new(array, "state", value.name)
            elif ref.root.kind == "state" and ref.root.array is not None and value not in self.tensors:
                self.tensors[value] = array
            return ref
        if isinstance(value, np.ndarray):
            return self.known(value) or self._new(value, "state")
        return value

    # What is observed

    def ran(self, op: Any, args: Any, options: dict[str, Any], out: Any, outs: tuple[Any, ...]) -> None:
        refs = tuple([self._ref(arg) for arg in args])
        state = current()
        frame = sys._getframe(2)
        inside = state.site is not None and frame.f_code.co_filename.startswith(PACKAGE)
        site = state.site if inside else user_site(frame)
        options = {name: self._ref(x) if isinstance(x, np.ndarray) else x for name, x in options.items()}
        if op.writes:
            written = tuple([refs[i] for i in op.written if isinstance(refs[i], Ref)])
            for ref in written:
                if ref.root.kind == "input":
                    raise TraceError(f"{op.name} ({line_of(site)}) writes {ref.root} of the step: copy it first")
            self.calls.append(Call(op, refs, options, (), written, site, state.path))
            return
        found = [self.known(x) for x in outs]
        if found and found[0] is not None:
            if not isinstance(op, Formula) or op.known is None:  # a residual that the op gave is no call
                self.calls.append(Call(op, refs, options, (found[0],), (), site, state.path, view=True))
            return
        places = tuple([self.known(x) or self._new(x, "temporary") for x in outs])
        if all(x.size for x in outs):
            self.calls.append(Call(op, refs, options, places, (), site, state.path))
        else:
            for ref, x in zip(places, outs, strict=True):  # nothing to compute: these never change
                ref.root.kind, ref.root.array, ref.root.start = "state", x, address_of(x)
                self.state.append(ref.root)

    def reads(self, tensor: Tensor) -> None:
        if tensor.node is None and self.known(tensor._data) is None:
            return
        raise TraceError(
            f"{line_of(user_site(sys._getframe(2)))}: this step is recorded, so a value that changes from call to call "
            "cannot be read here: it would stay what it is now for ever. Use mg.where to choose between tensors, "
            "return the value from the step, or leave this line outside"
        )

    def gradient(self, node: Any, write: bool) -> None:
        if node in self.gradients:
            return
        present, before = node.grad is not None, None
        if present:
            before = self.known(node.grad._data)
            if before is None:
                before = self._new(node.grad._data, "grad", f"{node.name}.grad" if node.name else "")
                before.root.array = None
                self.state.remove(before.root)
        self.gradients[node] = Gradient(node, not write, present, before)

    def uses(self, owner: Any) -> None:
        if owner not in self.owners:
            self.owners[owner] = tuple(vars(owner).values())

    # The end

    def program(self, outputs: Sequence[Tensor]) -> Program:
        """The program of what was seen, for these results."""
        for g in self.gradients.values():
            if g.node.grad is not None:
                g.after = self._ref(g.node.grad)
        refs = [self._ref(out) for out in outputs]
        return Program(self.calls, self.inputs, refs, list(self.gradients.values()), self.state)
