"""Declaring an op.

An op is one block: a forward formula, and one small rule for each differentiable argument. Everything else (the eager
call, the tape's line, second derivatives, error messages, test inputs) is derived from it::

    @op("y = tanh x", method="tanh", kernel=elementwise.tanh, x=reals(-3, 3))
    def tanh(x):
        '''Hyperbolic tangent, elementwise.'''
        return np.tanh(x)

    @tanh.vjp("x", "x̄ = ȳ (1 + y)(1 − y)", kernel=elementwise.tanh_vjp)
    def _(g, y):
        return (g + g * y) * (1 - y)

A rule's parameter names say what is saved for it: ``g`` is the cotangent of the output; an array argument's name, the
output's name (the letter left of "=") or a residual's name is saved; options, ``<argument>_shape``, and ``i`` and
``shapes`` (the position in a sequence of arguments, and the shapes of all) are free.
"""

from __future__ import annotations

import difflib
import inspect
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.engine.apply import apply
from minigrad.engine.shapes import Domain, Shapes
from minigrad.engine.state import Kernels
from minigrad.engine.tape import Node
from minigrad.engine.tensor import Tensor, native

#: Every op by its name. Append-only.
REGISTRY: dict[str, Op] = {}

_F32, _F64 = np.dtype(np.float32), np.dtype(np.float64)
_ndarray = np.ndarray


@dataclass(frozen=True, eq=False)
class Rule:
    """The cotangent of one argument: formula text, the formula in ops, what it names, and perhaps a fused kernel."""

    op: Op
    argument: str
    formula: str
    fn: Callable[..., Any]
    names: tuple[str, ...]
    arrays: tuple[bool, ...]  # which names stand for arrays; the others are free
    kernel: Callable[..., Any] | None

    def run(self, values: Sequence[Any], kernels: Kernels) -> Any:
        """The cotangent as an array, from arrays and free values in the order of ``names``."""
        if self.kernel is None or kernels != "own":  # the formula's ops run by BLAS where it is asked for
            return self.fn(*values)
        arrays = [value for value, is_array in zip(values, self.arrays, strict=True) if is_array]
        ready = self.op._ready(
            arrays, [name for name, is_array in zip(self.names, self.arrays, strict=True) if is_array]
        )
        if ready is None:
            return self.fn(*values)
        if ready is not arrays:
            queue = iter(ready)
            values = [next(queue) if is_array else value for value, is_array in zip(values, self.arrays, strict=True)]
        return self.kernel(*values)


@dataclass(frozen=True)
class Plan:
    """For one op and one set of arguments that need gradients: what to save, and how to run the rules.

    ``saved``: positions in (arguments, output, residuals), which ``pick`` picks; ``inputs`` picks the arguments among
    them; ``output``, ``residuals``: whether the output, or any residual, is among them. ``quick``: where one kernel
    serves all the rules, the function (g, saved, parents) -> [(parent, cotangent), …] that calls it.
    ``calls``: (argument position, rule, keys, [(kind, key), …]), a kind for each parameter of the rule; ``keys`` are
    those of the saved values if the rule names nothing but g and them, else None.
    """

    saved: tuple[int, ...]
    pick: Callable[[Sequence[Any]], Sequence[Any]]
    inputs: Callable[[Sequence[Any]], Sequence[Any]]
    output: bool
    residuals: bool
    quick: Callable[..., list[tuple[Node, Any]]] | None
    calls: tuple[tuple[int, Rule, tuple[int, ...] | None, tuple[tuple[str, Any], ...]], ...]


def _fused(run: Callable[..., Any], positions: Sequence[int], where: Sequence[int | None]) -> Callable[..., Any]:
    """The ``quick`` of a plan whose op has a fused kernel."""

    def quick(g: Any, saved: Sequence[Any], parents: Sequence[Any]) -> list[tuple[Node, Any]]:
        values = []
        for key in where:
            values.append(None if key is None else saved[key])
        return list(zip(pick(parents), run(g, *values), strict=True))

    pick = _picker(positions)
    return quick


