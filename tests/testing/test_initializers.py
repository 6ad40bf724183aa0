"""Right initializers pass; wrong ones do not, and by the property that is meant to see it."""

import math

import numpy as np
import pytest
import scipy.stats

from minigrad import init, testing

RULES = [init.get(name) for name in init.NAMES]
RULES += [init.constant(0.1), init.get(np.arange(6.0).reshape(2, 3)), init.orthogonal(-2.0)]
RULES += [init.normal(1.0, 0.1), init.uniform(-0.5, 1.5), init.truncated_normal(0.5, 2.0, -1.0, 7.0)]
RULES += [init.kaiming_normal(mode="fan_out", nonlinearity="tanh"), init.kaiming_uniform(a=math.sqrt(5))]
RULES += [init.variance_scaling(2.0, mode, how) for mode, how in (("fan_avg", "uniform"), ("fan_out", "normal"))]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_every_initializer_passes(rule):
    report = testing.check_initializer(rule)
    assert report, report
    assert len(report.properties) >= 7


def mutant(change):
    """An initializer that draws what ``change(rng, shape, fan_in, fan_out)`` says, and nothing for no elements."""

    def rule(rng, shape, fan_in, fan_out, dtype):
        values = change(rng, shape, fan_in, fan_out) if math.prod(shape) else np.zeros(shape)
        return np.asarray(values).astype(dtype)

    return rule


def refuses_empty_shapes(rng, shape, fan_in, fan_out, dtype):
    return (rng.normal(size=shape)).astype(dtype) if min(shape) else 1 / 0


def inverse_cdf(rng, shape, fan_in, fan_out):
    """A truncated normal whose tails pile up at its bounds."""
    x = scipy.stats.truncnorm.ppf(rng.uniform(size=shape), -2, 2)
    return np.where(np.abs(x) > 1.999, np.copysign(2.0, x), x)


def outliers(rng, shape, fan_in, fan_out):
    """The distribution is right in all but one element of a thousand."""
    z = rng.standard_normal(shape)
    return np.where(rng.uniform(size=shape) < 1e-3, 4 * z, z)


def unsigned(rng, shape, fan_in, fan_out):
    q, _ = np.linalg.qr(rng.standard_normal((max(shape), min(shape))))
    return q if shape[0] >= shape[1] else q.T


class Unsigned(init.orthogonal):
    def __call__(self, rng, shape, fan_in, fan_out, dtype):
        return unsigned(rng, shape, fan_in, fan_out).astype(dtype)


