"""Values, first and second derivatives of every op equal PyTorch's in float64, away from kinks and at most of them."""

import numpy as np
import pytest
from hypothesis import given, settings

import minigrad as mg

from ..ops.laws import DOUBLE, SMALL, leaves_of, samples

try:
    import torch
except ImportError as error:
    pytest.skip(f"PyTorch is not installed ({error})", allow_module_level=True)

F = torch.nn.functional
RELATIVE = 1e-9


def _axes(f, all_axes=None):
    """A torch reduction over ``dim``; without an axis over all of them."""

    def run(x, axis=None, keepdims=False):
        dim = tuple(range(x.dim())) if axis is None else axis
        return f(x, dim, keepdims)

    return run


def _extreme(f):
    return _axes(lambda x, dim, keep: f(x, dim=dim, keepdim=keep))


def _prod(x, axis=None, keepdims=False):
    for dim in sorted(range(x.dim()) if axis is None else np.atleast_1d(axis).tolist(), reverse=True):
        x = x.prod(dim, keepdim=keepdims)
    return x


def _variance(f):
    def run(x, axis=None, keepdims=False, ddof=0):
        dim = tuple(range(x.dim())) if axis is None else axis
        return f(x, dim=dim, correction=ddof, keepdim=keepdims)

    return run


def _sum_to(x, shape):
    return x.sum_to_size(shape) if tuple(x.shape) != tuple(shape) else x


def _put_add(x, index, shape):
    """The adjoint of indexing, through torch's own gradient of indexing."""
    zeros = torch.zeros(shape, dtype=x.dtype, requires_grad=True)
    parts = index if isinstance(index, tuple) else (index,)
    parts = tuple(torch.as_tensor(p) if isinstance(p, np.ndarray) else p for p in parts)
    return torch.autograd.grad(zeros[parts], zeros, x, create_graph=True)[0]


def _getitem(x, index):
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(p, slice) and p.step is not None and p.step < 0 for p in parts):
        return x[torch.as_tensor(np.arange(len(x))[index].copy())]  # torch has no negative steps
    return x[tuple(torch.as_tensor(p) if isinstance(p, np.ndarray) else p for p in parts)]


def _take(x, indices, axis=None):
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis % x.dim())
    flat = x.index_select(axis, indices.reshape(-1))
    return flat.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _index_add(x, indices, axis, shape):
    if axis is None:
        return torch.zeros(int(np.prod(shape)), dtype=x.dtype).index_add(0, indices, x).reshape(shape)
    return torch.zeros(shape, dtype=x.dtype).index_add(axis, indices, x)


def _pad(x, widths, value=0.0):
    pairs = np.broadcast_to(widths, (x.dim(), 2))
    return F.pad(x, [int(n) for pair in pairs[::-1] for n in pair], value=value)


def _huber(a, b, reduction="mean", delta=1.0):
    return F.huber_loss(a, b, reduction=reduction, delta=delta)


def _shape(text):
    return lambda x, shape: getattr(x, text)(shape)


# What each op is called there: array arguments by position, options by our names.
THERE = {
    "identity": lambda x: x * 1,
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "neg": torch.neg,
    "pow": torch.pow,
    "abs": torch.abs,
    "sign": torch.sign,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "where": torch.where,
    "clip": lambda x, low=None, high=None: torch.clamp(x, low, high),
    "astype": lambda x, dtype: x.to(getattr(torch, dtype)),
    "copy": torch.clone,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "leaky_relu": lambda x, slope=0.01: F.leaky_relu(x, slope),
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "silu": F.silu,
    "softplus": F.softplus,
    "reshape": _shape("reshape"),
    "sum": _axes(torch.sum),
    "broadcast_to": _shape("broadcast_to"),
    "sum_to": _sum_to,
    "swapaxes": lambda x, axis1=-1, axis2=-2: torch.swapaxes(x, axis1, axis2),
    "transpose": lambda x, axes=None: x.permute(axes or tuple(range(x.dim()))[::-1]),
    "expand_dims": lambda x, axis: x.reshape(np.expand_dims(np.empty(x.shape), axis).shape),
    "squeeze": lambda x, axis=None: torch.squeeze(x) if axis is None else torch.squeeze(x, axis),
    "concatenate": lambda *xs, axis=0: torch.cat(xs, axis),
    "stack": lambda *xs, axis=0: torch.stack(xs, axis),
    "getitem": _getitem,
    "put_add": _put_add,
    "take": _take,
    "index_add": _index_add,
    "take_along_axis": lambda x, indices, axis=-1: torch.take_along_dim(x, indices, axis),
    "scatter_add": lambda x, i, axis, shape: torch.zeros(shape, dtype=x.dtype).scatter_add(axis, i, x),
    "pad": _pad,
    "flip": lambda x, axis=None: torch.flip(x, tuple(range(x.dim())) if axis is None else (axis,)),
    "matmul": torch.matmul,
    "linear": F.linear,
    "mean": _axes(torch.mean),
    "var": _variance(torch.var),
    "std": _variance(torch.std),
    "max": _extreme(torch.amax),
    "min": _extreme(torch.amin),
    "prod": _prod,
    "cumsum": lambda x, axis=None: torch.cumsum(x.reshape(-1) if axis is None else x, axis or 0),
    "logsumexp": _axes(torch.logsumexp),
    "softmax": lambda x, axis=-1: torch.softmax(x, axis),
    "log_softmax": lambda x, axis=-1: torch.log_softmax(x, axis),
    "norm": _axes(lambda x, dim, keep: torch.linalg.vector_norm(x, dim=dim, keepdim=keep)),
    "mse_loss": lambda a, b, reduction="mean": F.mse_loss(a, b, reduction=reduction),
    "l1_loss": lambda a, b, reduction="mean": F.l1_loss(a, b, reduction=reduction),
    "huber_loss": _huber,
    "bce_with_logits": lambda x, t, reduction="mean": F.binary_cross_entropy_with_logits(x, t, reduction=reduction),
    "cross_entropy": lambda x, t, w=None, reduction="mean": F.cross_entropy(x, t, w, reduction=reduction),
}

