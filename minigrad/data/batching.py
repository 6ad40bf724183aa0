"""The order in which a training run sees its examples: a function of three numbers and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minigrad.kernels.random import integer, permutation

__all__ = ["batches", "permutation"]


def batches(
    X: ArrayLike, y: ArrayLike, batch_size: int, shuffle: bool = True, seed: int = 0, epoch: int = 0
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """One epoch of minibatches ``(X_batch, y_batch)``, the last one smaller where ``batch_size`` does not divide n.

    ``X`` has shape (n, …) and ``y`` (n, …), of any dtype. The batches are new C-contiguous arrays, so that writing
    on one leaves the data alone. Their order is ``permutation(n, seed, epoch)``, or that of ``X`` without ``shuffle``.

    Raises, at the call: ValueError where there are no examples, where ``X`` and ``y`` differ in number, or where
    ``batch_size`` is below 1 (``seed`` and ``epoch``: below 0); TypeError where one of these is no integer.

    >>> X, y = np.arange(6.0).reshape(3, 2), np.array([0, 1, 2])
    >>> for X_batch, y_batch in batches(X, y, batch_size=2, shuffle=False):
    ...     print(X_batch.tolist(), y_batch.tolist())
    [[0.0, 1.0], [2.0, 3.0]] [0, 1]
    [[4.0, 5.0]] [2]
    """
    X, y = np.asarray(X), np.asarray(y)
    if X.ndim == 0 or y.ndim == 0:
        raise ValueError(f"X and y need a first axis of examples, but have shapes {X.shape} and {y.shape}")
    if len(X) != len(y):
        raise ValueError(f"X has {len(X)} examples, but y has {len(y)}")
    if len(X) == 0:
        raise ValueError(f"there are no examples: X has shape {X.shape}, y has shape {y.shape}")
    size = integer("batch_size", batch_size, 1)
    order = permutation(len(X), seed, epoch) if shuffle else np.arange(len(X))
    return ((X.take(rows, axis=0), y.take(rows, axis=0)) for rows in _chunks(order, size))


def _chunks(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    return (order[start : start + size] for start in range(0, len(order), size))
