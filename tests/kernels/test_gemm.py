import functools
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_tools import layouts, same

from minigrad.kernels import gemm, get_num_threads, set_num_threads
from minigrad.kernels.jit import address_of, kernel, recorded
from minigrad.kernels.pool import POOL
from minigrad.kernels.reduction import sum as sum_of
from minigrad.kernels.simd import fma, parts


def rounded(value, dtype):
    """A Fraction rounded once to the dtype (ties to even)."""
    if dtype == np.float64 or value == 0:
        return dtype.type(value.numerator / value.denominator)  # Python's quotient of integers rounds once
    near = np.float32(value.numerator / value.denominator)
    neighbours = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    return min(neighbours, key=lambda v: (abs(Fraction(float(v)) - value), int(v.view(np.uint32)) & 1))


def chain(a, b):
    """The promise in exact arithmetic: one rounding for each k."""
    out = np.zeros((len(a), b.shape[1]), a.dtype)
    for i, j in np.ndindex(*out.shape):
        total = a.dtype.type(0)
        for x, y in zip(a[i].tolist(), b[:, j].tolist(), strict=True):
            total = rounded(Fraction(x) * Fraction(y) + Fraction(float(total)), a.dtype)
        out[i, j] = total
    return out


@kernel("TT", ints=1)
def _told(x, out, row):
    out[0], out[1] = gemm.itemsize(x), 1.0 if gemm.aliases(x, row) else 0.0


@kernel("T*T*", ints=3)
def _crowded(x, out, row, depth, m):
    out[0] = 1.0 if gemm.crowded(x, row, depth, m) else 0.0


def test_parts_are_the_fewest_that_hold_all():
    for n in range(40):
        for size in range(1, 20):
            assert parts.py_func(n, size) == next(count for count in range(n + 1) if count * size >= n)


@pytest.mark.parametrize("row", [0, 1, 3, 255, 256, 511, 512, 513, 768, 1023, 1024, 1025, 1536, 2048, 3000, 4096])
def test_rows_that_evict_each_other_are_told(row, dtype):
    """Those that are a multiple of 4096 bytes apart."""
    out = np.empty(2, dtype)
    _told[dtype](out, out, row)
    assert out.tolist() == [dtype.itemsize, row * dtype.itemsize % 4096 == 0]


