"""What mutants.py asks besides the checks of minigrad.testing: the formulas of initializers, optimizers and modules,
written apart from the package, in plain Python and NumPy. Each function raises AssertionError where the package says
otherwise.

``REFERENCES[room]`` names what each of them is about: functions and classes, for mutants of them are what it judges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import init, nn, optim
from minigrad.optim import clipping, optimizers

INF = math.inf
SHAPES = (5, 8), (8, 5), (3, 3), (1, 6), (0, 4), (4, 0)
DTYPES = "float16", "float32", "float64"


def near(got: Any, want: Any, what: str, rtol: float = 1e-12, atol: float = 0.0) -> None:
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, not {want.shape}"
    assert np.allclose(got, want, rtol=rtol, atol=atol), f"{what}: {got.ravel()[:4]}, not {want.ravel()[:4]}"


def raises(kind: type[Exception], run: Callable[[], Any], *words: str) -> None:
    said = ""
    try:
        found = run()
    except kind as error:
        said = str(error)
    else:
        raise AssertionError(f"no {kind.__name__}, but {found!r}")
    assert all(word in said for word in words), f"{said!r} does not say {words}"


# Initializers: (kind, its numbers) for fans i and o


def flat(bound: float) -> tuple[Any, ...]:
    return "uniform", -bound, bound


def bell(std: float) -> tuple[Any, ...]:
    return "normal", 0.0, std


def cut(variance: float) -> tuple[Any, ...]:
    """Of that variance after the cut at two of its standard deviations."""
    std = math.sqrt(variance / (1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))))
    return "cut", 0.0, std, -2 * std, 2 * std


def over(numerator: float, fan: float) -> float:
    return math.sqrt(numerator / fan) if fan else 0.0


SCALING = init.variance_scaling
LAWS: list[tuple[init.Rule, Callable[[int, int], tuple[Any, ...]]]] = [
    (init.constant(0.3), lambda i, o: ("point", 0.3)),
    (init.zeros(), lambda i, o: ("point", 0.0)),
    (init.ones(), lambda i, o: ("point", 1.0)),
    (init.normal(), lambda i, o: ("normal", 0.0, 1.0)),
    (init.normal(1.0, 0.1), lambda i, o: ("normal", 1.0, 0.1)),
    (init.normal(1.0, 0.0), lambda i, o: ("normal", 1.0, 0.0)),
    (init.uniform(), lambda i, o: ("uniform", 0.0, 1.0)),
    (init.uniform(-0.5, 1.5), lambda i, o: ("uniform", -0.5, 1.5)),
    (init.truncated_normal(), lambda i, o: ("cut", 0.0, 1.0, -2.0, 2.0)),
    (init.truncated_normal(0.5, 2.0, -1.0, 7.0), lambda i, o: ("cut", 0.5, 2.0, -1.0, 7.0)),
    (init.truncated_normal(0.5, 2.0, 1.0, INF), lambda i, o: ("cut", 0.5, 2.0, 1.0, INF)),
    (init.truncated_normal(0.5, 2.0, -INF, 0.0), lambda i, o: ("cut", 0.5, 2.0, -INF, 0.0)),
    (SCALING(), lambda i, o: cut(1 / i) if i else bell(0.0)),
    (SCALING(3.0, "fan_out"), lambda i, o: cut(3 / o) if o else bell(0.0)),
    (SCALING(2.0, "fan_avg", "uniform"), lambda i, o: flat(over(12, i + o))),
    (SCALING(2.0, "fan_out", "normal"), lambda i, o: bell(over(2, o))),
    (SCALING(0.0), lambda i, o: bell(0.0)),
    (init.xavier_uniform(), lambda i, o: flat(over(6, i + o))),
    (init.xavier_uniform(-2.0), lambda i, o: flat(over(24, i + o))),
    (init.xavier_normal(), lambda i, o: bell(over(2, i + o))),
    (init.xavier_normal(-0.5), lambda i, o: bell(over(0.5, i + o))),
    (init.lecun_uniform(), lambda i, o: flat(over(3, i))),
    (init.lecun_normal(), lambda i, o: bell(over(1, i))),
    (init.kaiming_uniform(), lambda i, o: flat(over(6, i))),
    (init.kaiming_uniform(a=5**0.5), lambda i, o: flat(over(1, i))),
    (init.kaiming_uniform(0.5, "fan_out", "tanh"), lambda i, o: flat(5 / 3 * over(3, o))),
    (init.kaiming_normal(nonlinearity="relu"), lambda i, o: bell(over(2, i))),
    (init.kaiming_normal(1.0, "fan_out"), lambda i, o: bell(over(1, o))),
    (init.kaiming_normal(nonlinearity="selu"), lambda i, o: bell(0.75 * over(1, i))),
    (init.default(), lambda i, o: flat(over(1, i))),
]


def phi(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def moments(kind: str, *numbers: float) -> tuple[float, float, float, float]:
    """Mean, variance, low and high of a law; those of a cut normal by quadrature."""
    if kind == "point":
        return numbers[0], 0.0, numbers[0], numbers[0]
    if kind == "normal":
        return numbers[0], numbers[1] ** 2, -INF, INF
    if kind == "uniform":
        low, high = numbers
        return low + (high - low) / 2, (high - low) ** 2 / 12, low, high
    mean, std, low, high = numbers
    t, w = np.polynomial.legendre.leggauss(200)
    a, b = max(low, mean - 12 * std), min(high, mean + 12 * std)
    x = a + (b - a) * (t + 1) / 2
    w = w * np.exp(-(((x - mean) / std) ** 2) / 2)
    first = float(w @ x / w.sum())
    return first, float(w @ (x - first) ** 2 / w.sum()), low, high


def share(x: float, kind: str, *numbers: float) -> float:
    """The mass at or below x."""
    if kind == "normal":
        return phi((x - numbers[0]) / numbers[1])
    if kind == "uniform":
        low, high = numbers
        return min(max((x - low) / (high - low), 0.0), 1.0)
    mean, std, low, high = numbers
    inside = phi((min(max(x, low), high) - mean) / std) - phi((low - mean) / std)
    return inside / (phi((high - mean) / std) - phi((low - mean) / std))


def numbers_of(rng: np.random.Generator, shape: tuple[int, ...], kind: str, *numbers: float) -> np.ndarray:
    """What a generator gives, in float64: NumPy's own stream, elements in C order, rejected ones drawn again."""
    if kind == "point":
        return np.full(shape, numbers[0])
    if kind == "normal":
        return np.array([numbers[0] + numbers[1] * z for z in rng.standard_normal(math.prod(shape))]).reshape(shape)
    if kind == "uniform":
        return rng.uniform(*numbers, shape)
    mean, std, low, high = numbers
    found = [mean + std * z for z in rng.standard_normal(math.prod(shape))]
    while places := [i for i, x in enumerate(found) if not low <= x <= high]:
        for i, z in zip(places, rng.standard_normal(len(places)), strict=True):
            found[i] = mean + std * z
    return np.array(found).reshape(shape)


