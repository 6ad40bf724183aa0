"""How signals and gradients travel through a deep random network: measured, beside what theory predicts."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad import init
from minigrad.lab.meanfield import correlation_moment

Array = NDArray[Any]

#: A share of a second moment that is lost: what depends on the input moves the sixth digit and none before it.
LOST = 1e-12


class Layer(NamedTuple):
    """One layer z = W h + b, averaged over seeds; ``…_predicted`` is the mean field's.

    ``forward``: E[z²]. ``varying``: the part of it that depends on the input. ``correlation``: of two inputs, as
    E[z₁ z₂] / √(E[z₁²] E[z₂²]). ``backward``: E[(∂L/∂z)²], 1 in the last layer. ``saturated``: the share of elements
    whose slope is below 1/100 of the largest that was met. ``dead``: that of units whose slope is 0 on every input.
    """

    forward: float
    forward_predicted: float
    varying: float
    varying_predicted: float
    correlation: float
    correlation_predicted: float
    backward: float
    backward_predicted: float
    saturated: float
    dead: float


class Propagation(NamedTuple):
    """The layers, first one first; total log10 gains of each seed; ``verdict`` in words. Prints as a table."""

    layers: list[Layer]
    forward_gain: float
    forward_predicted: float
    forward_error: float
    backward_gain: float
    backward_predicted: float
    backward_error: float
    chi: float
    verdict: str

    def __str__(self) -> str:
        head = f"{'layer':>5}  {'forward':>9} {'theory':>9}  {'varying':>9} {'theory':>9}  {'corr.':>7} {'theory':>7}"
        lines = [head + f"  {'backward':>9} {'theory':>9}  {'sat.':>5} {'dead':>5}"]
        for i, row in enumerate(self.layers, 1):
            a = f"{i:5}  {row.forward:9.2e} {row.forward_predicted:9.2e}  {row.varying:9.2e}"
            b = f" {row.varying_predicted:9.2e}  {row.correlation:7.4f} {row.correlation_predicted:7.4f}"
            c = f"  {row.backward:9.2e} {row.backward_predicted:9.2e}  {row.saturated:5.0%} {row.dead:5.0%}"
            lines.append(a + b + c)
        return "\n".join([*lines, self.verdict])


def propagate(
    *,
    depth: int = 30,
    width: int = 256,
    activation: Any = "tanh",
    weight_init: Any = "default",
    bias_init: Any = 0.0,
    seeds: int | range = 20,
    batch: int = 8,
) -> Propagation:
    """Send normal inputs up, and normal cotangents down, through ``depth`` random layers of one width, in float64.

    ``activation``: a name, or any elementwise function of a tensor. ``weight_init``, ``bias_init``: what
    ``init.get`` takes; the prediction asks their laws. Second moments are averaged over ``seeds`` (how many, or a
    range), not their logarithms: what is typical is less than the mean. Gains are log10 of the last layer's forward
    moment over the first's, and of the first's backward moment over the last's, with the standard error over seeds.
    The cotangents are drawn apart from the network, and each goes down with one of the ``batch`` inputs.

    Raises ValueError for a depth below 2, a width below 1, a batch below 2, no seeds, and for an initializer without a
    law; and what ``init.get`` and ``init.function`` raise.

    >>> result = propagate(depth=10, width=100, activation="relu", weight_init="kaiming_normal", seeds=2)
    >>> len(result.layers), bool(abs(result.forward_gain) < 0.5), round(result.forward_predicted, 6) + 0
    (10, True, 0.0)
    """
    chosen = range(seeds) if isinstance(seeds, int) else seeds
    for name, value, least in (
        ("depth", depth, 2),
        ("width", width, 1),
        ("batch", batch, 2),
        ("seeds", len(chosen), 1),
    ):
        if value < least:
            raise ValueError(f"propagate: {name} must be at least {least}, got {value}")
    weights, biases, f = init.get(weight_init), init.get(bias_init), init.function(activation)
    shape, dtype = (width, width), np.dtype(np.float64)
    laws = [getattr(rule, "law", None) for rule in (weights, biases)]
    if None in laws:
        raise ValueError(f"propagate: theory needs the law of {weights!r} and {biases!r}: see minigrad.init.Rule")
    drawn = laws[0](shape, width, width), laws[1]((width,), width, width)  # type: ignore[misc]  # not None
    sigma_w, sigma_b = (d.variance + d.mean**2 for d in drawn)
    if drawn[0].mean:
        raise ValueError(f"propagate: theory needs weights of mean 0, but {weights!r} has {drawn[0].mean}")
    totals = np.zeros((len(chosen), depth, 6))
    for row, seed in zip(totals, chosen, strict=True):
        rng = np.random.default_rng(seed)
        x, g = rng.standard_normal((2, batch, width))
        ws, slopes = [], []
        for layer in range(depth):
            w = init.draw(weights, rng, shape, width, width, dtype)
            z = x @ w.T + init.draw(biases, rng, (width,), width, width, dtype)
            x, slope = init.value_and_slope(f, z)
            ws.append(w)
            slopes.append(slope)
            row[layer, :3] = _seen(z)
            steep = np.abs(slope)
            row[layer, 4] = np.mean(steep < 0.01 * steep.max()) if steep.max() else 1.0
            row[layer, 5] = np.mean(~steep.any(axis=0))
        for layer in reversed(range(depth)):
            row[layer, 3] = np.mean(g * g)
            if layer:
                g = (g @ ws[layer]) * slopes[layer - 1]
    return _judged(totals, _theory(activation, depth, width * sigma_w, sigma_b), width * sigma_w)


def _seen(z: Array) -> tuple[float, float, float]:
    """E[z²], what of it varies with the input, and E[z₁ z₂] over pairs of different inputs."""
    n = len(z)
    forward, mean = float(np.mean(z * z)), z.mean(axis=0)
    varying = float(np.mean((z - mean) ** 2)) * n / (n - 1)
    return forward, varying, forward - varying


def _theory(what: Any, depth: int, sigma_w: float, sigma_b: float) -> Array:
    """(depth, 4): q, q (1 − c), c, and the backward moment, relative to the last layer's; sigmas are squared."""
    q, shared = sigma_w + sigma_b, sigma_b  # inputs of second moment 1, and uncorrelated
    rows, chis = [], []
    varying = sigma_w
    for _ in range(depth):
        c = min(shared / q, 1.0) if q else 1.0
        rows.append([q, varying, c, 1.0])
        squares, slopes = init.moments(what, q)
        chis.append(sigma_w * slopes)
        shared = sigma_w * correlation_moment(what, q, q, c) + sigma_b
        small = varying < 1e-6 * q  # a difference of equal numbers would be rounding: the map's slope at c = 1 is χ
        q = sigma_w * squares + sigma_b
        varying = chis[-1] * varying if small else q - shared
    for layer in reversed(range(depth - 1)):
        rows[layer][3] = rows[layer + 1][3] * chis[layer]
    return np.array(rows)


