"""The initializers, as small objects that print themselves, and as functions that fill a tensor in place."""
# ruff: noqa: N801  # an initializer is called like a function, so it is spelled like one

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from minigrad.engine.tensor import Tensor
from minigrad.init.gains import gain, unknown
from minigrad.init.laws import Law, Normal, Point, Rng, Shape, TruncatedNormal, Uniform
from minigrad.ops.update import assign

Array = NDArray[Any]
Initializer = Callable[[Rng, Shape, int, int, "np.dtype[Any]"], Array]

#: The standard deviation of N(0, 1) given that it lies in [−2, 2].
_CUT_AT_TWO = 0.87962566103423978


def _scale(variance: float, fan: int) -> float:
    """√(variance / fan), and 0 for no fan at all: there is nothing to draw then."""
    return math.sqrt(variance / fan) if fan else 0.0


def fans(shape: Shape) -> tuple[int, int]:
    """(fan in, fan out) of a weight (out, in, …), whose axes after the second count as a receptive field.

    A guess from a shape, for the in-place forms only: a layer knows its fans, and passes them. Raises ValueError for
    fewer than two axes.

    >>> fans((32, 64)), fans((8, 3, 5, 5))
    ((64, 32), (75, 200))
    """
    if len(shape) < 2:
        raise ValueError(f"fans: a weight has two axes or more, (out, in, ...), got shape {shape}")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


@dataclass(frozen=True)
class Rule:
    """An initializer that knows the law of what it draws; a subclass gives ``law``, and the rest follows."""

    #: Whether its law depends on the fans.
    scaled: ClassVar[bool] = False

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        """What the elements have in common: mean, variance, support, and the cdf if they are independent."""
        raise NotImplementedError(f"{self!r} does not say which law it draws from")

    @property
    def breaks_symmetry(self) -> bool:
        """Whether units that are drawn by it differ from each other."""
        return self.law((2, 2), 2, 2).variance > 0

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, dtype: np.dtype[Any]) -> Array:
        return self.law(shape, fan_in, fan_out).draw(rng, shape, dtype)


@dataclass(frozen=True)
class _Scaled(Rule):
    scaled: ClassVar[bool] = True


@dataclass(frozen=True)
class constant(Rule):
    """Every element is ``value``. As weights it makes all units of a layer the same, and they stay the same.

    Use it for biases, and to see symmetry.
    """

    value: float

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        return Point(self.value)


@dataclass(frozen=True)
class zeros(Rule):
    """Every element is 0.

    Use it for biases. As weights before a function with φ(0) = 0 it stops all learning but that of the last bias.
    """

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        return Point(0.0)


@dataclass(frozen=True)
class ones(Rule):
    """Every element is 1.

    Use it for the scales of normalizing layers.
    """

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        return Point(1.0)


@dataclass(frozen=True, eq=False)
class array(Rule):
    """A copy of the given array, cast to the parameter's dtype. Raises ValueError for another shape."""

    value: Array

    def __post_init__(self) -> None:
        value = np.array(self.value)
        if value.dtype.kind not in "biuf":
            raise TypeError(f"init: need an array of numbers, got dtype {value.dtype}")
        object.__setattr__(self, "value", value)

    @property
    def breaks_symmetry(self) -> bool:
        rows = self.value.reshape(len(self.value), -1) if self.value.ndim else self.value.reshape(1, 1)
        return len(np.unique(rows, axis=0)) > 1

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        values = np.asarray(self.value, np.float64)
        if not values.size:
            return Point(0.0)
        return Law(float(values.mean()), float(values.var()), (float(values.min()), float(values.max())))

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, dtype: np.dtype[Any]) -> Array:
        if self.value.shape != shape:
            raise ValueError(f"the array has shape {self.value.shape}, the parameter {shape}")
        return self.value.astype(dtype)


@dataclass(frozen=True)
class normal(Rule):
    """N(mean, std²), whatever the fans.

    Use it with a std of your own. A fixed one, like 0.01, vanishes or explodes with depth (D2L §3.15).
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not self.std >= 0:
            raise ValueError(f"normal: std must not be negative, got {self.std}")

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        return Normal(self.mean, self.std)


@dataclass(frozen=True)
class uniform(Rule):
    """U[low, high], whatever the fans. Raises ValueError where the dtype has no number between them.

    Use it with bounds of your own.
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"uniform: low must not exceed high, got {self.low} and {self.high}")

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        return Uniform(self.low, self.high)


@dataclass(frozen=True)
class truncated_normal(Rule):
    """N(mean, std²) given that it lies in [low, high], by rejection; its variance is below std².

    Use it where no weight may be far out. Raises ValueError where less than 1e-3 of the normal lies between them.
    """

    mean: float = 0.0
    std: float = 1.0
    low: float = -2.0
    high: float = 2.0

    def __post_init__(self) -> None:
        if not (self.std > 0 and self.low < self.high):
            raise ValueError(f"truncated_normal: need std > 0 and low < high, got {self}")
        self.law((), 1, 1)

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        return TruncatedNormal(self.mean, self.std, self.low, self.high)


