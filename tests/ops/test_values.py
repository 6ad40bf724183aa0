"""Values as NumPy and SciPy have them, or as a line of NumPy says: by kernel, by formula and by BLAS, at ties too."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

import minigrad as mg
from minigrad.engine.state import blas, formulas
from minigrad.kernels import jit
from minigrad.ops.activation import _threshold, random_bits
from minigrad.ops.broadcast import axes_of
from minigrad.ops.shape import inverse
from minigrad.testing.laws import tied

from .laws import samples

NAMES = """abs add all any argmax argmin broadcast_to concatenate cos cumsum exp expm1 expand_dims flip log log1p matmul
max maximum mean min minimum prod reshape sign sin sqrt square squeeze stack std sum take take_along_axis tanh
transpose var where""".split()
HERE = {name: getattr(np, name) for name in NAMES}
HERE |= {
    "neg": np.negative,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.true_divide,
    "pow": np.power,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "erf": special.erf,
    "sigmoid": special.expit,
    "logsumexp": special.logsumexp,
    "softmax": lambda x, axis=-1: special.softmax(x, axis),
    "log_softmax": lambda x, axis=-1: special.log_softmax(x, axis),
    "clip": lambda x, low=None, high=None: np.minimum(np.maximum(x, -9 if low is None else low), high or 9),
    "norm": lambda x, axis=None, keepdims=False: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)),
    "relu": lambda x: x * (x > 0),
    "leaky_relu": lambda x, slope=0.01: np.where(x > 0, x, slope * x),
    "elu": lambda x, alpha=1.0: np.where(x > 0, x, alpha * (np.exp(x) - 1)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "getitem": lambda x, index: x[index],
    "pad": lambda x, widths, value=0.0: np.pad(x, widths, constant_values=value),
    "swapaxes": lambda x, axis1=-1, axis2=-2: np.swapaxes(x, axis1, axis2),
    "copy": np.copy,
    "one_hot": lambda i, classes: (i[..., None] == np.arange(classes)).astype(np.float32),
    "assign": lambda p, value: np.broadcast_to(value, p.shape),
    "scale": lambda p, s: s * p,
    "linear": lambda x, w, b=None: x @ w.T + (0 if b is None else b),
}


def reduced(losses, reduction):
    return losses if reduction == "none" else np.sum(losses) if reduction == "sum" else np.mean(losses)


HERE |= {
    "mse_loss": lambda a, b, reduction="mean": reduced((a - b) ** 2, reduction),
    "l1_loss": lambda a, b, reduction="mean": reduced(abs(a - b), reduction),
    "huber_loss": lambda a, b, reduction="mean", delta=1.0: reduced(special.huber(delta, a - b), reduction),
    "bce_with_logits": lambda x, t, reduction="mean": reduced(np.log(1 + np.exp(x)) - x * t, reduction),
}


@pytest.mark.parametrize("name", HERE)
def test_values(name):
    """To a few units of float32, far less than another formula would be off; shapes and kinds exactly."""

    @settings(max_examples=max(8, settings().max_examples // 2))
    @given(samples(mg.REGISTRY[name], (0, 1, 2, 3)), st.booleans())
    def check(s, at_ties):
        if s.refused():
            return
        s = tied(s) if at_ties else s
        args, of = s.args, HERE[name]
        with np.errstate(all="ignore"):
            want = np.asarray(of(args, **s.options) if s.op.sequence else of(*args, **s.options))
            values = [s.value()]
            for other in (formulas, blas):
                with other():
                    values.append(s.value())
        for y in values:
            assert (y.shape, y.dtype.kind) == (want.shape, want.dtype.kind)
            np.testing.assert_allclose(y, want, rtol=2e-5, atol=2e-5)

    check()


@pytest.mark.parametrize(
    ("a", "b"),
    [((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((4, 2, 3), (3,)), ((3,), (4, 3, 2)), ((2, 3), (4, 3, 2))],
)
def test_matmul_of_vectors(a, b):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(a), rng.standard_normal(b)
    x, y = mg.tensor(a), mg.tensor(b)
    for z in (mg.matmul(x, y), x @ y, a @ y, x @ b, mg.matmul(a, b)):
        assert z.shape == np.matmul(a, b).shape
        np.testing.assert_allclose(z, np.matmul(a, b))


def test_matmul_of_matrices_is_one_op_and_of_lists_of_numbers():
    x, y = mg.tensor(np.ones((2, 3)), requires_grad=True), mg.tensor(np.ones((3, 2)))
    assert (x @ y).node.parents[0] is x.node
    assert mg.matmul([[1.0, 2.0]], [3.0, 4.0]).tolist() == [11.0]


@pytest.mark.parametrize(
    ("a", "b"), [((), (3,)), ((3,), ()), ((3,), (2,)), ((2, 3), (2,)), ((2,), (3, 2)), ((2,), (2, 3, 2))]
)
def test_matmul_of_shapes_that_do_not_match(a, b):
    with pytest.raises(ValueError, match="matmul: "):
        mg.matmul(np.ones(a), np.ones(b))


@pytest.mark.parametrize("index", [0, np.int64(1), slice(1, 3), None, ..., (slice(None, None, -1), 2), (None, ..., 1)])
def test_basic_indices_give_views(index):
    x = np.arange(12.0).reshape(3, 4)
    assert np.shares_memory(mg.getitem(x, index), x)
    assert not np.shares_memory(mg.getitem(x, [0, 1]), x)


def test_an_index_that_changes_later_changes_nothing():
    x, index = mg.tensor(np.arange(4.0), requires_grad=True), np.array([0, 1])
    y = x[index, ...]
    index[:] = 3
    y.backward(np.ones(2))
    assert x.grad.tolist() == [1, 1, 0, 0]


def test_lists_as_indices():
    x = mg.tensor(np.arange(3.0))
    assert x[[]].shape == (0,)
    assert x[[True, False, True]].tolist() == [0, 2]
    assert mg.getitem(np.ones((3, 4)), (slice(None), [0, 2])).flags.c_contiguous


def test_a_view_hands_back_the_bits_of_its_cotangent():
    x = mg.tensor(np.ones(3), requires_grad=True)
    x[1:].backward(np.array([-0.0, 2.0]))
    assert np.signbit(x.grad.data).tolist() == [False, True, False]


def test_concatenating_one_array():
    x = mg.tensor(np.ones((2, 3)), requires_grad=True)
    mg.concatenate([x], axis=1).backward(np.arange(6.0).reshape(2, 3))
    assert x.grad.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_reshape_takes_sizes_in_any_form():
    x = mg.tensor(np.arange(6.0))
    for y in (
        x.reshape(2, 3),
        x.reshape((2, 3)),
        x.reshape([2, -1]),
        x.reshape(6).reshape(-1, 3),
        x.reshape(np.int64(2), 3),
    ):
        assert y.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert x.reshape(6).shape == x.reshape(-1).shape == (6,)


def test_thresholds_of_random_words():
    assert [_threshold(rate) for rate in (0, 0.25, 0.5, 1 - 2.0**-40)] == [0, 2**30, 2**31, 2**32 - 1]
    for rate in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match="rate must lie in"):
            _threshold(rate)


def test_axes_are_tuples_sorted_and_not_negative():
    assert [axes_of(3, axis) for axis in (None, -1, (2, -3), [1])] == [(0, 1, 2), (2,), (0, 2), (1,)]
    assert [inverse(axes) for axes in ((), (1, 2, 0), [-1, 0, -2])] == [(), (2, 0, 1), (1, 2, 0)]
    for axis in (3, -4, (0, 3)):
        with pytest.raises(np.exceptions.AxisError):
            axes_of(3, axis)


@pytest.mark.parametrize("kind", ["bool", "uint8", "int32", "int64", "uint64"])
@pytest.mark.parametrize("name", ["sum", "prod", "max", "cumsum", "sign", "abs"])
def test_integers_stay_integers_as_in_numpy(name, kind):
    x = np.array([[7, 0, 3], [1, 5, 9]]).astype(kind)
    if kind == "bool" and name == "sign":
        return  # neither has it
    want = getattr(np, name)(x)
    got = np.asarray(mg.REGISTRY[name](x))
    assert got.dtype == want.dtype
    assert got.tolist() == want.tolist()
    if name in ("sum", "prod"):
        assert np.asarray(mg.REGISTRY[name](x, ())).dtype == want.dtype


@pytest.mark.parametrize("kind", ["bool", "int8", "uint8", "int16", "int64"])
@pytest.mark.parametrize(
    "name",
    "cos elu erf exp expm1 gelu log log1p log_softmax logsumexp mean norm selu sigmoid silu sin softmax softplus sqrt "
    "std tanh var".split(),
)
def test_functions_of_integers_of_any_size_are_float64(name, kind):
    x = np.arange(1, 4).astype(kind)
    with formulas():
        got = np.asarray(mg.REGISTRY[name](x))
        assert got.dtype == np.float64
        assert got.tolist() == np.asarray(mg.REGISTRY[name](x.astype(np.float64))).tolist()


def test_functions_of_integers_are_float64():
    assert mg.mean(np.full(4, 2**62)) == 2.0**62  # their sum is no int64
    with formulas():
        assert mg.erf(np.arange(3)) == pytest.approx(special.erf(np.arange(3.0)), rel=1e-15)


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "sin", "cos", "tanh"])
def test_formulas_do_not_see_strides(name):
    x = np.random.default_rng(0).uniform(0.1, 3, 3000)[::-1]
    with formulas():
        assert mg.REGISTRY[name](x).tobytes() == mg.REGISTRY[name](x.copy()).tobytes()


@pytest.mark.skipif(not jit.AVAILABLE, reason="kernels are off (NUMBA_DISABLE_JIT)")
@pytest.mark.parametrize("n", [1024, 1025, 3 * 1024 + 1, 4 * 1024, 7 * 1024 - 1])
def test_blocks_are_combined_as_neighbours_by_formula_and_kernel(n):
    x = 1 + np.random.default_rng(n).standard_normal(n) / 100
    values = mg.sum(x), mg.prod(x)
    with formulas():
        assert (mg.sum(x), mg.prod(x)) == values


def test_terms_are_summed_in_the_order_of_the_array_whatever_that_of_the_axes():
    x = np.random.default_rng(0).standard_normal((17, 3, 19)).astype(np.float32)
    for mode in (blas, formulas):
        with mode():
            assert mg.sum(x, (0, 2)).tolist() == mg.sum(x, (-1, 0)).tolist()
            assert mg.logsumexp(x, (0, 2)).tolist() == mg.logsumexp(x, (-1, 0)).tolist()


def philox(counter, key):
    """Philox4x32-10 on Python's integers, of 128 and of 64 bits: a block of four words, the lowest first."""
    low = 2**32 - 1
    c, k = [counter >> shift & low for shift in (0, 32, 64, 96)], [key >> shift & low for shift in (0, 32)]
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [second >> 32 ^ c[1] ^ k[0], second & low, first >> 32 ^ c[3] ^ k[1], first & low]
        k = [k[0] + 0x9E3779B9 & low, k[1] + 0xBB67AE85 & low]
    return c


