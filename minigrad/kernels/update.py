"""Optimizer steps, in place and in one pass, in the plain arithmetic of their docstrings (no fma).

Arrays are of one shape and one dtype (float32 or float64) and share no memory. Hyper-parameters are a float64 array,
read at every call; scalars are computed from it in float64, then rounded once to the dtype.
"""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from minigrad.kernels.elementwise import number
from minigrad.kernels.jit import kernel
from minigrad.kernels.simd import Term, formula, load, spread, store, width

Array = NDArray[Any]


@formula
def _decayed(d: Term, p: Term, decay: Term) -> Term:
    return d + decay * p


@formula
def _less(p: Term, lr: Term, d: Term) -> Term:
    return p - lr * d


@formula
def _scaled_sum(a: Term, x: Term, b: Term, y: Term) -> Term:
    return a * x + b * y


@formula
def _scaled_square_sum(a: Term, x: Term, b: Term, y: Term) -> Term:
    return a * x + (b * y) * y


@formula
def _plus_scaled(x: Term, a: Term, y: Term) -> Term:
    return x + a * y


@formula
def _times(a: Term, x: Term) -> Term:
    return a * x


@formula
def _adam(p: Term, m: Term, v: Term, step: Term, root: Term, eps: Term) -> Term:
    return p - (step * m) / (v.call("sqrt") / root + eps)


@kernel("T*Td", ints=1, elementwise=True)
def _sgd(p: Any, d: Any, h: Any, n: Any) -> None:
    """p = p - lr d', d' = d + decay p."""
    lr, decay, decays = h[0], h[2], h[2] != 0.0
    for i in range(0, n, width(p)):
        x, s = load(p, i, n), load(d, i, n)
        if decays:
            s = _decayed(s, x, spread(decay, x))
        store(p, i, n, _less(x, spread(lr, x), s))


@kernel("T*TT*d", ints=1, elementwise=True)
def _sgd_momentum(p: Any, d: Any, buf: Any, h: Any, n: Any) -> None:
    """buf = momentum buf + (1 - dampening) d', d' = d + decay p; p = p - lr (buf, or d' + momentum buf)."""
    lr, momentum, decay, nesterov, kept = h[0], h[1], h[2], h[3] != 0.0, 1.0 - h[4]
    decays, dampens = h[2] != 0.0, h[4] != 0.0
    for i in range(0, n, width(p)):
        x, s, b = load(p, i, n), load(d, i, n), load(buf, i, n)
        if decays:
            s = _decayed(s, x, spread(decay, x))
        b = (
            _scaled_sum(spread(momentum, x), b, spread(kept, x), s)
            if dampens
            else _plus_scaled(s, spread(momentum, x), b)
        )
        store(buf, i, n, b)
        store(p, i, n, _less(x, spread(lr, x), _plus_scaled(s, spread(momentum, x), b) if nesterov else b))


@kernel("T*TT*T*d", ints=1, elementwise=True)
def _adam_step(p: Any, d: Any, m: Any, v: Any, h: Any, n: Any) -> None:
    """See :func:`adam`."""
    b1, b2, eps, decay, decoupled = h[1], h[2], h[3], h[4], h[5] != 0.0
    c1, c2, keep, decays = 1.0 - h[1], 1.0 - h[2], 1.0 - h[0] * h[4], h[4] != 0.0
    step, root = h[0] / (1.0 - h[6]), math.sqrt(1.0 - h[7])
    for i in range(0, n, width(p)):
        x, s = load(p, i, n), load(d, i, n)
        if decays:
            if decoupled:
                x = _times(spread(keep, x), x)
            else:
                s = _decayed(s, x, spread(decay, x))
        first = _scaled_sum(spread(b1, x), load(m, i, n), spread(c1, x), s)
        second = _scaled_square_sum(spread(b2, x), load(v, i, n), spread(c2, x), s)
        store(m, i, n, first)
        store(v, i, n, second)
        store(p, i, n, _adam(x, first, second, spread(step, x), spread(root, x), spread(eps, x)))


@kernel("T*", ints=0)
def _tick(n: Any) -> None:
    n[0] += 1


def tick(n: Array) -> None:
    """n = n + 1, an array of one element."""
    if n.size != 1:
        raise ValueError("a counter has one element")
    _tick[n.dtype](n)


@kernel("T*", ints=0)
def _advance(h: Any) -> None:
    h[6] *= h[1]
    h[7] *= h[2]


def advance(h: Array) -> None:
    """h[6] *= h[1], h[7] *= h[2]: the running powers of :func:`adam`."""
    if h.flags.c_contiguous:
        _advance[h.dtype](h)
    else:
        h[6:8] *= h[1:3]


@kernel("T*T", ints=1)
def _put(h: Any, value: Any, i: Any) -> None:
    h[i] = value[0]