ALONE = {"dropout": "its mask comes from our own counter-based generator"}
DIFFERENTIABLE = [
    n for n, op in mg.REGISTRY.items() if op.differentiable and not op.writes and op.__module__.startswith("minigrad.")
]


def test_every_op_has_a_peer_or_a_reason():
    assert sorted(DIFFERENTIABLE) == sorted([*THERE, *ALONE])


def _theirs(s):
    leaves = []
    for i, a in enumerate(s.args):
        leaves.append(torch.tensor(a, requires_grad=i in s.active) if isinstance(a, np.ndarray) else a)
    return leaves


def _near(ours, theirs, what):
    theirs = theirs.numpy(force=True)
    assert ours.shape == theirs.shape, what
    scale = np.abs(theirs).max(initial=1e-3)
    np.testing.assert_allclose(ours, theirs, rtol=RELATIVE, atol=RELATIVE * scale, err_msg=what)


@pytest.mark.parametrize("name", THERE)
def test_equals_torch(name):
    @settings(max_examples=max(5, settings().max_examples // 2))
    @given(samples(mg.REGISTRY[name], SMALL, DOUBLE))
    def equal(s):
        ours, theirs = leaves_of(s), _theirs(s)
        y, z = s(ours), THERE[name](*theirs, **s.options)
        _near(y.data, z, "value")
        g = s.cotangent()
        seed, seed_there = mg.tensor(g, requires_grad=True), torch.tensor(g, requires_grad=True)
        y.backward(seed, create_graph=True)
        wanted = [theirs[i] for i in s.active]
        first = torch.autograd.grad(z, wanted, seed_there, create_graph=True)
        rng, total, total_there = s.rng(), mg.tensor(np.zeros(())), torch.zeros((), dtype=torch.float64)
        for i, theirs_first in zip(s.active, first, strict=True):
            _near(ours[i].grad.data, theirs_first, f"gradient of {s.names[i]}")
            d = rng.uniform(-1, 1, s.args[i].shape)
            gradient, ours[i].grad = ours[i].grad, None
            total, total_there = total + (gradient * d).sum(), total_there + (theirs_first * torch.tensor(d)).sum()
        second = [None] * (len(wanted) + 1)  # zero, also by not depending on anything
        if total.requires_grad:
            total.backward()
        if total_there.requires_grad:
            second = torch.autograd.grad(total_there, [*wanted, seed_there], allow_unused=True)
        for x, there in zip([*[ours[i] for i in s.active], seed], second, strict=True):
            there = torch.zeros(x.shape) if there is None else there
            _near(np.zeros(x.shape) if x.grad is None else x.grad.data, there, "second derivative")

    equal()


# The kinks where we and PyTorch agree, and those where our table decides otherwise: (ours, theirs).
KINKS = {
    "relu": (0.0, 0, 0),
    "abs": (0.0, 0, 0),
    "leaky_relu": (0.0, 0.01, 0.01),
    "elu": (0.0, 1, 1),
    "sqrt": (0.0, np.inf, np.inf),
    "softplus": (0.0, 0.5, 0.5),
    "sign": (0.0, 0, 0),
}


@pytest.mark.parametrize("name", KINKS)
def test_slopes_at_kinks(name):
    point, ours, theirs = KINKS[name]
    x, there = mg.tensor(np.array(point), requires_grad=True), torch.tensor(point, requires_grad=True)
    with np.errstate(divide="ignore"):
        mg.REGISTRY[name](x).backward()
    THERE[name](there).backward()
    assert (x.grad.item(), there.grad.item()) == pytest.approx((ours, theirs))
