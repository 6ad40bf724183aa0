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
    """Of a matrix: the mean of its elements, and of their squares; the variance of the means of its columns."""

    mean: float
    square: float
    between: float


@kernel("Td*d*", ints=2)
def _moments(x: Any, work: Any, out: Any, n: Any, units: Any) -> None:
    """``work``: the sums, and the sums of squares, of the columns of x (n, units); ``out``: see Moments."""
    squares = offset(work, units)
    for j in range(units):
        work[j] = squares[j] = 0.0
    for i in range(n):
        row = offset(x, i * units)
        for j in range(units):
            value = np.float64(row[j])
            work[j] += value
            squares[j] += value * value
    total = square = between = 0.0
    for j in range(units):
        total += work[j]
        square += squares[j]
    mean = total / units / n
    for j in range(units):
        between += (work[j] / n - mean) * (work[j] / n - mean)
    out[0], out[1], out[2] = mean, square / units / n, between / units


@kernel("Tdi*i*", ints=2)
def _slopes(x: Any, limit: Any, work: Any, out: Any, n: Any, units: Any) -> None:
    """``out``: how many elements of x (n, units) are below the limit in size, how many columns are all 0."""
    steep = offset(work, units)
    for j in range(units):
        work[j] = steep[j] = 0
    for i in range(n):
        row = offset(x, i * units)
        for j in range(units):
            work[j] += int(abs(np.float64(row[j])) < limit[0])
            steep[j] += int(row[j] != 0.0)
    out[0] = out[1] = 0
    for j in range(units):
        out[0] += work[j]
        out[1] += int(steep[j] == 0)


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


def _knows(a: Array) -> bool:
    return jit.AVAILABLE and a.dtype in (np.float32, np.float64)


def moments(rows: Array) -> Moments:
    """The moments of floats (n, units), neither of them 0."""
    n, units = rows.shape
    if _knows(rows):
        work, out = np.empty(2 * units), np.empty(3)
        _moments[rows.dtype](np.ascontiguousarray(rows), work, out, n, units)
        return Moments(*out.tolist())
    with np.errstate(all="ignore"):
        wide = rows.astype(np.float64)
        return Moments(float(wide.mean()), float((wide**2).mean()), float(wide.mean(0).var()))


def slopes(rows: Array, limit: float) -> tuple[int, int]:
    """(how many elements of floats (n, units) are below the limit in size, how many columns are all 0)."""
    n, units = rows.shape
    if _knows(rows):
        work, out = np.empty(2 * units, np.int64), np.empty(2, np.int64)
        _slopes[rows.dtype](np.ascontiguousarray(rows), np.array([limit]), work, out, n, units)
        flat, dead = out.tolist()
        return flat, dead
    return int(np.count_nonzero(np.abs(rows) < limit)), units - int(np.count_nonzero((rows != 0).any(0)))


def square_sum(a: Array) -> float:
    """Σ a² of floats."""
    if _knows(a):
        sums = np.empty(LANES)
        _squares[a.dtype](np.ascontiguousarray(a), sums, a.size)
        return sums.item(0)
    with np.errstate(all="ignore"):
        wide = a.astype(np.float64).ravel()
        return float(wide @ wide)


def change(a: Array, b: Array) -> tuple[float, float]:
    """(Σ a², Σ (b − a)²) of floats of one shape and dtype."""
    if _knows(a):
        work = np.empty(2 * LANES)
        _change[a.dtype](np.ascontiguousarray(a), np.ascontiguousarray(b), work, a.size)
        return work.item(0), work.item(LANES)
    with np.errstate(all="ignore"):
        return square_sum(a), square_sum(b.astype(np.float64) - a)
