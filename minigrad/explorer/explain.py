"""``mg.explain``: all that an op's declaration says and implies, on one page, with numbers."""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minigrad.engine.backward import _named as _value
from minigrad.engine.backward import _rewrap, cotangents
from minigrad.engine.op import REGISTRY, Op
from minigrad.engine.shapes import Domain
from minigrad.engine.state import mode
from minigrad.engine.tape import Tape
from minigrad.engine.tensor import Tensor, from_numpy
from minigrad.kernels import jit

Array = np.ndarray[Any, Any]


class Page(str):
    """A text that shows itself as it is."""

    __slots__ = ()
    __repr__ = str.__str__


def explain(op: Op | str) -> Page:
    """What an op computes, its derivatives to second order, what is saved and why, its sources, and an example.

    op: an op, one of your own too, or its name. Everything is read from the declaration or computed now, by the op.
    Raises ValueError for a name that no op has.

    >>> import minigrad as mg
    >>> print(mg.explain("tanh"))  # doctest: +ELLIPSIS
    tanh: y = tanh x
    ...
    """
    if isinstance(op, str):
        if op not in REGISTRY:
            near = difflib.get_close_matches(op, REGISTRY, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ": `minigrad ops` lists them"
            raise ValueError(f"explain: there is no op {op!r}{hint}")
        op = REGISTRY[op]
    sections = {
        "": [f"{op.name}{op.__signature__}, shapes: {op.shapes}", *inspect.cleandoc(op.__doc__ or "").splitlines()],
        "derivatives": [*_derivatives(op)],
        "second order": [*_second(op)],
        "at kinks": [*_kinks(op)],
        "formula and kernel": [*_sources(op)],
        "example": [*_example(op)],
    }
    lines = [f"{op.name}: {op.formula}"]
    for title, body in sections.items():
        if body:
            lines += ["", *([title] if title else []), *[f"  {line}".rstrip() for line in body]]
    return Page("\n".join(lines))


def _derivatives(op: Op) -> Iterator[str]:
    if op.writes:
        yield f"none: it writes {', '.join(op.writes)} in place"
    elif not op.differentiable:
        yield "none: its result never needs a gradient"
    elif not op.rules:
        yield f"through its formula, which is recorded again in backward: saves {', '.join(op.arrays)}"
    for name, rule in op.rules.items():
        yield f"for {name}: {rule.formula}"
        saved = [n for n, is_array in zip(rule.names, rule.arrays, strict=True) if is_array and n != "g"]
        free = [n for n in rule.names if n not in saved and n != "g"]
        yield (
            f"    saves {', '.join(saved)}, which its rule names" if saved else "    saves nothing: its rule names none"
        )
        if free:
            yield f"    takes {', '.join(free)} from the node, free"
    for name, rule in op.residuals.items():
        yield f"residual {name}: {rule.formula}; computed once, saved for the rules that name it"


def _second(op: Op) -> Iterator[str]:
    """The rules as tapes of their own: each line has a rule, so that the next derivative is theirs, by the chain."""
    sample = _sample(op)
    if not op.differentiable or op.writes or sample is None:
        return
    args, options = sample
    leaves = _leaves(op, args)
    with mode(grad=True, observer=None), np.errstate(all="ignore"):
        out = _call(op, leaves, options)
        if not isinstance(out, Tensor) or out.node is None:
            return
        seed = from_numpy(np.ones(out.shape, out.dtype), requires_grad=True)
        seed.name = "ȳ"
        names = [name for name, _ in _named(op, leaves)]
        assert out.node.plan is not None
        saved = _rewrap(out.node)
        for position, rule, _keys, getters in out.node.plan.calls:
            values = [saved[key] if kind == "saved" else _value(out.node, seed, kind, key) for kind, key in getters]
            first = rule.fn(*values)
            if not isinstance(first, Tensor) or first.node is None:
                yield f"{names[position]}̄ does not depend on anything: its derivative is zero"
                continue
            yield f"{names[position]}̄ as a tape of its formula, each line with the rules of its op:"
            tape = Tape.of(first)
            for line in tape:
                line.site = None  # whoever asked for this page is not of interest
            number = {f"%{i}": line for i, line in enumerate(tape)}
            for row in str(tape).splitlines():
                yield f"    {row}"
                node = number.get(row.split(" ")[0])
                for inner in node.op.rules.values() if node is not None and node.op is not None else ():
                    yield f"        {inner.argument}: {inner.formula}"


def _gradient(out: Tensor, seed: Tensor, leaf: Tensor) -> Tensor | None:
    """The derivative of <out, seed> by one leaf, on a tape; ``.grad`` is left as it was."""
    assert out.node is not None
    assert leaf.node is not None
    found: Tensor | None = cotangents(out.node, seed, {leaf.node}, True, True).get(leaf.node)
    return found


def _kinks(op: Op) -> Iterator[str]:
    """What the rules give where the declaration says that there is no derivative; computed, not quoted."""
    for name, domain in op.domains.items():
        for kink in domain.kinks:
            sample = _sample(op)
            if sample is None or name not in op.rules:
                continue
            args = [np.full_like(a, kink) if n == name else a for n, a in zip(op.arrays, sample[0], strict=True)]
            leaves = _leaves(op, args)
            out = _call(op, leaves, sample[1])
            with np.errstate(all="ignore"):
                g = _gradient(out, from_numpy(np.ones(out.shape, out.dtype)), leaves[op.arrays.index(name)])
            yield f"{name} = {kink:g}: the rule gives {_show(g.data if g is not None else np.zeros(()))}"


def _sources(op: Op) -> Iterator[str]:
    parts: list[tuple[str, Callable[..., Any] | None]] = [("formula", op.fn), ("kernel", op.kernel)]
    for name, rule in op.rules.items():
        parts += [(f"rule for {name}", rule.fn), (f"kernel for {name}", rule.kernel)]
    for title, function in parts:
        if function is not None:
            yield f"{title}:"
            yield from (f"    {line}" for line in source(function).splitlines())


def source(function: Callable[..., Any]) -> str:
    """A function's source; that of the formula or loop by the same name, for one that is made at run time."""
    for cell in getattr(function, "__closure__", None) or ():
        if getattr(cell.cell_contents, "__module__", "").startswith("minigrad.kernels"):
            function = cell.cell_contents
    name = getattr(function, "__name__", "")
    if not name.startswith("<") and function.__module__.startswith("minigrad."):
        modules = [m for key, m in sys.modules.items() if key.startswith("minigrad.kernels.") and m is not None]
        own = [sys.modules[function.__module__]] if name != "_" else []
        for module in own + modules:
            text = inspect.getsource(module) if own else ""
            if lines := _functions(text).get(name.strip("_")):
                return textwrap.dedent("\n".join(text.splitlines()[lines]))
    try:
        return textwrap.dedent(inspect.getsource(function)).rstrip()
    except (OSError, TypeError):
        return "(its source is not in a file)"


@functools.cache
def _functions(text: str) -> dict[str, slice]:
    """The lines of the functions of a file, by their names without underscores at the ends; the first of a name."""
    found: dict[str, slice] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            found.setdefault(node.name.strip("_"), slice(node.lineno - 1, node.end_lineno))
    return found


# An example


def _example(op: Op) -> Iterator[str]:
    sample = _sample(op)
    if sample is None:
        yield "none: the declaration does not say which shapes to take; give cases= to it"
        return
    args, options = sample
    if options:
        yield "with " + ", ".join(f"{key}={value!r}" for key, value in options.items())
    leaves = _leaves(op, args)
    for name, leaf in _named(op, leaves):
        yield f"{name} = {_show(getattr(leaf, '_data', leaf))}"
    with mode(grad=True, observer=None), np.errstate(all="ignore"):
        out = _call(op, leaves, options)
        if op.writes:
            yield from (f"{op.arrays[i]} ← {_show(leaves[i]._data)}" for i in op.written if leaves[i] is not None)
            return
        yield f"{op.output} = {_show(getattr(out, '_data', out))}"
        yield from _ulps(op, args, options)
        if not isinstance(out, Tensor) or out.node is None:
            return
        seed = from_numpy(np.ones(out.shape, out.dtype))
        yield f"with {op.output}̄ = 1:"
        for name, leaf in _named(op, leaves):
            if isinstance(leaf, Tensor) and leaf.node is not None:
                first = _gradient(out, seed, leaf)
                yield f"{name}̄ = {_show(first._data if first is not None else np.zeros(leaf.shape))}"
                second = None
                if first is not None and first.node is not None:
                    second = _gradient(first, from_numpy(np.ones(first.shape, first.dtype)), leaf)
                shown = _show(second._data) if second is not None else "0"
                yield f"    its own derivative, along (1, 1, …): {shown}"


def _ulps(op: Op, args: list[Any], options: dict[str, Any]) -> Iterator[str]:
    """How far the kernel is from the formula, on this example."""
    if op.kernel is None or not jit.AVAILABLE:
        return
    kernel, formula = (np.asarray(op.run(args, options, which)[0]) for which in ("own", ""))
    if kernel.dtype.kind == "f" and kernel.size:
        off = np.abs(kernel - formula) / np.spacing(np.maximum(np.abs(formula), np.finfo(kernel.dtype).tiny))
        yield f"kernel and formula: at most {off.max():g} ulp apart here"


def _call(op: Op, args: list[Any], options: dict[str, Any]) -> Any:
    return op(args, **options) if op.sequence else op(*args, **options)


def _named(op: Op, values: list[Any]) -> list[tuple[str, Any]]:
    names = [f"{op.arrays[0]}[{i}]" for i in range(len(values))] if op.sequence else op.arrays
    return list(zip(names, values, strict=True))


def _leaves(op: Op, args: list[Any]) -> list[Any]:
    """Tensors for the arrays, leaves where a rule gives a gradient."""
    leaves = []
    for (name, array), argument in zip(
        _named(op, args), [op.arrays[0]] * len(args) if op.sequence else op.arrays, strict=True
    ):
        if not isinstance(array, np.ndarray):
            leaves.append(array)
            continue
        wants = op.differentiable and not op.writes and array.dtype.kind == "f"
        leaf = from_numpy(array.copy(), requires_grad=wants and (not op.rules or argument in op.rules))
        if leaf.node is not None:
            leaf.name = name
        leaves.append(leaf)
    return leaves


def _sample(op: Op) -> tuple[list[Any], dict[str, Any]] | None:
    """Arguments and options by the declaration: its first case, or small shapes; numbers of two decimals."""
    options = dict(op.defaults)
    if op.cases:
        shapes, given = op.cases[0]
        options |= given
    elif op.shapes == "elementwise":
        shapes = [(3,)] * len(op.arrays)
    elif op.letters is not None:
        terms = op.letters.text.split("->")[0].split(",")
        letters = sorted({c for term in terms for c in term if c.isalpha()})
        size = {letter: 2 + i % 2 for i, letter in enumerate(letters)}
        shapes = [tuple(size[c] for c in term if c.isalpha()) for term in terms]
    else:
        return None
    if any(value is inspect.Parameter.empty for value in options.values()):
        return None
    rng = np.random.default_rng(0)
    names = [op.arrays[0]] * len(shapes) if op.sequence else op.arrays
    args = [
        None if s is None else _numbers(rng, op.domains.get(n, Domain()), s) for n, s in zip(names, shapes, strict=True)
    ]
    return args, options


def _numbers(rng: np.random.Generator, domain: Domain, shape: tuple[int, ...]) -> Array:
    count = int(np.prod(shape))
    if domain.kind == "b":
        return np.asarray(np.arange(count).reshape(shape) % 2 == 0)
    if domain.kind == "i":
        high = min(int(domain.high), int(domain.low) + 10)
        return np.asarray(rng.integers(int(domain.low), high + 1, shape))
    grid: Array = domain.low + (domain.high - domain.low) * (rng.permutation(count) + 0.5) / max(count, 1)
    for kink in domain.kinks:
        grid = np.where(np.abs(grid - kink) < 0.05, kink + 0.25, grid)
    return np.asarray(np.round(grid, 2).reshape(shape))


def _show(value: Any) -> str:
    return " ".join(np.array2string(np.asarray(value), precision=6, separator=", ", threshold=24).split())
