"""Many small networks, each trained for a while: activation × initializer × depth × width × seed, by any executor."""

from __future__ import annotations

import concurrent.futures
import contextlib
import difflib
import itertools
import json
import math
import multiprocessing
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from minigrad import compiler, data, init, nn, optim
from minigrad.engine.state import no_grad
from minigrad.engine.tensor import from_numpy
from minigrad.kernels.pool import get_num_threads, set_num_threads
from minigrad.kernels.random import integer
from minigrad.lab.propagation import propagate
from minigrad.lab.records import csv_text, save
from minigrad.ops.loss import cross_entropy


class Outcome(NamedTuple):
    """What became of one cell. NaN where there is no such figure; ``error``: what was raised, or an empty text.

    ``loss``: the mean over the last epoch. ``accuracy``: of held-out examples. The gains are those of
    :func:`minigrad.lab.propagate` for this seed alone, in log10: NaN for weights that theory does not know.
    """

    activation: str
    weight_init: str
    depth: int
    width: int
    seed: int
    loss: float = math.nan
    accuracy: float = math.nan
    forward_gain: float = math.nan
    forward_predicted: float = math.nan
    backward_gain: float = math.nan
    backward_predicted: float = math.nan
    error: str = ""


#: What a grid says of each axis unless it says something else.
DEFAULTS: MappingProxyType[str, tuple[Any, ...]] = MappingProxyType(
    {"activation": ("tanh",), "weight_init": ("xavier_normal",), "depth": (3,), "width": (64,), "seed": (0,)}
)


class Sweep(NamedTuple):
    """The outcomes, in the order of the grid (the last axis, seed, runs fastest). Prints as a table."""

    records: list[Outcome]

    def __str__(self) -> str:
        head = f"{'activation':<10} {'weights':<20} {'depth':>5} {'width':>5} {'seed':>4}  {'loss':>8} {'right':>6}"
        lines = [head + f"  {'forward':>7} {'theory':>7}  {'backward':>8} {'theory':>7}"]
        for r in self.records:
            weights = r.weight_init if len(r.weight_init) <= 20 else r.weight_init[:19] + "…"
            cell = f"{r.activation:<10} {weights:<20} {r.depth:5} {r.width:5} {r.seed:4}"
            if r.error:
                lines.append(f"{cell}  {r.error}"[:100])
                continue
            up, down = (r.forward_gain, r.forward_predicted), (r.backward_gain, r.backward_predicted)
            a, b, c, d = (f"{x:.2f}" if x == x else "" for x in (*up, *down))
            lines.append(f"{cell}  {r.loss:8.4f} {r.accuracy:6.1%}  {a:>7} {b:>7}  {c:>8} {d:>7}".rstrip())
        return "\n".join(lines)

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """All outcomes as comma-separated values, a line of names first; written to ``path``, too, if it is given."""
        text = csv_text(Outcome._fields, self.records)
        if path is not None:
            save(text, path)
        return text


