"""Moving elements without arithmetic, and the adjoints of that, which add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.engine.op import attach, op
from minigrad.engine.shapes import integers, reals
from minigrad.engine.tensor import Tensor
from minigrad.kernels import elementwise
from minigrad.ops.broadcast import reshape

ANY = reals(-2, 2)


@op(
    "y = x, axes exchanged",
    shapes="free",
    method=True,
    view=True,
    x=ANY,
    cases=[(((3, 4),), {}), (((2, 3, 4),), {"axis1": 0, "axis2": 1})],
)
def swapaxes(x, axis1=-1, axis2=-2):
    """Exchange two axes; by default the last two."""
    return np.swapaxes(x, axis1, axis2)


@swapaxes.vjp("x", "x̄ = ȳ, axes exchanged")
def _(g, axis1, axis2):
    return swapaxes(g, axis1, axis2)


def inverse(axes: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes that of ``axes``, of which some may be negative."""
    places = [a % len(axes) for a in axes]
    return tuple(sorted(range(len(axes)), key=places.__getitem__))


@op(
    "y = x, axes permuted",
    shapes="free",
    method=True,
    view=True,
    x=ANY,
    cases=[(((3, 4),), {}), (((2, 3, 4),), {"axes": (2, 0, 1)}), (((2, 3, 4),), {"axes": (-1, -3, 1)})],
)
def transpose(x, axes=None):
    """Permute the axes; reversed by default."""
    return np.transpose(x, axes)


@transpose.vjp("x", "x̄ = ȳ, axes permuted back")
def _(g, axes):
    return transpose(g, None if axes is None else inverse(axes))


attach("T", property(lambda self: transpose(self), doc="The tensor with its axes reversed."))


@op(
    "y = x, with axes of size 1",
    shapes="free",
    method=True,
    view=True,
    x=ANY,
    cases=[(((3, 4),), {"axis": 1}), (((3,),), {"axis": (0, 2)})],
)
def expand_dims(x, /, axis):
    """Insert axes of size 1 at ``axis`` (an int or a tuple)."""
    return np.expand_dims(x, axis)


@expand_dims.vjp("x", "x̄ = ȳ, in x's shape")
def _(g, x_shape):
    return reshape(g, x_shape)


@op(
    "y = x, without axes of size 1",
    shapes="free",
    method=True,
    view=True,
    x=ANY,
    cases=[(((3, 1, 1),), {}), (((1, 3),), {"axis": 0})],
)
def squeeze(x, axis=None):
    """Remove axes of size 1: all, or those named. ValueError for a larger one."""
    return np.squeeze(x, axis)


@squeeze.vjp("x", "x̄ = ȳ, in x's shape")
def _(g, x_shape):
    return reshape(g, x_shape)


@op(
    "y = xs, one after the other",
    shapes="free",
    sequence=True,
    xs=ANY,
    cases=[(((2, 3), (4, 3)), {}), (((2, 1), (2, 0), (2, 3)), {"axis": 1}), (((2, 1, 2), (2, 2, 2)), {"axis": -2})],
)
def concatenate(xs, axis=0):
    """Join arrays along an existing axis."""
    return np.concatenate(xs, axis)


@concatenate.vjp("xs", "x̄ᵢ = ȳ, the i-th part")
def _(g, i, shapes, axis):
    axis %= len(shapes[0])
    start = np.sum([shape[axis] for shape in shapes[:i]], dtype=int).item()
    return getitem(g, (slice(None),) * axis + (slice(start, start + shapes[i][axis]),))


@op(
    "y = xs, along a new axis",
    shapes="free",
    sequence=True,
    native=elementwise.stack,
    xs=ANY,
    cases=[(((2, 3), (2, 3)), {}), (((2,), (2,), (2,)), {"axis": -1})],
)
def stack(xs, axis=0):
    """Join arrays of one shape along a new axis."""
    return np.stack(xs, axis)


@stack.vjp("xs", "x̄ᵢ = ȳ, the i-th slice")
def _(g, i, axis):
    return getitem(g, (slice(None),) * (axis % g.ndim) + (i,))


def _plain(index: Any) -> Any:
    """An index without tensors or lists, that no one can change later."""
    if isinstance(index, tuple):
        return tuple(_plain(i) for i in index)
    if isinstance(index, Tensor):
        index = index.data
    if isinstance(index, list):
        index = np.array(index, dtype=None if index else np.intp)
    return index.copy() if isinstance(index, np.ndarray) else index


def _basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, int | slice | np.integer) for part in parts)


@op(
    "y = x[index]",
    shapes="free",
    view=True,
    x=ANY,
    cases=[
        (((3, 4),), {"index": (slice(1, None), 2)}),
        (((5,),), {"index": slice(None, None, -2)}),
        (((3, 4),), {"index": [0, 2, 2, -1]}),
        (((3,),), {"index": np.array([True, False, True])}),
        (((3, 4),), {"index": (None, Ellipsis, 0)}),
        (((3, 4),), {"index": ([0, 2, 2, -1], [0, 2, 2, -1])}),
    ],
)
def getitem(x, /, index):
    """Indexing as in NumPy: basic (a view), integer arrays, repeated ones too, and boolean masks."""
    out = np.asarray(x)[index]
    return out if _basic(index) else np.ascontiguousarray(out)


