"""Running a program: stretches of machine code, walked without Python, and what Python does between them."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from minigrad.compiler.plan import ALIGNMENT, dead_after
from minigrad.compiler.program import Array, Call, Number, Program, Ref, Root
from minigrad.engine.backward import Formula
from minigrad.kernels import replay as walking
from minigrad.kernels.jit import Launch, address_of
from minigrad.kernels.pool import POOL

_F64 = np.dtype(np.float64)
_REPLAY, _BATCHES, _MOVE = walking.replay, walking.replay_batches, walking.move


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
        self.parts: list[Code | Callable[[], None]] = []
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
            if apart and len(launches) > 1:
                self.parts.append(self._together(launches))
                continue
            for launch in launches:
                self._launch(launch, call)

    def _launch(self, launch: Launch, call: Call) -> None:
        code, kernel = self._code(), launch.kernel
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

    def _together(self, launches: Sequence[Launch]) -> Callable[[], None]:
        """Launches that threads may share."""

        def run() -> None:
            bound = [tuple(self.view(x) if isinstance(x, Ref) else x for x in launch.operands) for launch in launches]
            POOL.run([launch.kernel.unlocked(*operands) for launch, operands in zip(launches, bound, strict=True)])

        return run

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

    def codes(self) -> Iterator[Code]:
        return iter([part for part in self.parts if isinstance(part, Code)])
