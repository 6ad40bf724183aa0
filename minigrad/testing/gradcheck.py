"""A gradient check that judges: correct, wrong, kink or noise, with the evidence and without a tolerance to guess.

Along every entry, f is evaluated on a ladder of steps h, h/2, h/4 …; central differences are extrapolated to h = 0 by
Richardson's rule, and each extrapolation carries its own error: the disagreement of its neighbours plus what rounding
leaves. One that contradicts those of finer steps is dropped, so neither a step that is too wide for f nor a kink
nearby is mistaken for a derivative.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

ENTRIES, OUTPUTS = 256, 64  # more than these are sampled, and projected on random cotangents
MULTIPLE = 10  # of the error estimate that a right gradient may be off
ROUNDING = 1e-8  # what a right rule of condition 1e6 may lose, with room; far below an error of a thousandth
BLUNT = 1e-4  # an estimate with a larger relative error judges nothing


@dataclass(frozen=True)
class GradientReport:
    """The verdict of :func:`gradcheck` and its evidence, at the entry that decided it; true if *correct*.

    ``input`` names the argument or parameter and ``index`` the entry in it; ``expected`` is the finite difference
    (± ``error``) and ``got`` the gradient; ``slopes`` are those from the left and from the right; the Taylor remainder
    f(x + h) − f(x) − h·got falls as h to the power ``taylor``: 2 if the gradient is right, 1 if it is wrong, inf if
    nothing is left but rounding.
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

    def __bool__(self) -> bool:
        return self.verdict == "correct"

    def _rows(self) -> list[tuple[str, str]]:
        if not self.input:
            return []
        return [
            ("worst entry", f"{self.input}[{', '.join(map(str, self.index))}], order {self.order}"),
            ("expected", f"{self.expected:.12g} ± {self.error:.1g}"),
            ("got", f"{self.got:.12g}"),
            ("one-sided", f"{self.slopes[0]:.6g} from the left, {self.slopes[1]:.6g} from the right"),
            ("Taylor", f"the remainder falls as h^{self.taylor:.3g}"),
        ]

    def __str__(self) -> str:
        return "\n".join([f"{self.verdict}: {self.sentence}", *(f"  {a:<12} {b}" for a, b in self._rows())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(a)}<td>{escape(b)}" for a, b in self._rows())
        return f"<table><caption><b>{self.verdict}</b>: {escape(self.sentence)}</caption>{rows}</table>"


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
    gradient of the gradient as well. Up to 256 entries are all checked, of more a sample drawn from ``seed``;
    outputs of more than 64 elements are projected on random cotangents.

    The verdict is *correct*; *wrong*; *kink* (the slopes from the left and right differ, grow without
    bound, or one does not exist); or
    *noise* (f is not deterministic, not finite, or its differences settle nowhere). Extrapolation and its error
    estimate follow Ridders (1982).
    Raises TypeError if no input is floating-point, ValueError if order is not 1 or 2, or if ``gradient`` gives shapes
    other than the inputs'.

    >>> import minigrad as mg
    >>> gradcheck(mg.tanh, mg.tensor([0.5, -1.0])).verdict
    'correct'
    >>> gradcheck(mg.abs, 0.0).verdict
    'kink'
    >>> print(gradcheck(lambda x: x * x, 3.0, gradient=lambda x: x))
    wrong: the gradient is 3, but differences of f give 6
      worst entry  input 0[], order 1
      expected     6 ± 1e-13
      got          3
      one-sided    6 from the left, 6 from the right
      Taylor       the remainder falls as h^1
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


class _Problem:
    """f as a function of float64 arrays ``at``, and the Jacobian that its gradient claims."""

    def __init__(self, f: Callable[..., Any], inputs: Any, gradient: Callable[..., Any] | None, seed: int) -> None:
        self.gradient = gradient
        self.rng = np.random.default_rng(seed)
        given = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
        self.given = [np.asarray(a.data if isinstance(a, Tensor) else a) for a in given]
        self.places = [i for i, a in enumerate(self.given) if a.dtype.kind == "f"]
        self.parameters: list[Tensor] = []
        names = [f"input {i}" for i in self.places]
        at = [self.given[i] for i in self.places]
        if isinstance(f, Module):
            f = copy.deepcopy(f).astype(np.float64)
            named = dict(f.named_parameters())
            self.parameters = list(named.values())
            names += list(named)
            at += [p.data for p in self.parameters]
        if not at:
            raise TypeError("gradcheck: no input is floating-point, so there is no gradient to check")
        self.f, self.names, self.at = f, names, [np.array(a, np.float64) for a in at]

    def run(self, at: Sequence[Array]) -> tuple[list[Tensor], Tensor]:
        """The leaves at these values, and f of them."""
        inputs: list[Any] = list(self.given)
        leaves: list[Tensor] = []
        for i, a in zip(self.places, at, strict=False):
            leaves.append(Tensor(a.copy()).requires_grad_())
            inputs[i] = leaves[-1]
        for p, a in zip(self.parameters, at[len(self.places) :], strict=True):
            p.data = a.copy()
        with mode(grad=True):
            out = self.f(*[a if isinstance(a, Tensor) else Tensor(a) for a in inputs])
        if not isinstance(out, Tensor):
            raise TypeError(f"gradcheck: f must return a tensor, got {type(out).__name__}; for arrays give gradient=")
        return [*leaves, *self.parameters], out

    def value(self, at: Sequence[Array]) -> Array:
        if self.gradient is None:
            return self.run(at)[1].data
        inputs = list(self.given)
        for i, a in zip(self.places, at, strict=True):
            inputs[i] = a.copy()
        return np.asarray(self.f(*inputs), np.float64)

    def pull(self, at: Sequence[Array], u: Array, graph: bool = False) -> tuple[list[Tensor], list[Any]]:
        """The leaves, and the cotangent of each for the output's cotangent u: arrays, with ``graph`` tensors."""
        leaves, out = self.run(at)
        nodes = {x.node for x in leaves if x.node is not None}
        with mode(grad=graph):
            found = {} if out.node is None else cotangents(out.node, u.astype(out.dtype), nodes, graph, graph)
        pulled = [found.get(x.node) if x.node is not None else None for x in leaves]
        return leaves, [np.zeros(x.shape) if p is None else p for x, p in zip(leaves, pulled, strict=True)]

    def claimed(self, u: Array) -> Array:
        """The gradient of ⟨u, f⟩, flat."""
        if self.gradient is None:
            parts = self.pull(self.at, u)[1]
        else:
            inputs = list(self.given)
            for i, a in zip(self.places, self.at, strict=True):
                inputs[i] = a.copy()
            found = self.gradient(*inputs)
            parts = list(found) if isinstance(found, (tuple, list)) else [found]
            shapes = [np.shape(p) for p in parts]
            if shapes != [a.shape for a in self.at]:
                raise ValueError(
                    f"gradcheck: the gradient has shapes {shapes}, the inputs {[a.shape for a in self.at]}"
                )
        return _flat(parts)

    def curvature(self, u: Array, w: Array) -> Array:
        """The gradient of ⟨w, ∇⟨u, f⟩⟩, flat: what a second backward claims."""
        leaves, pulled = self.pull(self.at, u, graph=True)
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
    at, rng = problem.at, problem.rng
    base = problem.value(at)
    if order == 2:
        u = np.asarray(rng.choice([-1.0, 1.0], base.shape) * rng.uniform(0.5, 2, base.shape))

        def raw(a: Sequence[Array]) -> Array:
            return _flat(problem.pull(a, u)[1])
    else:

        def raw(a: Sequence[Array]) -> Array:
            return problem.value(a).ravel()

    y = raw(at)
    rows = np.eye(y.size) if y.size <= OUTPUTS else rng.choice([-1.0, 1.0], (8, y.size)) / np.sqrt(y.size)

    def f(a: Sequence[Array]) -> Array:
        return rows @ raw(a) if y.size > OUTPUTS else raw(a)

    with np.errstate(all="ignore"):
        centre = f(at)
        if not np.array_equal(centre, f(at), equal_nan=True):
            return GradientReport("noise", "f gives different values at the same point", order=order)
        if not np.isfinite(centre).all():
            return GradientReport("noise", f"f is not finite there: {centre[~np.isfinite(centre)][0]}", order=order)
        if order == 1:
            claims = np.array([problem.claimed(row.reshape(base.shape)) for row in rows])
        else:
            claims = np.array([problem.curvature(u, row) for row in rows])
        total = sum(a.size for a in at)
        chosen = np.arange(total) if total <= ENTRIES else np.sort(rng.choice(total, ENTRIES, replace=False))
        starts = np.cumsum([0, *[a.size for a in at]])
        columns = []
        for flat in chosen:
            which = int(np.searchsorted(starts, flat, "right")) - 1
            place = np.unravel_index(flat - starts[which], at[which].shape)
            columns.append(_Column(f, at, which, tuple(map(int, place)), centre, claims[:, flat]))
    return _verdict(columns, problem.names, order)


class _Column:
    """The derivative of every output along one entry: claim, difference, error and the slopes of the ladder."""

    def __init__(
        self,
        f: Callable[[Sequence[Array]], Array],
        at: Sequence[Array],
        which: int,
        place: tuple[int, ...],
        centre: Array,
        claim: Array,
    ) -> None:
        self.which, self.place, self.claim = which, place, claim
        x = float(at[which][place])
        # Powers of two are exact steps. From a quarter of max(1, |x|) down to 2⁻⁴⁴ |x|, as f may vary on either scale.
        top = np.floor(np.log2(max(1.0, abs(x)) / 4))
        bottom = np.floor(np.log2(abs(x) or 1.0)) - 44
        self.h = 2.0 ** np.arange(top, max(bottom, -200) - 1, -1)[:, None]
        moved = [a.copy() for a in at]

        def along(t: float) -> Array:
            moved[which][place] = x + t
            return f(moved)

        high = np.array([along(t) for t in self.h[:, 0]])
        low = np.array([along(-t) for t in self.h[:, 0]])
        self.right, self.left = (high - centre) / self.h, (centre - low) / self.h
        # A few ulps of f, what an ulp of x moves f, and the jitter that the finest steps show beside f'' h².
        even = (high + low - 2 * centre)[-6:]
        jitter = np.abs(even[:-1] - 4 * even[1:]).max(0)
        noise = (
            4 * EPS * np.maximum(np.abs(high), np.abs(low))
            + 2 * EPS * abs(x) * np.abs(np.where(np.isfinite(claim), claim, 0))
            + jitter
        )
        self.noise = np.where(np.isfinite(noise), noise, np.inf)
        self.value, self.error, _, _ = extrapolate((high - low) / (2 * self.h), self.noise / self.h)
        self.natural = np.abs(centre) / max(1.0, abs(x))
        self.remainder = np.abs(high - centre - self.h * claim)

    def kinks(self) -> Array:
        """Where a slope from one side does not exist, or the two stay apart down to the finest steps that can tell."""
        found = ~np.isfinite(self.left[-4:]).all(0) | ~np.isfinite(self.right[-4:]).all(0)
        for i in np.flatnonzero(~found):
            jump, floor = np.abs(self.right - self.left)[:, i], 16 * (self.noise / self.h)[:, i]
            slope = np.maximum(np.abs(self.right), np.abs(self.left))[:, i]
            reach = np.fmax.accumulate(slope)  # so that a fine step on a flat piece tells as well
            told = np.flatnonzero(np.isfinite(jump) & (floor < 1e-3 * reach))[-4:]
            if len(told) == 4:
                # Of a smooth f the jump is h f'': an eighth after three halvings. At a kink it stays.
                stays = (jump[told] > floor[told]).all() and jump[told[3]] > jump[told[0]] / 2
                # At a step or a cusp the slopes themselves grow: eightfold, or by the root of eight.
                grows = (slope[told] > floor[told]).all() and slope[told[3]] > 2 * slope[told[0]]
                found[i] = stays or grows
        return np.asarray(found)

    def taylor(self, i: int) -> float:
        """The power of h that the remainder falls with, at the finest steps that show it."""
        shown = np.flatnonzero(self.remainder[:, i] > 100 * self.noise[:, i])[-6:]
        if len(shown) < 2:
            return np.inf
        fall = np.log2(self.remainder[shown, i])
        return float((fall[0] - fall[-1]) / (shown[-1] - shown[0]))


def _verdict(columns: list[_Column], names: list[str], order: int) -> GradientReport:
    """*wrong* if an entry is, else *kink* if one is at one, else *noise* if one cannot be judged, else *correct*."""
    what = "f" if order == 1 else "its first derivative"
    largest = max((float(np.abs(c.claim[np.isfinite(c.claim)]).max(initial=0)) for c in columns), default=0.0)
    worst: dict[str, tuple[float, _Column, int]] = {}
    for c in columns:
        at_kink = c.kinks()
        off = np.abs(c.claim - c.value)
        allowed = MULTIPLE * c.error + ROUNDING * np.abs(c.value) + 64 * EPS * largest
        blunt = ~(MULTIPLE * c.error <= BLUNT * np.maximum(np.abs(c.value), np.maximum(largest, c.natural)))
        for i in range(len(off)):
            away = off[i] > allowed[i] or (not np.isfinite(c.claim[i]) and np.isfinite(c.error[i]))
            verdict = "kink" if at_kink[i] else "wrong" if away else "noise" if blunt[i] else "correct"
            ratio = (
                float(off[i] / allowed[i]) if np.isfinite(off[i]) and allowed[i] > 0 else 0.0 if not away else np.inf
            )
            if verdict not in worst or ratio > worst[verdict][0]:
                worst[verdict] = (ratio, c, i)
    for verdict in ("wrong", "kink", "noise", "correct"):
        if verdict in worst:
            _, c, i = worst[verdict]
            break
    else:
        return GradientReport("correct", "there is nothing to differentiate", order=order)
    got, expected, left, right = (float(v) for v in (c.claim[i], c.value[i], c.left[-8, i], c.right[-8, i]))
    sentence = {
        "wrong": f"the gradient is {got:.7g}, but differences of {what} give {expected:.7g}",
        "kink": f"the slopes of {what} are {left:.7g} from the left and {right:.7g} from the right",
        "noise": f"differences of {what} settle nowhere: {expected:.4g} ± {float(c.error[i]):.1g}",
        "correct": f"all {len(columns)} entries agree with differences of {what}",
    }[verdict]
    return GradientReport(
        verdict, sentence, names[c.which], c.place, expected, float(c.error[i]), got, (left, right),
        c.taylor(i), order, len(columns),
    )  # fmt: skip