def test_random_words_are_those_of_philox():
    """Salmon et al. 2011; the three known answers are those of their Random123."""
    assert philox(0, 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox(2**128 - 1, 2**64 - 1) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    pi = 0x0370734413198A2E85A308D3243F6A88, 0x299F31D0A4093822
    assert philox(*pi) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]
    for key, count in [(0, 0), (3, 5), (2**40 + 5, 2**35 + 7), (2**62, 9), (-3, 2**31), (1, -2), (2**31, 2**63 - 1)]:
        blocks = [philox(count % 2**64 << 64 | block, key % 2**64) for block in range(50)]
        for size in (1, 4, 5, 6, 7, 130, 200):
            assert random_bits(key, count, size).tolist() == [word for block in blocks for word in block][:size]


@pytest.mark.parametrize("p", [1, 2, 3, 1.0, 2.0, 0.5, -1])
def test_powers_of_a_program_are_those_of_a_call(p):
    x = mg.tensor(np.linspace(0.5, 3, 7))
    power = mg.compile(lambda x: x**p)
    for _ in range(3):
        assert power(x).tolist() == (x**p).tolist() == pytest.approx(np.power(x.data, p))


def test_a_number_among_float32_is_a_float32():
    """A power of a number, or a number to a power, and their derivatives: bit by bit as float32 has them."""
    x = np.linspace(0.5, 3, 500, dtype=np.float32)
    base, power = (mg.tensor(x, requires_grad=True) for _ in "xp")
    y, z = base**2.5, mg.pow(1.7, power)
    (y.sum() + z.sum()).backward()
    assert y.data.tobytes() == np.power(x, np.float32(2.5)).tobytes()
    assert base.grad.data.tobytes() == (np.float32(2.5) * np.power(x, np.float32(1.5))).tobytes()
    assert power.grad.data.tobytes() == (z.data * np.float32(np.log(1.7))).tobytes()


