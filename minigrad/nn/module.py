"""Parameters, buffers, and the modules that own them."""

from __future__ import annotations

import difflib
import operator
import sys
from collections.abc import Iterator, Mapping
from typing import Any, SupportsIndex, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minigrad import init
from minigrad.engine.state import _STATE, PACKAGE, State, current
from minigrad.engine.tensor import Tensor, tensor
from minigrad.ops.update import assign

M = TypeVar("M", bound="Module")


class Parameter(Tensor):
    """A leaf that requires a gradient, and the initializer that it is drawn from.

    ``Parameter(what, shape, fan_in=…, fan_out=…, dtype=…)`` draws ``shape`` numbers by ``init.get(what)``, at once and
    from fresh entropy. ``Parameter(values)`` begins with a copy of ``values``, and returns to them when its module is
    initialized. The dtype is a float (float32 unless given, or that of an array of floats).

    Raises what :func:`minigrad.init.get` and :func:`minigrad.init.draw` raise; TypeError for a dtype that is no float.

    >>> Parameter(0.5, (2,))
    tensor([0.5, 0.5], requires_grad=True)
    """

    __slots__ = ("fans", "initializer")

    def __init__(
        self,
        what: Any,
        shape: tuple[int, ...] | None = None,
        *,
        fan_in: int = 1,
        fan_out: int = 1,
        dtype: DTypeLike | None = None,
        name: str = "parameter",
    ) -> None:
        if shape is None:
            what = tensor(what, dtype).data
            shape = what.shape
            dtype = what.dtype if what.dtype.kind == "f" else dtype
        kind = np.dtype("float32" if dtype is None else dtype)
        if kind.kind != "f":
            raise TypeError(f"{name}: a parameter needs a float dtype, got {kind}")
        self.initializer = init.get(what)
        self.fans = (fan_in, fan_out)
        rng = np.random.default_rng()
        super().__init__(init.draw(self.initializer, rng, shape, fan_in, fan_out, kind, name))
        self.requires_grad_()

    def draw(self, rng: np.random.Generator, name: str = "parameter") -> None:
        """Draw again, in place."""
        fan_in, fan_out = self.fans
        assign(self, init.draw(self.initializer, rng, self.shape, fan_in, fan_out, self.dtype, name))


class Buffer(Tensor):
    """A constant that belongs to a module's state without being trained: a running statistic, a counter."""

    __slots__ = ()

    def __init__(self, values: Any, dtype: DTypeLike | None = None) -> None:
        super().__init__(tensor(values, dtype).data)


