"""Kernels against NumPy's OpenBLAS, PyTorch and the machine's own limits: python bench/kernels.py [--json F] [--plot F]

Every thread setting has a process of its own, pinned to as many cores. The sides take turns: in each round every side
runs for about a millisecond (at least once), and a ratio is that of neighbours in one round. Printed are medians over
the rounds, and in brackets the 95 % interval of the median (by order statistics). Results are compared before anything
is timed. GEMM is called from Python on both sides, which allocate their results; elementwise kernels write to arrays
that are there already, on all sides that can. Above 1, minigrad is the faster; beside copies, which move fewer bytes
than relu's backward, it moves more bytes in a second. ``--only scaling`` tells what two threads are worth, of either.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time

import numpy as np

# m, k, n of C (m, n) = A (m, k) B (k, n). Layouts: nn as written, tn A is a transposed view, nt B is one.
SQUARES = [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048]
ODD = [5, 7, 13, 17, 31, 33, 63, 65, 100, 127, 129, 200, 255, 257, 333, 511, 513, 777, 1000, 1023, 1025, 1500]
THIN = [
    (1, 64, 64), (1, 256, 256), (1, 1024, 1024), (2, 512, 512), (4, 256, 256), (256, 256, 1), (1024, 1024, 1),
    (100, 2, 16), (100, 16, 16), (100, 16, 1), (32, 64, 32), (32, 32, 10), (64, 784, 128), (256, 784, 10),
    (128, 784, 512), (256, 784, 256), (512, 128, 512), (2048, 8, 2048), (16, 2048, 16), (2048, 16, 16),
    (16, 16, 2048), (1024, 32, 1024), (64, 2048, 64),
]  # fmt: skip
TRANSPOSED = [
    (16, 16, 16), (32, 64, 32), (64, 64, 64), (100, 100, 100), (128, 128, 128), (255, 255, 255), (256, 256, 256),
    (512, 512, 512), (1024, 1024, 1024), (784, 256, 256), (128, 784, 512), (256, 784, 10), (32, 784, 128),
    (1000, 1000, 1000),
]  # fmt: skip
TABLE = [(n, n, n, "nn") for n in sorted(SQUARES + ODD)] + [(*size, "nn") for size in THIN]
TABLE += [(*size, layout) for layout in ("tn", "nt") for size in TRANSPOSED]

SHAPES = {"in cache": (64, 256), "out of cache": (16384, 1024)}
FUNCTIONS = ["relu", "tanh", "sigmoid", "gelu", "softmax", "exp", "log"]


def alternate(sides, rounds, budget):
    """Seconds a call of each side, a list for each over the rounds."""
    counts = {}
    for name, run in sides.items():
        run()
        start = time.perf_counter()
        run()
        counts[name] = max(1, min(2000, int(budget / max(time.perf_counter() - start, 1e-7))))
    times = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            run()
            count = counts[name]
            start = time.perf_counter()
            for _ in range(count):
                run()
            times[name].append((time.perf_counter() - start) / count)
    return times


def interval(values):
    """The median and its 95 % interval, from the order statistics of a sample."""
    values, n = sorted(values), len(values)
    reach = math.ceil(0.98 * math.sqrt(n))
    return statistics.median(values), values[max(0, n // 2 - reach)], values[min(n - 1, n // 2 + reach)]


def compare(sides, rounds, budget, work=None):
    """For each side its median time, and for the others the ratio theirs / ours with its interval.

    ``work``: how much less than ours another side does, where it is not the same; the ratio is that of speeds then.
    """
    times = alternate(sides, rounds, budget)
    ours = times["minigrad"]
    row = {}
    for name, theirs in times.items():
        less = (work or {}).get(name, 1)
        ratio = interval([b / a / less for a, b in zip(ours, theirs, strict=True)])
        row[name] = {"seconds": statistics.median(theirs), "ratio": ratio[0], "interval": ratio[1:]}
    return row


def torch_or_none(threads):
    try:
        import torch
    except ImportError as error:
        print(f"SKIPPED: PyTorch ({error})", file=sys.stderr)
        return None
    torch.set_num_threads(threads)
    return torch


def operands(rng, m, k, n, layout, dtype):
    a = rng.standard_normal((k, m) if layout == "tn" else (m, k)).astype(dtype)
    b = rng.standard_normal((n, k) if layout == "nt" else (k, n)).astype(dtype)
    return a.T if layout == "tn" else a, b.T if layout == "nt" else b


def gemm_rows(dtype, threads, rounds, peers):
    from minigrad.kernels import gemm

    torch, rng = torch_or_none(threads) if peers else None, np.random.default_rng(0)
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    for m, k, n, layout in TABLE:
        a, b = operands(rng, m, k, n, layout, dtype)
        sides = {"minigrad": lambda a=a, b=b: gemm.matmul(a, b), "OpenBLAS": lambda a=a, b=b: np.matmul(a, b)}
        if torch:
            x, y = (torch.from_numpy(v) for v in (a, b))
            sides["PyTorch"] = lambda x=x, y=y, mm=torch.mm: mm(x, y)
        wanted = sides["OpenBLAS"]()
        for name, run in sides.items():
            error = np.abs(np.asarray(run()) - wanted).max()
            assert error <= tolerance * k, f"{name} differs by {error} at {m}x{k}x{n} {layout}"
        flops = 2 * m * k * n
        row = compare(sides, max(9, min(rounds, int(3e11 / flops) | 1)), 1e-3)
        yield {"m": m, "k": k, "n": n, "layout": layout, "dtype": dtype, "flops": flops, "sides": row}


def fma_peak(dtype):
    """FLOP/s of fused multiply-adds on registers alone: the most that a core can do."""
    from minigrad.kernels.jit import kernel
    from minigrad.kernels.simd import fma, load, store, width

    def spin(x, out, n):
        w = width(x)
        a, b = load(x, 0, w, 0.0), load(x, 0, w, 0.0)
        c0 = c1 = c2 = c3 = c4 = c5 = c6 = c7 = c8 = c9 = c10 = c11 = load(x, 0, w, 0.0)
        for _ in range(n):
            c0, c1, c2, c3 = fma(a, b, c0), fma(a, b, c1), fma(a, b, c2), fma(a, b, c3)
            c4, c5, c6, c7 = fma(a, b, c4), fma(a, b, c5), fma(a, b, c6), fma(a, b, c7)
            c8, c9, c10, c11 = fma(a, b, c8), fma(a, b, c9), fma(a, b, c10), fma(a, b, c11)
            b, a = a, b
        for i, c in ((0, c0), (1, c1), (2, c2), (3, c3), (4, c4), (5, c5), (6, c6), (7, c7), (8, c8), (9, c9)):
            store(out, i * w, 12 * w, c)
        store(out, 10 * w, 12 * w, c10)
        store(out, 11 * w, 12 * w, c11)

    from minigrad.kernels.simd import VECTOR_BYTES

    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    x, out = np.full(lanes, 1e-3, dtype), np.empty(12 * lanes, dtype)
    run = kernel("TT", ints=1)(spin)[np.dtype(dtype)]
    count = 100_000
    run(x, out, count)
    best = min(timed(lambda: run(x, out, count)) for _ in range(50))
    return 2 * 12 * lanes * count / best


def timed(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def copiers(x, out):
    """Ways of copying an array: the fastest of them is the limit for what moves so many bytes."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    from minigrad.kernels.jit import kernel
    from minigrad.kernels.simd import load, store, width

    @intrinsic
    def stream(typingctx, p, i, lanes):
        def codegen(context, builder, signature, args):
            address = builder.bitcast(builder.gep(args[0], [args[1]]), args[2].type.as_pointer())
            written = builder.store(args[2], address, align=64)
            written.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
            return context.get_dummy_value()

        return types.void(p, types.int64, lanes), codegen

    def loop(x, out, n):
        for i in range(0, n, width(x)):
            store(out, i, n, load(x, i, n, 0.0))

    def streaming(x, out, n):
        for i in range(0, n, width(x)):
            stream(out, i, load(x, i, n, 0.0))

    plain, past_caches = (kernel("TT", ints=1)(body)[x.dtype] for body in (loop, streaming))
    ways = {"np.copyto": lambda: np.copyto(out, x), "a Numba loop": lambda: plain(x, out, x.size)}
    if out.ctypes.data % 64 == 0 and x.size % 64 == 0:
        ways["non-temporal stores"] = lambda: past_caches(x, out, x.size)
    return ways


