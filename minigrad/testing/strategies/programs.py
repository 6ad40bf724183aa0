"""Random op graphs: programs over the registry, which run on arrays and on tensors, and print as code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from minigrad.engine.op import REGISTRY, Op
from minigrad.engine.shapes import Domain, reals
from minigrad.engine.tensor import Tensor, from_numpy
from minigrad.ops.arithmetic import add, mul
from minigrad.ops.broadcast import sum as total
from minigrad.testing.samples import GAP
from minigrad.testing.strategies.arrays import Draw, Shape, _distinct, arrays

Array = NDArray[Any]
LARGEST = 256  # elements of a value


@dataclass(frozen=True)
class Line:
    """One call: of ``op`` on values by name ("x0" an input, "v0" an earlier line), numbers and None."""

    name: str
    op: Op
    args: tuple[str | float | None, ...]
    options: dict[str, Any]

    def __str__(self) -> str:
        args = [a if isinstance(a, str) else repr(a) for a in self.args]
        args = [f"[{', '.join(args)}]"] if self.op.sequence else args
        for key, value in self.options.items():
            if not _default(self.op, key, value):
                args.append(f"{key}={_code(value)}")
        ours = self.op.__module__.startswith("minigrad.")
        called = f"mg.{self.op.name}" if ours else f"mg.REGISTRY[{self.op.name!r}]"
        return f"{self.name} = {called}({', '.join(args)})"


def _default(op: Op, name: str, value: Any) -> bool:
    default = op.defaults.get(name)
    return type(value) is type(default) and not isinstance(value, np.ndarray) and bool(value == default)


def _code(value: Any) -> str:
    return f"np.{value!r}" if isinstance(value, np.ndarray) else repr(value)


@dataclass(frozen=True)
class Program:
    """A drawn function of arrays or tensors: call it with as many as it has ``inputs``, sample values that fit it.

    Its result is its last line: one float if any of its lines is differentiable. ``str`` is its code, ready to run
    where ``mg`` and ``np`` are imported.
    """

    inputs: tuple[Array, ...]
    lines: tuple[Line, ...]
    constants: frozenset[str] = frozenset()  # inputs that an op takes which has no rule for them

    def __call__(self, *inputs: Any) -> Any:
        return self.values(*inputs)[self.lines[-1].name]

    def values(self, *inputs: Any) -> dict[str, Any]:
        """Every input ("x0", "x1", …) and every line's result ("v0", "v1", …), by name."""
        if len(inputs) != len(self.inputs):
            raise TypeError(f"the program takes {len(self.inputs)} inputs, got {len(inputs)}")
        values = {f"x{i}": x for i, x in enumerate(inputs)}
        for line in self.lines:
            values[line.name] = _run(line, values)
        return values

    def leaves(self) -> list[Tensor]:
        """The sample inputs as leaf tensors; floats require a gradient, unless an op has none for them."""
        learns = [x.dtype.kind == "f" and f"x{i}" not in self.constants for i, x in enumerate(self.inputs)]
        return [from_numpy(x.copy(), requires_grad=yes) for x, yes in zip(self.inputs, learns, strict=True)]

    def __str__(self) -> str:
        names = [f"x{i}" for i in range(len(self.inputs))]
        shown = [f"    # {n}: {x.dtype} {x.shape}" for n, x in zip(names, self.inputs, strict=True)]
        lines = [f"    {line}" for line in self.lines]
        return "\n".join([f"def program({', '.join(names)}):", *shown, *lines, f"    return {self.lines[-1].name}"])

    __repr__ = __str__

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(f"{self}\n# inputs: {list(self.inputs)!r}")


def _run(line: Line, values: dict[str, Any]) -> Any:
    args = [values[a] if isinstance(a, str) else a for a in line.args]
    return line.op(args, **line.options) if line.op.sequence else line.op(*args, **line.options)


def drawable() -> list[Op]:
    """The ops of minigrad that a program may call: those that write nothing."""
    return [op for op in REGISTRY.values() if op.__module__.startswith("minigrad.ops.") and not op.writes]


