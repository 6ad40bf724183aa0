"""How signals and gradients travel through a deep network: measured, beside what theory predicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad import init
from minigrad.engine.apply import apply
from minigrad.engine.state import mode
from minigrad.engine.tape import Node, Tape
from minigrad.engine.tensor import Tensor, tensor
from minigrad.lab.meanfield import correlation_moment, critical_line
from minigrad.nn.module import Module

Array = NDArray[Any]
Function = Callable[[Any], Any]

#: A share of a second moment that is lost: what depends on the input moves the sixth digit and none before it.
LOST = 1e-12


class Layer(NamedTuple):
    """One layer z = W h + b, averaged over seeds; ``…_predicted`` is the mean field's.

    ``forward``: E[z²]. ``varying``: the part of it that depends on the input. ``correlation``: of two inputs, as
    E[z₁ z₂] / √(E[z₁²] E[z₂²]). ``backward``: E[(∂L/∂z)²], 1 in the last layer. ``saturated``: the share of elements
    whose slope is below 1/100 of the largest that was met. ``dead``: that of units whose slope is 0 on every input.
    The last two are NaN where no elementwise function follows.
    """

    name: str
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


class Jacobian(NamedTuple):
    """The Jacobian ∂z_last / ∂x of the last layer by the first one's input, at one input of each network.

    ``singular_values`` (samples, min(inputs, outputs)), largest first; those below 1e-16 of the largest are rounding.
    ``mean_square``: of JᵀJ's eigenvalues s². ``spread``: their variance over that squared, a mean over samples, beside
    free probability's (Pennington, Schoenholz & Ganguli 2017, §2.3): 0 where all directions pass alike. ``lyapunov``:
    for each direction the mean growth of its logarithm per layer, by QR, largest first; −inf where a layer leaves no
    more of it than rounding, as relu does. Products of random matrices are described by these and not by eigenvalues.
    """

    singular_values: Array
    mean_square: float
    mean_square_predicted: float
    spread: float
    spread_predicted: float
    lyapunov: Array

    def __str__(self) -> str:
        growth = self.lyapunov
        return (
            f"Jacobian: mean s² {self.mean_square:.2e} (theory {self.mean_square_predicted:.2e}), spread of s² "
            f"{self.spread:.3g} (theory {self.spread_predicted:.3g})\n"
            f"Lyapunov exponents: largest {growth[0]:.3g}, median {np.median(growth):.3g}, smallest {growth[-1]:.3g}"
        )


class Propagation(NamedTuple):
    """The layers, first one first; total log10 gains; ``verdict`` in words. Prints as a table.

    ``…_error``: the standard error over seeds. ``chi``: the geometric mean of χ₁, by which a gradient's second moment
    grows from a layer to the one below. ``jacobian`` if it was asked for.
    """

    layers: list[Layer]
    forward_gain: float
    forward_predicted: float
    forward_error: float
    backward_gain: float
    backward_predicted: float
    backward_error: float
    chi: float
    verdict: str
    jacobian: Jacobian | None = None

    def __str__(self) -> str:
        wide = min(max(5, *(len(row.name) for row in self.layers)), 13)
        head = (
            f"{'layer':>{wide}}  {'forward':>8} {'theory':>8}  {'varying':>8} {'theory':>8}  {'corr.':>7} {'theory':>7}"
        )
        lines = [head + f"  {'backward':>8} {'theory':>8}  {'sat.':>4} {'dead':>4}"]
        for row in self.layers:
            name = row.name if len(row.name) <= wide else "…" + row.name[1 - wide :]
            figures = [f"{name:>{wide}}"]
            for a, b, spec, width in (
                (row.forward, row.forward_predicted, ".2e", 8),
                (row.varying, row.varying_predicted, ".2e", 8),
                (row.correlation, row.correlation_predicted, ".4f", 7),
                (row.backward, row.backward_predicted, ".2e", 8),
                (row.saturated, row.dead, ".0%", 4),
            ):
                figures.append(" ".join(f"{'-' if math.isnan(x) else format(x, spec):>{width}}" for x in (a, b)))
            lines.append("  ".join(figures))
        return "\n".join([*lines, *([str(self.jacobian)] if self.jacobian else []), self.verdict])


class _Met(NamedTuple):
    """What one network showed of one layer: float64, a row for each input."""

    name: str
    weight: Array
    z: Array
    g: Array
    slope: Array | None  # of the function that follows; None where it is not elementwise


class _Law(NamedTuple):
    """What theory knows of a layer: E[w²], its fans, E[b] and E[b²]; the function before it, or why there is none."""

    square: float
    fan_in: int
    fan_out: int
    shift: float
    bias: float
    before: Function | str
    entering: tuple[float, float]  # E[h²] of what enters, and what of it varies with the input, where theory begins
    alone: bool = True  # whether what enters goes nowhere else, so that its gradient comes from here alone

    @property
    def up(self) -> float:
        return self.fan_in * self.square


def propagate(
    net: Any = None,
    x: Any = None,
    *,
    depth: int = 30,
    width: int = 256,
    activation: Any = "tanh",
    weight_init: Any = "default",
    bias_init: Any = 0.0,
    seeds: int | range = 20,
    batch: int = 8,
    jacobian: bool = False,
) -> Propagation:
    """Where a network loses its signals and its gradients, layer by layer, beside the mean field's prediction.

    ``propagate(net, x)``: a module that calls ``mg.linear`` (as ``nn.Linear`` does), on the inputs x (n, …), n ≥ 2,
    in evaluation mode and its own dtype; moments are summed in float64. Normal cotangents (seed 0) come down from the
    output. Theory takes E[w²] and the biases' moments as they are now, and follows the tape from one linear op to the
    next; where it finds something that is not an elementwise function of the layer before (softmax, a sum of two
    branches), or weights whose mean is not 0, it begins anew with what was measured, and the verdict says so. Nothing
    of the network changes.

    ``propagate(depth=30, …)``: normal inputs up, and normal cotangents down, through ``depth`` random layers of one
    width, in float64. ``activation``: a name, or any elementwise function of a tensor. ``weight_init``, ``bias_init``:
    what ``init.get`` takes; the prediction asks their laws. Second moments are averaged over ``seeds`` (how many, or a
    range), not their logarithms: what is typical is less than the mean. The cotangents are drawn apart from the
    network, and each goes down with one of the ``batch`` inputs.

    Gains are log10 of the last layer's forward moment over the first's, and of the first's backward moment over the
    last's. ``jacobian``: also that of input and last layer, at the first input (of every seed; or at up to 4 of x).

    Raises ValueError for a depth below 2, a width below 1, a batch below 2, no seeds, and for an initializer without a
    law; for x with fewer than two rows, equal rows, or values that are not finite; for a network without linear layers
    and for a Jacobian across what is not elementwise. TypeError for what is no module, and for options of random
    networks beside one. And what ``init.get``, ``init.function`` and the network raise.

    >>> result = propagate(depth=10, width=100, activation="relu", weight_init="kaiming_normal", seeds=2)
    >>> len(result.layers), bool(abs(result.forward_gain) < 0.5), round(result.forward_predicted, 6) + 0
    (10, True, 0.0)
    >>> from minigrad import nn
    >>> net = nn.Sequential(nn.Linear(9, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 3))
    >>> [layer.name for layer in propagate(net, np.random.default_rng(0).standard_normal((20, 9))).layers]
    ['0', '2', '4']
    """
    options = {"depth": depth, "width": width, "activation": activation, "weight_init": weight_init}
    options |= {"bias_init": bias_init, "seeds": seeds, "batch": batch}
    if net is None:
        if x is not None:
            raise TypeError("propagate: x without a network: write propagate(net, x)")
        with np.errstate(over="ignore", invalid="ignore"):  # what explodes is told by the verdict
            return _random(**options, jacobian=jacobian)
    if extra := [name for name, value in options.items() if value is not (propagate.__kwdefaults__ or {})[name]]:
        raise TypeError(f"propagate: {', '.join(extra)} shape random networks, and do not go with a network of yours")
    with np.errstate(over="ignore", invalid="ignore"):
        return _network(net, x, jacobian)


# Random networks


def _random(
    depth: int, width: int, activation: Any, weight_init: Any, bias_init: Any, seeds: Any, batch: int, jacobian: bool
) -> Propagation:
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
    w_law, b_law = laws[0](shape, width, width), laws[1]((width,), width, width)  # type: ignore[misc]  # not None
    if w_law.mean:
        raise ValueError(f"propagate: theory needs weights of mean 0, but {weights!r} has {w_law.mean}")
    law = _Law(w_law.variance, width, width, b_law.mean, b_law.variance + b_law.mean**2, f, (1.0, 1.0))
    totals = np.zeros((len(chosen), depth, 6))
    samples = []
    for row, seed in zip(totals, chosen, strict=True):
        rng = np.random.default_rng(seed)
        x, g = rng.standard_normal((2, batch, width))
        ws, zs, slopes = [], [], []
        for _ in range(depth):
            ws.append(init.draw(weights, rng, shape, width, width, dtype))
            zs.append(x @ ws[-1].T + init.draw(biases, rng, (width,), width, width, dtype))
            x, slope = init.value_and_slope(f, zs[-1])
            slopes.append(slope)
        for layer in reversed(range(depth)):
            row[layer] = _measured(zs[layer], g, slopes[layer])
            if layer:
                g = (g @ ws[layer]) * slopes[layer - 1]
        if jacobian:
            samples.append(_singular(ws, [slope[0] for slope in slopes[:-1]]))
    names = [str(i) for i in range(1, depth + 1)]
    return _judged(names, totals, [law._replace(before="x"), *[law] * (depth - 1)], samples)


# Networks


def _network(net: Any, x: Any, jacobian: bool) -> Propagation:
    met, laws = read(net, inputs("propagate", net, x))
    samples = []
    if jacobian:
        for layer, law in zip(met[1:], laws[1:], strict=True):
            if isinstance(law.before, str):
                raise ValueError(f"propagate: no Jacobian, because before layer {layer.name} {law.before}")
        for i in range(min(4, len(met[0].z))):
            slopes = [layer.slope[i] for layer in met[:-1] if layer.slope is not None]
            samples.append(_singular([layer.weight for layer in met], slopes))
    totals = np.array([[_measured(layer.z, layer.g, layer.slope) for layer in met]])
    return _judged([layer.name for layer in met], totals, laws, samples)


def inputs(who: str, net: Any, x: Any) -> Tensor:
    """x as a leaf of the tape."""
    if not isinstance(net, Module):
        raise TypeError(f"{who}: need a module, such as nn.Sequential, got {type(net).__name__}")
    if x is None:
        raise TypeError(f"{who}: a network needs inputs: write {who}(net, x)")
    leaf = tensor(x)
    if leaf.dtype.kind != "f":
        leaf = tensor(x, np.float32)
    values = leaf.data
    if values.ndim < 2 or len(values) < 2:
        raise ValueError(f"{who}: need two inputs or more, x (n, ...), got shape {values.shape}")
    if bad := int(np.sum(~np.isfinite(values))):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ValueError(f"{who}: {bad} of x's {values.size} values are not finite, the first at {where}")
    if not (values != values[:1]).any():
        raise ValueError(f"{who}: all {len(values)} inputs are equal, so that nothing can tell them apart")
    return leaf.requires_grad_()


def read(net: Module, leaf: Tensor, who: str = "propagate") -> tuple[list[_Met], list[_Law]]:
    """Run the network once, and read its layers from the tape."""
    tape = _recorded(net, leaf, who)
    layers = [node for node in tape if node.op is not None and node.op.name == "linear"]
    if not layers:
        raise ValueError(f"{who}: the network has no linear layers: it reads mg.linear, which nn.Linear calls")
    last = tape[-1]
    g = np.random.default_rng(0).standard_normal(last.shape).astype(last.dtype)
    cotangents = tape.backward(g).cotangents
    ends = [*(layer.parents[0] for layer in layers[1:]), last]
    origins, used = _origins(tape, {leaf.node, *layers})
    following = [_function(layer, end, origins) for layer, end in zip(layers, ends, strict=True)]
    met, laws = [], []
    for layer, before, after in zip(layers, ["x", *following], following, strict=False):
        name = layer.path or "linear"
        h, weight, bias = (None if p is None else np.asarray(_value(p), np.float64) for p in layer.parents)
        for what, values in (("weight", weight), ("bias", bias)):
            if values is not None and not np.isfinite(values).all():
                raise ValueError(f"{who}: the {what} of layer {name} has values that are not finite")
        assert h is not None
        assert weight is not None
        down = cotangents.get(layer, np.zeros(layer.shape))  # a rule may send nothing
        z, g = (np.asarray(a, np.float64).reshape(-1, len(weight)) for a in (layer.value, down))
        slope = None if isinstance(after, str) else init.value_and_slope(after, z)[1]
        met.append(_Met(name, weight, z, g, slope))
        law = _law(weight, np.zeros(1) if bias is None else bias, before, _seen(h.reshape(-1, h.shape[-1]))[:2])
        laws.append(law._replace(alone=used.get(origins[layer.parents[0]], 1) == 1))
    return met, laws


def _recorded(net: Module, leaf: Tensor, who: str) -> Tape:
    """The tape of the network's output, with every node's value; in evaluation mode."""
    training = [module for _, module in net.named_modules() if module.training]
    try:
        net.eval()
        with mode(grad=True, record=True):
            out = net(leaf)
    finally:
        for module in training:
            module.training = True
    if not isinstance(out, Tensor):
        raise TypeError(f"{who}: the network must return a tensor, got {type(out).__name__}")
    return Tape(()) if out.node is None else Tape.of(out)


def _value(parent: Any) -> Any:
    return parent.value if type(parent) is Node else getattr(parent, "_data", parent)


def _origins(tape: Tape, marks: set[Any]) -> tuple[dict[Node, Node], dict[Node, int]]:
    """For every node that depends on x, the one whose value it is a function of, alone; and how many use that one.

    x and the layers are their own origins, and so is a node where two branches meet.
    """
    origins: dict[Node, Node] = {}
    used: dict[Node, int] = {}
    for node in tape:
        sources = {origins[p] for p in node.parents if type(p) is Node and p in origins}
        if node in marks or len(sources) > 1:
            origins[node] = node
            for source in sources:
                used[source] = used.get(source, 0) + 1
        elif sources:
            (origins[node],) = sources
    return origins, used


def _function(layer: Node, end: Any, origins: dict[Node, Node]) -> Function | str:
    """The elementwise function that the tape applies between a layer and ``end``; or why there is none."""
    if origins.get(end) is not layer:
        return "branches meet"
    part = [node for node, origin in origins.items() if origin is layer and layer.seq < node.seq <= end.seq]
    for node in part:
        assert node.op is not None
        if node.op.shapes != "elementwise":
            return f"{node.op.name} is not elementwise"

    def between(z: Tensor) -> Any:
        made: dict[Any, Any] = {layer: z}
        for node in part:
            assert node.op is not None
            args = tuple(made[p] if type(p) is Node and p in made else _value(p) for p in node.parents)
            made[node] = apply(node.op, args, node.options)
        return made[end]

    try:
        init.value_and_slope(between, np.zeros(3))
    except ValueError:  # constants that differ from unit to unit
        return "the function differs from unit to unit"
    return between


def _law(weight: Array, bias: Array, before: Function | str, entering: tuple[float, float]) -> _Law:
    """The law of a layer as it is; its square is NaN where the mean of the weights is felt."""
    square, mean = float(np.mean(weight * weight)), float(weight.mean())
    if weight.shape[1] * mean * mean > 0.1 * square and _is_off(weight):
        before, square = f"weights have the mean {mean:.2g}, and theory needs 0", math.nan
    shift = float(bias.mean()) if _is_off(bias) else 0.0
    return _Law(square, weight.shape[1], len(weight), shift, float(np.mean(bias * bias)), before, entering)


def _is_off(values: Array) -> bool:
    """Whether the mean of independent numbers is farther from 0 than 6 standard errors."""
    return bool(abs(values.mean()) > 6 * values.std() / math.sqrt(values.size))


# What is measured


def _measured(z: Array, g: Array, slope: Array | None) -> tuple[float, ...]:
    """E[z²], what of it varies with the input, E[z₁ z₂] over different inputs, E[g²], saturated, dead."""
    saturated = dead = math.nan
    if slope is not None:
        steep = np.abs(slope)
        top = steep.max(initial=0.0)
        saturated = float(np.mean(steep < 0.01 * top)) if top else 1.0
        dead = float(np.mean(~steep.any(axis=0)))
    return *_seen(z), float(np.mean(g * g)), saturated, dead


def _seen(z: Array) -> tuple[float, float, float]:
    """E[z²], what of it varies with the input, and E[z₁ z₂] over pairs of different inputs."""
    n = len(z)
    forward, mean = float(np.mean(z * z)), z.mean(axis=0)
    varying = float(np.mean((z - mean) ** 2)) * n / (n - 1)
    return forward, varying, forward - varying


class _Sample(NamedTuple):
    """Of one Jacobian: its singular values, exponents, and for each weight n₁ tr (WWᵀ)² / (tr WWᵀ)²."""

    values: Array
    lyapunov: Array
    ratios: list[float]


def _singular(ws: Sequence[Array], slopes: Sequence[Array]) -> _Sample:
    """Of W_L D_(L−1) … D₁ W₁, whose diagonals are ``slopes``; the product is scaled on the way, and stays in range."""
    inputs = ws[0].shape[1]
    kept = min(inputs, *(len(w) for w in ws))
    frame = np.linalg.qr(np.random.default_rng(0).standard_normal((inputs, kept)))[0]
    product, log, growth = np.eye(inputs), 0.0, np.zeros(kept)
    with np.errstate(divide="ignore"):  # a direction that dies grows by log 0
        for w, slope in zip(ws, [None, *slopes], strict=True):
            if slope is not None:
                product, frame = slope[:, None] * product, slope[:, None] * frame
            product, (frame, upper) = w @ product, np.linalg.qr(w @ frame)
            size = np.abs(np.diagonal(upper))
            growth += np.log(np.where(size > kept * np.finfo(size.dtype).eps * size.max(), size, 0.0))
            if top := np.abs(product).max():
                product, log = product / top, log + math.log(top)
    ratios = [float(len(w) * np.sum((w @ w.T) ** 2) / np.sum(w * w) ** 2) if w.any() else math.nan for w in ws]
    values = np.linalg.svd(product, compute_uv=False) * np.exp(log)
    return _Sample(values, np.sort(growth)[::-1] / len(ws), ratios)


# What is predicted


class _Theory(NamedTuple):
    rows: Array  # (depth, 4): q, q (1 − c), c, and the backward moment, relative to the last layer's
    factors: Array  # (depth,): the growth of the backward moment from this layer to the one before; the first is NaN
    met: list[tuple[Function, float] | None]  # the function before each layer, and the variance of what it takes


def _theory(laws: Sequence[_Law], backward: Array) -> _Theory:
    rows, factors = np.full((len(laws), 4), math.nan), np.full(len(laws), math.nan)
    met: list[tuple[Function, float] | None] = []
    variance = shared = varying = shift = (
        math.nan
    )  # of the layer before: E[z²] − E[z]², E[z₁ z₂], E[z²] − E[z₁ z₂], E[z]
    for i, law in enumerate(laws):
        if isinstance(law.before, str) or not math.isfinite(variance):
            square, gap = law.entering
            met.append(None)
        else:
            f = _shifted(law.before, shift)
            square, slopes = init.moments(f, variance)
            if varying < 1e-6 * variance:
                gap = slopes * varying  # the map's slope at c = 1, for a difference of equal numbers would be rounding
            else:
                c = min(max((shared - shift * shift) / variance, -1.0), 1.0) if variance else 1.0
                gap = square - correlation_moment(f, variance, variance, c)
            factors[i] = law.fan_out * law.square * slopes if law.alone else math.nan
            met.append((f, variance))
        q, varying, shift = law.up * square + law.bias, law.up * gap, law.shift
        shared = law.up * (square - gap) + law.bias
        variance = q if math.isnan(q) else max(q - shift * shift, 0.0)
        rows[i, :3] = q, varying, min(shared / q, 1.0) if q else 1.0
    rows[-1, 3] = 1.0
    for i in reversed(range(1, len(laws))):
        anew = math.isnan(factors[i])
        rows[i - 1, 3] = (backward[i - 1] / backward[-1] if backward[-1] else 0.0) if anew else rows[i, 3] * factors[i]
    return _Theory(rows, factors, met)


def _shifted(f: Function, by: float) -> Function:
    return (lambda z: f(z + by)) if by else f


def _jacobian(samples: Sequence[_Sample], laws: Sequence[_Law], theory: _Theory) -> Jacobian:
    values, inputs = np.array([sample.values for sample in samples]), laws[0].fan_in
    squares = values * values
    with np.errstate(invalid="ignore", divide="ignore"):
        share = squares / squares.sum(axis=1, keepdims=True)
        spread = float(np.mean(inputs * (share * share).sum(axis=1) - 1))
    # r = E[λ²] / E[λ]² of JᵀJ's spectrum, from the last layer down. Free factors: r − 1 adds; a change of dimension
    # only adds zeros.
    r, nodes, weights = 1.0, *init.nodes()
    for i in reversed(range(len(laws))):
        ratio = float(np.mean([sample.ratios[i] for sample in samples]))
        r = laws[i].fan_in / laws[i].fan_out * (r + ratio - 1)
        if (found := theory.met[i]) is not None:
            steep = init.value_and_slope(found[0], math.sqrt(found[1]) * nodes)[1] ** 2
            mean = float(weights @ steep)
            r += float(weights @ (steep * steep)) / mean**2 - 1 if mean else math.nan
    predicted = laws[0].fan_out * laws[0].square * theory.rows[0, 3]
    lyapunov = np.mean([sample.lyapunov for sample in samples], axis=0)
    return Jacobian(values, float(squares.sum(axis=1).mean() / inputs), float(predicted), spread, r - 1, lyapunov)


# The verdict


def _judged(names: list[str], totals: Array, laws: list[_Law], samples: Sequence[_Sample]) -> Propagation:
    mean = totals.mean(axis=0)
    theory = _theory(laws, mean[:, 3])
    layers = []
    for name, (forward, varying, shared, backward, *rest), (q, v, c, b) in zip(names, mean, theory.rows, strict=True):
        correlation = shared / forward if forward else 1.0
        down = backward / mean[-1, 3] if mean[-1, 3] else 0.0
        layers.append(Layer(name, *map(float, (forward, q, varying, v, correlation, c, down, b, *rest))))

    def gain(column: int, end: int, start: int) -> tuple[float, float]:
        """log10 of the ratio of means, and its standard error from the seeds."""
        a, b = totals[:, end, column], totals[:, start, column]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = a / a.mean() - b / b.mean()
            error = float(np.std(ratio, ddof=1)) / math.sqrt(len(a)) / math.log(10) if len(a) > 1 else math.inf
            return float(np.log10(a.mean() / b.mean())), error

    up, down = gain(0, -1, 0), gain(3, 0, -1)
    known = theory.factors[np.isfinite(theory.factors)]
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.log10(theory.rows[-1, 0] / theory.rows[0, 0]), np.log10(theory.rows[0, 3])
        chi = float(np.exp(np.mean(np.log(known)))) if known.size else math.nan
    return Propagation(
        layers,
        up[0],
        float(expected[0]),
        up[1],
        down[0],
        float(expected[1]),
        down[1],
        chi,
        _verdict(layers, laws, chi),
        _jacobian(samples, laws, theory) if samples else None,
    )


def _verdict(layers: list[Layer], laws: list[_Law], chi: float) -> str:
    def place(i: int) -> str:
        return (
            f"layer {i + 1}" if layers[i].name == str(i + 1) else f"layer {layers[i].name} ({i + 1} of {len(layers)})"
        )

    faults = []
    for i, layer in enumerate(layers):
        if layer.varying <= LOST * layer.forward:
            faults.append(
                f"carries no information from {place(i)} on: {layer.varying:.0e} of a second moment of "
                f"{layer.forward:.1e} depends on the input"
            )
            break
    for i, layer in enumerate(layers):
        size = layer.forward / layers[0].forward if layers[0].forward else 1.0
        if not LOST < size < 1 / LOST:
            faults.append(
                f"{'vanishes' if size < 1 else 'explodes'} on its way up at {place(i)}: {size:.0e} of the first's"
            )
            break
    for i, layer in reversed(list(enumerate(layers))):
        if not LOST < layer.backward < 1 / LOST:
            kind = "vanishes" if layer.backward < 1 else "explodes"
            faults.append(f"gradient {kind} at {place(i)}: second moment {layer.backward:.0e} of the last layer's")
            break
    notes = []
    for i, law in enumerate(laws):
        if isinstance(law.before, str) and (i or math.isnan(law.square)):
            notes.append(f"; theory begins anew at {place(i)}: {law.before}")
        elif i and not law.alone:
            notes.append(f"; theory of gradients begins anew at {place(i)}: what enters it goes elsewhere, too")
    also = "".join(notes[:3]) + (f"; and {len(notes) - 3} times more" if len(notes) > 3 else "")
    known = "" if math.isnan(chi) else f"; χ₁ = {chi:.2f}"
    if not faults:
        return f"healthy: signals and gradients pass all {len(layers)} layers{known}{also}"
    return "; ".join(faults) + known + _advice(laws, chi) + also


def _advice(laws: list[_Law], chi: float) -> str:
    """Weights and biases on the critical line of the network's function."""
    functions = [law.before for law in laws if not isinstance(law.before, str)]
    sigma_w = [math.sqrt(law.up) for law in laws]
    if not functions or abs(chi - 1) <= 0.02:
        return ""
    now = f", σ_w = {np.exp(np.mean(np.log(sigma_w))):.2f}" if all(s > 0 for s in sigma_w) else ""
    points = [point for point in critical_line(functions[-1], (0.01, 0.1, 1, 5, 20)) if point.stable]
    if not points:
        return f"{now}; try another function: no weights of a usual size are critical for this one; tanh has such"
    best = min(points, key=lambda point: point.sigma_b)
    bias = f"init.normal(std={best.sigma_b:.2g})" if best.sigma_b > 0.01 else "0"
    rule = f"init.variance_scaling({best.sigma_w**2:.3g}, distribution='normal')"
    return f"{now}; try σ_w = {best.sigma_w:.2f}: weight_init={rule}, bias_init={bias}"