def aligned(shape, offset=0):
    """A float32 array that begins ``offset`` bytes after a multiple of 4096.

    A load seems to follow a store that lies a multiple of 4096 bytes away, so operands keep their distance.
    """
    size = math.prod(shape) * 4
    raw = np.zeros(size + 8192, np.uint8)
    start = -raw.ctypes.data % 4096 + offset
    return raw[start : start + size].view("f4").reshape(shape)


def placed(values):
    """A copy, 3 KiB away from the outputs."""
    array = aligned(values.shape, 3072)
    array[...] = values
    return array


def ours(name, z, g, out):
    """(forward, backward or None, forward's result), writing to ``out``."""
    from minigrad.kernels import elementwise as ew
    from minigrad.kernels import reduction as rd

    f32, n = z.dtype, z.size
    if name == "softmax":
        y = placed(rd.softmax(z, 1))
        return lambda: rd._softmax[f32](z, out, *z.shape), lambda: rd._softmax_vjp[f32](g, y, out, *z.shape), y
    full = {"gelu": "_gelu_exact"}.get(name, name)
    y, run, rule = placed(getattr(ew, full)(z)), getattr(ew, full).kernel[f32], getattr(ew, f"{full}_vjp", None)
    if rule is None:
        return lambda: run(z, out, n), None, y
    back, saved = rule.kernel[f32], z if name == "gelu" else y
    return lambda: run(z, out, n), lambda: back(g, saved, out, n), y


