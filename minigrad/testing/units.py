"""The hidden units of a network, as its tape shows them; and states in which some of them are twins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad.engine.state import mode
from minigrad.engine.tape import Node, Tape
from minigrad.engine.tensor import tensor
from minigrad.nn.module import Module
from minigrad.nn.twins import first_alike
from minigrad.ops.activation import dropout
from minigrad.ops.linalg import linear
from minigrad.ops.update import assign
from minigrad.optim import Optimizer

Array = NDArray[Any]


class Hidden(NamedTuple):
    """A hidden layer: ``size`` units between two affine maps, and the ops that act on each unit in between.

    ``weight`` (size, k), ``bias`` (size,) or None, and ``outgoing`` (m, size) are names of parameters.
    """

    weight: str
    bias: str | None
    outgoing: str
    size: int
    ops: tuple[str, ...]

    @property
    def slices(self) -> tuple[tuple[str, int], ...]:
        """(parameter, axis) for all that belongs to the units: one slice along the axis is one unit's."""
        inside = ((self.weight, 0),) if self.bias is None else ((self.weight, 0), (self.bias, 0))
        return (*inside, (self.outgoing, 1))


def hidden_layers(net: Module, x: Any) -> list[Hidden]:
    """The hidden layers that x passes, read from the tape of ``net(x)``, whatever class the network is of.

    The output of an affine map whose parameters are used nowhere else reaches one more of that kind, by way of
    elementwise ops without other operands (and dropout) alone: between them, its columns are hidden units.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    >>> hidden_layers(net, mg.tensor([[1.0, 2.0, 3.0]]))
    [Hidden(weight='0.weight', bias='0.bias', outgoing='2.weight', size=5, ops=('tanh',))]
    """
    tape = recorded(net, x)
    names = {p.node: name for name, p in net.named_parameters()}
    users = defaultdict(list)
    for node in tape:
        for parent in node.parents:
            if type(parent) is Node:
                users[parent].append(node)

    def affine(node: Node) -> bool:
        if node.op is not linear:
            return False
        return all(p is None or (p in names and len(users[p]) == 1) for p in node.parents[1:])

    found = []
    for first in filter(affine, tape):
        last, ops = first, []
        while len(users[last]) == 1 and _keeps_units(users[last][0]):
            last = users[last][0]
            assert last.op is not None
            ops.append(last.op.name)
        if len(users[last]) == 1 and affine(after := users[last][0]) and after.parents[0] is last:
            _, weight, bias = first.parents
            found.append(Hidden(names[weight], names.get(bias), names[after.parents[1]], weight.shape[0], tuple(ops)))
    return found


def recorded(net: Module, x: Any) -> Tape:
    """The tape of ``net(x)``, with all values. Raises ValueError if the result depends on no parameter."""
    with mode(grad=True, record=True):
        y = net(x)
    if y.node is None:
        raise ValueError(f"{type(net).__name__}: the result depends on no parameter that requires a gradient")
    return Tape.of(y)


def _keeps_units(node: Node) -> bool:
    """Whether an op treats each unit by itself, all in the same way."""
    assert node.op is not None
    others = [p for p in node.parents if type(p) is not Node]
    if node.op is dropout:
        return True
    return node.op.shapes == "elementwise" and len(others) == len(node.parents) - 1 and not any(map(np.ndim, others))


# Twins

#: For each hidden layer and each of its units, the first unit of its class.
Classes = Sequence[NDArray[np.intp]]


def draw_classes(rng: np.random.Generator, layers: Sequence[Hidden], most: int = 5) -> list[NDArray[np.intp]]:
    """Up to ``most`` classes of units for each layer, at random places."""
    return [first_of_class(rng.integers(0, most, layer.size)) for layer in layers]


def first_of_class(labels: Any) -> NDArray[np.intp]:
    """For each unit the first one with its label.

    >>> first_of_class([7, 3, 7, 3, 3]).tolist()
    [0, 1, 0, 1, 1]
    """
    _, first, inverse = np.unique(np.asarray(labels), return_index=True, return_inverse=True)
    return np.asarray(first[inverse], np.intp)


def symmetrise(array: Array, name: str, layers: Sequence[Hidden], classes: Classes) -> Array:
    """A copy of an array that belongs to a parameter, each unit's slice replaced by that of its class's first unit."""
    for layer, first in zip(layers, classes, strict=True):
        for owner, axis in layer.slices:
            if owner == name:
                array = array.take(first, axis)
    return np.array(array, order="C")


