"""Activations. Where a slope jumps, the derivative at the jump is the one documented."""

from __future__ import annotations

import math

import numpy as np

from minigrad.engine.op import op
from minigrad.engine.shapes import Domain, reals
from minigrad.kernels import elementwise, random
from minigrad.ops.arithmetic import CONTIGUOUS, abs, erf, exp, expm1, floating, gt, le, log1p, maximum, where

# Self-normalising networks (Klambauer et al. 2017), appendix: fixed point of mean 0 and variance 1.
SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717

SMOOTH = reals(-3, 3)
KINK = Domain(-3, 3, kinks=(0.0,))


@op("y = tanh x", method=True, kernel=elementwise.tanh, ulps=(1, 0), x=SMOOTH)
def tanh(x):
    """Hyperbolic tangent, elementwise."""
    return CONTIGUOUS["tanh"](x)


@tanh.vjp("x", "x̄ = ȳ (1 + y)(1 − y)", kernel=elementwise.tanh_vjp)
def _(g, y):
    return (g + g * y) * (1 - y)


@op("y = 1 / (1 + e⁻ˣ)", method=True, kernel=elementwise.sigmoid, ulps=(1, 0), x=SMOOTH)
def sigmoid(x):
    """Logistic function, elementwise; two-branched, so that nothing overflows."""
    x = floating(x)
    e = exp(-abs(x))
    return where(gt(x, 0), 1 / (1 + e), e / (1 + e))


@sigmoid.vjp("x", "x̄ = ȳ y (1 − y)", kernel=elementwise.sigmoid_vjp)
def _(g, y):
    return g * y * (1 - y)


@op("y = max(x, 0)", method=True, kernel=elementwise.relu, x=KINK)
def relu(x):
    """Rectifier, elementwise; its derivative at 0 is 0."""
    return np.maximum(x, 0)


@relu.vjp("x", "x̄ = 0 if y ≤ 0 else ȳ", kernel=elementwise.relu_vjp)
def _(g, y):
    return where(le(y, 0), 0, g)


@op(
    "y = x if x > 0 else slope x",
    kernel=elementwise.leaky_relu,
    x=KINK,
    cases=[(((3, 4),), {}), (((5,),), {"slope": 0.25})],
)
def leaky_relu(x, slope=0.01):
    """Rectifier with a small slope below 0, elementwise; its derivative at 0 is that slope."""
    return where(gt(x, 0), x, slope * x)


@leaky_relu.vjp("x", "x̄ = ȳ if x > 0 else slope ȳ", kernel=elementwise.leaky_relu_vjp)
def _(g, x, slope):
    return where(gt(x, 0), g, slope * g)


@op(
    "y = x if x > 0 else α (eˣ − 1)",
    kernel=elementwise.elu,
    ulps=(2, 3),
    x=KINK,
    cases=[(((3, 4),), {}), (((5,),), {"alpha": 1.5})],
)
def elu(x, alpha=1.0):
    """Exponential linear unit, elementwise (Clevert et al. 2016)."""
    return where(gt(x, 0), x, alpha * expm1(where(gt(x, 0), 0, x)))


@elu.vjp("x", "x̄ = ȳ if x > 0 else ȳ α eˣ", kernel=elementwise.elu_vjp)
def _(g, x, alpha):
    return where(gt(x, 0), g, g * alpha * exp(where(gt(x, 0), 0, x)))


@op("y = λ (x if x > 0 else α (eˣ − 1))", kernel=elementwise.selu, ulps=(2, 3), x=KINK)
def selu(x):
    """Scaled exponential linear unit, elementwise (Klambauer et al. 2017): λ = 1.0507…, α = 1.6732…"""
    return SELU_SCALE * where(gt(x, 0), x, SELU_ALPHA * expm1(where(gt(x, 0), 0, x)))


@selu.vjp("x", "x̄ = λ (ȳ if x > 0 else ȳ α eˣ)", kernel=elementwise.selu_vjp)
def _(g, x):
    return SELU_SCALE * where(gt(x, 0), g, g * SELU_ALPHA * exp(where(gt(x, 0), 0, x)))


def _check_approximate(approximate):
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")


def _gelu(x, approximate):
    _check_approximate(approximate)
    return elementwise.gelu(x, approximate)


