"""lab.propagate beside the same draws and matrix products by hand in NumPy: python bench/propagate.py

Relu, depth 30, width 256, 20 seeds, float64. The two take turns; the figure is the median of the ratios.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from minigrad import init, lab


def by_hand(depth=30, width=256, seeds=20, batch=8):
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        x, g = rng.standard_normal((2, batch, width))
        ws = []
        for _ in range(depth):
            w = (2 / width) ** 0.5 * rng.standard_normal((width, width))
            x = np.maximum(x @ w.T, 0)
            ws.append(w)
        for w in reversed(ws[1:]):
            g = g @ w


def timed(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main(rounds=5):
    rule = init.kaiming_normal(nonlinearity="relu")
    lab.propagate(activation="relu", weight_init=rule, seeds=1)
    by_hand(seeds=1)
    pairs = [(timed(lambda: lab.propagate(activation="relu", weight_init=rule)), timed(by_hand)) for _ in range(rounds)]
    ratios = sorted(a / b for a, b in pairs)
    ours, hand = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"propagate {ours:.2f} s, by hand {hand:.2f} s: ratio {statistics.median(ratios):.2f} "
        f"[{ratios[0]:.2f}, {ratios[-1]:.2f}]"
    )


if __name__ == "__main__":
    main()