def _single(run: Callable[..., Any] | None, position: int, keys: Sequence[int]) -> Callable[..., Any]:
    """The ``quick`` of a plan with one rule, of g and saved values only."""
    assert run is not None
    kernel, pick = run, _picker(keys)
    return lambda g, saved, parents: [(parents[position], kernel(g, *pick(saved)))]


def _picker(positions: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """The function from a list to its elements at these positions."""
    if len(positions) > 1:
        return operator.itemgetter(*positions)
    return operator.itemgetter(slice(positions[0], positions[0] + 1) if positions else slice(0))


class Op:
    """A declared op: call it with tensors to record, with arrays to compute. See :func:`op`."""

    def __init__(
        self,
        fn: Callable[..., Any],
        formula: str,
        *,
        shapes: str,
        kernel: Callable[..., Any] | None,
        blas: Callable[..., Any] | None,
        native: Callable[..., Any] | None,
        ulps: tuple[float, float],
        differentiable: bool,
        writes: Sequence[str],
        view: bool,
        sequence: bool,
        cases: Sequence[Any],
        domains: dict[str, Domain],
    ) -> None:
        self.name = fn.__name__.rstrip("_")
        self.__name__, self.__qualname__, self.__doc__, self.__module__ = (
            self.name,
            self.name,
            fn.__doc__,
            fn.__module__,
        )
        self.fn, self.formula, self.kernel, self.blas, self.native = fn, formula, kernel, blas, native
        self.ulps = ulps
        self.differentiable, self.writes, self.view, self.sequence = differentiable, tuple(writes), view, sequence
        self.shapes, self.cases, self.domains = shapes, tuple(cases), domains
        self.letters = Shapes(shapes) if "->" in shapes else None
        self.output = formula.split("=")[0].strip().lower() if "=" in formula else "y"
        self.__signature__ = inspect.signature(fn)
        parameters = list(self.__signature__.parameters.values())
        marked = sum(p.kind is p.POSITIONAL_ONLY for p in parameters)
        count = marked or (len(self.letters.inputs) if self.letters else sum(p.default is p.empty for p in parameters))
        self.arrays = tuple(p.name for p in parameters[:count])
        self.defaults = {p.name: p.default for p in parameters[count:]}
        self._optional = sum(p.default is None for p in parameters[:count])
        self._complete = inspect.Parameter.empty not in self.defaults.values()
        self._plain = (
            len(self.arrays) if self._complete and not sequence else -1
        )  # a call with so many needs no binding
        self.takes_any_shape = kernel is not None and not writes and (shapes != "elementwise" or len(self.arrays) == 1)
        self.promotes = kernel is not None or not self.__module__.startswith("minigrad.")  # ours leave it to NumPy
        self.checks_letters = self.letters is not None and not getattr(kernel, "checks_shapes", False)
        self.integral = sum(1 << i for i, name in enumerate(self.arrays) if self._is_integral(name))
        self.written = tuple(self.arrays.index(name) for name in writes)
        self.rules: dict[str, Rule] = {}
        self.residuals: dict[str, Rule] = {}
        self.fused: tuple[tuple[str, ...], Callable[..., Any]] | None = None
        self._plans: dict[Any, Plan] = {}
        self._agreeing: set[Any] = set()

    # Declaration

    def _rule(self, argument: str, formula: str, fn: Callable[..., Any], kernel: Callable[..., Any] | None) -> Rule:
        names = tuple(inspect.signature(fn).parameters)
        known = {
            "g",
            "i",
            "shapes",
            self.output,
            *self.arrays,
            *self.defaults,
            *self.residuals,
            *(a + "_shape" for a in self.arrays),
        }
        for name in names:
            if name not in known:
                raise TypeError(
                    f"{self.name}: the rule for {argument} names {name!r}, which is none of {', '.join(sorted(known))}"
                )
        free = {"i", "shapes", *self.defaults, *(a + "_shape" for a in self.arrays)}
        return Rule(self, argument, formula, fn, names, tuple(name not in free for name in names), kernel)

    def vjp(self, argument: str, formula: str, kernel: Callable[..., Any] | None = None) -> Callable[..., Any]:
        """Declare the rule for one argument: (g, names…) -> the argument's cotangent, in ops.

        ``kernel`` takes the same values in the same order. Raises TypeError for a name that the op does not have.
        """
        if argument not in self.arrays:
            raise TypeError(f"{self.name} has no array argument {argument!r}: it has {', '.join(self.arrays)}")

        def declare(fn: Callable[..., Any]) -> Callable[..., Any]:
            self.rules[argument] = self._rule(argument, formula, fn, kernel)
            self._plans.clear()  # a rule may be declared anew
            return fn

        return declare

    def fuse(self, names: Sequence[str], kernel: Callable[..., Any]) -> None:
        """Have one kernel serve all the rules of a first-order backward.

        ``kernel(positions)`` gives the function (g, *names) -> cotangents of the arguments at these positions.
        ``names`` are among those that the rules save; one that no rule of these positions names is None. The rules
        stay the definition: the kernel must give the bits of theirs.
        """
        self.fused = tuple(names), kernel

    def residual(self, name: str, formula: str) -> Callable[..., Any]:
        """Declare a second result, saved for the rules: its formula in terms of the arguments.

        A kernel of the op returns (output, residual, …), in the order of declaration.
        """

        def declare(fn: Callable[..., Any]) -> Callable[..., Any]:
            self.residuals[name] = self._rule(name, formula, fn, None)
            return fn

        return declare

    # Calling

    def __call__(self, *args: Any, **options: Any) -> Any:
        if len(args) == self._plain and not options:
            return apply(self, args, self.defaults)
        extra = len(args) - len(self.arrays)
        if -self._optional <= extra <= 0 and not options and self._complete:
            options = self.defaults
            if extra:
                args = (*args, *[None] * -extra)
        elif extra == 0 and options.keys() == self.defaults.keys():
            pass
        elif 0 < extra <= len(self.defaults) and not options and (self._complete or extra == len(self.defaults)):
            options = dict(zip(self.defaults, args[len(self.arrays) :], strict=False))
            if extra < len(self.defaults):
                options = {**self.defaults, **options}
            args = args[: len(self.arrays)]
        else:
            args, options = self._bind(args, options)
        if self.sequence:
            args = tuple(args[0])
            if not args:
                raise ValueError(f"{self.name}: need at least one array")
        return apply(self, args, options)

    def _bind(self, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arrays and options from any spelling of a call. Raises TypeError, with the nearest name."""
        try:
            bound = self.__signature__.bind(*args, **named)
        except TypeError as error:
            known = [*self.arrays, *self.defaults]
            hints = [near for name in named if name not in known for near in difflib.get_close_matches(name, known, 1)]
            hint = f"; did you mean {hints[0]!r}?" if hints else f"; it is {self.name}{self.__signature__}"
            raise TypeError(f"{self.name}: {error}{hint}") from None
        bound.apply_defaults()
        return tuple([bound.arguments[name] for name in self.arrays]), {n: bound.arguments[n] for n in self.defaults}

    # Running

    def run(self, values: Sequence[Any], options: dict[str, Any], kernels: Kernels = "own") -> tuple[Any, ...]:
        """(output, *residuals) as arrays, from arrays and numbers; residuals only if a kernel gives them.

        The kernel runs where there is one for the dtypes, else the formula.
        """
        try:
            if self.letters is not None and not self.checks_letters:
                self._check(values)
            if self.promotes and (ready := self._ready(values, self.arrays)) is not None:
                if kernels and self.kernel is not None:
                    out = (self.kernel if kernels == "own" else self.blas or self.kernel)(*ready, **options)
                    return out if type(out) is tuple else (np.asarray(out),)
                values = ready  # the formula sees the same promotion
            out = self.fn(list(values), **options) if self.sequence else self.fn(*values, **options)
        except (ValueError, IndexError, TypeError) as error:
            raise self._explain(error, values) from None
        return (out,) if type(out) is _ndarray else (np.asarray(out),)

    def write(self, values: Sequence[Any], options: dict[str, Any], kernels: Kernels = "own") -> None:
        """Write the arguments that the op writes, given as arrays: by the kernel where all are of one dtype."""
        if self.letters is not None:
            self._check(values)
        try:
            if kernels and self.kernel is not None and self.is_uniform(values):
                self.kernel(*values, **options)
            else:
                self.fn(*values, **options)
        except (ValueError, IndexError, TypeError) as error:
            raise self._explain(error, values) from None

    def is_uniform(self, values: Sequence[Any]) -> bool:
        """Whether all the arrays of a writing op are of one dtype, which its kernel knows."""
        dtype = values[0].dtype
        uniform = dtype is _F32 or dtype is _F64 or bool(self.integral & 1)
        for value in values:
            uniform = uniform and getattr(value, "dtype", None) is dtype
        return uniform

    def _is_integral(self, name: str) -> bool:
        """Whether an argument is declared to be integers or bools, which kernels take as they are."""
        return name in self.domains and self.domains[name].kind != "f"

    def _ready(self, values: Sequence[Any], names: Sequence[str]) -> Sequence[Any] | None:
        """The values as a kernel takes them, or None: floats of one dtype that it knows, and declared integers."""
        dtype: Any = None
        clean = True
        whole: list[Any] = []
        if self.sequence:
            names = [names[0]] * len(values)
        values = [native(value) if type(value) is _ndarray else value for value in values]
        for name, value in zip(names, values, strict=True):
            if type(value) is _ndarray:
                kind = value.dtype
                if kind is dtype:
                    continue
                if kind is _F32 or kind is _F64:
                    clean = clean and dtype is None
                    dtype = kind if dtype is None else _F64
                elif kind.kind not in "iub":
                    return None
                elif not self._is_integral(name):
                    whole.append(kind)
            elif value is not None:
                clean = False
        if dtype is None:
            return None
        if whole:
            dtype, clean = np.result_type(dtype, *whole), False
        if not clean:
            values = [
                v if v is None or self._is_integral(name) else np.asarray(v, dtype)
                for name, v in zip(names, values, strict=True)
            ]
        if self.shapes == "elementwise" and len(values) > 1:
            shape = values[0].shape
            for value in values:
                if value.shape != shape:
                    return np.broadcast_arrays(*values)
        return values

    def _check(self, values: Sequence[Any]) -> None:
        """Raise ValueError unless the shapes agree with the letters."""
        assert self.letters is not None
        shapes = tuple([v.shape if type(v) is _ndarray else None if v is None else np.shape(v) for v in values])
        if shapes not in self._agreeing:
            self.letters.check(self.name, self.arrays, shapes)
            if len(self._agreeing) < 1024:  # a memory of the shapes in use, not of all shapes ever
                self._agreeing.add(shapes)

    def _explain(self, error: Exception, values: Sequence[Any]) -> Exception:
        """The error as the op's own: which op, which operands, which rule."""
        if str(error).startswith(f"{self.name}: "):
            return error
        if self.letters is not None:
            try:
                self._check(values)
            except ValueError as better:
                return better
        shapes = [np.shape(v) for v in values]
        names = self.arrays if not self.sequence else [f"{self.arrays[0]}[{i}]" for i in range(len(values))]
        shown = ", ".join(f"{name} {shape}" for name, shape in zip(names, shapes, strict=True))
        if self.shapes == "elementwise" and len(shapes) > 1:
            try:
                np.broadcast_shapes(*shapes)
            except ValueError:
                return ValueError(
                    f"{self.name}: {shown} do not broadcast: align them from the right; sizes must be equal or 1"
                )
        kind = type(error) if type(error) in (ValueError, IndexError, TypeError) else ValueError
        return kind(f"{self.name}: {error} (operands: {shown})")

    # What a node needs

    def _plan(self, parents: Sequence[Any]) -> Plan:
        """What is saved, and which rules run, when the arguments whose parents are nodes need gradients; remembered."""
        needs = [type(parent) is Node for parent in parents]
        mask = sum(need << i for i, need in enumerate(needs))
        names = [self.arrays[0]] * len(needs) if self.sequence else list(self.arrays)
        n = len(needs)
        sources = {self.output: n, **{name: n + 1 + i for i, name in enumerate(self.residuals)}}
        sources.update({name: i for i, name in enumerate(self.arrays)})
        saved: list[int] = []
        calls = []
        derived = not self.rules and self.differentiable
        for position, need in enumerate(needs):
            if not need:
                continue
            if derived:
                saved = list(range(len(needs)))
                continue
            if names[position] not in self.rules:
                raise TypeError(f"{self.name}: no rule gives a gradient for {names[position]}; detach() it")
            rule = self.rules[names[position]]
            getters: list[tuple[str, Any]] = []
            for name in rule.names:
                if name == "g":
                    getters.append(("g", None))
                elif name == "i":
                    getters.append(("constant", position))
                elif name == "shapes":
                    getters.append(("shapes", None))
                elif name in sources:
                    source = sources[name]
                    if source not in saved:
                        saved.append(source)
                    getters.append(("saved", saved.index(source)))
                    if name in self.residuals:  # differentiated again, it is a formula in these
                        named = [self.arrays.index(a) for a in self.residuals[name].names if a in self.arrays]
                        saved += [i for i in named if i not in saved]
                elif name in self.defaults:
                    getters.append(("option", name))
                else:
                    argument = name.removesuffix("_shape")
                    getters.append(("shape", position if self.sequence else self.arrays.index(argument)))
            simple = rule.names[0] == "g" and all(kind == "saved" for kind, _ in getters[1:])
            keys = tuple(key for _, key in getters[1:]) if simple else None
            calls.append((position, rule, keys, tuple(getters)))
        inputs = _picker([source for source in saved if source < n])
        quick = None
        ours = self.__module__.startswith("minigrad.")  # what a user's kernels give is checked at every call
        if ours and self.fused is not None:
            wanted, kernel = self.fused
            where = [saved.index(sources[name]) if sources[name] in saved else None for name in wanted]
            positions = tuple(call[0] for call in calls)
            quick = _fused(kernel(positions), positions, where)
        elif ours and len(calls) == 1 and calls[0][1].kernel is not None and calls[0][2] is not None:
            position, rule, keys, _ = calls[0]
            quick = _single(rule.kernel, position, keys or ())
        residuals = any(source > n for source in saved)
        plan = Plan(tuple(saved), _picker(saved), inputs, n in saved, residuals, quick, tuple(calls))
        self._plans[(mask, 1 << n) if self.sequence else mask] = plan
        return plan

    def __repr__(self) -> str:
        return f"<op {self.name}: {self.formula}>"


def op(
    formula: str,
    *,
    shapes: str = "elementwise",
    method: str | bool = False,
    infix: str = "",
    kernel: Callable[..., Any] | None = None,
    blas: Callable[..., Any] | None = None,
    native: Callable[..., Any] | None = None,
    ulps: tuple[float, float] = (0, 0),
    differentiable: bool = True,
    writes: Sequence[str] = (),
    view: bool = False,
    sequence: bool = False,
    cases: Sequence[Any] = (),
    **domains: Domain,
) -> Callable[[Callable[..., Any]], Op]:
    """Declare an op: the decorated function is its formula, on arrays, in NumPy or in other ops.

    formula: its text, as in ``"y = tanh x"``; the name left of "=" is the output's name in rules.
    shapes: ``"elementwise"`` (broadcasting), letters as in ``"...nk,...km->...nm"``, or ``"free"``.
    method, infix: also reach it as ``x.method()`` (True: by its own name) or by an operator (``"+"``).
    kernel: a compiled version: the same arguments, arrays of one float dtype in, new arrays out.
    native: a kernel for programs only, where the formula is as fast in a call from Python, and has the same bits.
    ulps: how far kernels may round from their formulas (the op's, its rules'), in ulps of the largest of 1,
    the inputs and the result (of products: the sum of their terms' magnitudes), in the narrowest precision among them.
    By default they agree to the bit.
    blas: another kernel, of whose bits nothing is promised: it runs inside ``with mg.blas():``.
    differentiable: False for comparisons and the like, whose results never need gradients.
    writes: the arguments that it writes in place. view: whether the output shares the first argument's memory.
    sequence: the first parameter is a sequence of arrays.
    cases: sample inputs ``(shapes of the arrays, options)`` where the declaration does not say enough to make them up.
    domains: where each array argument may be sampled (``x=reals(-3, 3)``).

    Parameters before a ``/`` are arrays, those after it options, as in ``def reshape(x, /, shape)``. Without one,
    parameters without a default are arrays (with letters: as many as there are operands).
    An op without rules is differentiated through its formula, which must then be written in ops.
    Raises TypeError for a name that is taken or an infix that is unknown.

    >>> import minigrad as mg
    >>> @mg.op("y = x³", x=mg.reals(-2, 2))
    ... def doc_cube(x):
    ...     return x * x * x
    >>> @doc_cube.vjp("x", "x̄ = 3 x² ȳ")
    ... def _(g, x):
    ...     return 3 * x * x * g
    >>> x = mg.tensor(2.0, requires_grad=True)
    >>> doc_cube(x).backward()
    >>> x.grad
    tensor(12.)
    """

    def declare(fn: Callable[..., Any]) -> Op:
        new = Op(
            fn,
            formula,
            shapes=shapes,
            kernel=kernel,
            blas=blas,
            native=native,
            ulps=ulps,
            differentiable=differentiable,
            writes=writes,
            view=view,
            sequence=sequence,
            cases=cases,
            domains=domains,
        )
        for name in domains:
            if name not in new.arrays:
                raise TypeError(f"{new.name}: a domain is given for {name!r}, which is no array argument")
        previous = REGISTRY.get(new.name)
        if previous is not None and (previous.__module__, inspect.getsourcefile(previous.fn)) != (
            new.__module__,
            inspect.getsourcefile(fn),
        ):
            raise TypeError(f"there is an op {new.name} already (in {previous.__module__}): choose another name")
        REGISTRY[new.name] = new
        if method:
            attach(new.name if method is True else method, new)
        for name, function in _operators(infix, new):
            attach(name, function)
        return new

    return declare


def attach(name: str, function: Callable[..., Any] | property) -> None:
    """Make a function of a tensor a method of Tensor."""
    if isinstance(function, Op):
        callee = function

        def method(self: Tensor, *args: Any, **options: Any) -> Any:
            return callee(self, *args, **options)

        method.__doc__, method.__name__, method.__qualname__ = callee.__doc__, name, f"Tensor.{name}"
        function = method
    setattr(Tensor, name, function)


def _operators(infix: str, op: Op) -> list[tuple[str, Callable[..., Any]]]:
    names = {
        "+": "add",
        "-": "sub",
        "*": "mul",
        "/": "truediv",
        "@": "matmul",
        "**": "pow",
        "==": "eq",
        "!=": "ne",
        "<": "lt",
        "<=": "le",
        ">": "gt",
        ">=": "ge",
        "neg": "neg",
        "abs": "abs",
    }
    if not infix:
        return []
    if infix not in names:
        raise TypeError(f"{op.name}: unknown infix {infix!r}: use one of {' '.join(names)}")
    if infix in ("neg", "abs"):
        return [(f"__{names[infix]}__", lambda self: apply(op, (self,), op.defaults))]

    def known(other: Any) -> bool:
        return isinstance(other, Tensor | np.ndarray | float | int | np.generic | list)

    def forward(self: Tensor, other: Any) -> Any:
        return op(self, other) if known(other) else NotImplemented

    def reflected(self: Tensor, other: Any) -> Any:
        return op(other, self) if known(other) else NotImplemented

    operators: list[tuple[str, Callable[..., Any]]] = [(f"__{names[infix]}__", forward)]
    if infix in "+-*/@**":
        operators.append((f"__r{names[infix]}__", reflected))
    return operators
