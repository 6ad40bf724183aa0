"""What theory says of wide random networks: the mean field of Poole et al. 2016 and Schoenholz et al. 2017.

A layer z = W φ(z') + b with W ~ N(0, σ_w² / n), b ~ N(0, σ_b²) and n → ∞. Expectations are quadratures, so that any
elementwise activation will do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad.init import function, moments, value_and_slope
from minigrad.init import nodes as init_nodes
from minigrad.lab.pictures import new_figure

Array = NDArray[Any]


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
    """One point of the critical line: at these deviations q* is a fixed point, and χ₁ is 1 there.

    ``stable``: whether a q near q* moves towards it; else a signal that is a little larger grows on and on.
    """

    sigma_w: float
    sigma_b: float
    q: float
    stable: bool


def fixed_point(what: Any, sigma_w: Any, sigma_b: Any, q: float = 1.0) -> tuple[Any, Any]:
    """(q*, χ₁): where q = σ_w² E[φ(√q z)²] + σ_b² settles when it begins at ``q``, and χ₁ = σ_w² E[φ′(√q* z)²] there.

    χ₁ < 1: ordered, gradients vanish; > 1: chaotic, they explode. q* is infinite where q grows without bound; χ₁ is
    that of q = 1e12 then. Two floats for numbers, two arrays for arrays of deviations. The next fixed point in the
    direction in which q moves is bracketed and bisected, for iteration is slow where χ₁ is near 1.
    Raises ValueError for deviations below 0 and a q that is not above 0.

    >>> fixed_point("tanh", 1.0, 0.0)
    (0.0, 1.0)
    >>> q, chi = fixed_point("tanh", 2.0, 0.5)
    >>> round(q, 6), round(chi, 6)
    (2.47971, 1.27223)
    """
    w, b = np.broadcast_arrays(np.square(sigma_w, dtype=np.float64), np.square(sigma_b, dtype=np.float64))
    if not (np.min(sigma_w, initial=0) >= 0 and np.min(sigma_b, initial=0) >= 0 and q > 0):
        raise ValueError(f"fixed_point: need deviations of 0 or more, and q above 0, got {sigma_w}, {sigma_b} and {q}")

    def growth(at: Array) -> Array:
        """The relative change of q in one layer; what is below the quadrature's rounding is none."""
        change = (w * np.asarray(moments(what, at)[0]) + b) / at - 1
        return np.where(np.abs(change) < 1e-13, 0.0, change)

    near = np.full(w.shape, float(q))
    sign = np.sign(growth(near))
    far = near.copy()
    while (onward := (np.sign(growth(far)) == sign) & (sign != 0) & (far < 1e12) & (far > 1e-14)).any():
        near, far = np.where(onward, far, near), np.where(onward, far * 2.0**sign, far)
    for _ in range(52):
        middle = (near + far) / 2
        before = np.sign(growth(middle)) == sign
        near, far = np.where(before, middle, near), np.where(before, far, middle)
    q_star = np.where(sign == 0, q, np.where(far > 1e12, math.inf, np.where(far < 1e-13, 0.0, far)))
    chi = w * np.asarray(moments(what, np.clip(q_star, 1e-20, 1e12))[1])  # the limit, not the convention at a kink
    return (q_star, chi) if w.ndim else (float(q_star), float(chi))


