"""What a recorded step is: memory, and calls of ops that read and write it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, Literal, NamedTuple

import numpy as np

from minigrad.engine.op import Op
from minigrad.engine.state import line_of
from minigrad.kernels.jit import Launch, address_of

Array = np.ndarray[Any, Any]


def extent(array: Array) -> tuple[int, int]:
    """The addresses where the memory of an array begins and ends."""
    if array.flags.c_contiguous:
        start = address_of(array)
        return start, start + array.nbytes
    return np.lib.array_utils.byte_bounds(array)


#: input: an argument of the step. state: memory that existed before, and is read or written where it is.
#: grad: the gradient of a leaf. temporary: the program's own.
Kind = Literal["input", "state", "grad", "temporary"]


class Root:
    """A block of memory. ``array``: the memory itself, where it has a place of its own; inputs come with each call."""

    __slots__ = ("array", "index", "kind", "name", "place", "size", "start")

    def __init__(self, kind: Kind, size: int, array: Array | None = None, name: str = "", index: int = -1) -> None:
        self.kind, self.size, self.array, self.name = kind, size, array, name
        self.index = index  # which array of each call it is; −1 where it is none
        self.place = 0  # bytes from the start of the arena, for temporaries
        self.start = 0 if array is None else extent(array)[0]  # address, for memory of its own

    def __repr__(self) -> str:
        return self.name or f"<{self.kind} of {self.size} bytes>"


class Ref(NamedTuple):
    """An array of a program: its memory, and how it lies there (bytes)."""

    root: Root
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def contiguous(self) -> bool:
        return self.strides == contiguous_strides(self.shape, self.dtype.itemsize) or not self.size

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def whole(self) -> bool:
        """Whether it is all of its memory, in C order."""
        return self.contiguous and self.offset == 0 and self.size * self.dtype.itemsize == self.root.size

    def on(self, memory: Any) -> Array:
        """The array, where ``memory`` (a buffer) is its root's."""
        return np.ndarray(self.shape, self.dtype, memory, self.offset, self.strides)


def contiguous_strides(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """The strides of a C-contiguous array, in bytes."""
    strides = []
    for size in reversed(shape):
        strides.append(itemsize)
        itemsize *= size
    return tuple(reversed(strides))


class Number(float):
    """A Python float among the arguments, while a step is recorded: it stays a number that every call gives anew.

    Arithmetic with numbers gives such numbers; with tensors, tensors. Reading it in any other way would freeze it.
    """

    __slots__ = ("formula",)
    formula: tuple[Any, ...]  # (index of the argument,) or (function, operands…)

    @classmethod
    def of(cls, value: float, *formula: Any) -> Number:
        number = cls(value)
        number.formula = formula
        return number

    def now(self, arguments: Sequence[float]) -> Any:
        """Its value for these arguments."""
        first, *operands = self.formula
        if not operands:
            return arguments[first]
        return first(*[x.now(arguments) if isinstance(x, Number) else x for x in operands])


def _arithmetic(name: str) -> None:
    plain = getattr(float, name)

    def method(self: Number, *others: Any) -> Any:
        value = plain(self, *others)
        return value if value is NotImplemented else Number.of(value, plain, self, *others)

    setattr(Number, name, method)


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "pow", "rpow", "neg", "pos", "abs"):
    _arithmetic(f"__{_name}__")


@dataclass(eq=False)
class Call:
    """An op that the step called.

    ``args``: a Ref, a number or None for each argument. ``outs``: output and residuals; ``writes``: what it writes in
    place. ``launches`` are the kernels that do it, with a Ref for each array, or None where Python does. A ``view``
    does nothing: its output lies in its argument's memory.
    """

    op: Op
    args: tuple[Any, ...]
    options: dict[str, Any]
    outs: tuple[Ref, ...]
    writes: tuple[Ref, ...]
    site: tuple[CodeType, int] | None
    path: str
    view: bool = False
    launches: list[Launch] | None = None
    scratch: list[Root] = field(default_factory=list)
    note: str = ""

    def reads(self) -> list[Ref]:
        return [value for value in (*self.args, *self.options.values()) if isinstance(value, Ref)]

    def roots(self) -> list[Root]:
        """All memory that it touches."""
        return [ref.root for ref in (*self.reads(), *self.outs, *self.writes)] + self.scratch

    @property
    def flops(self) -> int:
        """Multiplications and additions of a product; one for each element otherwise."""
        if self.view:
            return 0
        of = getattr(self.op, "rule", self.op)
        letters = getattr(of, "op", of).letters
        size = max((ref.size for ref in (*self.outs, *self.writes)), default=0)
        if letters is None or self.op.name not in ("matmul", "linear", "linear.x", "linear.w"):
            return size
        inner = [ref.shape for ref in self.reads()]
        # the axis that is summed over is in both operands and not in the result, whichever of the three rules it is
        return 2 * math.isqrt(math.prod(math.prod(shape) for shape in inner[:2]) * self.outs[0].size)