def _usable(op: Op) -> Op:
    """The op, or ValueError if nothing says what shapes it takes."""
    if op.writes or not (op.cases or op.shapes == "elementwise" or op.letters):
        why = "writes its arguments" if op.writes else 'has shapes="free" and no cases'
        raise ValueError(f"programs: {op.name} {why}, so no call of it can be drawn")
    return op


@st.composite
def programs(
    draw: Draw, ops: Sequence[Op] | None = None, lines: int = 6, dtypes: Sequence[str] = ("float32", "float64")
) -> Program:
    """Programs of up to so many calls of ``ops`` (all that minigrad has, unless given), and sums of what they leave.

    An argument is an earlier value that lies in the domain which the op declares for it, away from kinks and ties,
    perhaps scaled by a power of two; or else a new input drawn from that domain. So values are finite, and
    differentiable where the ops are. Ops of free shapes are called on the shapes of their ``cases``. Raises ValueError
    for an op that writes, or that has neither such shapes nor cases.

    A small one, printed::

        def program(x0):
            # x0: float32 ()
            v0 = mg.tanh(x0)
            v1 = mg.tanh(v0)
            return v1

    >>> import minigrad as mg
    >>> from hypothesis import find
    >>> program = find(programs([mg.tanh], lines=3), lambda p: len(p.lines) > 1)
    >>> "v0 = mg.tanh(x0)" in str(program), program(*program.inputs).dtype.kind
    (True, 'f')
    """
    growing = _Growing(draw, dtypes)
    choice = st.sampled_from(drawable() if ops is None else [_usable(op) for op in ops])
    growing.grow(draw(choice))
    while len(growing.lines) < lines and draw(st.integers(0, 4)):  # a call is one block, that shrinking can leave out
        growing.grow(draw(choice))
    growing.finish()
    return Program(tuple(growing.inputs), tuple(growing.lines), frozenset(growing.constants))


class _Growing:
    """A program while it is drawn, with the values that it has on its inputs."""

    def __init__(self, draw: Draw, dtypes: Sequence[str]) -> None:
        self.draw, self.dtypes = draw, dtypes
        self.inputs: list[Array] = []
        self.constants: set[str] = set()
        self.lines: list[Line] = []
        self.values: dict[str, Array] = {}

    def add(self, op: Op, args: Sequence[str | float | None], options: dict[str, Any]) -> str:
        line = Line(f"v{len(self.lines)}", op, tuple(args), options)
        self.values[line.name] = np.asarray(_run(line, self.values))
        self.lines.append(line)
        return line.name

    def grow(self, op: Op) -> None:
        """Call an op."""
        shapes, options = self.draw(st.sampled_from(op.cases)) if op.cases else ((), {})
        args: list[str | float | None] = []
        if op.shapes == "elementwise":
            shape: Shape | None = tuple(self.draw(st.lists(st.integers(1, 3), max_size=3))) if not self.values else ()
            for name in op.arrays:
                assert shape is not None
                new = self.argument(op, name, args, partial(_joined, shape), partial(tuple, shape))
                args.append(new)
                shape = _joined(shape, self.values[new].shape)
        elif shapes:
            for i, needed in enumerate(shapes):
                name = op.arrays[0] if op.sequence else op.arrays[i]
                fits = partial(_equal, needed)
                args.append(None if needed is None else self.argument(op, name, args, fits, partial(tuple, needed)))
        else:
            assert op.letters is not None
            known: dict[str, Any] = {}
            for name, term in zip(op.arrays, op.letters.text.split("->")[0].split(","), strict=True):
                if term.endswith("?") and self.draw(st.booleans()):
                    args.append(None)
                    continue
                letters = term.rstrip("?")
                new = self.argument(
                    op, name, args, partial(_matches, letters, known), partial(self.sized, letters, known)
                )
                args.append(new)
                known = _matches(letters, known, self.values[new].shape) or known
        self.add(op, args, options)

    def argument(
        self,
        op: Op,
        name: str,
        others: Sequence[Any],
        fits: Callable[[Shape], Any],
        fresh: Callable[[], Shape],
    ) -> str:
        """The name of a value for an argument: an earlier one whose shape fits, one scaled for it, or a new input."""
        domain = op.domains.get(name, reals(-2, 2))
        apart = [self.values[o] for o in others if isinstance(o, str)] if domain.distinct else []
        found = []
        constant = op.differentiable and bool(op.rules) and name not in op.rules and domain.kind == "f"
        for earlier, value in reversed(self.values.items()) if not constant else ():
            if value.size <= LARGEST and fits(value.shape) is not None and (factor := _factor(value, domain, apart)):
                found.append((earlier, factor))
        place = self.draw(st.integers(0, len(found)))
        if place < len(found):
            earlier, factor = found[place]
            return earlier if factor == 1 else self.add(mul, (earlier, factor), {})
        shape, dtype = fresh(), self.draw(st.sampled_from(self.dtypes))
        if domain.distinct and domain.kind == "f":
            near = [float(v) for a in apart for v in a.flat]
            new = _distinct(self.draw, domain, shape, near).astype(dtype)
        else:
            new = self.draw(arrays(domain, shape, dtype if domain.kind == "f" else None))
        self.inputs.append(new)
        self.values[called := f"x{len(self.inputs) - 1}"] = new
        if constant:
            self.constants.add(called)
        return called

    def sized(self, letters: str, known: dict[str, Any]) -> Shape:
        """A shape for letters, of sizes that are known or drawn."""
        lead = known.get("...", ()) if "..." in letters else ()
        return (*lead, *[known[c] if c in known else self.draw(st.integers(1, 3)) for c in letters.replace("...", "")])

    def finish(self) -> None:
        """Sum what no line has used, so that every float takes part in the result."""
        used = {a for line in self.lines for a in line.args}
        loose = [n for n, v in self.values.items() if n[0] == "v" and n not in used and v.dtype.kind == "f"]
        sums = [n if self.values[n].shape == () else self.add(total, (n,), {}) for n in loose]
        result = sums[0] if sums else ""
        for other in sums[1:]:
            result = self.add(add, (result, other), {})
        if result and result != self.lines[-1].name:
            self.add(mul, (result, 1.0), {})