xavier, he = init.xavier_uniform(), init.kaiming_uniform(nonlinearity="relu")
MUTANTS = {
    "swapped fans": (lambda r, s, i, o: init.default()(r, s, o, i, np.dtype(float)), init.default(), "variance"),
    "swapped fans of a normal": (
        lambda r, s, i, o: r.normal(0, math.sqrt(1 / o), s),
        init.lecun_normal(),
        "distribution",
    ),
    "no root of 2": (lambda r, s, i, o: r.uniform(-1, 1, s) * math.sqrt(3 / i), he, "extremes"),
    "no root of 3": (lambda r, s, i, o: r.uniform(-1, 1, s) * math.sqrt(2 / i), he, "variance"),
    "variance as standard deviation": (lambda r, s, i, o: r.normal(0, 1 / i, s), init.lecun_normal(), "variance"),
    "[0, a) for ±a": (lambda r, s, i, o: r.uniform(0, 1, s) * math.sqrt(6 / (i + o)), xavier, "mean"),
    "normal for uniform": (lambda r, s, i, o: r.normal(0, math.sqrt(2 / (i + o)), s), xavier, "support"),
    "uniform for normal": (lambda r, s, i, o: r.uniform(-1, 1, s) * math.sqrt(3 / i), init.lecun_normal(), "kurtosis"),
    "truncation without correction": (
        lambda r, s, i, o: init.truncated_normal(0, i**-0.5, -2 * i**-0.5, 2 * i**-0.5)(r, s, i, o, np.dtype(float)),
        init.variance_scaling(),
        "variance",
    ),
    "fan in too large by one": (lambda r, s, i, o: r.uniform(-1, 1, s) / math.sqrt(i + 1), init.default(), "extremes"),
    "fan in too small by one": (lambda r, s, i, o: r.uniform(-1, 1, s) / math.sqrt(i - 1), init.default(), "support"),
    "mass at the bounds": (inverse_cdf, init.truncated_normal(), "no mass at the bounds"),
    "outliers": (outliers, init.normal(), "kurtosis"),
    "the same numbers always": (
        lambda r, s, i, o: np.random.default_rng(0).standard_normal(s),
        init.normal(),
        "other seed, other bytes",
    ),
    "its own entropy": (
        lambda r, s, i, o: np.random.default_rng().normal(size=s),
        init.normal(),
        "same seed, same bytes",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_die(name):
    change, original, sees = MUTANTS[name]
    report = testing.check_initializer(mutant(change), law=original.law)
    assert not report
    assert sees in [p.name for p in report.properties if p.verdict == "fail"], report


def test_an_orthogonal_matrix_without_the_correction_of_signs_dies():
    report = testing.check_initializer(Unsigned())
    assert [p.name for p in report.properties if p.verdict == "fail"] == ["both signs"]


class Claim(init.Law):
    """A law with the cdf of another."""

    def __init__(self, mean, variance, support, cdf):
        super().__init__(mean, variance, support)
        object.__setattr__(self, "below", cdf)

    def cdf(self, x):
        return self.below(x)


@pytest.mark.parametrize(
    "claim",
    [
        (0.01, 1 / 3, (-1, 1), 1),
        (0, 0.34, (-1, 1), 1),
        (0, 0.33, (-1, 1), 1),
        (0, 1 / 3, (-1, 1.01), 0.99),
        (0, 1 / 3, (-0.99, 1), 1),
        (0, 1 / 3, (-1, 1), 1.01),
        (2, 1 / 3, (-1, 1), 1),
        (0, 1.1, (-1, 1), 1),
    ],
)
def test_a_law_that_contradicts_its_cdf_dies(claim):
    *claimed, most = claim
    law = Claim(*claimed, lambda x: most * np.clip((x + 1) / 2, 0, 1))
    report = testing.check_initializer(mutant(lambda r, s, i, o: r.uniform(-1, 1, s)), law=lambda *_: law)
    assert [p.verdict for p in report.properties if p.name == "law"] == ["fail"], report


def test_a_law_with_heavy_tails_does_not_contradict_itself():
    t = scipy.stats.t(3)
    law = Claim(0.0, 3.0, (-math.inf, math.inf), t.cdf)
    report = testing.check_initializer(mutant(lambda r, s, i, o: r.standard_t(3, s)), law=lambda *_: law)
    assert [p.verdict for p in report.properties if p.name == "law"] == ["pass"], report


@pytest.mark.parametrize(("mean", "variance"), [(0.5, 0.25), (0.6, 0.25), (0.5, 0.26), (0.5, 0.24)])
def test_a_law_without_a_cdf_is_held_to_mean_and_variance(mean, variance):
    """Elements that depend on each other, as those of a row do."""
    rows = mutant(lambda r, s, i, o: np.broadcast_to(r.integers(0, 2, (s[0], 1)), s))
    report = testing.check_initializer(rows, law=lambda *_: init.Law(mean, variance))
    assert bool(report) == ((mean, variance) == (0.5, 0.25)), report
    assert [p.name for p in report.properties if p.verdict == "fail"] in ([], ["mean and variance"])


@pytest.mark.parametrize(("rule", "says"), [(init.normal(), False), (init.ones(), True)])
def test_a_wrong_word_about_symmetry_dies(rule, says):
    kind = type("Says", (type(rule),), {"breaks_symmetry": says})
    assert [p.name for p in testing.check_initializer(kind()).properties if p.verdict == "fail"] == ["symmetry"]


def test_fans_that_are_guessed_from_the_shape_die():
    rule = mutant(lambda r, s, i, o: r.uniform(-1, 1, s) / math.sqrt(s[1]))
    report = testing.check_initializer(rule, law=init.default().law)
    assert [p.name for p in report.properties if p.verdict == "fail"] == ["fans"]


def test_float32_only_and_bad_rounding_die():
    report = testing.check_initializer(lambda rng, shape, *fans: np.zeros(shape, "float32"))
    assert [p.name for p in report.properties if p.verdict == "fail"] == [
        "float16: shape, dtype, finite",
        "float64: shape, dtype, finite",
    ]
    high = float(np.float16(0.1)) - 1e-9  # float16 rounds it up
    law = init.uniform(-high, high).law
    report = testing.check_initializer(mutant(lambda r, s, i, o: r.uniform(-high, high, s)), law=law)
    assert [p.name for p in report.properties if p.verdict == "fail"] == ["bounds after rounding"]


def test_an_initializer_that_refuses_empty_shapes_dies():
    report = testing.check_initializer(refuses_empty_shapes)
    assert [p.name for p in report.properties if p.verdict == "fail"] == ["zero-size shapes"]


def test_what_says_nothing_of_its_law():
    report = testing.check_initializer(mutant(lambda r, s, i, o: r.normal(size=s)))
    assert report
    assert [p.verdict for p in report.properties if p.name == "law"] == ["n/a"]


def test_a_report():
    report = testing.Report("x < y", [testing.Property("small", "fail", "3 > 2"), testing.Property("finite", "pass")])
    assert not report
    assert str(report).splitlines() == ["x < y", "small   fail  0  3 > 2", "finite  pass  0"]
    assert "x &lt; y" in report._repr_html_()


@pytest.mark.intense
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_every_initializer_passes_at_large(rule):
    assert testing.check_initializer(rule, shape=(70, 110), seeds=400)
