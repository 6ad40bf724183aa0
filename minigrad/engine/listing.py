"""A tape as text: one numbered line for each node, lines of a module together, repeated blocks once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from minigrad.engine.tape import Node, Tape

#: Tapes of more lines than this are folded; a block of up to PERIOD lines is folded where it stands three times.
FOLD, PERIOD = 40, 64


def listing(tape: Tape) -> str:
    """The text that ``print(tape)`` shows."""
    found = rows(tape)
    widths = [max(map(len, column)) for column in zip(*[cells for _, cells in found if len(cells) > 1], strict=True)]
    return "\n".join(
        "  ".join(map(str.ljust, cells, widths)).rstrip() if len(cells) > 1 else cells[0] for _, cells in found
    )


def rows(tape: Tape) -> list[tuple[range, tuple[str, ...]]]:
    """What a page about a tape shows, in order: (nodes, cells). One cell is a module's path, or a fold, for its nodes.

    The cells of a node: number; op and inputs, or name; formula; dtype and shape; what it saved; the norm of its
    cotangent, if the tape has them; place.
    """
    number = {node: i for i, node in enumerate(tape.nodes)}
    found: list[tuple[range, tuple[str, ...]]] = []
    path = ""
    for start, stop, period in _blocks(tape.nodes, number):
        for i in range(start, start + period):
            if tape.nodes[i].path != path:
                path = tape.nodes[i].path
                found.append((range(i, i), (f"── {path or 'outside modules'}",)))
            found.append((range(i, i + 1), _row(tape, tape.nodes[i], number)))
        if stop > start + period:
            times = (stop - start) // period
            note = f"%{start + period} to %{stop - 1}: %{start} to %{start + period - 1} again, {times} times in all"
            found.append((range(start + period, stop), (f"   … {note}",)))
    return found


def _row(tape: Tape, node: Node, number: dict[Node, int]) -> tuple[str, ...]:
    op = node.op
    what = node.name or "leaf"
    if op is not None:
        inputs = [operand(p, number) for p in node.parents]
        options = [f"{key}={value!r}" for key, value in node.options.items() if not _same(value, op.defaults.get(key))]
        what = f"{op.name}({', '.join(inputs + options)})" + (f" {node.name}" if node.name else "")
    cells = [f"%{number[node]}", what, op.formula if op else "", f"{node.dtype} {node.shape}", saves(node)]
    if tape.cotangents:
        g = tape.cotangents.get(node)
        cells.append("no cotangent" if g is None else f"|ḡ| {norm(g):.3g}")
    return *cells, node.where.replace("\\", "/").rpartition("/")[2]


def operand(parent: Any, number: dict[Node, int]) -> str:
    """An input by its number and name; a constant number as it is, an array by its shape."""
    if parent in number if hasattr(parent, "seq") else False:
        return f"%{number[parent]} {parent.name}".rstrip()
    if isinstance(parent, int | float | None):
        return str(parent)
    return f"const {parent.shape}" if parent.shape else "const"


def _same(value: Any, default: Any) -> bool:
    return value is default or (isinstance(value, int | float | str) and value == default)


def saves(node: Node) -> str:
    """What the node saved for backward, by the names of the rules, and its bytes."""
    if node.op is None or node.plan is None or not node.plan.saved:
        return ""
    n = len(node.parents)
    arrays = [f"{node.op.arrays[0]}[{i}]" for i in range(n)] if node.op.sequence else list(node.op.arrays)
    names = [*arrays, node.op.output, *node.op.residuals]
    text = ", ".join(names[source] for source in node.plan.saved)
    if node.saved is None:
        return f"freed {text}"
    return f"saves {text}: {_size(sum(getattr(value, 'nbytes', 0) for value in node.saved))}"


def _size(count: int) -> str:
    return (
        f"{count} B" if count < 10_000 else f"{count / 1e3:.0f} kB" if count < 10_000_000 else f"{count / 1e6:.0f} MB"
    )


def norm(array: Any) -> float:
    """The Euclidean norm in float64, by the largest element, so that no square overflows."""
    x = np.abs(np.asarray(array, np.float64))
    top = float(x.max(initial=0.0))
    return top if not 0 < top < np.inf else top * float(np.sqrt(np.square(x / top).sum()))


def _blocks(nodes: Sequence[Node], number: dict[Node, int]) -> Iterator[tuple[int, int, int]]:
    """(start, stop, period) of runs of equal blocks, in order; a line that stands alone is a run of period 1."""
    known: dict[Any, int] = {}
    marks = [known.setdefault(_mark(node, number), len(known)) for node in nodes]
    i = 0
    while i < len(marks):
        best = (i, i + 1, 1)
        for period in range(1, PERIOD + 1 if len(marks) > FOLD else 0):
            if marks[i] != (marks[i + period] if i + period < len(marks) else None):
                continue
            stop = i + period
            while stop < len(marks) and marks[stop] == marks[stop - period]:
                stop += 1
            stop -= (stop - i) % period
            if stop - i >= 3 * period and stop > best[1]:
                best = (i, stop, period)
        yield best
        i = best[1]


def _mark(node: Node, number: dict[Node, int]) -> Any:
    """What two lines have in common if they are the same line of two blocks: leaves by number, others by distance."""
    if node.op is None:
        return "leaf", node.name or node.seq
    inputs: list[Any] = []
    for p in node.parents:
        if hasattr(p, "seq"):
            inputs.append(("leaf", number[p]) if p.op is None else ("back", number[node] - number[p]))
        else:
            inputs.append(("const", operand(p, number)))
    options = tuple(repr(value) for value in node.options.values())
    return node.op.name, tuple(inputs), options, node.shape, node.dtype, node.path, node.site
