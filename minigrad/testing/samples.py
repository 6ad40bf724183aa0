"""Samples of an op, made from its own declaration: shapes from its letters or cases, values from its domains.

Needs Hypothesis. All is drawn by coins: into integers Hypothesis mixes constants of the modules that happen to be
loaded, so that a seed would not say which samples there are, and it keeps what it has read in the working directory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st

from minigrad.engine.op import Op
from minigrad.engine.shapes import Domain, reals
from minigrad.engine.tensor import from_numpy, tensor
from minigrad.testing.bits import Array

Draw = Callable[[st.SearchStrategy[Any]], Any]
T = TypeVar("T")

COIN = st.booleans()

GAP = 0.05  # how far samples stay from kinks
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
PLAIN = (0.0, 1.0, 2.0, 0.5, -1.0)  # numbers that an op may treat in a way of their own
SMALL, DOUBLE = (1, 2, 3), (F64,)


@dataclass(repr=False)
class Sample:
    """An op with arguments (arrays, None or Python numbers) and options; ``rng()`` for cotangents and directions.

    ``only``: the positions that a gradient is asked of; all that have a derivative unless given.

    >>> import minigrad as mg
    >>> print(Sample(mg.clip, [np.array([0.5, -3.0])], {"low": -1.0}))
    clip(x, low=-1.0), where
      x = [ 0.5, -3. ] (float64, shape (2,))
    """

    op: Op
    args: list[Any]
    options: dict[str, Any]
    seed: int = 0
    only: tuple[int, ...] | None = None
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = [self.op.arrays[0]] * len(self.args) if self.op.sequence else list(self.op.arrays)

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    @property
    def active(self) -> list[int]:
        """Positions of the arguments that have a derivative."""
        derived = self.op.differentiable and not self.op.rules
        found = [i for i, a in enumerate(self.args) if is_float(a) and (derived or self.names[i] in self.op.rules)]
        return found if self.only is None else [i for i in found if i in self.only]

    def __call__(self, args: Sequence[Any] | None = None) -> Any:
        args = self.args if args is None else args
        return self.op(args, **self.options) if self.op.sequence else self.op(*args, **self.options)

    def value(self, args: Sequence[Any] | None = None) -> Array:
        """The output as an array; of an op that writes, what it has written to copies, one after the other."""
        args = self.args if args is None else args
        if self.op.writes:
            args = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
        tensors = [from_numpy(a) if isinstance(a, np.ndarray) else a for a in args]
        out: Array = self(tensors).data
        if not self.op.writes:
            return out
        written = [args[i] for i in self.op.written if args[i] is not None]
        return written[0] if len(written) == 1 else np.concatenate([np.ravel(a) for a in written])

    def tensors(self) -> list[Any]:
        """The arguments with copies of the arrays as constant tensors."""
        return [tensor(a) if isinstance(a, np.ndarray) else a for a in self.args]

    def refused(self) -> bool:
        """Whether an array has no elements, and the op refuses that with an error that names it, as it may."""
        if all(a.size for a in self.args if isinstance(a, np.ndarray)):
            return False
        try:
            self.value()
        except (ValueError, IndexError) as error:
            return str(error).startswith(f"{self.op.name}: ")
        return False

    def cotangent(self) -> Array:
        y = self.value()
        return np.asarray(self.rng().uniform(0.5, 2, y.shape) * self.rng().choice([-1, 1], y.shape), y.dtype)

    def with_args(self, args: list[Any]) -> Sample:
        return replace(self, args=args)

    def as_dtype(self, dtype: Any) -> Sample:
        return self.with_args([a.astype(dtype) if is_float(a) else a for a in self.args])

    def rounded(self, digits: int) -> Sample | None:
        """The same with values of so many decimals, or None where that leaves the domains."""
        args = [np.asarray(np.round(a, digits), a.dtype) if is_float(a) else a for a in self.args]
        seen: set[float] = set()
        for a, domain in zip(args, self.domains, strict=True):
            if not is_float(a):
                continue
            near = any(np.any(np.abs(a - kink) < GAP) for kink in domain.kinks)
            if near or np.any((a < domain.low) | (a > domain.high)):
                return None
            if domain.distinct and (len(set(a.flat)) < a.size or not seen.isdisjoint(a.flat)):
                return None
            seen.update(a.flat if domain.distinct else ())
        return self.with_args(args)

    @property
    def domains(self) -> list[Domain]:
        return [self.op.domains.get(name, reals(-2, 2)) for name in self.names]

    def __str__(self) -> str:
        """The call, and a line for each argument: shape, dtype and, of short ones, all the values."""
        names = [f"{n}[{i}]" for i, n in enumerate(self.names)] if self.op.sequence else self.names
        options = [f"{key}={value!r}" for key, value in self.options.items()]
        call = f"{self.op.name}({', '.join([*([self.names[0]] if self.op.sequence else names), *options])})"
        return "\n".join([f"{call}, where", *(f"  {n} = {shown(a)}" for n, a in zip(names, self.args, strict=True))])

    __repr__ = __str__

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))  # Hypothesis and notebooks would print every field


def shown(a: Any) -> str:
    """An array in a line: its dtype and shape, and its values, or the first of them."""
    if not isinstance(a, np.ndarray):
        return repr(a)
    values = " ".join(np.array2string(a, separator=", ", threshold=24, edgeitems=3, floatmode="unique").split())
    return f"{values} ({a.dtype}, shape {a.shape})"


def is_float(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def leaves_of(s: Sample) -> list[Any]:
    """The arguments as the op takes them: leaves where a gradient is asked for, constants, numbers."""
    return [
        from_numpy(a, requires_grad=i in s.active) if isinstance(a, np.ndarray) else a for i, a in enumerate(s.args)
    ]


def pull(s: Sample, g: Any, **how: Any) -> list[Array]:
    """The gradients of the active arguments for a cotangent g."""
    leaves = leaves_of(s)
    s(leaves).backward(g, **how)
    return [leaves[i].grad.data for i in s.active]


# Drawing


def samples(
    op: Op, sizes: tuple[int, ...] = (1, 2, 3, 5), dtypes: tuple[Any, ...] = (F32, F64, None)
) -> st.SearchStrategy[Sample]:
    """A strategy for samples of ``op``, with axes of these sizes where the declaration leaves them open.

    It does for elementwise ops, and for letters without cases. dtype None mixes both, and makes some operands numbers.

    >>> import minigrad as mg
    >>> from hypothesis import find
    >>> find(samples(mg.add, sizes=(1, 4)), lambda s: s.value().shape == (1, 4)).names
    ['a', 'b']
    """
    return _samples(op, sizes, dtypes)


@st.composite
def _samples(draw: Draw, op: Op, sizes: tuple[int, ...], dtypes: tuple[Any, ...]) -> Sample:
    shapes, options = _shapes(draw, op, sizes)
    seed = _pick(draw, range(2**12))
    dtype = _pick(draw, dtypes)
    rng = np.random.default_rng(seed)
    sample = Sample(op, [None] * len(shapes), dict(options), seed)
    kinds = [dtype or (F32, F64)[rng.integers(2)] for _ in shapes]
    args: list[Any] = [
        None if shape is None else _values(rng, domain, shape, kind)
        for shape, domain, kind in zip(shapes, sample.domains, kinds, strict=True)
    ]
    sample.args = args
    _separate(rng, args, sample.domains)
    if dtype is None and op.shapes == "elementwise" and not op.writes and len(args) > 1 and draw(COIN):
        i = _pick(draw, range(len(args)))
        if sample.domains[i].kind == "f" and not sample.domains[i].distinct:
            plain = [v for v in PLAIN if sample.domains[i].low <= v <= sample.domains[i].high]
            args[i] = float(rng.choice(plain) if plain and draw(COIN) else _values(rng, sample.domains[i], (), F64))
    return sample


def _pick(draw: Draw, options: Sequence[T]) -> T:
    """One of a few, by coins; the first is the simplest."""
    n, place = len(options), 0
    for _ in range((n - 1).bit_length() + bool(n & (n - 1))):  # one more, or the first would come too often
        place = 2 * place + draw(COIN)
    return options[place % n]


def _shapes(draw: Draw, op: Op, sizes: tuple[int, ...]) -> tuple[list[Any], dict[str, Any]]:
    shapes, options = _pick(draw, op.cases) if op.cases else ((), {})
    sizes = (*sizes, *sizes[1:])  # the least, which often is none, is seldom of use
    if op.shapes == "elementwise":
        full = [_pick(draw, sizes) for _ in range(_pick(draw, (0, 1, 2, 3, 1, 2, 2, 3)))]
        return [_within(draw, full) for _ in op.arrays], options
    if op.letters is not None and not op.cases:
        known = {letter: _pick(draw, sizes) for letter in sorted(set(op.letters.text) - set(".,->?"))}
        if draw(COIN) and draw(COIN):  # square ones, which an op may take for something else
            known = dict.fromkeys(known, max(known.values()))
        batch = [_pick(draw, sizes) for _ in range(_pick(draw, range(3)))]
        found: list[Any] = []
        for term in op.letters.text.split("->")[0].split(","):
            if term.endswith("?") and draw(COIN):
                found.append(None)
            else:
                lead = _within(draw, batch) if "..." in term else ()
                found.append((*lead, *[known[c] for c in term.strip(".?")]))
        return found, options
    return list(shapes), options


def _within(draw: Draw, full: list[int]) -> tuple[int, ...]:
    """A shape that broadcasts to ``full``: in half of the cases all of it, else without some axes, some of size 1."""
    if not full or not draw(COIN):
        return tuple(full)
    return tuple(1 if draw(COIN) else n for n in full[_pick(draw, range(len(full) + 1)) :])


def _values(rng: np.random.Generator, domain: Domain, shape: tuple[int, ...], dtype: Any) -> Array:
    if domain.kind == "i":
        return np.asarray(rng.integers(int(domain.low), int(domain.high) + 1, shape))
    if domain.kind == "b":
        return np.asarray(rng.integers(0, 2, shape), bool)
    x = rng.uniform(domain.low, domain.high, shape)
    for kink in domain.kinks:
        near = np.abs(x - kink) < GAP
        x = np.where(near, kink + np.copysign(GAP + np.abs(x - kink), x - kink), x)
    return np.asarray(x, dtype)


def _separate(rng: np.random.Generator, args: list[Any], domains: list[Domain]) -> None:
    """Give all the arguments that must be distinct values of one grid, no two alike."""
    chosen = [i for i, d in enumerate(domains) if d.distinct and is_float(args[i])]
    total = sum(args[i].size for i in chosen)
    ends = np.cumsum([args[i].size for i in chosen], dtype=int)
    for i, part in zip(chosen, np.split(rng.permutation(total), ends[:-1]), strict=False):  # one part too many for none
        low, high = domains[i].low, domains[i].high
        args[i] = np.asarray(low + (high - low) * (part + 0.5) / total, args[i].dtype).reshape(args[i].shape)
