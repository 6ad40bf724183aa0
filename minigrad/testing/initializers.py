"""Statistical tests of an initializer that never flake: each bound is exact, and fails once in 1/α runs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad import init
from minigrad.init import Initializer, Law
from minigrad.testing.bits import NotApplicableError, attempt, need, sentence
from minigrad.testing.report import Property, Report, Verdict

Array = NDArray[Any]
Found = tuple[Verdict, str]

_DTYPES = ("float16", "float32", "float64")
_FIXED = (init.array, init.eye)
#: Where the integrals over a law without bounds end, in standard deviations: beyond lie 1e-33 of a normal's mass.
_REACH = 12.0


def check_initializer(
    rule: Any,
    *,
    law: Callable[[tuple[int, ...], int, int], Law] | None = None,
    shape: tuple[int, int] = (24, 40),
    seeds: int = 200,
    alpha: float = 1e-9,
    seed: int = 0,
) -> Report:
    """Whether an initializer does what it says: shapes, dtypes, determinism, and the distribution of what it draws.

    ``rule`` is anything that ``init.get`` takes. ``law(shape, fan_in, fan_out)``, its own unless given, says what to
    expect. ``seeds`` weights of ``shape`` (out, in) are drawn in float64, others for another ``seed``; let the shape
    not be square, or swapped fans pass. Each statistical property fails with probability ``alpha`` at most if the
    initializer is right: by the bound of Dvoretzky, Kiefer and Wolfowitz for the distribution, by Bernstein's for mean,
    variance and kurtosis, and by exact probabilities for the extremes. Without a law those are "n/a".

    >>> from minigrad import init
    >>> bool(check_initializer(init.xavier_uniform()))
    True
    >>> half = check_initializer(init.xavier_uniform(0.5), law=init.xavier_uniform().law)
    >>> [p.name for p in half.properties if p.verdict == "fail"]
    ['distribution', 'variance', 'kurtosis', 'extremes', 'fans']
    """
    found = init.get(rule)
    if isinstance(found, init.array) and found.value.ndim == 2:
        shape = found.value.shape
    expected = law or getattr(found, "law", None)
    properties = list(_structure(found, shape, expected))
    if all(p.verdict != "fail" for p in properties):
        properties.append(attempt("symmetry", functools.partial(_symmetry, found, shape)))
        if expected is None:
            properties.append(Property("law", "n/a", "the initializer does not say what it draws from"))
        else:
            stated, turns = expected(shape, shape[1], shape[0]), range(seed * seeds, (seed + 1) * seeds)
            properties.append(attempt("law", functools.partial(_consistent, stated)))
            values = np.stack([_drawn(found, shape, "float64", i) for i in turns])
            properties += _statistics(found, values, stated, alpha)
            properties.append(_rounded(found, shape, stated))
            properties.append(attempt("fans", functools.partial(_fans, found, shape, expected, turns[::4], alpha)))
    return Report(repr(found), properties)


def _drawn(rule: Initializer, shape: tuple[int, ...], dtype: str, seed: int, fans: Any = None) -> Array:
    """What the initializer draws; whatever is wrong with it is raised."""
    fan_in, fan_out = fans or (shape[1], shape[0])
    return init.draw(rule, np.random.default_rng(seed), shape, fan_in, fan_out, np.dtype(dtype), "weight")


def _runs(rule: Initializer, shape: tuple[int, ...], dtype: str) -> None:
    _drawn(rule, shape, dtype, 0)


def _structure(rule: Initializer, shape: tuple[int, ...], law: Callable[..., Law] | None) -> Iterator[Property]:
    for dtype in _DTYPES:
        yield attempt(f"{dtype}: shape, dtype, finite", functools.partial(_runs, rule, shape, dtype))

    def empty() -> None:
        if isinstance(rule, init.array):
            raise NotApplicableError("it is of one shape")
        for none in ((0, 4), (4, 0), (0, 0)):
            _drawn(rule, none, "float32", 0)

    yield attempt("zero-size shapes", empty)
    name = "same seed, same bytes"
    try:
        one, two, other = (_drawn(rule, shape, "float32", seed).tobytes() for seed in (0, 0, 1))
    except Exception as error:  # of a user's code, as in attempt
        yield Property(name, "fail", sentence(error))
        return
    yield Property(name, "pass" if one == two else "fail", examples=2)
    random = law is not None and law(shape, shape[1], shape[0]).variance > 0 and not isinstance(rule, _FIXED)
    if random:
        yield Property("other seed, other bytes", "pass" if one != other else "fail", examples=2)
    else:
        yield Property("other seed, other bytes", "n/a", "it does not say that it draws anything")


def _symmetry(rule: Initializer, shape: tuple[int, ...]) -> None:
    """``breaks_symmetry``, where an initializer has it, says whether the units (rows) of a weight differ."""
    says = getattr(rule, "breaks_symmetry", None)
    if says is None:
        raise NotApplicableError("it does not say whether it breaks symmetry")
    if min(shape) == 0 or shape[0] < 2:
        raise NotApplicableError("a weight of this shape has no two units")
    rows = _drawn(rule, shape, "float64", 0).reshape(shape[0], -1)
    differ = bool((rows != rows[0]).any())
    need(bool(says) == differ, f"breaks_symmetry is {says}, but units {'differ' if differ else 'are all the same'}")


def _consistent(law: Law) -> None:
    """A law's mean, variance and support are those of its own cdf, which grows from 0 to 1."""
    low, high = law.support
    blur = 16 * float(np.finfo(float).eps) * abs(law.mean)
    need(low - blur <= law.mean <= high + blur, f"the mean {law.mean:.6g} lies outside of [{low:.6g}, {high:.6g}]")
    if law.variance:  # at most what Bhatia and Davis say
        most = (high - law.mean + blur) * (law.mean - low + blur) * (1 + 1e-12)
        need(law.variance <= most, f"the variance {law.variance:.6g} is more than [{low:.6g}, {high:.6g}] allows")
    if not law.variance or law.cdf(np.array([law.mean])) is None:
        raise NotApplicableError("it has no cdf")
    z, below = _grid(law)
    for end, share in ((low, 0), (high, 1)):
        got: Any = law.cdf(np.array([end]))
        need(math.isinf(end) or abs(got - share) <= 1e-9, f"the cdf at {end:.6g} is {got}, need {share}")
    grows = below[0] >= -1e-12 and below[-1] <= 1 + 1e-12 and (np.diff(below) >= -1e-12).all()
    need(grows, "the cdf does not grow from 0 to 1")
    # no mass is further than half a step from the middle of its cell; outside of the grid a little moves a lot
    step, whole = z[1] - z[0], below[-1] - below[0] > 1 - 1e-9
    mean, square = (_moments(law, power)[0] for power in (1, 2))
    right = abs(mean) <= step or not whole
    need(right, f"the mean of the cdf is {law.mean + math.sqrt(law.variance) * mean:.6g}, not {law.mean:.6g}")
    right = square <= 1 + 2 * step and (square >= 1 - 2 * step or not whole)
    need(right, f"the variance of the cdf is {law.variance * square:.6g}, not {law.variance:.6g}")


