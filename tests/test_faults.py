"""Wrong rules and kernels, seeded one at a time: the laws are seen to catch each."""

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import Phase

import minigrad as mg
from minigrad.kernels import jit
from minigrad.ops.broadcast import restore

from .ops import laws

SEARCH = {"derandomize": True, "database": None, "phases": [Phase.generate], "report_multiple_bugs": False}
LONG = {**SEARCH, "max_examples": 200}  # it ends with the first that fails


@contextmanager
def replaced(name, argument, fn, kernel=None):
    """The op with another rule for one argument, and no kernel that would stand in for it."""
    op = mg.REGISTRY[name]
    kept, fused = op.rules[argument], op.fused
    op.rules[argument], op.fused = op._rule(argument, kept.formula, fn, kernel), None
    op._plans.clear()
    try:
        yield
    finally:
        op.rules[argument], op.fused = kept, fused
        op._plans.clear()


def overwrites(g, y):
    g *= (1 + y) * (1 - y)
    return g


def overwrites_y(g, y):
    y *= y
    return g * (1 - y)


def writes_where_it_may(g, b):
    out = g * b
    if isinstance(out, np.ndarray) and b.flags.writeable:
        b += 1
    return out


def at_top(x, y):
    return mg.where(mg.eq(x, y), 1.0, 0.0)


