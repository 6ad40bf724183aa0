"""Matrix products in the promised order: each C[i, j] is one chain of fused multiply-adds over k, from +0 up.

A tile of C lives in vector registers while k runs: a row of B is read, an element of A is spread over a vector and
multiplied into it. C is written after some hundreds of k, and read back for the next, so a chain stays one chain.
A lane never meets another lane: bits depend on k and the numbers only.

A is read where it lies, whatever its strides: its elements are spread one by one. B is read by rows; a panel of it,
two vectors wide, is copied together first where its rows are not contiguous, or are too many for the cache. Large ones
copy panels in any case, a part of the next one after each tile, and those rows of A of which either is true; while a
tile is computed, memory is asked for that is needed after it, a few lines at a time.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from minigrad.kernels.jit import function, inlined, kernel
from minigrad.kernels.pool import POOL
from minigrad.kernels.reduction import column_sum
from minigrad.kernels.reduction import sum as column_sums
from minigrad.kernels.simd import (
    VECTOR_BYTES,
    Term,
    aligned,
    atomic_add,
    atomic_read,
    atomic_write,
    behind,
    first_lanes,
    fma,
    forget_memory,
    keep_rolled,
    load,
    masked_load,
    masked_store,
    native,
    offset,
    opaque,
    parts,
    prefetch,
    scratch,
    spread,
    store,
    turned,
    width,
)

Array = NDArray[Any]
empty = np.empty

#: How many k a panel of B holds: with two vectors a row, 64 KiB of 64-byte vectors. C is read and written as seldom.
DEPTH = 512
_PANEL = 2 * DEPTH  # vectors in it
#: In blocks, so many k are not cut, as C is dearer than a panel that the first-level cache does not hold: 1.04 of the
#: speed in float32 and 1.08 in float64 at 784, on a Zen 3.
_ONCE = 832
#: More are cut into pieces alike, whole strides of at most so many: 1025 into 528 and 497 rather than 512, 512 and 1:
#: 1.04 of the speed, there.
_DEEP = DEPTH + 64
#: Rows of a tile with two vectors: as many as leave room for a row of B (32 registers of 64 bytes, else 16).
TALL = 14 if VECTOR_BYTES == 64 else 6
#: Vectors that the last few columns of C have room in, before they are put into their rows.
_ASIDE = 256
#: Last columns that fill so small a part of a vector, or less, may be worth turning rows of A for: 1.08 of the speed
#: at 100 x 100 x 100, on an Emerald Rapids.
_SHARE = 4
#: Vectors of sums that a row of B passes along at once; one is for what reaches over.
_SUMS = 257
#: How many k a tile goes at once where its strides are known: else each counts and moves pointers, 4 instructions of
#: the 24 of a short tile. Of a tall one they are 5 of 48: 1.02 of the speed, on an Emerald Rapids.
_ROUND = 4 if VECTOR_BYTES == 64 else 8
#: Vectors in a row of a tile where A has two rows: B passes once, so its rows are read as far as they go. Half as many
#: where it has three to six: 1.3 of the speed at 4 x 256 x 256, on an Emerald Rapids.
_LONG = 8 if VECTOR_BYTES == 64 else 4
#: From so many rows of A on, a panel of B is used often enough to be copied together even if its rows are contiguous.
_PACK_ROWS = 4 * TALL
#: Bytes of a block of A, which stays in the second-level cache while panels of B pass: what 1 or 2 MiB have room for
#: beside two panels, else as much as 1/2 MiB has at all.
_BLOCK = 7 << 17 if VECTOR_BYTES == 64 else 1 << 19
#: Panels of B are asked for again where all of them have more bytes. Where they have less, they pass as often as they
#: like, and a block of short tiles is so many rows: fewer pages of A and C than there are entries for their addresses.
#: 1.05 to 1.08 of the speed with 128 to 512 k, on a Zen 3.
_NEAR, _FEW = 1 << 21, 16 * TALL if VECTOR_BYTES < 64 else 1 << 30
#: Memory is asked for by lines of so many bytes, some of them every so many k: all at once would keep the tile's own
#: loads waiting. 1.04 to 1.5 of the speed, the most where C is large beside k, on an Emerald Rapids.
_LINE, _ASK = 64, 16
#: An instruction that multiplies and adds reads an element and spreads it as well, if its address is one register: two
#: such take the place of three. 1.02 of the speed, and 1.06 where the core is shared, there; 0.97 for small operands.
_TWICE = VECTOR_BYTES == 64
#: Tiles of a block have so many rows at least, but for a few, which do not ask.
_LOW = TALL - TALL // 4
#: So many panels of B, or more, may be one more, so that their vectors lie in one line each: 1.03 to 1.1 of the speed
#: at 16 x 16 x 2048, there.
_MANY = 16
#: Up to so many k C is the largest, and is written row by row, which takes half the time at 2048 x 8 x 2048, there.
_FLAT = 64
#: Rows so many bytes apart (or a multiple) fall into the same set of the first-level cache, which holds so many lines.
_ALIAS, _WAYS = 4096, 8
#: Elements of a row that are transposed in registers at once.
_STRIDE = 16
#: From so many multiplications on, a panel of B is read often enough, and B is far enough away, to work in blocks.
_LARGE = 1 << 22
#: Below so many, looking at the operands and making the result in Python takes 0.03 of the time and more.
_SMALL = 1 << 20
#: Threads take panels in turn if there are so many for each, or one waits too long for the other in the end.
_TURNS = 4
#: So many for each thread: 0.3 ms, where waking one takes 0.05.
_THREAD = 1 << 24


def _leaders(builder: Any, p: Any, row: Any, rows: int) -> tuple[list[Any], list[tuple[Any, ...]]]:
    """Every third row's address, so that there are registers for all, and the steps to the rows between.

    The compiler must not see what they have in common, or it finds each row's address from the one before.
    """
    twice = builder.add(row, row)
    thrice, found = builder.add(twice, row), [p]
    while 3 * len(found) < rows:
        found.append(opaque(builder, builder.gep(found[-1], [thrice])))
    return found, [(), (row,), (twice,)]


def _at(builder: Any, pointer: Any, *offsets: Any) -> Any:
    """The pointer so many elements further on."""
    for step in offsets:
        pointer = builder.gep(pointer, [step])
    return pointer


def _tile(
    vectors: int, share: int = 1, heights: Iterable[int] = range(1, TALL + 1), packed: bool = False, asks: bool = False
) -> Any:
    """The intrinsic for ``height`` rows of C, one of ``heights``, by ``vectors`` of 1/``share`` of the native width.

    ``cols`` columns exist. ``fresh``: start from zero rather than from C. ``biased``: add ``bias[:cols]`` at the end.
    ``packed``: rows of A are contiguous and B is a whole panel, whatever ``a_k``, ``b_k`` and ``cols``. ``asks``:
    ask for ``rows`` rows of C from ``below`` on meanwhile, and for ``more`` rows of ``length`` elements from ``ahead``
    on, ``row`` apart, of which as many lines are asked for as C's have.
    """

    def lowered(c_type: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            done = builder.append_basic_block("done")
            choice = builder.switch(args[0], done)
            for rows in heights:
                choice.add_case(ir.Constant(ir.IntType(64), rows), builder.append_basic_block(f"{rows} rows"))
                builder.position_at_end(builder.function.blocks[-1])
                one_height(context, builder, rows, *args[1:])
                builder.branch(done)
            builder.position_at_end(done)
            return context.get_dummy_value()

        def one_height(
            context: Any, builder: Any, rows: int, a: Any, a_row: Any, a_k: Any, b: Any, b_k: Any, c: Any, c_row: Any,
            bias: Any, cols: Any, depth: Any, fresh: Any, biased: Any, *asked: Any,
        ) -> None:  # fmt: skip
            lanes, align = native(c_type) // share, c_type.bitwidth // 8
            vector = ir.VectorType(context.get_value_type(c_type), lanes)
            i64 = ir.IntType(64)
            zero = ir.Constant(i64, 0)

            at = functools.partial(_at, builder)

            def constant(value: int) -> Any:
                return ir.Constant(i64, value)

            zeros = ir.Constant(vector, [0.0] * lanes)

            # The last vector may be cut by the edge; of long rows, any; of a whole panel, none.
            cut = () if packed else range(vectors) if vectors > 2 else (vectors - 1,)
            edges = {v: first_lanes(builder, builder.sub(cols, constant(v * lanes)), lanes) for v in cut}

            def place(pointer: Any, v: int) -> Any:
                return builder.bitcast(at(pointer, constant(v * lanes)), vector.as_pointer())

            def read(pointer: Any, v: int) -> Any:
                if v in edges:
                    return masked_load(builder, place(pointer, v), edges[v], zeros)
                return builder.load(place(pointer, v), align=align)

            def either(condition: Any, yes: Callable[[], list[Any]], no: list[Any]) -> list[Any]:
                """Vectors by ``yes`` where the condition holds, else ``no``."""
                before = builder.block
                with builder.if_then(condition):
                    values, inside = yes(), builder.block
                merged = [builder.phi(vector) for _ in no]
                for phi, value, other in zip(merged, values, no, strict=True):
                    phi.add_incoming(value, inside)
                    phi.add_incoming(other, before)
                return merged

            firsts, steps = _leaders(builder, c, c_row, rows)
            c_rows = [at(firsts[r // 3], *steps[r % 3]) for r in range(rows)]
            cells = [(r, v) for r in range(rows) for v in range(vectors)]
            start = either(builder.not_(fresh), lambda: [read(c_rows[r], v) for r, v in cells], [zeros] * len(cells))

            firsts, steps = _leaders(builder, a, a_row, rows)
            if packed:
                a_k, b_k = constant(1), constant(vectors * lanes)

            def shares(below: Any, count: Any, ahead: Any, row: Any, more: Any, length: Any) -> list[tuple[Any, ...]]:
                """What is asked for: (first row, step to the next, rows each time, elements in one)."""
                times = builder.udiv(builder.add(depth, constant(_ASK - 1)), constant(_ASK))
                each = [builder.udiv(builder.add(n, builder.sub(times, constant(1))), times) for n in (count, more)]
                return [(below, c_row, each[0], cols), (ahead, row, each[1], length)]

            wanted = shares(*asked) if asks else []

            def ask(k: Any) -> None:
                time = builder.udiv(k, constant(_ASK))
                for p, step, each, size in wanted:
                    first = at(p, builder.mul(step, builder.mul(time, each)))
                    with cgutils.for_range(builder, each) as loop:
                        line = at(first, builder.mul(step, opaque(builder, loop.index)))  # opaque: not unrolled
                        for i in range(0, vectors * lanes, _LINE // align):
                            prefetch(builder, at(line, constant(i)))
                        prefetch(builder, at(line, size, constant(-1)))

            def chain(state: list[Any], times: int) -> list[Any]:
                """Go on by ``times`` k a round, as far as ``depth`` allows, from (k, row of B, rows of A, sums)."""
                before, last = builder.block, builder.sub(depth, constant(times - 1))
                body, after = builder.append_basic_block("k"), builder.append_basic_block("done")
                builder.cbranch(builder.icmp_signed("<", state[0], last), body, after)
                builder.position_at_end(body)
                inside = [builder.phi(value.type) for value in state]
                k, b_at, a_at, sums = inside[0], inside[1], inside[2 : -len(cells)], inside[-len(cells) :]
                if asks and times > 1:
                    due = builder.icmp_signed("==", builder.and_(k, constant(_ASK - 1)), zero)
                    with builder.if_then(due, likely=False):
                        ask(k)
                end = builder.block
                for _ in range(times):
                    row_of_b = [Term(builder, read(b_at, v)) for v in range(vectors)]
                    for r in range(rows):
                        pointer = at(a_at[r // 3], *steps[r % 3])
                        one = row_of_b[0].like(Term(builder, builder.load(pointer)))
                        for v in range(vectors):
                            if v and asks and r % 3 == 0 and _TWICE:
                                forget_memory(builder)
                                one = row_of_b[0].like(Term(builder, builder.load(pointer)))
                            total = Term(builder, sums[r * vectors + v])
                            sums[r * vectors + v] = one.call("fma", row_of_b[v], total).value
                    b_at, a_at = at(b_at, b_k), [at(pointer, a_k) for pointer in a_at]
                later = [builder.add(k, constant(times)), b_at, *a_at, *sums]
                keep_rolled(builder, builder.cbranch(builder.icmp_signed("<", later[0], last), body, after))
                builder.position_at_end(after)
                merged = [builder.phi(value.type) for value in state]
                for phi, out, first, following in zip(inside, merged, state, later, strict=True):
                    for each in (phi, out):
                        each.add_incoming(first, before)
                        each.add_incoming(following, end)
                return merged

            state = [zero, b, *firsts, *start]
            for times in (_ROUND, 1) if packed else (1,):
                state = chain(state, times)
            finals = state[-len(cells) :]

            def plus_bias() -> list[Any]:
                biases = [read(bias, v) for v in range(vectors)]
                return [builder.fadd(final, biases[v]) for (_, v), final in zip(cells, finals, strict=True)]

            results = either(biased, plus_bias, finals)
            reached = builder.icmp_signed(">=", cols, constant(vectors * lanes))
            whole = ir.Constant(ir.IntType(1), 1) if packed else reached
            with builder.if_else(whole, likely=True) as (uncut, masked):  # a masked store takes many times as long
                with uncut:
                    for (r, v), value in zip(cells, results, strict=True):
                        builder.store(value, place(c_rows[r], v), align=align)
                with masked:
                    for (r, v), value in zip(cells, results, strict=True):
                        if v in edges:
                            masked_store(builder, value, place(c_rows[r], v), edges[v])
                        else:
                            builder.store(value, place(c_rows[r], v), align=align)

        return codegen

    word, flag = types.int64, types.boolean

    def tile(
        typingctx: Any, height: Any, a: Any, a_row: Any, a_k: Any, b: Any, b_k: Any, c: Any, c_row: Any,
        bias: Any, cols: Any, depth: Any, fresh: Any, biased: Any,
    ) -> Any:  # fmt: skip
        return types.void(word, a, word, word, b, word, c, word, bias, word, word, flag, flag), lowered(c.dtype)

    def asking(
        typingctx: Any, height: Any, a: Any, a_row: Any, a_k: Any, b: Any, b_k: Any, c: Any, c_row: Any,
        bias: Any, cols: Any, depth: Any, fresh: Any, biased: Any,
        below: Any, rows: Any, ahead: Any, row: Any, more: Any, length: Any,
    ) -> Any:  # fmt: skip
        operands = (word, a, word, word, b, word, c, word, bias, word, word, flag, flag)
        return types.void(*operands, below, word, ahead, word, word, word), lowered(c.dtype)

    return intrinsic(asking if asks else tile)


def _row_addresses(builder: Any, p: Any, row: Any, count: Any, lanes: int) -> list[Any]:
    """Pointers to the first ``lanes`` rows; those from ``count`` on point to the last row that there is."""
    i64 = ir.IntType(64)
    last = builder.sub(count, ir.Constant(i64, 1))
    found = []
    for i in range(lanes):
        index = ir.Constant(i64, i)
        index = builder.select(builder.icmp_signed("<", index, last), index, last)
        found.append(builder.gep(p, [builder.mul(row, index)]))
    return found


@intrinsic
def _turn(typingctx: Any, b: Any, b_col: Any, cols: Any, panel: Any, row: Any) -> Any:
    """panel[k * row + j] = b[k + j * b_col], k < ``_STRIDE``, the j < ``cols`` of one vector (others: any)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        b, b_col, cols, panel, row = args
        kind = sig.args[0].dtype
        addresses = _row_addresses(builder, b, b_col, cols, native(kind))
        for k, value in enumerate(turned(builder, context.get_value_type(kind), addresses, _STRIDE)):
            place = builder.gep(panel, [builder.mul(row, ir.Constant(ir.IntType(64), k))])
            builder.store(value, builder.bitcast(place, value.type.as_pointer()), align=align)
        return context.get_dummy_value()

    align, word = b.dtype.bitwidth // 8, types.int64
    return types.void(b, word, word, panel, word), codegen


