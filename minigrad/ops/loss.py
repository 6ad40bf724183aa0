"""Losses, in forms that neither overflow nor divide by a softmax. ``reduction`` is "mean", "sum" or "none"."""

from __future__ import annotations

import difflib
from typing import Any, Final

import numpy as np

from minigrad.engine.op import op
from minigrad.engine.shapes import Domain, integers, reals
from minigrad.kernels import loss as kernels
from minigrad.kernels import reduction as reductions
from minigrad.ops.activation import sigmoid
from minigrad.ops.arithmetic import abs, clip, exp, floating, le, log1p, maximum, one_hot, sign, square, where
from minigrad.ops.broadcast import reshape, sum
from minigrad.ops.reduction import logsumexp
from minigrad.ops.shape import take

ANY = reals(-2, 2)
_INT64 = np.dtype(np.int64)
DISTINCT = reals(-2, 2, distinct=True)
REDUCTIONS: Final[tuple[Any, ...]] = (
    (((3, 4), (3, 4)), {}),
    (((3, 4), (3, 4)), {"reduction": "sum"}),
    (((5,), (5,)), {"reduction": "none"}),
)


def _check_reduction(name: str, reduction: str) -> None:
    options = ("mean", "sum", "none")
    if reduction not in options:
        near = difflib.get_close_matches(str(reduction), options, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name}: unknown reduction {reduction!r}: use 'mean', 'sum' or 'none'{hint}")


def _same(name: str, a: Any, b: Any, reduction: str) -> None:
    _check_reduction(name, reduction)
    if np.shape(a) != np.shape(b):
        raise ValueError(
            f"{name}: the operands must have one shape, got {np.shape(a)} and {np.shape(b)}; broadcast or reshape first"
        )
    if not np.size(a) and reduction == "mean":
        raise ValueError(f"{name}: the batch is empty (shape {np.shape(a)})")


def _difference(a: Any, b: Any) -> Any:
    return floating(a) - b if np.result_type(a, b).kind != "f" else np.subtract(a, b)


def _reduce(losses: Any, reduction: str, total: Any = None) -> Any:
    if reduction == "none":
        return losses
    value = sum(losses)
    return value if reduction == "sum" else value / (losses.size if total is None else total)


def _spread(g: Any, shape: tuple[int, ...], reduction: str) -> Any:
    """A loss's cotangent, for each of the terms that it reduces."""
    return g / np.prod(shape, dtype=int).item() if reduction == "mean" else g


def _mse(a: np.ndarray, b: np.ndarray, reduction: str = "mean") -> np.ndarray:
    if reduction == "mean" and a.shape == b.shape and a.size:
        return kernels.mse(a, b)
    return np.asarray(mse_loss.fn(a, b, reduction))


def _mse_vjp(g: Any, a: Any, b: Any, reduction: str, a_shape: Any) -> Any:
    return kernels.mse_vjp(g, a, b) if reduction == "mean" else mse_loss.rules["a"].fn(g, a, b, reduction, a_shape)


@op("y = Σ (a − b)² / n", shapes="free", kernel=_mse, ulps=(0, 2), a=ANY, b=ANY, cases=REDUCTIONS)
def mse_loss(a, b, reduction="mean"):
    """Squared error of two arrays of one shape. ValueError for shapes that differ, or an empty mean."""
    _same("mse_loss", a, b, reduction)
    return _reduce(square(_difference(a, b)), reduction)


@mse_loss.vjp("a", "ā = 2 (a − b) ȳ / n", kernel=_mse_vjp)
def _(g, a, b, reduction, a_shape):
    return (a - b) * (2 * _spread(g, a_shape, reduction))


@mse_loss.vjp("b", "b̄ = −2 (a − b) ȳ / n", kernel=lambda g, a, b, *rest: np.negative(_mse_vjp(g, a, b, *rest)))
def _(g, a, b, reduction, b_shape):
    return -((a - b) * (2 * _spread(g, b_shape, reduction)))


