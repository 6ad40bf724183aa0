"""The laws of the package, one at a time, in Hypothesis's profile and within its deadline."""

from functools import cache

from hypothesis import Phase, given, settings

import minigrad as mg
from minigrad.testing import ops
from minigrad.testing.laws import LAWS
from minigrad.testing.samples import DOUBLE, F32, F64, SMALL, leaves_of, pull, samples

__all__ = ["DOUBLE", "F32", "F64", "LAWS", "SMALL", "applies", "check", "leaves_of", "power", "pull", "samples"]


@cache
def warm(name: str) -> None:
    """Compile the op's kernels in both precisions, so that no example pays for it."""
    for dtype in (F32, F64):

        @settings(max_examples=4, phases=[Phase.generate], derandomize=True, database=None, deadline=60_000)
        @given(samples(mg.REGISTRY[name], SMALL, (dtype,)))
        def compiled(s):
            if s.active:
                pull(s, s.cotangent())
            s.value()

        compiled()


def applies(name: str, law: str) -> bool:
    return not LAWS[law].unless(mg.REGISTRY[name])


def check(name: str, law: str, **how) -> None:
    """AssertionError, with the counterexample, unless the law holds for the op, or does not apply."""
    warm(name)
    found = ops.check(mg.REGISTRY[name], law, settings(**how))
    assert found.verdict != "fail", f"{law}: {found.detail}"


def power(name: str) -> None:
    found = ops.power(mg.REGISTRY[name], settings(max_examples=20, derandomize=True, database=None))
    assert found.verdict != "fail", found.detail
