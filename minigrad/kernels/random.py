"""Random numbers without a hidden state: masks by Philox4x32-10 (Salmon et al., 2011), and orders of examples."""

from __future__ import annotations

import operator
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from minigrad.kernels.elementwise import number
from minigrad.kernels.jit import function, kernel

Array = NDArray[Any]

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_FIRST, _SECOND = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)  # the multipliers and the key's increments of the paper
_FIRST_STEP, _SECOND_STEP = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@function
def _keep(x: Any, out: Any, i: Any, n: Any, kept: Any, factor: Any) -> None:
    if i < n:
        out[i] = x[i] * factor
        if not kept:
            out[i] = 0.0


@kernel("TiiTT*", ints=2)
def _dropout(x: Any, key: Any, count: Any, scale: Any, out: Any, n: Any, threshold: Any) -> None:
    """out[i] = scale x[i] where word i is at least ``threshold``, else 0; word i is number i % 4 of block i // 4."""
    limit = np.uint64(threshold)
    k, c = np.uint64(key[0]), np.uint64(count[0])
    factor = scale[0]
    for i in range(0, n, 4):
        block = np.uint64(i // 4)
        a, b, low, high = block & _LOW, block >> _SHIFT, c & _LOW, c >> _SHIFT
        first_key, second_key = k & _LOW, k >> _SHIFT
        for _ in range(10):
            first, second = _FIRST * a, _SECOND * low
            a, b = (second >> _SHIFT) ^ b ^ first_key, second & _LOW
            low, high = (first >> _SHIFT) ^ high ^ second_key, first & _LOW
            first_key, second_key = (first_key + _FIRST_STEP) & _LOW, (second_key + _SECOND_STEP) & _LOW
        _keep(x, out, i, n, a >= limit, factor)
        _keep(x, out, i + 1, n, b >= limit, factor)
        _keep(x, out, i + 2, n, low >= limit, factor)
        _keep(x, out, i + 3, n, high >= limit, factor)


def dropout(x: Array, key: Array, count: Array, threshold: int, scale: float) -> Array:
    """scale x where the random word of an element is at least ``threshold``, else 0; words by C order of x.

    ``key``, ``count``: int64, one element each.
    """
    out = np.empty(x.shape, x.dtype)
    _dropout[x.dtype](x.ravel(), key.ravel(), count.ravel(), number(scale, out.dtype), out, out.size, threshold)
    return out


def integer(name: str, value: SupportsIndex, least: int) -> int:
    """``value`` as an int. Raises TypeError for what is none, ValueError below ``least``; ``name`` is what it is."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, but must be an integer") from None
    if number < least:
        raise ValueError(f"{name} is {number}, but must be at least {least}")
    return number


def permutation(n: int, seed: int = 0, epoch: int = 0) -> NDArray[np.int64]:
    """The order of ``n`` examples in one epoch, an int64 array of shape (n,) that holds each of 0 … n−1 once.

    It depends on ``(n, seed, epoch)`` alone, so any epoch can be had without running those before it. It is
    ``Generator(PCG64(SeedSequence([seed, epoch]))).permutation(n)`` of ``numpy.random``, whose streams are independent
    for seeds and epochs below 2³².

    Raises TypeError for a number that is no integer, ValueError for a negative one.

    >>> permutation(5, seed=0, epoch=1).tolist()
    [1, 4, 3, 0, 2]
    """
    n, seed, epoch = integer("n", n, 0), integer("seed", seed, 0), integer("epoch", epoch, 0)
    bits = np.random.PCG64(np.random.SeedSequence([seed, epoch]))
    return np.random.Generator(bits).permutation(n).astype(np.int64, copy=False)