def by_law(rule: init.Rule, formula: Callable[[int, int], tuple[Any, ...]]) -> None:
    """Mean, variance, support, cdf and draws, for fans that the shape does not know of."""
    for i, o in ((7, 11), (11, 7), (1, 1), (0, 3), (3, 0), (0, 0)):
        kind = formula(i, o)
        mean, variance, low, high = moments(*kind)
        law = rule.law((5, 8), i, o)
        near([law.mean, law.variance], [mean, variance], f"mean and variance for fans {i}, {o}", 1e-9, 1e-15)
        near(law.support, (low, high), f"the support for fans {i}, {o}", 1e-12)
        std = math.sqrt(variance)
        x = [mean + std * z for z in (-4, -2, -1.5, -1, -0.3, 0, 0.4, 1, 1.7, 2, 4)]
        x += [b for b in (low, high) if math.isfinite(b)]
        if variance:
            near(law.cdf(np.array(x)), [share(v, *kind) for v in x], f"the cdf for fans {i}, {o}", 1e-9, 1e-12)
        else:
            assert kind[0] != "point" or law.cdf(np.array(x)) is None
        for shape in ((5, 8), (40,), (2, 3, 4), (0, 3)):
            want = numbers_of(np.random.default_rng(i), shape, *kind)
            for dtype in map(np.dtype, DTYPES):
                got = rule(np.random.default_rng(i), shape, i, o, dtype)
                assert got.dtype == dtype
                ulp = 2 * float(np.finfo(dtype).eps)
                size = max(abs(b) for b in (mean, std, low, high) if math.isfinite(b))
                near(got, want, f"draws of {dtype} for fans {i}, {o}", ulp, ulp * size)
    assert rule.breaks_symmetry == (moments(*formula(2, 2))[1] > 0), "breaks_symmetry"


def bounds() -> None:
    """No rounding leaves the bounds, and a bound that is a number of the dtype can be reached."""
    f16 = np.dtype(np.float16)
    for low, high in ((0.1, 0.3), (-0.3, -0.1), (float(np.float16(0.1)), float(np.float16(0.3)))):
        values = init.uniform(low, high)(np.random.default_rng(0), (20000,), 1, 1, f16).astype(float)
        inside = np.arange(65536, dtype=np.uint16).view(np.float16).astype(float)
        inside = inside[(inside >= low) & (inside <= high)]
        assert (values.min(), values.max()) == (inside.min(), inside.max()), (low, high)


class Given:
    """A generator of these normal numbers, and no others."""

    def __init__(self, *numbers: float) -> None:
        self.numbers = np.array(numbers)

    def standard_normal(self, size: Any) -> np.ndarray:
        found, self.numbers = self.numbers, np.zeros(0)
        return found.reshape(size)


def edges() -> None:
    """A truncated normal keeps its bounds: only what lies outside is drawn again."""
    got = init.truncated_normal(0.0, 1.0, -2.0, 2.0)(Given(-2.0, 1.0, 2.0), (3,), 1, 1, np.dtype(float))
    near(got, [-2, 1, 2], "bounds")


def orthogonal() -> None:
    for gain in (1.0, -2.0, 0.0):
        rule = init.orthogonal(gain)
        for shape in (*SHAPES, (0, 0), (4, 2, 3)):
            rows, columns = shape[0], math.prod(shape[1:])
            got = rule(np.random.default_rng(1), shape, 9, 9, np.dtype(float))
            few, many = min(rows, columns), max(rows, columns)
            q, r = np.linalg.qr(np.random.default_rng(1).standard_normal((many, few)))
            want = np.array([abs(gain) * (1 if r[k, k] >= 0 else -1) * q[:, k] for k in range(few)]).reshape(few, many)
            if gain:
                near(got, (want if rows < columns else want.T).reshape(shape), f"{rule!r}, {shape}", 1e-12, 1e-12)
            law = rule.law(shape, 9, 9)
            near([law.mean, law.variance], [0, gain**2 / max(many, 1)], f"the law of {rule!r}, {shape}")
            assert law.support == (-abs(gain), abs(gain))
        assert rule.breaks_symmetry == bool(gain)
    raises(ValueError, lambda: init.orthogonal()(np.random.default_rng(0), (3,), 1, 1, np.dtype(float)), "two axes")


def eye() -> None:
    for gain in (1.0, -2.5, 0.0):
        rule = init.eye(gain)
        for shape in SHAPES:
            rows, columns = shape
            want = np.array([[gain if i == j else 0.0 for j in range(columns)] for i in range(rows)]).reshape(shape)
            near(rule(np.random.default_rng(0), shape, 9, 9, np.dtype(float)), want, f"{rule!r}, {shape}")
            law = rule.law(shape, 9, 9)
            wanted = [want.mean(), want.var()] if want.size else [0, 0]
            near([law.mean, law.variance], wanted, f"the law of {rule!r}, {shape}", 1e-12, 1e-15)
            assert law.support == (min(gain, 0.0), max(gain, 0.0))
        assert rule.breaks_symmetry == bool(gain)
        assert rule.law((), 1, 1).mean == 0, "the law of a number, which it refuses to draw"


