"""What theory says of wide random networks: the mean field of Poole et al. 2016 and Schoenholz et al. 2017.

A layer z = W φ(z') + b with W ~ N(0, σ_w² / n), b ~ N(0, σ_b²) and n → ∞. Expectations are quadratures, so that any
elementwise activation will do.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minigrad.init import function, moments, value_and_slope


def correlation_moment(what: Any, q1: float, q2: float, c: float) -> float:
    """E[φ(u₁) φ(u₂)] for normal u₁, u₂ with variances q1, q2 and correlation c in [−1, 1].

    In polar coordinates a kink of φ at 0 lies on four rays, where the panels of Gauss and Legendre's rule meet.

    >>> round(correlation_moment("relu", 1.0, 1.0, 0.0) * 2 * math.pi, 9)
    1.0
    """
    angle = math.acos(max(-1.0, min(1.0, c)))
    rays = sorted({(r % (2 * math.pi)) for r in (math.pi / 2, -math.pi / 2, angle + math.pi / 2, angle - math.pi / 2)})
    t, w = np.polynomial.legendre.leggauss(48)
    theta, weights = [], []
    for a, b in zip(rays, [*rays[1:], rays[0] + 2 * math.pi], strict=True):
        theta.append((a + b) / 2 + (b - a) / 2 * t)
        weights.append((b - a) / 2 * w)
    th, wt = np.concatenate(theta), np.concatenate(weights) / (2 * math.pi)
    edges = np.linspace(0, 12, 9)  # beyond the radius 12 lie 5e-32 of the mass
    half = edges[1] / 2
    r = (edges[:-1, None] + half * (1 + t)).ravel()
    wr = np.tile(half * w, 8) * r * np.exp(-r * r / 2)
    f = function(what)
    one, _ = value_and_slope(f, math.sqrt(q1) * r[:, None] * np.cos(th))
    two, _ = value_and_slope(f, math.sqrt(q2) * r[:, None] * np.cos(th - angle))
    return float(wr @ (one * two) @ wt)


class Critical(NamedTuple):
    """One point of the phase diagram: at these deviations q* is the fixed point, and χ₁ is 1 there."""

    sigma_w: float
    sigma_b: float
    q: float


def fixed_point(what: Any, sigma_w: float, sigma_b: float, q: float = 1.0) -> tuple[float, float]:
    """(q*, χ₁): where q = σ_w² E[φ(√q z)²] + σ_b² settles, and χ₁ = σ_w² E[φ′(√q* z)²] there.

    χ₁ < 1: ordered, gradients vanish; > 1: chaotic, they explode. q* is infinite where the iteration diverges.

    >>> q, chi = fixed_point("tanh", 1.0, 0.0)
    >>> q < 1e-3, 0.99 < chi < 1
    (True, True)
    """
    for _ in range(5000):
        new = sigma_w**2 * moments(what, q)[0] + sigma_b**2
        if abs(new - q) <= 1e-13 * max(new, 1e-300) or new > 1e12:
            q = new
            break
        q = new
    return (math.inf if q > 1e12 else q), sigma_w**2 * moments(what, q)[1]


def critical(what: Any, q: Any = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)) -> list[Critical]:
    """The critical line: for each q the (σ_w, σ_b) for which it is the fixed point, with χ₁ = 1.

    χ₁ = 1 gives σ_w = E[φ′(√q z)²]^(−½), and the fixed point σ_b² = q − σ_w² E[φ(√q z)²]; a q that would need
    σ_b² < 0 is left out (for relu the line is the one point (√2, 0), at every q).

    >>> [(round(p.sigma_w, 3), round(p.sigma_b, 3)) for p in critical("tanh", [1e-4, 1.0])]
    [(1.0, 0.0), (1.467, 0.389)]
    """
    found = []
    for size in q:
        squares, slopes = moments(what, size)
        if slopes > 0 and (rest := size - squares / slopes) > -1e-12 * size:
            found.append(Critical(slopes**-0.5, math.sqrt(max(rest, 0.0)), float(size)))
    return found
