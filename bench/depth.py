"""Time per op of long chains and stacked diamonds, forward and backward: python bench/depth.py

A chain of n multiplications of one number, at n = 10⁴ and 10⁶, and 10³ diamonds y ← 0.5 (x + x), which have 2¹⁰⁰⁰
paths. The collector is off while a clock runs, the two sizes take turns, and each figure is a median.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time

import minigrad as mg


def chain(n):
    x = mg.tensor(1.0, requires_grad=True)
    start = time.perf_counter()
    y = x
    for _ in range(n):
        y = y * 1.0
    middle = time.perf_counter()
    y.backward()
    end = time.perf_counter()
    assert x.grad.item() == 1.0
    return (middle - start) / n, (end - middle) / n


def diamonds(n):
    x = mg.tensor(3.0, requires_grad=True)
    start = time.perf_counter()
    y = x
    for _ in range(n):
        y = 0.5 * (y + y)
    y.backward()
    assert (y.item(), x.grad.item()) == (3.0, 1.0)
    return (time.perf_counter() - start) / (2 * n)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5, help="rounds of both sizes (default 5)")
    rounds = parser.parse_args(argv).repeat
    gc.collect()
    gc.disable()
    chain(10_000)
    short, long = [], []
    for _ in range(rounds):
        short.append([statistics.median(part) for part in zip(*[chain(10_000) for _ in range(20)], strict=True)])
        long.append(chain(1_000_000))
    for what, few, many in zip(("forward", "backward"), zip(*short, strict=True), zip(*long, strict=True), strict=True):
        ratios = sorted(b / a for a, b in zip(few, many, strict=True))
        print(
            f"chain, {what:8}: {statistics.median(few) * 1e6:5.2f} µs an op at 10⁴, "
            f"{statistics.median(many) * 1e6:5.2f} at 10⁶: ratio {statistics.median(ratios):.2f} "
            f"[{ratios[0]:.2f}, {ratios[-1]:.2f}]"
        )
    print(f"10³ diamonds: {statistics.median(diamonds(1000) for _ in range(rounds)) * 1e6:5.2f} µs an op, both ways")


if __name__ == "__main__":
    main()
