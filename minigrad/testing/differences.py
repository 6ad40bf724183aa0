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
    """What differences tend to, and its error; and the whole table of (estimate, own error), column by step."""

    value: np.ndarray
    error: np.ndarray
    estimates: np.ndarray
    errors: np.ndarray


def extrapolate(differences: np.ndarray, rounding: np.ndarray, power: int = 2) -> Limit:
    """The limit of differences (steps, ...) for a step of zero, the steps halving from row to row.

    Their errors are of order h to the ``power``, the power + 2, … (2 for central differences). ``rounding``, of the
    same shape, is what the rounding of f leaves in each. An estimate's own error is its disagreement with its
    neighbours plus twice that; the best is the one of the least error among those that estimates of finer steps, on
    which f is smoother, do not contradict. Where there is none the error is infinite.
    """
    estimates = np.full((COLUMNS, *differences.shape), np.nan)  # [j, k]: from step k and the j + 1 before it
    errors = np.full(estimates.shape, np.inf)
    coarse = differences
    for j in range(min(COLUMNS, len(differences) - 1)):
        factor = 2.0 ** (power + 2 * j)
        column = (factor * coarse[1:] - coarse[:-1]) / (factor - 1)
        error = np.maximum(np.abs(column - coarse[1:]), np.abs(column - coarse[:-1])) + 2 * rounding[j + 1 :]
        estimates[j, j + 1 :] = coarse = column
        errors[j, j + 1 :] = np.where(np.isfinite(column) & np.isfinite(error), error, np.inf)
    known = np.where(np.isfinite(errors), estimates, 0)
    floor = np.maximum.accumulate((known - 2 * errors)[:, ::-1], 1)[:, ::-1]
    ceiling = np.minimum.accumulate((known + 2 * errors)[:, ::-1], 1)[:, ::-1]
    kept = np.where((known + errors >= floor) & (known - errors <= ceiling), errors, np.inf)
    flat = kept.reshape(COLUMNS * len(differences), *differences.shape[1:])
    best = flat.argmin(0)[None]
    value = np.take_along_axis(known.reshape(flat.shape), best, 0)[0]
    return Limit(value, np.take_along_axis(flat, best, 0)[0], estimates, errors)


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
