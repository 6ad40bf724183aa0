"""Hidden units that act as one: how many there really are, why, and what sets them apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad import data, init, nn, optim
from minigrad.engine.state import no_grad
from minigrad.engine.tensor import from_numpy
from minigrad.lab.drift import Spread, blas_drift
from minigrad.lab.pictures import new_figure
from minigrad.lab.propagation import inputs, read
from minigrad.nn.twins import first_alike
from minigrad.ops.loss import cross_entropy
from minigrad.ops.update import assign

Array = NDArray[Any]


class Class(NamedTuple):
    """Hidden units that act as one, and why; a reason is empty for a unit that is alone in its class."""

    units: tuple[int, ...]
    reason: str


class DistinctUnits(dict[str, int]):
    """How many distinct units each hidden layer has, by the layer's name; ``classes`` has them, first unit first.

    Prints with the reasons.
    """

    def __init__(self, classes: dict[str, list[Class]]) -> None:
        super().__init__({name: len(found) for name, found in classes.items()})
        self.classes = classes

    def __str__(self) -> str:
        lines = []
        for name, found in self.classes.items():
            total = sum(len(one.units) for one in found)
            lines.append(f"{name}: {len(found)} distinct of {total} units")
            lines += [f"  {_listed(one.units)}: {one.reason}" for one in found if one.reason]
        return "\n".join(lines)


def _listed(units: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, units if len(units) <= 4 else units[:3]))
    return f"unit {shown}" if len(units) == 1 else f"units {shown}{', ...' if len(units) > 4 else ''} ({len(units)})"


def distinct_units(net: nn.Module, x: Any = None) -> DistinctUnits:
    """How many different units each hidden layer has: units with equal weights in and equal bias act as one.

    Equal means equal bytes, with −0 = 0 and any NaN equal to any NaN. The layers are the modules of ``net`` with a
    weight matrix, in order, and all but the last one are hidden. The reason tells what becomes of a class: units whose
    outgoing weights are equal, too, stay one under every optimizer that treats them alike (and whose state does), with
    others the first step parts them. With inputs ``x`` (n, …), n ≥ 2, those units are one class as well which are dead
    there: what follows has slope 0 at all of them, so that none of them learns.

    Raises TypeError for what is no module, ValueError without a hidden layer, and for x as :func:`propagate`.

    >>> net = nn.Sequential(nn.Linear(64, 32, weight_init=0.05, bias_init=0.0), nn.Tanh(), nn.Linear(32, 10))
    >>> found = distinct_units(net)
    >>> found
    {'0': 1}
    >>> print(found)
    0: 1 distinct of 32 units
      units 0, 1, 2, ... (32): constant(value=0.05) makes them equal; outgoing weights differ, so a step parts them
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"distinct_units: need a module, such as nn.Sequential, got {type(net).__name__}")
    parts: list[tuple[str, Any]] = list(net.named_modules())
    layers = [(name, part) for name, part in parts if getattr(getattr(part, "weight", None), "ndim", 0) == 2]
    if len(layers) < 2:
        raise ValueError("distinct_units: hidden units lie between two layers with weights, and there is no such pair")
    dead: dict[str, Array] = {}
    if x is not None:
        root = f"{net._path}." if net._path else ""
        met, _ = read(net, inputs("distinct_units", net, x), "distinct_units")
        dead = {m.name.removeprefix(root): np.all(m.slope == 0, axis=0) for m in met if m.slope is not None}
    classes = {}
    for (name, layer), (_, following) in itertools.pairwise(layers):
        outgoing = following.weight.data.T
        if len(outgoing) != len(layer.weight.data):
            outgoing = None  # the next module is not the one that these units reach
        classes[name] = _classes(layer, outgoing, dead.get(name))
    return DistinctUnits(classes)


def _classes(layer: Any, outgoing: Array | None, dead: Array | None) -> list[Class]:
    keys: list[Any] = list(_incoming(layer))
    if dead is not None:
        keys = ["dead" if gone else key for key, gone in zip(keys, dead, strict=True)]
    groups: dict[Any, list[int]] = {}
    for unit, key in enumerate(keys):
        groups.setdefault(key, []).append(unit)
    sent = first_alike(outgoing) if outgoing is not None else None
    drawn = [p.initializer for p in (layer.weight, layer.bias) if isinstance(p, nn.Parameter)]
    alike = bool(drawn) and not any(getattr(rule, "breaks_symmetry", True) for rule in drawn)
    found = []
    for key, units in groups.items():
        if key == "dead":
            reason = "dead: slope 0 on every input, so that they learn nothing"
        elif len(units) == 1:
            reason = ""
        else:
            reason = f"{drawn[0]!r} makes them equal" if alike else "identical incoming weights and bias"
            if sent is not None:
                one = len({sent[unit] for unit in units}) == 1
                reason += "; outgoing weights are identical, too, so they stay one" if one else _PARTED
        found.append(Class(tuple(units), reason))
    return found


