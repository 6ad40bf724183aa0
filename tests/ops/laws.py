"""The laws that every op obeys, as functions of a drawn sample: each raises AssertionError, and says which bit is off.

Samples are made from the op's own declaration: shapes from its letters or cases, values from its domains.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.testing.differences import agrees

STEP = 0.02  # of differences; samples stay further than GAP from kinks and ties
GAP = 0.05
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)

# Samples


@dataclass
class Sample:
    """An op with arguments (arrays, None or Python numbers) and options; ``rng()`` for cotangents and directions."""

    op: Any
    args: list[Any]
    options: dict[str, Any]
    seed: int = 0
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = [self.op.arrays[0]] * len(self.args) if self.op.sequence else list(self.op.arrays)

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    @property
    def active(self) -> list[int]:
        """Positions of the arguments that have a derivative."""
        derived = self.op.differentiable and not self.op.rules
        return [i for i, a in enumerate(self.args) if is_float(a) and (derived or self.names[i] in self.op.rules)]

    def __call__(self, args: list[Any] | None = None) -> Any:
        args = self.args if args is None else args
        return self.op(args, **self.options) if self.op.sequence else self.op(*args, **self.options)

    def value(self, args: list[Any] | None = None) -> np.ndarray:
        """The output as an array."""
        args = self.args if args is None else args
        return self([mg.from_numpy(a) if isinstance(a, np.ndarray) else a for a in args]).data

    def cotangent(self) -> np.ndarray:
        y = self.value()
        return np.asarray(self.rng().uniform(0.5, 2, y.shape) * self.rng().choice([-1, 1], y.shape), y.dtype)

    def with_args(self, args: list[Any]) -> "Sample":
        return replace(self, args=args)

    def as_dtype(self, dtype: Any) -> "Sample":
        return self.with_args([a.astype(dtype) if is_float(a) else a for a in self.args])


def is_float(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def leaves_of(s: Sample) -> list[Any]:
    return [
        mg.from_numpy(a, requires_grad=i in s.active) if isinstance(a, np.ndarray) else a for i, a in enumerate(s.args)
    ]


def pull(s: Sample, g: Any, **how: Any) -> list[np.ndarray]:
    """The gradients of the active arguments for a cotangent g."""
    leaves = leaves_of(s)
    s(leaves).backward(g, **how)
    return [leaves[i].grad.data for i in s.active]


def _values(rng: np.random.Generator, domain: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    if domain.kind == "i":
        return rng.integers(int(domain.low), int(domain.high) + 1, shape)
    if domain.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    x = rng.uniform(domain.low, domain.high, shape)
    for kink in domain.kinks:
        near = np.abs(x - kink) < GAP
        x = np.where(near, kink + np.copysign(GAP + np.abs(x - kink), x - kink), x)
    return np.asarray(x, dtype)


def _separate(rng: np.random.Generator, args: list[Any], domains: list[Any]) -> None:
    """Give all the arguments that must be distinct values of one grid, no two alike."""
    chosen = [i for i, d in enumerate(domains) if d.distinct and is_float(args[i])]
    total = sum(args[i].size for i in chosen)
    ends = np.cumsum([args[i].size for i in chosen], dtype=int)
    for i, part in zip(chosen, np.split(rng.permutation(total), ends[:-1]), strict=False):  # one part too many for none
        low, high = domains[i].low, domains[i].high
        args[i] = np.asarray(low + (high - low) * (part + 0.5) / total, args[i].dtype).reshape(args[i].shape)


@st.composite
def samples(draw: Any, op: Any, sizes: tuple[int, ...] = (1, 2, 3, 5), dtypes: Any = (F32, F64, None)) -> Sample:
    """Samples of ``op``, axes of the given sizes; dtype None mixes both, and makes some operands Python numbers."""
    shapes, options = _shapes(draw, op, st.sampled_from(sizes))
    seed, dtype = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from(dtypes))
    rng = np.random.default_rng(seed)
    names = [op.arrays[0]] * len(shapes) if op.sequence else op.arrays
    domains = [op.domains.get(name, mg.reals(-2, 2)) for name in names]
    kinds = [dtype or (F32, F64)[rng.integers(2)] for _ in shapes]
    args = [
        None if shape is None else _values(rng, d, shape, k) for shape, d, k in zip(shapes, domains, kinds, strict=True)
    ]
    _separate(rng, args, domains)
    if dtype is None and op.shapes == "elementwise" and len(args) > 1 and draw(st.booleans()):
        i = draw(st.integers(0, len(args) - 1))
        if domains[i].kind == "f" and not domains[i].distinct:
            args[i] = float(_values(rng, domains[i], (), F64))
    return Sample(op, args, dict(options), seed)


def _shapes(draw: Any, op: Any, size: Any) -> tuple[list[Any], dict[str, Any]]:
    shapes, options = draw(st.sampled_from(op.cases)) if op.cases else ([None], {})
    if op.shapes == "elementwise":
        full = draw(st.lists(size, max_size=3))
        return [_within(draw, full) for _ in op.arrays], options
    if op.letters is not None and not op.cases:
        known = {letter: draw(size) for letter in sorted(set(op.letters.text) - set(".,->?"))}
        batch = draw(st.lists(size, max_size=2))
        shapes = []
        for term in op.letters.text.split("->")[0].split(","):
            if term.endswith("?") and draw(st.booleans()):
                shapes.append(None)
            else:
                lead = _within(draw, batch) if "..." in term else ()
                shapes.append((*lead, *[known[c] for c in term.strip(".?")]))
        return shapes, options
    return list(shapes), options


def _within(draw: Any, full: list[int]) -> tuple[int, ...]:
    """A shape that broadcasts to ``full``."""
    bits = draw(st.integers(0, 2 ** len(full) - 1))
    lead = draw(st.integers(0, len(full)))
    return tuple(1 if bits >> i & 1 and draw(st.booleans()) else n for i, n in enumerate(full) if i >= lead or bits % 3)


# Equality


def same(a: Any, b: Any, what: str, zeros: bool = False) -> None:
    """Equal bytes, any NaN equal to any NaN; with ``zeros`` −0 equal to +0."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype, f"{what}: dtypes {a.dtype} and {b.dtype}"
    assert a.shape == b.shape, f"{what}: shapes {a.shape} and {b.shape}"
    equal = a == b
    if a.dtype.kind == "f":
        equal = (equal & (zeros | (np.signbit(a) == np.signbit(b)))) | (np.isnan(a) & np.isnan(b))
    assert np.all(equal), f"{what}: {a[~equal][:4]} and {b[~equal][:4]}"