class PhaseDiagram(Sequence[Critical]):
    """What :func:`critical` found. As a sequence it is the critical line, by growing q*.

    ``sigma_w`` (m,), ``sigma_b`` (n,): the axes of a grid; ``q`` and ``chi`` (n, m): the fixed point reached from q = 1
    at each of its points, and χ₁ there. Prints as a map; ``plot()`` draws it.
    """

    def __init__(self, name: str, line: Sequence[Critical], sigma_w: Array, sigma_b: Array, q: Array, chi: Array):
        self.name, self.line, self.sigma_w, self.sigma_b, self.q, self.chi = name, tuple(line), sigma_w, sigma_b, q, chi

    def __getitem__(self, index: Any) -> Any:
        return self.line[index]

    def __len__(self) -> int:
        return len(self.line)

    def __str__(self) -> str:
        lines = [
            f"{self.name}: '.' ordered (χ₁ < 1, gradients vanish), '#' chaotic (χ₁ > 1, they explode), '=' within 5 %"
        ]
        for b, row in reversed(list(zip(self.sigma_b, self.chi, strict=True))):
            cells = "".join(" =" if abs(chi - 1) <= 0.05 else " ." if chi < 1 else " #" for chi in row)
            lines.append(f"σ_b {b:5.2f} {cells}")
        ends = f"{self.sigma_w[0]:.2f}", f"{self.sigma_w[-1]:.2f}"
        gap = max(2 * len(self.sigma_w) - len(ends[0]) - len(ends[1]), 1)
        lines += [f"      σ_w  {ends[0]}{' ' * gap}{ends[1]}", "", "critical line", "   q*       σ_w     σ_b"]
        for point in self.line:
            note = "" if point.stable else "   q* is not stable"
            lines.append(f"{point.q:8.3g} {point.sigma_w:8.4f} {point.sigma_b:7.4f}{note}")
        return "\n".join(lines if self.line else [*lines[:-1], "none at these q*"])

    def plot(self) -> Any:
        """A Figure of log10 χ₁ over the grid, and the critical line. Raises ImportError without matplotlib."""
        figure = new_figure(6, 4.5)
        axes = figure.subplots()
        with np.errstate(divide="ignore"):
            shade = np.clip(np.log10(self.chi), -1, 1)
        mesh = axes.pcolormesh(self.sigma_w, self.sigma_b, shade, cmap="RdBu_r", vmin=-1, vmax=1, shading="nearest")
        figure.colorbar(mesh, label="log10 χ₁ at the fixed point")
        if self.line:
            axes.plot(*zip(*[point[:2] for point in self.line], strict=True), "k.-", label="critical: χ₁ = 1")
            axes.legend(loc="upper left")
        low, high = self.sigma_w[[0, -1]], self.sigma_b[[0, -1]]
        axes.set(xlabel="σ_w", ylabel="σ_b", title=f"phase diagram of {self.name}", xlim=low, ylim=high)
        return figure


def critical(
    what: Any,
    q: Any = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0),
    *,
    sigma_w: Any = None,
    sigma_b: Any = None,
) -> PhaseDiagram:
    """The critical line of an activation, and its phase diagram over a grid of (σ_w, σ_b).

    The line: for each q the deviations for which it is a fixed point with χ₁ = 1. That gives σ_w = E[φ′(√q z)²]^(−½)
    and σ_b² = q − σ_w² E[φ(√q z)²]; a q that would need σ_b² < 0 is left out (for relu the line is the one point
    (√2, 0), at every q). The grid: ``sigma_w`` (0.2 … 3 unless given) × ``sigma_b`` (0 … 1).

    Raises ValueError and TypeError as ``init.function``; ValueError for q or deviations out of range.

    >>> line = critical("tanh", [1e-4, 1.0], sigma_w=[0.5, 1.0, 2.0], sigma_b=[0.0, 0.5])
    >>> [(round(p.sigma_w, 3), round(p.sigma_b, 3)) for p in line]
    [(1.0, 0.0), (1.467, 0.389)]
    >>> line.chi.round(2).tolist()
    [[0.25, 1.0, 1.36], [0.17, 0.58, 1.27]]
    """
    sizes = np.asarray(q, np.float64).ravel()
    axes = [
        np.asarray(default if given is None else given, np.float64).ravel()
        for given, default in ((sigma_w, np.linspace(0.2, 3, 29)), (sigma_b, np.linspace(0, 1, 11)))
    ]
    for name, values, least in (("q", sizes, np.nextafter(0, 1)), ("sigma_w", axes[0], 0), ("sigma_b", axes[1], 0)):
        if not (np.isfinite(values).all() and values.min(initial=least) >= least and values.size):
            raise ValueError(f"critical: {name} must be finite numbers {'above' if least else 'from'} 0, got {values}")
    grid: Any = np.meshgrid(*axes)
    settled, chi = fixed_point(what, *grid)
    return PhaseDiagram(_name(what), critical_line(what, sizes), axes[0], axes[1], settled, chi)


def critical_line(what: Any, q: Any) -> list[Critical]:
    """The line of :func:`critical` alone, at each q."""
    found, f, (nodes, weights) = [], function(what), init_nodes()
    for size in np.sort(q):
        values, slopes = value_and_slope(f, math.sqrt(size) * nodes)
        square, steep = float(weights @ (values * values)), float(weights @ (slopes * slopes))
        if steep > 0 and (rest := size - square / steep) > -1e-12 * size:
            # d E[φ(√q z)²] / dq = E[z φ φ′] / √q; times σ_w² it is the slope of q's map.
            pull = float(weights @ (nodes * values * slopes)) / math.sqrt(size) / steep
            found.append(Critical(steep**-0.5, math.sqrt(max(rest, 0.0)), float(size), pull <= 1 + 1e-9))
    return found


def _name(what: Any) -> str:
    return what if isinstance(what, str) else str(getattr(what, "name", getattr(what, "__name__", type(what).__name__)))
