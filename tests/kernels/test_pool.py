"""Worker threads: the same bits for any number of them, whoever else runs, and after a fork."""

import atexit
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from kernel_tools import same

from minigrad.kernels import gemm, get_num_threads, jit, pool, set_num_threads, update
from minigrad.kernels.simd import atomic_read, atomic_write, pause

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


def test_room_is_lent_again(dtype, monkeypatch):
    """To one at a time, for any numbers; what is too small is let go, and what is too large to be kept."""
    monkeypatch.setattr(pool.POOL, "_rooms", [])
    monkeypatch.setattr(pool, "_KEPT", 8000)
    borrow, give_back, rooms = pool.POOL.borrow, pool.POOL.give_back, pool.POOL._rooms
    one, other = borrow(500, dtype), borrow(1000, dtype)
    assert (one.shape, other.shape, one.dtype, other.dtype) == ((500,), (1000,), dtype, dtype)
    assert one.flags.aligned
    assert not np.shares_memory(one, other)
    give_back([one, other])
    assert [room.nbytes for room in rooms] == [one.nbytes, other.nbytes]
    again = borrow(1000, dtype)
    assert np.shares_memory(again, other)
    assert borrow(501, dtype).base.nbytes == 501 * dtype.itemsize
    assert rooms == []
    give_back([again, one])
    assert borrow(3, dtype).shape == (3,)
    give_back([np.empty(8000, np.uint8)[:8], np.empty(8001, np.uint8)[:8]])
    assert [room.nbytes for room in rooms] == [again.nbytes, 8000]


def test_products_work_in_room_that_is_lent(dtype, rng, monkeypatch):
    """Each part in its own, and the next product in the same, unless something was interrupted in it."""
    monkeypatch.setattr(pool.POOL, "_rooms", [])
    monkeypatch.setattr(gemm, "_BLOCK", 1 << 16)  # several blocks, so that all panels are kept
    a, b = rng.standard_normal((600, 500)).astype(dtype), rng.standard_normal((500, 400)).astype(dtype)
    for threads in (1, 2):
        set_num_threads(threads)
        want = [gemm.matmul(a, b) for _ in range(3)].pop()  # by then all room is large enough for any part
        rooms = [*pool.POOL._rooms]
        assert len(rooms) == 1 + threads
        for room in rooms:
            room[:] = 255  # NaN
        assert same(gemm.matmul(a, b), want)
        assert same(gemm.linear(a, b.T.copy()), want)
        assert {*map(id, rooms)} == {*map(id, pool.POOL._rooms)}

    def interrupted(parts):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pool.POOL, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gemm.matmul(a, b)
    assert pool.POOL._rooms == []
    assert same(gemm.matmul(a, b), want)


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


def counters(count):
    """A kernel's call that adds 1 to a number of its own, so many times; and the numbers."""
    numbers = [np.zeros(1, np.int64) for _ in range(count)]
    return [update._tick.unlocked(number) for number in numbers], numbers


@pytest.fixture(params=[0, 3, 5000], ids="looks {}".format)
def own(request, monkeypatch):
    """A pool of three threads whose workers sleep at once, soon, or late."""
    monkeypatch.setattr(pool, "_LOOKS", request.param)
    mine = pool.Pool()
    mine.resize(3)
    yield mine
    mine.resize(1)
    atexit.unregister(mine.resize)


@jit.kernel("i*i*", ints=1)
def _await(flag, seen, looks):
    while looks > 0 and atomic_read(flag, 0) == 0:
        looks -= 1
        pause()
    seen[0] = atomic_read(flag, 0)


@jit.kernel("i*", ints=0)
def _raise(flag):
    atomic_write(flag, 0, 1)


