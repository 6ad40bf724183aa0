"""Arithmetic, elementary functions, comparisons."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Any

import numpy as np

from minigrad.engine.op import op
from minigrad.engine.shapes import Domain, bools, integers, reals
from minigrad.kernels import elementwise

ANY = reals(-2, 2)
POSITIVE = reals(0.1, 3)
NONZERO = Domain(-2, 2, kinks=(0.0,))
DISTINCT = reals(-2, 2, distinct=True)


def floating(x: Any) -> Any:
    """An array of floats as it is; integers and bools as float64, where unsigned ones cannot wrap around."""
    x = np.asarray(x)
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def _contiguous(function: Any) -> Any:
    return lambda x: function(np.array(floating(x), order="C"))


#: NumPy's functions, of fresh arrays only: they choose their loop, and with it their rounding, by the strides. Of small
#: integers theirs are float16.
CONTIGUOUS = MappingProxyType(
    {f.__name__: _contiguous(f) for f in (np.exp, np.expm1, np.log, np.log1p, np.sin, np.cos, np.tanh)}
)


@op("y = a + b", infix="+", native=elementwise.add, a=ANY, b=ANY)
def add(a, b):
    """Sum, elementwise."""
    return np.add(a, b)


@add.vjp("a", "ā = ȳ")
def _(g):
    return g


@add.vjp("b", "b̄ = ȳ")
def _(g):
    return g


@op("y = a − b", infix="-", native=elementwise.sub, a=ANY, b=ANY)
def sub(a, b):
    """Difference, elementwise."""
    return np.subtract(a, b)


@sub.vjp("a", "ā = ȳ")
def _(g):
    return g


@sub.vjp("b", "b̄ = −ȳ")
def _(g):
    return -g


@op("y = a b", infix="*", native=elementwise.mul, a=ANY, b=ANY)
def mul(a, b):
    """Product, elementwise."""
    return np.multiply(a, b)


@mul.vjp("a", "ā = ȳ b")
def _(g, b):
    return g * b


@mul.vjp("b", "b̄ = ȳ a")
def _(g, a):
    return g * a


@op("y = a / b", infix="/", native=elementwise.div, a=ANY, b=reals(0.5, 3))
def div(a, b):
    """Quotient, elementwise. Division by zero gives an infinity or NaN, as in NumPy, without a warning."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.true_divide(a, b)


@div.vjp("a", "ā = ȳ / b")
def _(g, b):
    return div(g, b)


@div.vjp("b", "b̄ = −ȳ y / b")
def _(g, y, b):
    return -div(g * y, b)


@op("y = −x", infix="neg", native=elementwise.neg, x=ANY)
def neg(x):
    """Negative, elementwise."""
    return np.negative(x)


@neg.vjp("x", "x̄ = −ȳ")
def _(g):
    return -g


def _power(x, p):
    if not isinstance(p, int | float) or p not in (1, 2):
        raise ValueError("other powers are NumPy's")
    return elementwise.square(x) if p == 2 else elementwise.mul(x, 1)


@op("y = xᵖ", infix="**", native=_power, x=reals(0.2, 2), p=reals(-1, 3))
def pow(x, p):
    """Power, elementwise. At the edges: (0, b > 0) has derivative 0 in p, (x, 0) 0 in x, (0, 1) 1 in x."""
    if isinstance(p, int | float) and p == 2:
        return np.multiply(x, x)
    x, p = (v if isinstance(v, int | float) else np.array(v, order="C") for v in (x, p))  # see CONTIGUOUS
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        return np.power(x, p)


@pow.vjp("x", "x̄ = ȳ p xᵖ⁻¹")
def _(g, x, p):
    if isinstance(p, int | float):
        return g * (p * pow(x, p - 1)) if p != 0 else where(True, 0, g)
    return where(p == 0, 0, g * (p * pow(x, where(p == 0, 1, p - 1))))


@pow.vjp("p", "p̄ = ȳ y log x")
def _(g, y, x):
    if isinstance(x, int | float):
        return g * y * (math.log(x) if x > 0 else 0.0 if x == 0 else math.nan)
    return g * y * log(where(x == 0, 1.0, x))


@op("y = |x|", infix="abs", method="abs", native=elementwise.absolute, x=NONZERO)
def abs(x):
    """Absolute value, elementwise; its derivative at 0 is 0."""
    return np.abs(x)


