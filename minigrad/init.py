"""How parameters begin: callables ``(rng, shape, fan_in, fan_out, dtype) -> array``.

The layer passes the fans (how many inputs a unit sums, how many outputs it reaches); nobody guesses them from a shape.
Every draw happens in float64 and is then rounded to ``dtype``; the bounds of a uniform hold after the rounding too.

>>> import numpy as np
>>> rule = xavier_uniform()
>>> rule
xavier_uniform(gain=1.0)
>>> w = rule(np.random.default_rng(0), (32, 64), 64, 32, np.dtype("float32"))
>>> w.shape, bool(abs(w).max() <= 0.25)
((32, 64), True)
"""
# ruff: noqa: N801  # an initializer is called like a function, so it is spelled like one

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.engine.tensor import Tensor

Array = NDArray[Any]
Rng = np.random.Generator
Shape = tuple[int, ...]
Initializer = Callable[[Rng, Shape, int, int, "np.dtype[Any]"], Array]


def _scale(variance: float, fan: int) -> float:
    """√(variance / fan), and 0 for no fan at all: there is nothing to draw then."""
    return math.sqrt(variance / fan) if fan else 0.0


def _normal(rng: Rng, shape: Shape, std: float, dtype: np.dtype[Any], mean: float = 0.0) -> Array:
    return (mean + std * rng.standard_normal(shape)).astype(dtype)


def _uniform(rng: Rng, shape: Shape, low: float, high: float, dtype: np.dtype[Any]) -> Array:
    first, last = dtype.type(low), dtype.type(high)
    if float(first) < low:  # rounded out of the interval: step back in
        first = np.nextafter(first, dtype.type(np.inf))
    if float(last) > high:
        last = np.nextafter(last, dtype.type(-np.inf))
    if first > last:
        raise ValueError(f"uniform: {dtype} has no number between {low} and {high}")
    values: Array = np.clip(rng.uniform(low, high, shape).astype(dtype), first, last)
    return values


@dataclass(frozen=True)
class constant:
    """Every element is ``value``. As weights it makes all units of a layer the same, and they stay the same."""

    value: float

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, dtype: np.dtype[Any]) -> Array:
        return np.full(shape, self.value, dtype)


@dataclass(frozen=True)
class zeros:
    """Every element is 0."""

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, dtype: np.dtype[Any]) -> Array:
        return np.zeros(shape, dtype)


@dataclass(frozen=True)
class ones:
    """Every element is 1."""

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, dtype: np.dtype[Any]) -> Array:
        return np.ones(shape, dtype)


@dataclass(frozen=True, eq=False)
class array:
    """A copy of the given array, cast to the parameter's dtype. Raises ValueError for another shape."""

    value: Array

    def __post_init__(self) -> None:
        value = np.array(self.value)
        if value.dtype.kind not in "biuf":
            raise TypeError(f"init: need an array of numbers, got dtype {value.dtype}")
        object.__setattr__(self, "value", value)

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, dtype: np.dtype[Any]) -> Array:
        if self.value.shape != shape:
            raise ValueError(f"the array has shape {self.value.shape}, the parameter {shape}")
        return self.value.astype(dtype)


@dataclass(frozen=True)
class normal:
    """N(mean, std²)."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not self.std >= 0:
            raise ValueError(f"normal: std must not be negative, got {self.std}")

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, dtype: np.dtype[Any]) -> Array:
        return _normal(rng, shape, self.std, dtype, self.mean)


@dataclass(frozen=True)
class uniform:
    """U[low, high]. Raises ValueError where the dtype has no number between them."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"uniform: low must not exceed high, got {self.low} and {self.high}")

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, dtype: np.dtype[Any]) -> Array:
        return _uniform(rng, shape, self.low, self.high, dtype)


@dataclass(frozen=True)
class xavier_uniform:
    """U(±gain √(6 / (fan_in + fan_out))): variance 2 gain² / (fan_in + fan_out) (Glorot & Bengio 2010, eq. 16)."""

    gain: float = 1.0

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, dtype: np.dtype[Any]) -> Array:
        bound = abs(self.gain) * _scale(6, fan_in + fan_out)
        return _uniform(rng, shape, -bound, bound, dtype)


@dataclass(frozen=True)
class xavier_normal:
    """N(0, 2 gain² / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 12)."""

    gain: float = 1.0

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, dtype: np.dtype[Any]) -> Array:
        return _normal(rng, shape, self.gain * _scale(2, fan_in + fan_out), dtype)


@dataclass(frozen=True)
class _Kaiming:
    a: float = 0.0
    mode: str = "fan_in"
    nonlinearity: str = "leaky_relu"

    def __post_init__(self) -> None:
        if self.mode not in ("fan_in", "fan_out"):
            raise ValueError(f"kaiming: mode must be 'fan_in' or 'fan_out', got {self.mode!r}")
        self._std(1, 1)

    def _std(self, fan_in: int, fan_out: int) -> float:
        slope = self.a if self.nonlinearity == "leaky_relu" else None
        return gain(self.nonlinearity, slope) * _scale(1, fan_in if self.mode == "fan_in" else fan_out)


