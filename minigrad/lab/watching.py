"""Looking at a training run while it trains: what goes up, what comes down, and how far each step moves the weights."""

from __future__ import annotations

import functools
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad.engine.op import Op
from minigrad.engine.state import Kernels, Observer, State, current, line_of, mode, observe, user_site
from minigrad.engine.tensor import Tensor
from minigrad.init import FUNCTIONS, value_and_slope
from minigrad.kernels import statistics
from minigrad.kernels.random import integer
from minigrad.lab.propagation import LOST
from minigrad.lab.records import csv_text, save
from minigrad.nn import Module
from minigrad.nn.twins import first_alike

Array = NDArray[Any]

#: The share of dead units, or of saturated elements, above which they are reported.
MOST = 0.5
#: An update larger than the weights themselves leaves little of what they were.
LARGEST = 1.0


class Record(NamedTuple):
    """One op of the network in one step: one that takes parameters, or an activation. NaN: there is no such figure.

    ``layer``: the dotted path of the module that ran it. ``op``: its name, numbered from the second time on.
    ``mean``, ``std``: of what it puts out. ``varying``: the variance over the batch, averaged over units: the part that
    depends on the input. ``saturated``: the share of elements whose slope is below 1/100 of the steepest. ``dead``:
    that of units whose slope is 0 for every example. ``backward``: E[(∂L/∂y)²]. ``weight``, ``gradient``: norms of the
    parameters that it took, together, and of their gradients, before any clipping. ``ratio``: the norm of the step's
    update over that of the weights.
    """

    step: int
    layer: str
    op: str
    mean: float
    std: float
    varying: float
    saturated: float
    dead: float
    backward: float
    gradient: float
    weight: float
    ratio: float

    @property
    def forward(self) -> float:
        """E[y²]."""
        return self.mean * self.mean + self.std * self.std


class Trouble(NamedTuple):
    """What was found, from which step on, and where.

    ``kind`` is nan, vanishing, exploding, dead, saturated or twins.
    """

    step: int
    layer: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"step {self.step}, layer {self.layer or 'of the network itself'}: {self.kind}: {self.text}"


def watch(net: Module, every: int = 1, report: Callable[[Trouble], Any] | None = None) -> Watch:
    """Look at every ``every``-th step of whatever trains ``net`` inside this block; no bit of the training changes.

    A step is over when parameters have been written, by ops (optimizers do so), after a backward; the first is step 0.
    Compiled steps are replayed between the steps that are looked at, ``run`` included; those run as they would without
    ``mg.compile``, which gives the same bits. ``with mg.detect_anomaly()`` may stand outside or inside: both look.

    ``report`` is called with each new :class:`Trouble` as soon as its step is over, once for each layer and kind; by
    default that is a RuntimeWarning at the line that goes on. (``warnings.simplefilter("error")`` stops there.) nan:
    something is not finite. vanishing, exploding: a second moment is 10⁻¹² or 10¹² times that of the first layer on its
    way up, or of the last on its way down; as little of it depends on the input; or an update is larger than the
    weights. dead: more than half of the units have slope 0 for the whole batch; saturated: more than half of the
    elements have nearly none. twins: units with equal weights and equal gradients, to the bit, so that they stay so.

    Raises TypeError for what is no module, ValueError for ``every`` below 1, RuntimeError if it is entered twice.

    >>> import minigrad as mg
    >>> from minigrad import nn, optim
    >>> hidden, output = (nn.Linear(n, m, weight_init=0.5, bias_init=0.0) for n, m in ((2, 3), (3, 1)))
    >>> net = nn.Sequential(hidden, nn.Tanh(), output)
    >>> opt = optim.SGD(net.parameters(), lr=0.1)
    >>> with watch(net, every=2, report=print) as seen:
    ...     for step in range(4):
    ...         loss = mg.mse_loss(net(mg.tensor([[1.0, 2.0], [0.0, 1.0]])), mg.tensor([[1.0], [0.0]]))
    ...         opt.zero_grad()
    ...         loss.backward()
    ...         opt.step()
    step 0, layer 0: twins: its 3 units act as 1: equal weights and gradients, to the bit; draw them at random
    >>> [(r.step, r.layer, r.op) for r in seen.records]
    [(0, '0', 'linear'), (0, '1', 'tanh'), (0, '2', 'linear'), (2, '0', 'linear'), (2, '1', 'tanh'), (2, '2', 'linear')]
    """
    if not isinstance(net, Module):
        raise TypeError(f"watch: need a module, got {type(net).__name__}")
    return Watch(net, integer("every", every, 1), _warn if report is None else report)