@getitem.vjp("x", "x̄[index] += ȳ")
def _(g, index, x_shape):
    return put_add(g, index, x_shape)


attach("__getitem__", lambda self, index: getitem(self, _plain(index)))


@op(
    "y = 0, y[index] += x",
    shapes="free",
    x=ANY,
    cases=[
        (((2,),), {"index": (slice(1, None), 2), "shape": (3, 4)}),
        (((4, 2),), {"index": [0, 2, 2, -1], "shape": (3, 2)}),
    ],
)
def put_add(x, /, index, shape):
    """Zeros of ``shape``, with x added at ``index``, in C order: the adjoint of getitem."""
    out = np.zeros(shape, np.asarray(x).dtype)
    if _basic(index):
        out[index] = x
    else:
        np.add.at(out, index, x)
    return out


@put_add.vjp("x", "x̄ = ȳ[index]")
def _(g, index):
    return getitem(g, index)


@op(
    "y = x at indices along an axis",
    shapes="free",
    method=True,
    x=ANY,
    indices=integers(0, 2),
    cases=[(((3, 4), (5,)), {"axis": 0}), (((3,), (2, 2)), {"axis": -1}), (((2, 3), (4,)), {})],
)
def take(x, indices, axis=None):
    """Slices of x along ``axis`` at integer indices of any shape; by default from x flattened."""
    if np.asarray(indices).dtype.kind not in "iu":
        raise TypeError(f"take: need integer indices, got dtype {np.asarray(indices).dtype}")
    return np.take(x, indices, axis)


@take.vjp("x", "x̄[indices] += ȳ")
def _(g, indices, axis, x_shape):
    return index_add(g, indices, axis, x_shape)


@op(
    "y = 0, y[indices] += x along an axis",
    shapes="free",
    x=ANY,
    indices=integers(0, 2),
    cases=[
        (((5, 4), (5,)), {"axis": 0, "shape": (3, 4)}),
        (((2, 5), (5,)), {"axis": -1, "shape": (2, 3)}),
        (((4,), (4,)), {"axis": None, "shape": (2, 3)}),
    ],
)
def index_add(x, indices, /, axis, shape):
    """Zeros of ``shape``, with x added at integer indices along ``axis``, in C order: the adjoint of take."""
    out = np.zeros(shape, np.asarray(x).dtype)
    if axis is None:
        np.add.at(out.reshape(-1), indices, x)
    else:
        np.add.at(out, (slice(None),) * (axis % out.ndim) + (indices,), x)
    return out


@index_add.vjp("x", "x̄ = ȳ[indices]")
def _(g, indices, axis):
    return take(g, indices, axis)


@op(
    "y = x[…, indices, …]",
    shapes="free",
    x=ANY,
    indices=integers(0, 2),
    cases=[(((3, 4), (2, 4)), {"axis": 0}), (((2, 3), (2, 5)), {"axis": -1})],
)
def take_along_axis(x, indices, axis=-1):
    """One element of x per element of ``indices``, along ``axis``; the other axes agree."""
    return np.take_along_axis(x, indices, axis)


@take_along_axis.vjp("x", "x̄[…, indices, …] += ȳ")
def _(g, indices, axis, x_shape):
    return scatter_add(g, indices, axis, x_shape)


@op(
    "y = 0, y[…, indices, …] += x",
    shapes="free",
    x=ANY,
    indices=integers(0, 2),
    cases=[(((2, 4), (2, 4)), {"axis": 0, "shape": (3, 4)}), (((2, 5), (2, 5)), {"axis": -1, "shape": (2, 3)})],
)
def scatter_add(x, indices, /, axis, shape):
    """Zeros of ``shape``, with each x added at its index along ``axis``: the adjoint of take_along_axis."""
    out = np.zeros(shape, np.asarray(x).dtype)
    places = list(np.ogrid[tuple(slice(n) for n in np.shape(indices))])
    places[axis] = np.asarray(indices)
    np.add.at(out, tuple(places), x)
    return out


@scatter_add.vjp("x", "x̄ = ȳ[…, indices, …]")
def _(g, indices, axis):
    return take_along_axis(g, indices, axis)


@op(
    "y = x, framed",
    shapes="free",
    x=ANY,
    cases=[
        (((3, 4),), {"widths": 1}),
        (((3,),), {"widths": ((2, 0),), "value": 0.5}),
        (((2, 3),), {"widths": ((0, 1), (2, 0))}),
    ],
)
def pad(x, /, widths, value=0.0):
    """``x`` with ``value`` around it; widths: an int, or a pair (before, after) for each axis."""
    return np.pad(x, widths, constant_values=value)


@pad.vjp("x", "x̄ = ȳ, the inside")
def _(g, widths, x_shape):
    pairs = np.broadcast_to(widths, (len(x_shape), 2)).tolist()
    return getitem(g, tuple(slice(before, before + n) for (before, _after), n in zip(pairs, x_shape, strict=True)))


@op("y = x, reversed", shapes="free", view=True, x=ANY, cases=[(((3, 4),), {}), (((3, 4),), {"axis": 1})])
def flip(x, axis=None):
    """Reverse the order along ``axis`` (an int, a tuple, or all)."""
    return np.flip(x, axis)


@flip.vjp("x", "x̄ = ȳ, reversed")
def _(g, axis):
    return flip(g, axis)
