"""Elementary functions as branch-free formulas: the same bits in every lane, on every CPU with fma.

Each is written once for float32 and float64; only tables differ. Polynomials are Chebyshev interpolants of the
named function on the named interval (mpmath.chebyfit), lowest power first.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from functools import cache
from typing import Any

from minigrad.kernels.simd import Term, fma, formula, lookup, scalef, where

# (e^r - 1 - r) / r^2 on |r| <= 0.35
_EXP = (
    (
        0.5000000014286223, 0.16666666682534356, 0.04166645680967788, 0.008333310024225292, 0.0013934541928270264,
        0.0001989198131397769,
    ),
    (
        0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333325544, 0.0013888888888883327,
        0.00019841269876864356, 2.4801587327007187e-05, 2.755725283351691e-06, 2.75572718102198e-07,
        2.5106274733573296e-08, 2.0915442297780116e-09,
    ),
)  # fmt: skip
# (log((1 + s) / (1 - s)) / s - 2) / s^2 in s^2, |s| <= 3 - 2 sqrt 2
_LOG = (
    (0.6666666654988318, 0.40000125594554364, 0.28550396959618013, 0.23341943388714562),
    (
        0.666666666666667, 0.3999999999989322, 0.28571428628810996, 0.22222210674238516,
        0.18182922513515942, 0.15330617306743305, 0.1463003136412286,
    ),
)  # fmt: skip
# erf(x) / x - 1 in x^2, |x| <= 1
_ERF = (
    (
        0.1283791658483509, -0.37612626666720334, 0.11283594715160218, -0.026854212010626412,
        0.005189087423433974, -0.000801686428716587, 7.875875062685488e-05,
    ),
    (
        0.12837916709551257, -0.37612638903183543, 0.11283791670945006, -0.02686617064323777,
        0.0052239776071164225, -0.0008548325975389692, 0.00012055294904839707, -1.492473690741966e-05,
        1.6447424703317362e-06, -1.6208483801871705e-07, 1.3720064546777686e-08, -7.795898827002142e-10,
    ),
)  # fmt: skip
# erfc(x) e^(x^2) in (x - 2) / (x + 2), 1 <= x <= 4.2 (float32), 6.1 (float64)
_ERFCX = (
    (
        0.25539567781956196, -0.42718602284447776, 0.24165790270620136, -0.07896680651855349,
        0.0037406318275448923, 0.0067983612413132265, -0.000892936982738192,
    ),
    (
        0.25539567631050575, -0.4271858474139585, 0.24165819424246576, -0.07897858101570118,
        0.0037328924044034446, 0.006997461736620044, -0.0008471432529504642, -0.0009819769303114588,
        4.355557667636742e-05, 0.0001743593137578809, 2.7527430529060627e-05, -2.7561098492338674e-05,
        -1.4000758079479441e-05, 1.3033240156029082e-06, 4.020614173327514e-06, 1.2696188944085143e-06,
        -1.1386089314796086e-06,
    ),
)  # fmt: skip
# 1 / (1 + e) on 0 <= e <= 1, with the least relative error, 2^-14.3: 1 - (1 + e) p(e) = T_6(2 e - 1) / T_6(3)
_INVERSE = (
    (
        0.999948982194786, -0.9962757002193766, 0.9534207438396001, -0.7705729299525534, 0.4179378603132493,
        -0.10448446507831233,
    ),
) * 2  # fmt: skip
# (sin(r) / r - 1) / r^2 and (cos(r) - 1 + r^2 / 2) / r^4, both in r^2, |r| <= pi / 4
_SIN = (
    (-0.1666666666381008, 0.008333331857164982, -0.0001984007727607258, 2.7248701708232046e-06),
    (
        -0.16666666666666666, 0.008333333333330901, -0.00019841269836686008, 2.7557316064986773e-06,
        -2.505112403138208e-08, 1.59175674789068e-10,
    ),
)  # fmt: skip
_COS = (
    (0.04166666463535246, -0.0013888298350940012, 2.4546931841332072e-05),
    (
        0.041666666666666664, -0.0013888888888887367, 2.480158729872029e-05, -2.7557317248229367e-07,
        2.0876141380294955e-09, -1.1382280957702634e-11,
    ),
)  # fmt: skip

_INF, _NAN = math.inf, math.nan
_LOG2E = 1.4426950408889634
# ln 2 in two parts; the first has 9 (21) trailing zero bits, so that a multiple by an exponent is exact
_LN2 = ((0.693145751953125, 1.42860682030941723e-06), (6.93147180369123816490e-01, 1.90821492927058770002e-10))


def _horner(x: Term, coefficients: Any) -> Term:
    """The polynomial of ``x``, one fma a power."""
    *rest, highest = coefficients[x.double]
    total = x.like(highest)
    for coefficient in reversed(rest):
        total = fma(total, x, x.like(coefficient))
    return total


def _mantissa(x: Term) -> int:
    return 52 if x.double else 23


def _bias(x: Term) -> int:
    return 1023 if x.double else 127


def _power_of_two(n: Term, x: Term) -> Term:
    """2^n as a float like ``x``; n an integer within the range of normal exponents."""
    return ((n + _bias(x)) << _mantissa(x)).floats()


def _nearest(t: Term) -> tuple[Term, Term]:
    """The nearest integer, as a float and as an integer, for |t| < 2^22 (2^51)."""
    magic = 1.5 * 2.0 ** _mantissa(t)  # the sum has no room for a fraction, and holds the integer in its last bits
    shifted = t + magic
    return shifted - magic, shifted.bits() - t.like(magic).bits()


def _tiny(x: Term) -> Term:
    """Whether x is that near to 0 that a function of slope 1 there rounds to it."""
    return abs(x) < 2.0**-60


def _exp_parts(x: Term) -> tuple[Term, Term, Term]:
    """(n as a float, n, e^r - 1) where x = n ln 2 + r, |r| <= ln 2 / 2.

    In float64 r is a sum of two numbers until the end: exp is within 0.83 ulp then, and of 1 it is e; else 0.96.
    """
    whole, n = _nearest(x * _LOG2E)
    high, low = _LN2[x.double]
    first = fma(whole, x.like(-high), x)  # exact
    if x.double:
        second = whole * -low
        r = first + second
        return whole, n, first + fma(r * r, _horner(r, _EXP), second)
    r = fma(whole, x.like(-low), first)
    return whole, n, fma(r * r, _horner(r, _EXP), r)


def _scaled(y: Term, whole: Term, n: Term) -> Term:
    """y 2^n, rounded once, y 0 or 1/4 < y < 2; ``whole`` is n as a float."""
    result = scalef(y, whole)
    if result is None:
        half = n >> 1  # 2^n itself may be subnormal or overflow: one rounding, at the last product
        result = y * _power_of_two(half, y) * _power_of_two(n - half, y)
    return result


@formula
def exp(x: Term) -> Term:
    """e^x."""
    low, high = (-746.0, 710.0) if x.double else (-104.0, 89.0)  # beyond them 0 and inf; NaN passes both
    none = x < low
    whole, n, r = _exp_parts(where(x > high, high, where(none, 0.0, x)))  # what underflows costs processors ten times
    return _scaled(where(none, -1.0, r) + 1.0, whole, n)


@formula
def expm1(x: Term) -> Term:
    """e^x - 1."""
    low, high = (-40.0, 710.0) if x.double else (-20.0, 89.0)  # at the low end the result rounds to -1
    _, n, r = _exp_parts(where(x > high, high, where(x < low, low, x)))
    scale = _power_of_two(n - 1, x)  # half of 2^n, which may overflow
    result = fma(scale, r, scale - 0.5) * 2.0
    return where(_tiny(x), x, where(n == 0, r, result))


def _log(k: Term, f: Term, correction: Term) -> Term:
    """k ln 2 + log(1 + f) + correction."""
    high, low = _LN2[f.double]
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    tail = fma(s, fma(z, _horner(z, _LOG), half_square), fma(k, k.like(low), correction))
    return fma(k, k.like(high), f - (half_square - tail))


def _split(x: Term) -> tuple[Term, Term]:
    """(k, m) where x = 2^k m, sqrt(1/2) <= m < sqrt 2; x positive and normal."""
    k = (x.bits() - x.like(math.sqrt(0.5)).bits()) >> _mantissa(x)
    return k.to_float(), (x.bits() - (k << _mantissa(x))).floats()


@formula
def log(x: Term) -> Term:
    """Natural logarithm: -inf at 0, NaN below."""
    small, lift = x < 2.0**-126, 64.0  # so that what is subnormal is normal then
    k, m = _split(where(small, x * 2.0**lift, x))
    k = where(small, k - lift, k)
    result = _log(k, m - 1.0, x.like(0.0))
    result = where(x < _INF, result, x)  # inf and NaN
    return where(x == 0.0, -_INF, where(x < 0.0, _NAN, result))


@formula
def log1p(x: Term) -> Term:
    """log(1 + x): -inf at -1, NaN below."""
    near = (x > math.sqrt(0.5) - 1.0) & (x < math.sqrt(2.0) - 1.0)
    u = x + 1.0
    k, m = _split(u)
    lost = where(u > 2.0, 1.0 - (u - x), x - (u - 1.0)) / u  # what rounding 1 + x took away
    result = _log(where(near, 0.0, k), where(near, x, m - 1.0), where(near, 0.0, lost))
    result = where(x < _INF, result, x)
    result = where(x == -1.0, -_INF, where(x < -1.0, _NAN, result))
    return where(_tiny(x), x, result)


@formula
def tanh(x: Term) -> Term:
    """Hyperbolic tangent."""
    if not x.double:
        return _by_pieces(x, *_TANH_PIECES)
    e = expm1(where(abs(x) > 20.0, 20.0, abs(x)) * 2.0)
    s = e + 2.0
    q = where(e > 2.0, 2.0, e) / s  # from 1/2 on as 1 - 2 / (e + 2), where errors of e count for less
    near = fma(q * (e - (s - 2.0)) * (1.0 - q), q.like(-0.5), q)  # what rounding s took away, times 1 / s
    return where(e > 2.0, 1.0 - q, near).call("copysign", x)


@formula
def sigmoid(x: Term) -> Term:
    """1 / (1 + e^-x)."""
    a = -abs(x)
    none = a < (-746.0 if x.double else -104.0)  # e^a rounds to 0; NaN passes
    whole, n, r = _exp_parts(where(none, 0.0, a))  # what underflows costs processors ten times
    r = where(none, -1.0, r)
    e = _scaled(r + 1.0, whole, n)
    inverse = _horner(e, _INVERSE)
    if x.double:
        inverse = fma(inverse, fma(-inverse, e, 1.0 - inverse), inverse)
    missing = fma(-inverse, e, 1.0 - inverse)  # 1 - (1 + e) inverse
    y = where(x < 0.0, _scaled(fma(r, inverse, inverse), whole, n), inverse)  # e inverse, before e was rounded
    return fma(y, missing, y)


@formula
def softplus(x: Term) -> Term:
    """max(x, 0) + log(1 + e^-|x|)."""
    return where(x > 0.0, x, 0.0) + log1p(exp(-abs(x)))


@formula
def erf(x: Term) -> Term:
    """The error function."""
    if not x.double:
        return _by_pieces(x, *_ERF_PIECES)
    a = where(abs(x) > 6.1, 6.1, abs(x))
    near = fma(x, _horner(x * x, _ERF), x)
    far = fma(-exp(-(a * a)), _horner((a - 2.0) / (a + 2.0), _ERFCX), x.like(1.0)).call("copysign", x)
    return where(a < 1.0, near, far)


def _decimal_tanh(x: Decimal) -> Decimal:
    e = (2 * x).exp()
    return (e - 1) / (e + 1)


def _decimal_erf(x: Decimal) -> Decimal:
    total, term, n = Decimal(0), x, 0
    while abs(term) > Decimal("1e-40"):
        total += term / (2 * n + 1)
        n += 1
        term *= -x * x / n
    return total * (2 * Decimal(_two_over_pi(120)) / 2**120).sqrt()  # 2 / sqrt pi


#: (function, e, whether f(x) < x): odd functions, on 32 pieces of [0, 2^(e + 8)), beyond which they are 1 in float32.
_TANH_PIECES, _ERF_PIECES = (_decimal_tanh, -4), (_decimal_erf, -6)


@cache
def _pieces(f: Callable[[Decimal], Decimal], lowest: int) -> tuple[tuple[float, ...], ...]:
    """For each piece (four to a binade from 2^lowest on, the first from 0) centre, value and a polynomial's 6 numbers.

    f(c + d) = v + d p(d), p the interpolant at Chebyshev points. The centre is a float32 at which f is, to 1/64 of
    its last place, a float32 too, so that v adds no error. In the first piece the centre is 0 and v stands for x.
    Computed in 50 digits, so that every machine has the same.
    """
    rows = {}
    with localcontext(Context(prec=50)):
        for number in range(32):
            binade, quarter = divmod(number, 4)
            low, high = (math.ldexp(1 + (quarter + i) / 4, lowest + binade) for i in (0, 1))
            centre = value = 0.0
            if number:
                step, centre = (high - low) * 2.0**-15, (low + high) / 2
                while True:
                    exact = f(Decimal(centre))
                    value = _single(exact)
                    if abs(exact - Decimal(value)) * 64 < Decimal(math.ulp(value)) * 2**29:
                        break
                    centre += step
            else:
                low = 0.0
            points = [
                (Decimal(low) + Decimal(high)) / 2 + (Decimal(high) - Decimal(low)) / 2 * Decimal(sign * cosine)
                for cosine in (0.9659258262890683, 0.7071067811865476, 0.25881904510252074)
                for sign in (1, -1)
            ]
            offsets = [point - Decimal(centre) for point in points]
            heights = [
                (f(point) - (Decimal(value) if number else point)) / d for point, d in zip(points, offsets, strict=True)
            ]
            key = math.frexp(math.ldexp(1 + quarter / 4, lowest + binade))
            rows[((key[1] + 125) * 4 + int(key[0] * 8 - 4) + 4) & 31] = (centre, value, *_interpolant(offsets, heights))
    return tuple(zip(*[rows[i] for i in range(32)], strict=True))


def _single(x: Decimal) -> float:
    """The nearest float32."""
    return float(struct.unpack("f", struct.pack("f", float(x)))[0])


def _interpolant(x: list[Decimal], y: list[Decimal]) -> list[float]:
    """The coefficients, lowest power first and in float32, of the polynomial through the points (Newton's form)."""
    divided = list(y)
    for level in range(1, len(x)):
        for i in reversed(range(level, len(x))):
            divided[i] = (divided[i] - divided[i - 1]) / (x[i] - x[i - level])
    powers = [Decimal(0)] * len(x)
    for i in reversed(range(len(x))):
        powers = [Decimal(0), *powers[:-1]] if i == len(x) - 1 else _times(powers, x[i])
        powers[0] += divided[i]
    return [_single(c) for c in powers]


def _times(polynomial: list[Decimal], root: Decimal) -> list[Decimal]:
    """polynomial * (t - root), of the same length: the highest power is 0 before."""
    shifted = [Decimal(0), *polynomial[:-1]]
    return [a - root * b for a, b in zip(shifted, polynomial, strict=True)]


def _by_pieces(x: Term, f: Callable[[Decimal], Decimal], lowest: int) -> Term:
    """An odd function of float32, by the polynomial of the piece that x lies in."""
    end = math.ldexp(1 - 2.0**-24, lowest + 8)
    a = where(abs(x) > end, end, abs(x))
    first = math.ldexp(1.0, lowest)
    index = (where(a < first, first, a).bits() >> 21) & 31  # exponent and two bits of the mantissa
    centre, value, *coefficients, total = lookup(_pieces(f, lowest), index, double=False)
    d = a - centre
    for coefficient in reversed(coefficients):
        total = fma(total, d, coefficient)
    return fma(total, d, where(a < 1.25 * first, a, value)).call("copysign", x)


@cache
def _two_over_pi(bits: int) -> int:
    """2 / pi in units of 2^-bits, from Machin's pi = 16 arctan(1/5) - 4 arctan(1/239)."""
    one = 1 << (bits + 32)

    def arctan_inverse(n: int) -> int:
        power, total, k = one // n, 0, 1
        while power:
            total += power // k if k % 4 == 1 else -(power // k)
            power //= n * n
            k += 2
        return total

    pi = 16 * arctan_inverse(5) - 4 * arctan_inverse(239)
    return (2 * one << bits) // pi


@cache
def _quarter_turns(double: bool) -> tuple[tuple[float, ...], ...]:
    """For each exponent e from that of 0.5 on: 2^e 2/pi modulo 4, e for the last mantissa bit, in decreasing parts.

    float32: the first part has 29 bits, so that its product with a mantissa is exact in float64.
    """
    first, last, sizes = (-53, 971, (53, 53, 53, 53)) if double else (-24, 104, (29, 53))
    unit = 1400
    turn = _two_over_pi(unit + 60)
    rows = []
    for e in range(first, last + 1):
        rest = ((turn << (e + 60)) >> 120) % (4 << unit)
        parts = []
        for size in sizes:
            drop = max(rest.bit_length() - size, 0)
            part = rest >> drop << drop
            parts.append(math.ldexp(part >> drop, drop - unit))
            rest -= part
        rows.append(parts)
    return tuple(zip(*rows, strict=True))


def _two_sum(a: Term, b: Term) -> tuple[Term, Term]:
    """a + b and what its rounding lost, exactly."""
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


def _quadrant(x: Term) -> tuple[Term, Term, Term]:
    """(n, r, s) in float64 where x = n pi/2 + r + s modulo 2 pi, |r| <= pi/4, s the rounding of r, n an integer.

    Right for every finite x: the mantissa, an integer, is multiplied by 2^e 2/pi modulo 4 (Payne and Hanek).
    """
    mantissa_bits, bias = _mantissa(x), _bias(x)
    exponent = (x.bits() >> mantissa_bits) & (2 * bias + 1)
    index = exponent - (bias - 1)
    index = where(index < 0, 0, where(index > bias + 1, 0, index))  # small x and NaN are seen to below
    parts = lookup(_quarter_turns(x.double), index)
    integer = ((x.bits() & ((1 << mantissa_bits) - 1)) | ((bias + mantissa_bits) << mantissa_bits)).floats()
    m = integer.call("copysign", x).widened()
    if x.double:
        product = m * parts[0]
        terms = [product - (product * 0.25).call("rint") * 4.0, fma(m, parts[0], -product)]
        for part in parts[1:]:
            terms += [m * part, fma(m, part, -(m * part))]
        n = (terms[0] + terms[1] + terms[2]).call("rint")
        terms[0] = terms[0] - n
        for _ in range(2):  # each pass leaves the sum as it is, and gathers it in the first term
            for i in reversed(range(1, len(terms))):
                terms[i - 1], terms[i] = _two_sum(terms[i - 1], terms[i])
        r, s = terms[0], terms[1] + terms[2]
    else:
        product = m * parts[0]
        n = fma(m, parts[1], product).call("rint")
        r, s = fma(m, parts[1], product - n), m * 0.0
    radians = r * (math.pi / 2)
    s = fma(r, s.like(math.pi / 2), -radians) + fma(s, s.like(math.pi / 2), r * 6.123233995736766e-17)
    small = abs(x.widened()) < 0.5
    return where(small, 0.0, n), where(small, x.widened(), radians), where(small, 0.0, s)


def _turn(x: Term, quarter: float) -> Term:
    """sin(x + quarter pi/2)."""
    n, r, s = _quadrant(x)
    n = n + quarter
    z = r * r
    if x.double:
        sine = r + fma(r * z, _horner(z, _SIN), s * fma(z, z.like(-0.5), z.like(1.0)))
        half = z * 0.5
        whole = 1.0 - half
        cosine = whole + (((1.0 - whole) - half) + (z * z * _horner(z, _COS) - r * s))
    else:
        sine = r + r * z * _horner(z, (None, _SIN[0]))
        cosine = fma(z * z, _horner(z, (None, _COS[0])), 1.0 - z * 0.5)
    odd = n - (n * 0.5).call("floor") * 2.0
    value = where(odd == 0.0, sine, cosine)
    negative = n - (n * 0.25).call("floor") * 4.0 >= 2.0
    value = where(negative, -value, value)
    value = value if x.double else value.narrowed()
    return where(abs(x) < _INF, value, _NAN)


@formula
def sin(x: Term) -> Term:
    """Sine of radians, right for every finite argument."""
    return where(_tiny(x), x, _turn(x, 0.0))


@formula
def cos(x: Term) -> Term:
    """Cosine of radians, right for every finite argument."""
    return _turn(x, 1.0)
