"""Numerical derivatives that know their own error, by Ridders' method (1982): differences extrapolated to h = 0."""

from collections.abc import Callable

import numpy as np

STEPS, RATIO = 8, 1.6


def derivative(f: Callable[[float], np.ndarray], step: float, noise: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """(f'(0), its error), elementwise, for an array-valued f of one number, in float64.

    ``step`` is the largest one tried: f must be smooth within it, and its scale should be about a tenth of f's own.
    The error is the disagreement of neighbours in the extrapolation table, plus what rounding of f alone leaves:
    a few ulps of f, and ``noise``, which is for the caller to say where f adds up what cancels.
    """
    h = np.float64(step)
    best, error = np.zeros(()), np.full((), np.inf)
    previous: list[np.ndarray] = []
    for _ in range(STEPS):
        high, low = np.asarray(f(h), np.float64), np.asarray(f(-h), np.float64)
        row = [(high - low) / (2 * h)]
        for j, old in enumerate(previous, 1):
            factor = RATIO ** (2 * j)
            row.append((factor * row[j - 1] - old) / (factor - 1))
            estimate = np.maximum(np.abs(row[j] - row[j - 1]), np.abs(row[j] - old))
            estimate += (8 * np.finfo(float).eps * np.maximum(np.abs(high), np.abs(low)) + noise) / h
            best, error = np.where(estimate < error, row[j], best), np.minimum(error, estimate)
        previous, h = row, h / RATIO
    return best, error


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