def all_same(a: list[Any], b: list[Any], what: str, zeros: bool = False) -> None:
    for i, (left, right) in enumerate(zip(a, b, strict=True)):
        same(left, right, f"{what}, gradient {i}", zeros)


# Laws


def pure(s: Sample) -> None:
    """Same inputs, same outputs; neither inputs nor cotangent are written."""
    before = [np.copy(a) if isinstance(a, np.ndarray) else a for a in s.args]
    y = s.value()
    same(y, s.value(), "a second call")
    if s.active:
        g = s.cotangent()
        kept = g.copy()
        leaves = leaves_of(s)
        output = s(leaves)
        output.backward(g)
        first = [leaves[i].grad.data for i in s.active]
        same(output.data, y, "the output after backward")
        same(g, kept, "the cotangent after backward")
        all_same(first, pull(s, kept), "a second backward")
        for gradient in first:
            gradient[...] = 7  # a gradient is its owner's: writing it reaches nobody else
        same(g, kept, "the cotangent after a gradient was written")
    for name, a, b in zip(s.names, s.args, before, strict=True):
        if isinstance(a, np.ndarray):
            same(a, b, f"{name} after the call")


def _strided(a: np.ndarray) -> np.ndarray:
    wide = np.full(tuple(2 * n + 1 for n in a.shape), 9).astype(a.dtype)
    view = wide[(..., *[slice(1, None, 2)] * a.ndim)]
    view[...] = a
    return view


