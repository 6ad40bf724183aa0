"""Figures of arrays, for people to look at: in float64, in one pass over memory, and in no promised order."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad.kernels import jit
from minigrad.kernels.jit import kernel
from minigrad.kernels.simd import offset

Array = NDArray[Any]

LANES = 64  # of a sum over a whole array: independent of one another, so that the compiler makes vectors of them


class Moments(NamedTuple):
    """Of a matrix: the mean of its elements, and of their squares; the variance of its columns' means; their sums."""

    mean: float
    square: float
    between: float
    sums: Array  # of equal columns equal, to the bit


@kernel("Td*", ints=2)
def _moments(x: Any, work: Any, n: Any, units: Any) -> None:
    """``work``: the Moments of x (n, units), three numbers and the sums of its columns; then those of their squares."""
    sums, squares, fours = offset(work, 3), offset(work, 3 + units), n - n % 4
    for j in range(units):
        sums[j] = squares[j] = 0.0
    for i in range(0, fours, 4):  # the sums are read and written once for four rows
        row0 = offset(x, i * units)
        row1, row2, row3 = offset(row0, units), offset(row0, 2 * units), offset(row0, 3 * units)
        for j in range(units):
            a, b, c, d = np.float64(row0[j]), np.float64(row1[j]), np.float64(row2[j]), np.float64(row3[j])
            sums[j] += a + b + (c + d)
            squares[j] += a * a + b * b + (c * c + d * d)
    for i in range(fours, n):
        row = offset(x, i * units)
        for j in range(units):
            value = np.float64(row[j])
            sums[j] += value
            squares[j] += value * value
    total = square = between = 0.0
    for j in range(units):
        total += sums[j]
        square += squares[j]
    mean = total / units / n
    for j in range(units):
        between += (sums[j] / n - mean) * (sums[j] / n - mean)
    work[0], work[1], work[2] = mean, square / units / n, between / units


@kernel("TTi*", ints=2)
def _slopes(x: Any, limit: Any, work: Any, n: Any, units: Any) -> None:
    """work[0]: how many elements of x (n, units) are below the limit in size; work[1]: how many columns are all 0.

    ``work`` has 2 + 2 units elements.
    """
    flat, steep, most, fours = offset(work, 2), offset(work, 2 + units), limit[0], n - n % 4
    for j in range(units):
        flat[j] = steep[j] = 0
    for i in range(0, fours, 4):
        row0 = offset(x, i * units)
        row1, row2, row3 = offset(row0, units), offset(row0, 2 * units), offset(row0, 3 * units)
        for j in range(units):
            a, b, c, d = row0[j], row1[j], row2[j], row3[j]
            flat[j] += int(abs(a) < most) + int(abs(b) < most) + int(abs(c) < most) + int(abs(d) < most)
            steep[j] |= int(a != 0.0) | int(b != 0.0) | int(c != 0.0) | int(d != 0.0)
    for i in range(fours, n):
        row = offset(x, i * units)
        for j in range(units):
            flat[j] += int(abs(row[j]) < most)
            steep[j] |= int(row[j] != 0.0)
    work[0] = work[1] = 0
    for j in range(units):
        work[0] += flat[j]
        work[1] += int(steep[j] == 0)


@kernel("Td*", ints=1)
def _squares(a: Any, sums: Any, n: Any) -> None:
    """sums[0] = the sum of a²; ``sums`` has LANES elements."""
    whole = n - n % LANES
    for j in range(LANES):
        sums[j] = 0.0
    for i in range(0, whole, LANES):
        for j in range(LANES):
            value = np.float64(a[i + j])
            sums[j] += value * value
    for i in range(whole, n):
        sums[0] += np.float64(a[i]) * np.float64(a[i])
    for j in range(1, LANES):
        sums[0] += sums[j]


@kernel("TTd*", ints=1)
def _change(a: Any, b: Any, work: Any, n: Any) -> None:
    """work[0] = the sum of a², work[LANES] that of (b - a)²; ``work`` has 2 LANES elements."""
    whole, moved = n - n % LANES, offset(work, LANES)
    for j in range(LANES):
        work[j] = moved[j] = 0.0
    for i in range(0, whole, LANES):
        for j in range(LANES):
            before = np.float64(a[i + j])
            step = np.float64(b[i + j]) - before
            work[j] += before * before
            moved[j] += step * step
    for i in range(whole, n):
        before = np.float64(a[i])
        step = np.float64(b[i]) - before
        work[0] += before * before
        moved[0] += step * step
    for j in range(1, LANES):
        work[0] += work[j]
        moved[0] += moved[j]


def _ready(a: Array) -> Array | None:
    """As the kernels need it, or None if there are none for it."""
    if not jit.AVAILABLE or a.dtype.char not in "fd":
        return None
    return a if a.flags.c_contiguous else np.ascontiguousarray(a)


def moments(rows: Array) -> Moments:
    """The moments of floats (n, units), neither of them 0."""
    n, units = rows.shape
    if (ready := _ready(rows)) is not None:
        work = np.empty(3 + 2 * units)
        _moments[ready.dtype](ready, work, n, units)
        return Moments(work.item(0), work.item(1), work.item(2), work[3 : 3 + units])
    with np.errstate(all="ignore"):
        wide = rows.astype(np.float64)
        return Moments(float(wide.mean()), float((wide**2).mean()), float(wide.mean(0).var()), wide.sum(0))


def slopes(rows: Array, limit: float) -> tuple[int, int]:
    """(how many elements of floats (n, units) are below the limit in size, how many columns are all 0)."""
    n, units = rows.shape
    if (ready := _ready(rows)) is not None:
        work = np.empty(2 + 2 * units, np.int64)
        _slopes[ready.dtype](ready, np.array(limit, ready.dtype), work, n, units)
        return work.item(0), work.item(1)
    return int(np.count_nonzero(np.abs(rows) < limit)), units - int(np.count_nonzero((rows != 0).any(0)))


def square_sum(a: Array) -> float:
    """Σ a² of floats."""
    if (ready := _ready(a)) is not None:
        sums = np.empty(LANES)
        _squares[ready.dtype](ready, sums, ready.size)
        return sums.item(0)
    with np.errstate(all="ignore"):
        wide = a.astype(np.float64).ravel()
        return float(wide @ wide)


def change(a: Array, b: Array) -> tuple[float, float]:
    """(Σ a², Σ (b − a)²) of floats of one shape and dtype."""
    if (old := _ready(a)) is not None and (new := _ready(b)) is not None:
        work = np.empty(2 * LANES)
        _change[old.dtype](old, new, work, old.size)
        return work.item(0), work.item(LANES)
    with np.errstate(all="ignore"):
        return square_sum(a), square_sum(b.astype(np.float64) - a)