def sparse() -> None:
    for sparsity, std in ((0.9, 0.01), (0.3, 2.0), (0.0, 1.0), (1.0, 1.0), (0.25, 0.0)):
        rule = init.sparse(sparsity, std)
        for shape in ((20, 7), (7, 20), (4, 4), (1, 3), (0, 4), (4, 0)):
            none = math.ceil(sparsity * shape[0])
            law = rule.law(shape, 9, 9)
            kept = (shape[0] - none) / shape[0] if shape[0] else 0.0
            near([law.mean, law.variance], [0, std * std * kept], f"the law of {rule!r}, {shape}", 1e-12, 1e-18)
            got = rule(np.random.default_rng(2), shape, 9, 9, np.dtype(float))
            assert got.shape == shape
            if std:
                assert (np.sum(got == 0, axis=0) == none).all(), f"{rule!r}, {shape}: zeros"
            want = std * np.random.default_rng(2).standard_normal(shape)
            near(got[got != 0], want[got != 0], f"{rule!r}, {shape}")
        assert rule.breaks_symmetry == (sparsity < 1 and std > 0)
        assert rule.law((), 1, 1).variance == 0, "the law of a number, which it refuses to draw"
    places = np.mean(
        [init.sparse(0.5)(np.random.default_rng(s), (4, 2), 1, 1, np.dtype(float)) != 0 for s in range(400)], 0
    )
    assert (abs(places - 0.5) < 0.15).all(), "the places of zeros"
    raises(ValueError, lambda: init.sparse()(np.random.default_rng(0), (3,), 1, 1, np.dtype(float)), "two axes")


class Own(init.Rule):
    """A law that knows of everything that it is given."""

    def law(self, shape, fan_in, fan_out):
        return init.Uniform(fan_in - 1 / len(shape), fan_in + fan_out)


def own_rules() -> None:
    for shape in ((5, 8), (3, 2, 4), (6,)):
        want = numbers_of(np.random.default_rng(0), shape, "uniform", 7 - 1 / len(shape), 18)
        near(Own()(np.random.default_rng(0), shape, 7, 11, np.dtype(float)), want, "the law of one's own")
    assert Own().breaks_symmetry
    raises(NotImplementedError, lambda: init.Rule().law((2, 2), 2, 2), "law")
    raises(
        NotImplementedError, lambda: init.Law(0.0, 1.0).draw(np.random.default_rng(0), (2,), np.dtype(float)), "draw"
    )
    assert init.Law(0.0, 1.0).cdf(np.zeros(1)) is None


def arrays() -> None:
    values = np.array([[0.1, -2.0, 3.0], [0.1, 5.0, 3.0]])
    rule = init.get(values)
    values[0, 0] = 9
    assert isinstance(rule, init.array)
    assert rule.value[0, 0] == 0.1, "it copies"
    want = np.array([[0.1, -2.0, 3.0], [0.1, 5.0, 3.0]])
    near(rule(np.random.default_rng(0), (2, 3), 1, 1, np.dtype("float32")), want.astype("float32"), "an array")
    law = rule.law((2, 3), 3, 2)
    near([law.mean, law.variance, *law.support], [sum(want.ravel()) / 6, np.var(want), -2, 5], "its law")
    listed = init.array([1, 2])
    near(listed.law((2,), 1, 1).mean, 1.5, "the law of a list")
    near(listed(np.random.default_rng(0), (2,), 1, 1, np.dtype(float)), [1.0, 2.0], "a list")
    copied = init.array(values)
    values[0, 0] = 7
    assert copied.value[0, 0] == 9, "it copies"
    none = init.array(np.zeros((0, 2))).law((0, 2), 1, 1)
    assert (none.mean, none.variance, none.support) == (0, 0, (0, 0)), "the law of no numbers"
    raises(ValueError, lambda: rule(np.random.default_rng(0), (3, 2), 1, 1, np.dtype(float)), "shape")
    raises(TypeError, lambda: init.array(np.array(["a"])), "numbers")
    for rows, differ in (
        ([[1, 2], [1, 2]], False),
        ([[1, 2], [2, 1]], True),
        ([[1, 2], [1, 2], [1, 3]], True),
        ([3, 3, 3], False),
        ([3, 4], True),
        (7, False),
        ([[[1, 2], [3, 4]], [[1, 2], [3, 4]]], False),
        ([[[1, 2], [3, 4]], [[1, 2], [3, 5]]], True),
    ):
        assert init.array(np.array(rows)).breaks_symmetry is differ, rows


def what_get_takes() -> None:
    assert init.get(0.5) == init.constant(0.5)
    assert init.get(2) == init.get(np.float32(2)) == init.constant(2.0)
    assert isinstance(init.get(2).value, float)
    for name in init.NAMES:
        assert init.get(name) == getattr(init, name)()
    for values in ([1.0, 2.0], (1.0, 2.0), np.array([1.0, 2.0]), mg.tensor([1.0, 2.0])):
        rule = init.get(values)
        assert isinstance(rule, init.array)
        near(rule.value, [1.0, 2.0], "an array")

    def own(rng, shape, fan_in, fan_out, dtype):
        return np.zeros(shape, dtype)

    assert init.get(own) is own
    raises(ValueError, lambda: init.get("xavier_unifrom"), "xavier_uniform")
    for bad in (True, False, None, init.zeros):
        raises(TypeError, lambda bad=bad: init.get(bad), "initializer")


def what_draw_gives() -> None:
    seen: list[Any] = []

    def own(rng, shape, fan_in, fan_out, dtype):
        seen.append((rng, shape, fan_in, fan_out, dtype))
        return np.asfortranarray(rng.standard_normal(shape).astype(dtype))

    rng, dtype = np.random.default_rng(3), np.dtype("float32")
    got = init.draw(own, rng, (4, 2), 7, 11, dtype, "w")
    assert seen == [(rng, (4, 2), 7, 11, dtype)]
    assert got.flags.c_contiguous
    near(got, np.random.default_rng(3).standard_normal((4, 2)).astype("float32"), "what it drew")
    for bad, error in (
        (lambda *_: np.zeros((2, 4), "float32"), ValueError),
        (lambda *_: np.zeros((4, 2)), TypeError),
        (lambda *_: np.full((4, 2), np.inf, "float32"), ValueError),
        (lambda *_: 0.0, TypeError),
        (init.constant(1e300), ValueError),
    ):
        raises(error, lambda bad=bad: init.draw(bad, rng, (4, 2), 7, 11, dtype, "w"), "w: ")
    raises(ValueError, lambda: init.draw(init.array(np.zeros(3)), rng, (4, 2), 7, 11, dtype, "w"), "w: ")


