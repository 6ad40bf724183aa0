"""The laws of every op, as functions of a drawn sample: each raises AssertionError, and says which bit is off."""

from __future__ import annotations

import contextlib
import doctest
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from minigrad.compiler import compile
from minigrad.engine.op import Op
from minigrad.engine.state import formulas
from minigrad.engine.tensor import Tensor, from_numpy, tensor
from minigrad.engine.transforms import jvp
from minigrad.kernels import jit
from minigrad.ops.update import assign
from minigrad.testing.bits import LAYOUTS, Array, need, read_only, same
from minigrad.testing.differences import derivative
from minigrad.testing.samples import DOUBLE, F32, F64, SMALL, Sample, is_float, leaves_of, pull, shown

STEP = 0.02  # of differences; samples stay further from kinks and ties
EPS, ULP = float(np.finfo(F64).eps), float(np.finfo(F32).eps)


def all_same(got: Sequence[Any], expected: Sequence[Any], s: Sample, what: str, zeros: bool = False) -> None:
    """``same``, for the gradient of each active argument."""
    for i, left, right in zip(s.active, got, expected, strict=True):
        same(left, right, f"{what}, the gradient of {s.names[i]}", zeros)


def close(claim: Array, truth: Array, ulps: float, scales: Sequence[Any], what: str) -> None:
    """Within so many ulps of the largest of 1, the truth and ``scales``, of the narrowest dtype; 0: to the bit."""
    if not ulps or truth.dtype.kind != "f":
        same(claim, truth, what)
        return
    same(np.zeros_like(claim), np.zeros_like(truth), what)
    if truth.size:
        floats = [truth, *filter(is_float, scales)]
        scale = max(1.0, *[np.abs(a[np.isfinite(a)]).max(initial=0) for a in floats])
        unit = scale * max(float(np.finfo(a.dtype).eps) for a in floats)
        with np.errstate(invalid="ignore"):
            off = np.where((claim == truth) | (np.isnan(claim) & np.isnan(truth)), 0, np.abs(claim - truth))
        if not off.max() <= ulps * unit:
            i = np.unravel_index(off.argmax(), off.shape)
            need(False, f"{what}: got {claim[i]} for {truth[i]}, {off.max() / unit:.3g} ulps apart, declared: {ulps}")


# Laws of values


def pure(s: Sample) -> None:
    """Same inputs, same outputs; neither inputs, read-only ones too, nor the cotangent are written or kept."""
    before = [np.copy(a) if isinstance(a, np.ndarray) else a for a in s.args]
    y = s.value()
    for name, a in zip(s.names, s.args, strict=True) if not s.op.view else ():
        shared = isinstance(a, np.ndarray) and np.shares_memory(a, y)
        need(not shared, f"the result shares the memory of {name}: copy it, or declare view=True")
    same(s.value(), y, "a second call")
    locked = s.with_args([read_only(a) if isinstance(a, np.ndarray) else a for a in s.args])
    if not s.op.writes:
        same(locked.value(), y, "a call with read-only arguments")
    if s.active:
        g = s.cotangent()
        kept = g.copy()
        leaves = leaves_of(s)
        output = s(leaves)
        output.backward(g)
        first = [leaves[i].grad.data for i in s.active]
        same(output.data, y, "the output after backward")
        same(g, kept, "the cotangent after backward")
        all_same(pull(s, kept), first, s, "a second backward")
        all_same(pull(locked, read_only(kept)), first, s, "read-only arguments and cotangent")
        for gradient in first:
            gradient[...] = 7  # a gradient is its owner's: writing it reaches nobody else
        same(g, kept, "the cotangent after a gradient was written")
    for name, a, b in zip(s.names, s.args, before, strict=True):
        if isinstance(a, np.ndarray):
            same(a, b, f"{name} after the call")


def writes(s: Sample) -> None:
    """Exactly the declared arguments are written, each write is counted, and the first of them is returned."""
    for layout in ("C", "Fortran", "strided", "reversed"):
        change: Callable[[Array], Array] = LAYOUTS[layout]
        tensors = [from_numpy(np.array(change(a.copy()))) if isinstance(a, np.ndarray) else a for a in s.args]
        for i in s.op.written:
            if tensors[i] is not None:
                tensors[i].data = change(s.args[i].copy())
        before = [t.cell[0] if isinstance(t, Tensor) else 0 for t in tensors]
        out = s(tensors)
        need(out is tensors[s.op.written[0]], f"the result is not the tensor {s.op.writes[0]} that was written")
        written = []
        for i, (name, t) in enumerate(zip(s.names, tensors, strict=True)):
            if isinstance(t, Tensor):
                due, counted = int(i in s.op.written), t.cell[0] - before[i]
                need(counted == due, f"{counted} writes of {name} are counted, not {due}")
                if due:
                    written.append(t.data)
                else:
                    same(t.data, s.args[i], f"{name}, which is not declared to be written")
        joined = written[0] if len(written) == 1 else np.concatenate([np.ravel(a) for a in written])
        same(joined, s.value(), f"what is written, in a {layout} layout")