@dataclass(frozen=True)
class variance_scaling(_Scaled):
    """Mean 0 and variance ``scale`` / n: the family of all the scaled ones.

    ``mode``: n is "fan_in", "fan_out" or "fan_avg", their mean. ``distribution``: "normal", "uniform", or
    "truncated_normal", cut at ±2σ, with σ enlarged so that the variance is scale / n after the cut.
    Use it to spell a rule of your own: scale 1, fan_avg is Xavier's, scale 2, fan_in is He's.
    Raises ValueError for other words, and for a negative scale.
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"

    def __post_init__(self) -> None:
        for what, word, words in (
            ("mode", self.mode, ("fan_in", "fan_out", "fan_avg")),
            ("distribution", self.distribution, ("normal", "uniform", "truncated_normal")),
        ):
            if word not in words:
                raise ValueError(f"variance_scaling: {what} must be one of {', '.join(words)}, got {word!r}")
        if not self.scale >= 0:
            raise ValueError(f"variance_scaling: scale must not be negative, got {self.scale}")

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        doubled = {"fan_in": 2 * fan_in, "fan_out": 2 * fan_out, "fan_avg": fan_in + fan_out}[self.mode]
        std = _scale(2 * self.scale, doubled)
        if self.distribution == "uniform":
            return Uniform(-math.sqrt(3) * std, math.sqrt(3) * std)
        if self.distribution == "normal" or not std:
            return Normal(0.0, std)
        parent = std / _CUT_AT_TWO
        return TruncatedNormal(0.0, parent, -2 * parent, 2 * parent)


@dataclass(frozen=True)
class xavier_uniform(_Scaled):
    """U(±gain √(6 / (fan_in + fan_out))): variance 2 gain² / (fan_in + fan_out) (Glorot & Bengio 2010, eq. 16).

    Use it for tanh and linear layers. It keeps neither activations nor gradients exactly unless fan_in = fan_out.
    """

    gain: float = 1.0

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        bound = abs(self.gain) * _scale(6, fan_in + fan_out)
        return Uniform(-bound, bound)


@dataclass(frozen=True)
class xavier_normal(_Scaled):
    """N(0, 2 gain² / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 12).

    Use it as xavier_uniform.
    """

    gain: float = 1.0

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        return Normal(0.0, abs(self.gain) * _scale(2, fan_in + fan_out))


@dataclass(frozen=True)
class lecun_uniform(_Scaled):
    """U(±√(3 / fan_in)): variance 1 / fan_in (LeCun et al. 1998, "Efficient BackProp", §4.6).

    Use it for linear layers and selu: it keeps the size of what enters.
    """

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        bound = _scale(3, fan_in)
        return Uniform(-bound, bound)


@dataclass(frozen=True)
class lecun_normal(_Scaled):
    """N(0, 1 / fan_in) (LeCun et al. 1998, "Efficient BackProp", §4.6).

    Use it as lecun_uniform.
    """

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        return Normal(0.0, _scale(1, fan_in))


@dataclass(frozen=True)
class _Kaiming(_Scaled):
    a: float = 0.0
    mode: str = "fan_in"
    nonlinearity: str = "leaky_relu"

    def __post_init__(self) -> None:
        if self.mode not in ("fan_in", "fan_out"):
            raise ValueError(f"kaiming: mode must be 'fan_in' or 'fan_out', got {self.mode!r}")
        gain(self.nonlinearity, self.a)  # ValueError if there is none of this name

    def _std(self, fan_in: int, fan_out: int) -> float:
        return gain(self.nonlinearity, self.a) * _scale(1, fan_in if self.mode == "fan_in" else fan_out)


@dataclass(frozen=True)
class kaiming_normal(_Kaiming):
    """N(0, gain² / fan) (He et al. 2015, eq. 10 and 14).

    ``mode``: "fan_in" keeps the size of activations, "fan_out" that of gradients. ``nonlinearity`` chooses the
    :func:`gain`; ``a`` is the slope of "leaky_relu", and ignored for others, as in PyTorch.
    Use it for relu and its kin. Raises ValueError for other modes and nonlinearities.
    """

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        return Normal(0.0, self._std(fan_in, fan_out))


@dataclass(frozen=True)
class kaiming_uniform(_Kaiming):
    """U(±gain √(3 / fan)), of the same variance as :class:`kaiming_normal`, and with its options.

    Use it for relu and its kin.
    """

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        bound = math.sqrt(3) * self._std(fan_in, fan_out)
        return Uniform(-bound, bound)


@dataclass(frozen=True)
class default(_Scaled):
    """U(±1 / √fan_in), for weights and biases alike: what PyTorch does for its Linear. Variance 1 / (3 fan_in).

    Use it in shallow networks. Each layer divides the variance by 3 (6 with relu), and the biases hide that.
    """

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        bound = _scale(1, fan_in)
        return Uniform(-bound, bound)


@dataclass(frozen=True)
class orthogonal(Rule):
    """Orthonormal rows or columns, whichever are fewer, times ``gain``; axes after the first count as one.

    Uniform over such matrices: the QR factors of a normal matrix, with the signs of R's diagonal moved into Q
    (Mezzadri 2007, "How to generate random matrices from the classical compact groups").
    Use it for deep linear and tanh networks: all singular values are equal (Saxe et al. 2014).
    Raises ValueError for fewer than two axes.
    """

    gain: float = 1.0

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        k = abs(self.gain)
        return Law(0.0, k * k / (max(shape[0], math.prod(shape[1:])) or 1), (-k, k))

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, dtype: np.dtype[Any]) -> Array:
        if len(shape) < 2:
            raise ValueError(f"orthogonal needs at least two axes, got shape {shape}")
        rows, columns = shape[0], math.prod(shape[1:])
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q *= np.copysign(self.gain, np.diagonal(r))  # copysign: a 0 must not erase a column
        return (q if rows >= columns else q.T).reshape(shape).astype(dtype)


@dataclass(frozen=True)
class eye(Rule):
    """``gain`` on the diagonal of a matrix, and 0 elsewhere.

    Use it for square linear layers that shall begin as the identity. Raises ValueError for other than two axes.
    """

    gain: float = 1.0

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        size = math.prod(shape)
        mean = self.gain * min(shape, default=0) / size if size else 0.0
        return Law(mean, mean * (self.gain - mean), (min(0.0, self.gain), max(0.0, self.gain)))

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, dtype: np.dtype[Any]) -> Array:
        if len(shape) != 2:
            raise ValueError(f"eye needs two axes, got shape {shape}")
        return (self.gain * np.eye(*shape)).astype(dtype)


@dataclass(frozen=True)
class sparse(Rule):
    """⌈sparsity · rows⌉ zeros at random places of each column, and N(0, std²) elsewhere (Martens 2010, §5).

    Use it to give each unit few strong inputs. Raises ValueError for a sparsity outside [0, 1] and for other than two
    axes.
    """

    sparsity: float = 0.9
    std: float = 0.01

    def __post_init__(self) -> None:
        if not (0 <= self.sparsity <= 1 and self.std >= 0):
            raise ValueError(f"sparse: need a sparsity in [0, 1] and std >= 0, got {self}")

    @property
    def breaks_symmetry(self) -> bool:
        return self.std > 0 and self.sparsity < 1

    def zeros(self, rows: int) -> int:
        """How many elements of a column are 0."""
        return math.ceil(self.sparsity * rows)

    def law(self, shape: Shape, fan_in: int, fan_out: int) -> Law:
        kept = 1 - self.zeros(shape[0]) / shape[0] if shape and shape[0] else 0.0
        return Law(0.0, self.std * self.std * kept)

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, dtype: np.dtype[Any]) -> Array:
        if len(shape) != 2:
            raise ValueError(f"sparse needs two axes, got shape {shape}")
        values = self.std * rng.standard_normal(shape)
        order = rng.permuted(np.tile(np.arange(shape[0])[:, None], (1, shape[1])), axis=0)
        np.put_along_axis(values, order[: self.zeros(shape[0])], 0.0, axis=0)
        return values.astype(dtype)


_NAMES: MappingProxyType[str, Any] = MappingProxyType(
    {
        rule.__name__: rule
        for rule in (
            default,
            zeros,
            ones,
            normal,
            uniform,
            truncated_normal,
            variance_scaling,
            xavier_uniform,
            xavier_normal,
            lecun_uniform,
            lecun_normal,
            kaiming_uniform,
            kaiming_normal,
            orthogonal,
            eye,
            sparse,
        )
    }
)
#: What :func:`get` knows by name.
NAMES = tuple(_NAMES)


def get(what: Any) -> Initializer:
    """An initializer from a number, an array or tensor (copied), a name, or any callable of that form.

    Raises ValueError for an unknown name, with the nearest one, and TypeError for anything else.

    >>> get(0.5), get("xavier_normal")
    (constant(value=0.5), xavier_normal(gain=1.0))
    """
    if isinstance(what, str):
        if what not in NAMES:
            raise unknown("initializer", what, NAMES)
        named: Initializer = _NAMES[what]()
        return named
    if isinstance(what, Tensor):
        return array(what.data)
    if isinstance(what, np.ndarray | list | tuple):
        return array(np.array(what))
    if isinstance(what, int | float | np.number) and not isinstance(what, bool):
        return constant(float(what))
    if isinstance(what, type) or not callable(what):
        shown = f"the class {what.__name__}: call it" if isinstance(what, type) else type(what).__name__
        form = "(rng, shape, fan_in, fan_out, dtype)"
        raise TypeError(f"an initializer is a number, an array, a name or a callable {form}, not {shown}")
    rule: Initializer = what
    return rule


def draw(
    rule: Initializer,
    rng: Rng,
    shape: Shape,
    fan_in: int,
    fan_out: int,
    dtype: np.dtype[Any],
    name: str = "parameter",
) -> Array:
    """What an initializer gives for the parameter ``name``, checked, in new C-contiguous memory.

    Raises ValueError, naming the parameter, for another shape and for values that are not finite; TypeError for what
    is no array of that dtype.
    """
    try:
        with np.errstate(over="ignore"):  # an overflow is reported below, by name
            values = rule(rng, shape, fan_in, fan_out, dtype)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if isinstance(values, np.generic):  # NumPy's word for an array without axes
        values = np.asarray(values)
    if not isinstance(values, np.ndarray):
        raise TypeError(f"{name}: {rule!r} returned {type(values).__name__}, need an array")
    if values.shape != shape:
        raise ValueError(f"{name}: {rule!r} returned shape {values.shape}, need {shape}")
    if values.dtype != dtype:
        raise TypeError(f"{name}: {rule!r} returned {values.dtype}, need {dtype}: end with .astype(dtype)")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: {rule!r} returned values that are not finite in {dtype}")
    return np.array(values, order="C")


def explain(name: str) -> str:
    """What the initializer of that name does, where it comes from, when to use it, and its law in a Linear(256, 128).

    Raises ValueError for an unknown name.

    >>> print(explain("lecun_normal"))
    lecun_normal()
    <BLANKLINE>
    N(0, 1 / fan_in) (LeCun et al. 1998, "Efficient BackProp", §4.6).
    <BLANKLINE>
    Use it as lecun_uniform.
    <BLANKLINE>
    In a Linear(256, 128): mean 0, standard deviation 0.0625, between -inf and inf.
    Units drawn by it differ: it breaks symmetry.
    """
    known = {**_NAMES, "constant": constant}
    if name not in known:
        raise unknown("initializer", name, known)
    rule = known[name](1.0) if name == "constant" else known[name]()
    law = rule.law((128, 256), 256, 128)
    low, high = law.support
    where = f"mean {law.mean:.4g}, standard deviation {math.sqrt(law.variance):.4g}, between {low:.4g} and {high:.4g}"
    symmetry = "differ: it breaks symmetry" if rule.breaks_symmetry else "are equal, and stay equal"
    document = inspect.cleandoc(rule.__doc__ or "")
    return f"{rule!r}\n\n{document}\n\nIn a Linear(256, 128): {where}.\nUnits drawn by it {symmetry}."


def _in_place(kind: Callable[..., Rule]) -> Callable[..., Tensor]:
    """The form of an initializer that fills a tensor."""

    def fill(tensor: Tensor, *args: Any, rng: Rng | None = None, **options: Any) -> Tensor:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}_: need a Tensor to fill, got {type(tensor).__name__}; an array: mg.from_numpy(a)")
        rule = kind(*args, **options)
        fan_in, fan_out = fans(tensor.shape) if rule.scaled else (1, 1)
        generator = np.random.default_rng() if rng is None else rng
        values = draw(rule, generator, tensor.shape, fan_in, fan_out, tensor.dtype, tensor.name or "tensor")
        assign(tensor, values)
        return tensor

    name = kind.__name__
    fill.__name__ = fill.__qualname__ = f"{name}_"
    fill.__doc__ = f"""Fill a tensor in place by :class:`{name}`, and return it; ``rng``: fresh entropy unless given.

    Takes that initializer's options. Raises ValueError where they, or the shape, do not fit it; TypeError for what is
    no Tensor.
    """
    return fill


constant_ = _in_place(constant)
zeros_ = _in_place(zeros)
ones_ = _in_place(ones)
normal_ = _in_place(normal)
uniform_ = _in_place(uniform)
trunc_normal_ = _in_place(truncated_normal)
variance_scaling_ = _in_place(variance_scaling)
xavier_uniform_ = _in_place(xavier_uniform)
xavier_normal_ = _in_place(xavier_normal)
lecun_uniform_ = _in_place(lecun_uniform)
lecun_normal_ = _in_place(lecun_normal)
kaiming_uniform_ = _in_place(kaiming_uniform)
kaiming_normal_ = _in_place(kaiming_normal)
default_ = _in_place(default)
orthogonal_ = _in_place(orthogonal)
eye_ = _in_place(eye)
sparse_ = _in_place(sparse)