def the_fans_of_a_shape() -> None:
    for shape, want in (((32, 64), (64, 32)), ((8, 3, 5, 5), (75, 200)), ((2, 3, 4), (12, 8)), ((0, 3), (3, 0))):
        assert init.fans(shape) == want, shape
    for shape in ((3,), ()):
        raises(ValueError, lambda shape=shape: init.fans(shape), "two axes")


def filling() -> None:
    """The in-place forms: one generator, the fans of the shape, the same tensor."""

    def check(fill: Any, *args: Any, kind: tuple[Any, ...], shape: tuple[int, ...] = (6, 3, 2)) -> None:
        t = mg.tensor(np.full(shape, 9.0), dtype="float64")
        memory = t.data
        assert fill(t, *args, rng=np.random.default_rng(4)) is t
        assert t.data is memory
        near(t.data, numbers_of(np.random.default_rng(4), shape, *kind), fill.__name__, 1e-12, 1e-15)

    i, o = 6, 12
    check(init.xavier_uniform_, kind=flat(over(6, i + o)))
    check(init.xavier_normal_, 2.0, kind=bell(over(8, i + o)))
    check(init.lecun_uniform_, kind=flat(over(3, i)))
    check(init.lecun_normal_, kind=bell(over(1, i)))
    check(init.kaiming_uniform_, kind=flat(over(6, i)))
    check(init.kaiming_normal_, 0.0, "fan_out", kind=bell(over(2, o)))
    check(init.default_, kind=flat(over(1, i)))
    check(init.variance_scaling_, kind=cut(1 / i))
    for shape in ((5,), (), (6, 3, 2)):
        check(init.normal_, 1.0, 0.5, kind=("normal", 1.0, 0.5), shape=shape)
        check(init.uniform_, -1.0, 2.0, kind=("uniform", -1.0, 2.0), shape=shape)
        check(init.trunc_normal_, kind=("cut", 0.0, 1.0, -2.0, 2.0), shape=shape)
        check(init.constant_, 0.3, kind=("point", 0.3), shape=shape)
        check(init.zeros_, kind=("point", 0.0), shape=shape)
        check(init.ones_, kind=("point", 1.0), shape=shape)
    one, two = (init.normal_(mg.tensor(np.zeros(4))).data for _ in range(2))
    assert (one != two).any(), "fresh entropy"
    near(init.eye_(mg.tensor(np.zeros((2, 3)))).data, np.eye(2, 3), "eye_")
    t = mg.tensor(np.zeros((2, 2)), requires_grad=True)
    raises(ValueError, lambda: init.constant_(t, INF), "tensor: ")
    t.name = "w"
    raises(ValueError, lambda: init.constant_(t, INF), "w: ")
    raises(ValueError, lambda: init.xavier_uniform_(mg.tensor(np.zeros(3))), "two axes")
    raises(TypeError, lambda: init.zeros_(np.zeros(3)), "Tensor")


def in_words() -> None:
    """What explain says of a law in a Linear(256, 128), where i = 256 and o = 128."""
    i, o = 256, 128
    for name, kind in (
        ("xavier_uniform", flat(over(6, i + o))),
        ("kaiming_normal", bell(over(2, i))),
        ("default", flat(over(1, i))),
        ("uniform", ("uniform", 0.0, 1.0)),
        ("ones", ("point", 1.0)),
        ("constant", ("point", 1.0)),
    ):
        text = init.explain(name)
        mean, variance, low, high = moments(*kind)
        std = math.sqrt(variance)
        law = f"mean {mean:.4g}, standard deviation {std:.4g}, between {low:.4g} and {high:.4g}."
        assert text.startswith(f"{name}("), text
        assert f"In a Linear(256, 128): {law}" in text, text
        assert ("breaks symmetry" in text) == bool(variance), text
        assert (getattr(init, name).__doc__ or "").split(".")[0] in text, text
    assert f"standard deviation {math.sqrt(1 / 256):.4g}, between -1 and 1" in init.explain("orthogonal")
    assert f"mean {1 / 256:.4g}" in init.explain("eye")
    kept = (128 - math.ceil(0.9 * 128)) / 128
    assert f"standard deviation {0.01 * math.sqrt(kept):.4g}" in init.explain("sparse")
    raises(ValueError, lambda: init.explain("ey"), "eye")


def bad_options() -> None:
    for make in (
        lambda: init.normal(0.0, -1.0),
        lambda: init.uniform(1.0, 0.0),
        lambda: init.truncated_normal(0.0, 1.0, 5.0, 6.0),
        lambda: init.truncated_normal(0.0, 0.0),
        lambda: SCALING(-1.0),
        lambda: init.kaiming_normal(mode="fan"),
        lambda: init.kaiming_normal(nonlinearity="rule"),
        lambda: init.sparse(2.0),
    ):
        raises(ValueError, make)
    init.truncated_normal(0.0, 1.0, 3.0, INF)  # 1.3e-3 of the normal


# Optimizers


def stepped(kind: str, p: Any, gradients: Any, **o: Any) -> Any:
    """The parameter after these steps."""
    m, v = 0 * p, 0 * p
    lr, decay, mu = o.get("lr", 1e-3), o.get("weight_decay", 0.0), o.get("momentum", 0.0)
    b1, b2 = o.get("betas", (0.9, 0.999))
    for t, g in enumerate(gradients, 1):
        if kind == "adamw":
            p = p - lr * decay * p
        else:
            g = g + decay * p
        if kind == "sgd":
            m = mu * m + (1 - o.get("dampening", 0.0)) * g
            p = p - lr * (g + mu * m if o.get("nesterov") else m)
            continue
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        p = p - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + o.get("eps", 1e-8))
    return p


CASES: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {"lr": 0.05}),
    ("sgd", {"lr": 0.05, "weight_decay": 0.1}),
    ("sgd", {"lr": 0.05, "momentum": 0.9}),
    ("sgd", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    ("adam", {}),
    ("adam", {"lr": 0.01, "betas": (0.5, 0.8), "eps": 0.1, "weight_decay": 0.2}),
    ("adamw", {"weight_decay": 0.01}),
    ("adamw", {"lr": 0.01, "betas": (0.8, 0.5), "eps": 0.1, "weight_decay": 0.2}),
]
KINDS = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}


