"""Bounding the norm of all gradients together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad.engine.op import op
from minigrad.engine.shapes import reals
from minigrad.engine.tensor import Tensor
from minigrad.ops.arithmetic import astype
from minigrad.ops.reduction import norm
from minigrad.ops.shape import stack


@op(
    "g ← g limit / norm if limit < norm < ∞",
    shapes="free",
    differentiable=False,
    writes=("g",),
    norm=reals(0.1, 2),
    cases=[(((3, 4), ()), {"limit": 0.5})],
)
def shorten(g: Any, norm: Any, /, limit: float) -> Any:
    """Scale g, part of something of length ``norm``, so that the whole has length ``limit``; shorter ones are left."""
    if limit < norm < np.inf:
        np.multiply(g, limit / norm, out=g, casting="same_kind")
    return g


def clip_grad_norm(params: Iterable[Tensor], max_norm: float, error_if_nonfinite: bool = False) -> Tensor:
    """Scale the gradients of ``params`` so that their norm, taken together, is at most ``max_norm``.

    Returns the norm as it was, a float64 tensor of shape (). It is computed in float64 and scaled, so that it does not
    overflow. Within the bound, and where the norm is not finite, no gradient is touched. (Pascanu et al. 2013, alg. 1.)

    Raises ValueError for a max_norm that is negative or NaN; RuntimeError for a norm that is not finite, if asked.

    >>> import minigrad as mg
    >>> w = mg.tensor([0.0, 0.0], requires_grad=True)
    >>> (w * mg.tensor([3.0, 4.0])).sum().backward()
    >>> clip_grad_norm([w], max_norm=1.0).item(), w.grad.tolist()
    (5.0, [0.6000000238418579, 0.800000011920929])
    """
    if not max_norm >= 0:
        raise ValueError(f"clip_grad_norm: max_norm must not be negative, got {max_norm}")
    gradients = [p.grad for p in params if p.grad is not None]
    if not gradients:
        return Tensor(np.zeros(()))
    total: Tensor = norm(stack([norm(astype(g, "float64")) for g in gradients]))
    if error_if_nonfinite and not np.isfinite(total.data):
        raise RuntimeError(f"clip_grad_norm: the norm of the gradients is {total.item()}")
    for g in gradients:
        shorten(g, total, float(max_norm))
    return total
