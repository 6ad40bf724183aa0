"""Running a program: stretches of machine code, walked without Python, and what Python does between them."""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from minigrad.compiler.plan import ALIGNMENT, dead_after, rounded
from minigrad.compiler.program import Array, Call, Number, Program, Ref, Root
from minigrad.engine.backward import Formula
from minigrad.kernels import replay as walking
from minigrad.kernels.jit import Launch, address_of
from minigrad.kernels.pool import POOL

_F64 = np.dtype(np.float64)
_REPLAY, _BATCHES, _PATCH, _WALK, _MOVE = (
    walking.replay,
    walking.replay_batches,
    walking.patch,
    walking.walk,
    walking.move,
)

#: Elements from which several threads do what is elementwise: a tanh of so many takes 0.03 ms, and handing half of
#: them to another thread that is awake less than 0.01.
_SHARED = 1 << 16

_ARENA = Root("temporary", 0)


class Code:
    """A stretch of machine code. ``checks``: at which positions it may end early, and the calls that then raise."""

    def __init__(self) -> None:
        self.words: list[int] = []
        self.patches: list[int] = []
        self.checks: dict[int, Call] = {}
        self.array = np.zeros(1, np.int64)

    def close(self) -> None:
        shift = 1 + len(self.patches)
        patches = list(self.patches)
        patches[1::3] = [position + shift for position in patches[1::3]]
        self.array = np.array([len(patches) // 3, *patches, *self.words, walking.END], np.int64)
        self.checks = {position + shift: call for position, call in self.checks.items()}


class _Span(NamedTuple):
    """Bytes from ``start`` to ``end`` of a memory that nothing else lies in; None: of what is not the program's own."""

    memory: Root | None
    start: float
    end: float

    def meets(self, other: _Span) -> bool:
        return self.memory is other.memory and self.start < other.end and other.start < self.end


class Stage:
    """Launches that need nothing of each other, shared among threads: ``codes``, one for each."""

    def __init__(self) -> None:
        self.shares: list[list[tuple[Launch, Call]]] = []
        self.read: list[_Span] = []
        self.written: list[_Span] = []
        self.codes: list[Code] = []
        self.calls: list[Callable[[], None]] = []

    def takes(self, read: Sequence[_Span], written: Sequence[_Span]) -> bool:
        """Whether a launch that reads and writes this memory needs nothing of these, nor they of it."""
        return not any(
            x.meets(y) for ours, theirs in ((self.written, (*read, *written)), (self.read, written))
            for x in ours for y in theirs
        )  # fmt: skip

    def add(self, launches: Sequence[tuple[Launch, Call]], read: Sequence[_Span], written: Sequence[_Span]) -> None:
        """Parts of a piece of work, one a thread. What is one thread's comes first, while others share the rest."""
        self.shares += [[] for _ in range(len(launches) - len(self.shares))]
        for share, launch in zip(self.shares, launches, strict=False):
            share.insert(0 if len(launches) == 1 else len(share), launch)
        self.read += read
        self.written += written

    def close(self, encode: Callable[[Code, Launch, Call], None]) -> None:
        for share in self.shares:
            code = Code()
            for launch, call in share:
                encode(code, launch, call)
            code.close()
            self.codes.append(code)
            self.calls.append(_WALK.unlocked(code.array, np.zeros(1, np.int64)))

    def run(self, arguments: Sequence[Array]) -> None:
        for code in self.codes:
            if code.patches:
                _PATCH[_F64](code.array, *arguments)
        POOL.run(self.calls)


class Executor:
    """A program with memory: ``run(arguments, numbers)`` replays it.

    ``debug`` fills temporaries with NaN when nothing needs them any more (plan without reuse, then).
    """

    def __init__(self, program: Program, debug: bool = False) -> None:
        self.program = program
        memory = np.zeros(program.arena + ALIGNMENT, np.uint8)
        start = -address_of(memory) % ALIGNMENT
        self.arena = memory[start : start + program.arena]
        self.start = address_of(memory) + start
        self.arguments: Sequence[Array] = ()
        self.numbers: Sequence[float] = ()
        self.ended = np.zeros(2, np.int64)
        self.alive: list[Any] = [memory]
        self.parts: list[Code | Stage | Callable[[], None]] = []
        gradients = program.gradients  # those that were not there before have memory that nothing else lies in
        self.made = {g.after.root for g in gradients if g.after} - {g.before.root for g in gradients if g.before}
        ends = dead_after(program) if debug else {}
        outputs = {ref.root for ref in program.outputs}
        for i, call in enumerate(program.calls):
            self._add(call)
            for root in ends.get(i, ()):
                if root not in outputs:
                    self._fill(root)
        for part in self.parts:
            if isinstance(part, Code):
                part.close()
            elif isinstance(part, Stage):
                part.close(self._launch)
        self.single = self.parts[0] if len(self.parts) == 1 and isinstance(self.parts[0], Code) else None
        self.launch = _REPLAY[_F64]

    # Making it

    def _code(self) -> Code:
        if not self.parts or not isinstance(self.parts[-1], Code):
            self.parts.append(Code())
        last = self.parts[-1]
        assert isinstance(last, Code)
        return last

    def address(self, ref: Ref, code: Code | None = None, position: int = 0) -> int:
        """Of an array that is no argument; the word at a position of ``code`` is patched for one that is."""
        if ref.root.index >= 0:
            assert code is not None
            code.patches += [ref.root.index, position, ref.offset]
            return 0
        return self._place(ref.root) + ref.offset

    def _place(self, root: Root) -> int:
        if root.array is None:
            return self.start + root.place
        return root.start

    def _add(self, call: Call) -> None:
        if call.view:
            return
        if call.launches is None:
            self._python(call)
            return
        for apart, neighbours in itertools.groupby(call.launches, lambda launch: launch.apart):
            launches = list(neighbours)
            for together in [launches] if apart else [[launch] for launch in launches]:
                self._share(call, together)

    def _share(self, call: Call, launches: list[Launch]) -> None:
        """Add a piece of work, in parts that threads may share, to the last stage or to a new one; else to a code."""
        if len(launches) == 1:
            launches = self._cut(launches[0])
        last = self.parts[-1] if self.parts else None
        stage = last if isinstance(last, Stage) and "e" not in launches[0].kernel.codes else None
        alone = len(launches) == 1
        read, written = ([], []) if alone and stage is None else self._spans(launches)
        if stage is not None and not stage.takes(read, written):
            stage = None
        if stage is None and not alone:
            stage = Stage()
            self.parts.append(stage)
        if stage is None:
            self._launch(self._code(), launches[0], call)
        else:
            stage.add([(launch, call) for launch in launches], read, written)

    def _spans(self, launches: Sequence[Launch]) -> tuple[list[_Span], list[_Span]]:
        """The memory that launches read and write."""
        reads: set[_Span] = set()
        writes: set[_Span] = set()
        for launch in launches:
            for operand, written in zip(launch.operands, launch.kernel.writes, strict=False):
                root = operand.root
                if root in self.made:
                    span = _Span(root, 0, root.size)
                elif root.index >= 0:  # anywhere
                    span = _Span(None, 0, math.inf)
                elif root.array is None:
                    span = _Span(_ARENA, root.place, root.place + root.size)
                else:
                    span = _Span(None, root.start, root.start + root.size)
                (writes if written else reads).add(span)
        return list(reads), list(writes)

    def _cut(self, launch: Launch) -> list[Launch]:
        """The launch in as many parts as there are threads, if it is elementwise and large."""
        count = launch.operands[-1]
        if POOL.size == 1 or not launch.kernel.elementwise or count < _SHARED:
            return [launch]
        part = rounded(-(-count // POOL.size))

        def cut(operand: Any, start: int) -> Any:
            if isinstance(operand, Ref) and operand.size == count:
                return operand._replace(offset=operand.offset + start * operand.dtype.itemsize)
            return operand

        return [
            launch._replace(
                operands=(*[cut(x, start) for x in launch.operands[:-1]], min(part, count - start)), apart=True
            )
            for start in range(0, count, part)
        ]

    def _launch(self, code: Code, launch: Launch, call: Call) -> None:
        kernel = launch.kernel
        body: list[int] = []
        for operand, letter in zip(launch.operands, kernel.codes, strict=False):
            body.append(self.address(operand, code, len(code.words) + 2 + len(body)))
            if letter in "MB":
                body += [*operand.shape, *(stride // operand.dtype.itemsize for stride in operand.strides)]
        body += [int(number) for number in launch.operands[len(kernel.codes) :]]
        code.words += [kernel.replay(launch.dtype), 2 + len(body), *body]
        for operand, letter in zip(launch.operands, kernel.codes, strict=False):
            if letter == "e":
                code.checks[len(code.words)] = call
                code.words += [walking.CHECK, 3, self.address(operand)]

    def _move(self, target: Ref, source: Ref) -> None:
        code = self._code()
        at = len(code.words)
        words = [_MOVE.replay(_F64), 5, self.address(target, code, at + 2), self.address(source, code, at + 3)]
        code.words += [*words, source.size * source.dtype.itemsize]

    def _fill(self, root: Root) -> None:
        self.parts.append(lambda: self.arena[root.place : root.place + root.size].fill(255))

    def _python(self, call: Call) -> None:
        if call.op.name in ("copy", "assign"):
            source, target = call.args[-1], (*call.outs, *call.writes)[0]
            alike = isinstance(source, Ref) and (source.shape, source.dtype) == (target.shape, target.dtype)
            if alike and source.contiguous and target.contiguous and source.root is not target.root:
                call.launches = []
                self._move(target, source)
                return

        def run() -> None:
            results = self.evaluate(call)
            for ref, value in zip(call.outs, results, strict=False):
                np.copyto(self.view(ref), value, casting="no")

        self.parts.append(run)

    # Running it

    def view(self, ref: Ref) -> Array:
        """An array of the program, in its memory as it is now."""
        root = ref.root
        if root.index >= 0:
            return ref.on(self.arguments[root.index].reshape(-1).view(np.uint8))
        if root.array is None:
            return ref.on(self.arena[root.place : root.place + root.size])
        memory = (ctypes.c_char * root.size).from_address(self._place(root))
        return ref.on(memory)

    def _value(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return self.view(value)
        return value.now(self.numbers) if isinstance(value, Number) else value

    def evaluate(self, call: Call) -> tuple[Any, ...]:
        """What Python computes for a call, by the same kernels and formulas as without a recording."""
        op = call.op
        values = [self._value(value) for value in call.args]
        options = {name: self._value(value) for name, value in call.options.items()}
        if op.writes:
            op.write(values, options)
            return ()
        if isinstance(op, Formula) and op.known is not None:
            return (np.asarray(op.fn(*values, **options)),)
        return op.run(values, options)

    def run(self, arguments: Sequence[Array], numbers: Sequence[float]) -> None:
        """Replay. Raises what the op raises whose operands are bad; what ran before it has been done, as ever."""
        code = self.single
        if code is not None:
            self.launch(code.array, self.ended, *arguments)
            if code.checks and self.ended.item(0) in code.checks:
                self._raise(code, arguments)
            return
        self.arguments, self.numbers = arguments, numbers
        for part in self.parts:
            if isinstance(part, Code):
                self.launch(part.array, self.ended, *arguments)
                if part.checks and self.ended.item(0) in part.checks:
                    self._raise(part, arguments)
            elif isinstance(part, Stage):
                part.run(arguments)
            else:
                part()

    def bind(self, arguments: Sequence[Array]) -> None:
        """Give the arguments, once for many walks of a program that is one stretch."""
        code = self.single
        assert code is not None
        words = code.array
        for argument, position, offset in words[1 : 1 + 3 * words[0]].reshape(-1, 3).tolist():
            words[position] = address_of(arguments[argument]) + offset

    def walk(
        self, begin: int, end: int, order: Array, data: Array, results: Array, numbers: tuple[int, ...], arguments: Any
    ) -> None:
        """Run the batches from ``begin`` to ``end``: see :func:`minigrad.kernels.replay.replay_batches`."""
        code = self.single
        assert code is not None
        _BATCHES[_F64](code.array, self.ended, order, data, results, begin, end, *numbers)
        if self.ended.item(1) < end:
            self._raise(code, arguments)

    def _raise(self, code: Code, arguments: Sequence[Array]) -> NoReturn:
        self.refuse(code.checks[self.ended.item(0)], arguments)

    def refuse(self, call: Call, arguments: Sequence[Array]) -> NoReturn:
        """Raise what a call raises whose kernel has found its operands to be bad."""
        self.arguments = arguments
        self.evaluate(call)
        raise AssertionError(f"{call.op.name} refused operands that it takes")