def numpys(name, z, g, y, t):
    """The same by NumPy's ufuncs, every step in place."""
    from scipy import special

    half, root = np.float32(0.5), np.float32(math.sqrt(0.5))
    density = np.float32(1 / math.sqrt(2 * math.pi))

    def sigmoid():
        np.reciprocal(np.add(np.exp(np.negative(z, out=t), out=t), 1, out=t), out=t)

    def gelu():
        np.multiply(
            np.multiply(np.add(special.erf(np.multiply(z, root, out=t), out=t), 1, out=t), z, out=t), half, out=t
        )

    def gelu_back():
        np.exp(np.multiply(np.multiply(z, z, out=t), -half, out=t), out=t)
        np.multiply(np.multiply(t, density, out=t), z, out=t)
        np.multiply(np.add(t, half * (1 + special.erf(z * root)), out=t), g, out=t)

    def softmax():
        np.exp(np.subtract(z, z.max(axis=1, keepdims=True), out=t), out=t)
        np.divide(t, t.sum(axis=1, keepdims=True), out=t)

    def softmax_back():
        np.multiply(g, y, out=t)
        np.multiply(np.subtract(g, t.sum(axis=1, keepdims=True), out=t), y, out=t)

    return {
        "relu": (lambda: np.maximum(z, 0, out=t), lambda: np.multiply(g, y > 0, out=t)),
        "tanh": (
            lambda: np.tanh(z, out=t),
            lambda: np.multiply(np.subtract(1, np.multiply(y, y, out=t), out=t), g, out=t),
        ),
        "sigmoid": (sigmoid, lambda: np.multiply(np.multiply(np.subtract(1, y, out=t), y, out=t), g, out=t)),
        "gelu": (gelu, gelu_back),
        "softmax": (softmax, softmax_back),
        "exp": (lambda: np.exp(z, out=t), None),
        "log": (lambda: np.log(z, out=t), None),
    }[name]


def pytorchs(torch, name, z, g, y, out):
    """The same by PyTorch's kernels, writing to ``out``."""
    z, g, y, out = (torch.from_numpy(v) for v in (z, g, y, out))
    aten = torch.ops.aten
    softmax_back = aten._softmax_backward_data.out
    return {
        "relu": (
            lambda: aten.clamp_min.out(z, 0.0, out=out),
            lambda: aten.threshold_backward.grad_input(g, y, 0, grad_input=out),
        ),
        "tanh": (lambda: torch.tanh(z, out=out), lambda: aten.tanh_backward.grad_input(g, y, grad_input=out)),
        "sigmoid": (lambda: torch.sigmoid(z, out=out), lambda: aten.sigmoid_backward.grad_input(g, y, grad_input=out)),
        "gelu": (lambda: aten.gelu.out(z, out=out), lambda: aten.gelu_backward.grad_input(g, z, grad_input=out)),
        "softmax": (
            lambda: torch.softmax(z, 1, out=out),
            lambda: softmax_back(g, y, 1, torch.float32, grad_input=out),
        ),
        "exp": (lambda: torch.exp(z, out=out), None),
        "log": (lambda: torch.log(z, out=out), None),
    }[name]


