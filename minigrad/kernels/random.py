"""Random numbers without a hidden state: masks by Philox4x32-10 (Salmon et al., 2011), and orders of examples."""

from __future__ import annotations

import operator
from typing import Any, SupportsIndex

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from minigrad.kernels.elementwise import number
from minigrad.kernels.jit import kernel
from minigrad.kernels.simd import VECTOR_BYTES, Term, loading, store, where

Array = NDArray[Any]

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_LOW = 2**32 - 1
_FIRST, _SECOND = 0xD2511F53, 0xCD9E8D57  # the multipliers and the key's increments of the paper
_FIRST_STEP, _SECOND_STEP = 0x9E3779B9, 0xBB67AE85


def _words(block: Term, key: Term, count: Term) -> list[Term]:
    """The four words of each block (a lane of int64), which the number of the block and two scalars give."""

    def high(x: Term) -> Term:
        return Term(x.builder, x.builder.lshr(x.value, x.like(32).value))

    a, b, c, d = block, high(block), block.like(count), block.like(high(count))  # their low halves are the numbers
    first_key, second_key = block.like(key), block.like(high(key))
    for _ in range(10):
        first, second = (a & _LOW) * _FIRST, (c & _LOW) * _SECOND
        a, b, c, d = high(second) ^ b ^ first_key, second, high(first) ^ d ^ second_key, first
        first_key, second_key = first_key + _FIRST_STEP, second_key + _SECOND_STEP
    return [word & _LOW for word in (a, b, c, d)]


def _in_turn(words: list[Term]) -> Term:
    """int32 lanes: the first lane of each of four vectors of int64, then the second of each, and so on."""
    builder, lanes = words[0].builder, words[0].type.count
    pairs = [(low | high << 32).value for low, high in (words[:2], words[2:])]
    places = [place for i in range(lanes) for place in (i, lanes + i)]
    mask = ir.Constant(ir.VectorType(_I32, 2 * lanes), places)
    return Term(builder, builder.bitcast(builder.shuffle_vector(*pairs, mask), ir.VectorType(_I32, 4 * lanes)))


#: A native vector of int64 has a block in each lane, a block four words.
_PIECE = VECTOR_BYTES // 2
_load = loading(lambda element: _PIECE)


@intrinsic
def _kept(typingctx: Any, x: Any, factor: Any, i: Any, key: Any, count: Any, threshold: Any) -> Any:
    """factor x where the word is at least ``threshold``, else 0: the words of positions i, a multiple of 4, and on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        x, factor, i, key, count, threshold = (Term(builder, value) for value in args)
        numbers = Term(builder, ir.Constant(ir.VectorType(_I64, _PIECE // 4), list(range(_PIECE // 4))))
        words = _in_turn(_words(numbers + (i >> 2), key, count))
        limit = words.like(Term(builder, builder.trunc(threshold.value, _I32)))
        return where(Term(builder, builder.icmp_unsigned(">=", words.value, limit.value)), x * factor, 0.0).value

    return x(x, x.element, *[types.int64] * 4), codegen


@kernel("TiiTT*", ints=2)
def _dropout(x: Any, key: Any, count: Any, scale: Any, out: Any, n: Any, threshold: Any) -> None:
    """out[i] = scale x[i] where word i is at least ``threshold``, else 0; word i is number i % 4 of block i // 4."""
    factor, k, c = scale[0], key[0], count[0]
    for i in range(0, n, _PIECE):
        store(out, i, n, _kept(_load(x, i, n), factor, i, k, c, threshold))


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
