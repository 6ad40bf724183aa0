"""A gradient check that judges: correct, wrong, kink or noise, with the evidence and without a tolerance to guess.

Along every entry, f is evaluated on a ladder of steps h, h/2, h/4 …; central differences are extrapolated to h = 0, and
each extrapolation carries its own error: the disagreement of its neighbours plus what rounding leaves. One that
contradicts those of finer steps is dropped, so neither a step that is too wide for f nor a kink nearby is mistaken for
a derivative. Unless it was by far too sharp to be contradicted: then the finer steps are those of a staircase.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.engine.backward import cotangents
from minigrad.engine.state import mode
from minigrad.engine.tensor import Tensor
from minigrad.nn.module import Module
from minigrad.testing.differences import EPS, extrapolate

Array = NDArray[Any]

ENTRIES, SAMPLED = 256, 64  # of more entries than these, so many are checked one by one,
DIRECTIONS = 4  # and all of them together, along so many random directions
OUTPUTS, PROJECTIONS = 64, 8  # more outputs than these are projected on so many random cotangents
MULTIPLE = 10  # of the error estimate that a right gradient may be off
ROUNDING = 1e-8  # what a right rule of condition 1e6 may lose, with room; far below an error of a thousandth
BLUNT = 5e-4  # an estimate that may be off by more, relatively, judges nothing
STAIR = 2.0**-22  # of x: where f is rough on this scale, it may be rounded to float32 inside, and steep in x
FAULT = 1e-3  # the relative error of a gradient that is to be seen: where it could not be, an entry is unresolved
VERDICTS = ("wrong", "kink", "noise", "correct")  # the first that an entry has is the report's


@dataclass(frozen=True)
class GradientReport:
    """The verdict of :func:`gradcheck` and its evidence, at the entry that decided it; true if *correct*.

    ``input`` names the argument or parameter and ``index`` the entry in it; ``expected`` is the finite difference
    (± ``error``) and ``got`` the gradient; ``slopes`` are those from the left and from the right; the Taylor remainder
    f(x + h) − f(x) − h·got falls as h to the power ``taylor``: 2 if the gradient is right, 1 if it is wrong, inf if
    nothing is left but rounding.

    ``entries`` of the ``total`` were checked one by one, and all together along ``directions``. ``tally`` counts the
    entries by verdict, and ``also`` has a sentence about the worst of each other verdict among them. ``unresolved``
    are the entries with a derivative so small beside f that differences cannot tell an error of a thousandth in it.
    """

    verdict: str
    sentence: str
    input: str = ""
    index: tuple[int, ...] = ()
    expected: float = np.nan
    error: float = np.nan
    got: float = np.nan
    slopes: tuple[float, float] = (np.nan, np.nan)
    taylor: float = np.nan
    order: int = 1
    entries: int = 0
    total: int = 0
    directions: int = 0
    unresolved: int = 0
    tally: Mapping[str, int] = field(default_factory=dict)
    also: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.verdict == "correct"

    def _rows(self) -> list[tuple[str, str]]:
        if not self.input:
            return []
        told = ", ".join(f"{n} {verdict}" for verdict, n in self.tally.items())
        rows = [
            ("worst entry", f"{_spelled(self.input, self.index)}, order {self.order}"),
            ("expected", f"{self.expected:.12g} ± {self.error:.1g}"),
            ("got", f"{self.got:.12g}"),
            ("one-sided", f"{self.slopes[0]:.6g} from the left, {self.slopes[1]:.6g} from the right"),
            ("Taylor", f"the remainder falls as h^{self.taylor:.3g}"),
            ("checked", f"{self.entries} of {self.total} entries: {told}"),
        ]
        if self.directions:
            rows.append(("", f"and {self.directions} directions through all of them"))
        if self.unresolved:
            rows.append(("unresolved", f"{self.unresolved} entries, too small beside f for an error of {FAULT:g}"))
        return rows + [("also", text) for text in self.also]

    def __str__(self) -> str:
        return "\n".join([f"{self.verdict}: {self.sentence}", *(f"  {a:<12} {b}" for a, b in self._rows())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(a)}<td>{escape(b)}" for a, b in self._rows())
        return f"<table><caption><b>{self.verdict}</b>: {escape(self.sentence)}</caption>{rows}</table>"


def _spelled(name: str, index: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def gradcheck(
    f: Callable[..., Any],
    inputs: Any,
    order: int = 1,
    *,
    gradient: Callable[..., Any] | None = None,
    seed: int = 0,
) -> GradientReport:
    """Judge the gradient of f at ``inputs`` (one, or a tuple or list of them), in float64.

    f is a callable on minigrad tensors, a module (its parameters are checked as well; a float64 copy runs), or, with
    ``gradient``, a callable on arrays that returns one number: ``gradient(*inputs)`` is its gradient, one array, or a
    tuple of one for each floating-point input. Other inputs are passed on as they are. ``order=2`` checks the
    gradient of the gradient as well. Up to 256 entries are all checked; of more a sample drawn from ``seed``, and
    all together along random directions v, by ⟨u, J v⟩ = ⟨Jᵀ u, v⟩: what is off there is narrowed down to its entry.
    Outputs of more than 64 elements are projected on random cotangents u.

    The verdict is *correct*; *wrong* (or something was written that must not be: an input, the cotangent); *kink*
    (the slopes from the left and right differ, grow without bound, or one does not exist); or *noise* (f is not
    deterministic, not finite, its differences settle nowhere, or every derivative is too small beside f for them). Of
    an f that is rounded to float32 inside, the slope of the staircase is taken. Extrapolation and its error estimate
    follow Ridders (1982).
    Raises TypeError if no input is floating-point, ValueError if order is not 1 or 2, or if ``gradient`` gives shapes
    other than the inputs', or f then more than one number.

    >>> import minigrad as mg
    >>> gradcheck(mg.tanh, mg.tensor([0.5, -1.0])).verdict
    'correct'
    >>> gradcheck(mg.abs, 0.0).verdict
    'kink'
    >>> print(gradcheck(lambda x: x * x, 3.0, gradient=lambda x: x))
    wrong: the gradient is 3, but differences of f give 6
      worst entry  input 0, order 1
      expected     6 ± 1e-13
      got          3
      one-sided    6 from the left, 6 from the right
      Taylor       the remainder falls as h^1
      checked      1 of 1 entries: 1 wrong
    """
    if order not in (1, 2):
        raise ValueError(f"gradcheck: order is {order!r}, but must be 1 or 2")
    if order == 2 and gradient is not None:
        raise ValueError("gradcheck: order 2 needs f on tensors; check the given gradient's own gradient by a call")
    problem = _Problem(f, inputs, gradient, seed)
    report = _judge(problem, 1)
    if order == 2 and report:
        report = _judge(problem, 2)
    return report


def assert_gradients(f: Callable[..., Any], inputs: Any, order: int = 1, **how: Any) -> None:
    """Raise AssertionError with the report's text unless :func:`gradcheck` says *correct*.

    >>> import minigrad as mg
    >>> assert_gradients(mg.tanh, [0.5], order=2)
    """
    report = gradcheck(f, inputs, order, **how)
    if not report:
        raise AssertionError(f"gradcheck: {report}")


class _Written(Exception):  # noqa: N818 (no error of the caller: it becomes the verdict)
    """Something was written that its owner did not hand out for that."""


class _Problem:
    """f as a function of float64 arrays ``at`` (views of ``flat``), and the Jacobian that its gradient claims."""

    def __init__(self, f: Callable[..., Any], inputs: Any, gradient: Callable[..., Any] | None, seed: int) -> None:
        self.gradient = gradient
        self.rng = np.random.default_rng(seed)
        given = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
        self.given = [np.asarray(a.data if isinstance(a, Tensor) else a) for a in given]
        self.places = [i for i, a in enumerate(self.given) if a.dtype.kind == "f"]
        self.parameters: list[Tensor] = []
        self.names = [f"input {i}" for i in self.places]
        start = [self.given[i] for i in self.places]
        if isinstance(f, Module):
            f = copy.deepcopy(f).astype(np.float64)
            named = dict(f.named_parameters())
            self.parameters = list(named.values())
            self.names += list(named)
            start += [p.data for p in self.parameters]
        if not start:
            raise TypeError("gradcheck: no input is floating-point, so there is no gradient to check")
        self.f = f
        self.flat = _flat(start)
        self.starts = np.cumsum([0, *[a.size for a in start]])
        self.at = [
            self.flat[i:j].reshape(a.shape) for i, j, a in zip(self.starts, self.starts[1:], start, strict=False)
        ]

    def place(self, entry: int) -> tuple[str, tuple[int, ...]]:
        """The name of the input that has this entry of ``flat``, and its index there."""
        which = int(np.searchsorted(self.starts, entry, "right")) - 1
        index = np.unravel_index(entry - self.starts[which], self.at[which].shape)
        return self.names[which], tuple(map(int, index))

    def arrays(self) -> list[Any]:
        """The arguments where f and ``gradient`` are on arrays."""
        inputs = [a.copy() for a in self.given]
        for i, a in zip(self.places, self.at, strict=True):
            inputs[i] = a.copy()
        return inputs

    def unwritten(self, arrays: Sequence[Array], who: str) -> None:
        for name, a, b in zip(self.names, arrays, self.at, strict=True):
            if a.tobytes() != b.tobytes():
                raise _Written(f"{who} writes on {name}")

    def run(self, record: bool) -> tuple[list[Tensor], Tensor]:
        """The leaves, and f of them, with a tape if it is to be differentiated."""
        inputs: list[Any] = list(self.given)
        leaves: list[Tensor] = []
        for i, a in zip(self.places, self.at, strict=False):
            leaves.append(Tensor(a.copy()).requires_grad_(record))
            inputs[i] = leaves[-1]
        for p, a in zip(self.parameters, self.at[len(self.places) :], strict=True):
            p.requires_grad_(record).data = a.copy()
        out = self.f(*[a if isinstance(a, Tensor) else Tensor(a) for a in inputs])
        if not isinstance(out, Tensor):
            raise TypeError(f"gradcheck: f must return a tensor, got {type(out).__name__}; for arrays give gradient=")
        leaves += self.parameters
        self.unwritten([x.data for x in leaves], "f")
        return leaves, out

    def value(self) -> Array:
        if self.gradient is None:
            return np.asarray(self.run(record=False)[1].data, np.float64)
        inputs = self.arrays()
        y = np.asarray(self.f(*inputs), np.float64)
        self.unwritten([inputs[i] for i in self.places], "f")
        if y.size != 1:
            raise ValueError(f"gradcheck: with gradient= f must return one number, got shape {y.shape}")
        return y

    def pull(self, u: Array, graph: bool = False) -> tuple[list[Tensor], list[Any]]:
        """The leaves, and the cotangent of each for the output's cotangent u: arrays, with ``graph`` tensors."""
        leaves, out = self.run(record=True)
        nodes = {x.node for x in leaves if x.node is not None}
        given = u.astype(out.dtype)
        seed = given.copy()
        with mode(grad=graph):
            found = {} if out.node is None else cotangents(out.node, seed, nodes, graph, graph)
        if seed.tobytes() != given.tobytes():
            raise _Written("a rule writes on the cotangent that it is given, which others may hold")
        self.unwritten([x.data for x in leaves], "a rule")
        pulled = [found.get(x.node) if x.node is not None else None for x in leaves]
        return leaves, [np.zeros(x.shape) if p is None else p for x, p in zip(leaves, pulled, strict=True)]

    def claimed(self, u: Array) -> Array:
        """The gradient of ⟨u, f⟩, flat."""
        if self.gradient is None:
            return _flat(self.pull(u)[1])
        inputs = self.arrays()
        found = self.gradient(*inputs)
        parts = list(found) if isinstance(found, (tuple, list)) else [found]
        shapes = [np.shape(p) for p in parts]
        if shapes != [a.shape for a in self.at]:
            raise ValueError(f"gradcheck: the gradient has shapes {shapes}, the inputs {[a.shape for a in self.at]}")
        flat: Array = _flat(parts) * u.item()
        return flat

    def curvature(self, u: Array, w: Array) -> Array:
        """The gradient of ⟨w, ∇⟨u, f⟩⟩, flat: what a second backward claims."""
        leaves, pulled = self.pull(u, graph=True)
        total, start = None, 0
        for p in pulled:
            part = w[start : start + p.size].reshape(p.shape)
            start += p.size
            if isinstance(p, Tensor) and p.node is not None:
                term = (p * part).sum()
                total = term if total is None else total + term
        nodes = {x.node for x in leaves if x.node is not None}
        with mode(grad=False):
            found = (
                {} if total is None or total.node is None else cotangents(total.node, np.ones(()), nodes, False, False)
            )
        parts = [found.get(x.node) if x.node is not None else None for x in leaves]
        return _flat([np.zeros(x.shape) if p is None else p for x, p in zip(leaves, parts, strict=True)])