@dataclass(frozen=True)
class kaiming_normal(_Kaiming):
    """N(0, gain² / fan) (He et al. 2015, eq. 10 and 14).

    ``mode``: "fan_in" keeps the size of activations, "fan_out" that of gradients. ``nonlinearity`` chooses the
    :func:`gain`; ``a`` is the slope of "leaky_relu", and ignored for others, as in PyTorch.
    Raises ValueError for other modes and nonlinearities.
    """

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, dtype: np.dtype[Any]) -> Array:
        return _normal(rng, shape, self._std(fan_in, fan_out), dtype)


@dataclass(frozen=True)
class kaiming_uniform(_Kaiming):
    """U(±gain √(3 / fan)), of the same variance as :class:`kaiming_normal`, and with its options."""

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, dtype: np.dtype[Any]) -> Array:
        bound = math.sqrt(3) * self._std(fan_in, fan_out)
        return _uniform(rng, shape, -bound, bound, dtype)


@dataclass(frozen=True)
class default:
    """U(±1 / √fan_in), for weights and biases alike: what PyTorch does for its Linear. Variance 1 / (3 fan_in)."""

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, dtype: np.dtype[Any]) -> Array:
        bound = _scale(1, fan_in)
        return _uniform(rng, shape, -bound, bound, dtype)


@dataclass(frozen=True)
class orthogonal:
    """Orthonormal rows or columns, whichever are fewer, times ``gain``; axes after the first count as one.

    Uniform over such matrices: the QR factors of a normal matrix, with the signs of R's diagonal moved into Q
    (Mezzadri 2007, "How to generate random matrices from the classical compact groups").
    Raises ValueError for fewer than two axes.
    """

    gain: float = 1.0

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, dtype: np.dtype[Any]) -> Array:
        if len(shape) < 2:
            raise ValueError(f"orthogonal needs at least two axes, got shape {shape}")
        rows, columns = shape[0], math.prod(shape[1:])
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q *= np.copysign(self.gain, np.diagonal(r))  # copysign: a 0 must not erase a column
        return (q if rows >= columns else q.T).reshape(shape).astype(dtype)


_NAMES: MappingProxyType[str, Any] = MappingProxyType(
    {
        rule.__name__: rule
        for rule in (
            default,
            zeros,
            ones,
            normal,
            uniform,
            xavier_uniform,
            xavier_normal,
            kaiming_uniform,
            kaiming_normal,
            orthogonal,
        )
    }
)
#: What :func:`get` knows by name.
NAMES = tuple(_NAMES)
_GAINS = MappingProxyType(
    {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "leaky_relu": math.nan, "selu": 3 / 4}
)


def _unknown(what: str, name: Any, names: Any) -> ValueError:
    near = difflib.get_close_matches(str(name), names, 1)
    return ValueError(
        f"unknown {what} {name!r}" + (f"; did you mean {near[0]!r}?" if near else f": use one of {', '.join(names)}")
    )


def gain(name: str, param: float | None = None) -> float:
    """PyTorch's recommended gain for a nonlinearity; ``param`` is the slope of leaky_relu (0.01 if None).

    These are a table, not a derivation: 5/3 for tanh and 3/4 for selu are PyTorch's words. Raises ValueError for a
    name that is not in the table.

    >>> gain("relu") == 2**0.5, gain("leaky_relu", 1.0)
    (True, 1.0)
    """
    if name not in _GAINS:
        raise _unknown("nonlinearity", name, _GAINS)
    if name == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    return _GAINS[name]


def get(what: Any) -> Initializer:
    """An initializer from a number, an array or tensor (copied), a name, or any callable of that form.

    Raises ValueError for an unknown name, with the nearest one, and TypeError for anything else.

    >>> get(0.5), get("xavier_normal")
    (constant(value=0.5), xavier_normal(gain=1.0))
    """
    if isinstance(what, str):
        if what not in NAMES:
            raise _unknown("initializer", what, NAMES)
        named: Initializer = _NAMES[what]()
        return named
    if isinstance(what, Tensor):
        return array(what.data)
    if isinstance(what, np.ndarray | list | tuple):
        return array(np.array(what))
    if isinstance(what, int | float | np.number) and not isinstance(what, bool):
        return constant(float(what))
    if isinstance(what, type) or not callable(what):
        shown = f"the class {what.__name__}: call it" if isinstance(what, type) else type(what).__name__
        form = "(rng, shape, fan_in, fan_out, dtype)"
        raise TypeError(f"an initializer is a number, an array, a name or a callable {form}, not {shown}")
    rule: Initializer = what
    return rule


def draw(
    rule: Initializer,
    rng: Rng,
    shape: Shape,
    fan_in: int,
    fan_out: int,
    dtype: np.dtype[Any],
    name: str = "parameter",
) -> Array:
    """What an initializer gives for the parameter ``name``, checked, in new C-contiguous memory.

    Raises ValueError, naming the parameter, for another shape and for values that are not finite; TypeError for what
    is no array of that dtype.
    """
    try:
        with np.errstate(over="ignore"):  # an overflow is reported below, by name
            values = rule(rng, shape, fan_in, fan_out, dtype)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if not isinstance(values, np.ndarray):
        raise TypeError(f"{name}: {rule!r} returned {type(values).__name__}, need an array")
    if values.shape != shape:
        raise ValueError(f"{name}: {rule!r} returned shape {values.shape}, need {shape}")
    if values.dtype != dtype:
        raise TypeError(f"{name}: {rule!r} returned {values.dtype}, need {dtype}: end with .astype(dtype)")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: {rule!r} returned values that are not finite in {dtype}")
    return np.array(values, order="C")
