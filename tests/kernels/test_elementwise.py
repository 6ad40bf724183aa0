import hashlib
import itertools
import math

import mpmath
import numpy as np
import pytest
from kernel_tools import layouts, same

from minigrad.kernels import elementwise as ew
from minigrad.kernels import jit
from minigrad.kernels import vector_math as vm
from minigrad.kernels.simd import where

FORWARD = {
    "exp": mpmath.exp,
    "expm1": mpmath.expm1,
    "log": mpmath.log,
    "log1p": mpmath.log1p,
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)) if x < 700 else x,
    "erf": mpmath.erf,
}
CALLS = [(getattr(ew, name), 1, ()) for name in (*FORWARD, "relu", "selu", "silu", "gelu")]
CALLS += [(ew.leaky_relu, 1, (0.1,)), (ew.elu, 1, (1.5,)), (ew.gelu, 1, ("tanh",))]
CALLS += [(getattr(ew, f"{n}_vjp"), 2, ()) for n in ("tanh", "sigmoid", "relu", "selu", "gelu", "silu", "softplus")]
CALLS += [(ew.leaky_relu_vjp, 2, (0.1,)), (ew.elu_vjp, 2, (1.5,)), (ew.gelu_vjp, 2, ("tanh",))]
IDS = [f"{f.__name__}{options or ''}" for f, _, options in CALLS]


def ulps(y, exact, dtype):
    """Distance from the exact value in units of the last place of its rounding."""
    step = float(np.spacing(np.abs(np.dtype(dtype).type(float(exact)))))
    return float(abs(mpmath.mpf(float(y)) - exact) / step)


@pytest.mark.parametrize("name", FORWARD)
def test_accuracy(name, dtype, rng):
    domain = {"log": (0, math.inf), "log1p": (-1, math.inf), "exp": (-80, 80), "expm1": (-80, 80)}
    low, high = domain.get(name, (-math.inf, math.inf))
    limit = 60 if dtype == np.float32 else 500
    x = [rng.standard_normal(60) * s for s in (1e-6, 0.01, 0.3, 1, 4, 30)]
    x += [np.exp(rng.uniform(-limit, limit, 80)) * rng.choice([-1, 1], 80), 1 + rng.standard_normal(40) * 1e-3]
    x = np.concatenate(x).astype(dtype)
    x = x[(x > low) & (x < high) & (x != 0)]
    with np.errstate(over="ignore"), mpmath.workprec(1200 if name in ("sin", "cos") else 200):
        exact = [FORWARD[name](mpmath.mpf(float(v))) for v in x]
        smallest = np.finfo(dtype).smallest_subnormal
        worst = max(
            (ulps(y, e, dtype), float(v)) for v, y, e in zip(x, getattr(ew, name)(x), exact, strict=True)
            if abs(e) > smallest
        )  # fmt: skip
    assert worst[0] <= 1.9, worst


@pytest.mark.parametrize("name", FORWARD)
def test_float32_over_the_whole_range(name):
    """Every 40009th of the 2^32 bit patterns, against float64 (whose own kernels are held against mpmath)."""
    assert worst_error(name, np.arange(0, 2**32, 40009, dtype=np.uint32)) <= 1.9


@pytest.mark.intense
@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "log", "erf"])
def test_every_float32(name):
    parts = np.arange(2**24, dtype=np.uint32)
    worst = max(worst_error(name, parts + np.uint32(start)) for start in range(0, 2**32, 2**24))
    print(f"{name}: {worst:.3f} ulp at most")
    assert worst <= 2