class _Seen:
    """What is known of an op before its step is over."""

    def __init__(
        self, signal: tuple[float, ...], sums: Array, slope: tuple[float, float, bool], names: list[str], linear: bool
    ) -> None:
        self.signal, self.sums = signal, sums  # over the batch, of each unit; or none
        self.names, self.linear = names, linear  # names: of the parameters it took
        self.saturated, self.dead, self.straight = slope
        self.backward: float | None = None
        self.units = 1, 1  # how many there are, and how many differ
        self.infinite = False  # whether a gradient of the parameters is not finite


class Watch(Observer):
    """The observer of :func:`watch`: ``records`` and ``troubles`` so far. Prints as a table; holds on to no tape."""

    looks_inside = False

    def __init__(self, net: Module, every: int, report: Callable[[Trouble], Any]) -> None:
        self.net, self.every, self.report = net, every, report
        self.records: list[Record] = []
        self.troubles: list[Trouble] = []
        self.step = 0  # how many are over
        self._slot: AbstractContextManager[Any] | None = None
        self._told: set[tuple[str, str]] = set()  # kinds of trouble, and where
        self._changes = -1  # how many had been counted when the parts of the network were looked for
        self._ones: dict[Any, Array] = {}  # cotangents for slopes, by shape and dtype
        self._begin()

    def __enter__(self) -> Watch:
        if self._slot is not None:
            raise RuntimeError("watch: this one is watching already")
        self._begin()
        self._slot = observe(self)
        self._slot.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        assert self._slot is not None
        self._slot.__exit__(*error)
        self._slot = None
        self._next(quiet=error[0] is not None)  # a warning that raises would hide what was raised

    # Steps

    def _begin(self) -> None:
        """Begin a step, of which nothing is known."""
        self._looking = self.step % self.every == 0
        if self._looking and self._changes != State.changes[0]:
            self._changes = int(State.changes[0])
            self._modules = {module for _, module in self.net.named_modules()}
            self._parameters = list(self.net.named_parameters())
            # what parameters are when their gradients come, by name
            self._before = {name: np.empty(p.shape, p.dtype) for name, p in self._parameters}
        self._reached = False  # whether a leaf got a gradient
        self._replayed = 0  # how many steps may have gone by unseen
        if not self._looking:
            return
        self._leaves = {p.node.seq: (name, p) for name, p in self._parameters if p.node is not None}
        self._inside = False  # whether the last module that ran is one of the network's
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._turns: dict[tuple[str, str], int] = {}
        self._nodes: dict[int, _Seen] = {}  # by their sequence number, which no other node ever has
        self._gradients: dict[str, Array] = {}  # by the parameter's name
        self._sizes: dict[str, float] = {}  # Σ of the squares of these gradients
        self._changed: dict[str, tuple[int, tuple[float, float]]] = {}  # what changed up to which write

    def _counted(self) -> list[int]:
        """How often each parameter has been written."""
        return [p.cell[0] for _, p in self._parameters]

    def _next(self, quiet: bool = False) -> None:
        """Go on to the next step if this one is over."""
        if not (self._reached or self._replayed):
            return
        counted = self._counted()
        if counted == self._writes:
            return
        new: list[Trouble] = []
        if self._looking:
            found = self._finished()
            judged = dict(_judge(found, list(self._seen.values())))
            new = [trouble for key, trouble in judged.items() if key not in self._told]
            self._told.update(judged)
            self.records += found
            self.troubles += new
        if self._replayed:
            times = max(now - before for now, before in zip(counted, self._writes, strict=True))
            self.step += min(times, self._replayed)
        else:
            self.step += 1
        self._begin()
        for trouble in () if quiet else new:
            self.report(trouble)

    # What is observed

    def uses(self, owner: Any) -> None:
        if not isinstance(owner, Module):
            return
        if self._reached or self._replayed:
            self._next()
        if self._looking:
            self._inside = owner in self._modules
            if owner is self.net:
                self._turns.clear()

    def unseen(self, steps: int) -> int:
        self._next()
        if not self._reached:
            self._writes = self._counted()
        self._replayed = min(steps, -self.step % self.every)  # 0 where this step is to be looked at
        return self._replayed

    def ran(self, op: Any, args: Any, options: dict[str, Any], out: Any, outs: tuple[Any, ...]) -> None:
        if not self._looking or out.node is None:
            return
        if not outs:  # a write: both arrays are in the cache now
            if out.node.seq in self._leaves:
                self._change(*self._leaves[out.node.seq])
            return
        if not self._inside:
            return
        state = current()
        if state.undoing is not None:
            return
        nodes = [arg.node.seq for arg in args if isinstance(arg, Tensor) and arg.node is not None]
        taken = [self._leaves[seq][0] for seq in nodes if seq in self._leaves]
        bends = _is_activation(op)
        if not (taken or bends):
            return
        (signal, sums), slope = _signal(out._data), None
        if bends:
            key = out.shape, out.dtype
            if key not in self._ones:
                self._ones[key] = np.ones(*key)
            with np.errstate(all="ignore"):
                slope = _slope(op, args, options, out, state.kernels, self._ones[key])
        turn = self._turns[state.path, op.name] = self._turns.get((state.path, op.name), 0) + 1
        if state.kernels == "blas":  # which gives equal units different sums
            sums = sums[:0]
        seen = _Seen(signal, sums, slope or (math.nan, math.nan, True), taken, op.name == "linear")
        self._seen[state.path, op.name if turn == 1 else f"{op.name} {turn}"] = self._nodes[out.node.seq] = seen

    def sent(self, node: Any, cotangent: Any, contributions: Any) -> None:
        if node.op is not None:
            if self._looking and node.seq in self._nodes:
                array = getattr(cotangent, "_data", cotangent)
                self._nodes[node.seq].backward = statistics.square_sum(array) / max(array.size, 1)
            return
        if not self._reached:
            self._reached = True
            if not self._replayed:  # what was written before the first gradient is no update
                self._writes = self._counted()
        if self._looking and node.seq in self._leaves:
            name, parameter = self._leaves[node.seq]
            self._gradients[name] = g = getattr(cotangent, "_data", cotangent)
            before, now = self._before[name], parameter._data
            if (before.shape, before.dtype) != (now.shape, now.dtype):
                self._before[name] = before = np.empty(now.shape, now.dtype)
            np.copyto(before, now)
            self._sizes[name] = statistics.square_sum(g)

    # What it means

    def _finished(self) -> list[Record]:
        """The records of a step that is over."""
        for seen in self._seen.values():
            seen.names = [name for name in seen.names if name in self._gradients]
            if seen.linear and seen.names:
                arrays = [self._before[n] for n in seen.names] + [self._gradients[n] for n in seen.names]
                units = len(arrays[0])
                # Units that put out different numbers have different weights.
                seen.units = units, units if len(set(seen.sums.tolist())) == units else len(set(first_alike(*arrays)))
        changes = {name: self._change(name, p) for name, p in self._leaves.values() if name in self._gradients}
        found = []
        for (layer, op), seen in self._seen.items():
            norms, down = [math.nan] * 3, math.nan if seen.backward is None else seen.backward
            if seen.names:
                gradient = math.sqrt(sum(self._sizes[name] for name in seen.names))
                weight, update = (math.sqrt(sum(changes[name][i] for name in seen.names)) for i in (0, 1))
                norms = [gradient, weight, update / weight if weight else math.nan]
                seen.infinite = not math.isfinite(gradient)
            figures = [*seen.signal, seen.saturated, seen.dead, down, *norms]
            found.append(Record(self.step, layer, op, *figures))
        return found

    def _change(self, name: str, parameter: Any) -> tuple[float, float]:
        """Σ w² of a parameter when its gradient came, and Σ (w' − w)² of what it is now; found once for each write."""
        known = self._changed.get(name)
        if name not in self._gradients or (known is not None and known[0] == parameter.cell[0]):
            return known[1] if known else (math.nan, math.nan)
        old, new = self._before[name], parameter._data
        same = (new.shape, new.dtype) == (old.shape, old.dtype)
        found = statistics.change(old, new) if same else (statistics.square_sum(old), math.nan)
        self._changed[name] = parameter.cell[0], found
        return found

    def table(self, step: int | None = None) -> str:
        """The records of one step (the last one that was looked at) as text. ValueError for a step that was not."""
        steps = dict.fromkeys(r.step for r in self.records)
        if not steps:
            return "watch: no step is over yet"
        if step is not None and step not in steps:
            raise ValueError(f"table: step {step} was not looked at; those that were: {', '.join(map(str, steps))}")
        step = max(steps) if step is None else step
        head = f"{'layer':<14} {'op':<9} {'mean':>8} {'std':>8} {'varying':>8} {'sat.':>4} {'dead':>4}"
        lines = [f"step {step}", head + f" {'backward':>8} {'gradient':>8} {'weights':>8} {'update':>8}"]
        for r in self.records:
            if r.step == step:
                layer = r.layer if len(r.layer) <= 14 else "…" + r.layer[-13:]
                sizes = [f"{x:8.1e}" if x == x else " " * 8 for x in (r.mean, r.std, r.varying)]
                shares = [f"{x:4.0%}" if x == x else " " * 4 for x in (r.saturated, r.dead)]
                down = [f"{x:8.1e}" if x == x else " " * 8 for x in (r.backward, r.gradient, r.weight, r.ratio)]
                lines.append(f"{layer:<14} {r.op:<9} {' '.join([*sizes, *shares, *down])}".rstrip())
        return "\n".join(lines)

    def __str__(self) -> str:
        return "\n".join([self.table(), *map(str, self.troubles)])

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """All records as comma-separated values, a line of names first; written to ``path``, too, if it is given."""
        text = csv_text(Record._fields, self.records)
        if path is not None:
            save(text, path)
        return text

    def plot(self) -> Any:
        """A matplotlib Figure: std, backward moment, size of the updates, dead units; by step, a line for each op.

        Raises ImportError without matplotlib, ValueError where nothing has been recorded.
        """
        if not self.records:
            raise ValueError("plot: no step is over yet")
        try:
            from matplotlib import colormaps
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError("plots need matplotlib: pip install 'minigrad[cli]'") from None
        figure = Figure(figsize=(11, 7), layout="constrained")
        ops = list(dict.fromkeys((r.layer, r.op) for r in self.records))
        shown = set(np.linspace(0, len(ops) - 1, min(len(ops), 8)).round())  # in the legends: not every one of many
        panels = {
            "std": "std of the output",
            "backward": "E[(∂L/∂y)²]",
            "ratio": "update / weights",
            "dead": "dead units",
        }
        for axes, (name, title) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
            for i, key in enumerate(ops):
                rows = [r for r in self.records if (r.layer, r.op) == key]
                values = np.array([getattr(r, name) for r in rows])
                if name != "dead":
                    values[~(values > 0)] = math.nan  # a logarithmic axis has no place for them
                if np.isfinite(values).any():
                    colour = colormaps["viridis"](i / len(ops))
                    label = " ".join(filter(None, key)) if i in shown else None
                    axes.plot([r.step for r in rows], values, color=colour, marker=".", label=label)
            axes.set(title=title, xlabel="step", yscale="linear" if name == "dead" or not axes.lines else "log")
            if any(not line.get_label().startswith("_") for line in axes.lines):
                axes.legend(fontsize="x-small")
        return figure