def belongings(net: Module, optimizer: Optimizer | None = None) -> Iterator[tuple[str, str, Array]]:
    """(what it is called, parameter, array) of all parameters, gradients and optimizer state of a parameter's shape."""
    slots = {} if optimizer is None else dict(zip(map(id, optimizer.params), optimizer.state, strict=True))
    for name, p in net.named_parameters():
        yield name, name, p.data
        if p.grad is not None:
            yield f"the gradient of {name}", name, p.grad.data
        for i, state in enumerate(slots.get(id(p), ())):
            if state.shape == p.shape:
                assert optimizer is not None
                yield f"{optimizer.slots[i]} of {name}", name, state.data


def assert_twins(
    net: Module, optimizer: Optimizer | None, layers: Sequence[Hidden], classes: Classes, when: str
) -> None:
    """Raise AssertionError unless every unit equals the first one of its class: weights, gradients, optimizer state."""
    for what, name, array in belongings(net, optimizer):
        for layer, first in zip(layers, classes, strict=True):
            for owner, axis in layer.slices:
                if owner == name and not same_numbers(array, twin := array.take(first, axis)):
                    place = tuple(map(int, np.argwhere(~_equal(array, twin))[0]))
                    unit = place[axis]
                    raise AssertionError(
                        f"units {first[unit]} and {unit} of {layer.size} were twins, but differ {when}: {what} has "
                        f"{twin[place]!r} and {array[place]!r} (axis {axis} of shape {array.shape})"
                    )


def count_classes(net: Module, optimizer: Optimizer | None, layers: Sequence[Hidden]) -> list[int]:
    """How many different units each layer has: by weights in and out, bias, and their optimizer state."""
    arrays = defaultdict(list)
    for what, name, array in belongings(net, optimizer):
        if not what.startswith("the gradient"):
            arrays[name].append(array)
    counts = []
    for layer in layers:
        rows = [np.moveaxis(a, axis, 0) for name, axis in layer.slices for a in arrays[name]]
        counts.append(len(set(first_alike(*rows))))
    return counts


def randomise(
    net: Module,
    layers: Sequence[Hidden],
    classes: Classes,
    rng: np.random.Generator,
    optimizer: Optimizer | None = None,
    steps: int = 0,
) -> None:
    """Put a network and its optimizer into an arbitrary symmetric state: twins within classes, random otherwise.

    The optimizer gets there by ``steps`` steps with random symmetric gradients, whatever it keeps; then the parameters
    are drawn anew, uniform with fan_in variance 1/3.
    """
    named = dict(net.named_parameters())

    def random(name: str) -> Array:
        p = named[name]
        values = rng.uniform(-1, 1, p.shape) / np.sqrt(max(1, p.shape[-1] if p.ndim > 1 else 1))
        return symmetrise(values.astype(p.dtype), name, layers, classes)

    def redraw() -> None:
        for name, p in named.items():
            p.grad = None
            assign(p, random(name))

    redraw()
    for _ in range(steps):
        for name, p in named.items():
            p.grad = tensor(random(name))
        if optimizer is not None:
            optimizer.step()
    redraw()


# Equality


def _equal(a: Array, b: Array) -> Array:
    return np.asarray((a == b) | (np.isnan(a) & np.isnan(b)))


def same_numbers(a: Array, b: Array) -> bool:
    """Equal shapes, dtypes and numbers; any NaN equals any NaN, and −0 equals +0."""
    return a.shape == b.shape and a.dtype == b.dtype and bool(np.all(_equal(a, b)))


def assert_same(a: Array, b: Array, what: str, smallest: float = 0.0) -> None:
    """Raise AssertionError with the first number that differs; those both below ``smallest`` in size may."""
    if a.shape != b.shape or a.dtype != b.dtype:
        raise AssertionError(f"{what}: {a.dtype} {a.shape}, need {b.dtype} {b.shape}")
    off = ~_equal(a, b) & ~((np.abs(a) < smallest) & (np.abs(b) < smallest))
    if off.any():
        place = tuple(map(int, np.argwhere(off)[0]))
        raise AssertionError(f"{what}: {a[place]!r} at {place}, need {b[place]!r} ({off.sum()} of {a.size} differ)")


def assert_all_same(a: Mapping[str, Array], b: Mapping[str, Array], what: str, smallest: float = 0.0) -> None:
    for name, array in a.items():
        assert_same(array, b[name], f"{what}: {name}", smallest)