@pytest.mark.parametrize("rest", [0.0, 0.02], ids=["at once", "after a while"])
def test_workers_work_meanwhile(own, rest):
    """The first part waits for the second, at most a second or so."""
    for _ in range(5):
        flag, seen = np.zeros(1, np.int64), np.zeros(1, np.int64)
        own.run([_await.unlocked(flag, seen, 20_000_000), _raise.unlocked(flag)])
        assert seen[0] == 1
        time.sleep(rest)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_each_part_is_run_once(own, count):
    parts, numbers = counters(count)
    for i in range(300):
        own.run(parts)
        assert [int(number[0]) for number in numbers] == [i + 1] * count
        if i % 100 == 99:
            time.sleep(0.01)  # workers fall asleep


def test_each_part_is_run_once_by_many_callers(own):
    found = []

    def caller():
        parts, numbers = counters(3)
        for _ in range(500):
            own.run(parts)
        found.append([int(number[0]) for number in numbers])

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for thread in callers:
        thread.start()
    for size in (2, 1, 4, 3) * 5:
        own.resize(size)
    for thread in callers:
        thread.join()
    assert found == [[500] * 3] * 4


def test_nobody_waits_for_a_worker_that_is_late(own, monkeypatch):
    monkeypatch.setattr(pool._Worker, "_work", lambda self: None)
    parts, numbers = counters(3)
    for _ in range(5):
        own.run(parts)
    assert [int(number[0]) for number in numbers] == [5, 5, 5]


def test_an_interrupt_loses_no_part(own):
    class Interrupted(jit.Part):
        def __call__(self):
            raise KeyboardInterrupt

    parts, numbers = counters(3)
    for i in range(100):
        with pytest.raises(KeyboardInterrupt):
            own.run([Interrupted(0, [], None), *parts[1:]])
        own.run(parts)
        assert [int(number[0]) for number in numbers] == [i + 1, 2 * i + 2, 2 * i + 2]


def test_what_an_interrupt_has_left_is_done_first(own):
    """A box whose work was posted, and nobody waited for."""
    (mine, other, *rest), numbers = counters(4)
    own.run([mine, other])
    own._workers[0].post(rest[0])
    own.run([mine, rest[1]])
    assert [int(number[0]) for number in numbers] == [2, 1, 1, 1]


def test_workers_end_after_what_an_interrupt_has_left(own):
    flag, seen = np.zeros(1, np.int64), np.ones(1, np.int64)
    own.run(counters(2)[0])
    own._workers[0].post(_await.unlocked(flag, seen, 200_000))
    time.sleep(0.001)
    own.resize(1)
    assert seen[0] == 0


def test_threads_that_cannot_be_had(own, monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    parts, numbers = counters(3)
    own.run(parts)
    assert [int(number[0]) for number in numbers] == [1, 1, 1]


def test_workers_start_when_there_is_work_and_end(own):
    before = threading.active_count()
    own.run(counters(1)[0])
    assert threading.active_count() == before
    own.run(counters(2)[0])
    assert threading.active_count() == before + 1
    own.run(counters(9)[0])
    assert threading.active_count() == before + 2
    own.resize(3)
    assert threading.active_count() == before


def test_what_is_no_machine_code_is_run_by_the_caller():
    found = []
    set_num_threads(2)
    pool.POOL.run([lambda: found.append(threading.get_ident()) for _ in range(3)])
    assert found == [threading.get_ident()] * 3


ENDING = """
import atexit, threading
atexit.register(lambda: print(threading.active_count()))
import numpy as np
from minigrad.kernels import gemm, pool
pool._LOOKS = 10**10
x = np.ones((600, 600))
gemm.matmul(x, x)
print(threading.active_count())
"""


def test_workers_end_before_the_process_does():
    """They would look for minutes."""
    environment = {**os.environ, "MINIGRAD_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", ENDING], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n1\n", "")


PROGRAM = """
import os, numpy as np
from minigrad.kernels import gemm, get_num_threads
from minigrad.kernels.pool import POOL
x = np.random.default_rng(0).standard_normal((400, 400))
want = gemm.matmul(x, x)
print(get_num_threads())
for _ in range(3):
    child = os.fork()
    if child == 0:
        assert not POOL._workers
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