def _warn(trouble: Trouble) -> None:
    """At the user's line that goes on."""
    file, _, line = line_of(user_site(sys._getframe())).rpartition(":")
    warnings.warn_explicit(str(trouble), RuntimeWarning, file, int(line))


def _judge(records: list[Record], seen: list[_Seen]) -> Iterator[tuple[tuple[str, str], Trouble]]:
    """The troubles of a step; before each what kind it is and where, because it is told once."""
    pairs = list(zip(records, seen, strict=True))
    if (lost := next(_not_finite(pairs), None)) is not None:  # all else is but its consequence
        yield ("nan", ""), lost
        return
    top = records[0].forward or 1.0 if records else 1.0
    for r in records:
        if not LOST < r.forward / top < 1 / LOST:
            kind = "vanishing" if r.forward < top else "exploding"
            text = f"the second moment of what its {r.op} puts out is {r.forward / top:.0e} times the first layer's"
            yield (kind, "up"), Trouble(r.step, r.layer, kind, text)
            break
    for r in records:
        if r.varying <= LOST * r.forward > 0:
            text = f"{r.varying:.0e} of a second moment of {r.forward:.0e} depends on the input: no information passes"
            yield ("vanishing", "information"), Trouble(r.step, r.layer, "vanishing", text)
            break
    down = [r for r, s in reversed(pairs) if s.backward is not None]
    for r in down if down and down[0].backward else ():
        if not LOST < r.backward / down[0].backward < 1 / LOST:
            kind = "vanishing" if r.backward < down[0].backward else "exploding"
            text = f"the second moment of the gradient is {r.backward / down[0].backward:.0e} times the last layer's"
            yield (kind, "down"), Trouble(r.step, r.layer, kind, text)
            break
    worst = max((r for r in records if r.ratio > LARGEST), key=lambda r: r.ratio, default=None)
    if worst is not None:
        text = f"the update is {worst.ratio:.3g} times as large as the weights"
        yield ("exploding", "update"), Trouble(worst.step, worst.layer, "exploding", text)
    for r, s in pairs:
        units, differing = s.units
        if r.dead > MOST:
            yield _local(r, "dead", f"{r.dead:.0%} of the units of its {r.op} have slope 0 for the whole batch")
        elif r.saturated > MOST and not s.straight:
            yield _local(r, "saturated", f"{r.saturated:.0%} of what its {r.op} puts out has hardly any slope")
        if differing < units:
            text = f"its {units} units act as {differing}: equal weights and gradients, to the bit; draw them at random"
            yield _local(r, "twins", text)