_PARTED = "; outgoing weights differ, so a step parts them"


def _incoming(layer: Any) -> list[int]:
    return first_alike(layer.weight.data, *([] if layer.bias is None else [layer.bias.data]))


def _count(layer: Any) -> int:
    return len(set(_incoming(layer)))


# The experiment


class SymmetryRecord(NamedTuple):
    """One case after ``step`` steps: distinct units, a weight's largest difference to unit 0, held-out accuracy."""

    case: str
    step: int
    units: int
    spread: float
    accuracy: float


class Twins(NamedTuple):
    """``units`` twins beside one unit with scaled rates: how far the held-out scores moved, and how far they differ."""

    units: int
    moved: float
    gap: float


class SymmetryRun(NamedTuple):
    """What :func:`symmetry_run` saw. Prints as tables; ``plot()`` draws it."""

    hidden: int
    optimizer: str
    records: list[SymmetryRecord]
    twins: list[Twins]
    drift: list[Spread]

    def __str__(self) -> str:
        steps = sorted({record.step for record in self.records})
        steps = [*steps[: -1 : math.ceil(len(steps[1:]) / 10)], steps[-1]]
        lines = [f"distinct units of {self.hidden}, on the digits", self.optimizer]
        lines.append(f"{'after steps':20}" + "".join(f"{step:5}" for step in steps) + "   accuracy   spread")
        for case, records in itertools.groupby(self.records, key=lambda record: record.case):
            found = {record.step: record for record in records}
            last = found[steps[-1]]
            counts = "".join(f"{found[step].units:5}" for step in steps)
            lines.append(f"{case:20}{counts}   {last.accuracy:8.1%}  {last.spread:7.1e}")
        if self.twins:
            lines += [
                "",
                "twins beside one unit with scaled rates, SGD in float64",
                "units   scores moved     differ by",
            ]
            lines += [f"{row.units:5}   {row.moved:12.2g}   {row.gap:11.1e}" for row in self.twins]
        if self.drift:
            lines += ["", "spread of twins", "steps   own kernels   through BLAS"]
            lines += [f"{row.step:5}   {row.own:11.1e}   {row.blas:12.1e}" for row in self.drift]
        return "\n".join(lines)

    def plot(self) -> Any:
        """A matplotlib Figure: units, spread and accuracy over steps. Raises ImportError without matplotlib."""
        figure = new_figure(11, 3.6)
        panels = figure.subplots(1, 3)
        for case, group in itertools.groupby(self.records, key=lambda record: record.case):
            records = list(group)
            steps = [record.step for record in records]
            panels[0].plot(steps, [record.units for record in records], ".-", label=case)
            panels[1].plot(steps, [record.spread or math.nan for record in records], ".-")
            panels[2].plot(steps, [record.accuracy for record in records], ".-")
        if self.drift:
            steps = [row.step for row in self.drift]
            panels[1].plot(steps, [row.blas or math.nan for row in self.drift], "k:", label="constant, through BLAS")
            panels[1].legend(fontsize="small")
        panels[0].legend(fontsize="small")
        panels[1].set_yscale("log")
        for axes, title in zip(panels, ("distinct units", "largest difference to unit 0", "accuracy"), strict=True):
            axes.set_xscale("symlog", linthresh=1)
            axes.set(title=title, xlabel="steps", xlim=(0, self.records[-1].step))
        return figure