def by_formula(*kinds: str) -> None:
    rng = np.random.default_rng(0)
    for kind, options in CASES:
        for dtype in ("float32", "float64") if kind in kinds else ():
            start = [rng.uniform(-2, 2, shape).astype(dtype) for shape in ((5, 7), ())]
            gradients = [[rng.uniform(-2, 2, a.shape).astype(dtype) for _ in range(12)] for a in start]
            given = dict(options)
            if kind == "adamw" and given == {"weight_decay": 0.01}:
                given = {}  # what it is made with
            params = [mg.tensor(a, requires_grad=True) for a in start]
            opt = KINDS[kind](params, **given)
            for step in range(12):
                for p, g in zip(params, gradients, strict=True):
                    p.grad = mg.tensor(g[step])
                opt.step()
            for p, a, g in zip(params, start, gradients, strict=True):
                want = stepped(kind, a.astype(float), [x.astype(float) for x in g], **options)
                tolerance = 64 * float(np.finfo(dtype).eps)
                near(p.data, want, f"{kind} {options} in {dtype}", tolerance, tolerance)


def dampened() -> None:
    """The vector h has a place for what the constructor does not offer."""
    p = mg.tensor(np.array([1.0, -2.0]), requires_grad=True)
    opt = optim.SGD([p], lr=0.1, momentum=0.9)
    state = opt.state_dict()
    assert state["h"].tolist() == [0.1, 0.9, 0, 0, 0]
    state["h"][4] = 0.25
    opt.load_state_dict(state)
    for _ in range(3):
        p.grad = mg.tensor(np.array([0.5, 1.0]))
        opt.step()
    gradients = [np.array([0.5, 1.0])] * 3
    want = stepped("sgd", np.array([1.0, -2.0]), gradients, lr=0.1, momentum=0.9, dampening=0.25)
    near(p.data, want, "dampening")


def hypers() -> None:
    """Hyper-parameters are read and written, and keep to their limits."""
    p = mg.tensor(np.array([1.0, -2.0]), requires_grad=True)
    for make, names in (
        (lambda: optim.SGD([p], lr=0.1, momentum=0.5), ("lr", "momentum", "weight_decay")),
        (lambda: optim.AdamW([p]), ("lr", "beta1", "beta2", "eps", "weight_decay")),
    ):
        opt = make()
        for name in names:
            for value in (0.25, 0, 0.0, np.float32(0.5), 0.999):
                setattr(opt, name, value)
                assert getattr(opt, name) == value, name
                assert type(getattr(opt, name)) is float
                assert f"{name}={float(value):g}" in repr(opt)
            fraction = name in ("momentum", "beta1", "beta2")
            for bad in (-1e-9, -0.5, math.nan, INF, *((1, 1.0, 1.5) if fraction else ())):
                raises(ValueError, lambda bad=bad, name=name, opt=opt: setattr(opt, name, bad), name)
                assert getattr(opt, name) == 0.999
            if not fraction:
                setattr(opt, name, 1.5)
                setattr(opt, name, 1)
                assert getattr(opt, name) == 1.0
            setattr(opt, name, mg.tensor(0.375))
            assert getattr(opt, name) == 0.375
            raises(TypeError, lambda name=name, opt=opt: setattr(opt, name, "much"), name)
        assert repr(opt).startswith(f"{type(opt).__name__}(1 parameters, lr=")
    adam = optim.Adam([p], betas=(0.3, 0.4))
    assert adam.betas == (0.3, 0.4)
    adam.betas = 0.5, 0.6
    assert (adam.beta1, adam.beta2) == (0.5, 0.6)
    assert adam.state_dict()["h"].tolist() == [1e-3, 0.5, 0.6, 1e-8, 0, 0, 1, 1]
    assert optim.AdamW([p]).state_dict()["h"].tolist() == [1e-3, 0.9, 0.999, 1e-8, 0.01, 1, 1, 1]
    assert list(optim.SGD([p], 0.1, 0.5).state_dict()) == ["h", "0.momentum"]
    assert list(optim.SGD([p], 0.1).state_dict()) == ["h"]
    assert isinstance(optim.SGD([p], 0.1).params, list)
    assert optim.SGD([p], 0.1, 0.5, nesterov=2).state_dict()["h"].tolist() == [0.1, 0.5, 0, 1, 0]
    assert optim.SGD([p], 0.1).state_dict()["h"].tolist() == [0.1, 0, 0, 0, 0]
    given = [p]
    assert optim.SGD(given, 0.1).params is not given, "a list of its own"
    assert optim.SGD(iter([p]), 0.1).params == [p]
    opt = optim.SGD([p], 0.1)
    opt.lr = Fraction(1, 4)
    assert opt.lr == 0.25

    class Mine(optim.Optimizer):
        rate = optimizers._Hyper(1, "be odd", lambda v: v % 2 == 1)

    assert (vars(Mine)["rate"].index, vars(Mine)["rate"].name, Mine.rate) == (1, "rate", vars(Mine)["rate"])
    mine = Mine([p], np.zeros(2), lr=0.5, rate=3)
    assert (mine.lr, mine.rate, repr(mine)) == (0.5, 3.0, "Mine(1 parameters, lr=0.5, rate=3)")
    raises(ValueError, lambda: setattr(mine, "rate", 2), "Mine: rate must be odd, got 2.0")
    raises(ValueError, lambda: optim.SGD([p], lr=0.1, nesterov=True), "nesterov")
    raises(ValueError, lambda: optim.SGD([p, p], lr=0.1), "twice")
    raises(ValueError, lambda: optim.SGD([], lr=0.1), "no parameters")
    raises(TypeError, lambda: optim.SGD(p, lr=0.1), "SGD")
    raises(ValueError, lambda: setattr(optim.SGD([p], lr=0.1), "momentum", 0.5), "momentum")


def schedules() -> None:
    """A rate that is computed inside a compiled step, from a counter that it writes, is that of the eager one."""

    def task() -> tuple[Any, Any, Callable[[], None]]:
        p, n = mg.tensor(np.array([1.0, -2.0]), requires_grad=True), mg.tensor(np.array(0.0))
        opt = optim.SGD([p], lr=0.1)

        def step() -> None:
            opt.zero_grad()
            (p * p).sum().backward()
            mg.assign(n, n + 1)
            opt.lr = 0.1 / n
            opt.step()

        return p, opt, step

    (p, _, eager), (q, opt, recorded) = task(), task()
    run = mg.compile(recorded)
    for t in range(1, 6):
        eager()
        run()
        assert abs(opt.lr - 0.1 / t) < 1e-12
        assert p.data.tobytes() == q.data.tobytes(), f"step {t}"
    want = np.array([1.0, -2.0])
    for t in range(1, 6):
        want = want - 0.1 / t * 2 * want
    near(p.data, want, "a rate of 0.1 / t")