def refuses(s: Sample) -> None:
    """What cannot be written is refused, with a reason: plain arrays, computed tensors, read-only memory."""
    arrays = [a for a in s.args if isinstance(a, np.ndarray)]
    ways: tuple[tuple[type[Exception], Callable[[Array], Any]], ...] = (
        (TypeError, np.copy),
        (RuntimeError, lambda a: Tensor(a.copy()).requires_grad_() * 1),
        (ValueError, lambda a: from_numpy(read_only(a))),
    )
    for error, change in ways:
        if error is RuntimeError and not all(is_float(a) for a in arrays):
            continue  # nothing computes them from what needs a gradient
        changed = [change(a) if isinstance(a, np.ndarray) else a for a in s.args]
        try:
            s(changed)
        except error as refused:
            need(str(refused).startswith(f"{s.op.name}: "), f"an error that does not name the op: {refused}")
        else:
            need(False, f"it writes where a {error.__name__} is due")


def layouts(s: Sample) -> None:
    """The same bits for every memory layout of the inputs and of the cotangent."""
    y = s.value()
    g = s.cotangent()
    expected = pull(s, g) if s.active else []
    with formulas():
        z = s.value()
    for layout, change in LAYOUTS.items():
        changed = s.with_args([np.asarray(change(a)) if isinstance(a, np.ndarray) else a for a in s.args])
        same(changed.value(), y, f"{layout} inputs")
        with formulas():
            same(changed.value(), z, f"{layout} inputs, by the formula")
        if s.active:
            all_same(pull(changed, np.asarray(change(g))), expected, s, f"{layout} inputs and cotangent")
    for i, a in enumerate(s.args):
        if isinstance(a, np.ndarray) and a.ndim and len(a) > 1:
            view = np.broadcast_to(a[:1], a.shape)
            views, copies = list(s.args), list(s.args)
            views[i], copies[i] = view, view.copy()
            same(s.value(views), s.value(copies), f"{s.names[i]} as a broadcast view")
            if s.active:
                all_same(
                    pull(s.with_args(views), g), pull(s.with_args(copies), g), s, f"{s.names[i]} as a broadcast view"
                )
    if s.active and g.ndim and len(g):
        view = np.broadcast_to(g[:1], g.shape)
        all_same(pull(s, view), pull(s, view.copy()), s, "the cotangent as a broadcast view")


def kernels(s: Sample) -> None:
    """Kernel equals formula: to the bit, or within the ulps that the op declares."""
    forward, backward = s.op.ulps
    with formulas():
        y = s.value()
    magnitudes = s.with_args([np.abs(a) if is_float(a) else a for a in s.args]) if s.op.letters else s
    close(s.value(), y, forward, [magnitudes.value(), *s.args], "kernel and formula")
    if s.active:
        leaves = leaves_of(s)
        z, g = s(leaves), s.cotangent()
        z.backward(g, retain_graph=True)
        claims = [leaves[i].grad.data for i in s.active]
        for i in s.active:
            leaves[i].grad = None
        with formulas():
            z.backward(g)
        reach = pull(magnitudes, np.abs(g))
        for i, claim, largest in zip(s.active, claims, reach, strict=True):
            close(claim, leaves[i].grad.data, backward, [largest, *s.args], f"kernel and formula for {s.names[i]}̄")


def ties(s: Sample) -> None:
    """Kernel equals formula at kinks and ties too: each follows the documented convention."""
    with np.errstate(all="ignore"):
        kernels(tied(s))


def tied(s: Sample, inside: float = 0) -> Sample:
    """The same with values that often are kinks or equal; at least ``inside`` from the ends of their domains."""
    args, rng = list(s.args), s.rng()
    for i, (a, domain) in enumerate(zip(s.args, s.domains, strict=True)):
        points = [v for v in {*domain.kinks, *range(-2, 3)} if domain.low + inside <= v <= domain.high - inside]
        if is_float(a) and points:
            args[i] = np.asarray(rng.choice(sorted(points), a.shape), a.dtype)
    return s.with_args(args)