# name: (op, argument, wrong rule, the law that must notice, and perhaps the rule's kernel)
RULES = {
    "dropped transpose": ("matmul", "a", lambda g, b: mg.matmul(g, b), "first"),
    "transpose of the wrong factor": ("matmul", "b", lambda g, a: mg.matmul(mg.swapaxes(g), a), "first"),
    "missing sum over the repetitions": ("broadcast_to", "x", lambda g, x_shape: mg.reshape(g, x_shape), "first"),
    "sum over the wrong axes": ("sum_to", "x", lambda g, x_shape: 0 * mg.broadcast_to(g, x_shape), "first"),
    "sign": ("sub", "b", lambda g: g, "first"),
    "right kernel, wrong formula": ("sin", "x", lambda g, x: g * (2 - mg.cos(x)), "second", lambda g, x: g * np.cos(x)),
    "forgotten scale": ("mean", "x", lambda g, x_shape, axis: mg.broadcast_to(mg.sum(g), x_shape), "first"),
    "a mean in place of each": ("var", "x", lambda g, x, axis: 2 * (x - mg.mean(x, axis, True)) * mg.mean(g), "first"),
    "off by a thousandth": ("exp", "x", lambda g, y: g * y * 1.001, "first"),
    "input saved for output": ("tanh", "x", lambda g, x: (g + g * x) * (1 - x), "first"),
    "output saved for input": ("sin", "x", lambda g, y: g * mg.cos(y), "first"),
    "overwritten cotangent": ("tanh", "x", overwrites, "pure"),
    "overwritten saved value": ("tanh", "x", overwrites_y, "pure"),
    "overwritten input": ("mul", "a", writes_where_it_may, "pure"),
    "not linear": ("exp", "x", lambda g, y: g * y + 1e-9 * g * g, "linear"),
    "linear but for the sign": ("exp", "x", lambda g, y: abs(g) * y, "linear"),
    "wrong tie": ("max", "x", lambda g, x, y, axis, x_shape: 0 * x, "first"),
    "detached second derivative": ("square", "x", lambda g, x: 2 * g * np.asarray(getattr(x, "_data", x)), "second"),
    "detached cotangent": ("mul", "a", lambda g, b: b * np.asarray(getattr(g, "_data", g)), "second"),
    "another formula with a graph": (
        "square", "x", lambda g, x: (2.00001 if isinstance(g, mg.Tensor) else 2) * x * g, "graph",
    ),
    "lost dtype": ("square", "x", lambda g, x: 2 * g * mg.astype(x, "float32"), "first"),
    "accumulated with =": ("index_add", "x", lambda g, indices, axis: 2 * mg.take(g, indices, axis), "first"),
    "zero": ("exp", "x", lambda g, y: 0 * g * y, "first"),
    "all of the ties": (
        "max", "x", lambda g, x, y, axis, x_shape: at_top(x, restore(y, x_shape, axis)) * restore(g, x_shape, axis),
        "together",
    ),
    "a quotient by a factor": (
        "prod", "x", lambda g, x, y, axis, x_shape: restore(g, x_shape, axis) * restore(y, x_shape, axis) / x, "finite",
    ),
    "NaN at the zero vector": (
        "norm", "x", lambda g, x, y, axis, x_shape: restore(g, x_shape, axis) * x / restore(y, x_shape, axis), "finite",
    ),
    "NaN at 0 to the 0": ("pow", "x", lambda g, x, p: g * p * mg.pow(x, p - 1), "finite"),
    "NaN at a kink": ("abs", "x", lambda g, x: g * x / abs(x), "kinks"),
    "an overflow divided by itself": ("softplus", "x", lambda g, x: g * mg.exp(x) / (1 + mg.exp(x)), "finite"),
    "kernel that is no formula": (
        "sin", "x", lambda g, x: g * mg.cos(x), "kernels", lambda g, x: g * np.cos(x) * 1.0001,
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", RULES)
def test_a_wrong_rule_is_caught(fault):
    name, argument, fn, law, *kernel = RULES[fault]
    if kernel and not jit.AVAILABLE:
        pytest.skip("kernels are off")
    laws.check(name, law, **SEARCH)
    with replaced(name, argument, fn, *kernel), pytest.raises((AssertionError, ValueError)):
        laws.check(name, law, **LONG)
    laws.check(name, law, **SEARCH)


def patched(whole, change):
    """A kernel that lets ``change`` spoil what the right one gives."""

    def kernel(*args, **options):
        return change(whole(*args, **options), *args)

    return kernel


def edge_apart(y, a, b):
    start = y.shape[-1] - y.shape[-1] % 4
    with mg.formulas():
        y[..., start:] = mg.REGISTRY["matmul"].fn(a, b[..., start:])
    return y


def last_row_alone(y, a, b):
    y[..., -1:, :] = np.nextafter(y[..., -1:, :], np.inf) if y.shape[-2] > 4 else y[..., -1:, :]
    return y


def by_blas(y, a, b):
    return a @ b


def overwritten(y, x):
    if x.flags.writeable:
        x[...] = y
    return y


KERNELS = {
    "edge tile that multiplies and adds separately": ("matmul", edge_apart, "positions"),
    "last row rounded otherwise": ("matmul", last_row_alone, "positions"),
    "transposed if square": (
        "matmul", lambda y, a, b: np.matmul(np.swapaxes(a, -1, -2), b) if a.shape[-1] == a.shape[-2] else y, "kernels",
    ),
    "first column twice": ("softmax", lambda y, x, *rest: y[..., :1] + 0 * y, "kernels"),
    "off by a few ulps": ("tanh", lambda y, x: y * (1 + 8 * np.finfo(y.dtype).eps), "kernels"),
    "NaN lost": ("relu", lambda y, x: np.nan_to_num(y, posinf=np.inf), "specials"),
    "infinity lost": ("exp", lambda y, x: np.minimum(y, np.finfo(y.dtype).max), "specials"),
    "overwritten input": ("tanh", overwritten, "pure"),
    "layout in the bits": (
        "exp", lambda y, x: y if x.flags.c_contiguous else np.nextafter(y, np.inf), "layouts",
    ),
    "position in the bits": (
        "exp", lambda y, x: np.where(np.arange(y.size).reshape(y.shape) % 16 > 12, np.nextafter(y, 9), y), "positions",
    ),
    "not deterministic": ("exp", lambda y, x: y * (1 + 1e-6 * np.random.default_rng().random()), "pure"),
    "always float64": ("exp", lambda y, x: y.astype(np.float64), "dtypes"),
    "always float32": ("exp", lambda y, x: y.astype(np.float32), "first"),
    "another sum": ("sum", lambda y, x, *rest: np.asarray(y + 1), "kernels"),
}  # fmt: skip


@pytest.mark.skipif(not jit.AVAILABLE, reason="kernels are off")
@pytest.mark.parametrize("fault", KERNELS)
def test_a_wrong_kernel_is_caught(fault, monkeypatch):
    name, change, law = KERNELS[fault]
    op = mg.REGISTRY[name]
    laws.check(name, law, **SEARCH)
    monkeypatch.setattr(op, "kernel", patched(op.kernel, change))
    with pytest.raises(AssertionError):
        laws.check(name, law, **LONG)


@pytest.mark.skipif(not jit.AVAILABLE, reason="kernels are off")
def test_a_wrong_kernel_for_programs_is_caught(monkeypatch):
    """It runs in recorded steps only: eager ones take the formula."""
    laws.check("mul", "compiled", **SEARCH)
    monkeypatch.setattr(mg.REGISTRY["mul"], "native", mg.REGISTRY["sub"].native)
    with pytest.raises(AssertionError):
        laws.check("mul", "compiled", **LONG)


@pytest.mark.skipif(not jit.AVAILABLE, reason="kernels are off")
def test_a_wrong_kernel_for_several_rules_is_caught(monkeypatch):
    op = mg.REGISTRY["linear"]
    names, whole = op.fused

    def off_where_all_are_asked_for(positions):
        def run(*values):
            found = list(whole(positions)(*values))
            return [np.nextafter(a, a.dtype.type(9)) for a in found] if len(positions) > 1 else found

        return run

    laws.check("linear", "alone", **SEARCH)
    monkeypatch.setattr(op, "fused", (names, off_where_all_are_asked_for))
    op._plans.clear()
    with pytest.raises(AssertionError):
        laws.check("linear", "alone", **LONG)
    op._plans.clear()


def mixes_rows(g, x):
    return 2 * x * mg.mean(g) if getattr(g, "ndim", 0) else 2 * x * g


def test_rows_that_know_of_each_other_are_caught():
    laws.check("square", "rows", **SEARCH)
    with replaced("square", "x", mixes_rows), pytest.raises(AssertionError):
        laws.check("square", "rows", **LONG)


def writes_too_much(p, d, h):
    d += 1
    p -= h[0] * d
    return p


def contiguous_only(p, d, h):
    np.ravel(p)[...] -= h[0] * np.ravel(d)
    return p


WRITES = {
    "undeclared argument written": (writes_too_much, "writes"),
    "lost where it is not contiguous": (contiguous_only, "writes"),
    "another result": (lambda p, d, h: p.__isub__(h[0] * d), "kernels"),
    "an element forgotten": (lambda p, d, h: p[:, 1:].__isub__(h[0] * d[:, 1:]), "kernels"),
    "nothing written": (lambda p, d, h: p, "power"),
}


@pytest.mark.skipif(not jit.AVAILABLE, reason="kernels are off")
@pytest.mark.parametrize("fault", WRITES)
def test_a_wrong_write_is_caught(fault, monkeypatch):
    kernel, law = WRITES[fault]
    look = laws.power if law == "power" else lambda name: laws.check(name, law, **LONG)
    look("sgd")
    monkeypatch.setattr(mg.REGISTRY["sgd"], "kernel", kernel)
    with pytest.raises(AssertionError):
        look("sgd")


def test_a_sample_without_power_is_caught(monkeypatch):
    """Where every derivative is zero nothing is tested: a rectifier sampled below 0 only."""
    laws.power("relu")
    monkeypatch.setitem(mg.REGISTRY["relu"].domains, "x", mg.reals(-3, -1))
    with pytest.raises(AssertionError):
        laws.power("relu")


@pytest.mark.parametrize("share", [0.0, 1.0, "first"])
def test_a_wrong_tie_is_caught(share):
    """Ties are left out of samples, because differences say nothing there: the table of conventions has them."""
    from .ops import test_kinks

    def greedy(g, a, b):
        return mg.where(mg.gt(a, b), g, mg.where(mg.eq(a, b), (1.0 if share == "first" else share) * g, 0))

    with replaced("maximum", "a", greedy), pytest.raises(AssertionError):
        test_kinks.test_equal_operands_share_evenly(mg.maximum)