def leaf(*values: float) -> Any:
    return mg.tensor(np.array(values), requires_grad=True)


def changes() -> None:
    """A compiled step sees what has been set on its optimizer since, whatever it is and whichever method is used."""
    for method in ("both", "step", "zero_grad"):
        p, q = leaf(1.0, -2.0), leaf(1.0, -2.0)
        opt = optim.SGD([p], lr=0.1)

        def body(opt: Any = opt, p: Any = p, q: Any = q, method: str = method) -> None:
            if method != "step":
                opt.zero_grad()
            ((p * p).sum() + (q * q).sum()).backward()
            if method != "zero_grad":
                opt.step()

        run = mg.compile(body)

        def ready(p: Any = p, q: Any = q, method: str = method) -> None:
            """As before each call: the guard of a recording must see nothing but the optimizer."""
            for x in (p, q):
                x.grad = None if method == "step" else mg.tensor(np.array([5.0, 7.0]))

        moves = 0.1 if method != "zero_grad" else 0.0
        kept = np.zeros(2) if method == "step" else np.array([5.0, 7.0])
        for taken, given, turn in ((p, q, 0), (q, p, 1)):
            if turn:
                opt.params = [taken]
            for _ in range(3):
                before, other = taken.data.copy(), given.data.copy()
                ready()
                run()
                near(given.grad.data, 2 * other + kept, f"{method}: the gradient of one that it has not")
                near(given.data, other, f"{method}: a parameter that it has not")
                near(taken.grad.data, 2 * before, f"{method}: the gradient of one that it has")
                near(taken.data, before - moves * 2 * before, f"{method}: a parameter that it has")


def gradients_from_outside() -> None:
    """A compiled step reads, and drops, the gradients that are there when it is called."""
    p = leaf(1.0, -2.0)
    opt = optim.SGD([p], lr=0.5)
    step, drop = mg.compile(lambda: opt.step()), mg.compile(lambda: opt.zero_grad())
    want = np.array([1.0, -2.0])
    for g in ([1.0, 0.0], [0.0, 2.0], [3.0, 3.0]):
        p.grad = mg.tensor(np.array(g))
        step()
        want = want - 0.5 * np.array(g)
        near(p.data, want, "a step by a gradient from outside")
        near(p.grad.data, g, "that gradient")
        drop()
        assert p.grad is None

    @mg.compile
    def both() -> None:
        opt.zero_grad()
        (3 * p).sum().backward()

    for _ in range(3):
        both()
        near(p.grad.data, [3.0, 3.0], "a gradient after one that has been dropped")
        p.grad = mg.tensor(np.array([9.0, 9.0]))
    assert len(both.recordings) == 1, "a gradient that is dropped unread need not be there"
    rate = mg.compile(lambda lr: setattr(opt, "lr", lr))
    for lr in (0.25, 0.125):
        rate(lr)
        assert opt.lr == lr


def frozen() -> None:
    """A parameter that has been frozen is left alone; one without a state is an error."""
    p, q, r = leaf(1.0), leaf(2.0), leaf(3.0)
    for opt in (optim.SGD([p, q], lr=0.5), optim.SGD([p, q], lr=0.5, momentum=0.9), optim.Adam([p, q])):
        p.requires_grad_(False)
        for x in (q, r):
            x.grad = mg.tensor(np.array([1.0]))
        before = q.data.copy()
        opt.step()
        assert p.data[0] == 1.0
        assert (q.data != before).all()
        opt.zero_grad()
        assert (p.grad, q.grad) == (None, None)
        p.requires_grad_()
        opt.params = [p, q, r]
        raises(ValueError, opt.step)


def clipping_by_hand() -> None:
    for dtype in ("float32", "float64"):
        for limit in (0.0, 0.5, 3.0, 12.99, 13.0, 13.01, 20.0, INF):
            arrays = [np.array([3.0, -4.0], dtype), np.array([[12.0]], dtype), np.zeros((0,), dtype)]
            params = [mg.tensor(0 * a, requires_grad=True) for a in arrays]
            for p, a in zip(params, arrays, strict=True):
                p.grad = mg.tensor(a)
            memory = [p.grad.data for p in params]
            without = mg.tensor(np.zeros(2), requires_grad=True)
            total = optim.clip_grad_norm(iter([*params, without]), limit)
            assert isinstance(total, mg.Tensor)
            near(total.data, 13.0, "the norm")
            assert total.dtype == np.float64
            factor = min(1.0, limit / 13)
            for p, a, where in zip(params, arrays, memory, strict=True):
                assert p.grad.data is where
                near(where, factor * a, f"limit {limit}", 4 * float(np.finfo(dtype).eps))
            assert without.grad is None
    p = mg.tensor(np.zeros(2), requires_grad=True)
    found = optim.clip_grad_norm([p], 1.0)
    assert isinstance(found, mg.Tensor)
    assert (found.shape, found.item()) == ((), 0.0)
    for bad in (math.nan, INF):
        p.grad = mg.tensor(np.array([1.0, bad]))
        assert not math.isfinite(optim.clip_grad_norm([p], 1.0).item())
        assert p.grad.data[0] == 1.0
        raises(RuntimeError, lambda: optim.clip_grad_norm([p], 1.0, error_if_nonfinite=True), "norm")
    for limit in (-1.0, math.nan):
        raises(ValueError, lambda limit=limit: optim.clip_grad_norm([p], limit), "max_norm")
    g = np.array([3.0, -4.0])
    clipping.shorten.fn(g, np.float64(5.0), 1.0)
    near(g, [0.6, -0.8], "shorten")


