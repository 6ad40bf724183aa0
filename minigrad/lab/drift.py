"""How far twins drift apart when matrix products round by position."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import numpy as np

from minigrad import nn, optim
from minigrad.engine.state import blas
from minigrad.engine.tensor import from_numpy
from minigrad.ops.loss import mse_loss


class Spread(NamedTuple):
    """After ``step`` steps, the largest difference between hidden units that began equal, in a first-layer weight.

    ``own``: by minigrad's kernels, where it is 0 for ever. ``blas``: through NumPy's BLAS.
    """

    step: int
    own: float
    blas: float


def blas_drift(
    steps: int = 3000, inputs: int = 100, hidden: int = 30, batch: int = 50, lr: float = 1e-3, seed: int = 0
) -> list[Spread]:
    """Train a constant-initialised MLP twice, with minigrad's kernels and in BLAS mode, and watch its twins.

    inputs-hidden-1 with tanh, weights 0.05, Adam in float32 on ``batch`` fixed examples (normal inputs, a sine for a
    target). In exact arithmetic all hidden units receive the same gradients and stay equal. Rows for steps 1, 2, 4, …
    and the last. Raises ValueError for sizes or steps below 1.

    The rounding of a BLAS product depends on an element's row and column, at many sizes though not at all (powers of
    two are often spared), and Adam, which divides by the size of a gradient, carries last bits far.

    >>> [row.step for row in blas_drift(steps=5, inputs=3, hidden=2, batch=4)]
    [1, 2, 4, 5]
    """
    sizes = {"steps": steps, "inputs": inputs, "hidden": hidden, "batch": batch}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"blas_drift: {name} must be at least 1, got {size}")
    own, through_blas = (_spreads(mode, steps, inputs, hidden, batch, lr, seed) for mode in (None, blas))
    return [Spread(step, own[step], through_blas[step]) for step in own]


def _spreads(mode: Any, steps: int, inputs: int, hidden: int, batch: int, lr: float, seed: int) -> dict[int, float]:
    """The spread of the first layer's rows, by step."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch, inputs)).astype(np.float32)
    y = np.sin(x.sum(axis=1, keepdims=True)).astype(np.float32)
    layers = [
        nn.Linear(fan_in, fan_out, weight_init=0.05, bias_init=0.0)
        for fan_in, fan_out in ((inputs, hidden), (hidden, 1))
    ]
    net = nn.Sequential(layers[0], nn.Tanh(), layers[1])
    opt = optim.Adam(net.parameters(), lr=lr)
    batch_x, batch_y = from_numpy(x), from_numpy(y)
    found = {}
    for step in range(1, steps + 1):
        with mode() if mode else contextlib.nullcontext():
            loss = mse_loss(net(batch_x), batch_y)
            opt.zero_grad()
            loss.backward()
        opt.step()
        if step & (step - 1) == 0 or step == steps:
            rows = layers[0].weight.data
            found[step] = float(np.abs(rows - rows[0]).max())
    return found
