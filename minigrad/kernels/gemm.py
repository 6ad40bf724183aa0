"""Matrix products in the promised order: each C[i, j] is one chain of fused multiply-adds over k, from +0 up.

A tile of C lives in vector registers while k runs: a row of B is read (masked at the right edge), an element of A is
spread over a vector and multiplied into it. C is written once for every ``DEPTH`` of k and read back for the next, so
the chain stays one chain. A lane never meets another lane: bits depend on k and the numbers only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from minigrad.kernels.jit import function, kernel
from minigrad.kernels.reduction import DEPTH as LEVELS
from minigrad.kernels.reduction import LANES, column_sum
from minigrad.kernels.simd import (
    Term,
    first_lanes,
    load,
    masked_load,
    masked_store,
    native,
    offset,
    scratch,
    store,
    width,
)

Array = NDArray[Any]

#: How many k a panel of B holds: with two vectors a row, 32 KiB of 64-byte vectors.
DEPTH = 256
_PANEL = 2 * DEPTH  # vectors in it
#: From so many rows of A on, a panel of B is used often enough to be copied together.
_PACK_ROWS = 48


def _tile(rows: int, vectors: int) -> Any:
    """The intrinsic for ``rows`` x (``vectors`` native vectors) of C; ``cols`` of its columns exist.

    ``fresh``: start from zero rather than from C. ``biased``: add ``bias[:cols]`` at the end.
    """

    def tile(
        typingctx: Any, a: Any, a_row: Any, a_k: Any, b: Any, b_k: Any, c: Any, c_row: Any,
        bias: Any, cols: Any, depth: Any, fresh: Any, biased: Any,
    ) -> Any:  # fmt: skip
        word, flag = types.int64, types.boolean
        sig = types.void(a, word, word, b, word, c, word, bias, word, word, flag, flag)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            a, a_row, a_k, b, b_k, c, c_row, bias, cols, depth, fresh, biased = args
            lanes = native(c_type)
            vector = ir.VectorType(context.get_value_type(c_type), lanes)
            i64 = ir.IntType(64)
            zero = ir.Constant(i64, 0)

            def at(pointer: Any, *offsets: Any) -> Any:
                for step in offsets:
                    pointer = builder.gep(pointer, [step])
                return pointer

            def constant(value: int) -> Any:
                return ir.Constant(i64, value)

            def spread(value: float) -> Any:
                return Term(builder, ir.Constant(vector, ir.Undefined)).like(value).value

            left = builder.sub(cols, constant((vectors - 1) * lanes))  # columns of the last vector
            edge = first_lanes(builder, left, lanes)

            def read(pointer: Any, v: int, wanted: Any, fill: float) -> Any:
                count = builder.select(wanted, left if v == vectors - 1 else constant(lanes), zero)
                address = builder.bitcast(at(pointer, constant(v * lanes)), vector.as_pointer())
                return masked_load(builder, address, first_lanes(builder, count, lanes), spread(fill))

            c_rows = [at(c, builder.mul(c_row, constant(r))) for r in range(rows)]
            stored = builder.not_(fresh)
            start = [read(c_rows[r], v, stored, 0.0) for r in range(rows) for v in range(vectors)]

            before = builder.block
            body, after = builder.append_basic_block("k"), builder.append_basic_block("done")
            builder.cbranch(builder.icmp_signed(">", depth, zero), body, after)
            builder.position_at_end(body)
            k = builder.phi(i64)
            a_at, b_at = builder.phi(a.type), builder.phi(b.type)
            sums = [builder.phi(vector) for _ in start]
            row_of_b = []
            for v in range(vectors):
                address = builder.bitcast(at(b_at, constant(v * lanes)), vector.as_pointer())
                last = v == vectors - 1
                row_of_b.append(
                    masked_load(builder, address, edge, spread(0.0))
                    if last
                    else builder.load(address, align=c_type.bitwidth // 8)
                )
            results = []
            for r in range(rows):
                one = Term(builder, builder.load(at(a_at, builder.mul(a_row, constant(r)))))
                for v in range(vectors):
                    total = Term(builder, sums[r * vectors + v])
                    results.append(total.like(one).call("fma", Term(builder, row_of_b[v]), total).value)
            next_k = builder.add(k, constant(1))
            for phi, first, following in [
                (k, zero, next_k),
                (a_at, a, at(a_at, a_k)),
                (b_at, b, at(b_at, b_k)),
                *zip(sums, start, results, strict=True),
            ]:
                phi.add_incoming(first, before)
                phi.add_incoming(following, body)
            builder.cbranch(builder.icmp_signed("<", next_k, depth), body, after)

            builder.position_at_end(after)
            finals = [builder.phi(vector) for _ in start]
            for phi, first, result in zip(finals, start, results, strict=True):
                phi.add_incoming(first, before)
                phi.add_incoming(result, body)
            biases = [read(bias, v, biased, -0.0) for v in range(vectors)]  # adding -0 changes no bit
            for r in range(rows):
                for v in range(vectors):
                    value = builder.fadd(finals[r * vectors + v], biases[v])
                    address = builder.bitcast(at(c_rows[r], constant(v * lanes)), vector.as_pointer())
                    if v == vectors - 1:
                        masked_store(builder, value, address, edge)
                    else:
                        builder.store(value, address, align=c_type.bitwidth // 8)
            return context.get_dummy_value()

        c_type = c.dtype
        return sig, codegen

    return intrinsic(tile)


_tall_wide, _tall = _tile(12, 2), _tile(12, 1)
_four_wide, _four = _tile(4, 2), _tile(4, 1)
_one_wide, _one = _tile(1, 2), _tile(1, 1)


@function
def _multiply(
    a: Any, m: Any, depth: Any, a_row: Any, a_k: Any, b: Any, n: Any, b_k: Any, b_col: Any, c: Any, c_row: Any,
    bias: Any, biased: Any,
) -> None:  # fmt: skip
    """c (m, n; rows contiguous) = a (m, depth) b (depth, n), plus bias (n,) if ``biased``."""
    w = width(c)
    panel = scratch(c, _PANEL)
    packs = b_col != 1 or m >= _PACK_ROWS
    for j in range(0, n, 2 * w):
        cols = min(2 * w, n - j)
        wide = cols > w
        edge = offset(bias, j)
        for start in range(0, max(depth, 1), DEPTH):
            steps = min(DEPTH, depth - start)
            rows_of_b, row = offset(b, start * b_k + j * b_col), b_k
            if packs:
                if b_col == 1:
                    for k in range(steps):
                        p = offset(rows_of_b, k * b_k)
                        store(panel, k * 2 * w, k * 2 * w + cols, load(p, 0, cols, 0.0))
                        if wide:
                            store(panel, k * 2 * w + w, k * 2 * w + cols, load(p, w, cols, 0.0))
                else:
                    for column in range(cols):
                        p = offset(rows_of_b, column * b_col)
                        for k in range(steps):
                            panel[k * 2 * w + column] = p[k * b_k]
                rows_of_b, row = panel, 2 * w
            fresh, last = start == 0, biased and start + DEPTH >= depth
            i = 0
            while i < m:
                p, q = offset(a, i * a_row + start * a_k), offset(c, i * c_row + j)
                if m - i >= 12:
                    if wide:
                        _tall_wide(p, a_row, a_k, rows_of_b, row, q, c_row, edge, cols, steps, fresh, last)
                    else:
                        _tall(p, a_row, a_k, rows_of_b, row, q, c_row, edge, cols, steps, fresh, last)
                    i += 12
                elif m - i >= 4:
                    if wide:
                        _four_wide(p, a_row, a_k, rows_of_b, row, q, c_row, edge, cols, steps, fresh, last)
                    else:
                        _four(p, a_row, a_k, rows_of_b, row, q, c_row, edge, cols, steps, fresh, last)
                    i += 4
                else:
                    if wide:
                        _one_wide(p, a_row, a_k, rows_of_b, row, q, c_row, edge, cols, steps, fresh, last)
                    else:
                        _one(p, a_row, a_k, rows_of_b, row, q, c_row, edge, cols, steps, fresh, last)
                    i += 1


@kernel("MMMT", ints=1)
def _gemm(
    a: Any, m: Any, depth: Any, a_row: Any, a_k: Any, b: Any, _b: Any, n: Any, b_k: Any, b_col: Any,
    c: Any, _m: Any, _n: Any, c_row: Any, _c: Any, bias: Any, biased: Any,
) -> None:  # fmt: skip
    """c = a b, plus bias if ``biased``; the rows of c are contiguous."""
    _multiply(a, m, depth, a_row, a_k, b, n, b_k, b_col, c, c_row, bias, biased != 0)


@kernel("BBB", ints=0)
def _matmul_batch(
    a: Any, batch: Any, m: Any, depth: Any, a_batch: Any, a_row: Any, a_k: Any,
    b: Any, _b: Any, _k: Any, n: Any, b_batch: Any, b_k: Any, b_col: Any,
    c: Any, _c: Any, _m: Any, _n: Any, c_batch: Any, c_row: Any, _col: Any,
) -> None:  # fmt: skip
    """c[i] = a[i] b[i]; the rows of c are contiguous."""
    for i in range(batch):
        p, q, r = offset(a, i * a_batch), offset(b, i * b_batch), offset(c, i * c_batch)
        _multiply(p, m, depth, a_row, a_k, q, n, b_k, b_col, r, c_row, r, False)


@functools.cache
def _no_bias(dtype: np.dtype[Any]) -> Array:
    return np.empty(0, dtype)


def matmul(a: Array, b: Array) -> Array:
    """(..., m, k) times (..., k, n), batch axes broadcast, any strides: a new C-contiguous (..., m, n)."""
    if a.shape[-1] != b.shape[-2]:
        raise ValueError("the shapes disagree")
    if a.ndim == 2 == b.ndim:
        out = np.empty((len(a), b.shape[1]), dtype := a.dtype)
        _gemm[dtype](a, b, out, _no_bias(dtype), 0)
        return out
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    out = np.empty((*batch, a.shape[-2], b.shape[-1]), a.dtype)
    if out.size:
        a, b = (np.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (a, b))
        count = out.size // (out.shape[-2] * out.shape[-1])
        _matmul_batch[a.dtype](*(x.reshape(count, *x.shape[-2:]) for x in (a, b, out)))
    return out


def linear(x: Array, w: Array, b: Array | None = None) -> Array:
    """x w^T + b: x (..., k), w (m, k), b (m,) or None; a new C-contiguous (..., m)."""
    dtype = x.dtype
    if x.shape[-1] != w.shape[1] or (b is not None and len(b) != len(w)):
        raise ValueError("the shapes disagree")
    if x.ndim == 2:
        rows, c = x, (out := np.empty((len(x), len(w)), dtype))
    else:
        shape = x.shape
        out = np.empty((*shape[:-1], len(w)), dtype)
        count = math.prod(shape[:-1])
        rows, c = x.reshape(count, shape[-1]), out.reshape(count, len(w))
    if b is None:
        _gemm[dtype](rows, w.T, c, _no_bias(dtype), 0)
    else:
        _gemm[dtype](rows, w.T, c, b.ravel(), 1)
    return out


matmul.checks_shapes = linear.checks_shapes = True  # type: ignore[attr-defined]  # ValueError if sizes disagree


@kernel("MMMMMT", ints=3)
def _linear_vjp(
    g: Any, rows: Any, m: Any, g_row: Any, g_col: Any, x: Any, _n: Any, _x: Any, x_row: Any, x_col: Any,
    w: Any, _m: Any, _k: Any, w_row: Any, w_col: Any, dx: Any, _n2: Any, wide: Any, dx_row: Any, _c: Any,
    dw: Any, _m2: Any, deep: Any, dw_row: Any, _c2: Any, db: Any, to_x: Any, to_w: Any, to_b: Any,
) -> None:  # fmt: skip
    """dx = g w, dw = g^T x, db = the column sums of g, each if asked for; g is C-contiguous."""
    if to_x:
        _multiply(g, rows, m, g_row, g_col, w, wide, w_row, w_col, dx, dx_row, dx, False)
    if to_w:
        _multiply(g, m, rows, g_col, g_row, x, deep, x_row, x_col, dw, dw_row, dw, False)
    if to_b:
        column_sum(g, db, rows, m, scratch(g, LANES), scratch(g, LEVELS))


def linear_vjp(positions: tuple[int, ...]) -> Callable[[Array, Any, Any], list[Array]]:
    """The function (g, x, w) -> the cotangents of those of x, w, b (0, 1, 2) in ``positions``: see :func:`linear`.

    It launches one kernel, with the bits of ``matmul`` and ``sum``. ``x`` may be None if w's cotangent is not asked
    for, ``w`` if x's is not.
    """
    to_x, to_w, to_b = 0 in positions, 1 in positions, 2 in positions

    def run(g: Array, x: Any, w: Any) -> list[Array]:
        shape, dtype = g.shape, g.dtype
        if not g.flags.c_contiguous:
            g = np.ascontiguousarray(g)
        if len(shape) != 2:
            g = g.reshape(math.prod(shape[:-1]), shape[-1])
            x = None if x is None else x.reshape(len(g), x.shape[-1])
        dx = dw = g
        db = _no_bias(dtype)
        found = []
        if to_x:
            dx = np.empty((len(g), w.shape[1]), dtype)
            found.append(dx if len(shape) == 2 else dx.reshape(*shape[:-1], w.shape[1]))
        if to_w:
            dw = np.empty((shape[-1], x.shape[1]), dtype)
            found.append(dw)
        if to_b:
            db = np.empty(shape[-1], dtype)
            found.append(db)
        _linear_vjp[dtype](g, g if x is None else x, g if w is None else w, dx, dw, db, to_x, to_w, to_b)
        return found

    return run