def writing() -> None:
    """put and advance, on vectors of their own."""
    h = mg.tensor(np.arange(8.0) + 2)
    optimizers.put(h, 0.5, 3)
    optimizers.put(h, mg.tensor(0.25), 7)
    near(h.data, [2, 3, 4, 0.5, 6, 7, 8, 0.25], "put")
    optimizers.advance(h)
    near(h.data, [2, 3, 4, 0.5, 6, 7, 24, 1.0], "advance")
    for formula, operands, want in (
        (optimizers.put.fn, (1.5, 0), [1.5, 3, 4, 5, 6, 7, 8, 9]),
        (optimizers.advance.fn, (), [2, 3, 4, 5, 6, 7, 24, 36]),
    ):
        h = np.arange(8.0) + 2
        formula(h, *operands)
        near(h, want, "a formula")


# Modules


X = np.array([[0.7, -1.2, 0.4], [1.1, 0.3, -0.6], [-0.8, 0.9, 1.3], [0.2, -0.5, 2.1]])


def elementwise(f: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.array([f(v) for v in x.ravel()]).reshape(x.shape)


def shares(x: np.ndarray, axis: int) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(axis, keepdims=True)


ALPHA, LAMBDA = 1.6732632423543772, 1.0507009873554805
ROOT = math.sqrt(2 / math.pi)
FUNCTIONS: dict[str, tuple[Callable[[], nn.Module], Callable[[np.ndarray], np.ndarray]]] = {
    "Tanh": (nn.Tanh, elementwise(math.tanh)),
    "Sigmoid": (nn.Sigmoid, elementwise(lambda v: 1 / (1 + math.exp(-v)))),
    "ReLU": (nn.ReLU, elementwise(lambda v: max(v, 0.0))),
    "LeakyReLU": (nn.LeakyReLU, elementwise(lambda v: v if v > 0 else 0.01 * v)),
    "LeakyReLU 0.3": (lambda: nn.LeakyReLU(0.3), elementwise(lambda v: v if v > 0 else 0.3 * v)),
    "ELU": (nn.ELU, elementwise(lambda v: v if v > 0 else math.expm1(v))),
    "ELU 0.3": (lambda: nn.ELU(0.3), elementwise(lambda v: v if v > 0 else 0.3 * math.expm1(v))),
    "SELU": (nn.SELU, elementwise(lambda v: LAMBDA * (v if v > 0 else ALPHA * math.expm1(v)))),
    "GELU": (nn.GELU, elementwise(lambda v: v * phi(v))),
    "GELU tanh": (
        lambda: nn.GELU("tanh"),
        elementwise(lambda v: 0.5 * v * (1 + math.tanh(ROOT * (v + 0.044715 * v**3)))),
    ),
    "SiLU": (nn.SiLU, elementwise(lambda v: v / (1 + math.exp(-v)))),
    "Softplus": (nn.Softplus, elementwise(lambda v: math.log1p(math.exp(v)))),
    "Softmax": (nn.Softmax, lambda x: shares(x, -1)),
    "Softmax 0": (lambda: nn.Softmax(0), lambda x: shares(x, 0)),
    "LogSoftmax": (nn.LogSoftmax, lambda x: np.log(shares(x, -1))),
    "LogSoftmax 0": (lambda: nn.LogSoftmax(0), lambda x: np.log(shares(x, 0))),
    "Identity": (nn.Identity, lambda x: x),
    "Flatten": (nn.Flatten, lambda x: x.reshape(len(x), -1)),
    "Flatten 0": (lambda: nn.Flatten(0), np.ravel),
    "Flatten 2": (lambda: nn.Flatten(2), lambda x: x.reshape(*x.shape[:2], -1)),
}


def function(make: Callable[[], nn.Module], f: Callable[[np.ndarray], np.ndarray]) -> None:
    for x in (X, X.reshape(2, 2, 3)):
        got = make()(mg.tensor(x))
        near(got.data, f(x), "the output", 1e-13, 1e-13)
        assert all(type(n) is int for n in got.shape)


def linear_layers() -> None:
    layer = nn.Linear(np.int64(3), 2, weight_init=np.arange(6.0).reshape(2, 3), bias_init=[0.5, -1.0], dtype="float64")
    assert (layer.in_features, layer.out_features) == (3, 2)
    assert layer.weight.shape == (2, 3)
    assert layer.bias is not None
    assert layer.weight.dtype == layer.bias.dtype == np.float64
    near(layer(mg.tensor(X)).data, X @ np.arange(6.0).reshape(2, 3).T + np.array([0.5, -1.0]), "x Wᵀ + b")
    bare = nn.Linear(3, 2, bias=False, weight_init="ones", dtype="float64")
    assert bare.bias is None
    near(bare(mg.tensor(X)).data, np.stack([X.sum(1), X.sum(1)], 1), "x Wᵀ")
    assert [name for name, _ in bare.named_parameters()] == ["weight"]
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    seen: list[Any] = []

    def own(rng, shape, fan_in, fan_out, dtype):
        seen.append((shape, fan_in, fan_out, str(dtype)))
        return np.zeros(shape, dtype)

    nn.Linear(5, 4, weight_init=own, bias_init=own)
    assert seen == [((4, 5), 5, 4, "float32"), ((4,), 5, 4, "float32")]
    wide = nn.Linear(100, 400)
    assert wide.bias is not None
    for p in wide.parameters():
        assert 0.095 < abs(p.data).max() <= 0.1, "±1/√100"
        assert p.data.min() < -0.09
    one, two = nn.Linear(3, 4), nn.Linear(3, 4)
    assert (one.weight.data != two.weight.data).any(), "fresh entropy"
    raises(TypeError, lambda: nn.Linear(2.5, 2), "in_features")
    raises(TypeError, lambda: nn.Linear(2, "2"), "out_features")
    raises(ValueError, lambda: nn.Linear(2, -1), "out_features")
    raises(ValueError, lambda: nn.Linear(2, 1, bias=False, bias_init=0.0), "bias")
    assert nn.Linear(0, 2).weight.shape == (2, 0)
    assert nn.Linear(2, 0).weight.shape == (0, 2)


class Notes(nn.Module):
    """It leaves a note on the network that it is part of, while that runs."""

    def __init__(self, net: list[Any]) -> None:
        self.note: Callable[[Any], None] = lambda x: setattr(net[0], "latest", x.shape)

    def forward(self, x: Any) -> Any:
        self.note(x)
        return x


def sequences() -> None:
    a, b, c = nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)
    net = nn.Sequential(a, b, out=c)
    assert (len(net), list(net)) == (3, [a, b, c])
    assert [name for name, _ in net.named_modules()] == ["", "0", "1", "out"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "out.weight", "out.bias"]
    assert net[0] is net["0"] is net[-3] is a
    assert net[2] is net["out"] is net[-1] is net.out is c
    for where, names in ((slice(1, None), ["1", "out"]), (slice(None, None, 2), ["0", "out"]), (slice(0, 0), [])):
        part = net[where]
        assert type(part) is nn.Sequential
        assert [name for name, _ in part.named_modules()][1:] == names
        assert list(part) == [net[name] for name in names]
    assert net[:2]["0"] is a
    x = X.astype("float32")
    want = np.tanh(x @ a.weight.data.T + a.bias.data) @ c.weight.data.T + c.bias.data
    near(net(mg.tensor(x)).data, want, "one after the other", 1e-5, 1e-6)
    net.spare = [nn.Tanh()]  # a list of modules is part of it, and no layer
    net.note = 3
    assert (len(net), list(net)) == (3, [a, b, c])
    near(net(mg.tensor(x)).data, want, "with other attributes", 1e-5, 1e-6)
    raises(IndexError, lambda: net[3], "3")
    raises(KeyError, lambda: net["in"], "in")
    raises(TypeError, lambda: nn.Sequential(mg.tanh), "layer 0")
    raises(TypeError, lambda: nn.Sequential(nn.Tanh), "Tanh")
    raises(ValueError, lambda: nn.Sequential(forward=nn.Tanh()), "forward")
    assert nn.Sequential()(5) == 5
    held: list[Any] = []
    noted = nn.Sequential(Notes(held), nn.Tanh())
    held.append(noted)
    near(noted(mg.tensor(X)).data, np.tanh(X), "a layer that writes on the network")
    assert noted.latest == X.shape


