"""A whole eager training step against PyTorch eager and NumPy by hand: python bench/eager.py [--json FILE]

Forward, backward with the user's lines recorded, and SGD, for a 2-16-16-1 network with tanh and mean squared error
(batch 100), and a 64-32-10 network with tanh and cross entropy (batch 32), in float32. One core, one thread each.
The sides run in turn, in blocks of 20 steps, in each of 5 fresh processes; a figure is the median over the steps of a
process, a ratio that of two such medians, and the interval its smallest and largest value over the processes.
Before anything is timed, the sides must agree on the losses of 5 steps and on the parameters after them.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

NETWORKS = {"2-16-16-1, batch 100": ([2, 16, 16, 1], 100, "mse"), "64-32-10, batch 32": ([64, 32, 10], 32, "classes")}
LR, PROCESSES, ROUNDS, BLOCK = 0.01, 5, 60, 20


def problem(sizes, batch, kind):
    """Weights (out, in), biases, inputs and targets, the same for all sides."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(m, k)).astype("f4") / np.float32(np.sqrt(k)) for k, m in itertools.pairwise(sizes)]
    biases = [rng.normal(size=m).astype("f4") * np.float32(0.1) for m in sizes[1:]]
    x = rng.normal(size=(batch, sizes[0])).astype("f4")
    y = rng.normal(size=(batch, sizes[-1])).astype("f4") if kind == "mse" else rng.integers(0, sizes[-1], batch)
    return weights, biases, x, y


def ours(sizes, batch, kind) -> tuple[Callable, Callable]:
    import minigrad as mg
    from minigrad import nn, optim

    weights, biases, x, y = problem(sizes, batch, kind)
    layers = []
    for w, b in zip(weights, biases, strict=False):
        layers += [nn.Linear(w.shape[1], w.shape[0], weight_init=w, bias_init=b), nn.Tanh()]
    net = nn.Sequential(*layers[:-1])
    opt = optim.SGD(net.parameters(), lr=LR)
    loss_of = mg.mse_loss if kind == "mse" else mg.cross_entropy
    x, y = mg.tensor(x), mg.from_numpy(y)

    def step():
        loss = loss_of(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    return step, lambda: [p.data for p in net.parameters()]


def pytorch(sizes, batch, kind):
    import torch

    torch.set_num_threads(1)
    weights, biases, x, y = problem(sizes, batch, kind)
    layers = []
    for w, b in zip(weights, biases, strict=False):
        linear = torch.nn.Linear(w.shape[1], w.shape[0])
        linear.weight.data, linear.bias.data = torch.tensor(w), torch.tensor(b)
        layers += [linear, torch.nn.Tanh()]
    net = torch.nn.Sequential(*layers[:-1])
    opt = torch.optim.SGD(net.parameters(), lr=LR)
    loss_of = torch.nn.functional.mse_loss if kind == "mse" else torch.nn.functional.cross_entropy
    x, y = torch.tensor(x), torch.tensor(y)

    def step():
        loss = loss_of(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    return step, lambda: [p.detach().numpy() for p in net.parameters()]


def numpy_by_hand(sizes, batch, kind):
    weights, biases, x, y = problem(sizes, batch, kind)
    rows, lr = np.arange(batch), np.float32(LR)

    def step():
        a, inputs = x, []
        for i, (w, b) in enumerate(zip(weights, biases, strict=False)):
            inputs.append(a)
            a = a @ w.T
            a += b
            if i < len(weights) - 1:
                np.tanh(a, out=a)
        if kind == "mse":
            d = a - y
            loss = np.square(d).mean()
            d *= np.float32(2 / d.size)
        else:
            a -= a.max(axis=1, keepdims=True)
            d = np.exp(a)
            total = d.sum(axis=1, keepdims=True)
            loss = (np.log(total[:, 0]) - a[rows, y]).mean()
            d /= total
            d[rows, y] -= 1
            d *= np.float32(1 / batch)
        for i in reversed(range(len(weights))):
            dw, db = d.T @ inputs[i], d.sum(axis=0)
            if i:
                d = d @ weights[i]
                d *= 1 - inputs[i] * inputs[i]
            weights[i] -= lr * dw
            biases[i] -= lr * db
        return loss

    return step, lambda: [p for pair in zip(weights, biases, strict=False) for p in pair]


def measure(name):
    """Median step times in µs of one process, by side. Raises AssertionError if the sides disagree."""
    made = {"minigrad": ours(*NETWORKS[name]), "NumPy by hand": numpy_by_hand(*NETWORKS[name])}
    try:
        made["PyTorch"] = pytorch(*NETWORKS[name])
    except ImportError as error:
        print(f"SKIPPED: PyTorch ({error})", file=sys.stderr)
    losses = {side: [step().item() for _ in range(5)] for side, (step, _) in made.items()}
    for side, (_, parameters) in made.items():
        np.testing.assert_allclose(losses[side], losses["minigrad"], rtol=1e-5, err_msg=side)
        for theirs, mine in zip(parameters(), made["minigrad"][1](), strict=True):
            np.testing.assert_allclose(theirs, mine, rtol=1e-4, atol=1e-6, err_msg=side)
    for step, _ in made.values():
        for _ in range(200):
            step()
    times = {side: [] for side in made}
    gc.collect()
    for _ in range(ROUNDS):
        for side, (step, _) in made.items():
            step()  # brings the side's code and data back into the caches
            for _ in range(BLOCK):
                start = time.perf_counter_ns()
                step()
                times[side].append(time.perf_counter_ns() - start)
    return {side: statistics.median(values) / 1e3 for side, values in times.items()}


def child(name, core):
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    print(json.dumps(measure(name)))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, default=0, help="the core to run on (default 0)")
    options = parser.parse_args(argv)
    if options.child:
        return child(options.child, options.core)
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    report = {}
    for name in NETWORKS:
        command = [sys.executable, __file__, "--child", name, "--core", str(options.core)]
        runs = [
            json.loads(subprocess.run(command, env={**os.environ, **one}, stdout=subprocess.PIPE, check=True).stdout)
            for _ in range(PROCESSES)
        ]
        print(
            f"\n{name}: one training step, {PROCESSES} processes\n{'':16}{'median µs':>10}   minigrad's time / its time"
        )
        report[name] = {}
        for side in runs[0]:
            ratios = sorted(run["minigrad"] / run[side] for run in runs)
            median = statistics.median(run[side] for run in runs)
            report[name][side] = {
                "median_us": median,
                "ratio": statistics.median(ratios),
                "interval": [ratios[0], ratios[-1]],
            }
            print(f"{side:16}{median:10.1f}   {statistics.median(ratios):.3f}  [{ratios[0]:.3f}, {ratios[-1]:.3f}]")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
    return None


if __name__ == "__main__":
    main()
