"""Bounding the norm of all gradients together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad.engine.op import op
from minigrad.engine.tensor import Tensor
from minigrad.kernels import update as kernels
from minigrad.ops.arithmetic import astype
from minigrad.ops.reduction import norm
from minigrad.ops.shape import stack


@op(
    "g ← g limit / norm if limit < norm < ∞",
    shapes="free",
    differentiable=False,
    writes=("g",),
    kernel=kernels.shorten,
    cases=[(((3, 4),), {"norm": np.array(norm), "limit": 0.5}) for norm in (0.3, 2.0, np.inf)],
)
def shorten(g: Any, norm: Any = None, limit: float = 1.0) -> None:
    """Scale g, part of something of length ``norm`` (float64, one element), so that the whole has length ``limit``.

    What is shorter is left.
    """
    if limit < norm < np.inf:
        g *= g.dtype.type(limit / norm)


def clip_grad_norm(params: Iterable[Tensor], max_norm: float, error_if_nonfinite: bool = False) -> Tensor:
    """Scale the gradients of ``params`` so that their norm, taken together, is at most ``max_norm``.

    Returns the norm as it was, a float64 tensor of shape (). It is computed in float64 and scaled, so that it does not
    overflow; gradients are multiplied by max_norm / norm in their own dtype. Within the bound, and where the norm is
    not finite, no gradient is touched. (Pascanu et al. 2013, alg. 1.)

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
    total: Tensor = norm(stack([norm(g if g.dtype == np.float64 else astype(g, "float64")) for g in gradients]))
    if error_if_nonfinite and not np.isfinite(total.data):
        raise RuntimeError(f"clip_grad_norm: the norm of the gradients is {total.item()}")
    for g in gradients:
        shorten(g, total._data, float(max_norm))
    return total