def _flat(parts: Sequence[Any]) -> Array:
    return np.concatenate([np.asarray(p.data if isinstance(p, Tensor) else p, np.float64).ravel() for p in parts])


def _judge(problem: _Problem, order: int) -> GradientReport:
    """The verdict for f, or for its gradient along one random cotangent (order 2)."""
    with np.errstate(all="ignore"), mode(grad=True):
        try:
            return _Judgement(problem, order).report()
        except _Written as what:
            return GradientReport("wrong", str(what), order=order)


class _Judgement:
    """One order of one problem: the outputs that are looked at, the Jacobian that is claimed, the directions taken.

    An output is ⟨u, f⟩ for one row u of ``rows``. These are neither 0 nor 1 alone, so that a rule is caught which is
    not linear in its cotangent.
    """

    def __init__(self, problem: _Problem, order: int) -> None:
        self.problem, self.order, rng = problem, order, problem.rng
        shape = problem.value().shape
        u = np.asarray(rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 2, shape))
        self.raw: Callable[[], Array] = lambda: problem.value().ravel() if order == 1 else _flat(problem.pull(u)[1])
        size = self.raw().size
        self.projected = size > OUTPUTS
        self.weights = rng.choice([-2.0, -0.5, 0.5, 2.0], (PROJECTIONS, size) if self.projected else size)
        self.centre, again = self.outputs([self.look(), self.look()])[0]
        self.repeats = bool(np.array_equal(self.centre, again, equal_nan=True))
        if not self.repeats or not np.isfinite(self.centre).all():
            return
        rows = self.weights if self.projected else np.diag(self.weights)
        claims = [problem.claimed(row.reshape(shape)) if order == 1 else problem.curvature(u, row) for row in rows]
        self.claims = np.array(claims).reshape(len(rows), problem.flat.size)
        self.units = np.ones(len(rows)) if self.projected else self.weights
        what = "f" if order == 1 else "its first derivative"
        self.what = f"⟨u, {what}⟩" if self.projected else what
        known = np.where(np.isfinite(self.claims), np.abs(self.claims), 0)
        #: For each output its largest slope, and the largest change that a relative change of an entry makes.
        self.slope, self.change = known.max(1, initial=0), (known * np.abs(problem.flat)).max(1, initial=0)

    def look(self) -> Array:
        """What is kept of f at the problem's point: its values, or of many the projections and their magnitudes."""
        y = self.raw()
        if not self.projected:
            return y
        return np.array([self.weights @ y, np.abs(self.weights) @ np.abs(y)])

    def outputs(self, looks: list[Array]) -> tuple[Array, Array]:
        """The outputs, a row for each look, and the magnitudes of what they are summed from."""
        values = np.array(looks)
        if self.projected:
            return values[:, 0], values[:, 1]
        weighted = self.weights * values
        return weighted, np.abs(weighted)

    def report(self) -> GradientReport:
        if not self.repeats:
            return GradientReport("noise", "f gives different values at the same point", order=self.order)
        if not (finite := np.isfinite(self.centre)).all():
            return GradientReport("noise", f"f is not finite there: {self.centre[~finite][0]}", order=self.order)
        problem, total = self.problem, self.problem.flat.size
        if not total or not self.centre.size:
            return GradientReport("correct", "there is nothing to differentiate", order=self.order)
        few = total <= ENTRIES
        chosen = np.arange(total) if few else np.sort(problem.rng.choice(total, SAMPLED, replace=False))
        entries = {int(i): _Direction(self, np.array([i]), np.ones(1)) for i in chosen}
        through: list[_Direction] = []
        if not few:
            scale = [np.full(a.size, np.sqrt(np.mean(a * a)) or 1.0) for a in problem.at if a.size]
            size = np.maximum(np.abs(problem.flat), np.concatenate(scale) / 1000)
            while len(through) < DIRECTIONS and not any(d.verdict == "wrong" for d in entries.values()):
                # An entry that is known to be at a kink, or noise, is not moved, so as to hide no other.
                moved = np.setdiff1d(np.arange(total), [i for i, d in entries.items() if not d])
                signs = problem.rng.choice([-1.0, 1.0], len(moved))
                through.append(_Direction(self, moved, size[moved] * signs).narrowed())
                if len(through[-1].where) == 1:
                    entries[int(through[-1].where[0])] = through[-1]
        return self._told(list(entries.values()), through)

    def _told(self, entries: list[_Direction], through: list[_Direction]) -> GradientReport:
        tally = {v: n for v in VERDICTS if (n := sum(d.verdict == v for d in entries))}
        worst = {}
        for v in VERDICTS:
            found = [d for d in (*entries, *through) if d.verdict == v]
            if found:
                worst[v] = max(found, key=lambda d: d.ratio)
        verdict, d = next(iter(worst.items()))
        total, unresolved = self.problem.flat.size, sum(d.unresolved for d in entries)
        sentence = d.sentence()
        if verdict == "correct":
            every = f"all {total} entries" if len(entries) == total else f"{len(entries)} of {total} entries"
            every += f" and {len(through)} directions through all" if through else ""
            sentence = f"{every} agree with differences of {self.what}"
            if unresolved:
                sentence += f", but {unresolved} of them are too small beside {self.what} to tell"
        also = tuple(
            f"{v} at {_spelled(*w.place)}: {w.sentence()}" for v, w in worst.items() if v not in (verdict, "correct")
        )
        expected, error, got, left, right = d.evidence()
        return GradientReport(
            verdict, sentence, *d.place, expected, abs(error), got, (left, right), d.taylor(), self.order,
            len(entries), total, len(through), unresolved, tally, also,
        )  # fmt: skip


