"""What takes minutes: many shapes, many threads, many processes. Runs in the intense profile."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from kernel_tools import layouts, same

import minigrad as mg
from minigrad import nn, optim
from minigrad.kernels import gemm, jit

pytestmark = pytest.mark.intense


def test_thousands_of_shapes_have_the_bits_of_every_part_of_them(dtype, rng, monkeypatch):
    """Rows, columns and halves alone, in other layouts, by one thread and by two: one hash for each product."""
    monkeypatch.setattr(gemm, "_THREAD", 1 << 18)
    before = mg.get_num_threads()
    try:
        for number in range(2000):
            m, k, n = (int(v) for v in rng.integers(1, 301, 3))
            if number % 4 == 0:
                m, k, n = (int(v) for v in rng.integers(1, 34, 3))
            a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
            mg.set_num_threads(1)
            want = hashlib.sha256(gemm.matmul(a, b).tobytes()).digest()
            x, y = layouts(a)[number % 4], layouts(b)[number // 4 % 4]
            mg.set_num_threads(2)
            i, j = int(rng.integers(m + 1)), int(rng.integers(n + 1))
            by_rows = np.concatenate([gemm.matmul(x[:i], y), gemm.matmul(x[i:], y)])
            by_columns = np.concatenate([gemm.matmul(x, y[:, :j]), gemm.matmul(x, y[:, j:])], axis=1)
            for product in (gemm.matmul(x, y), by_rows, by_columns, gemm.matmul(y.T, x.T).T):
                assert hashlib.sha256(np.ascontiguousarray(product).tobytes()).digest() == want, (m, k, n)
    finally:
        mg.set_num_threads(before)


def trained(width, steps):
    rng = np.random.default_rng(width)
    x, y = rng.standard_normal((64, 40)).astype("f4"), rng.integers(0, 5, 64)
    net = nn.Sequential(nn.Linear(40, width), nn.Tanh(), nn.Linear(width, 5)).initialize(width)
    opt = optim.Adam(net.parameters(), lr=0.01)
    for _ in range(steps):
        loss = mg.cross_entropy(net(mg.from_numpy(x)), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    return np.concatenate([p.data.ravel() for p in net.parameters()])


def test_four_threads_train_for_a_minute(monkeypatch):
    """Different networks, whose large products share one pool, give the bits that each gives alone."""
    monkeypatch.setattr(gemm, "_THREAD", 1 << 18)
    monkeypatch.setattr(gemm, "_LARGE", 1 << 17)
    for size in (4, 8):
        monkeypatch.setitem(gemm._product, size, lambda a, b: None)  # what makes its result at once is not shared
    widths = (33, 80, 128, 257)
    alone = {width: trained(width, 60) for width in widths}
    wrong, rounds, end = [], [], time.monotonic() + 60

    def work(width):
        while time.monotonic() < end:
            if not same(trained(width, 60), alone[width]):
                wrong.append(width)
            rounds.append(width)

    workers = [threading.Thread(target=work, args=(width,)) for width in widths]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    assert set(rounds) == set(widths)


def test_four_cold_processes_race_for_the_cache_twenty_times(tmp_path):
    code = (
        "import numpy as np\nfrom minigrad.kernels import elementwise, reduction\n"
        "x = np.linspace(-3, 3, 1000, dtype='f4')\n"
        "print(elementwise.relu(x).tobytes().hex()[-64:], reduction.sum(x, (0,)).tobytes().hex())"
    )
    root = str(Path(jit.__file__).parents[2])
    outputs = set()
    for number in range(20):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / str(number)), "PYTHONPATH": root}
        together = [
            subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        outputs |= {process.communicate()[0] for process in together}
        assert [process.returncode for process in together] == [0] * 4
    assert len(outputs) == 1