def _fans(
    rule: Initializer, shape: tuple[int, ...], law: Callable[..., Law], turns: Iterable[int], alpha: float
) -> None:
    """The fans are those that the layer passes, whatever the shape: it draws from the law for those."""
    fans = 3 * shape[1], 5 * shape[0]
    stated = law(shape, *fans)
    x = np.sort([_drawn(rule, shape, "float64", i, fans) for i in turns], axis=None)
    below = stated.cdf(x) if stated.variance else None
    if below is None:
        raise NotApplicableError("its law has no cdf")
    distance, bound = _distance(below, alpha)
    need(distance <= bound, f"with {fans[0]} and {fans[1]} for fans, distance {distance:.2g}, bound {bound:.2g}")


def _distance(below: Array, alpha: float) -> tuple[float, float]:
    """Kolmogorov and Smirnov's distance, of the cdf at the sorted sample, and its bound (Massart's constant)."""
    n = below.size
    places = np.arange(n + 1) / n
    distance = max(float(np.max(places[1:] - below)), float(np.max(below - places[:-1])))
    return distance, math.sqrt(math.log(2 / alpha) / (2 * n))


def _statistics(rule: Initializer, values: Array, law: Law, alpha: float) -> Iterator[Property]:
    """values (seeds, out, in)."""
    n = values.size
    if not n:
        yield Property("distribution", "n/a", "nothing was drawn")
        return
    low, high = law.support
    first, last = float(values.min()), float(values.max())
    ends = f"[{first:.6g}, {last:.6g}], need [{low:.6g}, {high:.6g}]"
    slack = 4 * np.finfo(float).eps * max(abs(first), abs(last))
    yield Property("support", "pass" if low - slack <= first and last <= high + slack else "fail", ends, n)
    if not law.variance or law.cdf(np.zeros(1)) is None:
        yield attempt("mean and variance", functools.partial(_averages, values, law, alpha))
    if isinstance(rule, init.orthogonal):
        yield from _orthogonal(values, rule.gain, alpha)
    if isinstance(rule, init.sparse):
        wanted = rule.zeros(values.shape[1])
        exact = bool((np.count_nonzero(values == 0, axis=1) == wanted).all())
        yield Property("zeros in each column", "pass" if exact else "fail", f"need {wanted}")
        values, law = values[values != 0], init.Normal(0.0, rule.std)
    x, n = np.sort(values, axis=None), values.size
    below = law.cdf(x) if law.variance and n else None
    if below is None:
        return
    distance, epsilon = _distance(below, alpha)
    yield Property("distribution", _at_most(distance, epsilon), f"distance {distance:.2g}, bound {epsilon:.2g}", n)

    std = math.sqrt(law.variance)
    z = (x - law.mean) / std
    for name, power in (("mean", 1), ("variance", 2), ("kurtosis", 4)):
        want, spread, largest = _moments(law, power)
        bound = _bernstein(spread, largest, n, alpha)
        off = abs(float(np.mean(np.clip(z, -_REACH, _REACH) ** power)) - want)
        yield Property(name, _at_most(off, bound), f"off by {off:.2g} of the standardised one, bound {bound:.2g}", n)

    # the largest of n is at most t with probability F(t)ⁿ, above it with 1 − F(t)ⁿ ≤ n (1 − F(t))
    tails = max(float(below[0]), 1 - float(below[-1])), float(below[0]), 1 - float(below[-1])
    reached = n * math.log1p(-min(max(tails), 1 - 1e-16)) > math.log(alpha / 2)
    unbounded = not math.isinf(low) or (tails[1] + 1e-15) * n > alpha / 2
    unbounded = unbounded and (not math.isinf(high) or (tails[2] + 1e-15) * n > alpha / 2)
    yield Property("extremes", "pass" if reached and unbounded else "fail", ends, n)
    if np.isfinite([low, high]).all():
        edge = int(np.count_nonzero(x <= low)) + int(np.count_nonzero(x >= high))
        # a float64 is a bound with a probability near 1e-16
        yield Property("no mass at the bounds", "pass" if edge <= 1 else "fail", f"{edge} of {n} lie there", n)