def _dots(groups: int, abreast: bool) -> Any:
    """The intrinsic for a matrix times a column, or several ``abreast``.

    It takes the rows of one vector, maybe cut, or of more, which are whole.
    """

    def dots(
        typingctx: Any, a: Any, a_row: Any, m: Any, b: Any, b_k: Any, b_col: Any, cols: Any, c: Any, c_col: Any,
        depth: Any,
    ) -> Any:  # fmt: skip
        """c[i + j * c_col] = the chain of a[i * a_row + k] b[k * b_k + j * b_col] over k < ``depth``.

        For the i < ``m`` of the vectors and the j < ``cols`` of the columns; further ones repeat the last of those.
        """
        element, word = a.dtype, types.int64

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            a, a_row, m, b, b_k, b_col, cols, c, c_col, depth = args
            kind, lanes, i64 = context.get_value_type(element), native(element), ir.IntType(64)
            vector, columns = ir.VectorType(kind, lanes), max(lanes // _SHARE, 1) if abreast else 1
            starts = [builder.mul(a_row, ir.Constant(i64, group * lanes)) for group in range(groups)]
            tops = [opaque(builder, builder.gep(a, [start])) for start in starts]
            heads = _row_addresses(builder, b, b_col, cols, columns)
            cells = [(group, j) for group in range(groups) for j in range(columns)]

            def rows(group: int, k: Any) -> list[Any]:
                if groups == 1:
                    return _row_addresses(builder, builder.gep(a, [k]), a_row, m, lanes)
                firsts, steps = _leaders(builder, builder.gep(tops[group], [k]), a_row, lanes)
                return [_at(builder, firsts[r // 3], *steps[r % 3]) for r in range(lanes)]

            def several(addresses: list[Any]) -> list[Any]:
                return turned(builder, kind, addresses, _STRIDE)

            def one(addresses: list[Any]) -> list[Any]:
                column = ir.Constant(vector, ir.Undefined)
                for lane, address in enumerate(addresses):
                    column = builder.insert_element(column, builder.load(address), ir.Constant(ir.IntType(32), lane))
                return [column]

            def chain(start: Any, totals: Any, turn: Callable[[list[Any]], list[Any]], stride: int) -> Any:
                """Go on by ``stride`` k from ``start`` as far as ``depth`` allows: (k, totals)."""
                before = builder.block
                head, body, after = (builder.append_basic_block(name) for name in ("head", "k", "done"))
                builder.branch(head)
                builder.position_at_end(head)
                k, running = builder.phi(i64), [builder.phi(vector) for _ in totals]
                following = builder.add(k, ir.Constant(i64, stride))
                builder.cbranch(builder.icmp_signed("<=", following, depth), body, after)
                builder.position_at_end(body)
                places = [builder.mul(builder.add(k, ir.Constant(i64, i)), b_k) for i in range(stride)]
                turns = [turn(rows(group, k)) for group in range(groups)]
                results = []
                for (group, j), total in zip(cells, running, strict=True):
                    result = Term(builder, total)
                    for column, place in zip(turns[group], places, strict=True):
                        factor = Term(builder, builder.load(builder.gep(heads[j], [place])))
                        result = result.like(factor).call("fma", Term(builder, column), result)
                    results.append(result.value)
                for phi, first, later in [(k, start, following), *zip(running, totals, results, strict=True)]:
                    phi.add_incoming(first, before)
                    phi.add_incoming(later, builder.block)
                builder.branch(head)
                builder.position_at_end(after)
                return k, running

            zero = ir.Constant(vector, [0.0] * lanes)
            k, totals = chain(ir.Constant(i64, 0), [zero] * len(cells), several, _STRIDE)
            _, totals = chain(k, totals, one, 1)
            for (group, j), total in zip(cells, totals, strict=True):
                first, column = ir.Constant(i64, group * lanes), ir.Constant(i64, j)
                place = _at(builder, c, first, builder.mul(c_col, column))
                with builder.if_then(builder.icmp_signed("<", column, cols)):
                    mask = first_lanes(builder, builder.sub(m, first), lanes)
                    masked_store(builder, total, builder.bitcast(place, vector.as_pointer()), mask)
            return context.get_dummy_value()

        return types.void(a, word, word, b, word, word, word, c, word, word), codegen

    return intrinsic(dots)


#: Chains wait for their own results: others fill the time, of more columns, if B has them, or of a second vector of
#: rows, which must not alias the first.
_abreast, _two_vectors = _dots(1, abreast=True), _dots(2, abreast=False)


def _rows(vectors: int, share: int = 1, packed: bool = False) -> Any:
    """All rows of a panel of so many vectors, by as few tiles as can be, which differ by a row at most."""
    tile = _tile(vectors, share, packed=packed)

    @inlined
    def rows(
        a: Any, m: Any, a_row: Any, a_k: Any, b: Any, b_k: Any, c: Any, c_row: Any,
        bias: Any, cols: Any, depth: Any, fresh: Any, biased: Any,
    ) -> None:  # fmt: skip
        tiles = parts(m, TALL)
        while tiles:
            height = m // tiles
            tile(height, a, a_row, a_k, b, b_k, c, c_row, bias, cols, depth, fresh, biased)
            a, c = offset(a, height * a_row), offset(c, height * c_row)
            m, tiles = m - height, tiles - 1

    return rows


_wide, _slim, _half, _long = _rows(2), _rows(1), _rows(1, share=2), _tile(_LONG, heights=(2,))
_broad = _tile(_LONG // 2, heights=range(3, 7))
_packed = _rows(2, packed=True)
_asking = _tile(2, heights=range(_LOW, TALL + 1), packed=True, asks=True)


@kernel("TTT*T", ints=9)
def _panel(
    a: Any, b: Any, c: Any, bias: Any, m: Any, a_row: Any, a_k: Any, b_k: Any, c_row: Any,
    cols: Any, depth: Any, fresh: Any, biased: Any,
) -> None:  # fmt: skip
    """``cols`` columns of C, at most two vectors; of two rows at most ``_LONG``, and of three to six half of that."""
    if cols <= width(c) // 2:  # half as wide, and twice as fast
        _half(a, m, a_row, a_k, b, b_k, c, c_row, bias, cols, depth, fresh != 0, biased != 0)
    elif cols <= width(c):
        _slim(a, m, a_row, a_k, b, b_k, c, c_row, bias, cols, depth, fresh != 0, biased != 0)
    elif cols == b_k == 2 * width(c) and a_k == 1:
        _packed(a, m, a_row, a_k, b, b_k, c, c_row, bias, cols, depth, fresh != 0, biased != 0)
    elif cols <= 2 * width(c):
        _wide(a, m, a_row, a_k, b, b_k, c, c_row, bias, cols, depth, fresh != 0, biased != 0)
    elif m > 2:
        _broad(m, a, a_row, a_k, b, b_k, c, c_row, bias, cols, depth, fresh != 0, biased != 0)
    else:
        _long(2, a, a_row, a_k, b, b_k, c, c_row, bias, cols, depth, fresh != 0, biased != 0)


@function
def _pack(b: Any, b_k: Any, b_col: Any, cols: Any, first: Any, stop: Any, panel: Any) -> None:
    """Copy rows ``first`` to ``stop`` of two vectors of B, of which ``cols`` columns exist, into the panel."""
    w = width(b)
    if b_col == 1:
        for k in range(first, stop):
            p, q = offset(b, k * b_k), offset(panel, k * 2 * w)
            store(q, 0, 2 * w, load(p, 0, cols))
            if cols > w:
                store(q, w, 2 * w, load(p, w, cols))
        return
    done = first
    if b_k == 1:
        done = first + (stop - first) // _STRIDE * _STRIDE
        for j in range(0, cols, w):
            for k in range(first, done, _STRIDE):
                _turn(offset(b, k + j * b_col), b_col, cols - j, offset(panel, k * 2 * w + j), 2 * w)
    for j in range(cols):
        for k in range(done, stop):
            panel[k * 2 * w + j] = b[k * b_k + j * b_col]


@function
def aliases(p: Any, row: Any) -> Any:
    """Whether rows fall into the same sets of the first-level cache."""
    return row * itemsize(p) % _ALIAS == 0


@function
def crowded(b: Any, row: Any, depth: Any, m: Any) -> Any:
    """Whether rows of B are better copied together, though they are contiguous, for ``m`` rows of A.

    They are if they fall into 8 sets of the first-level cache at most, which do not hold them, and six tiles or more
    read them: 1.1 to 1.2 of the speed at 128 x 128 x 128, on a Zen 3.
    """
    return row * itemsize(b) % (_ALIAS // 8) == 0 and depth > 8 * _WAYS and m > 5 * TALL


@function
def itemsize(p: Any) -> Any:
    """Bytes in an element."""
    return VECTOR_BYTES // width(p)


@function
def _copy(x: Any, x_row: Any, rows: Any, cols: Any, y: Any, y_row: Any) -> None:
    """Copy a block of contiguous rows."""
    for i in range(rows):
        p, q = offset(x, i * x_row), offset(y, i * y_row)
        for j in range(0, cols, width(x)):
            store(q, j, cols, load(p, j, cols))


@function
def _turned_copy(x: Any, x_col: Any, rows: Any, cols: Any, y: Any, y_row: Any) -> None:
    """Copy a block whose columns are contiguous, so that its rows are."""
    whole, w = rows - rows % _STRIDE, width(x)
    for j in range(0, cols, w):
        for i in range(0, whole, _STRIDE):
            _turn(offset(x, j * x_col + i), x_col, cols - j, offset(y, i * y_row + j), y_row)
        for i in range(whole, rows):
            for k in range(j, min(j + w, cols)):
                y[i * y_row + k] = x[k * x_col + i]


@function
def stretch(n: Any, w: Any) -> Any:
    """How many of n columns a row of B passes along at once: all, or parts alike, whose sums have room."""
    times = (n - 1) // ((_SUMS - 1) * w) + 1
    return (n - 1) // times + 1


@function
def _sweep(a: Any, depth: Any, a_k: Any, b: Any, n: Any, b_k: Any, c: Any) -> None:
    """c (n,) = a (depth,) b, n at least a vector: eight rows of B at a time pass along the sums, a stretch of them.

    Each vector of B lies in one line where its rows can be cut so, for 1.8 of the speed at 1 x 256 x 256, on an Emerald
    Rapids. The first and the last may reach over others then: what both compute is the same.
    """
    w, whole = width(c), depth // 8 * 8
    most, sums = stretch(n, w), scratch(c, _SUMS)
    for first in range(0, n, most):
        left, cols = offset(b, first), min(most, n - first)
        early = behind(left) if b_k % w == 0 else 0
        end = cols + early
        for v in range(0, end, w):
            store(sums, v, v + w, spread(0.0, load(sums, v, v + w)))
        for k in range(0, whole, 8):
            x, row0 = offset(a, k * a_k), offset(left, k * b_k)
            x0, x1, x2, x3 = x[0], x[a_k], x[2 * a_k], x[3 * a_k]
            x4, x5, x6, x7 = x[4 * a_k], x[5 * a_k], x[6 * a_k], x[7 * a_k]
            row1, row2, row3 = offset(row0, b_k), offset(row0, 2 * b_k), offset(row0, 3 * b_k)
            row4 = offset(row0, 4 * b_k)
            row5, row6, row7 = offset(row4, b_k), offset(row4, 2 * b_k), offset(row4, 3 * b_k)
            for v in range(0, end, w):
                j = max(0, min(v - early, cols - w))
                total = fma(x0, load(row0, j, j + w), load(sums, v, v + w))
                total = fma(x1, load(row1, j, j + w), total)
                total = fma(x2, load(row2, j, j + w), total)
                total = fma(x3, load(row3, j, j + w), total)
                total = fma(x4, load(row4, j, j + w), total)
                total = fma(x5, load(row5, j, j + w), total)
                total = fma(x6, load(row6, j, j + w), total)
                store(sums, v, v + w, fma(x7, load(row7, j, j + w), total))
        for k in range(whole, depth):
            x0, row0 = a[k * a_k], offset(left, k * b_k)
            for v in range(0, end, w):
                j = max(0, min(v - early, cols - w))
                store(sums, v, v + w, fma(x0, load(row0, j, j + w), load(sums, v, v + w)))
        for v in range(0, end, w):
            j = first + max(0, min(v - early, cols - w))
            store(c, j, j + w, load(sums, v, v + w))


@function
def _columns(a: Any, m: Any, depth: Any, a_row: Any, b: Any, b_k: Any, b_col: Any, cols: Any, c: Any) -> None:
    """c (cols, m) = the transpose of a (m, depth; rows contiguous) b (depth, cols)."""
    w, done = width(c), 0
    while cols == 1 and m - done >= 2 * w and not aliases(a, a_row):
        _two_vectors(offset(a, done * a_row), a_row, m - done, b, b_k, 0, 1, offset(c, done), 0, depth)
        done += 2 * w
    while done < m:
        _abreast(offset(a, done * a_row), a_row, m - done, b, b_k, b_col, cols, offset(c, done), m, depth)
        done += w


@function
def aside(m: Any, depth: Any, n: Any, w: Any, a_row: Any, a_k: Any) -> Any:
    """How many of the last columns of C are computed aside: so few that vectors of ``w`` of them are mostly empty.

    A vector of rows takes their place: of A as it lies where its columns are contiguous, else turned, for fewer
    columns: of several, if what is left of k beside whole strides, which is turned one by one, is little.
    """
    few = n % (2 * w)
    most = w // 2
    if a_row != 1:
        most = 0 if a_k != 1 else max(w // _SHARE, 1) if 16 * (depth % _STRIDE) <= depth else 1
    return few if few <= most and m >= w // 2 and few * m <= _ASIDE * w else 0


@function
def reach(m: Any, w: Any) -> Any:
    """How many columns a tile of so many rows takes where B passes once; 0 where it passes as panels."""
    if m < 2 or m > 6:
        return 0
    return w * (_LONG if m == 2 else _LONG // 2)


@function
def _multiply(
    a: Any, m: Any, depth: Any, a_row: Any, a_k: Any, b: Any, n: Any, b_k: Any, b_col: Any, c: Any, c_row: Any,
    bias: Any, biased: Any,
) -> None:  # fmt: skip
    """c (m, n; rows contiguous) = a (m, depth) b (depth, n), plus bias (n,) if ``biased``.

    The last columns may be computed aside: see :func:`aside`.
    """
    if n == 1:
        if a_k == 1:
            _columns(a, m, depth, a_row, b, b_k, 0, 1, c)
        else:
            _panels(b, 1, depth, b_col, b_k, a, m, a_k, a_row, c, m, c, False)
        if biased:
            for i in range(m):
                c[i] += bias[0]
        return
    w = width(c)
    few = aside(m, depth, n, w, a_row, a_k)
    if few:
        n -= few
        last, y = offset(b, n * b_col), scratch(c, _ASIDE)
        if a_row == 1:
            _panels(last, few, depth, b_col, b_k, a, m, a_k, 1, y, m, c, False)
        else:
            _columns(a, m, depth, a_row, last, b_k, b_col, few, y)
        for i in range(m):
            for j in range(few):
                c[i * c_row + n + j] = y[j * m + i] + bias[n + j] if biased else y[j * m + i]
    _panels(a, m, depth, a_row, a_k, b, n, b_k, b_col, c, c_row, bias, biased)


@function
def _panels(
    a: Any, m: Any, depth: Any, a_row: Any, a_k: Any, b: Any, n: Any, b_k: Any, b_col: Any, c: Any, c_row: Any,
    bias: Any, biased: Any,
) -> None:  # fmt: skip
    """The same, a panel of B after the other, in registers and stack alone; so many rows of A as the cache can hold."""
    w = width(c)
    if m == 1 and b_col == 1 and n > 2 * w:
        _sweep(a, depth, a_k, b, n, b_k, c)
        for j in range(n if biased else 0):
            c[j] += bias[j]
        return
    far = reach(m, w)
    if far and b_col == 1:
        for j in range(0, n, far):
            p, q, r, cols = offset(b, j), offset(c, j), offset(bias, j), min(far, n - j)
            _panel(a, p, q, r, m, a_row, a_k, b_k, c_row, cols, depth, True, biased)
        return
    panel, step = scratch(c, _PANEL), max(m, 1)
    if a_k == 1 and aliases(a, a_row):
        tiles = parts(step, _WAYS)
        step = parts(step, tiles)
    early = behind(b) if b_col == 1 and b_k % w == 0 and n >= _MANY * 2 * w else 0
    for v in range(-early, n, 2 * w):
        j = max(v, 0)
        cols = min(v + 2 * w, n) - j
        for start in range(0, max(depth, 1), DEPTH):
            steps = min(DEPTH, depth - start)
            rows_of_b, row = offset(b, start * b_k + j * b_col), b_k
            if b_col != 1 or crowded(b, b_k, steps, m):
                _pack(rows_of_b, b_k, b_col, cols, 0, steps, panel)
                rows_of_b, row = panel, 2 * w
            p, q, r = offset(a, start * a_k), offset(c, j), offset(bias, j)
            fresh, last = start == 0, biased and start + DEPTH >= depth
            for i in range(0, m, step):
                rows, x, y = min(step, m - i), offset(p, i * a_row), offset(q, i * c_row)
                _panel(x, rows_of_b, y, r, rows, a_row, a_k, row, c_row, cols, steps, fresh, last)


@function
def _take(turns: Any, stage: Any, stages: Any, panels: Any, last: Any) -> Any:
    """The next panel that nobody has taken, as ``panels`` times its stage and its number; from ``stage`` on.

    A stage's counter holds how many were taken from the first on, and above 32 bits from the last on, if ``last``.
    """
    while stage < stages:
        before = atomic_add(turns, stage, 1 << 32 if last else 1)
        low, high = before & 0xFFFFFFFF, before >> 32
        if low + high < panels:
            return stage * panels + (panels - 1 - high if last else low)
        stage += 1
    return stages * panels


@function
def _blocks(
    a: Any, m: Any, depth: Any, a_row: Any, a_k: Any, b: Any, n: Any, b_k: Any, b_col: Any, c: Any, c_row: Any,
    bias: Any, biased: Any, turns: Any, kept: Any, own: Any, block: Any, deep: Any, row: Any, backwards: Any,
) -> None:  # fmt: skip
    """The same for large ones: of ``deep`` k, ``block`` rows of A stay in the second-level cache while panels pass.

    Such a block is a *stage*. Several threads may call this at once with the same ``turns``, zeros at first: for each
    stage which panels are taken (:func:`_take`), and then for each panel how many stages it is through. A thread that
    finds nothing left is done, and one that comes late finds less. ``backwards``: it takes the last panels first, so
    that of two threads each meets the panels, and the columns of C, that its own cache holds.

    Rows of A are copied together, ``row`` apart, where they are not contiguous, or alias. A panel of B is, too, a part
    of it after each tile of the panel before it. ``own`` has room for two panels and a block of A; where there are
    several blocks, ``kept`` has for all panels. Each tile asks for the part that follows it, of
    B or, where B is far, of the panel that was kept, and for C's next tile.
    """
    w, kept, own = width(c), aligned(kept), aligned(own)
    size, panels, blocks = 2 * w * deep, parts(n, 2 * w), parts(m, block)
    packed_a = offset(own, 2 * size)
    near = n * deep * itemsize(c) <= _NEAR
    p, p_row, p_k = a, a_row, a_k
    start = top = steps = rows = tiles = side = 0
    stages = blocks * parts(depth, deep)
    through, stage, packed, last = offset(turns, stages), -1, -1, panels * stages
    turn = _take(turns, 0, stages, panels, backwards)
    while turn < last:
        if turn // panels != stage:
            stage = turn // panels
            start, top = stage // blocks * deep, stage % blocks * block
            steps, rows = min(deep, depth - start), min(block, m - top)
            tiles = parts(rows, TALL)
            p, p_row, p_k = offset(a, top * a_row + start * a_k), a_row, a_k
            if a_k == 1 and aliases(a, a_row):
                _copy(p, a_row, rows, steps, packed_a, row)
                p, p_row = packed_a, row
            elif a_k != 1 and a_row == 1:
                _turned_copy(p, a_k, rows, steps, packed_a, row)
                p, p_row, p_k = packed_a, row, 1
        at = turn % panels
        j = at * 2 * w
        cols = min(2 * w, n - j)
        while atomic_read(through, at) < stage:
            pass
        panel = offset(kept, at * size) if blocks > 1 else offset(own, side * size)
        if top == 0 and packed != turn:
            _pack(offset(b, start * b_k + j * b_col), b_k, b_col, cols, 0, steps, panel)
        later = _take(turns, stage, stages, panels, backwards)
        next_at, next_stage = later % panels, later // panels
        next_j, next_start, next_top = next_at * 2 * w, next_stage // blocks * deep, next_stage % blocks * block
        next_steps, more = min(deep, depth - next_start), min(2 * w, n - next_j)
        next_panel = offset(kept, next_at * size) if blocks > 1 else offset(own, (1 - side) * size)
        packs = later < last and next_top == 0 and (blocks == 1 or atomic_read(through, next_at) >= next_stage)
        next_b, next_k, next_col = next_panel, 2 * w, 1
        if packs:
            next_b, next_k, next_col = offset(b, next_start * b_k + next_j * b_col), b_k, b_col
        asks = packs or (later < last and next_top > 0 and not near)
        part = parts(parts(next_steps, tiles), _STRIDE) * _STRIDE
        x, y, left, done = p, offset(c, top * c_row + j), rows, 0
        fresh, biases = start == 0, biased and start + deep >= depth
        for i in range(tiles, 0, -1):
            height = left // i
            left -= height
            stop = min(done + part, next_steps)
            row_ahead, rows_ahead, length = next_k, stop - done, more
            if next_col != 1:
                row_ahead, rows_ahead, length = next_col, more, stop - done
            if not asks:
                rows_ahead = 0
            below, rows_below = offset(y, height * c_row), min(TALL, left)
            if i == 1 and later < last:
                below, rows_below = offset(c, next_top * c_row + next_j), min(TALL, m - next_top)
            if cols == 2 * w and p_k == 1 and height >= _LOW:
                _asking(
                    height, x, p_row, p_k, panel, 2 * w, y, c_row, offset(bias, j), cols, steps, fresh, biases,
                    below, rows_below, offset(next_b, done * next_k), row_ahead, rows_ahead, length,
                )  # fmt: skip
            else:
                _panel(x, panel, y, offset(bias, j), height, p_row, p_k, 2 * w, c_row, cols, steps, fresh, biases)
            x, y = offset(x, height * p_row), offset(y, height * c_row)
            if packs:
                _pack(next_b, next_k, next_col, more, done, stop, next_panel)
            done = stop
        atomic_write(through, at, stage + 1)
        packed = later if packs else -1
        turn, side = later, 1 - side


@kernel("i*", ints=1)
def _clear(x: Any, n: Any) -> None:
    """Zeros for x[:n]."""
    for i in range(n):
        x[i] = 0


@kernel("MMM*Ti*T*T*", ints=5, uses=[_panel])
def _blocked(
    a: Any, m: Any, depth: Any, a_row: Any, a_k: Any, b: Any, _b: Any, n: Any, b_k: Any, b_col: Any,
    c: Any, _m: Any, _n: Any, c_row: Any, _c: Any, bias: Any, turns: Any, kept: Any, own: Any,
    biased: Any, block: Any, deep: Any, row: Any, backwards: Any,
) -> None:  # fmt: skip
    """c = a b, plus bias if ``biased``, by :func:`_blocks`; the rows of c are contiguous."""
    _blocks(
        a, m, depth, a_row, a_k, b, n, b_k, b_col, c, c_row, bias, biased != 0, turns, kept, own, block, deep, row,
        backwards != 0,
    )  # fmt: skip


@kernel("MMM*T", ints=1, uses=[_panel])
def _gemm(
    a: Any, m: Any, depth: Any, a_row: Any, a_k: Any, b: Any, _b: Any, n: Any, b_k: Any, b_col: Any,
    c: Any, _m: Any, _n: Any, c_row: Any, _c: Any, bias: Any, biased: Any,
) -> None:  # fmt: skip
    """The same for small ones."""
    _multiply(a, m, depth, a_row, a_k, b, n, b_k, b_col, c, c_row, bias, biased != 0)


@kernel("MMM*", ints=0, uses=[_gemm], makes=_SMALL)
def _product(
    a: Any, m: Any, depth: Any, a_row: Any, a_k: Any, b: Any, _b: Any, n: Any, b_k: Any, b_col: Any,
    c: Any, _m: Any, _n: Any, c_row: Any, c_col: Any,
) -> None:  # fmt: skip
    """c = a b; the rows of c are contiguous. With so few operands a call takes 0.03 microseconds less."""
    _gemm(a, m, depth, a_row, a_k, b, depth, n, b_k, b_col, c, m, n, c_row, c_col, c, 0)


@kernel("BBB*", ints=0, uses=[_gemm])
def _matmul_batch(
    a: Any, batch: Any, m: Any, depth: Any, a_batch: Any, a_row: Any, a_k: Any,
    b: Any, _b: Any, _k: Any, n: Any, b_batch: Any, b_k: Any, b_col: Any,
    c: Any, _c: Any, _m: Any, _n: Any, c_batch: Any, c_row: Any, c_col: Any,
) -> None:  # fmt: skip
    """c[i] = a[i] b[i]; the rows of c are contiguous."""
    for i in range(batch):
        p, q, r = offset(a, i * a_batch), offset(b, i * b_batch), offset(c, i * c_batch)
        _gemm(p, m, depth, a_row, a_k, q, depth, n, b_k, b_col, r, m, n, c_row, c_col, r, 0)


def _large(a: Array, b: Array, out: Array, bias: Array | None = None) -> None:
    """out = a b, plus bias, with room to copy blocks of both together, and by several threads.

    They take panels of B in turn, from both ends, or, where there are few, share the rows of A.
    """
    (m, n), k, dtype = out.shape, a.shape[1], a.dtype
    lanes, size = 2 * VECTOR_BYTES // dtype.itemsize, dtype.itemsize
    share, panels = max(1, min(POOL.size, m * k * n // _THREAD)), -(-n // lanes)
    pieces = -(-k // _DEEP)
    deep = k if k <= _ONCE else -(-k // (pieces * _STRIDE)) * _STRIDE
    row = -(-deep // _STRIDE) * _STRIDE + _STRIDE
    row += _STRIDE if row * size % _ALIAS == 0 else 0
    together = panels >= _TURNS * share
    rows = m if together else -(-m // (TALL * share)) * TALL  # whole tiles
    most = _BLOCK // (deep * size)
    if n * deep * size <= _NEAR:
        most = TALL if k <= _FLAT and a.strides[1] == size else min(most, _FEW)
    blocks = -(-rows // most)
    block = -(-rows // (blocks * TALL)) * TALL
    stages = -(-rows // block) * -(-k // deep)
    turns = empty((-(-m // rows), stages + panels), np.int64)
    _clear[dtype](turns, turns.size)
    recorded = not isinstance(dtype, np.dtype)  # then the room is planned, as all memory is
    launches, rooms = [], []

    def room(count: int) -> Array:
        """Some more numbers than so many, for the beginning is aligned."""
        rooms.append(empty(count + lanes, dtype) if recorded else POOL.borrow(count + lanes, dtype))
        return rooms[-1]

    for start, shared in zip(range(0, m, rows), turns, strict=True):
        x, z = a[start : start + rows], out[start : start + rows]
        kept = room(panels * lanes * deep) if rows > block else None
        for number in range(share if together else 1):
            own = room(2 * lanes * deep + block * row)
            added, known = z if bias is None else bias, own if kept is None else kept
            launches.append((x, b, z, added, shared, known, own, bias is not None, block, deep, row, number % 2))
    if len(launches) == 1:
        _blocked[dtype](*launches[0])
    else:
        POOL.run([_blocked.unlocked(*launch) for launch in launches])
    if not recorded:
        POOL.give_back(rooms)


def _in_blocks(m: int, k: int, n: int, size: int) -> bool:
    """Whether a product of numbers of so many bytes works in blocks: it is large, and each panel is used often enough.

    Half as often is, where B is far, as panels are asked for there: 1.3 to 1.9 of the speed at 32 x 1024 x 1024.
    """
    rows = _PACK_ROWS if k * n * size < _NEAR else _PACK_ROWS // 2
    return m >= rows and m * k * n >= _LARGE and n > 1


def matmul(a: Array, b: Array) -> Array:
    """(..., m, k) times (..., k, n), batch axes broadcast, any strides: a new C-contiguous (..., m, n)."""
    if (made := _product[a.itemsize](a, b)) is not None:
        return made
    try:
        (m, k), (depth, n) = a.shape, b.shape
    except ValueError:
        return _batches(a, b)
    if k != depth:
        raise ValueError("the shapes disagree")
    out = empty((m, n), dtype := a.dtype)
    if _in_blocks(m, k, n, dtype.itemsize):
        _large(a, b, out)
    else:
        _product[dtype](a, b, out)
    return out


def _batches(a: Array, b: Array) -> Array:
    if a.shape[-1] != b.shape[-2]:
        raise ValueError("the shapes disagree")
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    out = empty((*batch, a.shape[-2], b.shape[-1]), a.dtype)
    if out.size:
        a, b = (np.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (a, b))
        count = out.size // (out.shape[-2] * out.shape[-1])
        _matmul_batch[a.dtype](*(x.reshape(count, *x.shape[-2:]) for x in (a, b, out)))
    return out


def linear(x: Array, w: Array, b: Array | None = None) -> Array:
    """x w^T + b: x (..., k), w (m, k), b (m,) or None; a new C-contiguous (..., m)."""
    shape, (n, k), dtype = x.shape, w.shape, x.dtype
    if shape[-1] != k or (b is not None and len(b) != n):
        raise ValueError("the shapes disagree")
    if len(shape) == 2:
        m = shape[0]
        out = c = empty((m, n), dtype)
    else:
        m = math.prod(shape[:-1])
        out = empty((*shape[:-1], n), dtype)
        x, c = x.reshape(m, k), out.reshape(m, n)
    bias = b if b is None or b.flags.c_contiguous else b.copy()
    if _in_blocks(m, k, n, dtype.itemsize):
        _large(x, w.T, c, bias)
    elif bias is None:
        _gemm[dtype](x, w.T, c, c, 0)
    else:
        _gemm[dtype](x, w.T, c, bias, 1)
    return out


matmul.checks_shapes = linear.checks_shapes = True  # type: ignore[attr-defined]  # ValueError if sizes disagree


@kernel("MMMM*M*T*", ints=3, uses=[_gemm])
def _linear_vjp(
    g: Any, rows: Any, m: Any, g_row: Any, g_col: Any, x: Any, _n: Any, _x: Any, x_row: Any, x_col: Any,
    w: Any, _m: Any, _k: Any, w_row: Any, w_col: Any, dx: Any, _n2: Any, wide: Any, dx_row: Any, dx_col: Any,
    dw: Any, _m2: Any, deep: Any, dw_row: Any, dw_col: Any, db: Any, to_x: Any, to_w: Any, to_b: Any,
) -> None:  # fmt: skip
    """dx = g w, dw = g^T x, db = the column sums of g, each if asked for; g is C-contiguous."""
    if to_x:
        _gemm(g, rows, m, g_row, g_col, w, m, wide, w_row, w_col, dx, rows, wide, dx_row, dx_col, dx, 0)
    if to_w:
        _gemm(g, m, rows, g_col, g_row, x, rows, deep, x_row, x_col, dw, m, deep, dw_row, dw_col, dw, 0)
    if to_b:
        column_sum(g, db, rows, m)


def linear_vjp(positions: tuple[int, ...]) -> Callable[[Array, Any, Any], list[Array]]:
    """The function (g, x, w) -> the cotangents of those of x, w, b (0, 1, 2) in ``positions``: see :func:`linear`.

    It launches one kernel where the products are small; the bits are those of ``matmul`` and ``sum``. ``x`` may be
    None if w's cotangent is not asked for, ``w`` if x's is not.
    """
    to_x, to_w, to_b = 0 in positions, 1 in positions, 2 in positions

    def run(g: Array, x: Any, w: Any) -> list[Array]:
        shape, dtype = g.shape, g.dtype
        if not g.flags.c_contiguous:
            g = np.ascontiguousarray(g)
        if len(shape) != 2:
            g = g.reshape(math.prod(shape[:-1]), shape[-1])
            x = None if x is None else x.reshape(len(g), x.shape[-1])
        dx = dw = db = g
        if (to_x and g.size * w.shape[1] >= _LARGE) or (to_w and g.size * x.shape[1] >= _LARGE):
            dx = matmul(g, w) if to_x else g
            dw = matmul(g.T, x) if to_w else g
            db = column_sums(g, (0,)) if to_b else g
        else:
            if to_x:
                dx = empty((len(g), w.shape[1]), dtype)
            if to_w:
                dw = empty((shape[-1], x.shape[1]), dtype)
            if to_b:
                db = empty(shape[-1], dtype)
            x, w = g if x is None else x, g if w is None else w
            _linear_vjp[dtype](g, x, w, dx, dw, db, to_x, to_w, to_b)
        if to_x and len(shape) != 2:
            dx = dx.reshape(*shape[:-1], dx.shape[1])
        return [found for found, asked in ((dx, to_x), (dw, to_w), (db, to_b)) if asked]

    return run