@pytest.mark.skipif(not jit.AVAILABLE, reason="kernels are off (NUMBA_DISABLE_JIT)")
@pytest.mark.parametrize(
    ("name", "options", "launched"),
    [
        ("pow", {"p": 2}, ["square_loop"]),
        ("pow", {"p": 1}, ["mul_pairs"]),
        ("mean", {"axis": -1, "keepdims": True}, ["_sum", "div_pairs"]),
        ("mean", {"axis": 1}, ["_sum", "div_pairs"]),
    ],
)
def test_what_a_program_launches_for_powers_and_means(name, options, launched):
    x = np.linspace(-1, 1, 6).reshape(2, 3)
    y, launches = jit.recorded(mg.REGISTRY[name].native, (x,), options)
    assert [launch.kernel.__name__ for launch in launches] == launched
    assert y.shape == mg.REGISTRY[name](x, **options).shape


def test_without_decay_infinite_parameters_stay():
    h = np.array([0.1, 0.9, 0, 0, 0])
    for mode in (blas, formulas):
        with mode():
            p, q, buf = (mg.tensor(np.array(x)) for x in ([np.inf, 2.0], [-np.inf, 2.0], [0.0, 0.0]))
            mg.REGISTRY["sgd"](p, np.ones(2), h=h)
            mg.REGISTRY["sgd_momentum"](q, np.ones(2), buf, h=h)
            assert p.tolist() == [np.inf, 1.9]
            assert q.tolist() == [-np.inf, 1.9]


