"""``mg.explore``: a tape as one HTML file to step through, and a training as a film of its tapes."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import linecache
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.engine.archive import walk
from minigrad.engine.listing import norm, saves
from minigrad.engine.state import Observer, mode, observe
from minigrad.engine.tape import Node, Tape
from minigrad.engine.tensor import Tensor
from minigrad.nn.twins import first_alike

Array = np.ndarray[Any, Any]

#: Characters that a page has for what arrays hold: a tape of 10⁴ lines has another 2 MB of lines, and stays below 5 MB.
ROOM = 3_000_000
#: The most numbers, and cells of a heat map, for one array: more cannot be looked at. CHARACTERS: those of a number.
NUMBERS, CELLS, SIDE, CHARACTERS = 256, 2048, 64, 13
#: More units than this are not compared.
UNITS = 4096


def explore(what: Tensor | Tape | Callable[[], Tensor] | Film, path: str | Path, gradient: Any = None) -> Path:
    """Write a tape as one HTML file that can be stepped through, forward and backward; returns its path.

    what: a tensor, its tape, a function that computes one from nothing, or a :class:`Film`. gradient: the cotangent of
    the last line, 1 for one element. The page needs no network and nothing installed. Arrays of up to 256 elements are
    in it as they are, larger ones as heat maps with minimum, mean, maximum and norm; where a tape is long, fewer.
    ``.grad`` is not touched, and a tape that backward has freed is run again.

    Raises RuntimeError if nothing was recorded, or if a leaf was written since; ValueError for a gradient that is
    missing or misshapen.

    >>> import minigrad as mg, tempfile
    >>> x = mg.tensor([1.0, 2.0], requires_grad=True, name="x")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = mg.explore(mg.tanh(x * x).sum(), f"{folder}/tape.html").read_text(encoding="utf-8")
    >>> "y = tanh x" in page
    True
    """
    if isinstance(what, Film):
        film = what
    else:
        if not isinstance(what, Tensor | Tape):
            what = what()
        film = Film(1)
        film.take(what if isinstance(what, Tape) else Tape.of(what), gradient)
    path = Path(path)
    path.write_text(film.page(path.stem), encoding="utf-8")
    return path


@contextlib.contextmanager
def film(path: str | Path, steps: int = 50) -> Iterator[Film]:
    """Film the backward passes inside this block, and write them as one page at its end: see :func:`explore`.

    The first ``steps`` of them that have the same tape are frames of the page, which has a second slider for them, the
    loss above it, and a view of the whole network: parameters, gradients and hidden units as they move. Units that are
    equal to the bit are marked as twins. The training loop stays as it is: compiled steps run eagerly inside.

    Raises RuntimeError if no backward ran. Warns (RuntimeWarning) of tapes that differ from the first.

    >>> import minigrad as mg, numpy as np, tempfile
    >>> from minigrad import nn, optim
    >>> net = nn.Sequential(nn.Linear(2, 3, weight_init=0.5), nn.Tanh(), nn.Linear(3, 1))
    >>> opt = optim.SGD(net.parameters(), lr=0.1)
    >>> x, y = np.eye(2, dtype="float32"), np.ones((2, 1), "float32")
    >>> with tempfile.TemporaryDirectory() as folder, mg.film(f"{folder}/training.html") as film:
    ...     for _ in range(5):
    ...         loss = mg.mse_loss(net(x), y)
    ...         opt.zero_grad()
    ...         loss.backward()
    ...         opt.step()
    >>> len(film)
    5
    """
    found = Film(steps)
    with observe(found):
        yield found
    explore(found, path)
    if found.others:
        warnings.warn(
            f"film: {found.others} of {found.walks} backward passes had another tape than the first, and are not in it",
            RuntimeWarning,
            stacklevel=3,
        )


class Film(Observer):
    """The observer of :func:`film`: what each backward saw, as far as a page shows it. It holds on to no tape.

    steps: how many are kept; the first, or with ``last`` the last.
    """

    __slots__ = ("ahead", "frames", "last", "lines", "others", "steps", "walks")
    looks_inside = False

    def __init__(self, steps: int, last: bool = False) -> None:
        self.steps, self.last = steps, last
        self.lines: dict[str, Any] = {}
        self.frames: list[dict[str, Any]] = []
        self.walks = 0  # backward passes so far
        self.others = 0  # tapes that differ from the first
        self.ahead: set[int] = set()  # nodes that the walk has not reached: any other begins a walk

    def __len__(self) -> int:
        return len(self.frames)

    def sent(self, node: Node, cotangent: Any, contributions: Any) -> None:
        if node.seq in self.ahead:
            self.ahead.discard(node.seq)
            return
        self.walks += 1
        tape = Tape.behind(node)
        self.ahead = {line.seq for line in tape} - {node.seq}
        if self.last or len(self.frames) < self.steps:
            self.take(tape, getattr(cotangent, "_data", cotangent))

    def take(self, tape: Tape, gradient: Any = None) -> None:
        """Make a frame of a tape, which is run again for it. Raises as :meth:`Tape.backward`."""
        with mode(observer=None):
            values, walked = tape.values(), walk(tape, gradient)
        lines, constants, scalars = _lines(tape)
        if self.last:
            self.frames = self.frames[len(self.frames) + 1 - self.steps :] if lines == self.lines else []
        if self.frames and lines != self.lines:
            self.others += 1
            return
        self.lines = lines
        self.frames.append({**_frame(tape, values, walked, constants, self.steps), "scalars": scalars})

    def page(self, title: str) -> str:
        """The whole page, as text. Raises RuntimeError if there is no frame."""
        if not self.frames:
            raise RuntimeError("explore: no backward ran, so there is nothing to show")
        content = json.dumps({**self.lines, "frames": self.frames}, ensure_ascii=False, separators=(",", ":"))
        folder = resources.files("minigrad.explorer")
        page, css, js = (folder.joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
        parts = {"title": html.escape(title), "css": css, "js": js, "tape": content.replace("<", "\\u003c")}
        first, *rest = page.split("{{")
        return first + "".join(parts[name] + text for name, text in (piece.split("}}", 1) for piece in rest))


def _lines(tape: Tape) -> tuple[dict[str, Any], list[Array], list[Any]]:
    """What all frames of a film have in common, with tables for what many lines share; constant arrays; and numbers.

    A node is [op or −1, name, path, place, [input, …], options, saved, shape, dtype], an input the number of a node,
    {"constant": which}, {"scalar": which} or null.
    """
    number = {node: i for i, node in enumerate(tape.nodes)}
    tables: dict[str, dict[Any, int]] = {"paths": {}, "places": {}, "shapes": {}, "dtypes": {}, "notes": {}}
    ops: dict[str, dict[str, Any]] = {}
    constants: dict[int, tuple[int, Any]] = {}
    scalars: list[Any] = []

    def entry(table: str, value: Any) -> int:
        return tables[table].setdefault(value, len(tables[table]))

    def given(value: Any) -> Any:
        if type(value) is Node:
            return number[value]
        if value is None:
            return None
        array = getattr(value, "_data", value)
        if not isinstance(array, np.ndarray):
            scalars.append(_number(array))
            return {"scalar": len(scalars) - 1}
        return {"constant": constants.setdefault(id(value), (len(constants), array))[0]}

    nodes = [
        [
            -1 if node.op is None else ops.setdefault(node.op.name, {"index": len(ops), **_op(node.op)})["index"],
            node.name,
            entry("paths", node.path),
            entry("places", node.where),
            [given(p) for p in node.parents],
            entry("notes", ", ".join(f"{key} = {value!r}" for key, value in node.options.items())),
            entry("notes", saves(node).partition(":")[0].partition(" ")[2]),
            entry("shapes", node.shape),
            entry("dtypes", str(node.dtype)),
        ]
        for node in tape.nodes
    ]
    lines: dict[str, Any] = {"ops": list(ops.values()), "nodes": nodes}
    lines |= {table: list(entries) for table, entries in tables.items()}
    lines["places"] = [_place(place) for place in tables["places"]]
    lines["shapes"] = [list(shape) for shape in tables["shapes"]]
    return lines, [array for _, array in constants.values()], scalars


def _op(op: Any) -> dict[str, Any]:
    return {
        "name": op.name,
        "formula": op.formula,
        "arguments": [op.arrays[0]] if op.sequence else list(op.arrays),
        "sequence": op.sequence,
        "output": op.output,
        "rules": {name: rule.formula for name, rule in op.rules.items()},
        "residuals": [rule.formula for rule in op.residuals.values()],
    }


def _place(where: str) -> list[str]:
    """``file:line`` without the folder, and the text of that line."""
    file, _, line = where.rpartition(":")
    text = linecache.getline(file, int(line)).strip() if line.isdigit() else ""
    return [where.replace("\\", "/").rpartition("/")[2], text]


def _frame(
    tape: Tape, values: Mapping[Node, Array], walked: Sequence[Any], constants: Sequence[Any], frames: int
) -> dict[str, Any]:
    """What the arrays of a tape hold, by line.

    ``parts`` are the contributions to each cotangent, in the order in which they came: [from which line, for which of
    its arguments, the array, or null where it is all of the cotangent].
    """
    number = {node: i for i, node in enumerate(tape.nodes)}
    parts: list[list[Any]] = [[] for _ in tape]
    sums: dict[Node, Any] = {}
    rows = set()  # leaves whose units are rows
    for node in tape:
        if node.op is not None and node.op.name == "linear" and type(node.parents[1]) is Node:
            rows.add(node.parents[1])
    for node, g, contributions in walked:
        sums[node] = g
        seen: dict[Node, int] = {}
        for parent, new in contributions:
            places = [i for i, p in enumerate(node.parents) if p is parent]
            parts[number[parent]].append([number[node], places[min(seen.get(parent, 0), len(places) - 1)], new])
            seen[parent] = seen.get(parent, 0) + 1
    arrays = len(tape) + len(sums) + len(constants) + sum(len(found) for found in parts if len(found) > 1)
    room = ROOM // (arrays * frames)

    def shown(array: Any, node: Node | None = None) -> dict[str, Any]:
        return summary(np.asarray(array), room, None if node is None else 0 if node in rows else -1)

    def whole(array: Any) -> dict[str, Any]:
        return {"shape": list(array.shape), **shown(array)}

    return {
        "values": [shown(values[node], node) for node in tape],
        "cotangents": [shown(sums[node], node) if node in sums else None for node in tape],
        "parts": [[[i, at, shown(new) if len(found) > 1 else None] for i, at, new in found] for found in parts],
        "constants": [whole(array) for array in constants],
    }


def summary(array: Array, room: int, units: int | None = None) -> dict[str, Any]:
    """What a page shows of an array, in about ``room`` characters.

    ``numbers``, all elements in C order, or ``stats`` (minimum, mean, maximum, norm) with ``grid``
    (rows, columns) of ``cells``: the mean of each block of the array as a matrix (leading axes together), as signed
    bytes in multiples of ``top`` / 127, −128 for what is not finite. ``units``: the axis whose equal members are twins;
    ``twins`` says for each member which it equals first.
    """
    found: dict[str, Any] = {}
    matrix = array.reshape(-1, array.shape[-1] if array.ndim else 1) if array.size else array.reshape(0, 0)
    if array.size <= max(1, min(NUMBERS, room // CHARACTERS)):
        found["numbers"] = _numbers(array)
    else:
        wide = matrix.astype(np.float64)
        with np.errstate(all="ignore"):
            found["stats"] = [_number(x) for x in (array.min(), _short(wide.mean()), array.max(), _short(norm(wide)))]
            cells = _blocks(wide, max(1, min(CELLS, (room - 80) * 3 // 4)))
        finite = np.isfinite(cells)
        top = float(np.abs(cells[finite]).max(initial=0.0))
        scaled = np.where(finite, np.rint(np.where(finite, cells, 0.0) / (top or 1.0) * 127), -128).astype(np.int8)
        found |= {"grid": list(cells.shape), "top": _short(top), "cells": base64.b64encode(scaled.tobytes()).decode()}
    if units is not None and array.ndim == 2 and array.dtype.kind == "f" and 1 < matrix.shape[units] <= UNITS:
        labels = first_alike(matrix if units == 0 else matrix.T)
        if len(set(labels)) < len(labels):
            found["twins"], found["axis"] = labels, units % 2
    return found


def matrix(found: Mapping[str, Any]) -> tuple[Array, float]:
    """The cells of a :func:`summary` without numbers, NaN where a block is not finite; and the largest size of one."""
    scaled = np.frombuffer(base64.b64decode(found["cells"]), np.int8).reshape(found["grid"])
    return np.where(scaled == -128, np.nan, scaled / 127 * found["top"]), found["top"]


def _numbers(array: Array) -> list[Any]:
    return [_number(x) for x in array.ravel()]


def _number(x: Any) -> Any:
    """A number with the fewest digits that give it back in its dtype; a text for what JSON has no number for."""
    if isinstance(x, np.floating | float):
        if not math.isfinite(x):
            return "NaN" if math.isnan(x) else "Infinity" if x > 0 else "-Infinity"
        return float(str(x))
    return x.item() if isinstance(x, np.generic) else x


def _short(x: Any) -> float:
    return float(f"{x:.8g}")


def _blocks(matrix: Array, limit: int) -> Array:
    """Means of at most ``limit`` blocks of a matrix, in its order."""
    rows, columns = matrix.shape
    r = min(rows, SIDE, math.isqrt(limit))
    c = min(columns, SIDE, limit // r)
    r = min(rows, SIDE, limit // c)
    for count in (r, c):  # rows, then columns, which are rows of the transpose
        size = len(matrix)
        edges = np.arange(count + 1) * size // count
        matrix = (np.add.reduceat(matrix, edges[:-1]) / (edges[1:] - edges[:-1])[:, None]).T
    return matrix