def _local(r: Record, kind: str, text: str) -> tuple[tuple[str, str], Trouble]:
    return (kind, f"{r.layer} {r.op}"), Trouble(r.step, r.layer, kind, text)


def _not_finite(pairs: list[tuple[Record, _Seen]]) -> Iterator[Trouble]:
    """Where a number was none: first on the way up, then on the way down, then in the update."""
    for r, _ in pairs:
        if not math.isfinite(r.std):
            yield Trouble(r.step, r.layer, "nan", f"what its {r.op} puts out is not finite")
    for r, s in reversed(pairs):
        if s.infinite or not math.isfinite(s.backward or 0.0):
            yield Trouble(r.step, r.layer, "nan", f"the gradient is not finite at its {r.op}")
    for r, _ in pairs:
        if r.weight > 0 and not math.isfinite(r.ratio):
            yield Trouble(r.step, r.layer, "nan", "the update is not finite, or leaves a parameter of another shape")


# Figures


_KNOWN = frozenset(FUNCTIONS.values())


def _is_activation(op: Op) -> bool:
    """Whether its slopes are looked at: the known activations, and elementwise functions of one array of the user's."""
    plain = op.shapes == "elementwise" and len(op.arrays) == 1 and op.differentiable and bool(op.rules)
    return plain and (op in _KNOWN or not op.__module__.startswith("minigrad."))


