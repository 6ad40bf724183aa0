"""Repeating and summing, each the other's adjoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.engine.op import attach, op
from minigrad.engine.shapes import reals
from minigrad.engine.tensor import Tensor
from minigrad.kernels import reduction as kernels

ANY = reals(-2, 2)


def axes_of(ndim: int, axis: Any) -> tuple[int, ...]:
    """The axes that a reduction runs over, sorted and not negative; all for None. Raises AxisError."""
    if axis is None:
        return tuple(range(ndim))
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    return tuple(sorted(np.lib.array_utils.normalize_axis_tuple(axis, ndim)))


def kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with size 1 at the reduced axes."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def restore(y: Any, shape: tuple[int, ...], axis: Any) -> Any:
    """A reduction's result, or its cotangent, repeated along the axes that were reduced."""
    return broadcast_to(reshape(y, kept(shape, axes_of(len(shape), axis))), shape)


def behind(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The reduced axes as one last axis, in C order."""
    rest = [i for i in range(x.ndim) if i not in axes]
    moved = np.transpose(x, (*rest, *axes))
    return moved.reshape(*moved.shape[: len(rest)], math.prod(moved.shape[len(rest) :]))


def reducing(kernel: Any) -> Any:
    """A kernel over normalised axes, as one over ``axis`` and ``keepdims``."""

    def run(x: np.ndarray, axis: Any = None, keepdims: bool = False) -> np.ndarray:
        axes = axes_of(x.ndim, axis)
        out = kernel(x, axes) if axes or x.dtype.kind != "f" else x.copy()  # integers may become wider
        return out.reshape(kept(x.shape, axes)) if keepdims else out

    return run


def tree(combine: np.ufunc, start: float, empty: float) -> Any:
    """A reduction in the promised order, which depends on the number of terms alone.

    The terms are cut into blocks of 1024. In a block, lane l of 16 combines terms l, l + 16, l + 32 … in order; lanes
    are combined l with l + 8, then l + 4, l + 2, l + 1; blocks are combined pairwise, level by level.
    ``start`` is the exact identity (−0.0 for sums), which stands for missing terms.
    """

    def run(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        x = behind(x, axes)
        n = x.shape[-1]
        dtype = combine(x[:0], x[:0]).dtype if x.dtype.kind == "f" else combine.reduce(x[..., :0], axis=-1).dtype
        if n == 0:
            return np.full(x.shape[:-1], empty, dtype)
        blocks = -(-n // 1024)
        padded = np.full((*x.shape[:-1], blocks * 1024), start, dtype)
        padded[..., :n] = x
        cells = padded.reshape(*x.shape[:-1], blocks, 64, 16)
        lanes = cells[..., 0, :].copy()
        for row in range(1, min(64, -(-n // 16))):
            lanes = combine(lanes, cells[..., row, :])
        for width in (8, 4, 2, 1):
            lanes = combine(lanes[..., :width], lanes[..., width : 2 * width])
        sums = lanes[..., 0]
        while sums.shape[-1] > 1:
            pairs = combine(sums[..., : sums.shape[-1] // 2 * 2 : 2], sums[..., 1::2])
            sums = np.concatenate([pairs, sums[..., -1:]], axis=-1) if sums.shape[-1] % 2 else pairs
        return sums[..., 0]

    return run


@op(
    "y = x, in another shape",
    shapes="free",
    view=True,
    x=ANY,
    cases=[(((3, 4),), {"shape": (2, 6)}), (((2, 0),), {"shape": (0, 5)}), (((6,),), {"shape": (3, -1)})],
)
def reshape(x, /, shape):
    """The same elements in C order, in another shape; one size may be −1."""
    return np.reshape(x, shape)


@reshape.vjp("x", "x̄ = ȳ, in x's shape")
def _(g, x_shape):
    return reshape(g, x_shape)


def _reshape(self: Tensor, *shape: Any) -> Any:
    return reshape(self, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)


_reshape.__doc__ = reshape.__doc__
attach("reshape", _reshape)


_sum = reducing(tree(np.add, -0.0, 0.0))


@op(
    "y = Σ x",
    shapes="free",
    method=True,
    kernel=reducing(kernels.sum),
    x=ANY,
    cases=[
        (((3, 4),), {}),
        (((2, 3, 4),), {"axis": 1}),
        (((2, 3, 4),), {"axis": (-1, 0), "keepdims": True}),
        (((0, 2),), {"axis": 0}),
        (((2100,),), {}),
    ],
)
def sum(x, axis=None, keepdims=False):
    """Sum over ``axis`` (an int, a tuple, or all), in an order that depends on the number of terms alone."""
    return _sum(np.asarray(x), axis, keepdims)


@sum.vjp("x", "x̄ = ȳ, repeated")
def _(g, axis, x_shape):
    return restore(g, x_shape, axis)


@op(
    "y = x, repeated",
    shapes="free",
    method=True,
    view=True,
    x=ANY,
    cases=[(((3, 1),), {"shape": (2, 3, 4)}), (((),), {"shape": (3,)}), (((0,),), {"shape": (2, 0)})],
)
def broadcast_to(x, /, shape):
    """``x`` repeated along new axes and axes of size 1, without a copy (a read-only view)."""
    return np.broadcast_to(x, shape)


@broadcast_to.vjp("x", "x̄ = Σ ȳ over the repetitions")
def _(g, x_shape):
    return sum_to(g, x_shape)


def _summed(x: Any, shape: Sequence[int]) -> tuple[int, ...]:
    """The axes of x that ``shape`` was repeated along. Raises ValueError if it does not broadcast to x's shape."""
    new = x.ndim - len(shape)
    if new < 0 or any(n not in (1, m) for n, m in zip(shape, x.shape[new:], strict=True)):
        raise ValueError(f"sum_to: shape {tuple(shape)} does not broadcast to x {x.shape}")
    return (*range(new), *(new + i for i, n in enumerate(shape) if n != x.shape[new + i]))


def _sum_to(x: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    axes = _summed(x, shape)
    return (kernels.sum(x, axes) if axes else x.copy()).reshape(shape)


@op(
    "y = Σ x over broadcast axes",
    shapes="free",
    kernel=_sum_to,
    x=ANY,
    cases=[(((2, 3, 4),), {"shape": (3, 1)}), (((3,),), {"shape": ()}), (((2, 3),), {"shape": (2, 3)})],
)
def sum_to(x, /, shape):
    """Sum over the axes along which ``shape`` would be repeated to give x's: the adjoint of broadcast_to."""
    x = np.asarray(x)
    axes = _summed(x, shape)
    return np.reshape(_sum(x, axes), shape)


@sum_to.vjp("x", "x̄ = ȳ, repeated")
def _(g, x_shape):
    return broadcast_to(g, x_shape)