@abs.vjp("x", "x̄ = ȳ sign x")
def _(g, x):
    return g * sign(x)


@op("y = sign x", x=NONZERO)
def sign(x):
    """−1, 0 or 1, elementwise; its derivative is 0."""
    return np.sign(x)


@sign.vjp("x", "x̄ = 0")
def _(g):
    return where(True, 0, g)


@op("y = eˣ", method="exp", kernel=elementwise.exp, ulps=(3, 0), x=ANY)
def exp(x):
    """Exponential, elementwise."""
    with np.errstate(over="ignore", under="ignore"):
        return CONTIGUOUS["exp"](x)


@exp.vjp("x", "x̄ = ȳ y")
def _(g, y):
    return g * y


@op("y = eˣ − 1", kernel=elementwise.expm1, ulps=(2, 3), x=ANY)
def expm1(x):
    """Exponential less one, elementwise, accurate near 0."""
    with np.errstate(over="ignore", under="ignore"):
        return CONTIGUOUS["expm1"](x)


@expm1.vjp("x", "x̄ = ȳ eˣ")
def _(g, x):
    return g * exp(x)


@op("y = log x", method="log", kernel=elementwise.log, ulps=(2, 0), x=POSITIVE)
def log(x):
    """Natural logarithm, elementwise: −inf at 0, NaN below, without a warning."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return CONTIGUOUS["log"](x)


@log.vjp("x", "x̄ = ȳ / x")
def _(g, x):
    return div(g, x)


@op("y = log(1 + x)", kernel=elementwise.log1p, ulps=(2, 0), x=reals(-0.8, 3))
def log1p(x):
    """Logarithm of one more, elementwise, accurate near 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return CONTIGUOUS["log1p"](x)


@log1p.vjp("x", "x̄ = ȳ / (1 + x)")
def _(g, x):
    return div(g, 1 + x)