def _at_most(value: float, bound: float) -> Verdict:
    return "pass" if value <= bound else "fail"


def _averages(values: Array, law: Law, alpha: float) -> None:
    """Mean and variance are the law's: exactly where nothing is random, else by Student's t over whole weights.

    Elements of a weight may depend on each other, weights do not: their averages are near a normal's.
    """
    n, axes = len(values), tuple(range(1, values.ndim))
    # z is above a normal's quantile, and the factor makes it Student's, to first order in 1 / n
    z = math.sqrt(2 * math.log(2 / alpha))
    quantile = z * (1 + (z * z + 1) / (4 * max(n - 1, 1)))
    for name, powers, want in (("mean", values, law.mean), ("variance", (values - law.mean) ** 2, law.variance)):
        averages = powers.mean(axes)
        bound = quantile * float(averages.std(ddof=int(n > 1))) / math.sqrt(n) + 1e-12 * max(
            1.0, float(np.abs(powers).max())
        )
        got = float(averages.mean())
        need(abs(got - want) <= bound, f"the {name} is {got:.6g}, need {want:.6g} ± {bound:.2g}")


def _grid(law: Law) -> tuple[Array, Array]:
    """Standardised places, all over the support, and the cdf at each."""
    std = math.sqrt(law.variance)
    low, high = (np.clip((b - law.mean) / std, -_REACH, _REACH) for b in law.support)
    z = np.linspace(low, high, 20001)
    below = law.cdf(law.mean + std * z)
    assert below is not None
    return z, below


