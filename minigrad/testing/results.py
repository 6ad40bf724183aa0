"""What a run over many subjects found, as JSON and as JUnit's XML."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from minigrad.testing.report import Property
from minigrad.testing.subjects import Subject


class Result(NamedTuple):
    """The properties of a subject, and how many seconds each took."""

    subject: Subject
    properties: tuple[Property, ...]
    seconds: tuple[float, ...]


def checked(subject: Subject, profile: str = "quick", seed: int = 0) -> Result:
    """The subject's properties, all of them.

    >>> from minigrad.testing.subjects import collect
    >>> result = checked(collect(["Identity"])[0])
    >>> [p.name for p in result.properties if p.verdict == "fail"]
    []
    """
    properties, seconds, start = [], [], time.perf_counter()
    for found in subject.properties(profile, seed):
        properties.append(found)
        now = time.perf_counter()
        seconds.append(now - start)
        start = now
    return Result(subject, tuple(properties), tuple(seconds))


def failures(results: Iterable[Result]) -> list[tuple[Subject, Property]]:
    return [(r.subject, p) for r in results for p in r.properties if p.verdict == "fail"]


def to_json(results: Sequence[Result], profile: str, seed: int) -> bytes:
    """An object: profile, seed, passed, and subjects: kind, name, source, and properties with the fields of Property.

    The same seed gives the same bytes, in UTF-8.
    """
    subjects = [
        {"kind": s.kind, "name": s.name, "source": s.source, "properties": [p._asdict() for p in properties]}
        for s, properties, _ in results
    ]
    whole = {"profile": profile, "seed": seed, "passed": not failures(results), "subjects": subjects}
    # a lone surrogate has no UTF-8, but JSON escapes are Python's
    return (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def to_junit(results: Sequence[Result]) -> bytes:
    """A testsuite for each subject, a testcase for each property, skipped where it does not apply."""
    root = ElementTree.Element("testsuites", name="minigrad check")
    for s, properties, seconds in results:
        verdicts = [p.verdict for p in properties]
        counts = {"tests": len(verdicts), "failures": verdicts.count("fail"), "skipped": verdicts.count("n/a")}
        numbers = {key: str(n) for key, n in counts.items()} | {"errors": "0", "time": f"{sum(seconds):.3f}"}
        named = {"name": _legal(f"{s.kind} {s.name} ({s.source})")} | numbers
        suite = ElementTree.SubElement(root, "testsuite", named)
        for p, taken in zip(properties, seconds, strict=True):
            what = {"classname": _legal(f"{s.source}.{s.kind}.{s.name}"), "name": p.name, "time": f"{taken:.3f}"}
            case = ElementTree.SubElement(suite, "testcase", what)
            detail = _legal(p.detail)
            if p.verdict == "fail":
                ElementTree.SubElement(case, "failure", message=detail.partition("\n")[0]).text = detail
            elif p.verdict == "n/a":
                ElementTree.SubElement(case, "skipped", message=detail)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _legal(text: str) -> str:
    """The text with what XML 1.0 has no way to say (section 2.2) written as Python does."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", lambda found: ascii(found[0])[1:-1], text)