def _signal(y: Array) -> tuple[tuple[float, float, float], Array]:
    """Mean, standard deviation, and the unbiased variance over the batch, averaged over the units (the last axis).

    And the sums over the batch.
    """
    if not y.size:
        return (math.nan, math.nan, math.nan), np.zeros(0)
    rows = _rows(y)
    mean, square, between, sums = statistics.moments(rows)
    within = square - (between + mean * mean)
    if not within > 1e-6 * square:  # too much is lost in the difference: Chan, Golub & LeVeque 1983, eq. 1.7
        with np.errstate(all="ignore"):
            rest = statistics.moments(rows - rows.mean(0))  # its column means are but rounding
        within = max(rest.square - (rest.between + rest.mean * rest.mean), 0.0)
    n = len(rows)
    return (mean, math.sqrt(within + between), within * n / (n - 1) if n > 1 else math.nan), sums


def _slope(
    op: Op, args: Any, options: dict[str, Any], out: Any, kernels: Kernels, ones: Array
) -> tuple[float, float, bool] | None:
    """Shares of saturated elements and of dead units, and whether the activation is made of two straight lines."""
    rule, y = op.rules[op.arrays[0]], out._data
    known = {"g": ones, op.arrays[0]: getattr(args[0], "_data", args[0]), op.output: y, **options}
    if not y.size or any(name not in known for name in rule.names):
        return None
    steepest, straight = _graph(op, tuple(options.items()))
    values = [known[name] for name in rule.names]
    run = rule.kernel if kernels == "own" and out.node.clean else None
    slope = _rows(rule.run(values, kernels) if run is None else run(*values))
    flat, dead = statistics.slopes(slope, 0.01 * steepest if steepest else math.inf)
    return flat / slope.size, dead / slope.shape[1], straight


@functools.cache
def _graph(op: Op, options: tuple[tuple[str, Any], ...]) -> tuple[float, bool]:
    """The largest slope of an activation on a grid of [−12, 12] that meets 0, and whether it has no third one."""
    with mode(observer=None, grad=True, path=""), np.errstate(all="ignore"):
        _, slope = value_and_slope(lambda x: op(x, **dict(options)), np.linspace(-12, 12, 4801))
    steepness = np.abs(slope[np.isfinite(slope)])
    return float(steepness.max(initial=0.0)), len(np.unique(steepness)) <= 2


def _rows(y: Array) -> Array:
    """As a matrix: units are the last axis."""
    return y.reshape(-1, y.shape[-1] if y.ndim else 1)