def sweep(
    grid: Mapping[str, Sequence[Any]],
    *,
    path: str | os.PathLike[str] | None = None,
    executor: concurrent.futures.Executor | None = None,
    epochs: int = 2,
    lr: float = 0.1,
    batch_size: int = 32,
    bias_init: Any = 0.0,
    dataset: data.Dataset | None = None,
    report: Callable[[Outcome], Any] | None = None,
) -> Sweep:
    """Train a network for each cell of a grid, with SGD, and measure its gains at the beginning.

    ``grid``: values of any of ``activation`` (names in ``init.FUNCTIONS``), ``weight_init`` (what ``init.get`` takes),
    ``depth`` (hidden layers), ``width`` and ``seed``. ``dataset``: the digits unless given. An outcome is a function of
    its cell and these settings, whoever computes it.

    ``executor``: any ``concurrent.futures.Executor``, which stays open; of Dask ``client.get_executor()``, of loky
    ``get_reusable_executor()``, of mpi4py an ``MPIPoolExecutor``. By default there is a process for each core, started
    afresh ("spawn", the one method that is safe beside threads), so that a script needs its
    ``if __name__ == "__main__":``. Other processes than this one run kernels by one thread.

    ``path``: a file of JSON lines, the settings first, that outcomes are appended to as they come; a call with the same
    grid and settings goes on where it ended, and tries again what failed. ``report`` is called with each new outcome.

    What a cell raises is its ``error``; the others go on. Raises ValueError for a name or number that the grid cannot
    have, for a file of another sweep (naming what differs) or one that is none; RuntimeError where the executor loses
    cells, after all the others are there.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(1) as threads:
    ...     result = sweep({"weight_init": [0.0, "xavier_normal"], "width": [16]}, executor=threads, epochs=4)
    >>> [(r.weight_init, r.accuracy > 0.5) for r in result.records]
    [('constant(value=0.0)', False), ('xavier_normal', True)]
    """
    axes = _axes(grid)
    labels = {name: [_label(v) if name == "weight_init" else v for v in values] for name, values in axes.items()}
    cells = dict(zip(itertools.product(*labels.values()), itertools.product(*axes.values()), strict=True))
    settings = {
        "epochs": integer("epochs", epochs, 1),
        "lr": float(lr),
        "batch_size": integer("batch_size", batch_size, 1),
        "bias_init": _label(bias_init),
        "dataset": "digits" if dataset is None else f"crc32 {_crc(dataset)}",
    }
    log = None if path is None else _Log(Path(path), labels | settings)
    found: dict[Any, Outcome] = {r[:5]: r for r in log.outcomes if not r.error} if log is not None else {}
    lost, rest = "", [cell for cell in cells if cell not in found]
    with contextlib.ExitStack() as stack:
        if executor is None:
            spawn, cores = multiprocessing.get_context("spawn"), get_num_threads()
            pool = concurrent.futures.ProcessPoolExecutor(max(1, min(cores, len(rest))), mp_context=spawn)
            executor = stack.enter_context(pool)
        shared = settings | {"bias_init": bias_init, "dataset": dataset, "parent": os.getpid()}
        futures = {executor.submit(_compute, cell, cells[cell], shared): cell for cell in rest}
        stack.callback(lambda: [future.cancel() for future in futures])
        for future in concurrent.futures.as_completed(futures):
            try:
                outcome = Outcome(*future.result())
            except Exception as error:  # the executor's: what a cell raises is an outcome
                lost = f"{type(error).__name__}: {error}"
                continue
            found[futures[future]] = outcome
            if log is not None:
                log.append(outcome)
            if report is not None:
                report(outcome)
    if lost:
        kept = "nothing is kept without a path" if path is None else "the others are kept: call sweep again to go on"
        raise RuntimeError(f"sweep: the executor lost {len(cells) - len(found)} of {len(cells)} cells ({lost}); {kept}")
    return Sweep([found[cell] for cell in cells])


def _axes(grid: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """The values of every axis, checked."""
    if unknown := [name for name in grid if name not in DEFAULTS]:
        near = difflib.get_close_matches(str(unknown[0]), DEFAULTS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(DEFAULTS)}"
        raise ValueError(f"sweep: the grid has no axis {unknown[0]!r}; {hint}")
    axes = {}
    for name, default in DEFAULTS.items():
        values = grid.get(name, default)
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise TypeError(f"sweep: {name} needs a list of values, got {values!r}")
        axes[name] = values = list(values)
        for i, value in enumerate(values):
            if name == "activation":
                if not isinstance(value, str):
                    raise TypeError(f"sweep: an activation is a name, which every process knows, not {value!r}")
                init.function(value)
            elif name == "weight_init":
                _label(value)
            else:
                values[i] = integer(f"sweep: {name}", value, 0 if name == "seed" else 1)
        if not values:
            raise ValueError(f"sweep: {name} has no values")
        shown = [_label(v) if name == "weight_init" else v for v in values]
        if twice := [v for v in shown if shown.count(v) > 1]:
            raise ValueError(f"sweep: {name} has {twice[0]!r} twice")
    return axes


def _label(what: Any) -> str:
    """An initializer's name, by which it is known in files: a name, or what it prints. ValueError if that changes."""
    rule = init.get(what)
    label = what if isinstance(what, str) else repr(rule)
    if " at 0x" in label:
        raise ValueError(
            f"sweep: {label} prints otherwise in each run: give it a __repr__, or use one of minigrad.init"
        )
    return label


def _crc(dataset: data.Dataset) -> int:
    check = 0
    for array in dataset:
        check = zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(f"{array.dtype} {array.shape}".encode(), check))
    return check


# One cell, wherever it runs


