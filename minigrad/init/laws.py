"""The distributions that initializers draw from: each knows its mean, variance, support and cdf, and draws itself.

Every draw happens in float64 and is then rounded to the dtype; bounds hold after the rounding, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.ops.arithmetic import erf

Array = NDArray[Any]
Rng = np.random.Generator
Shape = tuple[int, ...]


def _inside(values: Array, low: float, high: float, dtype: np.dtype[Any]) -> Array:
    """Rounded to the dtype, and no further than the last of its numbers in [low, high]."""
    first, last = dtype.type(low), dtype.type(high)
    if float(first) < low:  # rounded out of the interval: step back in
        first = np.nextafter(first, dtype.type(np.inf))
    if float(last) > high:
        last = np.nextafter(last, dtype.type(-np.inf))
    if first > last:
        raise ValueError(f"uniform: {dtype} has no number between {low} and {high}")
    rounded: Array = np.clip(values.astype(dtype), first, last)
    return rounded


def normal_density(z: float) -> float:
    """φ(z) = exp(−z²/2) / √(2π)."""
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def normal_cdf(z: Array) -> Array:
    """Φ(z) = (1 + erf(z/√2)) / 2, of float64 numbers."""
    below: Array = 0.5 + 0.5 * erf(np.asarray(z, np.float64) / math.sqrt(2))
    return below


@dataclass(frozen=True)
class Law:
    """What the elements of a drawn parameter have in common: ``mean``, ``variance``, and ``support`` (low, high).

    ``cdf(x)`` is None where the elements are not independent draws of one distribution, or where nothing says which.
    """

    mean: float
    variance: float
    support: tuple[float, float] = (-math.inf, math.inf)

    def cdf(self, x: Array) -> Array | None:
        """The share of the mass at or below each x."""
        return None

    def draw(self, rng: Rng, shape: Shape, dtype: np.dtype[Any]) -> Array:
        raise NotImplementedError(f"{self} does not say how to draw")


class Point(Law):
    """All mass on one number: Point(value)."""

    def __init__(self, value: float) -> None:
        super().__init__(value, 0.0, (value, value))

    def draw(self, rng: Rng, shape: Shape, dtype: np.dtype[Any]) -> Array:
        return np.full(shape, self.mean, dtype)


class Normal(Law):
    """N(mean, std²)."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__(mean, std * std)
        object.__setattr__(self, "std", std)

    std: float

    def cdf(self, x: Array) -> Array:
        return normal_cdf((x - self.mean) / self.std)

    def draw(self, rng: Rng, shape: Shape, dtype: np.dtype[Any]) -> Array:
        values: Array = (self.mean + self.std * rng.standard_normal(shape)).astype(dtype)
        return values


class Uniform(Law):
    """U[low, high]."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__((low + high) / 2, (high - low) ** 2 / 12, (low, high))

    def cdf(self, x: Array) -> Array:
        low, high = self.support
        return np.clip((x - low) / (high - low), 0, 1)

    def draw(self, rng: Rng, shape: Shape, dtype: np.dtype[Any]) -> Array:
        return _inside(rng.uniform(*self.support, shape), *self.support, dtype)


class TruncatedNormal(Law):
    """N(mean, std²) given that it lies in [low, high]: what is drawn outside is drawn again.

    By rejection, since the inverse of a rounded cdf piles up numbers at the bounds. Variance
    std² [1 + (α φ(α) − β φ(β)) / Z − ((φ(α) − φ(β)) / Z)²] with α, β = (low − mean) / std, (high − mean) / std and
    Z = Φ(β) − Φ(α).
    """

    def __init__(self, mean: float, std: float, low: float, high: float) -> None:
        a, b = (low - mean) / std, (high - mean) / std
        mass = float(normal_cdf(np.array(b)) - normal_cdf(np.array(a)))
        if mass < 1e-3:
            raise ValueError(
                f"truncated_normal: only {mass:.1e} of N({mean}, {std}²) lies in [{low}, {high}]; need 1e-3 or more"
            )
        at_a, at_b = normal_density(a), normal_density(b)
        edges = (a * at_a if math.isfinite(a) else 0.0) - (b * at_b if math.isfinite(b) else 0.0)
        shift = (at_a - at_b) / mass
        super().__init__(mean + std * shift, std * std * (1 + edges / mass - shift * shift), (low, high))
        for name, value in (("parent", (mean, std)), ("mass", mass)):
            object.__setattr__(self, name, value)

    parent: tuple[float, float]
    mass: float

    def cdf(self, x: Array) -> Array:
        mean, std = self.parent
        low = normal_cdf(np.array((self.support[0] - mean) / std))
        return np.clip((normal_cdf((x - mean) / std) - low) / self.mass, 0, 1)

    def draw(self, rng: Rng, shape: Shape, dtype: np.dtype[Any]) -> Array:
        (mean, std), (low, high) = self.parent, self.support
        values = mean + std * rng.standard_normal(math.prod(shape))
        while (out := np.flatnonzero((values < low) | (values > high))).size:
            values[out] = mean + std * rng.standard_normal(out.size)
        return _inside(values.reshape(shape), low, high, dtype)