def put(h: Array, value: Array, i: int) -> None:
    """h[i] = value, an array of one element; both of one dtype."""
    if not -h.size <= i < h.size:
        raise IndexError(f"there is no element {i} of {h.size}")
    if h.flags.c_contiguous:
        _put[h.dtype](h, value, i % h.size)
    else:
        h[i] = value.reshape(())


@kernel("T*dd", ints=1, elementwise=True)
def _shorten(g: Any, norm: Any, limit: Any, n: Any) -> None:
    if limit[0] < norm[0] and norm[0] < math.inf:
        scale = limit[0] / norm[0]
        for i in range(0, n, width(g)):
            x = load(g, i, n)
            store(g, i, n, _times(spread(scale, x), x))


def shorten(g: Array, norm: Array, limit: float) -> None:
    """g = (limit / norm) g if limit < norm < inf, the quotient rounded to g's dtype; ``norm`` float64, one element."""
    if norm.size != 1 or norm.dtype.char != "d":
        raise ValueError(f"norm must be one float64 number, got {norm.size} of {norm.dtype}")
    flat = g.ravel()  # a view where contiguous
    _shorten[g.dtype](flat, norm, number(limit, norm.dtype), g.size)
    if not g.flags.c_contiguous:
        g[...] = flat.reshape(g.shape)


def _holds(h: Array, numbers: int) -> bool:
    """Whether h has so many float64 numbers."""
    return h.dtype.char == "d" and h.size >= numbers


def _in_place(kernel: Any, p: Array, d: Array, state: tuple[Array, ...], h: Array, numbers: int = 5) -> None:
    """Run (p, d, *state, h) on flat arrays; what is not C-contiguous is written back from a copy."""
    if not _holds(h, numbers):
        raise ValueError(f"h needs {numbers} float64 numbers, got {h.size} of {h.dtype}")
    written = (p, *state)
    for array in written:
        if array.shape != d.shape:
            raise ValueError(f"the gradient has shape {d.shape}, what it updates {array.shape}")
    flat = [a.ravel() for a in written]  # a view where contiguous
    kernel[p.dtype](flat[0], d.ravel(), *flat[1:], h, d.size)
    for array, values in zip(written, flat, strict=True):
        if not array.flags.c_contiguous:
            array[...] = values.reshape(array.shape)


def sgd(p: Array, d: Array, h: Array) -> None:
    """p = p - lr d', where d' = d + weight_decay p (d itself if the decay is 0).

    ``h`` = [lr, momentum, weight_decay, nesterov, dampening]; only lr and weight_decay are read.
    """
    if p.shape == d.shape and h.dtype.char == "d" and h.size > 4 and p.flags.c_contiguous:
        _sgd[p.dtype](p, d.ravel(), h, d.size)
    else:
        _in_place(_sgd, p, d, (), h)


def sgd_momentum(p: Array, d: Array, buf: Array, h: Array) -> None:
    """buf = momentum buf + d'; p = p - lr buf, or with nesterov p - lr (d' + momentum buf).

    d' = d + weight_decay p (d itself if the decay is 0). With a dampening other than 0,
    buf = momentum buf + (1 - dampening) d'. ``h`` = [lr, momentum, weight_decay, nesterov (0 or 1), dampening].
    """
    if p.shape == d.shape == buf.shape and _holds(h, 5) and p.flags.c_contiguous and buf.flags.c_contiguous:
        _sgd_momentum[p.dtype](p, d.ravel(), buf, h, d.size)
    else:
        _in_place(_sgd_momentum, p, d, (buf,), h)


def adam(p: Array, d: Array, m: Array, v: Array, h: Array) -> None:
    """Adam (Kingma and Ba, 2015) and AdamW (Loshchilov and Hutter, 2019), in this order::

        if weight_decay:  p = keep p  if decoupled else  d = d + weight_decay p
        m = beta1 m + c1 d
        v = beta2 v + (c2 d) d
        p = p - (step m) / (sqrt(v) / root + eps)

    c1 = 1 - beta1, c2 = 1 - beta2, keep = 1 - lr weight_decay, step = lr / (1 - beta1_power),
    root = sqrt(1 - beta2_power), each computed in float64 and rounded once.
    ``h`` = [lr, beta1, beta2, eps, weight_decay, decoupled (0 or 1), beta1_power, beta2_power].
    """
    plain = p.flags.c_contiguous and m.flags.c_contiguous and v.flags.c_contiguous
    if plain and p.shape == d.shape == m.shape == v.shape and _holds(h, 8):
        _adam_step[p.dtype](p, d.ravel(), m, v, h, d.size)
    else:
        _in_place(_adam_step, p, d, (m, v), h, 8)
