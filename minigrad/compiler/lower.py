"""From calls of ops to launches of kernels.

No op has a second description for this: what its kernel's function launches is recorded (see ``kernels.jit.recorded``)
for stand-in arrays that lie as the real ones do. That is all there is to do, if every array that a launch reads is an
argument, or was written by a launch before, or is a constant (read-only memory). Otherwise NumPy has done something on
the way, and the call stays Python's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.compiler.program import Array, Call, Number, Program, Ref, Root, contiguous_strides
from minigrad.engine.backward import Formula
from minigrad.engine.op import REGISTRY, Op
from minigrad.kernels.jit import Launch, address_of, recorded


def lower(program: Program, copies: bool = True) -> None:
    """Find the launches of every call that has any. ``copies``: let results be written where they would be copied."""
    if copies:
        _merge(program)
    known: dict[Any, Call] = {}
    for call in program.calls:
        if not call.view:
            key = _signature(call)
            if key in known:
                _imitate(call, known[key])
            else:
                _lower(call)
                if key is not None:
                    known[key] = call


def _merge(program: Program) -> None:
    """A copy of something that nobody uses afterwards is no copy: both are one memory."""
    last: dict[Root, int] = {}
    for i, call in enumerate(program.calls):
        for root in call.roots():
            last[root] = i
    kept = {ref.root for ref in program.outputs}
    merged: dict[Root, Root] = {}
    for i, call in enumerate(program.calls):
        if call.op.name != "copy" or call.view or not isinstance(call.args[0], Ref):
            continue
        source, target = call.args[0], call.outs[0]
        memory = merged.get(source.root, source.root)
        if (
            memory.kind == target.root.kind == "temporary"
            and memory not in kept
            and last[memory] == i
            and source.whole
            and target.whole
        ):
            merged[target.root] = memory
            last[memory] = last[target.root]
            call.view, call.note = True, "no copy"
            if target.root in kept:
                kept.add(memory)

    for call in program.calls:
        if not merged.keys().isdisjoint(call.roots()):
            call.args = tuple([_moved(x, merged) for x in call.args])
            call.outs, call.writes = (tuple([_moved(x, merged) for x in refs]) for refs in (call.outs, call.writes))
            call.options = {name: _moved(value, merged) for name, value in call.options.items()}
    program.outputs = [_moved(x, merged) for x in program.outputs]
    for g in program.gradients:
        g.before, g.after = _moved(g.before, merged), _moved(g.after, merged)


def _function(call: Call) -> tuple[Callable[..., Any], Op] | None:
    """The function whose launches do this call, and the op that says which arrays it takes."""
    op = call.op
    if isinstance(op, Formula):
        if op.known is not None or op.rule.kernel is None:
            return None
        rule = op.rule.kernel
        return (lambda *values, **options: rule(*op.ordered(values, options))), op.rule.op
    kernel = op.kernel or op.native
    return None if kernel is None else (kernel, op)


def _arrays(call: Call, owner: Op, values: Sequence[Any]) -> Sequence[Any] | None:
    """The values as the kernel takes them, or None."""
    if call.writes:
        return values if owner.is_uniform(values) else None
    if owner.native is None or owner.kernel is not None:
        return owner._ready(values, call.op.arrays)
    kinds = {value.dtype for value in values if isinstance(value, np.ndarray)}
    return values if len(kinds) == 1 and kinds <= {np.dtype(np.float32), np.dtype(np.float64)} else None


def _lower(call: Call) -> None:
    found = _function(call)
    if found is None or any(isinstance(value, Number) for value in (*call.args, *call.options.values())):
        return
    function, owner = found
    memory: dict[Root, Array] = {}
    for root in dict.fromkeys(ref.root for ref in call.reads()):
        memory[root] = np.zeros(max(root.size, 1), np.uint8)

    def stand_in(value: Any) -> Any:
        return value.on(memory[value.root]) if isinstance(value, Ref) else value

    values = [stand_in(value) for value in call.args]
    options = {name: stand_in(value) for name, value in call.options.items()}
    try:
        ready = _arrays(call, owner, values)
        if ready is None:
            return
        out, launches = recorded(function, ready, options)
    except Exception:  # stand-ins are zeros, which an op may refuse: Python runs this call, and raises what it must
        return
    places = [(address_of(block), root) for root, block in memory.items()]
    outs = () if call.writes else out if isinstance(out, tuple) else (out,)
    scratch: list[Root] = []
    lowered = []
    for launch in launches:
        arrays, kernel = launch.operands[: len(launch.kernel.codes)], launch.kernel
        for array, writes in zip(arrays, kernel.writes, strict=True):
            if writes and _find(array, places) is None:
                base = array if array.base is None else array.base
                root = Root("temporary", base.nbytes)
                scratch.append(root)
                places.append((address_of(base), root))
        operands: list[Any] = []
        for array in arrays:
            ref = _find(array, places)
            if ref is None:
                owned: Any = array  # a read-only view of memory that NumPy has filled is no constant
                while (base := getattr(owned, "base", None)) is not None:
                    owned = base
                if not isinstance(owned, np.ndarray) or owned.flags.writeable:
                    return
                root = Root("state", array.nbytes, array, "a constant")
                ref = Ref(root, 0, array.shape, array.strides, array.dtype)
            operands.append(ref)
        lowered.append(Launch(kernel, launch.dtype, (*operands, *launch.operands[len(arrays) :]), launch.apart))
    if not lowered or len(outs) < len(call.outs):
        return
    renamed: dict[Root, Root] = {}
    for ref, array in zip(call.outs, outs, strict=False):
        place = _find(array, places) if isinstance(array, np.ndarray) else None
        if place is None or place.root not in scratch or place._replace(root=ref.root) != ref:
            return
        renamed[place.root] = ref.root
    call.launches = [
        Launch(kernel, dtype, tuple([_moved(x, renamed) for x in operands]), apart)
        for kernel, dtype, operands, apart in lowered
    ]
    call.scratch = [root for root in scratch if root not in renamed]


def _signature(call: Call) -> Any:
    """What decides the launches of a call, but for the memory; None where it cannot be compared."""
    roots: dict[Root, int] = {}

    def describe(value: Any) -> Any:
        if isinstance(value, Ref):
            return roots.setdefault(value.root, len(roots)), value.root.size, *value[1:]
        return type(value), value

    options = [(name, describe(value)) for name, value in call.options.items()]
    rule = getattr(call.op, "rule", call.op), getattr(call.op, "known", None) is None
    key = (*rule, tuple(map(describe, call.args)), tuple(options))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _imitate(call: Call, other: Call) -> None:
    """Give a call the launches of another one with its signature, on its own memory."""
    if other.launches is None:
        return
    moved = dict(zip(other.roots(), call.roots(), strict=False))  # of the other, scratch is left
    for root in other.scratch:
        moved[root] = Root("temporary", root.size)
        call.scratch.append(moved[root])
    call.launches = [
        Launch(kernel, dtype, tuple([_moved(x, moved) for x in operands]), apart)
        for kernel, dtype, operands, apart in other.launches
    ]


def _moved(value: Any, roots: dict[Root, Root]) -> Any:
    """A Ref on another memory, if ``roots`` has one for its own; what is no Ref as it is."""
    if type(value) is Ref and (root := roots.get(value.root)) is not None:
        return Ref(root, *value[1:])
    return value


def _find(array: Array, places: Sequence[tuple[int, Root]]) -> Ref | None:
    address = address_of(array)
    for start, root in places:
        if start <= address < start + max(root.size, 1):
            return Ref(root, address - start, array.shape, array.strides, array.dtype)
    return None


def pin(program: Program) -> None:
    """Give every gradient memory that comes with each call: its own, where it can be the place that it is made in."""
    taken = {ref.root for ref in program.outputs}
    index = len(program.inputs)
    for g in program.gradients:
        if g.before is not None and any(g.before.root in call.roots() for call in program.calls):
            g.before.root.index, index = index, index + 1
        elif g.before is not None and (g.after is None or g.after.root is not g.before.root):
            g.before = None
        after = g.after
        if after is None or (g.before is not None and after.root is g.before.root):
            continue
        if not after.whole or after.root in taken or after.root.kind != "temporary":
            size = after.size * after.dtype.itemsize
            strides = contiguous_strides(after.shape, after.dtype.itemsize)
            target = Ref(Root("grad", size), 0, after.shape, strides, after.dtype)
            program.calls.append(Call(REGISTRY["copy"], (after,), {}, (target,), (), None, ""))
            g.after = after = target
        after.root.kind, after.root.name = "grad", f"{g.node.name or 'leaf'}.grad"
        after.root.index, index = index, index + 1
        taken.add(after.root)