@op("y = √x", method="sqrt", native=elementwise.sqrt, x=POSITIVE)
def sqrt(x):
    """Square root, elementwise; its derivative at 0 is +inf."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(floating(x))


@sqrt.vjp("x", "x̄ = ȳ / 2y")
def _(g, y):
    return div(g, 2 * y)


@op("y = x²", method="square", native=elementwise.square, x=ANY)
def square(x):
    """Square, elementwise."""
    return np.multiply(x, x)


@square.vjp("x", "x̄ = 2 x ȳ")
def _(g, x):
    return 2 * x * g


@op("y = sin x", method="sin", kernel=elementwise.sin, ulps=(1, 1), x=reals(-4, 4))
def sin(x):
    """Sine, elementwise, in radians."""
    with np.errstate(invalid="ignore"):
        return CONTIGUOUS["sin"](x)


@sin.vjp("x", "x̄ = ȳ cos x")
def _(g, x):
    return g * cos(x)


@op("y = cos x", method="cos", kernel=elementwise.cos, ulps=(1, 2), x=reals(-4, 4))
def cos(x):
    """Cosine, elementwise, in radians."""
    with np.errstate(invalid="ignore"):
        return CONTIGUOUS["cos"](x)


@cos.vjp("x", "x̄ = −ȳ sin x")
def _(g, x):
    return -(g * sin(x))


@op("y = erf x", kernel=elementwise.erf, ulps=(1, 2), x=ANY)
def erf(x):
    """Error function, (2/√π) ∫₀ˣ exp(−t²) dt, elementwise."""
    x = floating(x)
    return np.array([math.erf(v) for v in x.ravel().tolist()], x.dtype).reshape(x.shape)


@erf.vjp("x", "x̄ = ȳ (2/√π) exp(−x²)")
def _(g, x):
    return g * (2 / math.sqrt(math.pi)) * exp(-(x * x))


@op("y = max(a, b)", a=DISTINCT, b=DISTINCT)
def maximum(a, b):
    """The larger, elementwise; NaN if either is. Equal arguments share the gradient evenly."""
    return np.maximum(a, b)


@maximum.vjp("a", "ā = ȳ [a > b] + ½ ȳ [a = b]")
def _(g, a, b):
    return where(gt(a, b), g, where(eq(a, b), 0.5 * g, 0))


@maximum.vjp("b", "b̄ = ȳ [b > a] + ½ ȳ [a = b]")
def _(g, a, b):
    return where(gt(b, a), g, where(eq(a, b), 0.5 * g, 0))


@op("y = min(a, b)", a=DISTINCT, b=DISTINCT)
def minimum(a, b):
    """The smaller, elementwise; NaN if either is. Equal arguments share the gradient evenly."""
    return np.minimum(a, b)


@minimum.vjp("a", "ā = ȳ [a < b] + ½ ȳ [a = b]")
def _(g, a, b):
    return where(lt(a, b), g, where(eq(a, b), 0.5 * g, 0))


@minimum.vjp("b", "b̄ = ȳ [b < a] + ½ ȳ [a = b]")
def _(g, a, b):
    return where(lt(b, a), g, where(eq(a, b), 0.5 * g, 0))


@op("y = a if c else b", c=bools(), a=ANY, b=ANY)
def where(c, a, b):
    """``a`` where the condition holds, else ``b``. The branch not taken gets a gradient of exactly 0."""
    return np.where(c, a, b)


@where.vjp("a", "ā = ȳ if c else 0")
def _(g, c):
    return where(c, g, 0)


@where.vjp("b", "b̄ = 0 if c else ȳ")
def _(g, c):
    return where(c, 0, g)


@op(
    "y = min(max(x, low), high)",
    method=True,
    x=Domain(-2, 2, kinks=(-1.0, 0.5)),
    cases=[(((3, 4),), {"low": -1.0, "high": None}), (((5,),), {"low": -1.0, "high": 0.5})],
)
def clip(x, low=None, high=None):
    """``x`` limited to [low, high]; either bound may be None. The derivative at the bounds is 1."""
    return np.clip(x, low, high)


@clip.vjp("x", "x̄ = ȳ [low ≤ x ≤ high]")
def _(g, x, low, high):
    if low is not None:
        g = where(lt(x, low), 0, g)
    if high is not None:
        g = where(gt(x, high), 0, g)
    return g


@op("y = [a = b]", infix="==", differentiable=False, a=ANY, b=ANY)
def eq(a, b):
    """Whether equal, elementwise, as bools."""
    return np.equal(a, b)


@op("y = [a ≠ b]", infix="!=", differentiable=False, a=ANY, b=ANY)
def ne(a, b):
    """Whether different, elementwise, as bools."""
    return np.not_equal(a, b)


@op("y = [a < b]", infix="<", differentiable=False, a=ANY, b=ANY)
def lt(a, b):
    """Whether less, elementwise, as bools."""
    return np.less(a, b)


@op("y = [a ≤ b]", infix="<=", differentiable=False, a=ANY, b=ANY)
def le(a, b):
    """Whether less or equal, elementwise, as bools."""
    return np.less_equal(a, b)


@op("y = [a > b]", infix=">", differentiable=False, a=ANY, b=ANY)
def gt(a, b):
    """Whether greater, elementwise, as bools."""
    return np.greater(a, b)


@op("y = [a ≥ b]", infix=">=", differentiable=False, a=ANY, b=ANY)
def ge(a, b):
    """Whether greater or equal, elementwise, as bools."""
    return np.greater_equal(a, b)


@op("y = x as dtype", method=True, native=elementwise.widened, x=ANY, cases=[(((3, 4),), {"dtype": "float64"})])
def astype(x, /, dtype):
    """A copy in another dtype; the gradient comes back in the old one. Integers have no gradient: detach() first."""
    return np.array(x, dtype)


@astype.vjp("x", "x̄ = ȳ")
def _(g):
    return g


@op("y = x", method=True, x=ANY)
def copy(x):
    """A copy, in memory of its own."""
    return np.array(x, order="C")


@copy.vjp("x", "x̄ = ȳ")
def _(g):
    return g


@op(
    "y = 1 at class i, else 0",
    shapes="free",
    differentiable=False,
    i=integers(0, 3),
    cases=[(((5,),), {"classes": 4}), (((2, 3),), {"classes": 4})],
)
def one_hot(i, /, classes, dtype="float32"):
    """Integer classes of any shape (…) as rows of 0 and 1, shape (…, classes). IndexError for a class out of range."""
    i = np.asarray(i)
    if i.dtype.kind not in "iu":
        raise TypeError(f"one_hot: need integer classes, got dtype {i.dtype}")
    if i.size and (i.min() < 0 or i.max() >= classes):
        raise IndexError(f"one_hot: classes must lie in 0 … {classes - 1}, got {i.min()} … {i.max()}")
    return np.eye(classes, dtype=dtype)[i]
