"""Numerical derivatives that know their own error: central differences, extrapolated to a step of zero.

A smooth f has (f(h) − f(−h)) / 2h = f'(0) + c₁h² + c₂h⁴ + …; Richardson's rule removes a term by each column of a
table, and neighbours in that table show how far it has come (Ridders, Advances in Engineering Software 4, 1982).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

STEPS = 8
COLUMNS = 4  # of the table: errors of h² to h⁸ are removed
EPS = float(np.finfo(np.float64).eps)


class Limit(NamedTuple):
    """What differences tend to, with its error; and every (estimate, own error) of the table, a row for each."""

    value: np.ndarray
    error: np.ndarray
    estimates: np.ndarray
    errors: np.ndarray


def extrapolate(central: np.ndarray, rounding: np.ndarray) -> Limit:
    """The limit of central differences (steps, ...), the steps halving from row to row.

    ``rounding``, of the same shape, is what the rounding of f leaves in each difference. An estimate's own error is
    its disagreement with its neighbours plus twice that; the best is the one of the least error among those that
    estimates of finer steps, on which f is smoother, do not contradict. Without any the error is infinite.
    """
    coarse, columns, errors = central, [], []
    for j in range(1, min(COLUMNS, len(central) - 1) + 1):
        column = (4**j * coarse[1:] - coarse[:-1]) / (4**j - 1)
        error = np.maximum(np.abs(column - coarse[1:]), np.abs(column - coarse[:-1])) + 2 * rounding[j:]
        columns.append(column)
        errors.append(np.where(np.isfinite(column) & np.isfinite(error), error, np.inf))
        coarse = column
    best, least = central[-1], np.full(central.shape[1:], np.inf)
    for column, error in zip(columns, errors, strict=True):
        known = np.where(np.isfinite(error), column, 0)
        floor = np.maximum.accumulate((known - 2 * error)[::-1])[::-1]
        ceiling = np.minimum.accumulate((known + 2 * error)[::-1])[::-1]
        error = np.where((known + error >= floor) & (known - error <= ceiling), error, np.inf)
        row = error.argmin(0)[None]
        found = np.take_along_axis(error, row, 0)[0]
        best = np.where(found < least, np.take_along_axis(column, row, 0)[0], best)
        least = np.minimum(least, found)
    return Limit(best, least, np.concatenate(columns), np.concatenate(errors))


def derivative(f: Callable[[float], np.ndarray], step: float, noise: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """(f'(0), its error), elementwise, for an array-valued f of one number, in float64.

    ``step`` is the largest of eight: f must be smooth within it, and its scale should be about a tenth of f's own.
    The error counts a few ulps of f for rounding, and ``noise``, which is for the caller to say where f adds up what
    cancels.

    >>> value, error = derivative(np.exp, 0.1)
    >>> bool(abs(value - 1) < error < 1e-12)
    True
    """
    h = step / 2.0 ** np.arange(STEPS)
    high, low = (np.array([f(t) for t in side], np.float64) for side in (h, -h))
    h = h.reshape(-1, *[1] * (high.ndim - 1))
    rounding = (4 * EPS * np.maximum(np.abs(high), np.abs(low)) + noise / 2) / h
    limit = extrapolate((high - low) / (2 * h), rounding)
    return limit.value, limit.error


def agrees(
    claim: np.ndarray, f: Callable[[float], np.ndarray], step: float, noise: float = 0, multiple: float = 10
) -> str:
    """An empty text if ``claim`` is f'(0) to within a small multiple of the error estimate, else what is wrong."""
    value, error = derivative(f, step, noise)
    claim = np.asarray(claim, np.float64)
    if claim.shape != value.shape:
        return f"claimed shape {claim.shape}, but f has shape {value.shape}"
    off = ~(np.abs(claim - value) <= multiple * error)
    if not off.any():
        return ""
    return f"claimed {claim[off][:4]}, differences give {value[off][:4]} ± {error[off][:4]}"
