"""Reductions. Sums run in the promised order; means and variances are built on them."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from minigrad.engine.op import op
from minigrad.engine.shapes import bools, reals
from minigrad.kernels import elementwise
from minigrad.kernels import reduction as kernels
from minigrad.ops.arithmetic import div, eq, exp, floating, log, sqrt, square, where
from minigrad.ops.broadcast import axes_of, behind, kept, reducing, reshape, restore, sum, tree
from minigrad.ops.shape import flip, getitem, inverse, transpose

ANY = reals(-2, 2)
DISTINCT = reals(-2, 2, distinct=True)
AXES: Final[tuple[Any, ...]] = (
    (((3, 4),), {}),
    (((2, 3, 4),), {"axis": 1}),
    (((2, 3, 4),), {"axis": (-1, 0), "keepdims": True}),
    (((5,),), {"axis": -1}),
)
SPREADS: Final[tuple[Any, ...]] = (*AXES, (((4, 3),), {"axis": 0, "ddof": 1}))
INDICES: Final[tuple[Any, ...]] = (
    (((3, 4),), {}),
    (((3, 4),), {"axis": 1}),
    (((3, 2),), {"axis": 0, "keepdims": True}),
)
ONE_AXIS: Final[tuple[Any, ...]] = (
    (((3, 4),), {}),
    (((3, 4),), {"axis": 0}),
    (((2, 3, 2),), {"axis": 1}),
    (((20,),), {}),
)


def count(shape: tuple[int, ...], axis: Any) -> int:
    """How many elements a reduction over ``axis`` combines."""
    return math.prod(shape[i] for i in axes_of(len(shape), axis))


def _count(name: str, x: Any, axis: Any) -> int:
    n = count(np.shape(x), axis)
    if n == 0:
        raise ValueError(f"{name}: there is nothing to reduce along axis {axis} of shape {np.shape(x)}")
    return n


def _mean(x, axis=None, keepdims=False):
    total = reducing(kernels.sum)(x, axis, keepdims)
    return elementwise.div(total, _count("mean", x, axis), x.dtype)


@op("y = Σ x / n", shapes="free", method=True, native=_mean, x=ANY, cases=AXES)
def mean(x, axis=None, keepdims=False):
    """Arithmetic mean over ``axis``. ValueError if there are no elements."""
    x = floating(x)
    return sum(x, axis, keepdims) / _count("mean", x, axis)


@mean.vjp("x", "x̄ = ȳ / n, repeated")
def _(g, axis, x_shape):
    return restore(div(g, count(x_shape, axis)), x_shape, axis)


def _centred(x: Any, axis: Any) -> Any:
    """x − mean x. Shifting by an element first makes it exactly 0 for a constant slice, whatever the mean rounds to."""
    axes = axes_of(x.ndim, axis)
    shifted = x - getitem(x, tuple(slice(0, 1) if i in axes else slice(None) for i in range(x.ndim)))
    return shifted - mean(shifted, axis, True)


@op("y = Σ (x − mean x)² / (n − ddof)", shapes="free", method=True, x=ANY, cases=SPREADS)
def var(x, axis=None, keepdims=False, ddof=0):
    """Variance over ``axis``; divides by n − ddof. ValueError unless n > ddof."""
    x = floating(x)
    n = _count("var", x, axis)
    if n <= ddof:
        raise ValueError(f"var: ddof {ddof} needs more than {n} elements along axis {axis}")
    return sum(square(_centred(x, axis)), axis, keepdims) / (n - ddof)


@var.vjp("x", "x̄ = ȳ 2 (x − mean x) / (n − ddof)")
def _(g, x, axis, ddof, x_shape):
    return restore(g, x_shape, axis) * _centred(x, axis) * (2 / (count(x_shape, axis) - ddof))


@op("y = √ var x", shapes="free", method=True, x=ANY, cases=SPREADS)
def std(x, axis=None, keepdims=False, ddof=0):
    """Standard deviation over ``axis``; the derivative at a constant slice is 0."""
    return sqrt(var(x, axis, keepdims, ddof))


@std.vjp("x", "x̄ = ȳ (x − mean x) / ((n − ddof) y)")
def _(g, x, y, axis, ddof, x_shape):
    flat = eq(y, 0)
    scale = div(where(flat, 0, g), where(flat, 1, y) * (count(x_shape, axis) - ddof))
    return restore(scale, x_shape, axis) * _centred(x, axis)


def _shared(g: Any, x: Any, y: Any, axis: Any) -> Any:
    """The cotangent of an extreme, split evenly among the elements that attain it."""
    mask = eq(x, restore(y, x.shape, axis))
    ties = sum(where(mask, np.ones((), x.dtype), 0), axis, True)
    return where(mask, div(restore(g, x.shape, axis), restore(ties, x.shape, axis)), 0)


@op("y = max x", shapes="free", method=True, x=DISTINCT, cases=AXES)
def max(x, axis=None, keepdims=False):
    """Largest element over ``axis``; NaN if any is. Ties share the gradient evenly. ValueError if there are none."""
    _count("max", x, axis)
    return np.max(x, axis=axis, keepdims=keepdims)


@max.vjp("x", "x̄ = ȳ [x = y] / number of ties")
def _(g, x, y, axis):
    return _shared(g, x, y, axis)


@op("y = min x", shapes="free", method=True, x=DISTINCT, cases=AXES)
def min(x, axis=None, keepdims=False):
    """Smallest element over ``axis``; NaN if any is. Ties share the gradient evenly. ValueError if there are none."""
    _count("min", x, axis)
    return np.min(x, axis=axis, keepdims=keepdims)


@min.vjp("x", "x̄ = ȳ [x = y] / number of ties")
def _(g, x, y, axis):
    return _shared(g, x, y, axis)


_prod = reducing(tree(np.multiply, 1.0, 1.0))


@op(
    "y = Π x",
    shapes="free",
    method=True,
    kernel=reducing(kernels.prod),
    x=ANY,
    cases=(*AXES, (((2, 3, 4),), {"axis": 0})),  # whose order of axes is not its own inverse
)
def prod(x, axis=None, keepdims=False):
    """Product over ``axis``, in the order of sums. Its rule takes n times the memory of x: it never divides."""
    return _prod(np.asarray(x), axis, keepdims)


@prod.vjp("x", "x̄ᵢ = ȳ Π_{j ≠ i} xⱼ")
def _(g, x, axis, x_shape):
    axes = axes_of(len(x_shape), axis)
    rest = tuple(i for i in range(len(x_shape)) if i not in axes)
    order = (*rest, *axes)
    moved = transpose(x, order)
    n = count(x_shape, axis)
    rows = reshape(moved, (*[x_shape[i] for i in rest], 1, n))
    others = prod(where(np.eye(n, dtype=bool), 1, rows), -1)
    return restore(g, x_shape, axis) * transpose(reshape(others, moved.shape), inverse(order))


@op(
    "yᵢ = Σ_{j ≤ i} xⱼ",
    shapes="free",
    method=True,
    x=ANY,
    cases=[(((3, 4),), {"axis": 0}), (((3, 4),), {"axis": -1}), (((2, 3),), {})],
)
def cumsum(x, axis=None):
    """Running sum along ``axis``, one addition after the other; by default over x flattened."""
    return np.cumsum(x, axis)


@cumsum.vjp("x", "x̄ᵢ = Σ_{j ≥ i} ȳⱼ")
def _(g, axis, x_shape):
    along = -1 if axis is None else axis
    return reshape(flip(cumsum(flip(g, along), along), along), x_shape)


def _single(kernel: Any) -> Any:
    """A kernel over one axis, as one over ``axis`` (an int, a tuple, or all) and ``keepdims``."""

    def run(x: np.ndarray, axis: Any = None, keepdims: bool = False) -> np.ndarray:
        axes = axes_of(x.ndim, axis)
        out: np.ndarray = kernel(x, axes[0]) if len(axes) == 1 else kernel(behind(x, axes), x.ndim - len(axes))
        return out.reshape(kept(x.shape, axes)) if keepdims else out

    return run


@op("y = log Σ eˣ", shapes="free", method=True, kernel=_single(kernels.logsumexp), ulps=(2, 3), x=ANY, cases=AXES)
def logsumexp(x, axis=None, keepdims=False):
    """Logarithm of the sum of exponentials over ``axis``, as m + log Σ exp(x − m), m the maximum.

    All −inf gives −inf, with gradient 0.
    """
    x = floating(x)
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, np.zeros((), x.dtype))
    y = top + log(sum(exp(x - top), axis, True))
    return y if keepdims else reshape(y, [n for i, n in enumerate(x.shape) if i not in axes_of(x.ndim, axis)])


@logsumexp.vjp("x", "x̄ = ȳ exp(x − y)")
def _(g, x, y, axis, x_shape):
    y = where(eq(y, -math.inf), 0, y)
    return restore(g, x_shape, axis) * exp(x - restore(y, x_shape, axis))


@op("y = eˣ / Σ eˣ", shapes="free", method=True, kernel=kernels.softmax, ulps=(2, 0), x=ANY, cases=ONE_AXIS)
def softmax(x, axis=-1):
    """Exponentials over their sum, along one axis, shifted so that nothing overflows."""
    x = floating(x)
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    e = exp(x - np.where(np.isfinite(top), top, np.zeros((), x.dtype)))
    return e / sum(e, axis, True)


@softmax.vjp("x", "x̄ = y (ȳ − Σ ȳ y)", kernel=kernels.softmax_vjp)
def _(g, y, axis):
    return y * (g - sum(g * y, axis, True))


@op("y = x − log Σ eˣ", shapes="free", method=True, kernel=kernels.log_softmax, ulps=(2, 6), x=ANY, cases=ONE_AXIS)
def log_softmax(x, axis=-1):
    """Logarithm of the softmax along one axis, without forming the softmax."""
    return x - logsumexp(x, axis, True)


@log_softmax.vjp("x", "x̄ = ȳ − eʸ Σ ȳ", kernel=kernels.log_softmax_vjp)
def _(g, y, axis):
    return g - exp(y) * sum(g, axis, True)


@op("y = √ Σ x²", shapes="free", method=True, kernel=_single(kernels.norm), x=ANY, cases=AXES)
def norm(x, axis=None, keepdims=False):
    """Euclidean norm over ``axis``, scaled so that squares do not overflow; its derivative at the zero vector is 0."""
    x = floating(x)
    top = np.max(np.abs(x), axis=axis, keepdims=True, initial=0)
    top = np.where(np.isfinite(top) & (top > 0), top, np.ones((), x.dtype))
    y = top * sqrt(sum(square(x / top), axis, True))
    return y if keepdims else reshape(y, [n for i, n in enumerate(x.shape) if i not in axes_of(x.ndim, axis)])


@norm.vjp("x", "x̄ = ȳ x / y")
def _(g, x, y, axis, x_shape):
    zero = eq(y, 0)
    return restore(where(zero, 0, g), x_shape, axis) * div(x, restore(where(zero, 1, y), x_shape, axis))


@op(
    "y = index of max x",
    shapes="free",
    method=True,
    differentiable=False,
    x=DISTINCT,
    cases=INDICES,
)
def argmax(x, axis=None, keepdims=False):
    """Index of the largest element along ``axis`` (the first of them), or in x flattened."""
    return np.argmax(x, axis=axis, keepdims=keepdims)


@op(
    "y = index of min x",
    shapes="free",
    method=True,
    differentiable=False,
    x=DISTINCT,
    cases=INDICES,
)
def argmin(x, axis=None, keepdims=False):
    """Index of the smallest element along ``axis`` (the first of them), or in x flattened."""
    return np.argmin(x, axis=axis, keepdims=keepdims)


@op(
    "y = whether any x",
    shapes="free",
    method=True,
    differentiable=False,
    x=bools(),
    cases=INDICES,
)
def any(x, axis=None, keepdims=False):
    """Whether any element is not zero, over ``axis``."""
    return np.any(x, axis=axis, keepdims=keepdims)


@op(
    "y = whether all x",
    shapes="free",
    method=True,
    differentiable=False,
    x=bools(),
    cases=INDICES,
)
def all(x, axis=None, keepdims=False):
    """Whether every element is not zero, over ``axis``."""
    return np.all(x, axis=axis, keepdims=keepdims)