@dataclass
class Gradient:
    """What the step does to the gradient of a leaf.

    ``read``: it needs that there was one, or none, as ``present`` says; ``before`` is its memory. ``after``: what
    ``.grad`` is then, or None.
    """

    node: Any
    read: bool
    present: bool
    before: Ref | None
    after: Ref | None = None


class Program:
    """A recorded step, ready to be lowered: calls in order, and what they work on.

    ``print(program)`` shows a line for each call.
    """

    def __init__(
        self, calls: list[Call], inputs: list[Root], outputs: list[Ref], gradients: list[Gradient], state: list[Root]
    ) -> None:
        self.calls, self.inputs, self.outputs, self.gradients, self.state = calls, inputs, outputs, gradients, state
        self.arena = 0
        self.unplanned = 0

    def prune(self) -> None:
        """Drop the calls that no output, gradient or write needs."""
        needed = {ref.root for ref in self.outputs}
        needed |= {g.after.root for g in self.gradients if g.after is not None}
        kept = []
        for call in reversed(self.calls):
            written = {ref.root for ref in call.writes}
            if (
                any(root.kind != "temporary" for root in written)
                or not needed.isdisjoint(written)
                or not needed.isdisjoint(ref.root for ref in call.outs)
            ):
                kept.append(call)
                needed.update(ref.root for ref in call.reads())
        self.calls = kept[::-1]

    def check(self) -> None:
        """Raise AssertionError unless everything is written before it is read, and no input is written."""
        known = {*self.inputs, *self.state, *(g.before.root for g in self.gradients if g.before is not None)}
        for call in self.calls:
            for ref in (*call.reads(), *call.writes):
                assert ref.root in known, f"{call.op.name} reads {ref} before it is written"
            for ref in call.writes:
                assert ref.root.kind != "input", f"{call.op.name} writes the argument {ref.root}"
            if not call.view:
                for ref in call.outs:
                    assert ref.root.kind in ("temporary", "grad"), f"{call.op.name} gives {ref.root}"
            known.update(ref.root for ref in call.outs)
        for ref in self.outputs:
            assert ref.root in known, f"an output, {ref}, is never written"

    def lifetimes(self) -> dict[Root, tuple[int, int]]:
        """For each temporary, the first and the last call that touch it; the outputs live to the end."""
        lives: dict[Root, tuple[int, int]] = {}
        for i, call in enumerate(self.calls):
            for root in call.roots():
                if root.kind == "temporary":
                    lives[root] = lives.get(root, (i, i))[0], i
        for ref in self.outputs:
            if ref.root in lives:
                lives[ref.root] = lives[ref.root][0], len(self.calls)
        return lives

    # Reading it

    def __len__(self) -> int:
        return len(self.calls)

    def __str__(self) -> str:
        names: dict[Root, str] = {}

        def name(value: Any) -> str:
            if isinstance(value, Ref):
                return value.root.name or names.setdefault(value.root, f"%{len(names)}")
            return "a number" if isinstance(value, Number) else f"{value:g}" if isinstance(value, float) else str(value)

        rows: list[tuple[str, ...]] = []
        for call in self.calls:
            if call.view:
                kind = "view"
            elif call.launches is None:
                kind = "python"
            else:
                kind = " ".join(dict.fromkeys(launch.kernel.__name__.strip("_") for launch in call.launches))
            targets = [*call.outs, *call.writes]
            left = ", ".join(dict.fromkeys(map(name, targets)))
            right = f"{call.op.name}({', '.join(map(name, call.args))})"
            target = targets[0] if targets else None
            rows.append(
                (
                    left,
                    right,
                    call.op.formula,
                    f"{target.dtype} {target.shape}" if target is not None else "",
                    kind + (f" ({call.note})" if call.note else ""),
                    "" if call.view or target is None else _place(target.root),
                    call.path,
                    line_of(call.site).replace("\\", "/").rpartition("/")[2],
                )
            )
        return "\n".join([*_columns(rows, "="), "", *self._totals()])

    def _totals(self) -> Iterator[str]:
        yield f"{len(self.calls)} lines, {sum(not c.view for c in self.calls)} of them do something, " + (
            f"{sum(c.launches is None and not c.view for c in self.calls)} in Python"
        )
        yield f"{sum(c.flops for c in self.calls):,} operations"
        yield (
            f"{self.arena:,} bytes for intermediate results, {self.unplanned:,} without reuse; "
            f"{sum(root.size for root in self.state if root.array is not None):,} of state"
        )


def _place(root: Root) -> str:
    return f"arena {root.place}" if root.kind == "temporary" else root.kind


def _columns(rows: Iterable[tuple[str, ...]], sign: str) -> Iterator[str]:
    rows = [(row[0], sign, *row[1:]) for row in rows]
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(map(str.ljust, row, widths)).rstrip()