def kinks(s: Sample) -> None:
    """At a kink or tie the gradient lies between those nearby; of several arguments, so does their sum."""
    s = tied(s.as_dtype(F64), inside=0.1)
    shape = np.broadcast_shapes(*[np.shape(a) for a in s.args])
    s = s.with_args([np.array(np.broadcast_to(a, shape)) if isinstance(a, np.ndarray) else a for a in s.args])
    if not s.active:
        return
    rng, g = s.rng(), s.cotangent()
    steps = [{i: rng.uniform(-1e-6, 1e-6, shape) for i in s.active} for _ in range(4)]
    near = [pull(s.with_args(_moved(s, step, t)), g) for step in steps for t in (1, -1)]  # both sides of any kink
    at = pull(s, g)
    ways = [(f"the gradient of {s.names[i]}", [k]) for k, i in enumerate(s.active)]
    for what, some in [*ways, ("the sum of the gradients", list(range(len(at))))]:
        claim, others = (np.array([np.sum([n[k] for k in some], 0) for n in found]) for found in ([at], near))
        low, high = others.min(axis=0), others.max(axis=0)
        slack = 1e-3 * (1 + np.abs(others).max(axis=0))
        off = ~((claim[0] >= low - slack) & (claim[0] <= high + slack))
        nearby = f"{low[off][:1]} to {high[off][:1]}"
        need(not np.any(off), f"{what} is {claim[0][off][:1]} at a kink or tie, but nearby it is {nearby}")


def dtypes(s: Sample) -> None:
    """Precision is kept and promoted as in NumPy; a gradient has its argument's shape and dtype."""
    y = s.value()
    floats = [a for a in s.args if is_float(a) or isinstance(a, float)]
    if "dtype" in (options := {**s.op.defaults, **s.options}):
        need(y.dtype == options["dtype"], f"the dtype is {y.dtype}, but {options['dtype']} is asked for")
    elif y.dtype.kind == "f":
        given = [str(getattr(a, "dtype", "a number")) for a in floats]
        need(y.dtype == np.result_type(*floats), f"{y.dtype} comes from {', '.join(given) or 'no float'}")
    else:
        need(not s.op.differentiable, f"the result has dtype {y.dtype}, so the op cannot be differentiable")
    if s.active:
        for i, gradient in zip(s.active, pull(s, s.cotangent()), strict=True):
            same(np.zeros_like(gradient), np.zeros_like(s.args[i]), f"the gradient of {s.names[i]}")


def integers(s: Sample) -> None:
    """Integers and bools are promoted as in NumPy, among floats and alone, and never taken for floats.

    Where integers are declared, they may be of any size.
    """
    for i, (a, domain) in enumerate(zip(s.args, s.domains, strict=True)):
        for narrow in (np.int32, np.uint8):
            if isinstance(a, np.ndarray) and domain.kind == "i" and np.array_equal(a, a.astype(narrow)):
                other, what = (
                    s.with_args([*s.args[:i], a.astype(narrow), *s.args[i + 1 :]]),
                    f"{s.names[i]} as {narrow}",
                )
                same(other.value(), s.value(), what)
                if s.active:
                    g = s.cotangent()
                    all_same(pull(other, g), pull(s, g), s, what)
    floats = [i for i, a in enumerate(s.args) if is_float(a)]
    if not floats:
        return
    i = s.rng().choice(floats)
    kind: Any
    for kind in (np.int64, np.uint64):  # NumPy makes half precision of the others, or has no such function of them
        _alone(s, floats, kind)
    for kind in (np.int64, np.uint8, bool) if len(floats) > 1 else ():
        whole = np.asarray(np.abs(np.rint(s.args[i])), kind)
        dtype = np.result_type(whole, *[s.args[j] for j in floats if j != i])
        mixed, promoted = (s.with_args([*s.args[:i], a, *s.args[i + 1 :]]) for a in (whole, whole.astype(dtype)))
        with np.errstate(all="ignore"):
            same(mixed.value(), promoted.value(), f"{s.names[i]} as {np.dtype(kind)}")
            if mixed.active:
                g = mixed.cotangent()
                expected = dict(zip(promoted.active, pull(promoted, g), strict=True))
                for j, gradient in zip(mixed.active, pull(mixed, g), strict=True):  # rules may promote in another order
                    what = f"{s.names[i]} as {np.dtype(kind)}, the gradient of {s.names[j]}"
                    close(gradient, expected[j], 4, [], what)


def _alone(s: Sample, places: Sequence[int], kind: Any) -> None:
    """An op whose result is a float has of integers alone what it has of the same floats, by kernel and by formula."""
    whole = [np.asarray(np.abs(np.rint(a)), kind) if i in places else a for i, a in enumerate(s.args)]
    given = s.with_args(whole)
    floats = s.with_args([a.astype(F64) if i in places else a for i, a in enumerate(whole)])
    for how in (contextlib.nullcontext(), formulas()):
        with how, np.errstate(all="ignore"):
            y, expected = given.value(), floats.value()
        if y.dtype.kind == "f":  # else they stay integers
            close(y, expected, max(1, s.op.ulps[0]), [], f"what comes of {np.dtype(kind)} alone")


