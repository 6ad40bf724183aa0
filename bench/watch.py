"""What lab.watch costs an eager training run, 784-256-256-10, batch 256, SGD: python bench/watch.py [--every N]

Runs of 6 N steps with and without take turns, in each of 25 fresh processes. Of each place in the cycle of N steps the
median is taken over all runs (without their first N steps, in which memory is found); a side's time is the mean over
the places, a process's ratio that of its two sides. The interval is that of the median of the ratios (96 %: from the
8th smallest to the 8th largest). Both sides must train to the same bits, and the watch must have seen what it
should. Where its arrays lie in the heap makes a run 4 % slower or faster, so each begins at another place.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

import minigrad as mg
from minigrad import lab, nn, optim

PROCESSES, ROUNDS, CYCLES = 25, 14, 6


def made():
    layers = [nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)]
    net = nn.Sequential(*layers).initialize(seed=0)
    return net, optim.SGD(net.parameters(), lr=0.01)


def train(net, opt, x, y, steps, every):
    """Milliseconds of each of the steps, and what was seen."""
    with lab.watch(net, every=every) if every else contextlib.nullcontext() as seen:
        times = [time.perf_counter()]
        for _ in range(steps):
            loss = mg.cross_entropy(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            times.append(time.perf_counter())
    return np.diff(times) * 1e3, seen


def measure(every):
    """Milliseconds of a step of one process, without and with."""
    rng = np.random.default_rng(0)
    x, y = mg.tensor(rng.normal(size=(256, 784)).astype("f4")), rng.integers(0, 10, 256)
    net, opt = made()
    begin = {name: array.copy() for name, array in net.state_dict().items()}
    times = {0: [], every: []}
    gc.collect()
    for i in range(ROUNDS):
        ends = {}
        for side in sorted(times, reverse=bool(i % 2)):
            net.load_state_dict(begin)
            room = np.empty(rng.integers(1 << 20), np.uint8)
            steps, seen = train(net, opt, x, y, CYCLES * every, side)
            times[side].append(steps[every:])
            ends[side] = {name: array.tobytes() for name, array in net.state_dict().items()}
            assert not side or len(seen.records) == 5 * CYCLES, "an op was not seen"
            del room, seen
        assert ends[0] == ends[every], "watching has changed a bit"
    return [float(np.median(np.reshape(times[side], (-1, every)), axis=0).mean()) for side in (0, every)]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        return print(json.dumps(measure(options.every)))
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MINIGRAD_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "--child", "--every", str(options.every)]
    runs = []
    for _ in range(PROCESSES):
        done = subprocess.run(command, env={**os.environ, **one}, stdout=subprocess.PIPE, check=True)
        runs.append(json.loads(done.stdout))
    ratios = sorted(watched / plain for plain, watched in runs)
    plain, watched = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"a step of 784-256-256-10, batch 256: {plain:.2f} ms, with watch(every={options.every}) {watched:.2f} ms")
    print(f"ratio {statistics.median(ratios):.3f}  [{ratios[7]:.3f}, {ratios[-8]:.3f}]")
    return None


if __name__ == "__main__":
    main()
