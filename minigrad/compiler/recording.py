"""A program with the memory that it runs in: how it is made, and how a call replays it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.compiler.executor import Executor
from minigrad.compiler.guard import Guard
from minigrad.compiler.lower import lower, pin
from minigrad.compiler.plan import plan
from minigrad.compiler.program import Array, Number, Program, Ref, extent
from minigrad.compiler.trace import Trace
from minigrad.engine.state import State, mode
from minigrad.engine.tensor import Tensor
from minigrad.kernels.jit import address_of
from minigrad.kernels.replay import agree, replay_if_agreed

_new = Tensor.__new__
_F64 = np.dtype(np.float64)
#: What :meth:`Recording.call` returns for a call that is not its own.
NOT_MINE: Any = object()


def flatten(value: Any, leaves: list[Any]) -> Any:
    """The structure of tuples, lists and dicts, as something to compare; their leaves go to ``leaves``."""
    if isinstance(value, tuple | list):
        return type(value).__name__, tuple([flatten(v, leaves) for v in value])
    if isinstance(value, dict):
        return "dict", tuple(value), tuple([flatten(v, leaves) for v in value.values()])
    leaves.append(value)
    return ""


def rebuild(structure: Any, leaves: Any) -> Any:
    """The inverse of :func:`flatten`; ``leaves`` is an iterator."""
    if not structure:
        return next(leaves)
    if structure[0] == "dict":
        return {k: rebuild(s, leaves) for k, s in zip(structure[1], structure[2], strict=True)}
    parts = [rebuild(s, leaves) for s in structure[1]]
    return parts if structure[0] == "list" else tuple(parts)


def detached(value: Any) -> Any:
    leaves: list[Any] = []
    structure = flatten(value, leaves)
    found = [x.detach() if isinstance(x, Tensor) and not x.is_leaf else x for x in leaves]
    return rebuild(structure, iter(found))


class Recording:
    """A program, the memory that it runs in, and what it was recorded for."""

    def __init__(self, name: str, key: Any, program: Program, guard: Guard, debug: bool) -> None:
        self.name, self.key, self.program, self.guard = name, key, program, guard
        self.executor = Executor(program, debug)
        self.spec = key[1]
        flat = "tuple", (("tuple", ("",) * len(key[1])), ("dict", (), ()))
        self.flat = len(key[1]) if key[0] == flat else -1  # the number of arguments, where each is a leaf
        self.numbers: list[float] = []
        self.plain = all(entry[0] == "array" for entry in key[1])
        gradients = program.gradients
        self.dropped = [g.node for g in gradients if g.after is None]
        self.carried = [g for g in gradients if g.before is not None]
        made = [g for g in gradients if g.after is not None and (g.before is None or g.after.root is not g.before.root)]
        self.made = sorted(made, key=lambda g: g.after.root.index if g.after is not None else 0)
        self.fixed = not self.carried
        self.places = [np.empty(g.after.shape, g.after.dtype) for g in self.made if g.after is not None]
        arrays = [entry for entry in key[1] if entry[0] == "array"]
        # an array is held by its list and its tensor, a tensor by its list and its node, both by ``owned``
        table = [len(arrays), id(np.ndarray), 2 * len(self.places), 3]
        for _, dtype, shape in arrays:
            table += [id(dtype), len(shape), *shape]
        self.table, self.ended = np.array(table), np.zeros(1, np.int64)
        self.objects = np.zeros(len(arrays) + 2 * len(self.places), np.int64)  # the arrays of a call, then what it made
        self.free()
        self.end = memoryview(self.ended)  # type: ignore[arg-type]  # arrays are buffers
        self.whole = self.executor.single if self.fixed else None
        self.agree, self.go = agree[_F64], replay_if_agreed[_F64]
        self.tables: list[Array] = [guard.words, self.table, self.ended, self.objects]
        if self.whole is not None:
            self.tables.append(self.whole.array)
            self.last = len(self.whole.array) - 1  # where its END is
        written = {ref.root for call in program.calls for ref in call.writes}
        self.memory = [root.array for root in written if root.array is not None]
        self.written = list({id(c): c for c in self._cells()}.values())
        self.batch: list[Array] | None = None
        self.leaves: list[Any] = []
        self.outputs: list[Array | None] = []

    def _cells(self) -> list[list[int]]:
        places = {extent(x)[0] for x in self.memory}
        found = []
        for t in self.guard.tensors:
            base = t._data
            while isinstance(base.base, np.ndarray):
                base = base.base
            if extent(base)[0] in places:
                found.append(t.cell)
        return found

    @classmethod
    def of(
        cls,
        fn: Callable[..., Any],
        structure: Any,
        leaves: list[Any],
        arrays: list[Array],
        key: Any,
        debug: bool,
        copies: bool,
    ) -> tuple[Recording, Any]:
        """Run the function once, and record it; (recording, what the function returned)."""
        copied = [x.copy() for x in arrays]  # memory that nothing else shares, so that a value is known by it
        trace = Trace(copied)
        queue, count = iter(copied), 0
        given: list[Any] = []
        for leaf, entry in zip(leaves, key[1], strict=True):
            if entry[0] == "array":
                given.append(Tensor(next(queue)))
            elif entry[0] == "number":
                given.append(Number.of(leaf, count))
                count += 1
            else:
                given.append(leaf)
        args, kwargs = rebuild(structure, iter(given))
        with mode(observer=trace):
            result = fn(*args, **kwargs)
        returned: list[Any] = []
        shape = flatten(result, returned)
        results: list[Any] = [x for x in returned if isinstance(x, Tensor) and x not in trace.tensors]
        program = trace.program(results)
        guard = Guard(fn, trace)
        program.prune()
        program.check()
        lower(program, copies)
        pin(program)
        plan(program, reuse=not debug)
        recording = cls(fn.__name__, key, program, guard, debug)
        recording.leaves = leaves
        recording._results(shape, returned, results)
        return recording, detached(rebuild(shape, iter(returned)))

    def _results(self, shape: Any, returned: list[Any], results: list[Tensor]) -> None:
        refs = dict(zip(results, self.program.outputs, strict=True))
        self.shape = shape
        self.returned: list[Any] = [refs.get(x, x) if isinstance(x, Tensor) else x for x in returned]
        self.outputs = [
            self.executor.view(x) if isinstance(x, Ref) and x.root.index < 0 else None for x in self.returned
        ]
        self.borrows = any(isinstance(x, Ref) and x.root.index >= 0 for x in self.returned)
        self.one = shape == "" and self.outputs[0] is not None

    def call(self, args: tuple[Any, ...], state: State) -> Any:
        """What the function returns for these arguments; NOT_MINE if this recording is not for them, or not for now."""
        if len(args) != self.flat or state.kernels != "own" or state.observer is not None or not state.grad:
            return NOT_MINE
        operands = self.tables.copy()
        if self.plain:  # whether these are arrays, agree finds out
            for arg in args:
                operands.append(arg._data if type(arg) is Tensor and arg.node is None else arg)
        else:
            self.numbers = []
            for arg, entry in zip(args, self.spec, strict=True):
                kind = entry[0]
                if kind == "array":
                    operands.append(arg._data if type(arg) is Tensor and arg.node is None else arg)
                elif kind == "number":
                    if type(arg) is not float:
                        return NOT_MINE
                    self.numbers.append(arg)
                elif id(arg) != entry[1] if kind == "leaf" else type(arg) is not entry[1] or arg != entry[2]:
                    return NOT_MINE
        if not self.guard.holds():
            return NOT_MINE
        if self.whole is None:
            self.agree(*operands)
            return self.replay(operands[len(self.tables) :]) if self.end[0] == 0 else NOT_MINE
        self.go(*operands)
        if (end := self.end[0]) != self.last:
            if end < 0:
                return NOT_MINE
            self.executor.refuse(self.whole.checks[end], [*operands[len(self.tables) :], *self.places])
        return self._finish([*operands[len(self.tables) :], *self.places] if self.borrows else [])

    def replay(self, arrays: list[Array]) -> Any:
        """Run the program on these arrays; what the function returned, with values of now."""
        arguments = [*arrays, *self.places] if self.fixed else self._arguments(arrays)
        self.executor.run(arguments, self.numbers)
        return self._finish(arguments)

    def _finish(self, arguments: list[Array]) -> Any:
        """Show outside what a step has done; its result. ``arguments``: those of results that lie in them."""
        for node, tensor, _ in self.owned:
            node.grad = tensor
        for node in self.dropped:
            node.grad = None
        for cell in self.written:
            cell[0] += 1
        if self.one:
            result = _new(Tensor)
            result._data = self.outputs[0].copy()  # type: ignore[union-attr]  # ``one`` says that it is there
            result.node, result.cell = None, [0]
            return result
        values = []
        for value, array in zip(self.returned, self.outputs, strict=True):
            if array is None and isinstance(value, Ref):
                self.executor.arguments = arguments
                array = self.executor.view(value)
            values.append(value if array is None else Tensor(array.copy()))
        return rebuild(self.shape, iter(values))

    def loop(self, arrays: list[Array], size: int) -> Callable[[Array, int, int, Array], None]:
        """A function (order, begin, end, losses) that runs the steps from begin to end of an epoch, without Python.

        Each takes ``size`` rows of ``arrays``, in this order. It is good until something else runs this recording, or
        looks at gradients.
        """
        executor = self.executor
        if self.batch is None:
            self.batch = [np.empty((size, *x.shape[1:]), x.dtype) for x in arrays]
        self.free()
        arguments = [*self.batch, *self.places]
        executor.bind(arguments)
        rows = [(address_of(x), address_of(b), b.nbytes // size, 0) for x, b in zip(arrays, self.batch, strict=True)]
        data = np.array(rows).reshape(-1)
        out = self.outputs[0] if self.one and self.outputs[0] is not None and self.outputs[0].size == 1 else None
        results = np.array([0 if out is None else address_of(out), 0])
        shared = any(np.may_share_memory(x, written) for x in arrays for written in self.memory)
        inside = not shared and all(x.flags.aligned for x in arrays)
        numbers = size, len(arrays), 0 if out is None else out.nbytes, int(inside)

        def run(order: Array, begin: int, end: int, losses: Array) -> None:
            results[1] = address_of(losses)
            try:
                executor.walk(begin, end, order, data, results, numbers, arguments)
            finally:
                self._tell(executor.ended.item(1) - begin)

        return run

    def _tell(self, steps: int) -> None:
        """Show outside what so many steps have done to gradients, and that they have written."""
        if steps:
            for node, tensor, _ in self.owned:
                node.grad = tensor
            for node in self.dropped:
                node.grad = None
        for cell in self.written:
            cell[0] += max(steps, 1)

    def free(self) -> None:
        """Take new memory for gradients: somebody else may hold what the last call has made."""
        self.places = [np.empty(place.shape, place.dtype) for place in self.places]
        self.grads = [Tensor(place) for place in self.places]
        self._own()

    def _own(self) -> None:
        made = [id(x) for x in (*self.places, *self.grads)]
        self.objects[len(self.objects) - len(made) :] = made
        self.owned = [(g.node, *made) for g, *made in zip(self.made, self.grads, self.places, strict=True)]

    def _arguments(self, arrays: list[Array]) -> list[Array]:
        found: dict[int, Array] = dict(enumerate(arrays))
        for g in self.carried:
            assert g.before is not None
            found[g.before.root.index] = np.ascontiguousarray(g.node.grad._data)
        for i, g in enumerate(self.made):
            assert g.after is not None
            if g.before is not None:  # the old one is still being read
                self.places[i] = np.empty(g.after.shape, g.after.dtype)
                self.grads[i] = Tensor(self.places[i])
            found[g.after.root.index] = self.places[i]
        self._own()
        return [found[i] for i in range(len(found))]

    def snapshot(self) -> list[tuple[str, Any]]:
        """Copies of all state that the program may write, and of gradients, by name."""
        state: list[tuple[str, Any]] = [(t.name or "a tensor of the state", t._data.copy()) for t in self.guard.tensors]
        for g in self.program.gradients:
            grad = g.node.grad
            state.append((f"the gradient of {g.node.name or 'a leaf'}", None if grad is None else grad._data.copy()))
        return state

    def restore(self, state: list[tuple[str, Any]]) -> None:
        """Go back to a snapshot."""
        for t, (_, values) in zip(self.guard.tensors, state, strict=False):
            if t._data.flags.writeable:
                t._data[...] = values
        for g, (_, values) in zip(self.program.gradients, state[len(self.guard.tensors) :], strict=True):
            g.node.grad = None if values is None else Tensor(values)

    def difference(self, key: Any) -> str:
        """Why this recording is not for a call with that key."""
        if key[0] != self.key[0]:
            return "the structure of the arguments"
        for i, (mine, other) in enumerate(zip(self.key[1], key[1], strict=True)):
            if mine != other:
                return f"argument {i} (was {_shown(mine)}, now {_shown(other)})"
        return self.guard.changed() or "something"


def _shown(entry: Any) -> str:
    if entry[0] == "array":
        return f"{entry[1]} {entry[2]}"
    return "a float" if entry[0] == "number" else "a leaf" if entry[0] == "leaf" else repr(entry[2])
