"""Gains: PyTorch's table, and those that follow from second moments, by quadrature for any activation."""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.engine.backward import identity
from minigrad.engine.tensor import Tensor
from minigrad.ops import activation, arithmetic

Array = NDArray[Any]

_GAINS = MappingProxyType(
    {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "leaky_relu": math.nan, "selu": 3 / 4}
)
#: The activations that :func:`function` knows by name.
FUNCTIONS: MappingProxyType[str, Callable[[Any], Any]] = MappingProxyType(
    {"linear": identity, "erf": arithmetic.erf}
    | {
        op.name: op
        for op in (
            activation.tanh,
            activation.relu,
            activation.sigmoid,
            activation.leaky_relu,
            activation.elu,
            activation.selu,
            activation.gelu,
            activation.silu,
            activation.softplus,
        )
    }
)


def unknown(what: str, name: Any, names: Any) -> ValueError:
    """The error for a name that is not among ``names``, with the nearest one."""
    near = difflib.get_close_matches(str(name), names, 1)
    return ValueError(
        f"unknown {what} {name!r}" + (f"; did you mean {near[0]!r}?" if near else f": use one of {', '.join(names)}")
    )


def gain(name: str, param: float | None = None) -> float:
    """PyTorch's recommended gain for a nonlinearity; ``param`` is the slope of leaky_relu (0.01 if None).

    These are a table, not a derivation: 5/3 for tanh and 3/4 for selu are PyTorch's words, and :func:`derived_gain`
    has others. Raises ValueError for a name that is not in the table.

    >>> gain("relu") == 2**0.5, gain("leaky_relu", 1.0)
    (True, 1.0)
    """
    if name not in _GAINS:
        raise unknown("nonlinearity", name, _GAINS)
    if name == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    return _GAINS[name]


def function(what: Any) -> Callable[[Any], Any]:
    """An elementwise function of tensors, from its name in ``FUNCTIONS``, an op, a module or any such callable.

    Raises ValueError for an unknown name, TypeError for what can not be called.
    """
    if isinstance(what, str):
        if what not in FUNCTIONS:
            raise unknown("activation", what, FUNCTIONS)
        return FUNCTIONS[what]
    if isinstance(what, type) or not callable(what):
        raise TypeError(f"an activation is a name or a function of a tensor, not {what!r}")
    found: Callable[[Any], Any] = what
    return found


def value_and_slope(f: Callable[[Any], Any], x: Array) -> tuple[Array, Array]:
    """f and f′ at each element of a float64 array. Raises ValueError where f is not elementwise."""
    leaf = Tensor(np.array(x, np.float64)).requires_grad_()
    y = f(leaf)
    if not isinstance(y, Tensor) or y.shape != x.shape:
        raise ValueError(f"an activation keeps its argument's shape: {x.shape} became {getattr(y, 'shape', y)}")
    values: Array = y._data
    if y.node is None:
        return values, np.zeros_like(values)
    y.backward(np.ones(x.shape, y.dtype))
    assert leaf.grad is not None
    return values, leaf.grad._data


@functools.cache
def nodes(panels: int = 16, order: int = 32, reach: float = 12.0) -> tuple[Array, Array]:
    """Nodes z and weights of E[f(z)], z ~ N(0, 1): Gauss and Legendre's rule on equal panels of [−reach, reach].

    0 is an edge of two panels, so that a kink there costs nothing, as it would with Gauss and Hermite's rule; outside
    lie 4e-33 of the mass. The arrays are read-only.
    """
    t, w = np.polynomial.legendre.leggauss(order)
    half = reach / panels
    z = (-reach + half * (2 * np.arange(panels)[:, None] + 1) + half * t).ravel()
    weights = np.tile(w * half, panels) * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    for a in (z, weights):
        a.flags.writeable = False
    return z, weights


def moments(what: Any, q: Any = 1.0) -> tuple[Any, Any]:
    """E[φ(√q z)²] and E[φ′(√q z)²] for z ~ N(0, 1): two floats for a number q, two arrays of its shape for an array.

    >>> [round(m, 12) for m in moments("relu", 3.0)]
    [1.5, 0.5]
    """
    z, weights = nodes()
    values, slopes = value_and_slope(function(what), np.sqrt(q)[..., None] * z)
    found = (values * values) @ weights, (slopes * slopes) @ weights
    return found if np.ndim(q) else (float(found[0]), float(found[1]))


def derived_gain(what: Any, direction: str = "forward") -> float:
    """The gain k that preserves second moments through a layer whose inputs to ``what`` are N(0, 1).

    "forward": k = E[φ(z)²]^(−½). "backward": k = E[φ′(z)²]^(−½), what the gradient asks for. By quadrature, for any
    elementwise function of a tensor, or a name in ``FUNCTIONS``. For tanh 5/3 is neither of them. Raises ValueError
    for another direction, and where the moment is 0.

    >>> round(derived_gain("tanh"), 4), round(derived_gain("tanh", "backward"), 4), round(derived_gain("selu"), 9)
    (1.5925, 1.4674, 1.0)
    """
    if direction not in ("forward", "backward"):
        raise ValueError(f"derived_gain: direction must be 'forward' or 'backward', got {direction!r}")
    moment = moments(what)[direction == "backward"]
    if not moment > 0:
        raise ValueError(f"derived_gain: the {direction} second moment of {what!r} is {moment}")
    return 1 / math.sqrt(moment)