@pytest.mark.skipif(not jit.AVAILABLE, reason="kernels are off (NUMBA_DISABLE_JIT)")
def test_the_gradient_of_the_mean_square_is_the_kernels():
    a, b = (np.linspace(-1, k, 17, dtype=np.float32) for k in (1, 2))
    x = mg.tensor(a, requires_grad=True)
    mg.mse_loss(x, b).backward(np.float32(0.7))
    assert x.grad.data.tobytes() == ((a - b) * (np.float32(0.7) * np.float32(2 / 17))).tobytes()
    assert x.grad.data.tobytes() != ((a - b) * (2 * (np.float32(0.7) / np.float32(17)))).tobytes()


@pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
def test_hubers_loss_is_a_parabola_between_lines(delta):
    a, b = np.array([0.0, 1.0, -4.0, 0.25]), np.array([0.5, -1.0, 1.0, 0.25])
    h = [0.5 * d * d if abs(d) <= delta else delta * (abs(d) - delta / 2) for d in a - b]
    assert mg.huber_loss(a, b, "none", delta=delta).tolist() == pytest.approx(h)
    assert mg.huber_loss(a, b, "sum", delta=delta) == pytest.approx(sum(h))


def test_conventions_at_the_edge_of_a_case():
    """Where the two forms differ in the sign of a zero."""
    zeros = np.array([0.0, -0.0])
    for mode in (blas, formulas):
        with mode():
            for y in (mg.leaky_relu(zeros, -0.5), mg.elu(zeros, -0.5)):
                assert np.signbit(y).tolist() == [True, False]


@pytest.mark.parametrize("axis", [0, -1, (0, 2), None])
@pytest.mark.parametrize("keepdims", [False, True])
def test_means_of_a_program_are_those_of_a_call(axis, keepdims):
    x = mg.tensor(np.random.default_rng(0).normal(size=(3, 4, 5)))
    mean = mg.compile(lambda x: mg.mean(x, axis, keepdims))
    for _ in range(2):
        assert mean(x).tolist() == mg.mean(x, axis, keepdims).tolist()
    assert mean(x).data == pytest.approx(x.data.mean(axis, keepdims=keepdims))


def test_constant_slices_spread_by_nothing_whatever_the_others_are():
    rows = np.repeat(np.random.default_rng(0).normal(size=(20, 1)), 7, axis=1)
    assert not mg.var(rows, 1).any()
    assert not mg.std(rows, 1).any()


def test_dropout_keeps_what_is_at_its_threshold():
    word = next(int(w) for w in random_bits(1, 2, 100) if w < 2**31)
    args = np.ones(100), np.array([1]), np.array([2])
    kept = mg.dropout(*args, rate=word / 2**32)
    with formulas():
        assert mg.dropout(*args, rate=word / 2**32).tobytes() == kept.tobytes()
    assert kept[random_bits(1, 2, 100).tolist().index(word)] > 0
