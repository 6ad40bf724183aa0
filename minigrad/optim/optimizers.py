"""SGD, Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.engine.apply import write
from minigrad.engine.op import Op, op
from minigrad.engine.state import State, current
from minigrad.engine.tensor import Tensor
from minigrad.kernels import update as kernels
from minigrad.nn.module import Module, check_state
from minigrad.ops import update


@op(
    "h[i] ← value",
    shapes="free",
    differentiable=False,
    writes=("h",),
    kernel=kernels.put,
    cases=[(((3,), ()), {"i": 1})],
)
def put(h: Any, value: Any, /, i: int) -> None:
    """Write one element of a vector."""
    h[i] = value


@op(
    "β₁ᵗ ← β₁ β₁ᵗ, β₂ᵗ ← β₂ β₂ᵗ",
    shapes="free",
    differentiable=False,
    writes=("h",),
    kernel=kernels.advance,
    cases=[(((8,),), {})],
)
def advance(h: Any) -> None:
    """Begin a step of Adam: its running powers, h[6:8], are multiplied by their bases, h[1:3]."""
    h[6] *= h[1]
    h[7] *= h[2]


class _Hyper:
    """A hyper-parameter: one element of the vector ``h``, checked, and written by an op."""

    def __init__(self, index: int, need: str, holds: Callable[[float], bool]) -> None:
        self.index, self.need, self.holds = index, need, holds

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, optimizer: Optimizer | None, owner: type | None = None) -> Any:
        return self if optimizer is None else optimizer.h.data.item(self.index)

    def __set__(self, optimizer: Optimizer, value: Any) -> None:
        if isinstance(value, Tensor):
            put(optimizer.h, value, self.index)
            return
        h = optimizer.h._data.copy()
        h[self.index] = self.number(value)
        optimizer._check(h)
        put(optimizer.h, value if isinstance(value, float) else h[self.index], self.index)

    def number(self, value: Any) -> float:
        try:
            return float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{self.name} must be a number, got {type(value).__name__}") from None


def _size(index: int) -> _Hyper:
    return _Hyper(index, "be finite and not negative", lambda v: 0 <= v < math.inf)


def _fraction(index: int) -> _Hyper:
    return _Hyper(index, "lie in [0, 1)", lambda v: 0 <= v < 1)


class Optimizer:
    """What all optimizers share: parameters, the state that belongs to each, and the hyper-parameters.

    These, and Adam's running powers, are the float64 vector ``h`` that the ops read when they run, so that a recorded
    step sees them change: ``opt.lr = 0.01``. Parameters without a gradient are skipped.
    """

    lr = _size(0)
    slots: tuple[str, ...] = ()  # the state of each parameter: names of arrays of its shape and dtype

    def __init__(self, params: Iterable[Tensor], h: NDArray[np.float64], **hypers: Any) -> None:
        self.params = _leaves(type(self).__name__, params)
        for name, value in hypers.items():
            hyper = getattr(type(self), name)
            h[hyper.index] = hyper.number(value)
        self._check(h)
        self.h = Tensor(h)
        self.state = [tuple([Tensor(np.zeros(p.shape, p.dtype)) for _ in self.slots]) for p in self.params]

    def __setattr__(self, name: str, value: Any) -> None:
        State.changes[0] += 1
        super().__setattr__(name, value)

    def _hypers(self) -> dict[str, _Hyper]:
        found = {name: value for kind in reversed(type(self).__mro__) for name, value in vars(kind).items()}
        return {name: value for name, value in found.items() if isinstance(value, _Hyper)}

    def _check(self, h: NDArray[np.float64]) -> None:
        """Raise ValueError unless every hyper-parameter of this optimizer may be what h says."""
        for name, hyper in self._hypers().items():
            if not hyper.holds(h[hyper.index]):
                raise ValueError(f"{type(self).__name__}: {name} must {hyper.need}, got {h[hyper.index]}")

    def step(self) -> None:
        """Write every parameter that has a gradient."""
        raise NotImplementedError

    def _update(self, rule: Op) -> None:
        options = {"h": self.h._data}
        mode = current()
        if mode.observer is not None:
            mode.observer.uses(self)
        for p, state in zip(self.params, self.state, strict=True):
            gradient = None if p.node is None else p.grad if mode.observer is not None else p.node.grad
            if gradient is not None:
                write(rule, (p, gradient, *state), options, mode)

    def zero_grad(self) -> None:
        """Drop the gradients: ``.grad`` of every parameter becomes None."""
        observer = current().observer
        if observer is not None:
            observer.uses(self)
        for p in self.params:
            if p.node is not None:
                if observer is not None:
                    observer.gradient(p.node, write=True)
                p.node.grad = None

    def _tensors(self) -> dict[str, Tensor]:
        state = {f"{i}.{slot}": t for i, ts in enumerate(self.state) for slot, t in zip(self.slots, ts, strict=True)}
        return {"h": self.h, **state}

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of all arrays: "h", and for each parameter, by its position, those of its state ("0.momentum")."""
        return {name: np.array(found.data) for name, found in self._tensors().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state_dict()``, hyper-parameters included.

        Everything is checked before anything is written. Raises as :meth:`minigrad.nn.Module.load_state_dict`, and
        ValueError for hyper-parameters out of range or of another kind of optimizer.
        """
        new = self.check_state_dict(state)
        for name, found in self._tensors().items():
            update.assign(found, new[name])

    def check_state_dict(self, state: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """``state`` as arrays that ``load_state_dict`` can write; raises its errors otherwise, and writes nothing."""
        new = check_state(f"{type(self).__name__}.load_state_dict", self._tensors(), state)
        self._check(new["h"])
        return new

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name):g}" for name in self._hypers())
        return f"{type(self).__name__}({len(self.params)} parameters, {shown})"


def _leaves(what: str, params: Iterable[Tensor]) -> list[Tensor]:
    """The parameters as a list: leaves, at least one, no one twice."""
    if isinstance(params, Tensor | Module):
        hint = "[parameter]" if isinstance(params, Tensor) else "net.parameters()"
        raise TypeError(f"{what}: need a list of parameters: {hint}")
    found = list(params)
    for p in found:
        if not isinstance(p, Tensor):
            raise TypeError(f"{what}: parameters must be tensors, got {type(p).__name__}")
        if p.node is not None and p.node.op is not None:
            raise ValueError(f"{what}: a parameter was computed by {p.node.op.name}; only leaves can be trained")
        if p.dtype.kind != "f":
            raise TypeError(f"{what}: parameters must have a float dtype, got {p.dtype}")
    if not found:
        raise ValueError(f"{what}: there are no parameters (an iterator can be used only once)")
    if len({id(p) for p in found}) < len(found):
        raise ValueError(f"{what}: a parameter is listed twice")
    return found


class SGD(Optimizer):
    """Gradient descent, with momentum if ``momentum`` > 0: PyTorch's formulas (Nesterov's: Sutskever et al. 2013).

        d = ḡ + weight_decay p,  m ← momentum m + d,  p ← p − lr (m, or with ``nesterov`` d + momentum m)

    Raises ValueError for values out of range, for nesterov without momentum, and for no or repeated parameters;
    TypeError for what is no leaf tensor. All but ``nesterov`` can be changed later, but not momentum from 0.

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> opt = SGD([w], lr=0.5, momentum=0.9)
    >>> opt.lr = 0.25
    >>> opt
    SGD(1 parameters, lr=0.25, momentum=0.9, weight_decay=0)
    """

    momentum, weight_decay = _fraction(1), _size(2)

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self.slots = ("momentum",) if momentum else ()
        if nesterov and not momentum:
            raise ValueError("SGD: nesterov needs a momentum above 0")
        h = np.zeros(5)  # the last: dampening
        h[3] = bool(nesterov)
        super().__init__(params, h, lr=lr, momentum=momentum, weight_decay=weight_decay)

    def _check(self, h: NDArray[np.float64]) -> None:
        super()._check(h)
        if h[1] and not self.slots:
            raise ValueError("SGD: momentum was 0 when this optimizer was made: make another")

    def step(self) -> None:
        self._update(update.sgd_momentum if self.slots else update.sgd)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, algorithm 1); weight decay, if any, is added to the gradient, as in PyTorch.

    Raises ValueError for values out of range and for no or repeated parameters; TypeError for what is no leaf tensor.
    ``lr``, ``betas``, ``eps`` and ``weight_decay`` can be changed later.

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0, -2.0], requires_grad=True)
    >>> opt = Adam([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> [round(x, 6) for x in w.tolist()]
    [0.5, -1.5]
    """

    slots = ("m", "v")
    beta1, beta2, eps, weight_decay = _fraction(1), _fraction(2), _size(3), _size(4)
    _decoupled = False

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        beta1, beta2 = self._pair(betas)
        h = np.ones(8)  # the last two: the running powers
        h[5] = self._decoupled
        super().__init__(params, h, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)

    @property
    def betas(self) -> tuple[float, float]:
        """The decay rates of the means of ḡ and ḡ²."""
        return self.beta1, self.beta2

    @betas.setter
    def betas(self, betas: tuple[float, float]) -> None:
        self.beta1, self.beta2 = self._pair(betas)

    def _pair(self, betas: Any) -> tuple[float, float]:
        try:
            beta1, beta2 = betas
        except (TypeError, ValueError):
            raise TypeError(f"{type(self).__name__}: betas must be two numbers, got {betas!r}") from None
        return beta1, beta2

    def _check(self, h: NDArray[np.float64]) -> None:
        super()._check(h)
        if h[5] != self._decoupled:
            raise ValueError(f"{type(self).__name__}: the state belongs to {'Adam' if self._decoupled else 'AdamW'}")
        if not all(0 <= power <= 1 for power in h[6:8]):
            raise ValueError(f"{type(self).__name__}: running powers must lie in [0, 1], got {h[6:8].tolist()}")

    def step(self) -> None:
        advance(self.h)
        self._update(update.adam)


class AdamW(Adam):
    """Adam with decoupled weight decay: p ← (1 − lr weight_decay) p before each step (Loshchilov & Hutter 2019)."""

    _decoupled = True

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
