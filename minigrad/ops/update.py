"""Ops that write: optimizer steps and assignments. Recording sees them like any other op."""

from __future__ import annotations

import math

import numpy as np

from minigrad.engine.op import op
from minigrad.engine.shapes import integers, reals
from minigrad.kernels import update as kernels


@op("p ← value", shapes="free", differentiable=False, writes=("p",), cases=[(((3, 4), ()), {}), (((3,), (3,)), {})])
def assign(p, value):
    """Write ``value``, broadcast to p's shape and cast to its dtype."""
    p[...] = value


@op(
    "n ← n + 1",
    shapes="free",
    differentiable=False,
    writes=("n",),
    kernel=kernels.tick,
    n=integers(0, 9),
    cases=[(((1,),), {})],
)
def tick(n):
    """Add one to a counter."""
    n += 1


@op("p ← s p", shapes="free", differentiable=False, writes=("p",), cases=[(((3, 4), ()), {})])
def scale_(p, s):
    """Multiply p by a number."""
    np.multiply(p, s, out=p, casting="same_kind")


@op(
    "p ← p − lr (ḡ + wd p)",
    shapes="free",
    differentiable=False,
    writes=("p",),
    kernel=kernels.sgd,
    cases=[(((3, 5), (3, 5)), {"h": np.array([0.1, 0, wd, 0, 0])}) for wd in (0, 0.01)],
)
def sgd(p, d, h=None):
    """One step of gradient descent; h = [lr, momentum, weight decay, nesterov, dampening], float64; only the
    first and the third are read here."""
    lr, _momentum, decay = (p.dtype.type(v) for v in h[:3])
    p -= lr * (d + decay * p if decay else d)


@op(
    "m ← μ m + ḡ, p ← p − lr m",
    shapes="free",
    differentiable=False,
    writes=("p", "buf"),
    kernel=kernels.sgd_momentum,
    cases=[
        (((3, 5), (3, 5), (3, 5)), {"h": np.array([0.1, 0.9, 0.01, 0, 0.5])}),
        (((3, 5), (3, 5), (3, 5)), {"h": np.array([0.1, 0.9, 0, 1, 0])}),
    ],
)
def sgd_momentum(p, d, buf, h=None):
    """One step of descent with momentum; h as for sgd, all of it read. Nesterov's form takes ḡ + μ m for m."""
    lr, momentum, decay = (p.dtype.type(v) for v in h[:3])
    d = d + decay * p if decay else d
    buf *= momentum
    buf += p.dtype.type(1 - h[4]) * d
    p -= lr * (d + momentum * buf if h[3] else buf)


@op(
    "m, v ← means of ḡ, ḡ²; p ← p − lr m̂ / (√v̂ + ε)",
    shapes="free",
    differentiable=False,
    writes=("p", "m", "v"),
    kernel=kernels.adam,
    v=reals(0.1, 2),
    cases=[
        (((3, 5),) * 4, {"h": np.array([0.1, 0.9, 0.99, 1e-8, 0.01, 0, 0.9, 0.99])}),
        (((3, 5),) * 4, {"h": np.array([0.1, 0.9, 0.99, 1e-8, 0.01, 1, 0.81, 0.98])}),
    ],
)
def adam(p, d, m, v, h=None):
    """One step of Adam (Kingma & Ba 2015); with decoupled decay, of AdamW (Loshchilov & Hutter 2019).

    h = [lr, β₁, β₂, ε, weight decay, decoupled, β₁ᵗ, β₂ᵗ], float64, t counting this step.
    """
    lr, b1, b2, eps, decay, decoupled, power1, power2 = (float(x) for x in h)  # as such, rounded to p's dtype
    if decay and decoupled:
        p *= 1 - lr * decay
    elif decay:
        d = d + decay * p
    m *= b1
    m += (1 - b1) * d
    v *= b2
    v += (1 - b2) * d * d
    p -= lr / (1 - power1) * m / (np.sqrt(v) / math.sqrt(1 - power2) + eps)
