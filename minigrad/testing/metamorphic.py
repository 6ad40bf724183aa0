"""Properties of any network that need no tolerance: change it so that the result must not change, and compare bits.

Each is a function of a network (and inputs, and a seed for what it draws) that returns nothing, raises AssertionError
with the first number that differs, or NotApplicableError with the reason. The network is copied, never written. Hidden
units are found on the tape (:func:`minigrad.testing.units.hidden_layers`), so it may be of any class; its rows, the
first axis of the inputs, must be independent. :func:`check_network` runs them all.

>>> from minigrad import nn
>>> net = nn.Sequential(nn.Linear(40, 17), nn.Tanh(), nn.Linear(17, 3))
>>> flipped_signs(net)
>>> scaled_units(net)
Traceback (most recent call last):
minigrad.testing.bits.NotApplicableError: no hidden layer of relu, leaky_relu, abs, neg or nothing
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.engine.tape import Node
from minigrad.engine.tensor import Tensor, tensor
from minigrad.nn.layers import Linear
from minigrad.nn.module import Module
from minigrad.ops.activation import dropout
from minigrad.ops.linalg import linear
from minigrad.ops.loss import mse_loss
from minigrad.ops.reduction import softmax
from minigrad.ops.update import assign
from minigrad.optim import SGD, Adam, Optimizer
from minigrad.testing.bits import NotApplicableError, attempt
from minigrad.testing.report import Property, Report
from minigrad.testing.units import (
    Hidden,
    assert_all_same,
    assert_same,
    assert_twins,
    count_classes,
    draw_classes,
    hidden_layers,
    randomise,
    recorded,
)

Array = NDArray[Any]
Loss = Callable[[Any], Any]
Make = Callable[[Sequence[Tensor]], Optimizer]

#: φ(−z) = −φ(z), and φ(2ᵏ z) = 2ᵏ φ(z) for every integer k, exactly. (Bounds of a clip break both.)
ODD = ("tanh", "sin", "erf", "neg")
HOMOGENEOUS = ("relu", "leaky_relu", "abs", "neg")
BATCH = 11  # rows of the inputs that are drawn where none are given


def check_network(
    net: Module,
    x: Any = None,
    *,
    loss: Loss | None = None,
    optimizer: Make | None = None,
    seed: int = 0,
    examples: int = 3,
) -> Report:
    """All properties of this module, each on several draws; true if none failed.

    ``x`` (n, …) are inputs, drawn for the first Linear if None. ``loss`` maps the network's output to a number
    (squares against random targets if None); ``optimizer`` makes one from parameters (Adam if None). Those that
    cannot hold while dropout acts are "n/a" then: pass ``net.eval()``. Raises ValueError where inputs must be given,
    and for a network without parameters that require gradients.

    >>> from minigrad import nn
    >>> report = check_network(nn.Sequential(nn.Linear(40, 17), nn.Tanh(), nn.Linear(17, 3)), examples=1)
    >>> print(report)
    Sequential
    permuted units          pass  1
    flipped signs           pass  1
    scaled units            n/a   0  no hidden layer of relu, leaky_relu, abs, neg or nothing
    permuted batch          pass  1
    scaled loss             pass  1
    shifted logits          pass  1
    balanced units          n/a   0  no hidden layer of relu, leaky_relu, abs, neg or nothing
    twins after one step    pass  1
    twins after training    pass  1
    classes never grow      pass  1
    twins as one unit       pass  1
    zero weights stay zero  pass  1
    """
    tape = recorded(copy.deepcopy(net), tensor(_inputs(net, x, np.random.default_rng(seed))))
    noisy = any(node.op is dropout for node in tape)
    found = []
    for check in (*STEPLESS, *TRAINING):
        options = {"loss": loss, "optimizer": optimizer} if check in TRAINING else {}
        name = check.__name__.replace("_", " ")
        if noisy and check not in WITH_DROPOUT:
            found.append(Property(name, "n/a", "dropout tells positions apart: check net.eval()"))
            continue
        found.append(attempt(name, functools.partial(_each, check, net, x, range(seed, seed + examples), options)))
    return Report(type(net).__name__, found)


def _each(check: Callable[..., None], net: Module, x: Any, seeds: Sequence[int], options: dict[str, Any]) -> int:
    for seed in seeds:
        check(net, x, seed=seed, **options)
    return len(seeds)


# What they have in common


def _inputs(net: Module, x: Any, rng: np.random.Generator) -> Array:
    """The inputs given, or normal ones (BATCH, in_features) for the first Linear."""
    if x is not None:
        given: Array = tensor(x).data
        return given
    for _, module in net.named_modules():
        if isinstance(module, Linear):
            return rng.standard_normal((BATCH, module.in_features)).astype(module.weight.dtype)
    raise ValueError(f"{type(net).__name__} has no Linear to draw inputs for: give x")


def _start(net: Module, x: Any, seed: int) -> tuple[Module, Array, np.random.Generator]:
    """A copy of the network, inputs, and what the property draws from."""
    rng = np.random.default_rng(seed)
    return copy.deepcopy(net), _inputs(net, x, rng), rng


def _layers(net: Module, x: Array, ops: Sequence[str] | None = None) -> list[Hidden]:
    """The hidden layers whose units pass through these ops only; NotApplicableError if there is none."""
    layers = [h for h in hidden_layers(copy.deepcopy(net), tensor(x)) if ops is None or {*h.ops} <= {*ops, "dropout"}]
    if not layers:
        raise NotApplicableError(
            f"no hidden layer of {', '.join(ops)} or nothing" if ops else "no hidden layer on its tape"
        )
    return layers


def _run(net: Module, x: Array, g: Any = None) -> tuple[Array, dict[str, Array]]:
    """The output, and the gradient of every parameter for a cotangent g (random if it is a generator)."""
    net.zero_grad()
    y = net(tensor(x))
    if isinstance(g, np.random.Generator):
        g = g.standard_normal(y.shape).astype(y.dtype)
    if y.requires_grad and g is not None:
        y.backward(g)
    return y.data, _gradients(net)


def _gradients(net: Module) -> dict[str, Array]:
    return {name: p.grad.data for name, p in net.named_parameters() if p.grad is not None}


def _change(net: Module, layers: Sequence[Hidden], how: Callable[[int, int, str, Array], Array]) -> None:
    """Write how(layer's number, axis, name, array) to all that belongs to the units of each layer."""
    named = dict(net.named_parameters())
    for i, layer in enumerate(layers):
        for name, axis in layer.slices:
            assign(named[name], how(i, axis, name, named[name].data))


def _along(factors: Array, axis: int, array: Array) -> Array:
    """Factors of the units, in a shape that multiplies their slices."""
    return factors.reshape([-1 if i == axis else 1 for i in range(array.ndim)]).astype(array.dtype)


def _few(rng: np.random.Generator, shape: tuple[int, ...], count: int) -> Array:
    """Zeros and small whole numbers: in a matrix at most ``count`` in each row and column are not 0."""
    if len(shape) != 2:
        return rng.integers(-2, 3, shape)
    w = np.zeros(shape, int)
    for _ in range(count):
        n = min(shape)
        w[rng.permutation(shape[0])[:n], rng.permutation(shape[1])[:n]] = rng.choice([-2, -1, 1, 2], n)
    return w


def _exact(net: Module, x: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Parameters, inputs and a cotangent with which no sum over units or rows rounds, in whatever order it runs.

    Where the activations keep whole numbers whole: few of them, small. Otherwise every sum has one term at most that
    is not 0: one unit reads, and is read by, one other, and the cotangent has one row.
    """
    if x.dtype.kind == "f":
        x = rng.integers(-3, 4, x.shape).astype(x.dtype)
    for count in (3, 1):
        for p in net.parameters():
            assign(p, _few(rng, p.shape, count))
        values = list(recorded(copy.deepcopy(net), tensor(x)).values().values())
        whole = all(np.array_equal(v, np.rint(v)) and np.abs(v).max(initial=0) < 2.0**20 for v in values)
        if whole:
            break
    y = values[-1]
    g = rng.integers(-3, 4, y.shape).astype(y.dtype)
    if not whole and len(g):
        g[np.arange(len(g)) != rng.integers(len(g))] = 0
    return x, g


# Symmetries of the function


def permuted_units(net: Module, x: Any = None, *, seed: int = 0) -> None:
    """Hidden units in another order: the same outputs, and the gradients in that order.

    On parameters of its own, with which the sums over units are exact.
    """
    net, x, rng = _start(net, x, seed)
    layers = _layers(net, x)
    x, g = _exact(net, x, rng)
    y, gradients = _run(net, x, g)
    orders = [rng.permutation(layer.size) for layer in layers]
    _change(net, layers, lambda i, axis, _, a: a.take(orders[i], axis))
    permuted, after = _run(net, x, g)
    assert_same(permuted, y, "outputs after hidden units were permuted")
    for order, layer in zip(orders, layers, strict=True):
        for name, axis in layer.slices:
            gradients[name] = gradients[name].take(order, axis)
    assert_all_same(after, gradients, "gradients after hidden units were permuted")


def flipped_signs(net: Module, x: Any = None, *, seed: int = 0) -> None:
    """Units of an odd activation, of one layer, with all their weights negated: the same outputs, and gradients.

    Those of the weights that leave the units are negated like them. The rule (ȳ + ȳ y)(1 − y) of tanh does not give
    the same bits for −y, so weights that enter tanh units have gradients within its rounding, 4 u |ȳ| (1 − y).
    """
    net, x, rng = _start(net, x, seed)
    layers = _layers(net, x, ODD)
    layer = layers[rng.integers(len(layers))]
    _rescaled(net, x, rng, layer, rng.choice([-1.0, 1.0], layer.size), "negated")


def scaled_units(net: Module, x: Any = None, *, seed: int = 0) -> None:
    """Units of relu and its kind, of one layer, with weights in times 2ᵏ and out times 2⁻ᵏ: the same outputs.

    Gradients of weights in are 2⁻ᵏ of what they were, of weights out 2ᵏ; all others are the same.
    """
    net, x, rng = _start(net, x, seed)
    layers = _layers(net, x, HOMOGENEOUS)
    layer = layers[rng.integers(len(layers))]
    _rescaled(net, x, rng, layer, 2.0 ** rng.integers(-4, 5, layer.size), "scaled")


def _rescaled(net: Module, x: Array, rng: np.random.Generator, layer: Hidden, factors: Array, what: str) -> None:
    """Multiply what enters each unit of a layer by its factor, and divide what leaves it."""
    before, twin = copy.deepcopy(net), copy.deepcopy(net)  # with the state of dropout as it was

    def scale(_: int, axis: int, name: str, a: Array) -> Array:
        return a * _along(1 / factors if name == layer.outgoing else factors, axis, a)

    _change(twin, [layer], scale)
    g = rng.standard_normal(_run(copy.deepcopy(net), x)[0].shape)
    y, gradients = _run(net, x, g)
    changed, after = _run(twin, x, g)
    smallest = _smallest(y.dtype)
    assert_same(changed, y, f"outputs after hidden units were {what}", smallest)
    for name, axis in layer.slices:
        a = gradients[name]
        gradients[name] = a * _along(factors if name == layer.outgoing else 1 / factors, axis, a)
    if "tanh" in layer.ops:
        flow = _Flow(before, x, g)
        unit = flow.largest_within(layer)
        terms = 2 * (len(unit) + 8) * np.finfo(y.dtype).eps
        bounds = {layer.weight: unit.T @ np.abs(flow.entering(layer.weight)) * terms}
        if layer.bias is not None:
            bounds[layer.bias] = unit.sum(0) * terms
        later = {n for n, p in before.named_parameters() if p.node in flow.after(layer.outgoing)}
        for name, bound in bounds.items():
            off = np.abs(after[name] - gradients[name])
            if not np.all(off <= bound + smallest):
                raise AssertionError(
                    f"gradients after hidden units were {what}: {name} is {(off - bound).max():.2g} further off than "
                    "rounding explains"
                )
        after = {name: a for name, a in after.items() if name in later}
    assert_all_same(after, gradients, f"gradients after hidden units were {what}", smallest)


class _Flow:
    """Values and cotangents of one run, by node; ``maps``: the affine map of each weight. Rows by units, float64."""

    def __init__(self, net: Module, x: Array, g: Array) -> None:
        self.tape = recorded(net, tensor(x))
        self.values = self.tape.values()
        self.cotangents = self.tape.backward(np.asarray(g, self.tape[-1].dtype)).cotangents
        names = {p.node: name for name, p in net.named_parameters()}
        self.maps = {names[n.parents[1]]: n for n in self.tape if n.op is linear and n.parents[1] in names}

    @staticmethod
    def _rows(array: Any) -> Array:
        wide = np.asarray(array, np.float64)
        return wide.reshape(-1, wide.shape[-1])

    def entering(self, weight: str) -> Array:
        """The inputs of a weight's affine map."""
        parent = self.maps[weight].parents[0]
        return self._rows(self.values[parent] if type(parent) is Node else getattr(parent, "data", parent))

    def cotangent(self, node: Node) -> Array:
        return self._rows(self.cotangents[node])

    def largest_within(self, layer: Hidden) -> Array:
        """For each row and unit the largest cotangent, in size, after any of the layer's ops."""
        node, sizes = self.maps[layer.outgoing], []
        for _ in layer.ops:
            node = next(p for p in node.parents if type(p) is Node)
            sizes.append(np.abs(self.cotangent(node)))
        largest: Array = np.maximum.reduce(sizes)
        return largest

    def after(self, weight: str) -> set[Node]:
        """The parents of that affine map, and of all that ran later."""
        return {p for n in self.tape if n.seq >= self.maps[weight].seq for p in n.parents if type(p) is Node}


def _smallest(dtype: Any) -> float:
    """Numbers below this may have lost bits to underflow on the way."""
    return float(np.finfo(dtype).tiny / np.finfo(dtype).eps)


def permuted_batch(net: Module, x: Any = None, *, seed: int = 0) -> None:
    """Rows in another order, and some without the others: the same rows of outputs; permuted, the same gradients.

    Outputs with its own parameters; gradients, which sum over the rows, with such that the sums are exact.
    """
    net, x, rng = _start(net, x, seed)
    twin = copy.deepcopy(net)
    order = rng.permutation(len(x))
    y, _ = _run(net, x)
    for rows, what in ((order, "permuted"), (order[: len(order) // 2 + 1], "fewer"), (order[:1], "one")):
        found, _ = _run(copy.deepcopy(twin), x[rows])
        assert_same(found, y[rows], f"outputs for rows {what}")
    x, g = _exact(twin, x, rng)
    _, gradients = _run(copy.deepcopy(twin), x, g)
    _, after = _run(twin, x[order], g[order])
    assert_all_same(after, gradients, "gradients for rows permuted")


def scaled_loss(net: Module, x: Any = None, *, seed: int = 0) -> None:
    """The cotangent of the output times 2ᵏ: every gradient times 2ᵏ, k from −16 to 16."""
    net, x, rng = _start(net, x, seed)
    twin = copy.deepcopy(net)
    y, _ = _run(copy.deepcopy(net), x)
    g = rng.standard_normal(y.shape).astype(y.dtype)
    factor = 2.0 ** int(rng.choice([-16, -3, -1, 1, 5, 16]))
    _, gradients = _run(net, x, g)
    _, after = _run(twin, x, g * g.dtype.type(factor))
    if not gradients:
        raise NotApplicableError("no parameter has a gradient")
    scaled = {name: a * a.dtype.type(factor) for name, a in gradients.items()}
    smallest = max(1, factor) * _smallest(np.result_type(*scaled.values()))
    assert_all_same(after, scaled, f"gradients of {factor:g} times the loss", smallest)


def shifted_logits(net: Module, x: Any = None, *, seed: int = 0) -> None:
    """Softmax of the outputs, rounded to whole numbers, plus a whole number: the same probabilities and gradients."""
    net, x, rng = _start(net, x, seed)
    twin = copy.deepcopy(net)
    shift = int(rng.integers(1, 100)) * int(rng.choice([-1, 1]))
    results = []
    for network, by in ((net, 0), (twin, shift)):
        y = network(tensor(x))
        if y.ndim < 1 or not y.requires_grad or not np.abs(y.data).max(initial=0) < 2.0**20:
            raise NotApplicableError(f"the outputs {y.shape} are no logits below 2²⁰")
        # y + (rint y − y) is rint y: the difference is exact (Sterbenz)
        p = softmax(y + (np.rint(y.data) - y.data) + by, -1)
        p.backward(np.random.default_rng(seed).standard_normal(p.shape).astype(p.dtype))
        results.append((p.data, _gradients(network)))
    (p, gradients), (shifted, after) = results
    assert_same(shifted, p, f"probabilities of logits plus {shift}")
    assert_all_same(after, gradients, f"gradients with logits plus {shift}")


def balanced_units(net: Module, x: Any = None, *, seed: int = 0) -> None:
    """Σ w ∂w + b ∂b = Σ v ∂v for each unit of relu and its kind, w and b entering it, v leaving it.

    Both are Σ z̄ z over the rows (Du et al. 2018, theorem 2.1). In floating point they differ by the rounding of the
    sums that gave z, z̄ and the gradients: γₘ = m u / (1 − m u) times the sum of the terms' sizes, for m terms
    (Higham 2002, 3.1); u is half an ulp of 1.
    """
    net, x, rng = _start(net, x, seed)
    layers = _layers(net, x, HOMOGENEOUS)
    if any("dropout" in layer.ops for layer in layers):
        raise NotApplicableError("dropout scales what it keeps")
    flow = _Flow(net, x, rng.standard_normal(_run(copy.deepcopy(net), x)[0].shape))
    wide = {name: p.data.astype(np.float64) for name, p in net.named_parameters()}
    found = {
        name: np.asarray(flow.cotangents[p.node], np.float64)
        for name, p in net.named_parameters()
        if p.node is not None and p.node in flow.cotangents
    }
    for layer in layers:
        w, v = wide[layer.weight], wide[layer.outgoing]
        left, right = (w * found[layer.weight]).sum(1), (v * found[layer.outgoing]).sum(0)
        into, out = flow.maps[layer.weight], flow.maps[layer.outgoing]
        inner, h = np.abs(flow.entering(layer.weight)), np.abs(flow.entering(layer.outgoing))
        dz, g = np.abs(flow.cotangent(into)), np.abs(flow.cotangent(out))
        size = inner @ np.abs(w).T
        if layer.bias is not None:
            left, size = left + wide[layer.bias] * found[layer.bias], size + np.abs(wide[layer.bias])
        u = float(np.finfo(into.dtype).eps) / 2
        # twice for the sums over weights: once in the network, once here
        m = [n + 2 + len(layer.ops) for n in (len(inner), 2 * w.shape[1] + 2, 2 * v.shape[0])]
        gamma_rows, gamma_in, gamma_out = (n * u / (1 - n * u) for n in m)
        bound = (dz * size).sum(0) * (gamma_rows + gamma_in)
        bound += (h * (g @ np.abs(v))).sum(0) * (gamma_rows + gamma_out) + _smallest(into.dtype)
        off = np.abs(left - right)
        if not np.all(off <= bound):
            unit = int(np.argmax(off - bound))
            raise AssertionError(
                f"unit {unit} of {layer.weight}: Σ w ∂w + b ∂b is {left[unit]!r}, Σ v ∂v is {right[unit]!r}; they may "
                f"differ by {bound[unit]:.2g}"
            )


# Symmetries of training


def _squares(net: Module, x: Array, seed: int) -> Loss:
    """Squared error against targets that stay the same."""
    shape = _run(copy.deepcopy(net), x)[0].shape
    target = np.random.default_rng([seed, 1]).standard_normal(shape)
    return lambda y: mse_loss(y, target.astype(y.dtype))


def _step(net: Module, optimizer: Optimizer, loss: Loss, x: Tensor) -> float:
    """One step; the loss before it."""
    optimizer.zero_grad()
    value = loss(net(x))
    value.backward()
    optimizer.step()
    return float(value.item())


def _adam(parameters: Sequence[Tensor]) -> Optimizer:
    return Adam(parameters, lr=0.01)


def twins_after_one_step(
    net: Module, x: Any = None, *, loss: Loss | None = None, optimizer: Make | None = None, seed: int = 0
) -> None:
    """Twins are twins after one step from any state in which they are: equal weights in, bias, weights out, and
    optimizer state; all else is random."""
    net, x, rng = _start(net, x, seed)
    layers = _layers(net, x)
    loss, opt = loss or _squares(net, x, seed), (optimizer or _adam)(list(net.parameters()))
    classes = draw_classes(rng, layers)
    randomise(net, layers, classes, rng, opt, int(rng.integers(0, 6)))
    assert_twins(net, opt, layers, classes, "after steps of the optimizer alone")
    with np.errstate(all="ignore"):
        _step(net, opt, loss, tensor(x))
    assert_twins(net, opt, layers, classes, "after one step")


def twins_after_training(
    net: Module,
    x: Any = None,
    *,
    loss: Loss | None = None,
    optimizer: Make | None = None,
    seed: int = 0,
    steps: int = 100,
    constant: float | None = 0.05,
) -> None:
    """Hidden units that start from one constant stay identical, through training as long as you please.

    With ``constant=None`` from an arbitrary symmetric state.
    """
    net, x, rng = _start(net, x, seed)
    layers = _layers(net, x)
    loss, opt = loss or _squares(net, x, seed), (optimizer or _adam)(list(net.parameters()))
    if constant is None:
        classes = draw_classes(rng, layers)
        randomise(net, layers, classes, rng)
    else:
        classes = [np.zeros(layer.size, np.intp) for layer in layers]
        _change(net, layers, lambda i, axis, name, a: np.full(a.shape, constant))
    inputs = tensor(x)
    with np.errstate(all="ignore"):
        for step in range(1, steps + 1):
            _step(net, opt, loss, inputs)
            assert_twins(net, opt, layers, classes, f"after step {step}")


def classes_never_grow(
    net: Module,
    x: Any = None,
    *,
    loss: Loss | None = None,
    optimizer: Make | None = None,
    seed: int = 0,
    steps: int = 20,
) -> None:
    """The number of different units of a layer never grows while it is trained."""
    net, x, rng = _start(net, x, seed)
    layers = _layers(net, x)
    loss, opt = loss or _squares(net, x, seed), (optimizer or _adam)(list(net.parameters()))
    randomise(net, layers, draw_classes(rng, layers), rng)
    before, inputs = count_classes(net, opt, layers), tensor(x)
    for step in range(1, steps + 1):
        with np.errstate(all="ignore"):
            _step(net, opt, loss, inputs)
        now = count_classes(net, opt, layers)
        for layer, old, new in zip(layers, before, now, strict=True):
            if new > old:
                raise AssertionError(
                    f"{layer.weight}: {layer.size} units of {old} kinds became {new} kinds in step {step}"
                )
        before = now


def twins_as_one_unit(
    net: Module,
    x: Any = None,
    *,
    loss: Loss | None = None,
    optimizer: Make | None = None,
    seed: int = 0,
    steps: int = 5,
) -> None:
    """Under SGD, m twins follow the path of one unit with m times their outgoing weights.

    Its rates are η/m for weights in and bias, and m η for weights out. Approximate: in float64, to within a millionth
    of how far the parameters moved, where a wrong rate is off by about as much as they moved. ``optimizer`` is not
    used.
    """
    net, x, rng = _start(net, x, seed)
    net.astype(np.float64)
    x = x.astype(np.float64) if x.dtype.kind == "f" else x
    layers = _layers(net, x)
    loss, inputs = loss or _squares(net, x, seed), tensor(x)
    classes = draw_classes(rng, layers)
    randomise(net, layers, classes, rng)
    # a step by which the loss would fall by a tenth: with a longer one rounding grows from step to step
    value = loss(net(inputs))
    value.backward()
    slope = sum(float(np.sum(g.astype(np.float64) ** 2)) for g in _gradients(net).values())
    lr = min(2.0**-6, 0.1 * abs(value.item()) / slope) if slope else 2.0**-6
    net.zero_grad()
    one = copy.deepcopy(net)
    named, rates = dict(one.named_parameters()), {name: np.full((), lr) for name, _ in net.named_parameters()}
    chosen = [np.unique(first, return_counts=True) for first in classes]
    for layer, (units, many) in zip(layers, chosen, strict=True):
        for name, axis in layer.slices:
            p = named[name]
            factors = _along(many.astype(float), axis, p.data)
            p.data = np.ascontiguousarray(p.data.take(units, axis)) * (factors if name == layer.outgoing else 1)
            rates[name] = rates[name] * (factors if name == layer.outgoing else 1 / factors)
    opt = SGD(list(net.parameters()), lr=lr)
    start = {name: p.data.copy() for name, p in net.named_parameters()}
    for _ in range(steps):
        _step(net, opt, loss, inputs)
        one.zero_grad()
        loss(one(inputs)).backward()
        for name, p in named.items():
            if p.grad is not None:
                assign(p, p.data - rates[name] * p.grad.data)
    for name, p in net.named_parameters():
        many_at, moved = p.data, np.abs(p.data - start[name]).max(initial=0)
        one_at = named[name].data
        for layer, (units, many) in zip(layers, chosen, strict=True):
            for owner, axis in layer.slices:
                if owner == name:
                    many_at = many_at.take(units, axis)
                    one_at = one_at / (_along(many.astype(float), axis, one_at) if name == layer.outgoing else 1)
        off = np.abs(many_at - one_at)
        if not np.all(off <= 1e-6 * moved + 64 * np.finfo(float).eps * np.abs(many_at)):
            raise AssertionError(
                f"{name}: twins are {off.max():.2g} off the path of the one unit that they should act as; "
                f"they moved by {moved:.2g}"
            )


def zero_weights_stay_zero(
    net: Module,
    x: Any = None,
    *,
    loss: Loss | None = None,
    optimizer: Make | None = None,
    seed: int = 0,
    steps: int = 60,
) -> None:
    """With all parameters 0 and φ(0) = 0 only the output bias learns, and squared error ends at the targets' variance.

    The loss is mean squared error, the optimizer SGD with a rate that halves the distance; the arguments for them are
    not used.
    """
    net, x, rng = _start(net, x, seed)
    layers = _layers(net, x)
    for p in net.parameters():
        assign(p, 0)
    tape = recorded(net, tensor(x))
    last, values = tape[-1], tape.values()
    outgoing = dict(net.named_parameters())[layers[-1].outgoing]
    if last.op is not linear or last.parents[1] is not outgoing.node or values[last.parents[0]].any():
        raise NotApplicableError("the output is no affine map of hidden units, or an activation is not 0 at 0")
    target = rng.standard_normal(last.shape).astype(last.dtype)
    outputs, inputs = last.shape[-1], tensor(x)
    opt = SGD(list(net.parameters()), lr=outputs / 4)  # the bias's gradient is 2 (b − mean target) / outputs
    bias = {name for name, p in net.named_parameters() if p.node is last.parents[2]}
    value = 0.0
    for step in range(1, steps + 1):
        value = _step(net, opt, lambda y: mse_loss(y, target), inputs)
        for name, p in net.named_parameters():
            if name not in bias and p.data.any():
                raise AssertionError(f"{name}: {np.count_nonzero(p.data)} of {p.size} are not 0 after step {step}")
    rows = target.astype(np.float64).reshape(-1, outputs)
    expected = float(rows.var(axis=0).mean() if bias else np.mean(rows**2))
    if not abs(value - expected) <= 4 * rows.size * np.finfo(last.dtype).eps * float(np.mean(rows**2)):
        raise AssertionError(f"the loss ends at {value!r}, need {expected!r}, the variance of the targets")


STEPLESS = (
    permuted_units,
    flipped_signs,
    scaled_units,
    permuted_batch,
    scaled_loss,
    shifted_logits,
    balanced_units,
)
TRAINING = (twins_after_one_step, twins_after_training, classes_never_grow, twins_as_one_unit, zero_weights_stay_zero)
#: Those that hold while dropout acts: the same positions are dropped on both sides.
WITH_DROPOUT = (flipped_signs, scaled_units, scaled_loss, shifted_logits)