@pytest.mark.intense
@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "log"])
def test_float64_where_it_is_hard(name, rng):
    """10^8 numbers in all, against 80-bit arithmetic: where rounding, cancellation and the ends of the range are."""
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("there is no arithmetic wider than float64 here")
    x87 = {
        "exp": np.exp,
        "tanh": np.tanh,
        "sigmoid": lambda x: np.where(x < 0, np.exp(x) / (1 + np.exp(x)), 1 / (1 + np.exp(-x))),
        "log": np.log,
    }[name]
    worst = 0.0
    for _ in range(100):
        n = 300_000
        x = np.concatenate(
            [
                rng.normal(0, 1, n),
                rng.uniform(-40, 40, n),
                rng.uniform(-745, 709, n // 2),
                1 + rng.normal(0, 1e-3, n // 2),
            ]
        )
        x = np.concatenate([x, np.exp(rng.uniform(-700, 6.5, n // 2)) * rng.choice([-1, 1], n // 2)])
        x = np.abs(x) if name == "log" else x
        y, exact = getattr(ew, name)(x), x87(x.astype(np.longdouble))
        normal = np.abs(exact) > 2.0**-1000
        step = np.spacing(np.abs(exact[normal].astype(np.float64)))
        worst = max(worst, float((np.abs(y[normal] - exact[normal]) / step).max()))
    print(f"{name}: {worst:.3f} ulp at most")
    assert worst <= 2


def worst_error(name, patterns):
    """In units of the last place of float32; where the result is not finite it must be the same, and signs too."""
    x = patterns.view(np.float32)
    with np.errstate(all="ignore"):
        y, exact = getattr(ew, name)(x), getattr(ew, name)(x.astype(np.float64))
        rounded = exact.astype(np.float32)
        finite = np.isfinite(rounded) & np.isfinite(y)
        assert same(y[~finite], rounded[~finite])
        assert (np.signbit(y) == np.signbit(rounded))[~np.isnan(y)].all()
        error = np.abs(y - exact)[finite] / np.spacing(np.abs(rounded[finite])).astype(np.float64)
    return error.max(initial=0)


def test_hardest_reductions():
    """The float64 nearest to a multiple of pi/2 (6381956970095103 2^797), and 1e22."""
    x = np.array([6381956970095103 * 2.0**797, 1e22, 5.319372648326541e255])
    with mpmath.workprec(1300):
        for f, exact in ((ew.sin, mpmath.sin), (ew.cos, mpmath.cos)):
            assert max(ulps(y, exact(mpmath.mpf(float(v))), np.float64) for v, y in zip(x, f(x), strict=True)) < 1


INF, NAN = math.inf, math.nan
SPECIAL = {
    "exp": [(INF, INF), (-INF, 0.0), (NAN, NAN), (0.0, 1.0), (1e3, INF), (-1e3, 0.0)],
    "expm1": [(INF, INF), (-INF, -1.0), (NAN, NAN), (0.0, 0.0), (-0.0, -0.0), (1e3, INF), (-1e3, -1.0)],
    "log": [(INF, INF), (-INF, NAN), (NAN, NAN), (0.0, -INF), (-0.0, -INF), (-1.0, NAN), (1.0, 0.0)],
    "log1p": [(INF, INF), (-INF, NAN), (NAN, NAN), (0.0, 0.0), (-0.0, -0.0), (-1.0, -INF), (-2.0, NAN)],
    "sin": [(INF, NAN), (-INF, NAN), (NAN, NAN), (0.0, 0.0), (-0.0, -0.0)],
    "cos": [(INF, NAN), (-INF, NAN), (NAN, NAN), (0.0, 1.0), (-0.0, 1.0)],
    "tanh": [(INF, 1.0), (-INF, -1.0), (NAN, NAN), (0.0, 0.0), (-0.0, -0.0)],
    "sigmoid": [(INF, 1.0), (-INF, 0.0), (NAN, NAN), (0.0, 0.5)],
    "softplus": [(INF, INF), (-INF, 0.0), (NAN, NAN), (1e3, 1e3)],
    "erf": [(INF, 1.0), (-INF, -1.0), (NAN, NAN), (0.0, 0.0), (-0.0, -0.0), (9.0, 1.0)],
    "relu": [(INF, INF), (-INF, 0.0), (NAN, NAN), (-0.0, 0.0), (0.0, 0.0)],
    "silu": [(INF, INF), (NAN, NAN), (0.0, 0.0)],
    "selu": [(INF, INF), (NAN, NAN), (0.0, 0.0)],
    "gelu": [(INF, INF), (NAN, NAN), (0.0, 0.0)],
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_values_in_every_lane(name, dtype):
    for value, expected in SPECIAL[name]:
        x = np.full(37, value, dtype)
        assert same(getattr(ew, name)(x), np.full(37, expected, dtype)), (name, value)


def test_subnormals_and_the_edges_of_exp(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([tiny, -tiny, 3 * tiny], dtype)
    for f in (ew.expm1, ew.log1p, ew.sin, ew.tanh):
        assert same(f(x), x)
    info = np.finfo(dtype)
    edge = np.array([np.log(float(info.max)), np.log(float(info.smallest_normal))], dtype)
    assert np.isfinite(ew.exp(np.nextafter(edge[:1], dtype.type(0)))).all()
    assert ew.exp(edge[1:] * dtype.type(1.01))[0] > 0
    assert ew.exp(np.array([edge[0] * 1.001], dtype))[0] == INF


@pytest.mark.parametrize(("f", "operands", "options"), CALLS, ids=IDS)
def test_position_layout_and_shape_do_not_matter(f, operands, options, dtype, rng):
    x = (rng.standard_normal((operands, 5, 23)) * 3).astype(dtype)
    before = x.copy()
    whole = f(*x, *options)
    assert whole.flags.c_contiguous
    assert whole.flags.owndata
    assert whole.dtype == dtype
    assert same(x, before)
    for other in zip(*[layouts(a) for a in x], strict=True):
        got = f(*other, *options)
        assert got.flags.c_contiguous
        assert same(got, whole)
    for i, j in itertools.product((0, 4), (0, 7, 22)):
        assert same(f(*(a[i, j, ...] for a in x), *options), whole[i, j, ...])
    for stop in range(23):
        assert same(f(*x[:, 0, :stop], *options), whole[0, :stop])


def test_plain_rules_have_the_bits_of_numpy(dtype, rng):
    g, x, y = (rng.standard_normal(1001).astype(dtype) for _ in range(3))
    x[:3], slope, zero = [0, -0.0, np.nan], dtype.type(0.1), dtype.type(0)
    assert same(ew.tanh_vjp(g, y), (g + g * y) * (1 - y))
    assert same(ew.sigmoid_vjp(g, y), (g * y) * (1 - y))
    assert same(ew.relu(x), np.where(x <= 0, zero, x))
    assert same(ew.relu_vjp(g, x), np.where(x <= 0, zero, g))
    assert same(ew.leaky_relu(x, 0.1), np.where(x > 0, x, slope * x))
    assert same(ew.leaky_relu_vjp(g, x, 0.1), np.where(x > 0, g, slope * g))
    assert same(ew.softplus_vjp(g, x), g * ew.sigmoid(x))
    assert same(ew.silu(x), x * ew.sigmoid(x))
    for f, other in ((ew.leaky_relu, x), (ew.elu, ew.expm1(x))):  # below 0 is where 0 is: the sign of zero tells
        assert same(f(x, -0.1), np.where(x > 0, x, -slope * other))
    assert same(ew.elu(x, 0.1), np.where(x > 0, x, slope * ew.expm1(x)))
    assert same(ew.elu_vjp(g, x, 0.1), np.where(x > 0, g, (g * slope) * ew.exp(x)))


@pytest.mark.parametrize("name", ["selu", "silu", "softplus", "gelu", "gelu tanh", "elu", "tanh", "sigmoid"])
def test_derivatives(name, rng):
    """Five-point differences in float64."""
    name, *options = name.split()
    options = [1.5] if name == "elu" else options
    x, h = rng.uniform(-4, 4, 200), 1e-3
    x = x[abs(x) > 0.01]
    f = getattr(ew, name)
    steps = [(-2, 1), (-1, -8), (1, 8), (2, -1)]
    slope = sum(k * f(x + s * h, *options) for s, k in steps) / (12 * h)
    at = f(x) if name in ("tanh", "sigmoid") else x
    g = rng.standard_normal(x.shape)
    assert np.allclose(getattr(ew, f"{name}_vjp")(g, at, *options), g * slope, rtol=1e-9, atol=1e-10)


def numbers(dtype):
    """Numbers of every size, many usual ones, and those near where formulas change, the same on every machine."""
    word = np.uint32 if dtype == np.float32 else np.uint64
    spread = np.arange(40_000, dtype=word) * word(0x9E3779B1 if dtype == np.float32 else 0x9E3779B97F4A7C15)
    usual = (np.arange(-20_000, 20_001) / 640).astype(dtype)
    near = 1 + np.arange(-2000, 2001) / 2_000_000
    bounds = 0.5, math.sqrt(0.5) - 1, math.sqrt(2) - 1, math.log(2) / 2, -math.log(2) / 2, 1.0, -1.0, 2.0
    edges = np.concatenate([bound * near for bound in bounds]).astype(dtype)
    return np.concatenate([spread.view(dtype), usual, usual * usual * usual, edges])


#: Digests of the bits of each function in float32 and in float64.
RECORDED = {
    "exp": "e1205fc13a1b b5e69198d284",
    "expm1": "10c01cbcf9cc f965aad6e5e6",
    "log": "805bb33aff73 d52fb72235ba",
    "log1p": "a75936d49df0 dd3ee3c72fbe",
    "sin": "80dce5859fbc fb343092f154",
    "cos": "4e4bc0ac7040 3dbc6287aa63",
    "tanh": "f90007b25b3b 57e0e4938da5",
    "sigmoid": "2ba8d263edff 56e0ae466bf1",
    "softplus": "087b8748acad 86ccb2e1c7b9",
    "erf": "2b815003b95e b6a7115de6b3",
    "relu": "9164381d14b1 6bcab14838f7",
    "selu": "4a4005a53be4 bc1cfec8223f",
    "silu": "422648a68c0f e4981627256d",
    "gelu": "1e7a6da30cad 4e6a3a63aa64",
    "leaky_relu(0.1,)": "bf26ac356b8d e6719af3b258",
    "elu(1.5,)": "061caf7787e0 19f949b25418",
    "gelu('tanh',)": "3d7116bc5d5e 9fa2f51b7790",
    "tanh_vjp": "0cfc6764c6c1 5db4af8d988c",
    "sigmoid_vjp": "004db6cc2d33 18fe861a0bb2",
    "relu_vjp": "aae04b4ed779 c5c82a9e4c60",
    "selu_vjp": "aacf6292a33a f2f7cda23d6a",
    "gelu_vjp": "efc1072460ea 9adf14ce2f28",
    "silu_vjp": "4d5be1782030 c74a5e636c8e",
    "softplus_vjp": "c8c7226325e7 bdcc54cf3a50",
    "leaky_relu_vjp(0.1,)": "60072f0183ea caa9d4b96d53",
    "elu_vjp(1.5,)": "baab2fa514fc a88a71463b2f",
    "gelu_vjp('tanh',)": "2cebd0dad138 2519c55abc31",
}


@pytest.mark.parametrize(("f", "operands", "options"), CALLS, ids=IDS)
def test_the_bits_are_those_of_every_machine(f, operands, options, request):
    """Whatever its vectors are: arithmetic that is rounded once, and tables computed in integers and decimals."""
    digests = []
    for dtype in (np.float32, np.float64):
        x = numbers(np.dtype(dtype))
        with np.errstate(all="ignore"):
            y = f(*[np.roll(x, 777 * i) for i in range(operands)], *options)
        y[np.isnan(y)] = np.nan  # which NaN is not promised
        digests.append(hashlib.sha256(y.tobytes()).hexdigest()[:12])
    assert digests == RECORDED[request.node.callspec.id].split()


def test_exp_scaled_by_products_is_exp_scaled_by_an_instruction(dtype, monkeypatch):
    """AVX-512 has one; other CPUs take another way, which the tests of exp see on those only."""
    monkeypatch.setattr(vm, "scalef", lambda x, n: None)
    monkeypatch.setattr(jit.Kernel, "_file", lambda kernel, dtype: None)
    other = ew.mapped(vm.exp)
    for x in (
        numbers(dtype),
        np.linspace(-760, 720, 10_001).astype(dtype),
        np.linspace(-105, 90, 10_001).astype(dtype),
    ):
        assert same(other(x), ew.exp(x))


SHAPES = [
    ((), ()), ((7,), ()), ((0,), (1,)), ((3, 40), (3, 40)), ((3, 40), (40,)), ((3, 40), (3, 1)), ((1, 40), (3, 1)),
    ((2, 3, 5), (5,)), ((2, 3, 5), (3, 5)), ((2, 3, 5), (2, 1, 1)), ((2, 3, 5), (2, 3, 1)), ((2, 1, 5), (1, 1, 1)),
    ((2, 1, 3, 1, 5), (3, 1, 5)),
]  # fmt: skip
PAIRWISE = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.true_divide}


@pytest.mark.parametrize("name", PAIRWISE)
def test_plain_arithmetic_broadcasts_as_in_numpy(name, dtype, rng):
    f, there = getattr(ew, name), PAIRWISE[name]
    for shapes in SHAPES:
        for a, b in itertools.permutations([np.asarray(rng.standard_normal(shape), dtype) for shape in shapes]):
            assert same(f(a, b), there(a, b)), shapes
            for number in (0.0, -0.0, 1.5, 2):
                with np.errstate(all="ignore"):
                    assert same(f(a, number), there(a, dtype.type(number)))
                    assert same(f(number, a), there(dtype.type(number), a))
    a = rng.standard_normal((4, 6)).astype(dtype)
    assert same(f(a[:, 1:4], a[::2, :3].repeat(2, axis=0)), there(a[:, 1:4], a[::2, :3].repeat(2, axis=0)))
    assert same(f(a[::2], a[1::2]), there(a[::2], a[1::2]))
    assert f(2, 3, np.dtype(dtype)).dtype == dtype
    for x, y in ((a, a[:, ::-1]), (a.T, a.T.copy()), (np.ones((2, 3, 4), dtype), np.ones((3, 1), dtype))):
        with pytest.raises(ValueError, match="no rows in common"):
            f(x, y)
    assert not ew.number(1.5, dtype).flags.writeable
    assert ew.number(1.5, dtype).shape == (1,)


def test_plain_arithmetic_of_one_operand(dtype, rng):
    x = rng.standard_normal(33).astype(dtype)
    x[:4] = [0.0, -0.0, np.inf, np.nan]
    with np.errstate(all="ignore"):
        for f, there in ((ew.neg, np.negative), (ew.square, np.square), (ew.absolute, np.abs), (ew.sqrt, np.sqrt)):
            assert same(f(x), there(x))


def test_other_forms_of_gelu_are_refused():
    for f in (ew.gelu, lambda x, form: ew.gelu_vjp(x, x, form)):
        with pytest.raises(ValueError, match="approximate must be"):
            f(np.ones(2), "erf")


def test_formulas_become_kernels(dtype, rng, monkeypatch):
    """Operands first, then numbers, then the output; whatever the formula's own name."""
    monkeypatch.setattr(jit.Kernel, "_file", lambda kernel, dtype: None)
    a, b = (rng.standard_normal((3, 35)).astype(dtype) for _ in "ab")

    def _far(a, b, low, high):
        """a - b, within [low, high]."""
        return where(a - b < low, low, where(a - b > high, high, a - b))

    far = ew.mapped(_far, options=2)
    assert same(far(a.T, b.T, -0.5, 0.25), np.clip(a - b, dtype.type(-0.5), dtype.type(0.25)).T.copy())
    assert far.__doc__ == _far.__doc__
    assert far.__name__ == "far"
    assert (far.kernel.codes, far.kernel.ints, far.kernel.__name__) == ("TTTTT", 1, "far_loop")
    assert far.kernel.writes == (False, False, False, False, True)
    pairs = ew._pairwise(lambda a, b: a * b - a)
    assert same(pairs(a, b[:1]), a * b[:1] - a)
    assert (pairs.kernel.codes, pairs.kernel.ints, pairs.kernel.writes) == ("MMM", 0, (False, False, True))


def test_wider_floats(rng):
    x = np.array([0.1, -0.0, 1e-45, 3e38, np.inf, -np.inf, np.nan, *rng.standard_normal(40)], np.float32)
    for array in (x, x[::-1], x[:40].reshape(5, 8).T):
        assert same(ew.widened(array, "float64"), array.astype(np.float64))
    for array, other in ((x, "float32"), (x.astype(np.float64), "float64")):
        with pytest.raises(ValueError, match="are NumPy's"):
            ew.widened(array, other)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (40,), (4, 5)])
def test_stack(shape, dtype, rng):
    xs = [rng.standard_normal(shape).astype(dtype) for _ in range(5)]
    assert same(ew.stack(*xs), np.stack(xs))
    assert same(ew.stack(xs[0]), np.stack(xs[:1]))
    assert same(ew.stack(*[x.T for x in xs]), np.stack([x.T for x in xs]))
    for some, axis in ((xs, -1), (xs, 1), ((xs[0], np.zeros(7, dtype)), 0)):
        with pytest.raises(ValueError, match="need one shape, and axis 0"):
            ew.stack(*some, axis=axis)