def test_rows_that_few_sets_do_not_hold_are_told(dtype):
    """More than 64 of them, a multiple of 512 bytes apart, where more than 5 whole tiles read them."""
    out, many = np.empty(1, dtype), 5 * gemm.TALL + 1
    for row, depth, m, told in (
        (512, 65, many, True), (1536, 500, 200, True), (256, 65, many, False), (512 + 64, 65, many, False),
        (512, 64, many, False), (512, 65, many - 1, False), (4096, 66, many + 1, True), (1 << 16, 65, many, True),
    ):  # fmt: skip
        _crowded[dtype](out, out, row // dtype.itemsize, depth, m)
        assert out.item() == told


def test_how_many_columns_are_computed_aside():
    """For vectors of 8: at most 4 of the last 16 where A's columns are contiguous; where its rows are, 2, or 1."""
    room = gemm._ASIDE * 8
    for m, n, a_row, a_k, few in (
        (4, 16, 1, 9, 0), (4, 17, 1, 9, 1), (4, 20, 1, 9, 4), (4, 21, 1, 9, 0), (4, 36, 1, 9, 4), (3, 17, 1, 9, 0),
        (4, 24, 1, 9, 0), (4, 25, 1, 9, 0), (4, 16, 9, 1, 0), (4, 17, 9, 1, 1), (4, 18, 9, 1, 2), (4, 19, 9, 1, 0),
        (3, 17, 9, 1, 0), (4, 17, 9, 2, 0), (room, 17, 9, 1, 1), (room + 1, 17, 9, 1, 0), (room // 4, 20, 1, 9, 4),
        (1, 1, 1, 1, 0), (room // 4 + 1, 20, 1, 9, 0), (4, 18, 1, 1, 2), (4, 33, 9, 1, 1),
    ):  # fmt: skip
        assert gemm.aside.py_func(m, 16, n, 8, a_row, a_k) == few, (m, n, a_row, a_k)
    for depth, few in ((239, 0), (255, 2), (17, 2), (18, 0), (31, 0), (32, 2), (34, 2), (35, 0), (100, 2), (0, 2)):
        assert gemm.aside.py_func(4, depth, 18, 8, 9, 1) == few, depth
        assert gemm.aside.py_func(4, depth, 17, 8, 9, 1) == 1
        assert gemm.aside.py_func(4, depth, 20, 8, 1, 9) == 4
    assert [gemm.aside.py_func(4, 16, w, 4, 9, 1) for w in (9, 10, 11)] == [1, 0, 0]


def test_how_many_columns_a_row_passes_along():
    """Few times, alike, and the sums have room, though the first vector may begin before them."""
    room = gemm._SUMS * 8
    for n in (1, 9, room - 9, room - 8, room - 7, room, 2 * room - 16, 2 * room - 15, 10 * room, 12345):
        most = gemm.stretch.py_func(n, 8)
        times = -(-n // most)
        assert most + 7 <= room - 1
        assert (times - 1) * (room - 8) < n
        assert n - (times - 1) * most > most - times


def test_how_far_a_tile_of_few_rows_reaches():
    lanes = [gemm.reach.py_func(m, 8) for m in range(9)]
    assert lanes == [0, 0, 8 * gemm._LONG, *[gemm._LONG // 2 * 8] * 4, 0, 0]


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (13, 9, 4), (5, 40, 17), (3, 7, 35), (1, 300, 2)])
def test_one_chain_of_fused_multiply_adds(shape, dtype, rng):
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    want, bias = chain(a, b), rng.standard_normal(n).astype(dtype)
    assert same(gemm.matmul(a, b), want)
    assert same(gemm.linear(a, b.T), want)
    assert same(gemm.linear(a, b.T.copy(), bias), want + bias)


@kernel("MMM", ints=0)
def _plain(a, m, depth, a_row, a_k, b, _b, n, b_k, b_col, c, _m, _n, c_row, c_col):
    """The same promise at machine speed, an element after the other."""
    for i in range(m):
        for j in range(n):
            total = c[i * c_row + j * c_col]
            for k in range(depth):
                total = fma(a[i * a_row + k * a_k], b[k * b_k + j * b_col], total)
            c[i * c_row + j * c_col] = total


def plain(a, b):
    out = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    _plain[a.dtype](a, b, out)
    return out


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(1, 21, 64), (2, 21, 64), (7, 20, 64), (100, 20, 64), (20, 64, 1), (300, 300, 300)])
def test_numbers_that_are_repeated_or_left_out_without_a_copy(shape, order, dtype, rng):
    """Strides of 0 and of 2, along either axis of either operand."""
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(dtype), np.asarray(rng.standard_normal((k, n)).astype(dtype), order=order)
    for x in (a, a.repeat(2, 1)[:, ::2], np.broadcast_to(a[:, :1], (m, k)), np.broadcast_to(a[:1], (m, k))):
        for y in (b, b.repeat(2, 0)[::2], np.broadcast_to(b[:, :1], (k, n)), np.broadcast_to(b[:1], (k, n))):
            assert same(gemm.matmul(x, y), gemm.matmul(x.copy(), y.copy()))


@pytest.mark.parametrize("k", [1, 10, 300, 2000])
def test_the_error_is_within_the_bound_of_a_chain(k, dtype, rng):
    """γ_k Σ |a||b| (Higham 2002, 3.1), against exact arithmetic."""
    unit = np.finfo(dtype).eps / 2
    a, b = ((rng.standard_normal((3, k)) * 10.0 ** rng.uniform(-6, 6, (3, k))).astype(dtype) for _ in range(2))
    c = gemm.matmul(a, b.T)
    for i, j in np.ndindex(3, 3):
        terms = [Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a[i], b[j], strict=True)]
        error = abs(Fraction(float(c[i, j])) - sum(terms))
        assert error <= k * unit / (1 - k * unit) * float(sum(map(abs, terms)))


def test_the_plain_loop_keeps_the_promise(dtype, rng):
    a, b = rng.standard_normal((5, 40)).astype(dtype), rng.standard_normal((40, 3)).astype(dtype)
    assert same(plain(a, b), chain(a, b))


# One size at least for each way through the kernel: a row, long rows, columns, panels in place and copied, rows of A
# that alias, blocks (the last panel of B whole, too, where it lies beside what is copied of A), a few columns aside, or
# too many for it; and every edge of each.
WAYS = [
    (1, 40, 600), (1, 43, 90), (2, 33, 257), (2, 600, 5), (3, 7, 200), (40, 33, 1), (5, 1, 1), (17, 600, 1),
    (70, 50, 1), (70, 1024, 1), (1, 19, 4200), (1, 8, 4170), (100, 100, 100), (35, 64, 34), (20, 33, 35),
    (18, 16, 2), (31, 5, 33), (60, 1030, 50), (15, 1024, 16), (33, 2048, 3), (16, 16, 2048), (70, 9, 4096),
    (200, 200, 200), (61, 700, 150), (150, 600, 77), (300, 1024, 40), (60, 1153, 80), (71, 66, 128), (240, 1024, 64),
    (5, 43, 200), (6, 600, 97), (4, 33, 129), (40, 70, 33), (65, 65, 65), (100, 30, 36), (20, 7, 4), (9, 1, 3),
    (7, 20, 33), (3, 20, 33), (1020, 5, 36), (1030, 5, 36), (4096, 2, 33), (4110, 2, 33), (9000, 2, 33),
]  # fmt: skip


@pytest.mark.parametrize("shape", WAYS)
@pytest.mark.parametrize("layout", ["CC", "CF", "FC", "FF", "strided"])
def test_every_way_through_gives_the_same_chain(shape, layout, dtype, rng):
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    if layout == "strided":
        a, b = np.repeat(a, 2, axis=1)[:, ::2], np.flip(np.flip(b).copy())
    else:
        a, b = np.asarray(a, order=layout[0]), np.asarray(b, order=layout[1])
    want, bias = plain(a, b), rng.standard_normal(n).astype(dtype)
    assert same(gemm.matmul(a, b), want)
    assert same(gemm.linear(a, b.T, bias), want + bias)
    assert same(gemm.matmul(np.stack([a, a]), b)[1], want)


@pytest.mark.parametrize("columns", [33, 48, 64, 100, 4160])
def test_a_row_times_a_matrix_wherever_it_lies(columns, dtype, rng):
    """Vectors that lie in one line each begin earlier, or later; a row beside the next, or with others between."""
    a = rng.standard_normal((1, 21)).astype(dtype)
    for pitch in (columns, columns + 5, -(-columns // 64) * 64):
        room = rng.standard_normal(21 * pitch + 64).astype(dtype)
        for first in range(0, 64, 1 if columns < 99 else 13):
            b = room[first : first + 21 * pitch].reshape(21, pitch)[:, :columns]
            for k in (21, 16, 7):
                assert same(gemm.matmul(a[:, :k], b[:k]), plain(a[:, :k], b[:k]))


@pytest.mark.parametrize("n", [3, 7, 13, 29, 32])
def test_tiles_of_every_height(n, dtype, rng):
    b, bias = rng.standard_normal((11, n)).astype(dtype), rng.standard_normal(n).astype(dtype)
    for m in range(1, 31):
        a = rng.standard_normal((m, 11)).astype(dtype)
        want = plain(a, b)
        assert same(gemm.matmul(a, b), want)
        assert same(gemm.linear(a, np.ascontiguousarray(b.T), bias), want + bias)


def test_small_products_are_made_at_once(dtype, rng):
    """The array is like any other, whatever the layouts, and nothing is kept of it or of its operands."""
    make, kept, fresh = gemm._product[dtype.itemsize], sys.getrefcount(None), np.empty(1)
    for m, k, n in ((1, 1, 1), (16, 16, 16), (5, 7, 3), (3, 0, 4), (0, 3, 4), (4, 3, 0), (101, 102, 101)):
        a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
        for x in layouts(a):
            for y in layouts(b):
                made = make(x, y)
                assert same(made, plain(a, b))
                assert type(made) is np.ndarray
                assert made.flags.c_contiguous
                assert made.flags.owndata
                assert made.flags.writeable
                assert made.dtype is dtype
                assert sys.getrefcount(made) == sys.getrefcount(fresh)
                assert gemm.matmul(x, y).tobytes() == made.tobytes()
    a = np.ones((2, 2), dtype)
    before = sys.getrefcount(a), sys.getrefcount(dtype), sys.getrefcount(np.ndarray)
    for _ in range(1000):
        make(a, a)
        make(a, a[0])
    assert (sys.getrefcount(a), sys.getrefcount(dtype), sys.getrefcount(np.ndarray)) == before
    assert sys.getrefcount(None) > kept - 100


def test_what_is_not_made_at_once(dtype, rng):
    """Arrays of subclasses, of other axes, numbers and byte orders, what does not fit, and what is not small."""
    make, a = gemm._product[dtype.itemsize], rng.standard_normal((4, 4)).astype(dtype)
    other, turned = np.dtype("f8" if dtype.itemsize == 4 else "f4"), dtype.newbyteorder()
    for x in (a.view(Own), a[0], a[None], a[0, 0, ...], a.astype(other), a.astype(turned), a.view(f"i{a.itemsize}")):
        assert make(x, a) is None
        assert make(a, x) is None
    for shape in ((5, 4), (3, 4), (0, 4)):
        assert make(a, np.ones(shape, dtype)) is None
        with pytest.raises(ValueError, match="disagree"):
            gemm.matmul(a, np.ones(shape, dtype))
    assert make(np.ones((128, 64), dtype), np.ones((64, 128), dtype)) is None
    assert make(np.ones((128, 64), dtype), np.ones((64, 127), dtype)).shape == (128, 127)
    assert gemm._product[2](a.astype("f2"), a.astype("f2")) is None
    assert same(gemm.matmul(a.view(Own), a), plain(a, a))
    with pytest.raises((MemoryError, ValueError)):
        make(np.empty((1 << 40, 0), dtype), np.empty((0, 1 << 40), dtype))


class Own(np.ndarray):
    """Somebody's arrays."""


def test_the_linear_rule_is_that_of_its_products(dtype, rng):
    for rows, m, k in ((6, 3, 5), (300, 130, 120)):  # by one kernel, and by three
        g, x, w = (rng.standard_normal(s).astype(dtype) for s in ((rows, m), (rows, k), (m, k)))
        dx, dw, db = gemm.linear_vjp((0, 1, 2))(g, x, w)
        assert same(dx, plain(g, w))
        assert same(dw, plain(g.T, x))
        assert same(db, sum_of(g, (0,)))
        assert same(gemm.linear_vjp((0,))(g, None, w)[0], dx)
        assert same(gemm.linear_vjp((1,))(g, x, None)[0], dw)


def test_the_linear_rule_hands_over_arrays_alone(monkeypatch):
    """A kernel reads its operands' memory, whatever they are."""
    seen = []
    monkeypatch.setattr(gemm, "_linear_vjp", {np.dtype(float): lambda *operands: seen.append(operands)})
    g, x, w = np.ones((6, 3)), np.ones((6, 5)), np.ones((3, 5))
    for positions, known in (((0,), (g, None, w)), ((1, 2), (g, x, None)), ((2,), (g, None, None))):
        gemm.linear_vjp(positions)(*known)
    assert [[type(operand) for operand in operands] for operands in seen] == [[np.ndarray] * 6 + [bool] * 3] * 3


def test_from_where_on_products_work_in_blocks(monkeypatch):
    """From 2^22 multiplications on, where a panel is used often, or half as often and B is far, and has columns."""
    seen = []
    for name in ("_large", "_product", "_gemm", "_linear_vjp"):
        run = functools.partial(lambda name, *_: seen.append(name), name)
        monkeypatch.setattr(gemm, name, run if name == "_large" else {np.dtype(float): run, 8: lambda a, b: None})
    rows = gemm._PACK_ROWS
    for m, k, n, large in (
        (64, 256, 256, True), (64, 256, 255, False), (128, 128, 256, True), (rows, 1024, 256, True),
        (rows - 1, 1024, 255, False), (1 << 12, 1 << 10, 1, False), (1 << 11, 1 << 10, 2, True),
        (rows // 2, 1024, 512, True), (rows // 2, 2048, 256, True), (rows // 2 - 1, 1024, 2048, False),
        (rows - 1, 512, 511, False), (rows - 1, 512, 512, True),
    ):  # fmt: skip
        x, w, g = np.empty((m, k)), np.empty((n, k)), np.empty((m, n))
        gemm.matmul(x, w.T)
        gemm.linear(x, w)
        gemm.linear(x, w, np.empty(n))
        assert seen == (["_large"] * 3 if large else ["_product", "_gemm", "_gemm"]), (m, k, n)
        seen.clear()
        if n > 1 and rows < m < 1 << 11:
            for positions in ((0,), (1,), (0, 1, 2)):
                gemm.linear_vjp(positions)(g, x, w)
                assert (seen == ["_linear_vjp"]) == (not large)
                seen.clear()


BLOCKS = [(512, 512, 512), (300, 1024, 1100), (2000, 512, 1100), (64, 256, 256), (70, 700, 2000)]
BLOCKS += [(300, 496, 700), (70, 832, 700), (300, 64, 512), (300, 65, 512), (256, 512, 1024)]
BLOCKS += [(70, k, 700) for k in (1025, 1152, 1153)]
BLOCKS += [(300, 64, n) for n in (4096, 8192, 9000)]  # as many bytes of B as are near, in both precisions, and more


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape", BLOCKS)
def test_threads_take_panels_in_turn_or_share_rows_and_have_room(shape, turned, dtype, monkeypatch):
    """When they are recorded, of their own: what is lent may be larger."""
    monkeypatch.setattr(POOL, "_rooms", [np.empty(1 << 26, np.uint8)])
    m, k, n = shape
    a = np.empty((k, m), dtype).T if turned else np.empty((m, k), dtype)
    lanes, size, before = 2 * gemm.VECTOR_BYTES // dtype.itemsize, dtype.itemsize, get_num_threads()
    room_for, few = (7 << 17, m) if gemm.VECTOR_BYTES == 64 else (1 << 19, 16 * gemm.TALL)
    for threads in (1, 2, 3, 50):
        set_num_threads(threads)
        try:
            _, (clear, *parts) = recorded(gemm.matmul, (a, np.empty((k, n), dtype)), {})
        finally:
            set_num_threads(before)
        share, panels = max(1, min(threads, m * k * n >> 24)), -(-n // lanes)
        lengths = [len(part.operands[2]) for part in parts]
        if panels >= 4 * share:
            assert lengths == [m] * share
            assert len({address_of(part.operands[4]) for part in parts}) == 1
        else:
            assert sum(lengths) == m
            assert len(lengths) <= share
            assert all(length % gemm.TALL == 0 for length in lengths[:-1])
            assert m / share <= lengths[0] < m / share + gemm.TALL
            assert len({address_of(part.operands[4]) for part in parts}) == len(parts)
        assert len({address_of(part.operands[6]) for part in parts}) == len(parts)
        assert clear.operands[0].size == clear.operands[1]
        pieces = 1 if k <= 832 else -(-k // 576)
        deep = k if pieces == 1 else next(d for d in range(16, 577, 16) if pieces * d >= k)
        row = next(r for r in range(deep + 16, deep + 48) if r % 16 == 0 and r * size % 4096)
        most = room_for // (deep * size)
        if n * deep * size <= 1 << 21:
            most = gemm.TALL if k <= 64 and not turned else min(most, few)
        for number, part in enumerate(parts):
            turns, kept, own, _, block = part.operands[4:9]
            assert part.operands[9:] == (deep, row, number % 2 if panels >= 4 * share else 0)
            assert block % gemm.TALL == 0
            blocks = -(-lengths[0] // most)
            assert turns.shape == (-(-lengths[0] // block) * -(-k // deep) + panels,)
            assert lengths[0] / blocks <= block < lengths[0] / blocks + gemm.TALL
            assert own.size == 2 * lanes * deep + block * row + lanes
            assert own.base.nbytes == own.nbytes
            if lengths[0] > block:
                assert kept.size == panels * lanes * deep + lanes
            else:
                assert address_of(kept) == address_of(own)


def test_a_last_part_that_is_no_longer_than_a_block_keeps_to_its_room(dtype, rng, monkeypatch):
    """Rows are cut for 4 threads into three parts of two tiles and one of half a tile; a block of A is a tile."""
    tall, made = gemm.TALL, []
    room = tall * 60 * dtype.itemsize

    def fenced(size, dtype):
        memory = np.empty(size + 40_000, dtype)
        memory[size:] = 7
        made.append(memory[size:])
        return memory[:size]

    for name, value in {"_THREAD": 1, "_BLOCK": room, "_NEAR": 0, "_LARGE": 1, "_TURNS": 100}.items():
        monkeypatch.setattr(gemm, name, value)
    monkeypatch.setitem(gemm._product, dtype.itemsize, lambda a, b: None)
    monkeypatch.setattr(POOL, "borrow", fenced)
    monkeypatch.setattr(POOL, "give_back", lambda rooms: None)
    m = 6 * tall + tall // 2
    a, b = rng.standard_normal((m, 60)).astype(dtype), rng.standard_normal((60, 90)).astype(dtype)
    monkeypatch.setattr(POOL, "size", 4)
    monkeypatch.setattr(POOL, "run", lambda parts: [part() for part in parts])
    for x in (a, np.asfortranarray(a)):
        assert same(gemm.matmul(x, b), plain(a, b))
    assert made
    assert all((fence == 7).all() for fence in made)


@kernel("i*i*", ints=4)
def _taken(turns, found, stage, stages, panels, last):
    found[0] = gemm._take(turns, stage, stages, panels, last != 0)


@pytest.mark.parametrize("panels", [1, 2, 7])
def test_panels_are_taken_from_both_ends(panels, rng):
    """Each of each stage once, whoever asks, from the end that it asks for; then there is none."""
    stages, take = 3, _taken[np.dtype(float)]
    for order in ([0] * 30, [1] * 30, [0, 1] * 15, *rng.integers(2, size=(20, 30)).tolist()):
        turns, found, taken, stage = np.zeros(stages, np.int64), np.zeros(1, np.int64), [], [0, 0]
        for last in order:
            take(turns, found, stage[last], stages, panels, last)
            at, number = divmod(int(found[0]), panels)
            if at == stages:
                assert number == 0
                break
            stage[last] = at
            left = {*range(panels)} - {n for s, n in taken if s == at}
            assert number == (max(left) if last else min(left))
            taken.append((at, number))
        assert taken == sorted(taken, key=lambda x: x[0])
        assert {*taken} == {(s, n) for s in range(stages) for n in range(panels)}


@pytest.mark.parametrize("room", [1 << 14, 1 << 30])
def test_whoever_takes_the_turns(room, dtype, rng, monkeypatch):
    """A thread alone does what the others leave, in any order; several do it at once, with a panel's turns in order."""
    for name, value in {"_THREAD": 1 << 18, "_DEEP": 64, "_ONCE": 64, "_BLOCK": room, "_NEAR": 0}.items():
        monkeypatch.setattr(gemm, name, value)
    a, b, bias = rng.standard_normal((100, 250)), rng.standard_normal((400, 250)), rng.standard_normal(400)
    a, b, bias = a.astype(dtype), b.astype(dtype), bias.astype(dtype)
    bare, before, run = plain(a, b.T), get_num_threads(), POOL.run
    want = bare + bias
    orders = [lambda parts: [part() for part in parts], lambda parts: [part() for part in parts[::-1]]]
    set_num_threads(3)
    try:
        for how in (*orders, *[run] * 40):
            monkeypatch.setattr(POOL, "run", how)
            for x in (a, np.asfortranarray(a)):
                assert same(gemm.linear(x, b, bias), want)
                assert same(gemm.matmul(x, b.T), bare)
    finally:
        set_num_threads(before)


sizes = st.integers(1, 300)


@given(sizes, sizes, sizes, st.sampled_from(["float32", "float64"]), st.integers(0, 2**32))
def test_identical_columns_and_rows_stay_identical(m, k, n, dtype, seed):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((m, k)).astype(dtype)
    c = gemm.matmul(a, np.repeat(rng.standard_normal((k, 1)).astype(dtype), n, 1))
    assert same(c, np.repeat(c[:, :1], n, 1))
    w, bias = np.repeat(rng.standard_normal((1, k)).astype(dtype), n, 0), np.full(n, 0.3, dtype)
    c = gemm.linear(a, w, bias)
    assert same(c, np.repeat(c[:, :1], n, 1))
    c = gemm.matmul(np.repeat(a[:1], m, 0), rng.standard_normal((k, n)).astype(dtype))
    assert same(c, np.repeat(c[:1], m, 0))


@pytest.mark.parametrize("shape", [(5, 7, 3), (12, 16, 32), (61, 270, 45), (100, 2, 16), (49, 513, 70)])
def test_position_layout_and_batch_do_not_matter(shape, dtype, rng):
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    before, c, bias = (a.copy(), b.copy()), gemm.matmul(a, b), rng.standard_normal(n).astype(dtype)
    for x in layouts(a):
        for y in layouts(b):
            assert same(gemm.matmul(x, y), c)
    assert same(a, before[0])
    assert same(b, before[1])
    for i in {0, m // 2, m - 1}:
        assert same(gemm.matmul(a[i : i + 1], b), c[i : i + 1])
    for j in {0, n // 2, n - 1}:
        assert same(gemm.matmul(a, b[:, j : j + 1]), c[:, j : j + 1])
    assert same(gemm.matmul(b.T, a.T), np.ascontiguousarray(c.T))
    for y in layouts(np.ascontiguousarray(b.T)):
        assert same(gemm.linear(a, y, bias), c + bias)
    assert same(gemm.linear(np.stack([a, a]), b.T, bias)[1], c + bias)
    both = gemm.matmul(np.stack([a, a + 1]), b)
    assert same(both[0], c)
    assert same(both[1], gemm.matmul(a + 1, b))


def test_batches_broadcast(dtype, rng):
    a, b = rng.standard_normal((4, 1, 3, 5)).astype(dtype), rng.standard_normal((2, 5, 6)).astype(dtype)
    c = gemm.matmul(a, b)
    assert c.shape == (4, 2, 3, 6)
    assert all(same(c[i, j], gemm.matmul(a[i, 0], b[j])) for i, j in np.ndindex(4, 2))
    turned = gemm.matmul(b.swapaxes(-1, -2), a.swapaxes(-1, -2))
    assert same(np.ascontiguousarray(turned.swapaxes(-1, -2)), c)


def test_nothing_to_multiply(dtype):
    zeros, bias = np.zeros((3, 4), dtype), np.arange(4, dtype=dtype)
    assert same(gemm.matmul(np.empty((3, 0), dtype), np.empty((0, 4), dtype)), zeros)
    assert same(gemm.linear(np.empty((3, 0), dtype), np.empty((4, 0), dtype), bias), zeros + bias)
    for m, n in ((1, 90), (40, 1)):
        assert same(gemm.matmul(np.empty((m, 0), dtype), np.empty((0, n), dtype)), np.zeros((m, n), dtype))
    assert gemm.matmul(np.empty((0, 1024), dtype), np.empty((1024, 4), dtype)).shape == (0, 4)
    assert gemm.matmul(np.empty((0, 2), dtype), np.empty((2, 4), dtype)).shape == (0, 4)
    assert gemm.matmul(np.empty((2, 0, 2), dtype), np.empty((2, 2, 4), dtype)).shape == (2, 0, 4)
    assert gemm.linear(np.empty((2, 0, 3), dtype), np.empty((4, 3), dtype), bias).shape == (2, 0, 4)


def test_special_values(dtype):
    a = np.array([[np.inf, 1, -0.0], [np.nan, 1, 1], [-1, 0, 0]], dtype)
    b = np.zeros((3, 40), dtype)
    c = gemm.matmul(a, b)
    assert np.isnan(c[:2]).all()
    assert same(c[2], np.zeros(40, dtype))
    for i in range(3):
        assert same(gemm.matmul(a[i : i + 1], b), c[i : i + 1])
    rows = np.tile(a, (25, 7))  # a column of NaN in one row must not reach another
    assert same(gemm.matmul(rows, np.zeros((21, 1), dtype)), np.tile(c[:, :1], (25, 1)))