class Module:
    """A function with parameters: give it attributes in ``__init__``, and a ``forward``.

    Parameters, buffers and modules are found by walking attributes, lists, tuples and dicts in the order in which they
    were added, each object once; the way to one, joined by dots, is its name. There is nothing to register, and no
    ``super().__init__()`` to forget.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> class Scale(nn.Module):
    ...     def __init__(self):
    ...         self.by = nn.Parameter([2.0, 3.0])
    ...     def forward(self, x):
    ...         return x * self.by
    >>> scale = Scale()
    >>> scale(mg.tensor([1.0, 1.0])).tolist(), dict(scale.named_parameters())
    ([2.0, 3.0], {'by': tensor([2., 3.], requires_grad=True)})
    """

    training: bool = True
    _path: str | None = None  # where the module was found; None until a walk, or a call, has found it

    def __setattr__(self, name: str, value: Any) -> None:
        State.changes[0] += 1
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        State.changes[0] += 1
        super().__delattr__(name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run ``forward``; what it records carries this module's path and the user's line."""
        frame = sys._getframe(1)
        if frame.f_code.co_filename.startswith(PACKAGE):
            return self._run(*args, **kwargs)
        state = _STATE.get(None) or current()
        site = state.site
        state.site = frame.f_code, frame.f_lasti
        try:
            return self._run(*args, **kwargs)
        finally:
            state.site = site

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        """``forward``, called by another module of the package: the user's line is known."""
        if self._path is None:
            for _ in self._walk():
                pass
        state = _STATE.get(None) or current()
        path = state.path
        if state.observer is not None:
            state.observer.uses(self)
        state.path = self._path  # type: ignore[assignment]  # the walk has set it
        try:
            return self.forward(*args, **kwargs)
        finally:
            state.path = path

    # Finding

    def _walk(self) -> Iterator[tuple[str, Any, Module]]:
        """(name, object, owner) of every module, parameter and buffer, this one first; tells them their paths."""
        seen: set[int] = set()
        names: set[str] = set()
        root = self._path or ""
        stack: list[tuple[str, Any, Module]] = [("", self, self)]
        while stack:
            name, found, owner = stack.pop()
            if id(found) in seen:
                continue
            seen.add(id(found))
            inside: Any = ()
            if isinstance(found, dict):
                inside = found.items()
            elif isinstance(found, list | tuple):
                inside = enumerate(found)
            else:
                if name in names:
                    raise ValueError(f"{type(self).__name__}: two of its parts have the name {name!r}")
                names.add(name)
                path = f"{root}.{name}" if root and name else root or name
                if isinstance(found, Module) and found._path != path:
                    found._path = path
                elif isinstance(found, Tensor) and found.requires_grad:
                    found.name = path
                yield name, found, owner
                if isinstance(found, Module):
                    owner, inside = found, vars(found).items()
            parts = [(key, part) for key, part in inside if isinstance(part, _PARTS)]
            stack += [(f"{name}.{key}" if name else str(key), part, owner) for key, part in reversed(parts)]

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) of this module, whose name is empty, and all inside it."""
        return iter([(name, found) for name, found, _ in self._walk() if isinstance(found, Module)])

    def children(self) -> Iterator[Module]:
        """The modules directly inside this one, those in its lists, tuples and dicts included."""
        parts = [found for _, found, owner in self._walk() if owner is self and isinstance(found, Module)]
        return iter(parts[1:])

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter) of all parameters, shared ones once."""
        return iter([(name, found) for name, found, _ in self._walk() if isinstance(found, Parameter)])

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, shared ones once."""
        return iter([parameter for _, parameter in self.named_parameters()])

    # State

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of the arrays of all parameters and buffers, by name."""
        return {name: np.array(found.data, order="C") for name, found in self._tensors().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Write arrays into the parameters and buffers of the same names, keeping their dtypes.

        Everything is checked before anything is written. Raises KeyError for names that are missing or not known here
        (with the nearest one), ValueError for another shape, TypeError for another kind of dtype.
        """
        new = self.check_state_dict(state)
        for name, found in self._tensors().items():
            assign(found, new[name])

    def check_state_dict(self, state: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """``state`` as arrays that ``load_state_dict`` can write; raises its errors otherwise, and writes nothing."""
        return check_state("load_state_dict", self._tensors(), state)

    def _tensors(self) -> dict[str, Tensor]:
        return {name: found for name, found, _ in self._walk() if isinstance(found, Tensor)}

    def initialize(self: M, seed: SupportsIndex) -> M:
        """Draw every parameter again, in place, and return the module.

        Each draws from ``Generator(PCG64(SeedSequence([seed, *name.encode()])))``: a function of the seed and its own
        dotted name, so that a new named child leaves the others' bytes alone. Modules with a state of their own (see
        :meth:`reset`) begin again as well. Raises TypeError for a seed that is no integer, ValueError below 0.
        """
        seed = operator.index(seed)
        if seed < 0:
            raise ValueError(f"initialize: the seed must not be negative, got {seed}")
        for name, found, _ in self._walk():
            if isinstance(found, Buffer):
                continue
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *name.encode()])))
            if isinstance(found, Module):
                found.reset(rng)
            else:
                found.draw(rng, name)
        return self

    def reset(self, rng: np.random.Generator) -> None:
        """What ``initialize`` does here beside drawing parameters: nothing, unless a module has something to do."""

    # Modes

    def train(self: M, training: bool = True) -> M:
        """Switch this module and all inside it to training (dropout is on), and return it."""
        for _, module in self.named_modules():
            module.training = training
        return self

    def eval(self: M) -> M:
        """Switch this module and all inside it to evaluation, and return it."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Drop the gradients: ``.grad`` of every parameter becomes None."""
        for parameter in self.parameters():
            parameter.grad = None

    def astype(self: M, dtype: DTypeLike) -> M:
        """Convert parameters and float buffers to a float dtype, and return the module; gradients are dropped.

        The parameters are the same objects with new memory: make optimizers and compile steps afterwards.
        Raises TypeError for a dtype that is no float.
        """
        kind = np.dtype(dtype)
        if kind.kind != "f":
            raise TypeError(f"astype: need a float dtype, got {kind}")
        for found in self._tensors().values():
            if found.dtype.kind == "f" and found.dtype != kind:
                found.data = found.data.astype(kind)
        self.parameters()  # new memory has no name yet
        return self

    def __repr__(self) -> str:
        lines: list[str] = []
        around: list[tuple[Module, str, int]] = []  # the modules still open, innermost last, and the line of each

        def close() -> None:
            if around.pop()[2] == len(lines) - 1:
                lines[-1] += ")"
            else:
                lines.append("  " * len(around) + ")")

        for name, found, owner in self._walk():
            if not isinstance(found, Module):
                continue
            while around and around[-1][0] is not owner:
                close()
            label = name.removeprefix(around[-1][1]).lstrip(".") + ": " if around else ""
            options = ", ".join(
                f"{key}={value!r}"
                for key, value in vars(found).items()
                if isinstance(value, int | float | str | None) and key != "training" and not key.startswith("_")
            )
            around.append((found, name, len(lines)))
            lines.append(f"{'  ' * (len(around) - 1)}{label}{type(found).__name__}({options}")
        while around:
            close()
        return "\n".join(lines)


_PARTS = (Module, Parameter, Buffer, dict, list, tuple)


def check_state(what: str, own: Mapping[str, Tensor], state: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """``state`` as arrays that fit the tensors ``own``. Raises as :meth:`Module.load_state_dict`."""
    missing = [f"{name!r} is missing" for name in own if name not in state]
    unknown = []
    for name in state:
        if name not in own:
            near = difflib.get_close_matches(name, [n for n in own if n not in state] or list(own), 1)
            unknown.append(f"{name!r} is not known here" + (f" (did you mean {near[0]!r}?)" if near else ""))
    if missing or unknown:
        raise KeyError(_Sentence(f"{what}: {'; '.join(filter(None, (_some(unknown), _some(missing))))}"))
    new = {name: np.asarray(value.data if isinstance(value, Tensor) else value) for name, value in state.items()}
    faults = []
    for name, found in own.items():
        if new[name].shape != found.shape:
            faults.append(f"{name!r} has shape {new[name].shape}, need {found.shape}")
    if faults:
        raise ValueError(f"{what}: {_some(faults)}")
    for name, found in own.items():
        if new[name].dtype.kind != found.dtype.kind:
            faults.append(f"{name!r} is {new[name].dtype}, need {found.dtype}")
    if faults:
        raise TypeError(f"{what}: {_some(faults)}")
    return new


def _some(faults: list[str]) -> str:
    return "; ".join([*faults[:4], f"and {len(faults) - 4} more"] if len(faults) > 5 else faults)


class _Sentence(str):
    """A message that KeyError shows as it is."""

    __slots__ = ()
    __repr__ = str.__str__
