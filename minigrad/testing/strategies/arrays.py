"""Arrays and tensors as Hypothesis strategies: by the domain that an op declares, in any shape and memory layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import DTypeLike, NDArray

from minigrad.engine.shapes import Domain, reals
from minigrad.engine.tensor import Tensor, from_numpy
from minigrad.testing.bits import LAYOUTS
from minigrad.testing.samples import GAP

Array = NDArray[Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]
Shape = tuple[int, ...]
#: Where in a domain: away from kinks and ties, anywhere, at them, or at special values whatever the domain.
Aim = Literal["smooth", "anywhere", "kinks", "specials"]

SMALL = 16  # elements; of larger arrays a seed is drawn, not the elements
SPECIALS = (0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 1e-40, 1e18, -1e18)


def layouts() -> st.SearchStrategy[str]:
    """Names of memory layouts; ``LAYOUTS[name]`` is the function that gives an array's copy in it.

    >>> from hypothesis import find
    >>> a = np.arange(6.0).reshape(2, 3)
    >>> [LAYOUTS[find(layouts(), lambda name: name == n)](a).strides for n in ("C", "Fortran", "strided", "reversed")]
    [(24, 8), (8, 16), (112, 16), (-24, -8)]
    """
    return st.sampled_from(list(LAYOUTS))


def shapes(max_dims: int = 3, max_side: int = 5, min_side: int = 0) -> st.SearchStrategy[Shape]:
    """Shapes: 0-d, zero-size and size 1 included.

    >>> from hypothesis import find
    >>> find(shapes(), lambda shape: len(shape) > 1 and max(shape) > 2)
    (0, 3)
    """
    return hnp.array_shapes(min_dims=0, max_dims=max_dims, min_side=min_side, max_side=max_side)


def broadcastable_shapes(
    count: int, max_dims: int = 3, max_side: int = 5, min_side: int = 0
) -> st.SearchStrategy[tuple[Shape, ...]]:
    """``count`` shapes that broadcast together, such as (2, 1), () and (4,).

    >>> from hypothesis import find
    >>> a, b = find(broadcastable_shapes(2), lambda pair: len(pair[0]) < len(pair[1]))
    >>> len(np.broadcast_shapes(a, b)) == len(b)
    True
    """
    found = hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=max_dims, max_side=max_side, min_side=min_side)
    return found.map(lambda result: result.input_shapes)


def _pieces(domain: Domain) -> list[tuple[float, float]]:
    """The intervals of a domain that stay GAP away from its kinks, that nearest to 0 first."""
    ends, low = [], domain.low
    for kink in sorted(domain.kinks):
        ends.append((low, kink - GAP))
        low = kink + GAP
    found = [(a, b) for a, b in [*ends, (low, domain.high)] if a <= b]
    return sorted(found, key=lambda piece: min(abs(piece[0]), abs(piece[1])) * (piece[0] * piece[1] > 0))


def _points(domain: Domain, aim: Aim, dtype: np.dtype[Any]) -> list[Any] | None:
    """The few values that an aim consists of, as dtype's numbers, or None for whole intervals."""
    kind = dtype.type
    if aim == "specials":
        with np.errstate(over="ignore", under="ignore"):
            return [kind(v) for v in SPECIALS]
    if aim != "kinks":
        return None
    near = [kind(k) for k in domain.kinks]
    near += [np.nextafter(k, kind(side)) for k in near for side in (domain.low, domain.high)]
    if domain.distinct:  # of few values many are equal
        near += [kind(domain.low + (domain.high - domain.low) * f) for f in (0.5, 0.75, 0.25)]
    return near or None


def _inside(low: float, high: float, dtype: np.dtype[Any]) -> tuple[float, float]:
    """The bounds as numbers of the dtype in [low, high]."""
    a, b = dtype.type(low), dtype.type(high)
    a = np.nextafter(a, dtype.type(np.inf)) if float(a) < low else a
    b = np.nextafter(b, dtype.type(-np.inf)) if float(b) > high else b
    return float(a), float(b)


def numbers(domain: Domain | None = None, dtype: DTypeLike = "float64", aim: Aim = "smooth") -> st.SearchStrategy[Any]:
    """Numbers of a domain (``mg.reals(-2, 2)`` if None), as a dtype holds them. See :func:`arrays` for ``aim``.

    >>> from hypothesis import find
    >>> relu = Domain(-3, 3, kinks=(0.0,))
    >>> find(numbers(relu), lambda v: v < 0), find(numbers(relu, "float32", "kinks"), lambda v: v > 0)
    (-1.0, 1.401298464324817e-45)
    """
    domain, kind = reals(-2, 2) if domain is None else domain, np.dtype(dtype)
    if domain.kind == "b":
        return st.booleans()
    if domain.kind == "i":
        return st.integers(int(domain.low), int(domain.high))
    if points := _points(domain, aim, kind):
        return st.sampled_from(points).map(lambda v: v.item())
    pieces = [(domain.low, domain.high)] if aim == "anywhere" else _pieces(domain)
    width: Any = kind.itemsize * 8
    return st.one_of(
        [st.floats(*_inside(*piece, kind), width=width, allow_subnormal=aim == "anywhere") for piece in pieces]
    )


