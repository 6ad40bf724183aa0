"""Matrix products. Each element is one chain of fused multiply-adds over k, in order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.engine.op import attach, op
from minigrad.engine.shapes import reals
from minigrad.engine.tensor import Tensor
from minigrad.kernels import gemm
from minigrad.kernels import reduction as reductions
from minigrad.ops.broadcast import reshape, sum
from minigrad.ops.shape import swapaxes

ANY = reals(-2, 2)


def _matmul_by_blas(a, b):
    if a.shape[-1] != b.shape[-2]:
        raise ValueError("the shapes disagree")
    return np.matmul(a, b)


@op("Y = A B", shapes="...nk,...km->...nm", kernel=gemm.matmul, ulps=(2, 3), blas=_matmul_by_blas, a=ANY, b=ANY)
def matmul_(a, b):
    """Matrix product, a (…, n, k), b (…, k, m) -> (…, n, m), over broadcast leading axes.

    Each element is one chain of fused multiply-adds over k, in order (by formula: of multiplies and adds).
    """
    a, b = np.asarray(a), np.asarray(b)
    n, k, m = a.shape[-2], a.shape[-1], b.shape[-1]
    out = np.zeros((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), n, m), np.result_type(a, b))
    for i in range(k):  # outer products, in order: no element sees its position
        out += a[..., :, i, None] * b[..., None, i, :]
    return out


@matmul_.vjp("a", "Ā = Ȳ Bᵀ")
def _(g, b):
    return matmul_(g, swapaxes(b))


@matmul_.vjp("b", "B̄ = Aᵀ Ȳ")
def _(g, a):
    return matmul_(swapaxes(a), g)


def matmul(a: Any, b: Any) -> Any:
    """Matrix product as in NumPy: 1-D arguments are a row on the left, a column on the right.

    Raises ValueError, naming the letter that disagrees, for shapes that do not match.

    >>> import minigrad as mg
    >>> mg.matmul(mg.tensor([[1.0, 2.0]]), mg.tensor([3.0, 4.0]))
    tensor([11.])
    """
    a, b = (v if isinstance(v, Tensor | np.ndarray) else np.asarray(v) for v in (a, b))
    if a.ndim >= 2 and b.ndim >= 2:
        return matmul_(a, b)
    if not a.ndim or not b.ndim:
        raise ValueError(f"matmul: need at least one axis, got a {a.shape} and b {b.shape}; use * to scale")
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        k = b.shape[-2 if b.ndim > 1 else 0]
        raise ValueError(f"matmul: k is {a.shape[-1]} in a {a.shape} but {k} in b {b.shape}")
    y = matmul_(reshape(a, (1, -1)) if a.ndim == 1 else a, reshape(b, (-1, 1)) if b.ndim == 1 else b)
    row = y.shape[-2:-1] if a.ndim > 1 else ()
    column = y.shape[-1:] if b.ndim > 1 else ()
    return reshape(y, (*y.shape[:-2], *row, *column))


attach("__matmul__", lambda self, other: matmul(self, other))
attach("__rmatmul__", lambda self, other: matmul(other, self))


def _linear_by_blas(x, w, b=None):
    y = np.matmul(x, w.T)
    if b is not None and len(b) != len(w):
        raise ValueError("the shapes disagree")
    return y if b is None else np.add(y, b, out=y)


@op(
    "Y = X Wᵀ + b",
    shapes="...k,mk,m?->...m",
    kernel=gemm.linear,
    ulps=(2, 3),
    blas=_linear_by_blas,
    x=ANY,
    w=ANY,
    b=ANY,
)
def linear(x, w, b=None):
    """Affine map, x (…, k), w (m, k), b (m,) or None -> (…, m): the product's chain over k, then the bias."""
    x = np.asarray(x)
    y = matmul_.fn(_rows(x), np.asarray(w).T).reshape(*x.shape[:-1], len(w))
    return y if b is None else y + b


@linear.vjp("x", "X̄ = Ȳ W", kernel=lambda g, w: gemm.matmul(g, w) if g.ndim > 1 else gemm.matmul(g[None], w)[0])
def _(g, w):
    return matmul(g, w)


def _rows(x):
    return x if x.ndim == 2 else reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


@linear.vjp("w", "W̄ = Ȳᵀ X", kernel=lambda g, x: gemm.matmul(_rows(g).T, _rows(x)))
def _(g, x):
    return matmul_(_rows(g).T, _rows(x))


@linear.vjp("b", "b̄ = Σ Ȳ over the rows", kernel=lambda g: reductions.sum(_rows(g), (0,)))
def _(g):
    return sum(_rows(g), 0)


linear.fuse(("x", "w"), gemm.linear_vjp)
