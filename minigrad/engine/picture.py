"""A tape as a picture: its lines, and arcs at their left that lead from operands to results."""

from __future__ import annotations

import html
import unicodedata
from typing import TYPE_CHECKING

from minigrad.engine.listing import rows

if TYPE_CHECKING:
    from minigrad.engine.tape import Tape

#: Pixels: of a line, of a character of the fixed-width font, and the most that an arc reaches to the left.
LINE, CHARACTER, REACH = 22, 7.3, 120
STYLE = (  # of this picture alone: a page may have others
    ".tape text{font:12px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:currentColor;white-space:pre}"
    ".tape .formula,.tape .cell,.tape .module{opacity:.6}.tape .module{font-weight:600}.tape .norm{fill:#d0622a}"
    ".tape path,.tape .leaf{fill:none;stroke:#4a86c5}.tape circle{fill:#4a86c5}"
)


def picture(tape: Tape) -> str:
    """See :meth:`Tape.svg`."""
    found = rows(tape)
    middle = {}  # of the line that shows a node
    for i, (nodes, _) in enumerate(found):
        middle.update(dict.fromkeys(nodes, i * LINE + LINE / 2))
    number = {node: i for i, node in enumerate(tape.nodes)}
    arcs = dict.fromkeys(
        (middle[number[p]], middle[i])
        for i, node in enumerate(tape.nodes)
        for p in node.parents
        if hasattr(p, "seq") and middle[number[p]] != middle[i]
    )
    left = 12 + max((_reach(a, b) for a, b in arcs), default=0)
    columns = [0, 1, 2, 3, *([5] if tape.cotangents else [])]
    kinds = ("cell", "name", "formula", "cell", "", "norm")
    cells = [[cells[c] for c in columns] for _, cells in found if len(cells) > 1]
    starts = [left + 14.0]
    for column in zip(*cells, strict=True):
        starts.append(starts[-1] + CHARACTER * (max(map(_length, column)) + 2))
    parts = [
        f'<path d="M{left} {a:g}C{left - _reach(a, b) * 4 / 3:.1f} {a:g} {left - _reach(a, b) * 4 / 3:.1f} {b:g} '
        f'{left} {b:g}"/>'
        for a, b in arcs
    ]
    width = starts[-1]
    for i, (nodes, row) in enumerate(found):
        y = i * LINE + LINE / 2
        if len(row) == 1:
            parts.append(_text("module", starts[0], y, row[0].strip(" ─")))
            width = max(width, starts[0] + CHARACTER * len(row[0]))
            continue
        leaf = ' class="leaf"' if tape.nodes[nodes[0]].op is None else ""
        parts.append(f'<circle cx="{left}" cy="{y:g}" r="3"{leaf}/>')
        parts += [_text(kinds[c], x, y, row[c]) for c, x in zip(columns, starts, strict=False) if row[c]]
    height = len(found) * LINE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tape" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'height="{height}" role="img" aria-label="a tape of {len(tape)} lines"><style>{STYLE}</style>'
        f"{''.join(parts)}</svg>"
    )


def _reach(a: float, b: float) -> float:
    return min(REACH, 8 + abs(b - a) / 4)


def _text(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y + 4:g}">{html.escape(text)}</text>'


def _length(text: str) -> int:
    """Characters that take room: combining marks do not."""
    return sum(not unicodedata.combining(c) for c in text)