@op("y = Σ |a − b| / n", shapes="free", a=DISTINCT, b=DISTINCT, cases=REDUCTIONS)
def l1_loss(a, b, reduction="mean"):
    """Absolute error of two arrays of one shape; its derivative is 0 where they are equal."""
    _same("l1_loss", a, b, reduction)
    return _reduce(abs(_difference(a, b)), reduction)


@l1_loss.vjp("a", "ā = sign(a − b) ȳ / n")
def _(g, a, b, reduction, a_shape):
    return sign(a - b) * _spread(g, a_shape, reduction)


@l1_loss.vjp("b", "b̄ = −sign(a − b) ȳ / n")
def _(g, a, b, reduction, b_shape):
    return -(sign(a - b) * _spread(g, b_shape, reduction))


@op(
    "y = Σ h(a − b) / n",
    shapes="free",
    a=Domain(-2, 2),
    b=reals(3.5, 5),
    cases=[*REDUCTIONS, (((4,), (4,)), {"delta": 8.0}), (((4,), (4,)), {"delta": 1.25})],
)
def huber_loss(a, b, reduction="mean", delta=1.0):
    """Huber's loss: h(d) = ½ d² where |d| ≤ delta, else delta (|d| − ½ delta)."""
    _same("huber_loss", a, b, reduction)
    d = _difference(a, b)
    return _reduce(where(le(abs(d), delta), 0.5 * square(d), delta * (abs(d) - 0.5 * delta)), reduction)


@huber_loss.vjp("a", "ā = clip(a − b, −delta, delta) ȳ / n")
def _(g, a, b, reduction, delta, a_shape):
    return clip(a - b, -delta, delta) * _spread(g, a_shape, reduction)


@huber_loss.vjp("b", "b̄ = −clip(a − b, −delta, delta) ȳ / n")
def _(g, a, b, reduction, delta, b_shape):
    return -(clip(a - b, -delta, delta) * _spread(g, b_shape, reduction))


def _bce(x: np.ndarray, t: np.ndarray, reduction: str = "mean") -> np.ndarray:
    _same("bce_with_logits", x, t, reduction)
    return np.asarray(_reduce(kernels.bce_with_logits(x, t), reduction))


def _bce_vjp(g: Any, x: Any, t: Any, reduction: str, x_shape: Any) -> Any:
    spread = np.broadcast_to(np.asarray(_spread(g, x_shape, reduction), x.dtype), x.shape)
    return kernels.bce_with_logits_vjp(spread, x, t)


@op(
    "y = Σ (max(x, 0) − x t + log1p(exp −|x|)) / n",
    shapes="free",
    kernel=_bce,
    ulps=(2, 3),
    x=ANY,
    t=reals(0, 1),
    cases=REDUCTIONS,
)
def bce_with_logits(x, t, reduction="mean"):
    """Binary cross entropy of σ(x) with targets t in [0, 1], from the logits x; one shape.

    An infinite logit gives inf or NaN: it has no finite loss to be compared with.
    """
    _same("bce_with_logits", x, t, reduction)
    x = floating(x)
    return _reduce(maximum(x, 0) - x * t + log1p(exp(-abs(x))), reduction)


@bce_with_logits.vjp("x", "x̄ = (σ(x) − t) ȳ / n", kernel=_bce_vjp)
def _(g, x, t, reduction, x_shape):
    return (sigmoid(x) - t) * _spread(g, x_shape, reduction)


@bce_with_logits.vjp("t", "t̄ = −x ȳ / n")
def _(g, x, reduction, t_shape):
    return -(x * _spread(g, t_shape, reduction))


def _check_classes(logits: Any, target: Any, reduction: str) -> None:
    """Raise unless ``target`` (n,) holds classes of ``logits`` (n, c), and there is something to reduce."""
    _check_reduction("cross_entropy", reduction)
    target = np.asarray(target)
    n, c = np.shape(logits)
    if target.dtype.kind not in "iu":
        nan = target.dtype.kind == "f" and np.isnan(target).any()
        what = "holds NaN; remove those rows" if nan else "is no class; convert it with astype('int64')"
        raise TypeError(f"cross_entropy: target needs integer classes, got dtype {target.dtype}, which {what}")
    if n == 0 and reduction == "mean":
        raise ValueError(f"cross_entropy: the batch is empty (logits {np.shape(logits)})")
    wrong = np.flatnonzero((target < 0) | (target >= c))
    if wrong.size:
        row = int(wrong[0])
        raise IndexError(
            f"cross_entropy: class {target[row]} in row {row} of target is out of range: "
            f"logits {np.shape(logits)} have classes 0 … {c - 1}"
        )


