"""What a check found: named properties, each with a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Literal, NamedTuple

Verdict = Literal["pass", "fail", "n/a"]


class Property(NamedTuple):
    """One property: its name, whether it holds, what was seen, and on how many examples."""

    name: str
    verdict: Verdict
    detail: str = ""
    examples: int = 0


class Report:
    """The properties of one subject; true if none failed.

    >>> report = Report("relu", (Property("linear", "pass", examples=20), Property("second", "n/a", "is linear")))
    >>> bool(report)
    True
    >>> print(report)
    relu
    linear  pass  20
    second  n/a    0  is linear
    """

    def __init__(self, subject: object, properties: Sequence[Property]) -> None:
        self.subject, self.properties = str(subject), tuple(properties)

    def __bool__(self) -> bool:
        return all(p.verdict != "fail" for p in self.properties)

    def __str__(self) -> str:
        wide = max((len(p.name) for p in self.properties), default=0)
        count = max((len(str(p.examples)) for p in self.properties), default=0)
        margin = "\n" + " " * (wide + count + 10)
        rows = (
            f"{p.name:{wide}}  {p.verdict:4}  {p.examples:{count}}  {p.detail.replace(chr(10), margin)}".rstrip()
            for p in self.properties
        )
        return "\n".join((self.subject, *rows))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(p.name)}<td>{escape(p.verdict)}<td>{p.examples}<td><pre>{escape(p.detail)}</pre>"
            for p in self.properties
        )
        return f"<table><caption>{escape(self.subject)}</caption>{rows}</table>"