def symmetry_run(
    *,
    hidden: int = 30,
    steps: int = 300,
    optimizer: Callable[[Iterable[Any]], Any] | None = None,
    twins: Iterable[int] = (2, 8, 30),
    seed: int = 0,
    blas: bool = False,
) -> SymmetryRun:
    """Train 64-hidden-10 with tanh on the digits from several beginnings, and count the units that differ.

    *constant*: all weights in 0.05, weights out differing between classes and not between units (one constant for
    both would send no gradient down: the errors of the classes sum to 0). *nearly constant*: 1e-6 of noise on the
    weights in. *random*: Xavier. Then what breaks a tie: *one perturbed unit*, by 1e-6 in one weight; *dropout*; and
    *random weights out*. float32, batches of 32; ``optimizer``: a function of the parameters, Adam(lr=0.01) unless
    given. Records after 0, 1, 2, 4, … steps and the last.

    ``twins``: for each H, H units with weights out v beside one with H v, at rates η/H (weights in and bias) and H η
    (weights out), for 100 steps of SGD with η = 0.5/H in float64. They follow one path, but for rounding: ``gap``.
    ``blas``: also :func:`blas_drift` for as many steps. Raises ValueError for fewer than 2 units or 1 step.

    >>> run = symmetry_run(hidden=5, steps=2, twins=[3])
    >>> [record.units for record in run.records if record.step == 2]
    [1, 5, 5, 2, 5, 5]
    >>> run.twins[0].gap < 1e-12 < run.twins[0].moved
    True
    """
    twins = list(twins)
    for name, value, least in (("hidden", hidden, 2), ("steps", steps, 1), ("twins", min(twins, default=1), 1)):
        if value < least:
            raise ValueError(f"symmetry_run: {name} must be at least {least}, got {value}")
    make = optimizer or (lambda parameters: optim.Adam(parameters, lr=0.01))
    digits = data.digits()
    perturbed = np.full((hidden, 64), 0.05, np.float32)
    perturbed[hidden // 2, 30] += 1e-6
    random = init.xavier_uniform()
    cases: dict[str, dict[str, Any]] = {
        "constant": {},
        "nearly constant": {"incoming": init.normal(0.05, 1e-6)},
        "random": {"incoming": random, "outgoing": random},
        "one perturbed unit": {"incoming": perturbed},
        "dropout 0.5": {"dropout": 0.5},
        "random weights out": {"outgoing": random},
    }
    records, named = [], ""
    for case, options in cases.items():
        net = _net(hidden, seed, **options)
        opt = make(net.parameters())
        named = repr(opt)
        for step in _train(net, [opt], digits, steps, seed):
            if step & (step - 1) == 0 or step == steps:
                rows = net.hidden.weight.data
                right = _scores(net, digits).argmax(axis=1) == digits.y_test
                spread = float(np.abs(rows - rows[0]).max())
                records.append(SymmetryRecord(case, step, _count(net.hidden), spread, float(right.mean())))
    beside = [_twins(count, data.digits("float64"), seed) for count in twins]
    return SymmetryRun(hidden, named, records, beside, blas_drift(steps, seed=seed) if blas else [])


def _net(
    hidden: int, seed: int, incoming: Any = 0.05, outgoing: Any = None, dropout: float = 0.0, dtype: str = "float32"
) -> Any:
    by_class = np.repeat(np.linspace(-0.1, 0.1, 10)[:, None], hidden, axis=1)
    return nn.Sequential(
        hidden=nn.Linear(64, hidden, weight_init=incoming, bias_init=0.0, dtype=dtype),
        tanh=nn.Tanh(),
        dropout=nn.Dropout(dropout),
        output=nn.Linear(
            hidden, 10, weight_init=by_class if outgoing is None else outgoing, bias_init=0.0, dtype=dtype
        ),
    ).initialize(seed)


def _train(net: Any, optimizers: list[Any], digits: data.Dataset, steps: int, seed: int) -> Iterator[int]:
    """Yields the number of steps done, 0 first."""
    yield 0
    done = 0
    for epoch in itertools.count():
        for x, y in data.batches(digits.x_train, digits.y_train, batch_size=32, seed=seed, epoch=epoch):
            net.train()
            net.zero_grad()
            cross_entropy(net(from_numpy(x)), y).backward()
            for opt in optimizers:
                opt.step()
            done += 1
            yield done
            if done == steps:
                return


def _scores(net: Any, digits: data.Dataset) -> Array:
    with no_grad():
        scores: Array = net.eval()(from_numpy(digits.x_test)).data
    return scores


def _twins(units: int, digits: data.Dataset, seed: int) -> Twins:
    rate = 0.5 / units
    many, one = _net(units, seed, dtype="float64"), _net(1, seed, dtype="float64")
    assign(one.output.weight, one.output.weight.data * units)
    before = _scores(many, digits)
    slow, fast = optim.SGD(one.hidden.parameters(), rate / units), optim.SGD([one.output.weight], rate * units)
    for net, optimizers in (
        (many, [optim.SGD(many.parameters(), rate)]),
        (one, [slow, fast, optim.SGD([one.output.bias], rate)]),
    ):
        for _ in _train(net, optimizers, digits, 100, seed):
            pass
    after = _scores(many, digits)
    return Twins(units, float(np.abs(after - before).max()), float(np.abs(after - _scores(one, digits)).max()))
