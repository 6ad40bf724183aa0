"""Kernels read and write their operands, and nothing beside them: these end, or begin, where no memory may be touched.

A touch ends the process, and faulthandler says in which test.
"""

import ctypes
import mmap
import sys

import numpy as np
import pytest

from minigrad.kernels import elementwise as ew
from minigrad.kernels import gemm, loss, random, update
from minigrad.kernels import reduction as rd
from minigrad.kernels.pool import POOL

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no mprotect")


def fenced(shape, dtype, where):
    """An array of zeros at the end of a page, before one that must not be touched; or at the start, behind one."""
    dtype, page = np.dtype(dtype), mmap.PAGESIZE
    size = int(np.prod(shape)) * dtype.itemsize
    room = -(-size // page) * page
    memory = mmap.mmap(-1, room + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    assert not protect(start, page, 0)
    assert not protect(start + page + room, page, 0)
    offset = page + (room - size if where == "end" else 0)
    return np.frombuffer(memory, dtype, size // dtype.itemsize, offset).reshape(shape)


@pytest.fixture(params=["end", "start"])
def fence(request, monkeypatch):
    """``fence(x)``: a fenced copy. What is multiplied, and room for blocks, is fenced, too."""
    for module in (gemm, loss):
        monkeypatch.setattr(module, "empty", lambda shape, dtype: fenced(shape, dtype, request.param))
    monkeypatch.setattr(POOL, "borrow", lambda size, dtype: fenced((size,), dtype, request.param))
    monkeypatch.setattr(POOL, "give_back", lambda rooms: None)
    for size in (4, 8):
        monkeypatch.setitem(gemm._product, size, lambda a, b: None)  # what makes results that are not fenced

    def copy(x):
        y = fenced(x.shape, x.dtype, request.param)
        y[...] = x
        return y

    return copy


PRODUCTS = [
    (1, 40, 600), (2, 33, 257), (3, 7, 200), (17, 16, 1), (70, 50, 1), (70, 1024, 1), (31, 5, 33), (15, 17, 16),
    (33, 2048, 3), (150, 605, 77), (170, 1025, 49), (300, 300, 64), (300, 300, 65),
    (5, 43, 200), (6, 33, 97), (40, 70, 33), (100, 30, 36), (20, 7, 4), (512, 3, 33),
    (1, 9, 8201), (35, 16, 35), (16, 16, 1),
]  # fmt: skip


@pytest.mark.parametrize("shape", PRODUCTS)
def test_products(shape, dtype, fence, rng):
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    want, bias = gemm.matmul(a, b), rng.standard_normal(n).astype(dtype)
    for x in (fence(a), fence(a.T.copy()).T):
        for y in (fence(b), fence(b.T.copy()).T):
            assert gemm.matmul(x, y).tobytes() == want.tobytes()
            assert gemm.linear(x, y.T, fence(bias)).tobytes() == (want + bias).tobytes()
    assert gemm.matmul(fence(np.stack([a, a])), fence(b))[1].tobytes() == want.tobytes()


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 33), (2, 1025), (1025, 3), (18, 70), (1, 2100)])
def test_reductions(shape, dtype, fence, rng):
    x, g = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    p, q = fence(x), fence(g)
    for f in (rd.sum, rd.prod):
        for axes in ((0,), (1,)):
            assert f(p, axes).tobytes() == f(x, axes).tobytes()
    for f in (rd.logsumexp, rd.norm, rd.softmax, rd.log_softmax):
        assert f(p, 1).tobytes() == f(x, 1).tobytes()
    for f in (rd.softmax_vjp, rd.log_softmax_vjp):
        assert f(q, p, 1).tobytes() == f(g, x, 1).tobytes()


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 33), (70, 3)])
def test_losses(shape, dtype, fence, rng):
    (n, c), x = shape, rng.standard_normal(shape).astype(dtype)
    t, g, w = rng.integers(0, c, n), rng.standard_normal(n).astype(dtype), rng.uniform(1, 2, c).astype(dtype)
    p, target = fence(x), fence(t)
    losses, lse, _ = loss.cross_entropy(x, t, w)
    assert loss.cross_entropy(p, target, fence(w))[0].tobytes() == losses.tobytes()
    got = loss.cross_entropy_vjp(fence(g), p, target, fence(lse), fence(w))
    assert got.tobytes() == loss.cross_entropy_vjp(g, x, t, lse, w).tobytes()
    assert loss.mse(p, fence(-x)).tobytes() == loss.mse(x, -x).tobytes()
    assert loss.mse_vjp(fence(g[:1]), p, fence(-x)).tobytes() == loss.mse_vjp(g[:1], x, -x).tobytes()


@pytest.mark.parametrize("n", [1, 7, 33, 150])
def test_elements(n, dtype, fence, rng):
    x, y, z = (rng.uniform(0.1, 2, n).astype(dtype) for _ in range(3))
    for f in (ew.exp, ew.tanh, ew.erf, ew.neg):
        assert f(fence(x)).tobytes() == f(x).tobytes()
    assert ew.add(fence(x), fence(y)).tobytes() == (x + y).tobytes()
    if dtype == np.float32:
        assert ew.widened(fence(x), "float64").tobytes() == x.astype(float).tobytes()
    assert ew.stack(*map(fence, (x, y, z))).tobytes() == np.stack([x, y, z]).tobytes()
    free, bound = x.copy(), fence(x)
    for p in (free, bound):
        update.shorten(p, np.array(2.0), 0.3)
    assert free.tobytes() == bound.tobytes() != x.tobytes()
    seed = np.array([7]), np.array([3]), 2**31, 2.0
    assert random.dropout(fence(x), *map(fence, seed[:2]), *seed[2:]).tobytes() == random.dropout(x, *seed).tobytes()
    table = rng.standard_normal((3, n)).astype(dtype)
    assert ew.mul(fence(table), fence(x)).tobytes() == (table * x).tobytes()
    h = np.array([0.1, 0.9, 0.99, 1e-8, 0.01, 0, 0.9, 0.99])
    for step, arrays, numbers in (
        (update.sgd, (x, y), h[[0, 1, 4, 5, 5]]),
        (update.sgd_momentum, (x, y, z), h[[0, 1, 4, 5, 5]]),
        (update.adam, (x, y, z, z + 1), h),
    ):
        free, bound = [a.copy() for a in arrays], [fence(a) for a in arrays]
        step(*free, numbers)
        step(*bound, fence(numbers))
        assert [a.tobytes() for a in bound] == [a.tobytes() for a in free]