def dropping() -> None:
    drop = nn.Dropout(0.25)
    assert (drop.rate, drop.training) == (0.25, True)
    drop.reset(np.random.default_rng(5))
    assert drop.key.tolist() == [int(np.random.default_rng(5).integers(2**63))]
    assert (drop.count.tolist(), drop.key.dtype, drop.count.dtype) == ([0], np.int64, np.int64)
    masks = []
    for call in range(1, 4):
        x = np.full((50, 40), 3.0)
        got = drop(mg.tensor(x)).data
        assert drop.count.tolist() == [call]
        assert set(got.ravel().tolist()) == {0.0, 4.0}
        assert abs((got == 0).mean() - 0.25) < 0.06
        near(
            mg.dropout(mg.tensor(x), drop.key, mg.tensor(np.array([call])), 0.25).data, got, f"the mask of call {call}"
        )
        masks.append((got == 0).tobytes())
    assert len(set(masks)) == 3, "each call has a mask of its own"
    drop.reset(np.random.default_rng(5))
    assert (drop(mg.tensor(x)).data == 0).tobytes() == masks[0]
    drop.eval()
    near(drop(mg.tensor(X)).data, X, "in evaluation")
    assert drop.count.tolist() == [1]
    assert nn.Dropout().rate == 0.5
    keys = {nn.Dropout().key.data.item() for _ in range(8)}
    assert len(keys) == 8, "fresh entropy"
    assert [*nn.Dropout().state_dict()] == ["key", "count"]
    assert nn.Dropout().count.tolist() == [0]
    raises(ValueError, lambda: nn.Dropout(1.0), "rate")
    raises(ValueError, lambda: nn.Dropout(-0.1), "rate")
    leaf = mg.tensor(X, requires_grad=True)
    layer = nn.Dropout(0.25)
    layer.reset(np.random.default_rng(5))
    one, two = layer(leaf), layer(leaf)
    (one + two).sum().backward()
    near(leaf.grad.data, (one.data + two.data) / X, "the gradient of two calls")


Check = tuple[tuple[Any, ...], Callable[[], None]]


def _bound(f: Callable[..., None], *args: Any) -> Callable[[], None]:
    return lambda: f(*args)


FILLS = tuple(getattr(init, name) for name in init.__all__ if name.endswith("_"))
ADAM, SGD = (optim.Adam, optim.AdamW), (optim.SGD,)
REFERENCES: dict[str, dict[str, Check]] = {
    "initializers": {
        **{f"the law of {rule!r}": ((type(rule),), _bound(by_law, rule, f)) for rule, f in LAWS},
        "bounds": ((init.uniform,), bounds),
        "edges": ((init.truncated_normal,), edges),
        "orthogonal by QR": ((init.orthogonal,), orthogonal),
        "the identity": ((init.eye,), eye),
        "zeros and the rest": ((init.sparse,), sparse),
        "rules of one's own": ((Own,), own_rules),
        "arrays": ((init.array,), arrays),
        "get": ((init.get,), what_get_takes),
        "draw": ((init.draw,), what_draw_gives),
        "fans": ((init.fans,), the_fans_of_a_shape),
        "in-place forms": (FILLS, filling),
        "explain": ((init.explain,), in_words),
        "bad options": (
            (init.normal, init.uniform, init.truncated_normal, SCALING, init.kaiming_normal, init.sparse),
            bad_options,
        ),
    },
    "optimizers": {
        "SGD by formula": (SGD, _bound(by_formula, "sgd")),
        "Adam by formula": (ADAM, _bound(by_formula, "adam", "adamw")),
        "dampening": (SGD, dampened),
        "hyper-parameters": ((*SGD, *ADAM, optimizers._size, optimizers._fraction, optimizers._Hyper), hypers),
        "schedules": ((*SGD, optimizers._Hyper, optimizers.put), schedules),
        "changes": ((*SGD, *ADAM), changes),
        "gradients from outside": ((*SGD, *ADAM), gradients_from_outside),
        "frozen parameters": ((*SGD, *ADAM), frozen),
        "clipping": ((optim.clip_grad_norm, clipping.shorten), clipping_by_hand),
        "put and advance": ((optimizers.put, optimizers.advance), writing),
    },
    "modules": {
        **{f"{name} by formula": ((type(make()),), _bound(function, make, f)) for name, (make, f) in FUNCTIONS.items()},
        "linear layers": ((nn.Linear,), linear_layers),
        "sequences": ((nn.Sequential,), sequences),
        "dropping": ((nn.Dropout,), dropping),
    },
}
