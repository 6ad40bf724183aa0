"""The labelled confusion matrix of ``testing.gradcheck``: every op × seeds × dtypes × scales 1e-8 … 1e8.

python bench/verdicts.py [SEEDS]      (50 for the whole; each takes about five seconds on one core)

Elementwise ops; tests/testing/test_gradcheck.py has the whole registry at scale 1. Labels: *right* (the rule as it
is), *planted* (its gradient times 1.001), *kink* (an op's declared kink). Arguments are scaled; a sample is kept where
value and gradient are finite, and is *calm* with a condition number below 1e6 and no entry within a thousandth of a
kink. Exit status 1, and a list, if a calm sample is misjudged, or a right one anywhere called wrong.
"""

import sys
from collections import Counter

import numpy as np

import minigrad as mg
from minigrad.testing import gradcheck

SCALES = 10.0 ** np.arange(-8, 9, 2)
SMOOTH = ("elu", "clip")  # at their declared kinks, with the default options: elu' is continuous, clip has no edge


def samples(op, rng, dtype, scale):
    """Arguments of an elementwise op, drawn from its domains and scaled; None where the domain has no such scale."""
    args = []
    for name in op.arrays:
        d = op.domains.get(name, mg.reals(-2, 2))
        if d.kind != "f":
            return None
        x = np.asarray(rng.uniform(d.low, d.high, 3) * scale, dtype)
        if d.distinct or (np.any(x < d.low) and d.low >= 0):
            return None
        args.append(x)
    return args


def kinks(op):
    return sorted({k for d in op.domains.values() if d.kind == "f" for k in d.kinks})


def condition(op, args):
    """The largest |x ∂y/∂x| / |y| over the entries, and whether all is finite."""
    leaves = [mg.tensor(np.float64(a), requires_grad=True) for a in args]
    y = op(*leaves)
    if y.node is None:
        return np.inf, False
    y.backward(np.ones(y.shape))
    slopes = [np.zeros(x.shape) if x.grad is None else x.grad.data for x in leaves]
    finite = np.isfinite(y.data).all() and all(np.isfinite(s).all() for s in slopes)
    ratios = [np.abs(x.data * s / y.data).max() for x, s in zip(leaves, slopes, strict=True)]
    return max(ratios), bool(finite and all(s.any() for s in slopes))


def planting(op, factor):
    """The gradient of the sum of op's output, times a factor."""

    def gradient(*args):
        _, pullback = mg.vjp(lambda *a: op(*a).sum(), *args)
        return tuple(factor * g.data for g in pullback(1.0))

    return gradient


def main(seeds):
    table, missed = Counter(), []
    ops = [op for _, op in sorted(mg.REGISTRY.items()) if op.shapes == "elementwise" and op.rules and not op.writes]
    for op in ops:
        for seed in range(seeds):
            for dtype in (np.float32, np.float64):
                for scale in SCALES:
                    args = samples(op, np.random.default_rng(seed), dtype, scale)
                    if args is None:
                        continue
                    with np.errstate(all="ignore"):
                        try:
                            cond, finite = condition(op, args)
                        except (TypeError, ValueError):
                            continue
                        if not finite:
                            continue
                        points = kinks(op)
                        near = any(np.any(np.abs(a - k) < 1e-3 * max(1, abs(k))) for a in args for k in points)
                        calm = "calm" if cond < 1e6 and not near else "rough"
                        right = gradcheck(op, args).verdict
                        planted = gradcheck(lambda *a, op=op: op(*a).sum(), args, gradient=planting(op, 1.001)).verdict
                    table["right, " + calm, right] += 1
                    table["planted, " + calm, planted] += 1
                    if (calm == "calm" and (right != "correct" or planted != "wrong")) or right == "wrong":
                        at = f"{op.name} seed {seed} {np.dtype(dtype)} scale {scale:g}"
                        missed.append(f"{at}: {right}, planted {planted}")
        if len(op.arrays) == 1 and op.name not in SMOOTH:
            for k in kinks(op):
                for dtype in (np.float32, np.float64):
                    table["kink", gradcheck(op, [np.asarray([k], dtype)]).verdict] += 1
                    if gradcheck(op, [np.asarray([k], dtype)]).verdict != "kink":
                        missed.append(f"{op.name} at its kink {k}")
    verdicts = ("correct", "wrong", "kink", "noise")
    print(f"{'':16}" + "".join(f"{v:>9}" for v in verdicts))
    for label in sorted({row for row, _ in table}):
        print(f"{label:16}" + "".join(f"{table[label, v]:9}" for v in verdicts))
    print(*missed[:40], sep="\n")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 2))