@op(
    "y = x Φ(x)",
    kernel=_gelu,
    ulps=(2, 5),
    x=SMOOTH,
    cases=[(((3, 4),), {}), (((5,),), {"approximate": "tanh"})],
)
def gelu(x, approximate="none"):
    """Gaussian error linear unit, elementwise (Hendrycks & Gimpel 2016): exact, or ``approximate="tanh"``."""
    _check_approximate(approximate)
    if approximate == "tanh":
        return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))))
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


@gelu.vjp("x", "x̄ = ȳ (Φ(x) + x φ(x))", kernel=elementwise.gelu_vjp)
def _(g, x, approximate):
    if approximate == "tanh":
        t = tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x)))
        inner = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * (x * x))
        return g * (0.5 * (1 + t) + 0.5 * x * ((1 + t) * (1 - t)) * inner)
    return g * (0.5 * (1 + erf(x * math.sqrt(0.5))) + x * (exp(-0.5 * (x * x)) / math.sqrt(2 * math.pi)))


@op("y = x σ(x)", kernel=elementwise.silu, ulps=(2, 3), x=SMOOTH)
def silu(x):
    """Sigmoid-weighted linear unit, elementwise, also called swish."""
    return x * sigmoid(x)


@silu.vjp("x", "x̄ = ȳ σ(x) (1 + x (1 − σ(x)))", kernel=elementwise.silu_vjp)
def _(g, x):
    s = sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


@op("y = log(1 + eˣ)", kernel=elementwise.softplus, ulps=(2, 2), x=SMOOTH)
def softplus(x):
    """Smooth rectifier, elementwise, as max(x, 0) + log1p(exp(−|x|)), which never overflows."""
    x = floating(x)
    return maximum(x, 0) + log1p(exp(-abs(x)))


@softplus.vjp("x", "x̄ = ȳ σ(x)", kernel=elementwise.softplus_vjp)
def _(g, x):
    return g * sigmoid(x)


def _threshold(rate: float) -> int:
    """The random words below it are zeros of a mask."""
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: rate must lie in [0, 1), got {rate}")
    return min(round(rate * 2**32), 2**32 - 1)


def _dropout(x: np.ndarray, key: np.ndarray, count: np.ndarray, rate: float) -> np.ndarray:
    key, count = np.asarray(key, np.int64), np.asarray(count, np.int64)
    return random.dropout(x, key, count, _threshold(rate), 1 / (1 - rate))


@op(
    "y = x mask / (1 − rate)",
    shapes="free",
    kernel=_dropout,
    cases=[(((6, 5), (1,), (1,)), {"rate": 0.3})],
    x=SMOOTH,
    key=Domain(0, 2**40, kind="i"),
    count=Domain(0, 9, kind="i"),
)
def dropout(x, key, count, /, rate):
    """Zero each element with probability ``rate`` and scale the others by 1 / (1 − rate).

    Which ones depends only on ``key`` and ``count`` (shape (1,), int64 tensors: whose calls these are, and which of
    them this is) and on the element's index in C order: no hidden generator. See :func:`random_bits`.

    >>> import minigrad as mg, numpy as np
    >>> y = mg.dropout(mg.tensor(np.ones(10_000)), np.array([7]), np.array([0]), 0.75)
    >>> round(np.mean(y.data == 0).item(), 2), y.data.max().item()
    (0.75, 4.0)
    """
    threshold = _threshold(rate)
    x = np.asarray(x)
    bits = random_bits(np.asarray(key).item(), np.asarray(count).item(), x.size).reshape(x.shape)
    return np.where(bits >= np.uint32(threshold), x * (1 / (1 - rate)), np.zeros((), x.dtype)).astype(x.dtype)


@dropout.vjp("x", "x̄ = ȳ mask / (1 − rate)", kernel=lambda g, key, count, rate: _dropout(g, key, count, rate))
def _(g, key, count, rate):
    return dropout(g, key, count, rate)


def random_bits(key: int, count: int, size: int) -> np.ndarray:
    """``size`` uint32 words, word i a function of (key, count, i) alone.

    Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): block i // 4, word i % 4.
    """
    blocks = np.arange(-(-size // 4), dtype=np.uint64)
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    c0, c1 = blocks & low, blocks >> shift
    c2 = np.full_like(blocks, count & 0xFFFFFFFF)
    c3 = np.full_like(blocks, (count >> 32) & 0xFFFFFFFF)
    k0, k1 = key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF
    for _round in range(10):
        first, second = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (second >> shift) ^ c1 ^ np.uint64(k0),
            second & low,
            (first >> shift) ^ c3 ^ np.uint64(k1),
            first & low,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32).reshape(-1)[:size]
