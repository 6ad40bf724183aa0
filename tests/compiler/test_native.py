"""Arithmetic that only programs run by kernels: the bits of its formula, for any shapes that broadcast."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg

SPECIAL = [0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 1e-40, 3e38]


def numbers(dtype):
    return st.one_of(st.sampled_from(SPECIAL).map(dtype), st.floats(-10, 10, width=32).map(dtype))


@st.composite
def operands(draw, count):
    """``count`` operands of one dtype whose shapes broadcast; at most one of them is a Python number."""
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=4, max_side=5)).input_shapes
    found = [draw(hnp.arrays(dtype, shape, elements=numbers(dtype))) for shape in shapes]
    if count > 1 and draw(st.booleans()):
        found[draw(st.integers(0, count - 1))] = draw(st.sampled_from([0, -0.0, 2, 0.5, float("nan")]))
    return found


def same(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and bytes(a[~np.isnan(a)]) == bytes(b[~np.isnan(b)])


def both(op, values, **options):
    """The op's results by formula and twice by a program, and the program's call."""
    tensors = [mg.tensor(v) if isinstance(v, np.ndarray) else v for v in values]
    arrays = [t for t in tensors if isinstance(t, mg.Tensor)]

    def f(*given):
        queue = iter(given)
        return op(*[next(queue) if isinstance(t, mg.Tensor) else t for t in tensors], **options)

    compiled = mg.compile(f)
    with np.errstate(all="ignore"):
        want, first, second = f(*arrays), compiled(*arrays), compiled(*arrays)
    assert same(want.data, first.data)
    assert same(want.data, second.data)
    return compiled.program.calls


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
@given(values=operands(2))
def test_pairs(name, values):
    both(mg.REGISTRY[name], values)


@pytest.mark.parametrize("name", ["neg", "abs", "sqrt", "square"])
@given(values=operands(1))
def test_single(name, values):
    both(mg.REGISTRY[name], values)


@given(values=operands(1), power=st.sampled_from([0, 1, 2, 2.0, 3, 0.5]))
def test_powers(values, power):
    both(mg.pow, [*values, power])


@example(values=[np.array(-0.0, np.float32)], keepdims=False)  # nothing is summed, so NumPy copies
@given(values=operands(1), keepdims=st.booleans())
def test_means(values, keepdims):
    if values[0].size:
        both(mg.mean, values, keepdims=keepdims)


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 4), (3, 4)),
        ((3, 4), (4,)),
        ((3, 4), ()),
        ((), (3, 4)),
        ((3, 1), (3, 4)),
        ((2, 3, 4), (4,)),
        ((), ()),
        ((7,), 2),
    ],
)
def test_the_usual_shapes_need_no_python(shapes):
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(shape).astype("f4") if isinstance(shape, tuple) else shape for shape in shapes]
    for name in ("add", "sub", "mul", "div"):
        (call,) = both(mg.REGISTRY[name], values)
        assert call.launches
