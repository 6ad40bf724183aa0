"""From a fresh process to the first gradient of an MLP: python bench/startup.py

Imports minigrad, builds 64-32-10 with tanh, and runs one forward and backward pass of cross entropy. With a cold kernel
cache (a new, empty directory) and with a warm one; each figure is the median of fresh processes, with its extremes.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

PROGRAM = """
import numpy as np, minigrad as mg
from minigrad import nn
net = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
loss = mg.cross_entropy(net(np.zeros((32, 64), np.float32)), np.zeros(32, np.int64))
loss.backward()
assert net[0].weight.grad is not None
"""


def run(cache):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", PROGRAM], env={**os.environ, "NUMBA_CACHE_DIR": cache}, check=True)
    return time.perf_counter() - start


def main():
    cold = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(run(cache))
    with tempfile.TemporaryDirectory() as cache:
        run(cache)
        warm = [run(cache) for _ in range(7)]
    for what, times in (("cold", cold), ("warm", warm)):
        print(f"{what} cache: {statistics.median(times):.2f} s  [{min(times):.2f}, {max(times):.2f}]")


if __name__ == "__main__":
    main()