def elementwise_rows(threads, rounds):
    torch, rng = torch_or_none(threads), np.random.default_rng(0)
    for place, shape in SHAPES.items():
        x, g = aligned(shape, 1024), aligned(shape, 2048)
        x[...], g[...] = rng.standard_normal(shape), rng.standard_normal(shape)
        for name in FUNCTIONS:
            z = placed(np.abs(x) + np.float32(0.5)) if name == "log" else x
            outs = {side: aligned(shape) for side in ("minigrad", "NumPy", "PyTorch")}
            *pair, y = ours(name, z, g, outs["minigrad"])
            made = {"minigrad": pair, "NumPy": numpys(name, z, g, y, outs["NumPy"])}
            if torch:
                made["PyTorch"] = pytorchs(torch, name, z, g, y, outs["PyTorch"])
            for which, direction in enumerate(("forward", "backward")):
                sides = {side: both[which] for side, both in made.items() if both[which]}
                if not sides:
                    continue
                for side, run in sides.items():
                    run()
                    near = np.allclose(outs[side], outs["minigrad"], rtol=1e-4, atol=1e-5)
                    assert near, f"{side} differs at {name} {direction}"
                copies = copiers(x, outs["minigrad"]) if name == "relu" else {}
                moved = x.nbytes * (2 + which)
                row = compare(sides | copies, rounds, 1e-3, dict.fromkeys(copies, 2 * x.nbytes / moved))
                yield {"function": name, "direction": direction, "place": place, "bytes": moved, "sides": row}


def pin(cores):
    """Keep this process to its first so many cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))


def child(options):
    threads = options.child
    pin(threads)
    from minigrad import kernels

    if hasattr(kernels, "set_num_threads"):
        kernels.set_num_threads(threads)
    report = {"threads": threads, "gemm": [], "elementwise": [], "peak": {}}
    if "gemm" in options.only:
        for dtype in ("float32", "float64"):
            report["peak"][dtype] = fma_peak(dtype)
            for row in gemm_rows(dtype, threads, options.rounds, options.peers):
                report["gemm"].append(row)
                show_gemm(row, report["peak"][dtype] * threads)
    if "elementwise" in options.only and threads == 1:
        for row in elementwise_rows(threads, options.rounds):
            report["elementwise"].append(row)
            show_elementwise(row)
    summary(report)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


def multiply(side):
    """For each number of threads that is read: the seconds of a product of 1024 x 1024 by 1024 x 1024 then."""
    pin(2)
    from minigrad.kernels import gemm, set_num_threads

    rng, times = np.random.default_rng(0), 3
    a, b = (rng.standard_normal((1024, 1024)).astype("f4") for _ in range(2))
    run, use = gemm.matmul, set_num_threads
    if side == "OpenBLAS":
        from threadpoolctl import threadpool_limits

        run, use = np.matmul, lambda threads: threadpool_limits(threads, user_api="blas")
    print("ready", flush=True)
    for line in sys.stdin:
        use(int(line))
        for _ in range(2):
            wanted = run(a, b)
        start = time.perf_counter()
        for _ in range(times):
            found = run(a, b)
        print((time.perf_counter() - start) / times, flush=True)
        assert np.array_equal(found, wanted)


def scaling(rounds):
    """What two threads are worth, of minigrad and of OpenBLAS: a process of each, which take turns on both cores."""
    sides = ["minigrad", "OpenBLAS"]
    if importlib.util.find_spec("threadpoolctl") is None:
        print("SKIPPED: OpenBLAS (threadpoolctl, which sets its threads, is not installed)", file=sys.stderr)
        sides.pop()
    pipes, children = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}, {}
    for side in sides:
        command = [sys.executable, __file__, "--multiply", side]
        children[side] = subprocess.Popen(command, env=environment(2), **pipes)
        assert children[side].stdout.readline() == "ready\n"
    ratios = {side: [] for side in sides}
    for _ in range(rounds):
        for side, child in children.items():
            seconds = []
            for threads in (1, 2):
                print(threads, file=child.stdin, flush=True)
                seconds.append(float(child.stdout.readline()))
            ratios[side].append(seconds[0] / seconds[1])
            time.sleep(0.1)  # until its threads sleep
    for side, child in children.items():
        child.communicate()
        ratio, low, high = interval(ratios[side])
        print(f"{side}: two threads {ratio:.2f} [{low:.2f}, {high:.2f}] of one at 1024x1024x1024, float32")


def environment(threads):
    """This process's, with so many threads for all that read it there."""
    return {**os.environ, **{f"{n}_NUM_THREADS": str(threads) for n in ("OMP", "OPENBLAS", "MKL", "NUMBA", "MINIGRAD")}}