def _norm(x: Array) -> Any:
    """The Euclidean norm along the last axis, of numbers whose squares may overflow or vanish."""
    largest = np.abs(x).max(-1, keepdims=True)
    shares = x / np.where(largest > 0, largest, 1)
    return np.sqrt((shares**2).sum(-1)) * largest[..., 0]


class _Direction:
    """The derivative of every output along x + t v, where v is ``step`` at the entries ``where`` and 0 elsewhere."""

    def __init__(self, judgement: _Judgement, where: Array, step: Array) -> None:
        self.judgement, self.where, self.step = judgement, where, step
        flat, centre = judgement.problem.flat, judgement.centre
        x = flat[where].copy()
        parts = judgement.claims[:, where] * step
        self.claim = parts.sum(1)
        # Powers of two are exact steps. From a quarter of max(1, |x|) down to 2⁻⁴⁰ |x|, as f may vary on either scale.
        top = np.floor(np.log2(max(1.0, np.abs(x).max()) / (4 * np.abs(step).max())))
        bottom = np.floor(np.log2(np.abs(x / step).max() or 1.0)) - 40
        self.h = 2.0 ** np.arange(top, max(bottom, -200) - 1, -1)[:, None]

        def along(t: float) -> Array:
            flat[where] = x + t * step
            return judgement.look()

        try:
            high, above = judgement.outputs([along(t) for t in self.h[:, 0]])
            low, below = judgement.outputs([along(-t) for t in self.h[:, 0]])
        finally:
            flat[where] = x
        self.right, self.left = (high - centre) / self.h, (centre - low) / self.h
        # A few ulps of f and what ulps of x move, both of the largest output that the entry moves (others may be small
        # differences of such), and the jitter that the finest steps show beside f'' h².
        known = np.where(np.isfinite(parts), parts, 0)
        even = high + low - 2 * centre
        size = np.maximum(above, below)
        noise = (
            4 * EPS * np.maximum(size, size[:, known.any(1)].max(1, initial=0)[:, None])
            + 2 * EPS * _norm(np.abs(known).max(0) / step * x)
            + np.abs(even[-6:-1] - 4 * even[-5:]).max(0)
        )
        self.noise = np.where(np.isfinite(noise), noise, np.inf) + 0 * high
        self.value, self.error, self.rough = self._slope((high - low) / (2 * self.h), even, np.abs(x / step).max())
        self.remainder = np.abs(high - centre - self.h * self.claim)
        self._judge(_norm(known), np.abs(centre) / (4 * np.abs(step).max() * self.h[0]), x)

    def _slope(self, central: Array, even: Array, size: float) -> tuple[Array, Array, Array]:
        """The limit of the differences, or the slope of the staircase that f is; its error; where f may be another."""
        # Of a smooth f, what is left of the even part is of order h⁶; of a kink nearby, of order h; of a staircase it
        # is a step's height, however small h. Sixteen times finer steps, so that a smooth f counts for nothing.
        left = np.abs(even[:-2] - 20 * even[1:-1] + 64 * even[2:]) / 67
        height = np.zeros_like(even)
        height[:-2] = np.fmax.accumulate(left[::-1])[::-1]
        jitter: Array = np.concatenate([height[4:], np.zeros_like(even[:4])])
        limit = extrapolate(central, (self.noise + jitter) / self.h)
        value, error = limit.value, limit.error
        stairs = (left[1:] > 64 * self.noise[1:-2]) & (left[1:] > left[:-1] / 8)
        rough = stairs[self.h[1:-2, 0] < STAIR * size].any(0)
        known = np.minimum(np.abs(limit.estimates - value), np.abs(limit.estimates)) / 1000
        sharp = (limit.errors + 2 * height / self.h < known).any(0)
        for i in np.flatnonzero(sharp.any(0)):
            # Fine steps that see nothing are within one stair; if they see another slope, nobody knows which is f's.
            within = not central[-8:, i].any()
            moved = np.abs(central[:, i] * self.h[:, 0])
            # Finer stairs are as high as those at the widest steps that show a slope, and as the first that is seen.
            stair = max(height[sharp[:, i].argmax(), i], moved[moved > 0].min() if within else 0)
            noise = self.noise[:, i] + np.maximum(height[:, i], stair)
            limit = extrapolate(central[:, i], noise / self.h[:, 0])
            error[i] = limit.error if within else np.abs(limit.value - value[i])
            value[i], self.noise[:, i], rough[i] = limit.value, np.maximum(noise, error[i] * self.h[:, 0]), False
        self.jump = extrapolate((self.right - self.left), 4 * self.noise / self.h, 1)
        return value, error, rough

    def _judge(self, spread: Array, natural: Array, x: Array) -> None:
        """``verdict``, the ``output`` that decides it, the ``ratio`` it is off by, and whether it is ``unresolved``."""
        reach = np.full(
            spread.shape, spread.max()
        )  # a rule rounds as its largest terms do: as the slopes of any output
        if len(x) == 1:  # from here, or those of this output, directly or by the changes that they make
            change = self.judgement.change / abs(x[0]) if x[0] else np.inf
            reach = np.maximum(reach, np.minimum(self.judgement.slope, change))
        off, size = np.abs(self.claim - self.value), np.maximum(np.abs(self.value), spread)
        allowed = MULTIPLE * self.error + ROUNDING * size + 64 * EPS * reach
        # An f that stands still, from some step on, may be a difference of terms as large as an input, which cancel to
        # the last bit: it is known as well as that step shows it.
        moves = (self.left != 0) | (self.right != 0)
        first, steps = np.logical_or.accumulate(moves[::-1]).sum(0), self.h[:, 0]
        cancelled = 4 * EPS * np.abs(self.judgement.problem.flat).max() / steps[np.minimum(first, len(steps) - 1)]
        allowed += np.where((self.value == 0) & (first < len(steps)), MULTIPLE * cancelled, 0)
        away = (off > allowed) | (~np.isfinite(self.claim) & np.isfinite(self.error))
        scale = np.maximum(np.abs(self.value), reach.max() if reach.any() else natural)
        blunt = ~(MULTIPLE * self.error <= BLUNT * scale)
        kink = self._kinks(scale)
        found = np.select([kink, away & ~self.rough, away | blunt], [1, 0, 2], 3)
        ratio = np.where(np.isfinite(off) & (allowed > 0), off / allowed, np.where(away, np.inf, 0))
        self.output = int(np.lexsort((-ratio, found))[0])
        self.verdict, self.ratio = VERDICTS[found[self.output]], float(ratio[self.output])
        told = self.claim != 0
        self.unresolved = bool(told.any() and (allowed[told] > FAULT * np.abs(self.claim[told])).all())
        self.place = self._place()

    def _kinks(self, scale: Array) -> Array:
        """Where a slope from one side does not exist, grows without bound, or differs from the other side's."""
        jump, error = np.abs(self.jump.value), MULTIPLE * self.jump.error
        found: Array = ~np.isfinite(self.left[-4:]).all(0) | ~np.isfinite(self.right[-4:]).all(0)
        found |= (jump > error) & (jump > 1e-6 * scale)
        unsettled = ~(np.fmax(error, MULTIPLE * self.error) <= BLUNT * scale)
        for i in np.flatnonzero(~found & unsettled):
            slope = np.maximum(np.abs(self.right), np.abs(self.left))[:, i]
            floor = 16 * self.noise[:, i] / self.h[:, 0]
            told = np.flatnonzero(np.isfinite(slope) & (floor < np.fmax.accumulate(slope) / 64))[-4:]
            # At a step the slopes themselves grow eightfold in three halvings, at a cusp by the root of eight.
            found[i] = len(told) == 4 and (slope[told] > floor[told]).all() and slope[told[3]] > 2 * slope[told[0]]
        return found

    def _place(self) -> tuple[str, tuple[int, ...]]:
        if len(self.where) == 1:
            return self.judgement.problem.place(int(self.where[0]))
        return f"a direction through {len(self.where)} entries", ()

    def narrowed(self) -> _Direction:
        """The part of this direction, down to one entry, that shows what is not correct in it."""
        found = self
        while not found and len(found.where) > 1:
            half = len(found.where) // 2
            for part in (slice(half), slice(half, None)):
                d = _Direction(found.judgement, found.where[part], found.step[part])
                if VERDICTS.index(d.verdict) <= VERDICTS.index(found.verdict):
                    found = d
                    break
            else:
                return found
        return found if len(found.where) > 1 else _Direction(found.judgement, found.where, np.ones(1))

    def __bool__(self) -> bool:
        return self.verdict == "correct"

    def evidence(self) -> tuple[float, ...]:
        """The derivative and its error, the claim, the slopes from the left and right, of the output that decides."""
        i = self.output
        found = np.array([self.value[i], self.error[i], self.claim[i], self.left[-8, i], self.right[-8, i]])
        return tuple((found / self.judgement.units[i] + 0.0).tolist())

    def taylor(self) -> float:
        """The power of h that the remainder falls with, at the finest steps that show it."""
        remainder, noise = self.remainder[:, self.output], self.noise[:, self.output]
        shown = np.flatnonzero(remainder > 100 * noise)[-6:]
        if len(shown) < 2:
            return np.inf
        fall = np.log2(remainder[shown])
        return float((fall[0] - fall[-1]) / (shown[-1] - shown[0]))

    def sentence(self) -> str:
        what, (expected, error, got, left, right) = self.judgement.what, self.evidence()
        if self.verdict == "wrong":
            return f"the gradient is {got:.7g}, but differences of {what} give {expected:.7g}"
        if self.verdict == "kink":
            return f"the slopes of {what} are {left:.7g} from the left and {right:.7g} from the right"
        return f"differences of {what} tell nothing of a gradient of {got:.4g}: {expected:.4g} ± {abs(error):.1g}"
