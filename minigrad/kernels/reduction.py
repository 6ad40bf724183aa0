"""Reductions in the promised order, which is a function of the number of terms alone.

The n terms are cut into blocks of 1024. In a block, lane l of 16 takes the terms l, l + 16, l + 32, ... in order;
lanes are combined l with l + 8, then l + 4, l + 2, l + 1. Blocks are combined as neighbours, (0, 1), (2, 3), ...,
level by level; an odd last one goes up unchanged. A lane starts from the neutral element (-0 for sums, 1 for
products), which also stands for missing terms: it changes no bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.kernels.jit import function, kernel
from minigrad.kernels.simd import (
    Term,
    ask,
    fold,
    formula,
    load,
    load4,
    load16,
    offset,
    put,
    scratch,
    store,
    where,
    width,
)
from minigrad.kernels.vector_math import exp, log

Array = NDArray[Any]
BLOCK, LANES = 1024, 16


@formula
def _add(a: Term, b: Term) -> Term:
    return a + b


@formula
def _subtract(a: Term, b: Term) -> Term:
    return a - b


@formula
def _multiply(a: Term, b: Term) -> Term:
    return a * b


@formula
def _inverse(a: Term) -> Term:
    return 1.0 / a


@formula
def _larger(a: Term, b: Term) -> Term:
    """The larger; if either is NaN, one of the two."""
    return where(a > b, a, b)


_sum_lanes, _product_of_lanes, _largest_lane = fold(_add), fold(_multiply), fold(_larger)


DEPTH = 64  # levels of the tree: enough for 2^64 blocks
ROOM = 4 * DEPTH  # vectors, of a stack whose entries are four; scratch takes a name, no expression


@function
def _term(i: Any, end: Any, p: Any) -> Any:
    return load16(p, i, end, -0.0)


@function
def _factor(i: Any, end: Any, p: Any) -> Any:
    return load16(p, i, end, 1.0)


@function
def _exp_term(i: Any, end: Any, p: Any, m: Any) -> Any:
    return _exp_less(load16(p, i, end, -math.inf), m)


@function
def _product_term(i: Any, end: Any, p: Any, q: Any) -> Any:
    return _multiply(load16(p, i, end, -0.0), load16(q, i, end, 1.0))


@function
def _square_term(i: Any, end: Any, p: Any, q: Any) -> Any:
    d = _subtract(load16(p, i, end), load16(q, i, end))
    return _multiply(d, d)


@function
def _scaled_square_term(i: Any, end: Any, p: Any, m: Any) -> Any:
    return _scaled_square(load16(p, i, end), m)


@formula
def _exp_less(x: Term, m: Term) -> Term:
    return exp(x - m)


def _tree(term: Any, combine: Any, fold_lanes: Any, empty: float) -> Any:
    """The promised combination of n terms. ``term(i, end, *operands)``: 16 from i on, neutral ones from ``end`` on."""

    @function
    def total(n: Any, stack: Any, *operands: Any) -> Any:
        depth = 0  # the stack holds the complete subtrees, the widest first
        for start in range(0, n, BLOCK):
            end = min(start + BLOCK, n)
            lanes = term(start, end, *operands)
            for i in range(start + LANES, end, LANES):
                lanes = combine(lanes, term(i, end, *operands))
            result = fold_lanes(lanes)
            block = start // BLOCK
            while block & 1:
                depth -= 1
                result = combine(stack[depth], result)
                block >>= 1
            stack[depth] = result
            depth += 1
        if depth == 0:
            stack[0] = empty
            depth = 1
        result = stack[depth - 1]
        for level in range(depth - 2, -1, -1):
            result = combine(stack[level], result)
        return result

    return total


def _columns(combine: Any, neutral: float, empty: float) -> Any:
    """The same tree down columns, of which a vector holds several; where there are many, four vectors at a time."""

    def strip(load: Any) -> Any:
        @function
        def pair(p: Any, lane: Any, start: Any, end: Any, inner: Any, column: Any) -> Any:
            """Lanes ``lane`` and ``lane`` + 8 of a block, combined."""
            low = high = load(p, 0, 0, neutral)
            row = start + lane
            while row + 8 < end:
                low = combine(low, load(offset(p, row * inner), column, inner, neutral))
                high = combine(high, load(offset(p, (row + 8) * inner), column, inner, neutral))
                row += LANES
            if row < end:
                low = combine(low, load(offset(p, row * inner), column, inner, neutral))
            return combine(low, high)

        @function
        def four(p: Any, lane: Any, start: Any, end: Any, inner: Any, column: Any) -> Any:
            return combine(pair(p, lane, start, end, inner, column), pair(p, lane + 4, start, end, inner, column))

        @function
        def eight(p: Any, lane: Any, start: Any, end: Any, inner: Any, column: Any) -> Any:
            return combine(four(p, lane, start, end, inner, column), four(p, lane + 2, start, end, inner, column))

        @function
        def total(p: Any, out: Any, n: Any, inner: Any, column: Any, w: Any, stack: Any) -> Any:
            depth, room = 0, DEPTH * w
            for start in range(0, n, BLOCK):
                end = min(start + BLOCK, n)
                result = combine(eight(p, 0, start, end, inner, column), eight(p, 1, start, end, inner, column))
                block = start // BLOCK
                while block & 1:
                    depth -= 1
                    result = combine(load(stack, depth * w, room, neutral), result)
                    block >>= 1
                store(stack, depth * w, room, result)
                depth += 1
            if depth == 0:
                store(stack, 0, w, load(p, 0, 0, empty))
                depth = 1
            result = load(stack, (depth - 1) * w, room, neutral)
            for level in range(depth - 2, -1, -1):
                result = combine(load(stack, level * w, room, neutral), result)
            store(out, column, inner, result)

        return total

    narrow, wide = strip(load), strip(load4)

    @function
    def total(p: Any, out: Any, n: Any, inner: Any) -> Any:
        stack, w, column = scratch(p, ROOM), width(p), 0
        while column + 2 * w < inner:
            wide(p, out, n, inner, column, 4 * w, stack)
            column += 4 * w
        while column < inner:
            narrow(p, out, n, inner, column, w, stack)
            column += w

    return total


row_sum, column_sum = _tree(_term, _add, _sum_lanes, 0.0), _columns(_add, -0.0, 0.0)
_row_product, _column_product = _tree(_factor, _multiply, _product_of_lanes, 1.0), _columns(_multiply, 1.0, 1.0)
row_exp_sum = _tree(_exp_term, _add, _sum_lanes, 0.0)
row_square_distance = _tree(_square_term, _add, _sum_lanes, 0.0)
row_dot = _tree(_product_term, _add, _sum_lanes, 0.0)
_row_scaled_squares = _tree(_scaled_square_term, _add, _sum_lanes, 0.0)


@kernel("TT*", ints=3)
def _sum(x: Any, out: Any, outer: Any, n: Any, inner: Any) -> None:
    """Sums over the middle axis of (outer, n, inner)."""
    stack = scratch(x, DEPTH)
    for i in range(outer):
        if inner == 1:
            out[i] = row_sum(n, stack, offset(x, i * n))
        else:
            column_sum(offset(x, i * n * inner), offset(out, i * inner), n, inner)


@kernel("TT*", ints=3)
def _prod(x: Any, out: Any, outer: Any, n: Any, inner: Any) -> None:
    """Products over the middle axis of (outer, n, inner)."""
    stack = scratch(x, DEPTH)
    for i in range(outer):
        if inner == 1:
            out[i] = _row_product(n, stack, offset(x, i * n))
        else:
            _column_product(offset(x, i * n * inner), offset(out, i * inner), n, inner)


def _reduce(kernel: Any, x: Array, axes: tuple[int, ...]) -> Array:
    shape, first, last = x.shape, axes[0], axes[-1] + 1
    if last - first == len(axes) and x.flags.c_contiguous:
        out = np.empty(shape[:first] + shape[last:], x.dtype)
        n, inner = math.prod(shape[first:last]), math.prod(shape[last:])
    else:
        kept = [i for i in range(x.ndim) if i not in axes]
        out = np.empty([shape[i] for i in kept], x.dtype)
        n, inner = math.prod([shape[i] for i in axes]), 1
        x = x.transpose(*kept, *axes)
    if size := out.size:
        kernel[x.dtype](x.ravel(), out, size // inner, n, inner)
    return out


def sum(x: Array, axes: tuple[int, ...]) -> Array:
    """Sum over ``axes`` (sorted, not negative, at least one), which are removed; +0 over no terms."""
    return _reduce(_sum, x, axes)


def prod(x: Array, axes: tuple[int, ...]) -> Array:
    """Product over ``axes`` (sorted, not negative, at least one), which are removed; 1 over no terms."""
    return _reduce(_prod, x, axes)


@function
def peak(p: Any, n: Any) -> Any:
    """The largest of n terms (any of them, beside a NaN); 0 where it is not finite, so that subtracting is safe."""
    lanes = load16(p, 0, n, -math.inf)
    for i in range(LANES, n, LANES):
        lanes = _larger(lanes, load16(p, i, n, -math.inf))
    m = _largest_lane(lanes)
    return _finite_or_zero(m)


@formula
def _finite_or_zero(m: Term) -> Term:
    return where(abs(m) < math.inf, m, 0.0)


@function
def short_peak_and_exp_sum(p: Any, n: Any) -> Any:
    """:func:`peak` and the sum of exp(x - peak) for at most 16 terms."""
    lanes = load16(p, 0, n, -math.inf)
    m = _finite_or_zero(_largest_lane(lanes))
    return m, _sum_lanes(_exp_less(lanes, m))


@function
def log_sum_exp(p: Any, n: Any, stack: Any) -> Any:
    """m + log(sum(exp(x - m))) of n terms."""
    m = peak(p, n)
    return m + log(row_exp_sum(n, stack, p, m))


@kernel("TT*", ints=2)
def _logsumexp(x: Any, out: Any, rows: Any, n: Any) -> None:
    """out[i] = log(sum(exp(x[i]))), x (rows, n)."""
    stack = scratch(x, DEPTH)
    for i in range(rows):
        out[i] = log_sum_exp(offset(x, i * n), n, stack)


@kernel("TT*", ints=2)
def _softmax(x: Any, out: Any, rows: Any, n: Any) -> None:
    """out = exp(x - m) (1 / sum(exp(x - m))) by rows of (rows, n)."""
    stack, w = scratch(x, DEPTH), width(x)
    for row in range(rows):
        p, q = offset(x, row * n), offset(out, row * n)
        m = peak(p, n)
        for i in range(0, n, w):
            store(q, i, n, _exp_less(load(p, i, n), m))
        share = _inverse(row_sum(n, stack, q))
        for i in range(0, n, w):
            store(q, i, n, _multiply(load(q, i, n), share))


@kernel("TT*", ints=2)
def _log_softmax(x: Any, out: Any, rows: Any, n: Any) -> None:
    """out = x - logsumexp(x) by rows of (rows, n)."""
    stack, w = scratch(x, DEPTH), width(x)
    for row in range(rows):
        p, q = offset(x, row * n), offset(out, row * n)
        total = log_sum_exp(p, n, stack)
        for i in range(0, n, w):
            store(q, i, n, _subtract(load(p, i, n), total))


@formula
def _softmax_vjp_term(g: Term, y: Term, total: Term) -> Term:
    return y * (g - total)


@formula
def _log_softmax_vjp_term(g: Term, y: Term, total: Term) -> Term:
    return g - exp(y) * total


@kernel("TTT*", ints=2)
def _softmax_vjp(g: Any, y: Any, out: Any, rows: Any, n: Any) -> None:
    """out = y (g - sum(g y)) by rows of (rows, n)."""
    stack, w = scratch(g, DEPTH), width(g)
    for row in range(0, rows * n, n):
        p, q = offset(g, row), offset(y, row)
        total = row_dot(n, stack, p, q)
        for i in range(0, n, w):
            ask(p, n + i)
            ask(q, n + i)
            put(out, row + i, row + n, _softmax_vjp_term(load(p, i, n), load(q, i, n), total))


@kernel("TTT*", ints=2)
def _log_softmax_vjp(g: Any, y: Any, out: Any, rows: Any, n: Any) -> None:
    """out = g - exp(y) sum(g) by rows of (rows, n)."""
    stack, w = scratch(g, DEPTH), width(g)
    for row in range(rows):
        p, q, r = offset(g, row * n), offset(y, row * n), offset(out, row * n)
        total = row_sum(n, stack, p)
        for i in range(0, n, w):
            store(r, i, n, _log_softmax_vjp_term(load(p, i, n), load(q, i, n), total))


def logsumexp(x: Array, axis: int) -> Array:
    """log(sum(exp(x))) over one axis, which is removed: -inf where all are, NaN where any is."""
    return _removed(_logsumexp, x, axis)


def _removed(kernel: Any, x: Array, axis: int) -> Array:
    x = np.moveaxis(x, axis, -1)
    out = np.empty(x.shape[:-1], x.dtype)
    kernel[x.dtype](x.ravel(), out, out.size, x.shape[-1])
    return out


@formula
def _scaled_square(x: Term, m: Term) -> Term:
    return (x / m) * (x / m)


@formula
def _larger_size(a: Term, b: Term) -> Term:
    return _larger(a, abs(b))


@formula
def _unit(m: Term) -> Term:
    return where((m > 0.0) & (m < math.inf), m, 1.0)


@formula
def _length(m: Term, total: Term) -> Term:
    return m * total.call("sqrt")


@kernel("TT*", ints=2)
def _norm(x: Any, out: Any, rows: Any, n: Any) -> None:
    """out[i] = m sqrt(sum((x[i] / m)^2)), x (rows, n), m the largest size in the row, or 1 if it is 0 or infinite."""
    stack = scratch(x, DEPTH)
    for row in range(rows):
        p = offset(x, row * n)
        sizes = load16(p, 0, 0)
        for i in range(0, n, LANES):
            sizes = _larger_size(sizes, load16(p, i, n))
        m = _unit(_largest_lane(sizes))
        out[row] = _length(m, _row_scaled_squares(n, stack, p, m))


def norm(x: Array, axis: int) -> Array:
    """sqrt(sum(x x)) over one axis, which is removed: scaled, so that no square overflows or vanishes."""
    return _removed(_norm, x, axis)


def _by_rows(kernel: Any, axis: int, *arrays: Array) -> Array:
    x = arrays[0]
    if axis not in (-1, x.ndim - 1):
        moved = _by_rows(kernel, -1, *[np.moveaxis(a, axis, -1) for a in arrays])
        return np.ascontiguousarray(np.moveaxis(moved, -1, axis))
    out, n = np.empty(x.shape, x.dtype), x.shape[-1]
    if n:
        kernel[x.dtype](*[a.ravel() for a in arrays], out, out.size // n, n)
    return out


def softmax(x: Array, axis: int) -> Array:
    """exp(x - m) / sum(exp(x - m)) along ``axis``, m the largest (0 where that is not finite)."""
    return _by_rows(_softmax, axis, x)


def log_softmax(x: Array, axis: int) -> Array:
    """x - logsumexp(x) along ``axis``."""
    return _by_rows(_log_softmax, axis, x)


def softmax_vjp(g: Array, y: Array, axis: int) -> Array:
    """y (g - sum(g y)) along ``axis``, from y = softmax(x)."""
    return _by_rows(_softmax_vjp, axis, g, y)


def log_softmax_vjp(g: Array, y: Array, axis: int) -> Array:
    """g - exp(y) sum(g) along ``axis``, from y = log_softmax(x)."""
    return _by_rows(_log_softmax_vjp, axis, g, y)