def _cross_entropy(logits: Any, target: Any, weight: Any, reduction: str = "mean") -> Any:
    if target.shape != logits.shape[:-1] or (weight is not None and weight.shape != logits.shape[1:]):
        raise ValueError("the shapes disagree")
    if target.dtype is not _INT64 or not len(target) or reduction not in ("mean", "sum", "none"):
        _check_classes(logits, target, reduction)
        target = target.astype(np.int64)
    mean = reduction == "mean"
    try:
        losses, lse, total = kernels.cross_entropy(
            logits, target, weight, len(target) if mean and weight is None else 1
        )
    except IndexError:
        _check_classes(logits, target, reduction)
        raise
    if reduction == "none":
        return losses, lse
    if mean and weight is not None:
        total = np.asarray(total / reductions.sum(weight[target], (0,)))
    return total, lse


_cross_entropy.checks_shapes = True  # type: ignore[attr-defined]  # ValueError if sizes disagree


def _cross_entropy_vjp(g: Any, logits: Any, target: Any, lse: Any, weight: Any, reduction: str) -> Any:
    target = np.asarray(target, np.int64)
    if weight is None:
        return kernels.cross_entropy_vjp(g, logits, target, lse, None, len(target) if reduction == "mean" else 1)
    share = np.asarray(_share(g, target, weight, reduction), logits.dtype)
    return kernels.cross_entropy_vjp(share, logits, target, lse, weight)


def _share(g: Any, target: Any, weight: Any, reduction: str) -> Any:
    if reduction != "mean":
        return g
    return g / (target.size if weight is None else sum(take(weight, target, 0)))


@op(
    "y = Σ (log Σ eˣ − x[target]) / n",
    shapes="nc,n,c?->",
    kernel=_cross_entropy,
    ulps=(4, 3),
    logits=ANY,
    target=integers(0, 2),
    weight=reals(0.5, 2),
    cases=[
        (((4, 3), (4,), None), {}),
        (((4, 3), (4,), (3,)), {}),
        (((4, 3), (4,), (3,)), {"reduction": "none"}),
        (((5, 3), (5,), None), {"reduction": "sum"}),
    ],
)
def cross_entropy(logits, target, weight=None, reduction="mean"):
    """Cross entropy of softmax(logits) with integer classes: logits (n, c), target (n,), class weights (c,) or None.

    The mean is weighted by the weights of the targets. IndexError for a class out of range, TypeError for classes that
    are no integers, ValueError for shapes that disagree or an empty mean.

    >>> import minigrad as mg, numpy as np
    >>> round(mg.cross_entropy(mg.tensor([[0.0, 0.0]]), np.array([1])).item(), 4)
    0.6931
    """
    _check_classes(logits, target, reduction)
    logits, target = np.asarray(logits), np.asarray(target)
    losses = logsumexp(logits, -1) - logits[np.arange(len(target)), target]
    if weight is None:
        return _reduce(losses, reduction)
    weights = np.asarray(weight, np.result_type(logits, weight))[target]
    return _reduce(weights * losses, reduction, None if reduction != "mean" else sum(weights))


@cross_entropy.residual("lse", "lse = log Σ eˣ")
def _(logits):
    return logsumexp(logits, -1)


@cross_entropy.vjp("logits", "x̄ = (eˣ⁻ˡˢᵉ − [target]) w[target] ȳ / n", kernel=_cross_entropy_vjp)
def _(g, logits, target, lse, weight, reduction):
    share = _share(g, target, weight, reduction)
    if weight is not None:
        share = take(weight, target, 0) * share
    error = exp(logits - reshape(lse, (-1, 1))) - one_hot(target, logits.shape[-1], logits.dtype)
    return error * (reshape(share, (-1, 1)) if share.ndim else share)
