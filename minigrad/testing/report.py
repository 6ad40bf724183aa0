"""What a check has found: one line for each property."""

from __future__ import annotations

import html
from typing import Any, Literal, NamedTuple

Verdict = Literal["pass", "fail", "n/a"]


class Property(NamedTuple):
    """One thing that must hold: its name, whether it does, why, and how many examples were tried."""

    name: str
    verdict: Verdict
    detail: str = ""
    examples: int = 1


class Report:
    """What was checked, and its properties. It is true if nothing failed, and prints as a table.

    >>> bool(Report("x", [Property("finite", "pass"), Property("small", "fail", "3 > 2")]))
    False
    """

    def __init__(self, subject: Any, properties: list[Property]) -> None:
        self.subject, self.properties = subject, properties

    def __bool__(self) -> bool:
        return all(p.verdict != "fail" for p in self.properties)

    def __str__(self) -> str:
        width = max((len(p.name) for p in self.properties), default=0)
        lines = [f"  {p.verdict:4}  {p.name:{width}}  {p.detail}".rstrip() for p in self.properties]
        return "\n".join([f"{self.subject}: {'pass' if self else 'fail'}", *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cells = [(p.verdict, p.name, p.detail) for p in self.properties]
        rows = "".join(f"<tr>{''.join(f'<td>{html.escape(c)}</td>' for c in row)}</tr>" for row in cells)
        return f"<table><caption>{html.escape(str(self.subject))}</caption>{rows}</table>"