def _moments(law: Law, power: int) -> tuple[float, float, float]:
    """Mean, variance and largest deviation of zᵖ, z the standardised variable, from the cdf."""
    z, below = _grid(law)
    low, high = z[0], z[-1]
    middle, mass = (z[1:] + z[:-1]) / 2, np.diff(below)
    mean = float(mass @ middle**power)
    variance = float(mass @ middle ** (2 * power)) - mean * mean
    largest = max(abs(float(low)), abs(float(high))) if np.isfinite(law.support).all() else 8.0  # 1e-15 lie outside
    return mean, variance, largest**power


def _bernstein(variance: float, largest: float, n: int, alpha: float) -> float:
    """t with P(|mean − expected| ≥ t) ≤ α: 2 exp(−n t² / (2 (variance + largest t / 3))) = α, and grid error."""
    c = math.log(2 / alpha) / n
    return largest * c / 3 + math.sqrt((largest * c / 3) ** 2 + 2 * variance * c) + 1e-5


def _orthogonal(values: Array, gain: float, alpha: float) -> Iterator[Property]:
    _, rows, columns = values.shape
    wide = values if rows <= columns else values.swapaxes(1, 2)
    n, few, many = wide.shape
    worst = float(np.abs(wide @ wide.swapaxes(1, 2) - gain * gain * np.eye(few)).max())
    bound = 16 * many * np.finfo(float).eps * gain * gain
    yield Property("orthonormal", _at_most(worst, bound), f"off by {worst:.1e}, bound {bound:.1e}", n)
    # each entry is symmetric about 0, and draws of other seeds are independent: Hoeffding
    share, t = float(np.mean(values[:, 0, 0] < 0)), math.sqrt(math.log(2 / alpha) / (2 * n))
    yield Property("both signs", _at_most(abs(share - 0.5), t), f"{share:.0%} of the first elements are negative", n)


def _rounded(rule: Initializer, shape: tuple[int, int], law: Law) -> Property:
    """Bounds hold in every dtype, after the rounding."""
    low, high = law.support
    for dtype in _DTYPES:
        values = np.stack([_drawn(rule, shape, dtype, seed) for seed in range(25)]).astype(np.float64)
        slack = 4 * np.finfo(float).eps * max(abs(low), abs(high)) if np.isfinite([low, high]).all() else 0.0
        if isinstance(rule, (init.orthogonal, init.constant, *_FIXED)):
            slack = float(np.finfo(dtype).eps) * max(abs(low), abs(high))
        if values.size and not (low - slack <= values.min() and values.max() <= high + slack):
            return Property("bounds after rounding", "fail", f"{dtype}: [{values.min()}, {values.max()}]")
    return Property("bounds after rounding", "pass", examples=25 * len(_DTYPES))
