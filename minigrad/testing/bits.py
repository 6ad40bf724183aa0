"""Equality to the bit, memory layouts, and how a check becomes a property."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.testing.report import Property

Array = NDArray[Any]


class NotApplicableError(Exception):
    """This property says nothing about this subject, for the reason given."""


def attempt(name: str, run: Callable[[], int | None]) -> Property:
    """The property that ``run`` checks: it returns on how many examples, or raises what is wrong."""
    try:
        examples = run()
    except NotApplicableError as why:
        return Property(name, "n/a", str(why))
    except Exception as error:  # whatever a user's code raises is what has been found
        return Property(name, "fail", sentence(error))
    return Property(name, "pass", examples=examples or 1)


def sentence(error: Exception) -> str:
    return str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"


def need(holds: Any, what: str) -> None:
    """Raise AssertionError with this text unless it holds."""
    if not holds:
        raise AssertionError(what)


def same(got: Any, expected: Any, what: str, zeros: bool = False) -> None:
    """Equal bytes, any NaN equal to any NaN; with ``zeros`` −0 equal to +0."""
    got, expected = np.asarray(got), np.asarray(expected)
    need(got.dtype == expected.dtype, f"{what}: the dtype is {got.dtype}, but must be {expected.dtype}")
    need(got.shape == expected.shape, f"{what}: the shape is {got.shape}, but must be {expected.shape}")
    equal = got == expected
    if got.dtype.kind == "f":
        equal = (equal & (zeros | (np.signbit(got) == np.signbit(expected)))) | (np.isnan(got) & np.isnan(expected))
    if not np.all(equal):
        i = tuple(np.argwhere(~equal)[0].tolist())
        count = f"{np.count_nonzero(~equal)} of {equal.size} differ"
        need(False, f"{what}: got {got[i]} for {expected[i]} at {list(i)} ({count})")


def _strided(a: Array) -> Array:
    wide = np.full(tuple(2 * n + 1 for n in a.shape), 9).astype(a.dtype)
    odd: Any = (..., *[slice(1, None, 2)] * a.ndim)
    wide[odd] = a
    return np.asarray(wide[odd])


def read_only(a: Array) -> Array:
    a = a.copy()
    a.flags.writeable = False
    return a


def _broadcast(a: Array) -> Array:
    return np.asarray(np.broadcast_to(a, (2, *a.shape))[1, ...])


#: A copy of an array, or a view of one, whose memory lies otherwise.
LAYOUTS = MappingProxyType[str, Callable[[Array], Array]](
    {
        "C": lambda a: np.array(a, order="C"),
        "Fortran": lambda a: np.asfortranarray(a).reshape(a.shape),
        "strided": _strided,
        "reversed": lambda a: np.asarray(np.flip(np.flip(a).copy())),
        "read-only": read_only,
        "broadcast": _broadcast,
        "unaligned": lambda a: np.frombuffer(b"0" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
    }
)