def precision(s: Sample) -> None:
    """float32 is float64 rounded: off by a few ulps, and by a few times what the inputs' own rounding may change."""
    s = s.as_dtype(F32)
    exact, rng = s.as_dtype(F64), s.rng()
    narrow, wide = s.value(), exact.value()
    if narrow.dtype != F32:
        same(narrow, wide.astype(narrow.dtype), "what is no float32")
        return
    near = [  # the inputs, an ulp away
        exact.with_args(
            [np.asarray(a * rng.choice([1 - ULP, 1 + ULP], a.shape)) if is_float(a) else a for a in exact.args]
        )
        for _ in range(2)
    ]
    floats = [a for a in s.args if is_float(a)]
    reach = max([1.0, *[np.abs(a[np.isfinite(a)]).max(initial=0) for a in (*floats, wide)]])
    terms = 1 if s.op.shapes == "elementwise" else max([1, *[a.size for a in floats]])
    _near(narrow, wide, [n.value() for n in near], 4 * reach * terms, "the value in float32")
    if s.active:
        g = s.cotangent()
        others = [pull(n, g.astype(F64)) for n in near]
        for k, (i, a, b) in enumerate(zip(s.active, pull(s, g), pull(exact, g.astype(F64)), strict=True)):
            reach = max(4.0, np.abs(b).max(initial=0))
            summed = max(terms, g.size // max(1, a.size))  # over what was broadcast
            what = f"the gradient of {s.names[i]} in float32"
            _near(a, b, [other[k] for other in others], 16 * reach * summed, what)


def _near(narrow: Array, wide: Array, moved: Sequence[Array], ulps: float, what: str) -> None:
    with np.errstate(invalid="ignore"):
        allowed = ULP * ulps + sum(4 * np.abs(m - wide) for m in moved)
        far = ~((np.abs(narrow - wide) <= allowed) | (narrow == wide) | np.isnan(wide))
    need(not far.any(), f"{what} is {narrow[far][:1]}, in float64 {wide[far][:1]}")


def positions(s: Sample) -> None:
    """The bits of an element do not know its row or column: selecting commutes with the op."""
    y = s.value()
    if s.op.shapes == "elementwise":
        for axis in range(1, y.ndim + 1):
            _select(s, y, [axis] * len(s.args), axis, "an axis")
    elif s.op.letters is not None:
        for letter in s.op.letters.output.replace("...", ""):
            axes = [len(t) - t.find(letter) if letter in t else 0 for t in s.op.letters.inputs]
            _select(s, y, axes, len(s.op.letters.output) - s.op.letters.output.find(letter), letter, mixed=True)
        if "..." in s.op.letters.output:
            tail = len(s.op.letters.output) - 3
            for lead in range(1, y.ndim - tail + 1):
                _select(s, y, _batch_axes(s, lead), lead + tail, "the batch")


def _batch_axes(s: Sample, lead: int) -> list[int]:
    """For each argument its ``lead``-th axis before the letters, counted from the end; 0 if it has no batch."""
    assert s.op.letters is not None
    return [lead + len(t) - 3 if "..." in t else 0 for t in s.op.letters.inputs]


def _select(s: Sample, y: Array, axes: list[int], out: int, what: str, mixed: bool = False) -> None:
    """``axes``: for each argument the axis, counted from the end, that becomes axis ``out`` of the output; 0: none.

    ``mixed``: the op may also combine elements along it, as a softmax does; then they are no longer close.
    """
    n = y.shape[y.ndim - out]
    for places in (np.arange(n)[n // 2 :], np.arange(min(1, n)), np.arange(n)[::-1]):
        args = []
        for a, axis in zip(s.args, axes, strict=True):
            shared = not isinstance(a, np.ndarray) or not axis or a.ndim < axis or a.shape[a.ndim - axis] == 1 != n
            args.append(a if shared else np.take(a, places, a.ndim - axis))
        got = s.value(args)
        expected = np.take(y, places, y.ndim - out)
        if mixed and got.shape == expected.shape and not _close_by(got, expected):
            return
        if got.shape == expected.shape:
            same(got, expected, f"elements {_span(places)} along {what}")


def _close_by(a: Array, b: Array) -> bool:
    if a.dtype.kind != "f":
        return True
    near = 64 * float(np.finfo(a.dtype).eps) * np.abs(b[np.isfinite(b)]).max(initial=0)
    return np.allclose(a, b, 0, near, equal_nan=True)


def _span(places: Array) -> str:
    return f"{places[0]} … {places[-1]}" if len(places) else "none"


def rows(s: Sample) -> None:
    """Rows of the batch do not know of each other: f(x)[i] is f(x[i:i+1]), and so are gradients."""
    y = s.value()
    elementwise = s.op.shapes == "elementwise"
    lead = y.ndim if elementwise or s.op.letters is None else y.ndim - len(s.op.letters.output) + 3
    if not lead or not y.size:
        return
    axes = [lead] * len(s.args) if elementwise else _batch_axes(s, lead)
    whole = [isinstance(a, np.ndarray) and a.ndim == axis > 0 for a, axis in zip(s.args, axes, strict=True)]
    whole = [w and a.shape[0] == len(y) for w, a in zip(whole, s.args, strict=True)]
    g = s.cotangent()
    gradients = dict(zip(s.active, pull(s, g), strict=True)) if s.active else {}
    for i in {0, len(y) // 2, len(y) - 1}:
        alone = s.with_args([a[i : i + 1] if w else a for w, a in zip(whole, s.args, strict=True)])
        same(alone.value(), y[i : i + 1], f"row {i} alone")
        for j, gradient in zip(alone.active, pull(alone, g[i : i + 1]) if alone.active else (), strict=True):
            if whole[j]:
                same(gradient, gradients[j][i : i + 1], f"row {i} alone, the gradient of {s.names[j]}")


def empty(s: Sample) -> None:
    """Arguments without elements give a result of the right shape, or an error that names the op; never garbage."""
    try:
        y = s.value()
    except (ValueError, IndexError) as error:
        need(str(error).startswith(f"{s.op.name}: "), f"an error that does not name the op: {error}")
        return
    if s.active:
        for i, gradient in zip(s.active, pull(s, np.ones(y.shape, y.dtype)), strict=True):
            same(np.zeros_like(gradient), np.zeros_like(s.args[i]), f"the gradient of {s.names[i]}")


SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 1e18, -1e18, 0.5, -1.5)
#: For sums of products: −∞ plus a product that overflows is −∞ when fused and NaN when not, so none of three does.
TAME = tuple(np.clip(SPECIAL[3:], -1e12, 1e12)) + SPECIAL[:3]


def specials(s: Sample) -> None:
    """NaN, infinities, zeros, subnormal and huge numbers: kernel and formula agree on them too, without a warning."""
    values = TAME if s.op.letters else SPECIAL
    args = [np.resize(s.rng().permutation(values), a.shape).astype(a.dtype) if is_float(a) else a for a in s.args]
    s = s.with_args(args)
    with np.errstate(all="ignore"):
        claim = s.value()
        with formulas():
            truth = s.value()
    if truth.dtype.kind != "f":
        same(claim, truth, "at special values")
        return
    for test in (np.isnan, np.isposinf, np.isneginf):
        need(
            np.array_equal(test(claim), test(truth)),
            f"{test.__name__}: {claim} by kernel, {truth} by formula at {', '.join(map(str, args))}",
        )
    calm = np.isfinite(truth)
    scales: list[Any] = [] if s.op.shapes == "elementwise" else s.args
    if s.op.letters:  # what is finite may be a small difference of huge terms
        sizes = s.with_args(
            [np.where(np.isfinite(a), np.abs(a), 0).astype(a.dtype) if is_float(a) else a for a in args]
        )
        with np.errstate(all="ignore"):
            scales = [*scales, sizes.value()]
    close(claim[calm], truth[calm], s.op.ulps[0], scales, "at special values")


# Laws of derivatives


def linear(s: Sample) -> None:
    """vjp(2ᵏ g) = 2ᵏ vjp(g) and vjp(−g) = −vjp(g)."""
    if s.active:
        g = s.cotangent()
        expected = pull(s, g)
        for factor in (8.0, 0.125, -1.0):
            scaled = [np.asarray(factor * e, e.dtype) for e in expected]
            got = pull(s, np.asarray(factor * g, g.dtype))
            all_same(got, scaled, s, f"the cotangent times {factor:g}", zeros=True)


def graph(s: Sample) -> None:
    """First-order gradients have the same bits with and without create_graph."""
    if s.active:
        g = s.cotangent()
        all_same(pull(s, g, create_graph=True), pull(s, g), s, "with create_graph")


def alone(s: Sample) -> None:
    """A gradient has the same bits where it is the only one that is asked for."""
    if s.active:
        g = s.cotangent()
        for i, gradient in zip(s.active, pull(s, g), strict=True):
            same(pull(replace(s, only=(i,)), g)[0], gradient, f"the gradient of {s.names[i]} alone")


def first(s: Sample) -> None:
    """Gradients agree with differences, entry by entry, and with the jvp by the adjoint identity."""
    if not s.active:
        return
    s, rng = s.as_dtype(F64), s.rng()
    g = s.cotangent()
    gradients = pull(s, g)
    for i in s.active:
        a = s.args[i]
        for place in _places(rng, a):
            direction = np.zeros_like(a)
            direction.flat[place] = 1
            column = _jacobian_column(s, i, place)
            by = f"the derivative by {_entry(s.names[i], np.unravel_index(place, a.shape))}"
            _agree(column, _along(s, {i: direction}), s, f"{by} of {{}}", s.op.output)
    tangents = [rng.uniform(-1, 1, s.args[i].shape) for i in s.active]
    _, jv = jvp(lambda *xs: s(_with(s, xs)), [s.args[i] for i in s.active], tangents)
    left, terms = np.sum(g * jv.data), [gradient * t for gradient, t in zip(gradients, tangents, strict=True)]
    right = sum(np.sum(t) for t in terms)
    scale = np.sum(np.abs(g * jv.data)) + sum(np.sum(np.abs(t)) for t in terms)
    need(np.abs(left - right) <= 64 * EPS * (scale + 1), f"⟨ȳ, J v⟩ = {left}, but ⟨Jᵀ ȳ, v⟩ = {right}")


def together(s: Sample) -> None:
    """Where elements are equal and move together, the gradient agrees with differences, if there is no kink."""
    s = tied(s.as_dtype(F64), inside=0.1)
    if not s.active:
        return
    rng, g = s.rng(), s.cotangent()
    still = {kink for i in s.active for kink in s.domains[i].kinks}
    values = sorted({v for i in s.active for v in s.args[i].flat})
    speeds = {v: 0.0 if v in still else rng.choice([-1, 1]) * rng.uniform(0.5, 1) for v in values}
    ways = {i: np.reshape([speeds[v] for v in s.args[i].flat], s.args[i].shape) for i in s.active}
    f, h = _along(s, ways), 1e-6
    before, at, after = (np.sum(g * f(t)) for t in (-h, 0.0, h))
    if np.abs(after - 2 * at + before) <= 100 * h**2 * (1 + np.abs(at)):  # at a kink of its own it is of order h
        terms = np.concatenate([np.ravel(x * ways[i]) for i, x in zip(s.active, pull(s, g), strict=True)])
        what = "the derivative as equal elements move together, of ⟨ȳ, {}⟩,"
        _agree(terms.sum(), lambda t: np.sum(g * f(t)), s, what, s.op.output, np.abs(terms).sum())


#: Where what overflows or vanishes on the way is divided or multiplied.
EDGES = (1.0, 30.0, 1e3, 1e-30)


def finite(s: Sample) -> None:
    """No gradient is NaN where the operands and the value are finite: at 0, at equal, huge and tiny numbers.

    Beside 0 they have a sign that the domain has. Operands of elementwise ops have one shape: where one is broadcast,
    infinite slopes of both signs rightly add up to NaN.
    """
    s, rng = s.as_dtype(F64), s.rng()
    full = np.broadcast_shapes(*(np.shape(a) for a in s.args)) if s.op.shapes == "elementwise" else None
    some, args = (0.0, *rng.choice(EDGES, 2))[slice(*((0, 1), (1, 2), (0, 3))[rng.integers(3)])], list(s.args)
    for i, (a, domain) in enumerate(zip(s.args, s.domains, strict=True)):
        if is_float(a):
            signs = [sign for sign in (1, -1) if sign * domain.high > 0 or sign * domain.low > 0]
            shape = a.shape if full is None else full
            args[i] = np.asarray(rng.choice(some, shape) * rng.choice(signs, shape), a.dtype)
    s = s.with_args(args)
    with np.errstate(all="ignore"):
        if s.active and np.all(np.isfinite(s.value())):
            for i, gradient in zip(s.active, pull(s, s.cotangent()), strict=True):
                if np.any(np.isnan(gradient)):
                    at = ", ".join(f"{name} = {shown(a)}" for name, a in zip(s.names, s.args, strict=True))
                    need(False, f"the gradient of {s.names[i]} is NaN, where {s.op.output} is finite: at {at}")


def _agree(claim: Array, f: Callable[[float], Array], s: Sample, what: str, name: str, size: Any = 0.0) -> None:
    """``claim`` is f'(0), to within ten times the error that differences know of themselves.

    ``size``: the magnitude of what the claim is summed from, whose last bits do not count.
    """
    noise = EPS * float(sum(np.abs(a).sum() for a in s.args if is_float(a)))  # an ulp for each term that may cancel
    value, error = derivative(f, STEP, noise)
    need(claim.shape == value.shape, f"the gradient has shape {claim.shape}, but must have {value.shape}")
    off = ~(np.abs(claim - value) <= 10 * error + 64 * EPS * size)
    if off.any():
        i = tuple(np.argwhere(off)[0])
        found = f"{claim[i]:.9g} by the rule, {value[i]:.9g} ± {error[i]:.1g} by differences"
        need(False, f"{what.format(_entry(name, i))} is {found}")


def _entry(name: str, at: Any) -> str:
    return f"{name}{[int(i) for i in at] if len(at) else ''}"


def _places(rng: np.random.Generator, a: Array) -> Any:
    """Every element of a small array, some of a larger one."""
    return range(a.size) if a.size <= 8 else rng.choice(a.size, 4, replace=False)


def _jacobian_column(s: Sample, position: int, place: int) -> Array:
    leaves = leaves_of(s)
    y = s(leaves)
    column = np.zeros(y.shape)
    for j in range(y.size):
        seed = np.zeros(y.shape)
        seed.flat[j] = 1
        leaves[position].grad = None
        y.backward(seed, retain_graph=True)
        column.flat[j] = leaves[position].grad.data.flat[place]
    return column


def _moved(s: Sample, directions: dict[int, Array], t: float) -> list[Any]:
    return [np.asarray(a + t * directions[i]) if i in directions else a for i, a in enumerate(s.args)]


def _along(s: Sample, directions: dict[int, Array]) -> Callable[[float], Array]:
    return lambda t: s.value(_moved(s, directions, t))


def _with(s: Sample, xs: Any) -> list[Any]:
    args = list(s.args)
    for i, x in zip(s.active, xs, strict=True):
        args[i] = x
    return args


def second(s: Sample) -> None:
    """Differentiating ⟨d, gradient⟩ gives the change of the gradient along d, and in the cotangent J d.

    For all the rules together, and for each one alone.
    """
    s = s.as_dtype(F64)
    alone: Iterator[Sample] = (replace(s, only=(i,)) for i in s.active if len(s.active) > 1)
    for some in (s, *alone) if s.active else ():
        _second(some)


def _second(s: Sample) -> None:
    rng, g = s.rng(), s.cotangent()
    d = {i: rng.uniform(-1, 1, s.args[i].shape) for i in s.active}
    by = ", ".join(s.names[i] for i in s.active)
    leaves, seed = leaves_of(s), tensor(g, requires_grad=True)
    s(leaves).backward(seed, create_graph=True)
    total: Any = tensor(np.zeros(()))
    for i in s.active:
        gradient, leaves[i].grad = leaves[i].grad, None
        total = total + (gradient * d[i]).sum()
    if not total.requires_grad:
        need(not moving(s.op), f"the gradient of {by} does not depend on the cotangent")
        return
    total.backward()
    for k, i in enumerate(s.active):
        claim = np.zeros(s.args[i].shape) if leaves[i].grad is None else leaves[i].grad.data

        def pulled(t: float, k: int = k) -> Array:
            return pull(s.with_args(_moved(s, d, t)), g)[k]

        _agree(claim, pulled, s, f"the derivative by {{}} of the gradient of {by}", s.names[i])
    if seed.grad is not None:
        _agree(seed.grad.data, _along(s, d), s, f"the derivative by {{}} of the gradient of {by}", "g")


def moving(op: Op) -> set[str]:
    """The arguments whose derivative is not zero everywhere (as the formula text of a rule may say: "x̄ = 0")."""
    if op.writes or not op.differentiable:
        return set()
    zero = {name for name, rule in op.rules.items() if rule.formula.split("=")[-1].strip() == "0"}
    return (set(op.rules) - zero) if op.rules else {n for n in op.arrays if not op._is_integral(n)}


# Laws of both


def compiled(s: Sample) -> None:
    """A recorded step gives the bits of the eager one, when it is replayed on other values, too: values, gradients."""
    if s.op.writes:
        recorded, eager = s.tensors(), s.tensors()
        run = compile(lambda: s(recorded))
        for time in range(3):
            run()
            s(eager)
            for name, a, b in zip(s.names, recorded, eager, strict=True):
                if isinstance(a, Tensor):
                    same(a.data, b.data, f"{name} after {time + 1} compiled writes")
        return
    leaves = leaves_of(s.with_args([a.copy() if isinstance(a, np.ndarray) else a for a in s.args]))
    passed = [i for i, a in enumerate(s.args) if i not in s.active and a is not None]

    @compile
    def step(g: Any, *given: Any) -> Any:
        args = list(leaves)
        for i, x in zip(passed, given, strict=True):
            args[i] = x
        for i in s.active:
            leaves[i].grad = None
        y = s(args)
        if s.active:
            y.backward(g)
        return y

    for values in (s, _rolled(s), s):
        for i in s.active:
            assign(leaves[i], values.args[i])
        g = values.cotangent()
        y = step(g, *[values.args[i] for i in passed])
        same(y.data, values.value(), "the compiled value")
        if s.active:
            all_same([leaves[i].grad.data for i in s.active], pull(values, g), s, "compiled")


def _rolled(s: Sample) -> Sample:
    """The same values at other places."""
    return s.with_args([np.roll(a, 1) if isinstance(a, np.ndarray) else a for a in s.args])


def documented(s: Sample) -> None:
    """Formula text and docstring exist, for the op and for each rule."""
    op = s.op
    need("=" in op.formula or "←" in op.formula, f'the formula text {op.formula!r} is not like "y = tanh x"')
    need((op.__doc__ or "").strip(), "there is no docstring")
    for rule in (*op.rules.values(), *op.residuals.values()):
        need("=" in rule.formula, f'the formula text {rule.formula!r} of {rule.argument} is not like "x̄ = ȳ (1 − y²)"')


def example(s: Sample) -> None:
    """The example in the docstring runs, and gives what it says."""
    scope = dict(s.op.fn.__globals__)
    test = doctest.DocTestParser().get_doctest(s.op.__doc__ or "", scope, s.op.name, None, None)
    said: list[str] = []
    if doctest.DocTestRunner(verbose=False).run(test, out=said.append).failed:
        need(False, "".join(said).partition("Failed example:\n")[2].rstrip())


# The table


MIXED = (*DOUBLE, None)  # numbers among the operands, too


@dataclass(frozen=True)
class Law:
    """A law, the samples that it is checked on, what share of the examples it gets (0: one example), and where not.

    ``unless(op)`` says in a sentence why the law does not apply to an op; an empty text if it does.
    """

    holds: Callable[[Sample], None]
    sizes: tuple[int, ...] = (0, 1, 2, 3, 5, 18)
    dtypes: tuple[Any, ...] = (F32, F64, None)
    share: float = 0.25
    unless: Callable[[Op], str] = lambda op: ""


def _not_differentiable(op: Op) -> str:
    if op.writes:
        return f"it writes {', '.join(op.writes)} in place, which has no derivative"
    return "" if op.differentiable else "it is declared not to be differentiable"


def _one_argument(op: Op) -> str:
    several = op.sequence or len(op.rules or op.arrays) > 1
    return _not_differentiable(op) or ("" if several else "there is one argument only")


def _no_kinks(op: Op) -> str:
    why = _not_differentiable(op)
    return why or ("" if op.shapes == "elementwise" else "it is not known which elements share a kink")


def _no_kernel(op: Op) -> str:
    claims = [op.kernel, op.fused, *(rule.kernel for rule in op.rules.values())]
    if all(claim is None for claim in claims):
        return "it has no kernel of its own"
    return _kernels_are_off(op)


def _kernels_are_off(op: Op) -> str:
    return "" if jit.AVAILABLE else "kernels are off (NUMBA_DISABLE_JIT)"


def _writing(op: Op) -> str:
    return f"it writes {', '.join(op.writes)}, whose dtype stays" if op.writes else ""


def _reading(op: Op) -> str:
    return "" if op.writes else "it writes nothing"


def _free(op: Op) -> str:
    return "its shapes are free, so it is not known which elements belong together" if op.shapes == "free" else ""


def _no_batch(op: Op) -> str:
    carried = op.letters is None or "..." in op.letters.output
    return _free(op) or ("" if carried else f"{op.shapes} carries no batch through")


def _fixed(op: Op) -> str:
    return "its samples have the shapes of its cases" if op.cases and op.shapes != "elementwise" else ""


def _no_example(op: Op) -> str:
    return "" if ">>>" in (op.__doc__ or "") else "the docstring has none"


LAWS = MappingProxyType[str, Law](
    {
        "documented": Law(documented, share=0),
        "example": Law(example, share=0, unless=_no_example),
        "pure": Law(pure),
        "writes": Law(writes, unless=_reading),
        "refuses": Law(refuses, share=0.1, unless=_reading),
        "first": Law(first, SMALL, MIXED, share=0.5, unless=_not_differentiable),
        "second": Law(second, SMALL, MIXED, unless=_not_differentiable),
        "linear": Law(linear, unless=_not_differentiable),
        "graph": Law(graph, unless=_not_differentiable),
        "alone": Law(alone, unless=_one_argument),
        "kernels": Law(kernels, share=0.5, unless=_no_kernel),
        "specials": Law(specials, (1, 3, 10, 19), (F32, F64), unless=_no_kernel),
        "ties": Law(ties, (0, 1, 2, 3, 18), unless=_no_kernel),
        "kinks": Law(kinks, (1, 5, 18), MIXED, unless=_no_kinks),
        "together": Law(together, SMALL, MIXED, unless=_not_differentiable),
        "finite": Law(finite, SMALL, DOUBLE, share=0.5, unless=_not_differentiable),
        "compiled": Law(compiled, share=0.1, unless=_kernels_are_off),
        "dtypes": Law(dtypes, share=0.5, unless=_writing),
        "integers": Law(integers, dtypes=(F32, F64), unless=_writing),
        "precision": Law(precision),
        "layouts": Law(layouts),
        "positions": Law(positions, (1, 2, 5, 17, 35), unless=_free),
        "rows": Law(rows, share=0.5, unless=_no_batch),
        "empty": Law(empty, (0, 1, 2), unless=_fixed),
    }
)
