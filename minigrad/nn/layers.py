"""Layers."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike

from minigrad import init
from minigrad.nn.module import Buffer, Module, Parameter
from minigrad.ops.activation import dropout
from minigrad.ops.arithmetic import copy
from minigrad.ops.broadcast import reshape
from minigrad.ops.linalg import linear
from minigrad.ops.update import assign, tick


def _size(name: str, value: SupportsIndex) -> int:
    try:
        size = operator.index(value)
    except TypeError:
        raise TypeError(f"Linear: {name} must be an integer, got {value!r}") from None
    if size < 0:
        raise ValueError(f"Linear: {name} must not be negative, got {size}")
    return size


class Linear(Module):
    """y = x Wᵀ + b: x (…, in_features) -> y (…, out_features).

    ``weight`` has shape (out_features, in_features), ``bias`` (out_features,), or is None with ``bias=False``.
    ``weight_init`` and ``bias_init`` are what :func:`minigrad.init.get` takes; by default both are
    U(±1/√in_features), as in PyTorch. They are called with fan_in = in_features and fan_out = out_features.

    Raises ValueError for x of another width, naming it.

    >>> import minigrad as mg
    >>> layer = Linear(3, 2, weight_init=1.0, bias_init=[0.5, 0.0])
    >>> layer(mg.tensor([[1.0, 2.0, 3.0]])).tolist()
    [[6.5, 6.0]]
    """

    def __init__(
        self,
        in_features: SupportsIndex,
        out_features: SupportsIndex,
        bias: bool = True,
        *,
        weight_init: Any = None,
        bias_init: Any = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        self.in_features = fan_in = _size("in_features", in_features)
        self.out_features = fan_out = _size("out_features", out_features)
        self.weight = Parameter(
            init.default() if weight_init is None else weight_init,
            (fan_out, fan_in),
            fan_in=fan_in,
            fan_out=fan_out,
            dtype=dtype,
            name="weight",
        )
        self.bias: Parameter | None = None
        if bias:
            self.bias = Parameter(
                init.default() if bias_init is None else bias_init,
                (fan_out,),
                fan_in=fan_in,
                fan_out=fan_out,
                dtype=dtype,
                name="bias",
            )
        elif bias_init is not None:
            raise ValueError("Linear: bias_init is given, but bias is False")

    def forward(self, x: Any) -> Any:
        return linear(x, self.weight, self.bias)


class Sequential(Module):
    """Modules one after the other: those given by position are named "0", "1", …, then those given by name.

    Index it by position, name or slice (which shares the layers, and keeps their names); it has a length and iterates.
    Raises TypeError for what is no module, ValueError for a name that every Sequential has already.

    >>> net = Sequential(Linear(4, 3), hidden=Linear(3, 2))
    >>> net[0] is net["0"], net[-1] is net.hidden, len(net)
    (True, True, 2)
    """

    def __init__(self, *layers: Module, **named: Module) -> None:
        for name, layer in [*((str(i), layer) for i, layer in enumerate(layers)), *named.items()]:
            if not isinstance(layer, Module):
                shown = f"the class {layer.__name__}: call it" if isinstance(layer, type) else repr(layer)
                raise TypeError(f"Sequential: layer {name} must be a module, not {shown}")
            if hasattr(self, name):
                raise ValueError(f"Sequential: no layer can be named {name!r}, choose another name")
            vars(self)[name] = layer

    def forward(self, x: Any) -> Any:
        for layer in tuple(vars(self).values()):
            if isinstance(layer, Module):
                x = layer._run(x)
        return x

    def __iter__(self) -> Iterator[Module]:
        return iter([part for part in vars(self).values() if isinstance(part, Module)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, key: int | str | slice) -> Any:
        named = {name: part for name, part in vars(self).items() if isinstance(part, Module)}
        if isinstance(key, str):
            if key not in named:
                raise KeyError(f"no layer is named {key!r}: there are {', '.join(named)}")
            return named[key]
        if isinstance(key, slice):
            return Sequential(**dict(list(named.items())[key]))
        try:
            return list(named.values())[key]
        except IndexError:
            raise IndexError(f"there is no layer {key} of {len(named)}") from None


class Identity(Module):
    """y = x."""

    def forward(self, x: Any) -> Any:
        return x


class Flatten(Module):
    """All axes from ``start`` on become one, in C order: (n, 8, 8) -> (n, 64)."""

    def __init__(self, start: int = 1) -> None:
        self.start = start

    def forward(self, x: Any) -> Any:
        return reshape(x, (*x.shape[: self.start], int(np.prod(x.shape[self.start :]))))


class Dropout(Module):
    """In training, zero each element with probability ``rate`` and scale the others by 1/(1 − rate); else y = x.

    Which ones is a function of ``key`` (drawn by ``initialize(seed)`` from the seed and this module's dotted name),
    of ``count`` (how many calls there have been) and of the element's index: Srivastava et al. 2014, with Philox for
    the coin. Both are buffers, so a checkpoint goes on where it was. Raises ValueError for a rate outside [0, 1).

    >>> import minigrad as mg
    >>> net = Sequential(Dropout(0.5)).initialize(seed=0)
    >>> net(mg.tensor([1.0] * 8)).tolist()
    [0.0, 0.0, 2.0, 0.0, 2.0, 2.0, 2.0, 0.0]
    >>> net.eval()(mg.tensor([1.0] * 8)).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """

    def __init__(self, rate: float = 0.5) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"Dropout: rate must lie in [0, 1), got {rate}")
        self.rate = float(rate)
        self.key = Buffer(np.zeros(1, "int64"))
        self.count = Buffer(np.zeros(1, "int64"))
        self.reset(np.random.default_rng())

    def reset(self, rng: np.random.Generator) -> None:
        assign(self.key, rng.integers(2**63, size=1))
        assign(self.count, 0)

    def forward(self, x: Any) -> Any:
        if not self.training:
            return x
        tick(self.count)
        # a copy, because the tape saves it and the next call writes the counter
        return dropout(x, self.key, copy(self.count), self.rate)