@st.composite
def arrays(
    draw: Draw,
    domain: Domain | None = None,
    shape: Shape | st.SearchStrategy[Shape] | None = None,
    dtype: DTypeLike | st.SearchStrategy[Any] | None = None,
    aim: Aim = "smooth",
    layout: str | st.SearchStrategy[str] = "C",
) -> Array:
    """Arrays of a domain (``mg.reals(-2, 2)`` if None): floats, integers or bools, as it says.

    ``aim`` "smooth": away from its kinks, and no two alike (in float64 at least 1/4n of it apart) if it is
    ``distinct``. "anywhere": in it, kinks or not. "kinks": at its kinks, at the numbers next to them, and with many
    ties if it is ``distinct``; anywhere if it has neither. "specials": zeros, infinities, NaN, huge and tiny numbers.
    Up to 16 elements are drawn one by one; larger arrays hold random numbers. Shapes, dtypes (float32 and float64
    unless given) and layouts may be values or strategies.

    >>> from hypothesis import find
    >>> relu, top = Domain(-3, 3, kinks=(0.0,)), reals(-2, 2, distinct=True)
    >>> find(arrays(relu, (2,), "float64"), lambda a: a[0] < 0 < a[1])
    array([-1.,  1.])
    >>> find(arrays(top, (3,), "float64"), lambda a: True), find(arrays(top, (3,), "float64", "kinks"), lambda a: True)
    (array([-1.33333333,  0.        ,  1.33333333]), array([0., 0., 0.]))
    >>> find(arrays(relu, layout="strided"), lambda a: a.size > 1).flags.contiguous
    False
    """
    domain = reals(-2, 2) if domain is None else domain
    found = draw(shape) if isinstance(shape, st.SearchStrategy) else draw(shapes()) if shape is None else shape
    kinds = {"b": np.dtype(bool), "i": np.dtype(np.int64)}
    if domain.kind == "f":
        of = st.sampled_from(["float32", "float64"]) if dtype is None else dtype
        kind = np.dtype(draw(of) if isinstance(of, st.SearchStrategy) else of)
    else:
        kind = kinds[domain.kind] if dtype is None or isinstance(dtype, st.SearchStrategy) else np.dtype(dtype)
    if domain.distinct and domain.kind == "f" and aim == "smooth":
        values = _distinct(draw, domain, found, ())
    elif (size := int(np.prod(found))) <= SMALL:
        elements = numbers(domain, kind if kind.kind == "f" else "float64", aim)
        values = np.array(draw(st.lists(elements, min_size=size, max_size=size)), kind).reshape(found)
    else:
        values = _random(np.random.default_rng(draw(st.integers(0, 2**16))), domain, found, kind, aim)
    name = draw(layout) if isinstance(layout, st.SearchStrategy) else layout
    with np.errstate(over="ignore", under="ignore"):
        return LAYOUTS[name](np.asarray(values, kind))


def _distinct(draw: Draw, domain: Domain, shape: Shape, others: Sequence[float]) -> Array:
    """Numbers of a grid, none alike, and none near those of ``others``, in an order that shrinks to rising."""
    size = int(np.prod(shape))
    count = max(1, size)
    while True:
        grid = domain.low + (domain.high - domain.low) * (np.arange(count) + 0.5) / count
        apart = (domain.high - domain.low) / (4 * count)
        for far, point in [(GAP, k) for k in domain.kinks] + [(apart, float(v)) for v in others]:
            grid = grid[np.abs(grid - point) >= far]
        if len(grid) >= size:
            break
        count = 2 * count + 1
    grid = grid[:: max(1, len(grid) // max(1, size))][:size]
    order = draw(st.permutations(range(size))) if size <= SMALL else None
    if order is None:
        order = np.random.default_rng(draw(st.integers(0, 2**16))).permutation(size)
    return np.asarray(grid[np.asarray(order, int)].reshape(shape))


def _random(rng: np.random.Generator, domain: Domain, shape: Shape, dtype: np.dtype[Any], aim: Aim) -> Array:
    if domain.kind != "f":
        return rng.integers(int(domain.low), int(domain.high) + 1, shape).astype(dtype)
    if points := _points(domain, aim, dtype):
        return rng.choice(points, shape)
    pieces = np.array([(domain.low, domain.high)] if aim == "anywhere" else _pieces(domain))
    lengths = pieces[:, 1] - pieces[:, 0]
    which = rng.choice(len(pieces), shape, p=lengths / lengths.sum())
    bounds = np.array([_inside(low, high, dtype) for low, high in pieces])
    values = rng.uniform(pieces[which, 0], pieces[which, 1]).astype(dtype)
    clipped: Array = np.clip(values, *np.moveaxis(bounds[which].astype(dtype), -1, 0))
    return clipped


@st.composite
def tensors(draw: Draw, /, *args: Any, requires_grad: bool | None = None, **how: Any) -> Tensor:
    """The :func:`arrays` of the same arguments as leaf tensors; floats require a gradient unless told otherwise.

    >>> from hypothesis import find
    >>> find(tensors(reals(0.5, 2), (2,), "float32"), lambda t: t.data.sum() > 3)
    tensor([2., 2.], requires_grad=True)
    """
    array = draw(arrays(*args, **how))
    return from_numpy(array, requires_grad=array.dtype.kind == "f" if requires_grad is None else requires_grad)