def _joined(a: Shape, b: Shape) -> Shape | None:
    try:
        shape = np.broadcast_shapes(a, b)
    except ValueError:
        return None
    return shape if np.prod(shape) <= LARGEST else None


def _equal(a: Shape, b: Shape) -> Shape | None:
    return b if tuple(a) == b else None


def _matches(term: str, known: dict[str, Any], shape: Shape) -> dict[str, Any] | None:
    """The sizes of the letters, if the shape fits a term such as "...nk" with those that are known."""
    letters = term.replace("...", "")
    lead = len(shape) - len(letters)
    if lead < 0 or (lead and "..." not in term):
        return None
    sizes = dict(known)
    for letter, size in [("...", shape[:lead])] * ("..." in term) + list(zip(letters, shape[lead:], strict=True)):
        if sizes.setdefault(letter, size) != size:
            return None
    return sizes


def _factor(value: Array, domain: Domain, apart: Sequence[Array]) -> float:
    """1 or the power of two with which a value lies in a domain, away from kinks and ties; 0 if there is none."""
    if domain.kind != "f":
        kinds = "b" if domain.kind == "b" else "iu"
        inside = value.dtype.kind in kinds and np.all((value >= domain.low) & (value <= domain.high))
        return float(bool(inside))
    if value.dtype.kind != "f" or not np.isfinite(value).all():
        return 0
    factor, bound = 1.0, min(-domain.low, domain.high)
    if bound > 0 and (largest := np.abs(value).max(initial=0)) > bound:
        factor = 2.0 ** -np.ceil(np.log2(largest / bound))
    wide = value.astype(np.float64) * factor
    inside = np.all((wide >= domain.low) & (wide <= domain.high))
    away = all(np.all(np.abs(wide - kink) >= GAP) for kink in domain.kinks)
    if not inside or not away:
        return 0
    if domain.distinct:
        numbers = np.sort(np.concatenate([a.ravel().astype(np.float64) for a in (wide, *apart)]))
        if np.any(np.diff(numbers) < GAP / 4):
            return 0
    return float(factor)
