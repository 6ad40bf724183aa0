"""Fused losses and their derivatives, in the stable forms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.kernels import vector_math as vm
from minigrad.kernels.elementwise import mapped
from minigrad.kernels.jit import kernel
from minigrad.kernels.reduction import (
    DEPTH,
    LANES,
    peak,
    row_exp_sum,
    row_square_distance,
    row_sum,
    short_peak_and_exp_sum,
)
from minigrad.kernels.simd import Term, formula, load, offset, scratch, store, unit, where, width

Array = NDArray[Any]
empty = np.empty


@kernel("TiTT*T*T*e", ints=4)
def _cross_entropy(
    logits: Any, target: Any, weight: Any, losses: Any, lse: Any, total: Any, wrong: Any,
    n: Any, c: Any, weighted: Any, divisor: Any,
) -> None:  # fmt: skip
    """losses[i] = weight[t] (lse[i] - logits[i, t]), t = target[i]; weight is read if ``weighted``.

    total = their sum / ``divisor``, at least 1. wrong = 1, and nothing else is defined, if a class is out of range;
    else 0.
    """
    stack, w = scratch(logits, DEPTH), width(logits)
    wrong[0] = 0
    for i in range(n):
        if target[i] < 0 or target[i] >= c:
            wrong[0] = 1
            return
        row = offset(logits, i * c)
        if c <= LANES:  # the same on one vector, which is loaded once
            lse[i], losses[i] = short_peak_and_exp_sum(row, c)
        else:
            lse[i] = peak(row, c)
            losses[i] = row_exp_sum(c, stack, row, lse[i])
    for i in range(0, n, w):
        store(lse, i, n, _plus_log(load(lse, i, n), load(losses, i, n, 1.0)))
    for i in range(n):
        t = target[i]
        value = lse[i] - logits[i * c + t]
        losses[i] = weight[t] * value if weighted else value
    result = row_sum(n, stack, losses)
    total[0] = _quotient(result, float(divisor))


@formula
def _quotient(total: Term, n: Term) -> Term:
    return total / n


@formula
def _plus_log(m: Term, total: Term) -> Term:
    return m + vm.log(total)


@formula
def _softmax_less(x: Term, lse: Term, one: Term, scale: Term) -> Term:
    return scale * (vm.exp(x - lse) - one)


@kernel("TTiTTT*", ints=5)
def _cross_entropy_vjp(
    g: Any, logits: Any, target: Any, lse: Any, weight: Any, out: Any,
    step: Any, n: Any, c: Any, weighted: Any, divisor: Any,
) -> None:  # fmt: skip
    """out[i, j] = g[i step] / divisor weight[t] (exp(logits[i, j] - lse[i]) - [j == t]), t = target[i].

    A row's last vector may reach into the next row, which comes later: so only the last of all is cut.
    """
    w, end = width(g), n * c
    for i in range(n):
        t = target[i]
        share = _quotient(g[i * step], float(divisor))
        scale = share * weight[t] if weighted else share
        for j in range(0, c, w):
            x = load(logits, i * c + j, end)
            store(out, i * c + j, end, _softmax_less(x, lse[i], unit(x, t - j), scale))


def cross_entropy(
    logits: Array, target: Array, weight: Array | None = None, divisor: int = 1
) -> tuple[Array, Array, Array]:
    """(losses, lse, total): losses[i] = weight[t] (lse[i] - logits[i, t]) with t = target[i]; (n,), (n,) and 0-d.

    ``total`` is the sum of the losses over ``divisor``. ``logits`` (n, c), ``target`` (n,) int64, ``weight`` (c,) or
    None. IndexError for a class outside 0..c-1.
    """
    (n, c), dtype = logits.shape, logits.dtype
    losses, lse, total, wrong = empty(n, dtype), empty(n, dtype), empty((), dtype), empty(1, np.int64)
    w = lse if weight is None else weight.ravel()
    weighted = weight is not None
    _cross_entropy[dtype](logits.ravel(), target.ravel(), w, losses, lse, total, wrong, n, c, weighted, divisor)
    if wrong.item():
        raise IndexError(f"a class lies outside 0 to {c - 1}")
    return losses, lse, total


def cross_entropy_vjp(
    g: Array, logits: Array, target: Array, lse: Array, weight: Array | None = None, divisor: int = 1
) -> Array:
    """g[i] / divisor weight[t] (exp(logits[i, j] - lse[i]) - [j == t]), (n, c); ``lse`` (n,), ``g`` (n,) or one."""
    (n, c), dtype = logits.shape, logits.dtype
    out = np.empty((n, c), dtype)
    w = lse.ravel() if weight is None else weight.ravel()
    arrays = g.ravel(), logits.ravel(), target.ravel(), lse.ravel(), w, out
    _cross_entropy_vjp[dtype](*arrays, g.size > 1, n, c, weight is not None, divisor)
    return out


@mapped
def bce_with_logits(x: Term, t: Term) -> Term:
    """max(x, 0) - x t + log1p(e^-|x|)."""
    return (where(x <= 0.0, 0.0, x) - x * t) + vm.log1p(vm.exp(-abs(x)))


@mapped
def bce_with_logits_vjp(g: Term, x: Term, t: Term) -> Term:
    """g (sigmoid(x) - t): the derivative in x."""
    return g * (vm.sigmoid(x) - t)


@kernel("TTT*", ints=1)
def _mse(a: Any, b: Any, out: Any, n: Any) -> None:
    """out[0] = sum((a - b)(a - b)) / n."""
    out[0] = _quotient(row_square_distance(n, scratch(a, DEPTH), a, b), float(n))


def mse(a: Array, b: Array) -> Array:
    """The mean of (a - b)(a - b), 0-d, summed in the promised order over logical C order; NaN over no elements."""
    out = np.empty((), a.dtype)
    _mse[a.dtype](a.ravel(), b.ravel(), out, a.size)
    return out


@kernel("TTTT*", ints=2, elementwise=True)
def _mse_vjp(g: Any, a: Any, b: Any, out: Any, divisor: Any, n: Any) -> None:
    """out = (a - b) (g (2 / divisor))."""
    scale = _scale(g[0], 2.0 / divisor)
    for i in range(0, n, width(a)):
        store(out, i, n, _scaled_difference(load(a, i, n), load(b, i, n), scale))


@formula
def _scale(g: Term, factor: Term) -> Term:
    return g * factor


@formula
def _scaled_difference(a: Term, b: Term, scale: Term) -> Term:
    return (a - b) * scale


def mse_vjp(g: Array, a: Array, b: Array) -> Array:
    """(a - b) (g (2 / n)), ``g`` 0-d; 2 / n is rounded to the dtype, then its product with g."""
    out = np.empty(a.shape, a.dtype)
    _mse_vjp[a.dtype](g.ravel(), a.ravel(), b.ravel(), out, a.size, a.size)
    return out
