"""Worker threads: the same bits for any number of them, whoever else runs, and after a fork."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from kernel_tools import same

from minigrad.kernels import gemm, get_num_threads, pool, set_num_threads

LARGE = [(300, 700, 290), (64, 1000, 900), (1000, 900, 64), (400, 400, 400)]  # cut by rows, and by columns


@pytest.fixture(autouse=True)
def _size():
    before = get_num_threads()
    yield
    set_num_threads(before)


@pytest.fixture
def eager(monkeypatch):
    """Threads for products that are not worth it, so that few examples see many cuts."""
    monkeypatch.setattr(gemm, "_THREAD", 1 << 20)


@pytest.mark.parametrize("shape", LARGE)
def test_bits_do_not_depend_on_threads(shape, dtype, rng, eager):
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    bias = rng.standard_normal(n).astype(dtype)
    set_num_threads(1)
    want, shifted = gemm.matmul(a, b), gemm.linear(a, b.T, bias)
    for count in (2, 3, 5):
        set_num_threads(count)
        assert same(gemm.matmul(a, b), want)
        assert same(gemm.matmul(np.asfortranarray(a), b), want)
        assert same(gemm.linear(a, np.ascontiguousarray(b.T), bias), shifted)


def test_large_products_are_shared_and_small_ones_are_not(rng, monkeypatch):
    shares = []
    run = pool.POOL.run
    monkeypatch.setattr(pool.POOL, "run", lambda parts: (shares.append(len(parts)), run(parts)))
    set_num_threads(2)
    gemm.matmul(rng.standard_normal((100, 100)), rng.standard_normal((100, 100)))
    assert shares == []
    gemm.matmul(rng.standard_normal((512, 512)), rng.standard_normal((512, 512)))
    assert shares == [2]


def test_many_callers_and_a_pool_that_changes_meanwhile(rng, eager):
    a, b = rng.standard_normal((200, 300)), rng.standard_normal((300, 150))
    set_num_threads(1)
    want, wrong = gemm.matmul(a, b), []

    def caller():
        for _ in range(30):
            if not same(gemm.matmul(a, b), want):
                wrong.append(threading.get_ident())

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for thread in callers:
        thread.start()
    for count in (2, 3, 1, 4, 2):
        set_num_threads(count)
    for thread in callers:
        thread.join()
    assert not wrong


def test_an_error_in_a_part_reaches_the_caller():
    set_num_threads(2)
    with pytest.raises(ZeroDivisionError):
        pool.POOL.run([lambda: None, lambda: 1 / 0])
    with pytest.raises(ZeroDivisionError):
        pool.POOL.run([lambda: 1 / 0, lambda: None])


PROGRAM = """
import os, numpy as np
from minigrad.kernels import gemm, get_num_threads
x = np.random.default_rng(0).standard_normal((400, 400))
want = gemm.matmul(x, x)
print(get_num_threads())
for _ in range(3):
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(gemm.matmul(x, x), want) else 1)
    assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(gemm.matmul(x, x), want)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_after_use_and_the_environment_variable():
    environment = {**os.environ, "MINIGRAD_NUM_THREADS": "3", "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "3", "")


def test_what_is_no_number_of_threads_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="at least 1 thread, got 0"):
        set_num_threads(0)
    with pytest.raises(TypeError):
        set_num_threads(1.5)
    for text in ("0", "two", "-1", "1.5"):
        monkeypatch.setenv("MINIGRAD_NUM_THREADS", text)
        with pytest.raises(ValueError, match=f"MINIGRAD_NUM_THREADS is '{text}'"):
            pool.Pool()