def _read_only(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS = {
    "Fortran": lambda a: np.asfortranarray(a).reshape(a.shape),
    "strided": _strided,
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "read-only": _read_only,
    "broadcast": lambda a: np.broadcast_to(a, (2, *a.shape))[1, ...],
    "unaligned": lambda a: np.frombuffer(b"0" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
}


def layouts(s: Sample) -> None:
    """The same bits for every memory layout of the inputs and of the cotangent."""
    y = s.value()
    g = s.cotangent() if s.active else None
    expected = pull(s, g) if s.active else []
    for layout, change in LAYOUTS.items():
        changed = s.with_args([np.asarray(change(a)) if isinstance(a, np.ndarray) else a for a in s.args])
        same(changed.value(), y, f"{layout} inputs")
        if s.active:
            all_same(pull(changed, np.asarray(change(g))), expected, f"{layout} inputs and cotangent")
    for i, a in enumerate(s.args):
        if isinstance(a, np.ndarray) and a.ndim and len(a) > 1:
            view = np.broadcast_to(a[:1], a.shape)
            views, copies = list(s.args), list(s.args)
            views[i], copies[i] = view, view.copy()
            same(s.value(views), s.value(copies), f"{s.names[i]} as a broadcast view")
            if s.active:
                all_same(pull(s.with_args(views), g), pull(s.with_args(copies), g), f"{s.names[i]} as a broadcast view")
    if s.active and g.ndim and len(g):
        view = np.broadcast_to(g[:1], g.shape)
        all_same(pull(s, view), pull(s, view.copy()), "the cotangent as a broadcast view")


def linear(s: Sample) -> None:
    """vjp(2ᵏ g) = 2ᵏ vjp(g) and vjp(−g) = −vjp(g)."""
    if s.active:
        g = s.cotangent()
        expected = pull(s, g)
        for factor in (8.0, 0.125, -1.0):
            scaled = [np.asarray(factor * e, e.dtype) for e in expected]
            all_same(pull(s, np.asarray(factor * g, g.dtype)), scaled, f"the cotangent times {factor}", zeros=True)


#: Kernels that round otherwise than their formulas: how far (forward, backward) at most, in ulps of the largest of 1,
#: the inputs and the result (of products: the sum of their terms' magnitudes), in the narrowest precision among them.
#: The others agree to the bit. Twice what 200 examples of each showed; polynomials against NumPy's functions, and
#: fused multiply-adds.
ULPS: dict[str, tuple[float, float]] = {
    "exp": (3, 0),
    "expm1": (2, 3),
    "log": (2, 0),
    "log1p": (2, 0),
    "sin": (1, 1),
    "cos": (1, 2),
    "erf": (1, 2),
    "tanh": (1, 0),
    "sigmoid": (1, 0),
    "elu": (2, 3),
    "selu": (2, 3),
    "gelu": (2, 5),
    "silu": (2, 3),
    "softplus": (2, 2),
    "pow": (0, 3),
    "matmul": (2, 3),
    "linear": (2, 3),
    "logsumexp": (2, 3),
    "softmax": (2, 0),
    "log_softmax": (2, 6),  # an ulp of eʸ counts |Σ ȳ| times, which is 8 for four elements
    "mse_loss": (0, 2),
    "bce_with_logits": (2, 3),
    "cross_entropy": (4, 3),
}


def kernels(s: Sample) -> None:
    """Kernel equals formula: to the bit where the arithmetic is the same, else within the ulps in the table."""
    forward, backward = ULPS.get(s.op.name, (0, 0))
    with mg.formulas():
        y = s.value()
    magnitudes = s.with_args([np.abs(a) if is_float(a) else a for a in s.args]) if s.op.letters else s
    _close(s.value(), y, forward, [magnitudes.value(), *s.args], "forward")
    if s.active:
        leaves = leaves_of(s)
        z, g = s(leaves), s.cotangent()
        z.backward(g, retain_graph=True)
        claims = [leaves[i].grad.data for i in s.active]
        for i in s.active:
            leaves[i].grad = None
        with mg.formulas():
            z.backward(g)
        reach = pull(magnitudes, np.abs(g))
        for i, claim, largest in zip(s.active, claims, reach, strict=True):
            _close(claim, leaves[i].grad.data, backward, [largest, *s.args], f"the rule for {s.names[i]}")


def _close(claim: np.ndarray, truth: np.ndarray, ulps: float, scales: list[Any], what: str) -> None:
    if not ulps or truth.dtype.kind != "f":
        same(claim, truth, what)
        return
    assert (claim.dtype, claim.shape) == (truth.dtype, truth.shape), f"{what}: another dtype or shape"
    if truth.size:
        floats = [truth, *filter(is_float, scales)]
        scale = max(1.0, *[np.abs(a[np.isfinite(a)]).max(initial=0) for a in floats])
        unit = scale * max(np.finfo(a.dtype).eps for a in floats)
        with np.errstate(invalid="ignore"):
            off = np.where((claim == truth) | (np.isnan(claim) & np.isnan(truth)), 0, np.abs(claim - truth))
        assert off.max() <= ulps * unit, f"{what}: {off.max() / unit} ulps"


def dtypes(s: Sample) -> None:
    """Precision is kept and promoted as in NumPy; a gradient has its argument's shape and dtype."""
    y = s.value()
    floats = [a for a in s.args if is_float(a) or isinstance(a, float)]
    if "dtype" in (options := {**s.op.defaults, **s.options}):
        assert y.dtype == options["dtype"]
    elif y.dtype.kind == "f":
        assert y.dtype == np.result_type(*floats), f"{y.dtype} from {[getattr(a, 'dtype', a) for a in floats]}"
    else:
        assert not s.op.differentiable
    if s.active:
        for i, gradient in zip(s.active, pull(s, s.cotangent()), strict=True):
            a = s.args[i]
            assert (gradient.shape, gradient.dtype) == (a.shape, a.dtype), f"the gradient of {s.names[i]}"


def integers(s: Sample) -> None:
    """Integers and bools among floats are promoted as in NumPy, and never taken for floats."""
    floats = [i for i, a in enumerate(s.args) if is_float(a)]
    if len(floats) < 2:
        return
    i = s.rng().choice(floats)
    for kind in (np.int64, np.uint8, bool):
        whole = np.abs(np.rint(s.args[i])).astype(kind)
        dtype = np.result_type(whole, *[s.args[j] for j in floats if j != i])
        mixed, promoted = (s.with_args([*s.args[:i], a, *s.args[i + 1 :]]) for a in (whole, whole.astype(dtype)))
        with np.errstate(all="ignore"):
            same(mixed.value(), promoted.value(), f"{s.names[i]} as {np.dtype(kind)}")
            if mixed.active:
                g = mixed.cotangent()
                expected = dict(zip(promoted.active, pull(promoted, g), strict=True))
                for j, gradient in zip(mixed.active, pull(mixed, g), strict=True):  # rules may promote in another order
                    _close(gradient, expected[j], 4, [], f"{s.names[i]} as {np.dtype(kind)}")


def graph(s: Sample) -> None:
    """First-order gradients have the same bits with and without create_graph."""
    if s.active:
        g = s.cotangent()
        all_same(pull(s, g), pull(s, g, create_graph=True), "with create_graph")


def first(s: Sample) -> None:
    """Gradients agree with differences, entry by entry, and with the jvp by the adjoint identity."""
    if not s.active:
        return
    s, rng = s.as_dtype(F64), s.rng()
    g = s.cotangent()
    gradients = pull(s, g)
    for i in s.active:
        a = s.args[i]
        for place in _places(rng, a):
            direction = np.zeros_like(a)
            direction.flat[place] = 1
            column = _jacobian_column(s, i, place)
            wrong = agrees(column, lambda t, i=i, d=direction: s.value(_moved(s, {i: d}, t)), STEP, _noise(s))
            assert not wrong, f"the derivative in element {place} of {s.names[i]}: {wrong}"
    tangents = [rng.uniform(-1, 1, s.args[i].shape) for i in s.active]
    _, jv = mg.jvp(lambda *xs: s(_with(s, xs)), [s.args[i] for i in s.active], tangents)
    left, terms = np.sum(g * jv.data), [gradient * t for gradient, t in zip(gradients, tangents, strict=True)]
    scale = np.sum(np.abs(g * jv.data)) + sum(np.sum(np.abs(t)) for t in terms)
    assert np.abs(left - sum(np.sum(t) for t in terms)) <= 64 * np.finfo(float).eps * (scale + 1), "⟨g, Jv⟩ ≠ ⟨Jᵀg, v⟩"


def _noise(s: Sample) -> float:
    """What rounding may leave of sums that cancel: an ulp for each term."""
    return np.finfo(float).eps * sum(np.abs(a).sum() for a in s.args if is_float(a))


def _places(rng: np.random.Generator, a: np.ndarray) -> Any:
    """Every element of a small array, some of a larger one."""
    return range(a.size) if a.size <= 8 else rng.choice(a.size, 4, replace=False)


def _jacobian_column(s: Sample, position: int, place: int) -> np.ndarray:
    leaves = leaves_of(s)
    y = s(leaves)
    column = np.zeros(y.shape)
    for j in range(y.size):
        seed = np.zeros(y.shape)
        seed.flat[j] = 1
        leaves[position].grad = None
        y.backward(seed, retain_graph=True)
        column.flat[j] = leaves[position].grad.data.flat[place]
    return column


def _moved(s: Sample, directions: dict[int, np.ndarray], t: float) -> list[Any]:
    return [np.asarray(a + t * directions[i]) if i in directions else a for i, a in enumerate(s.args)]


def _with(s: Sample, xs: Any) -> list[Any]:
    args = list(s.args)
    for i, x in zip(s.active, xs, strict=True):
        args[i] = x
    return args


def second(s: Sample) -> None:
    """Differentiating ⟨d, gradient⟩ gives the change of the gradient along d, and in the cotangent J d."""
    if not s.active:
        return
    s, rng = s.as_dtype(F64), s.rng()
    g = s.cotangent()
    d = {i: rng.uniform(-1, 1, s.args[i].shape) for i in s.active}
    leaves, seed = leaves_of(s), mg.tensor(g, requires_grad=True)
    s(leaves).backward(seed, create_graph=True)
    total = mg.tensor(np.zeros(()))
    for i in s.active:
        gradient, leaves[i].grad = leaves[i].grad, None
        total = total + (gradient * d[i]).sum()
    if not total.requires_grad:
        assert s.op.name in CONSTANT, "the gradient does not depend on the cotangent"
        return
    total.backward()
    for k, i in enumerate(s.active):
        claim = np.zeros(s.args[i].shape) if leaves[i].grad is None else leaves[i].grad.data
        wrong = agrees(claim, lambda t, k=k: pull(s.with_args(_moved(s, d, t)), g)[k], STEP, _noise(s))
        assert not wrong, f"second derivative in {s.names[i]}: {wrong}"
    if seed.grad is not None:
        wrong = agrees(seed.grad.data, lambda t: s.value(_moved(s, d, t)), STEP, _noise(s))
        assert not wrong, f"second derivative in the cotangent: {wrong}"


#: Ops whose derivative is zero wherever there is one.
CONSTANT = {"sign"}


def precision(s: Sample) -> None:
    """float32 is float64 rounded: off by a few ulps of what the inputs' own rounding may change."""
    s = s.as_dtype(F32)
    narrow, wide = s.value(), s.as_dtype(F64).value()
    if narrow.dtype != F32:
        same(narrow, wide.astype(narrow.dtype), "what is no float")
        return
    floats = [a for a in s.args if is_float(a)]
    reach = max([1.0, *[np.abs(a[np.isfinite(a)]).max(initial=0) for a in (*floats, wide)]])
    terms = 1 if s.op.shapes == "elementwise" else max([1, *[a.size for a in floats]])
    with np.errstate(invalid="ignore"):
        near = np.abs(narrow - wide) <= 4 * np.finfo(F32).eps * reach * terms
    assert np.all(near | (narrow == wide)), "float32 is far from float64"
    if s.active:
        g = s.cotangent()
        for a, b in zip(pull(s, g), pull(s.as_dtype(F64), g.astype(F64)), strict=True):
            reach = max(4.0, np.abs(b).max(initial=0))
            summed = max(terms, g.size // max(1, a.size))  # over what was broadcast
            assert np.all(np.abs(a - b) <= 16 * np.finfo(F32).eps * reach * summed), "a float32 gradient is far off"


def positions(s: Sample) -> None:
    """The bits of an element do not know its row or column: selecting commutes with the op."""
    y = s.value()
    if s.op.shapes == "elementwise":
        for axis in range(1, y.ndim + 1):
            _select(s, y, [axis] * len(s.args), axis, "axis")
    elif s.op.letters is not None:
        for letter in s.op.letters.output.replace("...", ""):
            axes = [len(t) - t.find(letter) if letter in t else 0 for t in s.op.letters.inputs]
            _select(s, y, axes, len(s.op.letters.output) - s.op.letters.output.find(letter), letter)
        if "..." in s.op.letters.output:
            tail = len(s.op.letters.output) - 3
            for lead in range(1, y.ndim - tail + 1):
                axes = [lead + len(t) - 3 if "..." in t else 0 for t in s.op.letters.inputs]
                _select(s, y, axes, lead + tail, "the batch")


def _select(s: Sample, y: np.ndarray, axes: list[int], out: int, what: str) -> None:
    """``axes``: for each argument the axis, counted from the end, that becomes axis ``out`` of the output; 0: none."""
    n = y.shape[y.ndim - out]
    for places in (np.arange(n)[::-1], np.arange(min(1, n)), np.arange(n)[n // 2 :]):
        args = []
        for a, axis in zip(s.args, axes, strict=True):
            shared = not isinstance(a, np.ndarray) or not axis or a.ndim < axis or a.shape[a.ndim - axis] == 1 != n
            args.append(a if shared else np.take(a, places, a.ndim - axis))
        got = s.value(args)
        if got.shape[got.ndim - out] == len(places):
            same(got, np.take(y, places, y.ndim - out), f"selecting along {what}")


def empty(s: Sample) -> None:
    """Arguments without elements give a result of the right shape, or a ValueError that says why; never garbage."""
    try:
        y = s.value()
    except ValueError as error:
        if not str(error).startswith(f"{s.op.name}: "):
            raise AssertionError("an error that does not name the op") from error
        return
    if s.active:
        for i, gradient in zip(s.active, pull(s, np.ones(y.shape, y.dtype)), strict=True):
            assert gradient.shape == s.args[i].shape


SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 1e18, -1e18, 0.5, -1.5)
#: For sums of products: −∞ plus a product that overflows is −∞ when fused and NaN when not, so none of three does.
TAME = tuple(np.clip(SPECIAL[3:], -1e12, 1e12)) + SPECIAL[:3]


def specials(s: Sample) -> None:
    """NaN, infinities, zeros, subnormal and huge numbers: kernel and formula agree on them too, without a warning."""
    values = TAME if s.op.letters else SPECIAL
    args = [np.resize(s.rng().permutation(values), a.shape).astype(a.dtype) if is_float(a) else a for a in s.args]
    s = s.with_args(args)
    with np.errstate(all="ignore"):
        claim, (ulps, _) = s.value(), ULPS.get(s.op.name, (0, 0))
        with mg.formulas():
            truth = s.value()
    if truth.dtype.kind != "f":
        same(claim, truth, "at special values")
        return
    for test in (np.isnan, np.isposinf, np.isneginf):
        assert np.array_equal(test(claim), test(truth)), (
            f"{test.__name__}: {claim} by kernel, {truth} by formula at {args}"
        )
    calm = np.isfinite(truth)
    scales = [] if s.op.shapes == "elementwise" else s.args
    if s.op.letters:  # what is finite may be a small difference of huge terms
        sizes = s.with_args(
            [np.where(np.isfinite(a), np.abs(a), 0).astype(a.dtype) if is_float(a) else a for a in args]
        )
        with np.errstate(all="ignore"):
            scales = [*scales, sizes.value()]
    _close(claim[calm], truth[calm], ulps, scales, "at special values")


def documented(s: Sample) -> None:
    """Formula text and docstring exist, for the op and for each rule."""
    op = s.op
    assert "=" in op.formula or "←" in op.formula
    assert op.__doc__
    assert op.__doc__.strip().endswith((".", "…", ">>>")) or ">>>" in op.__doc__
    for rule in (*op.rules.values(), *op.residuals.values()):
        assert "=" in rule.formula, f"the rule for {rule.argument} has no formula text"


@dataclass(frozen=True)
class Law:
    """A law, the samples that it is checked on, and what share of the profile's examples it gets."""

    holds: Callable[[Sample], None]
    sizes: tuple[int, ...] = (0, 1, 2, 3, 5, 18)
    dtypes: tuple[Any, ...] = (F32, F64, None)
    share: float = 0.25


SMALL, DOUBLE = (1, 2, 3), (F64,)
LAWS = {
    "pure": Law(pure),
    "layouts": Law(layouts),
    "linear": Law(linear),
    "kernels": Law(kernels, share=0.5),
    "dtypes": Law(dtypes, share=0.5),
    "integers": Law(integers, dtypes=(F32, F64)),
    "graph": Law(graph),
    "first": Law(first, SMALL, DOUBLE),
    "second": Law(second, SMALL, DOUBLE),
    "precision": Law(precision),
    "positions": Law(positions, (1, 2, 5, 17, 35)),
    "empty": Law(empty, (0, 1, 2)),
    "specials": Law(specials, (1, 3, 10, 19), (F32, F64)),
    "documented": Law(documented, share=0.05),
}


@cache
def warm(name: str) -> None:
    """Compile the op's kernels in both precisions, so that no example pays for it."""
    op = mg.REGISTRY[name]
    for dtype in (F32, F64):

        @settings(max_examples=4, phases=[Phase.generate], derandomize=True, database=None, deadline=60_000)
        @given(samples(op, SMALL, (dtype,)))
        def compiled(s: Sample) -> None:
            if s.active:
                g = s.cotangent()
                pull(s, g)
            s.value()

        compiled()


def check(name: str, law: str, **how: Any) -> None:
    """The law of that name, for the op of that name, on drawn samples."""
    op, rule = mg.REGISTRY[name], LAWS[law]
    warm(name)
    examples = max(2, round(settings().max_examples * rule.share))

    @settings(max_examples=examples, **how)
    @given(samples(op, rule.sizes, rule.dtypes))
    def holds(s: Sample) -> None:
        rule.holds(s)

    holds()
