"""Compiled training steps against other frameworks: python bench/step.py [--json FILE] [--plot FILE] [NAME …]

Forward, backward and update of MLPs in float32, by minigrad (called from Python, inside ``run``, and eager), JAX's jit,
PyTorch eager, torch.compile, NumPy by hand, MyGrad, HIPS autograd and tinygrad, those of them that are installed. In
each of 5 fresh processes, pinned to a core (or two, with --threads 2), the sides take turns in blocks of steps; a
figure is the median over the blocks of a process, a ratio that of two such medians, and the interval its smallest and
largest value over the processes. Before anything is timed, all sides must agree on the losses of 5 steps and on the
parameters after them; minigrad's own three to the bit.
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

import eager
import numpy as np

LR, PROCESSES = 0.01, 5

#: name: layer sizes, batch, loss, optimizer
NETWORKS = {
    "2-16-16-1 b100": ([2, 16, 16, 1], 100, "mse", "sgd"),
    "64-32-10 b32": ([64, 32, 10], 32, "classes", "sgd"),
    "784-256-10 b256": ([784, 256, 10], 256, "classes", "sgd"),
    "784-512-512-10 b128": ([784, 512, 512, 10], 128, "classes", "sgd"),
    "30x64 b64": ([64] * 31, 64, "mse", "sgd"),
    "1024x4 b512": ([1024] * 5, 512, "mse", "sgd"),
    "2-16-16-1 b100 adam": ([2, 16, 16, 1], 100, "mse", "adam"),
    "784-256-10 b256 adam": ([784, 256, 10], 256, "classes", "adam"),
    "2-16-16-1 b1": ([2, 16, 16, 1], 1, "mse", "sgd"),
    "64-32-10 b1 inference": ([64, 32, 10], 1, "classes", "none"),
}


def minigrad(how):
    """The side that calls a compiled step, runs it natively ("run"), or runs it eagerly ("eager")."""

    def make(sizes, batch, kind, optimizer, threads):
        import minigrad as mg
        from minigrad import nn, optim

        mg.set_num_threads(threads)
        weights, biases, x, y = eager.problem(sizes, batch, kind)
        layers = []
        for w, b in zip(weights, biases, strict=True):
            layers += [nn.Linear(w.shape[1], w.shape[0], weight_init=w, bias_init=b), nn.Tanh()]
        net = nn.Sequential(*layers[:-1])
        opt = optim.Adam(net.parameters(), LR) if optimizer == "adam" else optim.SGD(net.parameters(), LR)
        loss_of = mg.mse_loss if kind == "mse" else mg.cross_entropy

        def step(x, y):
            if optimizer == "none":
                return net(x).sum()
            loss = loss_of(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            return loss

        if how != "eager":
            step = mg.compile(step)
        if how == "run":
            copies = max(1, 2**19 // x.nbytes)  # a set as large as the digits, over and over
            xs, ys = np.concatenate([x] * copies), np.concatenate([y] * copies)

            def run(steps):
                losses = []
                while steps > 0:
                    n, epochs = (copies, steps // copies) if steps >= copies else (steps, 1)
                    how = {"batch_size": batch, "epochs": epochs, "shuffle": False}
                    losses += step.run(xs[: n * batch], ys[: n * batch], **how).losses.ravel().tolist()
                    steps -= n * epochs
                return losses
        else:
            x, y = mg.tensor(x), mg.from_numpy(y)

            def run(steps):
                return [step(x, y) for _ in range(steps)]

        return run, lambda: [p.data for p in net.parameters()]

    return make


def numpy_by_hand(sizes, batch, kind, optimizer, threads):
    if optimizer != "sgd":
        raise ImportError("written for SGD only")
    step, parameters = eager.numpy_by_hand(sizes, batch, kind)
    return (lambda steps: [step() for _ in range(steps)]), parameters


def torch(compiled):
    def make(sizes, batch, kind, optimizer, threads):
        import torch

        torch.set_num_threads(threads)
        weights, biases, x, y = eager.problem(sizes, batch, kind)
        layers = []
        for w, b in zip(weights, biases, strict=True):
            linear = torch.nn.Linear(w.shape[1], w.shape[0])
            linear.weight.data, linear.bias.data = torch.tensor(w), torch.tensor(b)
            layers += [linear, torch.nn.Tanh()]
        net = torch.nn.Sequential(*layers[:-1])
        kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD, "none": torch.optim.SGD}
        opt = kinds[optimizer](net.parameters(), lr=LR)
        loss_of = torch.nn.functional.mse_loss if kind == "mse" else torch.nn.functional.cross_entropy
        x, y = torch.tensor(x), torch.tensor(y)
        forward = torch.compile(lambda x, y: loss_of(net(x), y)) if compiled else lambda x, y: loss_of(net(x), y)

        def step():
            if optimizer == "none":
                with torch.inference_mode():
                    return net(x).sum()
            loss = forward(x, y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            return loss.detach()

        return (lambda steps: [step() for _ in range(steps)]), lambda: [p.detach().numpy() for p in net.parameters()]

    return make


def jax(sizes, batch, kind, optimizer, threads):
    import jax
    import jax.numpy as jnp

    weights, biases, x, y = eager.problem(sizes, batch, kind)
    parameters = [jnp.array(p) for pair in zip(weights, biases, strict=True) for p in pair]
    x, y = jnp.array(x), jnp.array(y)

    def outputs(p, x):
        for i in range(0, len(p), 2):
            x = x @ p[i].T + p[i + 1]
            x = jnp.tanh(x) if i < len(p) - 2 else x
        return x

    def loss_of(p, x, y):
        out = outputs(p, x)
        if kind == "mse":
            return jnp.mean((out - y) ** 2)
        chosen = jnp.take_along_axis(out, y[:, None], 1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(out, axis=1) - chosen)

    @jax.jit
    def step(state, x, y):
        p, m, v, t = state
        loss, g = jax.value_and_grad(loss_of)(p, x, y)
        if optimizer == "adam":
            t = t + 1
            m = [0.9 * a + 0.1 * b for a, b in zip(m, g, strict=True)]
            v = [0.999 * a + 0.001 * b * b for a, b in zip(v, g, strict=True)]
            scale = LR / (1 - 0.9**t)
            root = jnp.sqrt(1 - 0.999**t)
            p = [a - scale * b / (jnp.sqrt(c) / root + 1e-8) for a, b, c in zip(p, m, v, strict=True)]
        else:
            p = [a - LR * b for a, b in zip(p, g, strict=True)]
        return (p, m, v, t), loss

    inference = jax.jit(lambda p, x: outputs(p, x).sum())
    zeros = [jnp.zeros_like(p) for p in parameters] if optimizer == "adam" else []
    state = [(parameters, zeros, zeros, jnp.float32(0))]

    def run(steps):
        losses = []
        for _ in range(steps):
            if optimizer == "none":
                losses.append(inference(state[0][0], x))
            else:
                state[0], loss = step(state[0], x, y)
                losses.append(loss)
        jax.block_until_ready((losses[-1], state[0]))
        return losses

    return run, lambda: [np.asarray(p) for p in state[0][0]]


def mygrad(sizes, batch, kind, optimizer, threads):
    if optimizer != "sgd":
        raise ImportError("written for SGD only")
    import mygrad as mg
    from mygrad.nnet.losses import softmax_crossentropy

    weights, biases, x, y = eager.problem(sizes, batch, kind)
    weights, biases = [mg.tensor(w) for w in weights], [mg.tensor(b) for b in biases]

    def step():
        a = x
        for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
            a = mg.matmul(a, w.T) + b
            a = mg.tanh(a) if i < len(weights) - 1 else a
        loss = mg.mean((a - y) ** 2) if kind == "mse" else softmax_crossentropy(a, y)
        loss.backward()
        for p in (*weights, *biases):
            p.data -= np.float32(LR) * p.grad
            p.null_grad()
        return loss

    parameters = [p for pair in zip(weights, biases, strict=True) for p in pair]
    return (lambda steps: [step() for _ in range(steps)]), lambda: [p.data for p in parameters]


def hips(sizes, batch, kind, optimizer, threads):
    if optimizer != "sgd":
        raise ImportError("written for SGD only")
    import autograd
    import autograd.numpy as anp
    from autograd.scipy.special import logsumexp

    weights, biases, x, y = eager.problem(sizes, batch, kind)
    state = [[p for pair in zip(weights, biases, strict=True) for p in pair]]

    def loss_of(p):
        a = x
        for i in range(0, len(p), 2):
            a = anp.dot(a, p[i].T) + p[i + 1]
            a = anp.tanh(a) if i < len(p) - 2 else a
        if kind == "mse":
            return anp.mean((a - y) ** 2)
        return anp.mean(logsumexp(a, axis=1) - a[np.arange(batch), y])

    both = autograd.value_and_grad(loss_of)

    def step():
        loss, g = both(state[0])
        state[0] = [a - np.float32(LR) * b for a, b in zip(state[0], g, strict=True)]
        return loss

    return (lambda steps: [step() for _ in range(steps)]), lambda: state[0]


def tinygrad(sizes, batch, kind, optimizer, threads):
    if optimizer != "sgd":
        raise ImportError("written for SGD only")
    from tinygrad import Tensor, TinyJit
    from tinygrad.nn.optim import SGD

    weights, biases, x, y = eager.problem(sizes, batch, kind)
    parameters = [Tensor(p).realize() for pair in zip(weights, biases, strict=True) for p in pair]
    for p in parameters:
        p.requires_grad = True
    opt, x, y = SGD(parameters, lr=LR), Tensor(x), Tensor(y)

    @TinyJit
    def step():
        a = x
        for i in range(0, len(parameters), 2):
            a = a.linear(parameters[i].T, parameters[i + 1])
            a = a.tanh() if i < len(parameters) - 2 else a
        loss = ((a - y) ** 2).mean() if kind == "mse" else a.sparse_categorical_crossentropy(y)
        opt.zero_grad()
        loss.backward()
        return loss.realize(*opt.schedule_step())

    def run(steps):
        with Tensor.train():
            return [step().item() for _ in range(steps)]

    return run, lambda: [p.numpy() for p in parameters]


SIDES = {
    "minigrad": minigrad("call"),
    "minigrad in run": minigrad("run"),
    "minigrad eager": minigrad("eager"),
    "JAX jit": jax,
    "PyTorch eager": torch(compiled=False),
    "torch.compile": torch(compiled=True),
    "NumPy by hand": numpy_by_hand,
    "MyGrad": mygrad,
    "HIPS autograd": hips,
    "tinygrad": tinygrad,
}


def measure(name, threads, wanted):
    """(median µs of a step, µs of the first call) by side, of one process, and why other sides did not run."""
    sizes, batch, kind, optimizer = NETWORKS[name]
    made, losses, first, missing = {}, {}, {}, {}
    for side, make in SIDES.items():
        if wanted and side not in wanted:
            continue
        try:
            run, parameters = make(sizes, batch, kind, optimizer, threads)
            start = time.perf_counter()
            losses[side] = [float(v.item() if hasattr(v, "item") else v) for v in run(1)]
            first[side] = time.perf_counter() - start
            losses[side] += [float(v.item() if hasattr(v, "item") else v) for _ in range(4) for v in run(1)]
            made[side] = run, parameters
        except Exception as error:  # a peer that does not run is named, with its reason
            missing[side] = f"{type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else ''}"
    for side, (_, parameters) in made.items():
        own = side.startswith("minigrad")
        np.testing.assert_allclose(losses[side], losses["minigrad"], rtol=0 if own else 1e-4, err_msg=side)
        for theirs, mine in zip(parameters(), made["minigrad"][1](), strict=True):
            # Adam divides by a gradient's size: where that is rounding noise, so is the step
            near = 0 if own else 1e-3 if optimizer == "adam" else 2e-5
            np.testing.assert_allclose(theirs, mine, rtol=0 if own else 1e-3, atol=near, err_msg=side)
    blocks = {}
    for side, (run, _) in made.items():
        run(3)
        start = time.perf_counter()
        run(3)
        each = (time.perf_counter() - start) / 3
        blocks[side] = max(1, int(0.03 / each))  # as long for every side
        run(blocks[side])
    times = {side: [] for side in made}
    gc.collect()
    begin = time.perf_counter()
    while time.perf_counter() - begin < 6 or len(times["minigrad"]) < 5:
        for side, (run, _) in made.items():
            run(1)
            if threads > 1:
                time.sleep(0.02)  # worker threads of other sides spin for a while after their work
                run(1)
            start = time.perf_counter()
            run(blocks[side])
            times[side].append((time.perf_counter() - start) / blocks[side])
    return {
        "times": {side: statistics.median(values) * 1e6 for side, values in times.items()},
        "first": {side: value * 1e6 for side, value in first.items()},
        "missing": missing,
    }


def memory(name):
    """Bytes of one training step at its peak: parameters, gradients, data and intermediate results, by side."""
    import minigrad as mg
    from minigrad import nn, optim

    sizes, batch, kind, _ = NETWORKS[name]
    weights, biases, x, y = eager.problem(sizes, batch, kind)
    fixed = 2 * sum(p.nbytes for p in (*weights, *biases)) + x.nbytes + y.nbytes
    pairs = itertools.pairwise(sizes)
    net = nn.Sequential(*[part for a, b in pairs for part in (nn.Linear(a, b), nn.Tanh())][:-1])
    opt = optim.SGD(net.parameters(), LR)
    loss_of = mg.mse_loss if kind == "mse" else mg.cross_entropy

    @mg.compile
    def step(x, y):
        loss = loss_of(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    step(x, y)
    program = step.program
    found = {"minigrad": fixed + program.arena, "minigrad without reuse": fixed + program.unplanned}
    try:
        from torch.profiler import ProfilerActivity, profile
    except ImportError as error:
        print(f"SKIPPED: PyTorch ({error})", file=sys.stderr)
        return found
    run, _ = torch(compiled=False)(*NETWORKS[name], threads=1)
    run(2)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run(1)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    live = itertools.accumulate(event.nbytes() for event in events)
    return {**found, "PyTorch eager": fixed + max(live)}  # it begins a step with all gradients alive, too


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"networks (default: all): {', '.join(NETWORKS)}")
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--plot", help="also draw the ratios into this file")
    parser.add_argument("--threads", type=int, default=1, help="threads of every side (default 1)")
    parser.add_argument("--core", type=int, default=0, help="the first core to run on (default 0)")
    parser.add_argument("--processes", type=int, default=PROCESSES, help=f"fresh processes (default {PROCESSES})")
    parser.add_argument("--sides", help="only these, separated by commas")
    parser.add_argument("--memory", action="store_true", help="bytes at the peak of a step, instead of times")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    names = options.names or list(NETWORKS)
    if unknown := [name for name in names if name not in NETWORKS]:
        parser.error(f"there is no network {unknown[0]!r}: use {', '.join(NETWORKS)}")
    if options.sides:  # ours is what the others are compared with
        options.sides = ",".join(dict.fromkeys(["minigrad", *options.sides.split(",")]))
        if unknown := [side for side in options.sides.split(",") if side not in SIDES]:
            parser.error(f"there is no side {unknown[0]!r}: use {', '.join(SIDES)}")
    if options.memory:
        for name in names:
            if NETWORKS[name][3] == "sgd":
                print(f"{name}: " + ", ".join(f"{side} {size:,} bytes" for side, size in memory(name).items()))
        return
    if options.child:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, set(range(options.core, options.core + options.threads)))
        wanted = options.sides.split(",") if options.sides else None
        print(json.dumps(measure(names[0], options.threads, wanted)))
        return
    count = str(options.threads)
    env = {**os.environ, **{f"{n}_NUM_THREADS": count for n in ("OMP", "OPENBLAS", "MKL", "NUMBA", "MINIGRAD")}}
    env |= {"XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'true' if options.threads > 1 else 'false'}", "DEV": "CPU"}
    report = {}
    for name in names:
        command = [sys.executable, __file__, name, "--child", "--threads", count, "--core", str(options.core)]
        command += ["--sides", options.sides] if options.sides else []
        runs = []
        for _ in range(options.processes):
            out = subprocess.run(command, env=env, capture_output=True, text=True)
            if out.returncode:
                raise SystemExit(out.stderr)
            runs.append(json.loads(out.stdout.splitlines()[-1]))
        report[name] = table(name, runs)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
    if options.plot:
        plot(report, options.plot)


def table(name, runs):
    """Print the figures of one network, and return them."""
    print(
        f"\n{name}: one step, {len(runs)} processes\n{'':18}{'median µs':>11}{'first ms':>10}   its time / minigrad's"
    )
    found = {}
    for side in runs[0]["times"]:
        ratios = sorted(run["times"][side] / run["times"]["minigrad"] for run in runs)
        middle = statistics.median(run["times"][side] for run in runs)
        first = statistics.median(run["first"][side] for run in runs) / 1e3
        found[side] = {
            "us": middle,
            "first_ms": first,
            "ratio": statistics.median(ratios),
            "interval": ratios[:: len(ratios) - 1 or 1],
        }
        interval = f"[{ratios[0]:.2f}, {ratios[-1]:.2f}]"
        print(f"{side:18}{middle:11.1f}{first:10.1f}   {statistics.median(ratios):6.2f}  {interval}")
    for side, why in runs[0]["missing"].items():
        print(f"{side:18}  SKIPPED: {why}")
    return found


def plot(report, path):
    """Bars of every side's time as a multiple of minigrad's."""
    import matplotlib.pyplot as plt

    sides = list(dict.fromkeys(side for found in report.values() for side in found if side != "minigrad"))
    figure, axes = plt.subplots(figsize=(11, 0.6 * len(report) * 1.5 + 1.5), layout="constrained")
    height = 0.8 / len(sides)
    for i, side in enumerate(sides):
        at = [j + i * height for j, found in enumerate(report.values()) if side in found]
        axes.barh(at, [found[side]["ratio"] for found in report.values() if side in found], height, label=side)
    axes.axvline(1, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="time of a step, as a multiple of minigrad's compiled step")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_yticks([j + 0.4 for j in range(len(report))], list(report))
    axes.invert_yaxis()
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