def _judged(totals: Array, theory: Array, sigma_w: float) -> Propagation:
    mean = totals.mean(axis=0)
    layers = []
    for (forward, varying, shared, backward, saturated, dead), (q, v, c, b) in zip(mean, theory, strict=True):
        correlation = shared / forward if forward else 1.0
        down = backward / mean[-1, 3] if mean[-1, 3] else 0.0
        figures = (forward, q, varying, v, correlation, c, down, b, saturated, dead)
        layers.append(Layer(*[float(x) for x in figures]))

    def gain(column: int, end: int, start: int) -> tuple[float, float]:
        """log10 of the ratio of means, and its standard error from the seeds."""
        a, b = totals[:, end, column], totals[:, start, column]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = a / a.mean() - b / b.mean()
            error = float(np.std(ratio, ddof=1)) / math.sqrt(len(a)) / math.log(10) if len(a) > 1 else math.inf
            return float(np.log10(a.mean() / b.mean())), error

    up, down = gain(0, -1, 0), gain(3, 0, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.log10(theory[-1, 0] / theory[0, 0]), np.log10(theory[0, 3])
    chi = float(theory[-2, 3])
    verdict = _verdict(layers, chi, sigma_w)
    return Propagation(layers, up[0], float(expected[0]), up[1], down[0], float(expected[1]), down[1], chi, verdict)


def _verdict(layers: list[Layer], chi: float, sigma_w: float) -> str:
    faults = []
    for i, layer in enumerate(layers, 1):
        if layer.varying <= LOST * layer.forward:
            faults.append(
                f"carries no information from layer {i} on: {layer.varying:.0e} of a second moment of "
                f"{layer.forward:.1e} depends on the input"
            )
            break
    for i, layer in enumerate(layers, 1):
        size = layer.forward / layers[0].forward if layers[0].forward else 1.0
        if not LOST < size < 1 / LOST:
            faults.append(
                f"{'vanishes' if size < 1 else 'explodes'} on its way up at layer {i}: {size:.0e} of the first's"
            )
            break
    for i, layer in reversed(list(enumerate(layers, 1))):
        if not LOST < layer.backward < 1 / LOST:
            kind = "vanishes" if layer.backward < 1 else "explodes"
            faults.append(f"gradient {kind} at layer {i}: second moment {layer.backward:.0e} of the last layer's")
            break
    if not faults:
        return f"healthy: signals and gradients pass all {len(layers)} layers; χ₁ = {chi:.2f}"
    advice = f"; try weights {chi**-0.5:.2g} times as large" if 0 < chi < math.inf and abs(chi - 1) > 0.02 else ""
    return "; ".join(faults) + f"; χ₁ = {chi:.2f}, σ_w = {math.sqrt(sigma_w):.2f}{advice}"