def _compute(cell: Any, values: Any, settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """The outcome of a cell, as a plain tuple."""
    if os.getpid() != settings["parent"]:
        set_num_threads(1)  # a process for each core already
    try:
        with np.errstate(all="ignore"):  # a network that explodes is a result
            return (*cell, *_trained(values, settings), *_gains(values, settings["bias_init"]), "")
    except Exception as error:  # of a cell, which is its outcome
        return (*cell, *[math.nan] * 6, " ".join(f"{type(error).__name__}: {error}".split()))


class _Function(nn.Module):
    """An activation as a module."""

    def __init__(self, name: str) -> None:
        self.name = name

    def forward(self, x: Any) -> Any:
        return init.function(self.name)(x)


def _trained(values: Any, settings: Mapping[str, Any]) -> tuple[float, float]:
    """The mean loss of the last epoch, and the accuracy on the examples that are held out."""
    activation, weights, depth, width, seed = values
    sets = data.digits() if settings["dataset"] is None else settings["dataset"]
    inputs, classes = math.prod(sets.x_train.shape[1:]), int(max(sets.y_train.max(), sets.y_test.max())) + 1
    inits = {"weight_init": weights, "bias_init": settings["bias_init"]}
    layers: list[nn.Module] = [nn.Flatten()]
    for i in range(depth):
        layers += [nn.Linear(width if i else inputs, width, **inits), _Function(activation)]
    net = nn.Sequential(*layers, nn.Linear(width, classes, **inits)).initialize(seed)
    opt = optim.SGD(net.parameters(), lr=settings["lr"])

    @compiler.compile
    def step(x: Any, y: Any) -> Any:
        loss = cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    size, epochs = settings["batch_size"], settings["epochs"]
    history = step.run(sets.x_train, sets.y_train, batch_size=size, epochs=epochs, seed=seed)
    with no_grad():
        scores = net(from_numpy(sets.x_test)).numpy()
    return float(history.losses[-1].mean()), float((scores.argmax(axis=1) == sets.y_test).mean())


def _gains(values: Any, bias_init: Any) -> tuple[float, float, float, float]:
    """Gains forward and backward, each measured and predicted; NaN where there is no prediction."""
    activation, weights, depth, width, seed = values
    try:
        found = propagate(
            depth=depth,
            width=width,
            activation=activation,
            weight_init=weights,
            bias_init=bias_init,
            seeds=range(seed, seed + 1),
        )
    except (ValueError, NotImplementedError):  # a single layer, weights of another mean than 0, or of no known law
        return math.nan, math.nan, math.nan, math.nan
    return found.forward_gain, found.forward_predicted, found.backward_gain, found.backward_predicted


# The file


class _Log:
    """JSON lines: the settings, then an outcome each. What an interruption has left of a last line is cut off."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.outcomes = path, list[Outcome]()
        head = {"sweep": 1} | settings
        content = path.read_bytes() if path.exists() else b""
        *lines, rest = content.split(b"\n")
        if not lines and not json.dumps(head).encode().startswith(rest):
            raise ValueError(f"sweep: {path} is a file, but none of a sweep: choose another name")
        for number, line in enumerate(lines, 1):
            try:
                entry = dict(json.loads(line))
                if number > 1:
                    self.outcomes.append(_outcome(entry))
                elif entry.pop("sweep") != head["sweep"]:
                    raise ValueError
            except (KeyError, TypeError, ValueError):
                what = "is none of a sweep" if number == 1 else "is no outcome: the file is damaged"
                raise ValueError(f"sweep: line {number} of {path} {what}; choose another name") from None
            for name, value in settings.items() if number == 1 else ():
                if entry.get(name) != value:
                    was = f"there {name} is {entry.get(name)}, here {value}"
                    raise ValueError(f"sweep: {path} belongs to another sweep: {was}; choose another name")
        if rest:
            os.truncate(path, len(content) - len(rest))
        if not lines:
            self._write(head)

    def append(self, outcome: Outcome) -> None:
        fields = outcome._asdict().items()
        self._write({k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields})

    def _write(self, entry: dict[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")


def _outcome(entry: dict[str, Any]) -> Outcome:
    """What ``append`` wrote: JSON has no words for figures that are not finite, so that these are texts."""
    kept = Outcome._fields[:5] + Outcome._fields[-1:]
    fields: dict[str, Any] = {name: value if name in kept else float(value) for name, value in entry.items()}
    return Outcome(**fields)