def against(row):
    parts = []
    for name, side in row["sides"].items():
        if name != "minigrad":
            low, high = side["interval"]
            parts.append(f"{name} {side['ratio']:5.2f} [{low:.2f}, {high:.2f}]")
    return "   ".join(parts)


def show_gemm(row, peak):
    speed = row["flops"] / row["sides"]["minigrad"]["seconds"]
    size = f"{row['m']}x{row['k']}x{row['n']} {row['layout']}"
    print(
        f"{row['dtype']} {size:18} {speed / 1e9:7.2f} GFLOP/s {speed / peak:5.0%} of peak   {against(row)}", flush=True
    )


def show_elementwise(row):
    speed = row["bytes"] / row["sides"]["minigrad"]["seconds"]
    print(
        f"{row['function']:8} {row['direction']:8} {row['place']:12} {speed / 1e9:6.2f} GB/s   {against(row)}",
        flush=True,
    )


def summary(report):
    for dtype in ("float32", "float64"):
        rows = [row for row in report["gemm"] if row["dtype"] == dtype]
        if rows:
            ratios = [row["sides"]["OpenBLAS"]["ratio"] for row in rows]
            slow = [row for row in rows if row["sides"]["OpenBLAS"]["interval"][1] < 0.95]
            print(
                f"\n{report['threads']} thread(s), {dtype}: {len(rows)} sizes: {statistics.median(ratios):.3f} x "
                f"OpenBLAS, least {min(ratios):.3f}; {len(slow)} sizes wholly below 0.95; "
                f"peak of a core {report['peak'][dtype] / 1e9:.1f} GFLOP/s"
            )
            for row in slow:
                print(f"  below: {row['m']}x{row['k']}x{row['n']} {row['layout']} {against(row)}")


def plot(reports, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), sharey=True, layout="constrained")
    for axis, dtype in zip(axes, ("float32", "float64"), strict=True):
        for report, marker in zip(reports, "os^v", strict=False):
            rows = [row for row in report["gemm"] if row["dtype"] == dtype]
            axis.scatter(
                [row["flops"] for row in rows],
                [row["sides"]["OpenBLAS"]["ratio"] for row in rows],
                s=16,
                marker=marker,
                label=f"{report['threads']} thread(s)",
            )
        axis.axhline(1, color="grey", linewidth=0.8)
        axis.set(xscale="log", yscale="log", title=f"matmul, {dtype}", xlabel="floating-point operations")
        axis.minorticks_off()
        axis.set_yticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
        axis.legend()
    axes[0].set_ylabel("speed, as a multiple of OpenBLAS's")
    figure.savefig(path, dpi=150)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--plot", help="write a picture of them to this file")
    parser.add_argument("--threads", default="1,2", help="thread settings, each in a process of its own (1,2)")
    parser.add_argument("--rounds", type=int, default=21, help="rounds of all sides (21)")
    parser.add_argument("--only", default="gemm,elementwise", help="parts to run: gemm, elementwise; or scaling")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="leave PyTorch out of the GEMM table")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--multiply", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        return child(options)
    if options.multiply:
        return multiply(options.multiply)
    if options.only == "scaling":
        return scaling(options.rounds)
    reports = []
    for threads in options.threads.split(","):
        out = f"{options.json or 'kernels'}.{threads}.part"
        command = [sys.executable, __file__, "--child", threads, "--json", out, "--rounds", str(options.rounds)]
        command += ["--only", options.only] + ([] if options.peers else ["--no-peers"])
        subprocess.run(command, env=environment(threads), check=True)
        with open(out, encoding="utf-8") as file:
            reports.append(json.load(file))
        os.remove(out)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(reports, file, indent=1)
    if options.plot:
        plot(reports, options.plot)
    return None


if __name__ == "__main__":
    main()
