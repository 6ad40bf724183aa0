"""Elementwise kernels: one pass, one output, any layout in, a fresh C-contiguous array out.

Each function is a formula (see :func:`mapped`) run over arrays of one shape and one dtype (float32 or float64).
Operands are never written; an option (a slope, a scale) travels as an array of one element. Formulas that are plain
arithmetic use no fma, so that the same formula in NumPy has the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.kernels import jit
from minigrad.kernels import vector_math as vm
from minigrad.kernels.jit import function
from minigrad.kernels.simd import (
    Term,
    ask,
    first_step,
    formula,
    load,
    offset,
    put,
    spread,
    store,
    where,
    width,
)

Array = NDArray[Any]

# Loop and call differ between operations in their operands only. Memory is asked for 32 vectors ahead.
_SOURCE = """
def loop({operands}, out, n):
    i, step = 0, first_step(out, n)
    while i < n:
        {ask}
        put(out, i, n, formula({lanes}))
        i, step = i + step, width(out)

def {name}({operands}):
    dtype = {first}.dtype
    out = empty({first}.shape, dtype)
    kernel[dtype]({flat}, out, out.size)
    return out
"""


@lru_cache(maxsize=1024)
def _constant(value: float, sign: float, dtype: np.dtype[Any]) -> Array:
    array = np.full(1, value, dtype)
    array.flags.writeable = False
    return array


def number(value: float, dtype: np.dtype[Any]) -> Array:
    """A number as a constant array of one element, read-only."""
    return _constant(value, math.copysign(1.0, value), dtype)  # 0.0 == -0.0, but their bits differ


def mapped(text: Callable[..., Term], options: int = 0) -> Any:
    """The formula ``text`` as a function of arrays; its last ``options`` parameters are numbers.

    The arrays share one shape and one dtype, in any layout; the result is a new C-contiguous array. The attribute
    ``kernel`` is the compiled loop: the arrays, each number as an array of one element, the output; and n.
    """
    name, operands = text.__name__.strip("_"), text.__code__.co_varnames[: text.__code__.co_argcount]
    arrays, numbers = operands[: len(operands) - options], operands[len(operands) - options :]
    lanes = [f"load({a}, i, n)" for a in arrays]
    source = _SOURCE.format(
        name=name,
        operands=", ".join(operands),
        first=arrays[0],
        ask="; ".join(f"ask({a}, i + 32 * width(out))" for a in arrays),
        lanes=", ".join(lanes + [f"{b}[0]" for b in numbers]),
        flat=", ".join([f"{a}.ravel()" for a in arrays] + [f"number({b}, out.dtype)" for b in numbers]),
    )
    scope: dict[str, Any] = {"__name__": __name__, "formula": formula(text), "load": load, "put": put, "ask": ask}
    scope |= {"first_step": first_step, "width": width, "empty": np.empty, "number": number}
    exec(compile(source, __file__, "exec"), scope)
    scope["loop"].__name__ = scope["loop"].__qualname__ = f"{name}_loop"  # the name in the cache
    call = scope[name]
    call.__doc__ = text.__doc__
    call.kernel = scope["kernel"] = jit.kernel("T" * len(operands) + "T*", ints=1, elementwise=True)(scope["loop"])
    return call


exp, expm1, log, log1p = mapped(vm.exp), mapped(vm.expm1), mapped(vm.log), mapped(vm.log1p)
sin, cos, tanh, sigmoid = mapped(vm.sin), mapped(vm.cos), mapped(vm.tanh), mapped(vm.sigmoid)
softplus, erf = mapped(vm.softplus), mapped(vm.erf)

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
_SQRT_HALF, _SQRT_2_OVER_PI, _ONE_OVER_SQRT_2PI = 0.7071067811865476, 0.7978845608028654, 0.3989422804014327


@mapped
def tanh_vjp(g: Term, y: Term) -> Term:
    """(g + g y)(1 - y), from y = tanh x."""
    return (g + g * y) * (1.0 - y)


@mapped
def sigmoid_vjp(g: Term, y: Term) -> Term:
    """(g y)(1 - y), from y = sigmoid x."""
    return (g * y) * (1.0 - y)


@mapped
def relu(x: Term) -> Term:
    """max(x, 0): NaN stays NaN, -0 becomes 0."""
    return where(x <= 0.0, 0.0, x)


@mapped
def relu_vjp(g: Term, y: Term) -> Term:
    """g where y > 0 (or y is NaN), else 0."""
    return where(y <= 0.0, 0.0, g)


def _leaky_relu(x: Term, slope: Term) -> Term:
    """x where x > 0, else slope x."""
    return where(x > 0.0, x, slope * x)


def _leaky_relu_vjp(g: Term, x: Term, slope: Term) -> Term:
    """g where x > 0, else slope g."""
    return where(x > 0.0, g, slope * g)


def _elu(x: Term, alpha: Term) -> Term:
    """x where x > 0, else alpha (e^x - 1)."""
    return where(x > 0.0, x, alpha * vm.expm1(x))


def _elu_vjp(g: Term, x: Term, alpha: Term) -> Term:
    """g where x > 0, else g alpha e^x."""
    return where(x > 0.0, g, (g * alpha) * vm.exp(x))


leaky_relu, leaky_relu_vjp = mapped(_leaky_relu, options=1), mapped(_leaky_relu_vjp, options=1)
elu, elu_vjp = mapped(_elu, options=1), mapped(_elu_vjp, options=1)


@mapped
def selu(x: Term) -> Term:
    """scale x where x > 0, else scale alpha (e^x - 1); the constants of Klambauer et al., 2017."""
    return where(x > 0.0, x * _SELU_SCALE, vm.expm1(x) * (_SELU_SCALE * _SELU_ALPHA))


@mapped
def selu_vjp(g: Term, x: Term) -> Term:
    """g scale where x > 0, else g scale alpha e^x."""
    return where(x > 0.0, g * _SELU_SCALE, (g * (_SELU_SCALE * _SELU_ALPHA)) * vm.exp(x))


@mapped
def silu(x: Term) -> Term:
    """x sigmoid(x)."""
    return x * vm.sigmoid(x)


@mapped
def silu_vjp(g: Term, x: Term) -> Term:
    """g (s + (x s)(1 - s)), s = sigmoid(x)."""
    s = vm.sigmoid(x)
    return g * (s + (x * s) * (1.0 - s))


@mapped
def softplus_vjp(g: Term, x: Term) -> Term:
    """g sigmoid(x)."""
    return g * vm.sigmoid(x)


@mapped
def _gelu_exact(x: Term) -> Term:
    """(0.5 x)(1 + erf(x / sqrt 2))."""
    return (x * 0.5) * (vm.erf(x * _SQRT_HALF) + 1.0)


@mapped
def _gelu_exact_vjp(g: Term, x: Term) -> Term:
    """g (Phi + x phi): the normal distribution and its density."""
    cumulative = (vm.erf(x * _SQRT_HALF) + 1.0) * 0.5
    return g * (cumulative + x * (vm.exp(x * x * -0.5) * _ONE_OVER_SQRT_2PI))


def _inner(x: Term) -> Term:
    return (x + x * x * x * 0.044715) * _SQRT_2_OVER_PI


@mapped
def _gelu_tanh(x: Term) -> Term:
    """(0.5 x)(1 + tanh(sqrt(2 / pi)(x + 0.044715 x^3)))."""
    return (x * 0.5) * (vm.tanh(_inner(x)) + 1.0)


@mapped
def _gelu_tanh_vjp(g: Term, x: Term) -> Term:
    """g times the derivative of the tanh form."""
    t = vm.tanh(_inner(x))
    slope = (x * x * (3 * 0.044715) + 1.0) * _SQRT_2_OVER_PI
    return g * ((t + 1.0) * 0.5 + (x * 0.5) * (((t + 1.0) * (1.0 - t)) * slope))


def _is_tanh(approximate: str) -> bool:
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate must be 'none' or 'tanh', got {approximate!r}")
    return approximate == "tanh"


def gelu(x: Array, approximate: str = "none") -> Array:
    """x times the normal distribution function, or its tanh form (PyTorch's definitions)."""
    return (_gelu_tanh if _is_tanh(approximate) else _gelu_exact)(x)


def gelu_vjp(g: Array, x: Array, approximate: str = "none") -> Array:
    """g times the derivative of :func:`gelu` at x."""
    return (_gelu_tanh_vjp if _is_tanh(approximate) else _gelu_exact_vjp)(g, x)


# -- Plain arithmetic, for programs. NumPy does it as well in a call from Python, with the same bits: each result is the
# exact one, rounded once.


@function
def _fetch(p: Any, i: Any, n: Any, step: Any) -> Any:
    """A vector of p[i:], or p[0] in all lanes where ``step`` is 0."""
    return load(p, i, n) if step else spread(p[0], load(p, 0, 0))


def _pairwise(text: Callable[..., Term]) -> Callable[..., Array]:
    """The formula ``text`` as a function of two operands, arrays of one dtype or numbers, which broadcast.

    Raises ValueError for operands whose axes cannot be seen as two, or whose rows are not contiguous.
    """
    combine = formula(text)

    def loop(
        a: Any, rows: Any, cols: Any, a_row: Any, a_col: Any, b: Any, _m: Any, _n: Any, b_row: Any, b_col: Any,
        out: Any, _p: Any, _q: Any, out_row: Any, _out_col: Any,
    ) -> None:  # fmt: skip
        for i in range(rows):
            x, y, z = offset(a, i * a_row), offset(b, i * b_row), offset(out, i * out_row)
            for j in range(0, cols, width(out)):
                store(z, j, cols, combine(_fetch(x, j, cols, a_col), _fetch(y, j, cols, b_col)))

    name = text.__name__.strip("_")
    loop.__name__ = loop.__qualname__ = f"{name}_pairs"
    kernel = jit.kernel("MMM*", ints=0)(loop)

    def call(a: Any, b: Any, dtype: Any = None) -> Array:
        dtype = dtype or next(x.dtype for x in (a, b) if isinstance(x, np.ndarray))
        shape = np.broadcast_shapes(np.shape(a), np.shape(b))
        out = np.empty(shape, dtype)
        a, b = (x if isinstance(x, np.ndarray) else number(x, out.dtype).reshape(()) for x in (a, b))
        kernel[dtype](*_two_axes(shape, a, b, out))
        return out

    call.kernel = kernel  # type: ignore[attr-defined]  # as of mapped
    call.__doc__, call.__name__ = text.__doc__, name
    return call


def _two_axes(shape: tuple[int, ...], *arrays: Array) -> list[Array]:
    """Views of arrays that broadcast to ``shape``, in C order, with two axes each."""
    size = arrays[-1].itemsize
    wide = [np.broadcast_to(x, shape, subok=True) for x in arrays]
    axes: list[tuple[int, tuple[int, ...]]] = []  # sizes and strides, those that follow each other joined
    for axis, n in enumerate(shape):
        if n == 1:
            continue  # whatever its stride says
        strides = tuple([x.strides[axis] for x in wide])
        if axes and axes[-1][1] == tuple([n * stride for stride in strides]):
            axes[-1] = axes[-1][0] * n, strides
        else:
            axes.append((n, strides))
    none = (0,) * len(arrays)
    axes = [(1, none)] * (2 - len(axes)) + axes
    if len(axes) > 2 or (axes[1][0] > 1 and any(stride not in (0, size) for stride in axes[1][1])):
        raise ValueError("these operands have no rows in common")
    (rows, across), (cols, along) = axes[0], axes[1]
    return [
        np.lib.stride_tricks.as_strided(x, (rows, cols), pair, subok=True)
        for x, pair in zip(wide, zip(across, along, strict=True), strict=True)
    ]


@_pairwise
def add(a: Term, b: Term) -> Term:
    """a + b."""
    return a + b


@_pairwise
def sub(a: Term, b: Term) -> Term:
    """a - b."""
    return a - b


@_pairwise
def mul(a: Term, b: Term) -> Term:
    """a b."""
    return a * b


@_pairwise
def div(a: Term, b: Term) -> Term:
    """a / b."""
    return a / b


@jit.kernel("Td*", ints=1)
def _widened(x: Any, out: Any, n: Any) -> None:
    for i in range(n):
        out[i] = x[i]


def widened(x: Array, dtype: Any) -> Array:
    """An array of floats in float64, where that is ``dtype`` and wider than theirs; else ValueError."""
    if x.itemsize != 4 or np.dtype(dtype) != np.float64:
        raise ValueError("other conversions are NumPy's")
    out = np.empty(x.shape, np.float64)
    _widened[x.dtype](x.ravel(), out, x.size)
    return out


@jit.kernel("T*T", ints=2)
def _put_from(out: Any, x: Any, start: Any, n: Any) -> None:
    """out[start : start + n] = x."""
    for i in range(0, n, width(x)):
        store(out, start + i, start + n, load(x, i, n))


def stack(*xs: Array, axis: int = 0) -> Array:
    """Arrays of one shape and dtype along a new first axis; ValueError for another one, or for other shapes."""
    if axis != 0 or any(x.shape != xs[0].shape for x in xs):
        raise ValueError("need one shape, and axis 0")
    out = np.empty((len(xs), *xs[0].shape), xs[0].dtype)
    for i, x in enumerate(xs):
        _put_from[x.dtype](out, x.ravel(), i * x.size, x.size)
    return out


@mapped
def neg(x: Term) -> Term:
    """-x."""
    return -x


@mapped
def square(x: Term) -> Term:
    """x x."""
    return x * x


@mapped
def sqrt(x: Term) -> Term:
    """The square root."""
    return x.call("sqrt")


@mapped
def absolute(x: Term) -> Term:
    """|x|."""
    return abs(x)
