"""``check_op``: everything that an op must satisfy, on samples drawn from its own declaration."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.engine.op import REGISTRY, Op
from minigrad.testing.bits import sentence
from minigrad.testing.report import Property, Report

if TYPE_CHECKING:  # they need Hypothesis
    import hypothesis

    from minigrad.testing.laws import Law
    from minigrad.testing.samples import Sample


def check_op(op: Op | str, examples: int = 20, seed: int = 0) -> Report:
    """Check everything that an op must satisfy, all of it derived from its declaration.

    op: an op, one of your own too, or its name. Each property is a law, checked on about ``examples`` samples that
    ``seed`` determines: values from the argument's domains, shapes from letters or cases, all layouts and dtypes. A
    property that fails shows a counterexample, as small as Hypothesis finds one; one that does not apply says why.

    Raises ImportError, saying what to install, without Hypothesis; ValueError for a name that no op has.

    >>> import minigrad as mg
    >>> bool(check_op(mg.tanh, examples=4))
    True
    """
    return report(op, examples, seed)


def report(op: Op | str, examples: int, seed: int, only: str | None = None) -> Report:
    """What :func:`check_op` reports, or of it only the property of this name."""
    op = _found(op)
    return Report(f"{op.name}: {op.formula}", tuple(properties(op, examples, seed, only=only)))


def _found(op: Op | str) -> Op:
    if isinstance(op, str):
        if op not in REGISTRY:
            near = difflib.get_close_matches(op, REGISTRY, 1)
            raise ValueError(f"check_op: there is no op {op!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        op = REGISTRY[op]
    if not isinstance(op, Op):
        raise TypeError(f"check_op: need an op, made with @mg.op, or its name, got {type(op).__name__}")
    return op


def properties(
    op: Op, examples: int = 20, seed: int = 0, shrink: bool = True, only: str | None = None
) -> Iterator[Property]:
    """The properties of :func:`check_op`, or the one of this name, one by one, as they are found.

    ``shrink=False``: a counterexample need not be the least one.
    """
    try:
        import hypothesis
    except ImportError:
        raise ImportError("check_op draws its samples with Hypothesis: pip install hypothesis") from None
    from minigrad.testing.laws import LAWS

    if op.shapes == "free" and not op.cases:
        why = "its shapes are free: say what to call it with, as in cases=[(((3, 4),), {})], one shape for each array"
        yield Property("samples", "fail", why)
        return
    phases = (hypothesis.Phase.generate, *([hypothesis.Phase.shrink] if shrink else []))
    how = hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=False,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )
    for name in (*LAWS, "power"):
        if only in (None, name):
            with np.errstate(all="ignore"):  # formulas may meet zeros and infinities; what they give is what counts
                found = check(op, name, how, seed) if name in LAWS else power(op, how, seed)
            yield found


def check(op: Op, law: str, how: hypothesis.settings, seed: int | None = None) -> Property:
    """One law, by its name, for one op, on its share of ``how.max_examples``; the samples are Hypothesis's choice
    unless there is a seed."""
    from minigrad.testing.laws import LAWS

    rule = LAWS[law]
    if why := rule.unless(op):
        return Property(law, "n/a", why)
    examples = 1 + max(2, round(how.max_examples * rule.share)) if rule.share else 1  # the first is a trivial one
    seen, found = _run(op, rule, rule.holds, examples, how, seed)
    return Property(law, "fail" if found else "pass", found, seen)


def power(op: Op, how: hypothesis.settings, seed: int | None = None) -> Property:
    """Whether the samples can tell: among them each argument has a derivative that is not zero, or is written; and
    the output of an op without derivatives depends on it."""
    from minigrad.testing.laws import LAWS, moving, tied
    from minigrad.testing.samples import DOUBLE, pull

    name = "power"
    plain = not op.differentiable and not op.writes
    wanted = set(op.arrays) if plain else set(op.writes) or moving(op)
    if not wanted:
        return Property(name, "n/a", "its derivative is zero everywhere")
    moved: set[str] = set()

    def look(s: Sample) -> None:
        if op.writes:
            tensors = s.tensors()
            s(tensors)
            now = zip(s.names, tensors, s.args, strict=True)
            moved.update(n for n, t, a in now if isinstance(a, np.ndarray) and not np.array_equal(t.data, a))
        elif plain:
            s = tied(s)
            y = s.value()
            for i, a in enumerate(s.args):
                if isinstance(a, np.ndarray) and a.size:
                    others = np.resize(np.append(a.ravel()[1:], 0), a.shape).astype(a.dtype)
                    other = s.value([*s.args[:i], others, *s.args[i + 1 :]])
                    moved.update([] if np.array_equal(y, other) else [s.names[i]])
        else:
            gradients = pull(s, s.cotangent()) if s.active else ()
            moved.update(s.names[i] for i, gradient in zip(s.active, gradients, strict=True) if np.any(gradient))

    seen, found = _run(op, replace(LAWS["first"], dtypes=DOUBLE), look, min(20, how.max_examples), how, seed)
    still = sorted(wanted - moved)
    if still and not found:
        what = "is never changed" if op.writes else "changes nothing" if plain else "has a gradient that is zero"
        found = f"on every sample {' and '.join(still)} {what}"
    return Property(name, "fail" if found else "pass", found, seen)


def _run(op: Op, law: Law, holds: Any, examples: int, how: hypothesis.settings, seed: int | None) -> tuple[int, str]:
    """(on how many samples, what is wrong with the least one that Hypothesis finds); an empty text if none is."""
    import hypothesis

    from minigrad.testing.laws import empty
    from minigrad.testing.samples import samples

    seen = 0
    failing: tuple[Sample, Exception] | None = None

    @hypothesis.settings(how, max_examples=examples)
    @hypothesis.given(samples(op, law.sizes, law.dtypes))
    def run(s: Sample) -> None:
        nonlocal seen, failing
        seen += failing is None
        if law.holds is not empty and s.refused():
            return
        try:
            holds(s)
        except Exception as error:  # of a user's code, too: Hypothesis looks for a smaller sample
            failing = s, error
            raise

    try:
        (run if seed is None else hypothesis.seed(seed)(run))()
    except Exception as error:  # whatever a user's op raises is what has been found
        if failing is None:
            return seen, sentence(error)
        if not law.share:
            return seen, sentence(error)  # of the op, whatever the sample
        sample, error = _simplest(holds, *failing)
        return seen, f"{sentence(error)}\n{sample}"
    return seen, ""


def _simplest(holds: Any, sample: Sample, error: Exception) -> tuple[Sample, Exception]:
    """The failing sample with as few decimals as it fails with."""
    for digits in (0, 1, 2):
        if (rounded := sample.rounded(digits)) is not None:
            try:
                holds(rounded)
            except Exception as other:  # the same
                return rounded, other
    return sample, error
