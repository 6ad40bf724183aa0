"""The kill rate: python bench/mutants.py [--sample N] [--only TEXT] [--metamorphic] [--file FILE] [--list]

Faults are made from the source, one at a time: every function of a rule, formula, kernel, initializer, optimizer and
layer is read as a syntax tree, and each operator of ``FAULTS`` is applied at each place where it applies. A mutant is
judged by the checks of its own ops, initializer, module or optimizer, and by the tests of its file, and by nothing
else; the first failure kills it. Each is judged in a process of its own, forked from one that has compiled all kernels
and run none, in which the function's code is replaced: what reaches it is compiled anew, the rest is kept. Where a
function does its work when the package is imported, the package is imported anew.

Initializers, optimizers and modules are asked for the formulas of references.py, too. Before anything is changed every
judge must find nothing. ``--metamorphic``: by networks and their properties that need no tolerance, alone, without
kernels and with them.

Results are appended to ``--file`` (JSON lines; default mutants.jsonl), and what is in it already is not run again. The
table counts by room and fault; survivors are listed with their line before and after. A mutant of kernels alone of
which all machine code is what it was is counted apart (*same code*), and so are those in equivalent.json, of which it
says in a sentence why nobody can see them; they must have survived, but for those that other machines can see.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import functools
import gc
import hashlib
import importlib
import importlib.machinery
import io
import json
import os
import random
import re
import select
import signal
import sys
import time
import traceback
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import llvmlite.binding as llvm
import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher
from numba.core.typing.templates import _IntrinsicTemplate
from references import REFERENCES

import minigrad as mg
from minigrad import testing

#: key -> "category: sentence"
EQUIVALENT = json.loads(Path(__file__).with_name("equivalent.json").read_text(encoding="utf-8"))
PACKAGE = Path(mg.__file__).parent
KERNELS = "elementwise", "gemm", "loss", "random", "reduction", "update", "vector_math"
FILES = {
    "rules": ["ops/*.py"],
    "kernels": [f"kernels/{name}.py" for name in KERNELS],
    "initializers": ["init/rules.py", "init/laws.py"],
    "optimizers": ["optim/*.py"],
    "modules": ["nn/layers.py", "nn/activations.py"],
}
#: Of the processor's time, for one kernel to be compiled, one test or all checks of one op, initializer, module or
#: optimizer. What takes longer hangs, which is a failure.
SECONDS = 8.0
#: So many times of that by the wall clock. What is late was stopped by others, and is judged again; the second time, it
#: waits for what never comes (as ``free`` does, for a lock that a kernel has written over).
PATIENCE = 7
TESTS_FIRST = "gemm.py", "reduction.py"  # whose ops compile more than their tests do before the first failure
JUDGES = {"rules": 8, "kernels": 3}  # ops that are asked about what several use, those that use least besides first


class Mutant(NamedTuple):
    """A fault: where it is, which operator made it, the line before and after, and how to make it."""

    room: str
    path: str  # within the package
    function: str
    line: int
    fault: str
    before: str
    after: str
    name: str  # of the function's code
    first: int  # the line on which that begins
    tree: Callable[[], ast.Module]  # of the whole file
    place: int = 0  # how many faults of the function before this one have the same text

    @property
    def key(self) -> str:
        text = "\0".join(
            [self.path, self.function, self.fault, self.before, self.after, *[str(self.place)] * (self.place > 0)]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]


# Faults: each yields what may stand in place of a node; a list stands for statements.


ADJOINTS = "swapaxes", "transpose", "sum_to", "sum", "expand", "reshape", "squeeze", "unsqueeze"


TIES = {"lt": "le", "le": "lt", "gt": "ge", "ge": "gt", "maximum": "minimum", "minimum": "maximum"}
CHECKS = "check", "_same", "_count"  # functions with such names raise errors


def signs(node: ast.AST) -> Iterator[ast.AST]:
    swaps = {ast.Add: ast.Sub, ast.Sub: ast.Add}
    if isinstance(node, ast.BinOp) and type(node.op) in swaps:
        yield ast.BinOp(node.left, swaps[type(node.op)](), node.right)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield node.operand


def factors(node: ast.AST) -> Iterator[ast.AST]:
    """A forgotten factor or term, a division for a product."""
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Mult):
            yield from (node.left, node.right, ast.BinOp(node.left, ast.Div(), node.right))
        elif isinstance(node.op, ast.Div):
            yield from (node.left, ast.BinOp(node.left, ast.Mult(), node.right))
        elif isinstance(node.op, ast.Add | ast.Sub | ast.Pow | ast.FloorDiv | ast.Mod | ast.BitAnd):
            yield node.left


def products(node: ast.AST) -> Iterator[ast.AST]:
    """The operands of a product in the other order."""
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
    name = (node.func.id if isinstance(node.func, ast.Name) else node.func.attr) if called else ""
    if name in ("matmul", "matmul_", "linear") and len(node.args) == 2:
        yield ast.Call(node.func, node.args[::-1], node.keywords)


def transpositions(node: ast.AST) -> Iterator[ast.AST]:
    """A transposition, a reduction or any function of one argument left out."""
    if isinstance(node, ast.Attribute) and node.attr == "T":
        yield node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args and not node.keywords:
        several = node.func.id in (
            "swapaxes",
            "transpose",
            "sum_to",
            "sum",
            "expand",
            "reshape",
            "squeeze",
            "unsqueeze",
        )
        if (len(node.args) == 1 or several) and not isinstance(node.args[0], ast.Starred) and node.func.id != "float":
            yield node.args[0]


def comparisons(node: ast.AST) -> Iterator[ast.AST]:
    """A wrong tie, the other branch."""
    swaps = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in swaps:
        yield ast.Compare(node.left, [swaps[type(node.ops[0])]()], node.comparators)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TIES:
        yield ast.Call(ast.Name(TIES[node.func.id], ast.Load()), node.args, node.keywords)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "where"
        and len(node.args) == 3
    ):
        yield ast.Call(node.func, [node.args[0], node.args[2], node.args[1]], [])
    if isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    if isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)


def numbers(node: ast.AST) -> Iterator[ast.AST]:
    """An int off by one (axes, slices, ranges), a float off by a thousandth."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        if isinstance(node.value, int):
            yield from (ast.Constant(node.value + 1), ast.Constant(node.value - 1))
        else:
            yield ast.Constant(node.value * 1.001 if node.value and abs(node.value) < 1e300 else 0.5)
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)


def accumulation(node: ast.AST) -> Iterator[Any]:
    """= for +=; a statement left out."""
    if isinstance(node, ast.AugAssign):
        target = copy.deepcopy(node.target)
        yield ast.Assign([target], node.value)
        yield ast.Pass()
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not _checks(node.value):
        # a function with super() has __class__ for a free variable, and must keep it
        kept = "super()" in ast.unparse(node.value.func)
        yield ast.Expr(ast.Name("__class__", ast.Load())) if kept else ast.Pass()


def _checks(call: ast.Call) -> bool:
    """Whether the function called does no more, where its value is not used, than raise errors."""
    return any(word in ast.unparse(call.func) for word in CHECKS)


def fusion(node: ast.AST) -> Iterator[ast.AST]:
    """A multiplication and an addition where they should be one."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "fma" and len(node.args) == 3:
        a, b, c = node.args
        yield ast.BinOp(ast.BinOp(a, ast.Mult(), b), ast.Add(), c)


FAULTS = {f.__name__: f for f in (signs, factors, products, transpositions, comparisons, numbers, accumulation, fusion)}


def names(function: ast.FunctionDef) -> Iterator[tuple[ast.Name, ast.AST]]:
    """A stale or wrong value: one parameter for another; swapped fans."""
    known = [a.arg for a in (*function.args.posonlyargs, *function.args.args) if a.arg not in ("self", "rng", "dtype")]
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in known and 1 < len(known) < 7:
            other = known[known.index(node.id) - 1]
            yield node, ast.Name(other, ast.Load())


#: What may go wrong with the result or the cotangent of a whole rule: name -> the helper of that name below.
RESULTS = ("detached", "narrowed", "overwritten")


def _detached(value: Any) -> Any:
    """A constant where the second derivative should see a formula."""
    return value.detach() if isinstance(value, mg.Tensor) else value


def _narrowed(value: Any) -> Any:
    """A result in float32, whatever it was computed in."""
    return mg.cast(value, "float32")


def _overwritten(g: Any) -> Any:
    """The cotangent, which is another's, doubled in place."""
    array = g.data if isinstance(g, mg.Tensor) else g
    if array.flags.writeable:
        array *= 2
    return g


# Making them


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def skipped(function: ast.FunctionDef) -> set[int]:
    """Ids of nodes that are no arithmetic: annotations, decorators, errors and what leads to them, strict=True."""
    found: set[int] = set()
    for node in ast.walk(function):
        parts: list[Any] = []
        if any(word in function.name for word in CHECKS):
            parts = [node]
        elif isinstance(node, ast.If) and any(isinstance(part, ast.Raise) for part in node.body):
            parts = [node.test, *node.body]
        elif (
            isinstance(node, ast.Raise | ast.Assert)
            or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _checks(node.value))
            or (isinstance(node, ast.keyword) and node.arg == "strict")
        ):
            parts = [node]
        elif isinstance(node, ast.FunctionDef):
            parts = [*node.decorator_list, node.args, node.returns]
            if node is not function:
                parts.append(node)  # it is mutated as itself
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and "check" in node.func.id:
            parts = [node]
        elif isinstance(node, ast.AnnAssign):
            parts = [node.annotation]
        elif (
            isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.ctx, ast.Load)
        ):
            parts = [] if type(node.slice.value) is int else [node.slice]
        found |= {id(child) for part in parts if part is not None for child in ast.walk(part)}
    return found


def replaced(tree: ast.Module, part: ast.AST, old: ast.AST, new: ast.AST) -> ast.Module:
    """The tree, one part of which has another node from now on: for a process that makes one mutant."""
    new = ast.copy_location(copy.deepcopy(new), old)
    for node in ast.walk(part):
        for name, value in ast.iter_fields(node):
            if value is old:
                setattr(node, name, new)
            elif isinstance(value, list):
                value[:] = [new if x is old else x for x in value]
    ast.fix_missing_locations(part)
    return tree


@functools.cache
def code_of(path: Path) -> types.CodeType:
    """What a file of the package is compiled to."""
    return compile(path.read_text(encoding="utf-8"), str(path), "exec")


def codes_of(whole: types.CodeType, path: Path, name: str, line: int) -> list[types.CodeType]:
    """The code of the function that begins on that line, and those of the functions around it, from inside out."""
    todo = [[whole]]
    while todo:
        codes = todo.pop()
        if codes[0].co_name == name and codes[0].co_firstlineno == line:
            return codes[:-1]
        todo += [[c, *codes] for c in codes[0].co_consts if isinstance(c, types.CodeType)]
    raise LookupError(f"{name} in line {line} of {path}")


def keeping(tree: ast.Module, mutant: Mutant, names: Iterable[str]) -> ast.Module:
    """The tree, where the mutant's function has these variables of functions around it, though it does not use them."""
    for function in functions(tree):
        line = min([d.lineno for d in function.decorator_list], default=function.lineno)
        if (function.name, line) == (mutant.name, mutant.first):
            uses: list[ast.stmt] = [ast.Expr(ast.Name(name, ast.Load())) for name in names]
            function.body.append(ast.If(ast.Constant(0), uses, []))
    return ast.fix_missing_locations(tree)


def key_of(code: types.CodeType) -> tuple[str, int, str]:
    return code.co_filename, code.co_firstlineno, code.co_name


def mutants() -> Iterator[Mutant]:
    """All of them, in the order of the source."""
    for room, patterns in FILES.items():
        for pattern in patterns:
            for path in sorted(PACKAGE.glob(pattern)):
                text = path.read_text(encoding="utf-8")
                tree = ast.parse(text)
                owners = {id(f): f"{c.name}." for c in ast.walk(tree) if isinstance(c, ast.ClassDef) for f in c.body}
                for function in functions(tree):
                    yield from _of_function(room, path, tree, function, owners.get(id(function), ""))


def _of_function(room: str, path: Path, tree: ast.Module, function: ast.FunctionDef, owner: str) -> Iterator[Mutant]:
    line = min([d.lineno for d in function.decorator_list], default=function.lineno)
    calm = skipped(function)
    place = path.relative_to(PACKAGE).as_posix()
    label = f"{owner}{function.name}" if function.name != "_" else ast.unparse(function.decorator_list[0])[:60]

    def made(fault: str, old: ast.AST, new: ast.AST, changed: Callable[[], ast.Module]) -> Mutant:
        before, after = (ast.unparse(ast.fix_missing_locations(copy.deepcopy(n))) for n in (old, new))
        at = getattr(old, "lineno", function.lineno)
        return Mutant(room, place, label, at, fault, before, after, function.name, line, changed)

    for node in ast.walk(function):
        if id(node) in calm:
            continue
        for fault, operator in FAULTS.items():
            for new in operator(node):
                yield made(fault, node, new, lambda node=node, new=new: replaced(tree, function, node, new))
    for node, new in names(function):
        if id(node) not in calm:
            yield made("names", node, new, lambda node=node, new=new: replaced(tree, function, node, new))
    first = function.decorator_list[0] if function.decorator_list else None
    if (
        room == "rules"
        and isinstance(first, ast.Call)
        and isinstance(first.func, ast.Attribute)
        and first.func.attr == "vjp"
    ):
        for fault in RESULTS:
            new, call = copy.deepcopy(function), ast.Name(f"_{fault}", ast.Load())
            if fault == "overwritten":
                new.body.insert(0, ast.Expr(ast.Call(call, [ast.Name("g", ast.Load())], [])))
            for node in ast.walk(new):
                if fault != "overwritten" and isinstance(node, ast.Return) and node.value is not None:
                    node.value = ast.Call(call, [node.value], [])
            yield made(fault, ast.Name(label, ast.Load()), ast.Name(f"{fault}", ast.Load()),
                       lambda new=new: replaced(tree, tree, function, new))  # fmt: skip


# Who judges


def reach(start: Any, apart: bool = False) -> set[tuple[str, int, str]]:
    """The codes (file, line, name) of the package that an object's functions may run, and what they call.

    ``apart``: without those of other kernels, whose machine code is their own.
    """
    seen: set[int] = set()
    found: set[tuple[str, int, str]] = set()
    todo = [start]
    while todo:
        x = todo.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        x = getattr(x, "py_func", getattr(x, "__wrapped__", x))
        if isinstance(x, mg.engine.op.Op):
            todo += [x.fn, x.kernel, x.native, x.blas, *x.rules.values(), *x.residuals.values(), x.fused and x.fused[1]]
        elif isinstance(x, mg.engine.op.Rule):
            todo += [x.fn, x.kernel]
        elif isinstance(x, mg.kernels.jit.Kernel):
            todo += [x.body, *x.uses] if not apart else [x.body] if x is start else []
        elif hasattr(x, "_defn"):  # an intrinsic
            todo.append(x._defn)
        elif isinstance(x, types.MethodType):
            todo.append(x.__func__)
        elif isinstance(x, type):
            todo += [v for base in x.__mro__ if base.__module__.startswith("minigrad") for v in vars(base).values()]
        elif isinstance(x, property):
            todo += [x.fget, x.fset]
        elif isinstance(x, staticmethod | classmethod | functools.partial):
            todo.append(x.func if isinstance(x, functools.partial) else x.__func__)
        elif isinstance(x, types.FunctionType) and (x.__module__ or "").startswith("minigrad"):
            codes = [x.__code__]
            while codes:
                code = codes.pop()
                found.add(key_of(code))
                codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
                todo += [x.__globals__[n] for n in code.co_names if n in x.__globals__]
                todo += [
                    getattr(x.__globals__[m], n)
                    for m in code.co_names
                    if isinstance(x.__globals__.get(m), types.ModuleType)
                    for n in code.co_names
                    if x.__globals__[m].__name__.startswith("minigrad") and hasattr(x.__globals__[m], n)
                ]
            todo += [cell.cell_contents for cell in x.__closure__ or () if cell_is_full(cell)]
            todo += list(x.__defaults__ or ())
        elif isinstance(x, tuple | list):
            todo += list(x)
    return found


def cell_is_full(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 (raises where it is empty)
    except ValueError:
        return False
    return True


def judges(room: str, seed: int, only: str = "") -> list[tuple[str, set[tuple[str, int, str]], Callable[[], str]]]:
    """(name, what it reaches, the function that returns what is wrong, or nothing) of all subjects.

    ``only="metamorphic"``: networks, of which the properties that need no tolerance are asked, and nothing else.
    """
    from minigrad.testing.ops import properties

    def by_op(op: Any) -> Callable[[], str]:
        def run() -> str:
            for found in properties(op, examples=12, seed=seed, shrink=False):
                if found.verdict == "fail":
                    return f"{found.name}: {found.detail}"
            return ""

        return run

    def by_report(report: Callable[[], Any]) -> Callable[[], str]:
        return lambda: next((f"{p.name}: {p.detail}" for p in report().properties if p.verdict == "fail"), "")

    def by_reference(check: Callable[[], None]) -> Callable[[], str]:
        def run() -> str:
            try:
                check()
            except AssertionError as error:
                return str(error) or traceback.extract_tb(error.__traceback__)[-1].line or "an assertion"
            return ""

        return run

    named: dict[str, Callable[[], Any]] = {}
    if only == "metamorphic":

        def by_network(make: Callable[[], Any], options: dict[str, Any]) -> Callable[[], str]:
            def run() -> str:
                for how in (mg.engine.state.formulas(), contextlib.nullcontext()):  # without kernels, and with them
                    with how:
                        report = testing.check_network(make().initialize(seed), seed=seed, examples=1, **options)
                    if wrong := by_report(lambda report=report: report)():
                        return wrong
                return ""

            return run

        return [(name, reach(about), by_network(make, how)) for name, (about, make, how) in networks().items()]
    if room in ("rules", "kernels"):
        import mpmath  # noqa: F401 (that tests need not load it anew for each mutant)
        import scipy.special  # noqa: F401

        import minigrad.testing.laws
        import minigrad.testing.samples  # noqa: F401
    if room in ("rules", "kernels"):
        own = {name: op for name, op in mg.REGISTRY.items() if op.__module__.startswith("minigrad.")}
        return [(name, reach(op), by_op(op)) for name, op in own.items()]
    if room == "initializers":
        named = {repr(rule): functools.partial(testing.check_initializer, rule) for rule in INITIALIZERS}
        subjects = {repr(rule): type(rule) for rule in INITIALIZERS}
    elif room == "optimizers":
        named = {name: functools.partial(testing.check_optimizer, make) for name, make in OPTIMIZERS.items()}
        subjects = {name: [mg.optim.SGD, mg.optim.AdamW if "adamw" in name else mg.optim.Adam] for name in OPTIMIZERS}
        subjects = {n: [x for x in found if x.__name__.lower() in n] for n, found in subjects.items()}
    else:
        named = {n: functools.partial(testing.check_module, make, *xs) for n, (make, *xs) in MODULES.items()}
        subjects = {n: type(make()) for n, (make, *_) in MODULES.items()}
    found = [(name, reach(subjects[name]), by_report(check)) for name, check in named.items()]
    return found + [(name, reach(about), by_reference(check)) for name, (about, check) in REFERENCES[room].items()]


def networks() -> dict[str, tuple[list[Any], Callable[[], Any], dict[str, Any]]]:
    """What each is made of, the function that makes it, and options of ``check_network``: each activation, loss and
    optimizer in one of them."""
    nn, found = mg.nn, {}
    rng = np.random.default_rng(0)
    numbers, shares, classes = rng.standard_normal((11, 3)), rng.uniform(size=(11, 3)), rng.integers(0, 3, 11)
    losses: dict[str, tuple[Any, Any]] = {
        "mse": (mg.mse_loss, numbers),
        "l1": (mg.l1_loss, numbers),
        "huber": (mg.huber_loss, numbers),
        "bce": (mg.bce_with_logits, shares),
        "cross entropy": (mg.cross_entropy, classes),
    }
    kinds = {name: getattr(nn, name) for name in nn.__all__ if issubclass(getattr(nn, name), nn.Module)}
    for name in ("Module", "Linear", "Sequential", "Flatten", "Identity"):
        del kinds[name]
    kinds["GELU tanh"] = functools.partial(nn.GELU, "tanh")
    last = "Softmax", "LogSoftmax"

    def perceptron(kind: Any) -> Any:
        inner, end = (nn.Tanh, [kind()]) if kind in (nn.Softmax, nn.LogSoftmax) else (kind, [])
        return nn.Sequential(nn.Linear(12, 9), inner(), nn.Linear(9, 7), inner(), nn.Linear(7, 3), *end)

    for name, kind in kinds.items():
        about = [nn.Linear, kind, *([nn.Tanh] if name in last else [])]
        found[name] = about, functools.partial(perceptron, kind), {}
    for name, (loss, target) in losses.items():
        how = {"loss": lambda y, loss=loss, target=target: loss(y, _alike(target, y))}
        found[f"{name} loss"] = [nn.Linear, nn.Tanh, loss], functools.partial(perceptron, nn.Tanh), how
    for name, make in OPTIMIZERS.items():
        about = [nn.Linear, nn.ReLU, mg.optim.SGD if "sgd" in name else mg.optim.AdamW]
        found[f"by {name}"] = about, functools.partial(perceptron, nn.ReLU), {"optimizer": make}
    return found


def _alike(target: Any, y: Any) -> Any:
    return mg.tensor(target if target.dtype.kind == "i" else target.astype(y.dtype))


TESTS = PACKAGE.parent / "tests"


def tests_of(mutant: Mutant, hint: str, ops: set[str]) -> list[tuple[str, Callable[[], str]]]:
    """The tests of a file of kernels (order, chain, accuracy, bounds), or of the ops' values and conventions; without
    those of an op that is not one of ``ops``, which run the fault."""
    if mutant.room == "kernels":
        name = "elementwise" if mutant.path.endswith("vector_math.py") else Path(mutant.path).stem
        others = {
            "gemm": ["kernels/test_pool.py"],  # whose parts threads share
            "reduction": ["kernels/test_loss.py"],  # what rows of losses consist of
            "random": ["data/test_batching.py"],  # for which it makes orders
            **dict.fromkeys(("elementwise", "loss", "update"), ("kernels/test_elementwise_parts.py",)),
        }
        files = [TESTS / name for name in (f"kernels/test_{name}.py", *others.get(name, ()), "kernels/test_fences.py")]
    else:
        files = [TESTS / "ops" / f"test_{name}.py" for name in ("values", "kinks", "fused")]
    return [(file.name, functools.partial(_by_tests, file, hint, ops)) for file in files]


OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not intense", "--tb=native", f"--rootdir={TESTS.parent}"]
OPTIONS += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]


def _by_tests(file: Path, hint: str, ops: set[str]) -> str:
    how = {"max_examples": 10, "database": None, "deadline": None, "derandomize": True}
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # no matter which example is the least
    hypothesis.settings.register_profile("judge", phases=phases, **how)
    hypothesis.settings.load_profile("judge")
    first = _First(hint, ops)
    code = pytest.main([*OPTIONS, f"--confcutdir={file.parent}", str(file)], plugins=[first])
    if code > pytest.ExitCode.TESTS_FAILED:
        raise SystemExit(f"{file} cannot be run")
    return first.failed


def _named(item: Any) -> Any:
    """The op that a test has for a parameter, if any."""
    return item.callspec.params.get("name") if hasattr(item, "callspec") else None


class _First:
    """A plugin that leaves out other ops, has the test that is hinted at come first, then float32, and keeps the first
    failure."""

    failed = ""

    def __init__(self, hint: str, ops: set[str]) -> None:
        self.hint, self.others = hint, set(mg.REGISTRY) - ops

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if _named(item) not in self.others]
        items.sort(key=lambda item: "float64" in item.nodeid)  # one precision is compiled before the other
        items.sort(key=lambda item: not self.hint.startswith(f"{item.path.name}: {item.nodeid.partition('::')[2]}:"))

    def pytest_runtest_setup(self, item: Any) -> None:
        within()

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            why = crash.message if crash else str(report.longrepr)
            self.failed = f"{report.nodeid.partition('::')[2]}: {why.splitlines()[0]}"

    def pytest_collectreport(self, report: Any) -> None:
        self.pytest_runtest_logreport(report)


X = np.array([[0.7, -1.2, 0.4], [1.1, 0.3, -0.6], [-0.8, 0.9, 1.3], [0.2, -0.5, 2.1]])
INITIALIZERS = [mg.init.get(name) for name in mg.init.NAMES]
INITIALIZERS += [mg.init.constant(0.1), mg.init.normal(1.0, 0.1), mg.init.uniform(-0.5, 1.5), mg.init.orthogonal(-2.0)]
INITIALIZERS += [mg.init.truncated_normal(0.5, 2.0, -1.0, 7.0), mg.init.sparse(0.3)]
INITIALIZERS += [mg.init.kaiming_normal(mode="fan_out", nonlinearity="tanh"), mg.init.kaiming_uniform(a=5**0.5)]
INITIALIZERS += [mg.init.variance_scaling(2.0, *how) for how in (("fan_avg", "uniform"), ("fan_out", "normal"))]
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: mg.optim.SGD(p, lr=0.05),
    "sgd, decay": lambda p: mg.optim.SGD(p, lr=0.05, weight_decay=0.01),
    "sgd, momentum": lambda p: mg.optim.SGD(p, lr=0.02, momentum=0.9),
    "sgd, nesterov": lambda p: mg.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    "adam": lambda p: mg.optim.Adam(p, lr=0.01),
    "adam, decay": lambda p: mg.optim.Adam(p, lr=0.01, weight_decay=0.02),
    "adamw": lambda p: mg.optim.AdamW(p, lr=0.01),
}
MODULES: dict[str, Any] = {
    name: (getattr(mg.nn, name), X)
    for name in mg.nn.__all__
    if name not in ("Buffer", "Dropout", "Linear", "Module", "Parameter", "Sequential")
}
MODULES |= {
    "Linear": (lambda: mg.nn.Linear(3, 2), X),
    "Linear without bias": (lambda: mg.nn.Linear(3, 2, bias=False), X),
    "Dropout": (lambda: mg.nn.Dropout(0.4), X),
    "Sequential": (lambda: mg.nn.Sequential(mg.nn.Linear(3, 4), mg.nn.Tanh(), mg.nn.Linear(4, 2)), X),
}


def replace(code: types.CodeType, live: list[types.FunctionType]) -> list[types.FunctionType]:
    """The ones of ``live`` that had the code of that name and line, which have this one now, and those that they had
    made."""

    def parts(code: types.CodeType) -> list[types.CodeType]:
        return [code, *(p for c in code.co_consts if isinstance(c, types.CodeType) for p in parts(c))]

    live = [f for f in live if f.__code__.co_filename == code.co_filename]
    place, new = (code.co_firstlineno, code.co_name), parts(code)
    old = next((parts(f.__code__) for f in live if (f.__code__.co_firstlineno, f.__code__.co_name) == place), [])
    known = len(old) if len(old) == len(new) else 1  # a part may be what has been left out
    changed = [(f, old.index(f.__code__)) for f in live if f.__code__ in old[:known]]
    for f, i in changed:
        f.__code__ = new[i]
    return [f for f, _ in changed]


class Compiled:
    """The kernels that some mutants change, compiled in this process, which runs none of them.

    What Numba has compiled it keeps. A process forked from this one compiles anew what reaches the changed code, and
    nothing else; where the machine code of all kernels that do is what it was, nobody can see the change.
    """

    def __init__(self, keys: set[tuple[str, int, str]]) -> None:
        kernels = {x: reach(x, apart=True) for x in gc.get_objects() if type(x) is mg.kernels.jit.Kernel}
        self.kernels = {k: kernels[k] for k in sorted(kernels, key=repr) if kernels[k] & keys}
        self._unload(kernels)  # some have been called since minigrad was imported
        self.latest: dict[tuple[Any, Any], str] = {}
        jit = mg.kernels.jit
        read, own, jit._read, jit._compile = jit._read, jit._compile, lambda file: None, self._compile
        self.own = own
        for kernel in self.kernels:
            for dtype in PRECISIONS:
                begin = time.process_time()
                kernel.compiled(dtype)
                globals()["SECONDS"] = max(SECONDS, 1.75 * (time.process_time() - begin))  # on a slow machine
        jit._read = read
        self._unload(kernels)
        self.digests = dict(self.latest)
        things = gc.get_objects()
        self.helpers = {x: reach(x, apart=True) for x in things if issubclass(type(x), Dispatcher)}
        self.caches = {x: reach(x) for x in things if type(x) is functools._lru_cache_wrapper and _ours(x)}
        self.by_python = set().union(*(reach(op, apart=True) for op in mg.REGISTRY.values()))

    @staticmethod
    def _unload(kernels: Iterable[Any]) -> None:
        for kernel in kernels:
            kernel.clear()
        kernel = mg.kernels.jit.Kernel
        for method in (kernel.compiled.__wrapped__, kernel.address, kernel.replay):  # the first holds a lock
            method.cache_clear()

    def _compile(self, body: Any, codes: str, ints: int, dtype: Any, makes: int) -> bytes:
        try:
            code = self.own(body, codes, ints, dtype, makes)
        except Exception as error:  # its text may be all that LLVM was given, and be formatted for minutes
            raise RuntimeError(f"compiling: {type(error).__name__}: {_first_line(error)}") from None
        digest = hashlib.sha256()
        for section in llvm.ObjectFileRef.from_data(code).sections():
            name, data = section.name() or b"", section.data() if section.size() else b""
            if name == b".strtab":  # without the numbers by which Numba tells names apart
                data = b"\0".join(sorted(re.sub(rb"[0-9]+", b"", word) for word in data.split(b"\0")))
            if name != b".symtab":
                digest.update(b"%s %d " % (name, len(data)) + data)
        self.latest[body, dtype] = digest.hexdigest()
        return code

    def change(self, key: tuple[str, int, str]) -> None:
        """Have what reaches that code compiled anew."""
        kernel = mg.kernels.jit.Kernel
        own, touched = kernel._file, {k for k, codes in self.kernels.items() if key in codes}
        kernel._file = lambda kernel, dtype: None if kernel in touched else own(kernel, dtype)
        for helper, codes in self.helpers.items():
            if key in codes:
                helper._make_finalizer()()
                helper._reset_overloads()
        for template in _IntrinsicTemplate.__subclasses__():
            template._impl_cache.clear()
            template._overload_cache.clear()
        for cache, codes in self.caches.items():
            if key in codes or any(file == key[0] for file, _, _ in codes):  # functions of its file may be arguments
                cache.cache_clear()

    def same(self, key: tuple[str, int, str]) -> bool:
        """Whether the code is run by kernels only, and no machine code has changed."""
        touched = [k for k, codes in self.kernels.items() if key in codes and key not in self.by_python]

        def as_before(kernel: Any, dtype: Any) -> bool:
            within()
            kernel.compiled(dtype)
            return self.latest[kernel.body, dtype] == self.digests[kernel.body, dtype]

        return bool(touched) and all(as_before(kernel, dtype) for dtype in PRECISIONS for kernel in touched)


PRECISIONS = np.dtype(np.float32), np.dtype(np.float64)


def _ours(x: Any) -> bool:
    return (getattr(x, "__module__", None) or "").startswith("minigrad")


def judge(
    mutant: Mutant, subjects: Any, live: list[types.FunctionType], compiled: Compiled | None, only: str, hint: str
) -> tuple[str, str]:
    """(verdict, by what) in this process, which must be a fresh one; ``hint``: by what a fault like it was killed."""
    tree, place = mutant.tree(), (PACKAGE / mutant.path, mutant.name, mutant.first)
    codes = codes_of(compile(tree, str(place[0]), "exec"), *place)
    key = key_of(codes[0])
    own = codes_of(code_of(place[0]), *place)[0]
    if lost := set(own.co_freevars) - set(codes[0].co_freevars) - {"__class__"}:
        codes = codes_of(compile(keeping(tree, mutant, sorted(lost)), str(place[0]), "exec"), *place)
    reaching = sorted((len(reached), i, name, run) for i, (name, reached, run) in enumerate(subjects) if key in reached)
    chosen = reaching[: None if only else JUDGES.get(mutant.room)]
    if mutant.room in ("kernels", "rules") and not only:
        tests = [(0, 0, *test) for test in tests_of(mutant, hint, {name for _, _, name, _ in reaching})]
        chosen = tests + chosen if mutant.path.endswith(TESTS_FIRST) else chosen + tests
    if not chosen:
        return "unjudged", "nothing with checks of its own reaches it"
    try:
        changed = [f for code in codes for f in replace(code, live)]
    except ValueError:  # other variables of the closure
        return "unmade", "the function has other free variables then"
    if not changed:
        return "unmade", "the function is made anew by each call of another"
    for f in changed:
        for fault in RESULTS:
            f.__globals__[f"_{fault}"] = globals()[f"_{fault}"]
        for swapped in TIES if mutant.room == "rules" else ():
            f.__globals__.setdefault(swapped, getattr(mg, swapped))
    if compiled:
        compiled.change(key)
    verdict, by = _ask([(name, run) for _, _, name, run in chosen], hint)
    if compiled and verdict == "survived":
        try:
            if compiled.same(key):
                return "same code", "the machine code of every kernel that it is part of is what it was"
        except Exception as error:  # a kernel that nobody asked cannot be compiled
            return "killed", _first_line(error)
    return verdict, by


def _first_line(error: Exception) -> str:
    return [*str(error).strip().splitlines(), ""][0][:160]


def _ask(chosen: list[tuple[str, Callable[[], str]]], hint: str) -> tuple[str, str]:
    for name, run in sorted(chosen, key=lambda item: not hint.startswith(f"{item[0]}:")):
        within()
        try:
            wrong = run()
        except Exception as error:  # a mutant that breaks its judge is found
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            return "killed", f"{name}: {wrong.splitlines()[0][:160]}"
    return "survived", ", ".join(name for name, _ in chosen)[:160]


def imported(tree: ast.Module | None = None, path: Path | None = None) -> set[tuple[str, int, str]]:
    """Import the package anew, for a process of its own, where one file has this text; the codes run meanwhile."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "minigrad"]:
        del sys.modules[name]
    loader = importlib.machinery.SourceFileLoader
    own = loader.get_code

    def get_code(self: Any, name: str) -> Any:
        return compile(tree, str(path), "exec") if tree and self.path == str(path) else own(self, name)

    loader.get_code = get_code  # type: ignore[method-assign]
    return traced(lambda: globals().update(mg=importlib.import_module("minigrad")))


def traced(run: Callable[[], Any]) -> set[tuple[str, int, str]]:
    """The codes of the package that run meanwhile."""
    found = set[tuple[str, int, str]]()
    sys.setprofile(lambda frame, event, _: found.add(key_of(frame.f_code)) if event == "call" else None)
    try:
        run()
    finally:
        sys.setprofile(None)
    return {key for key in found if key[0].startswith(str(PACKAGE)) and not key[2].startswith("<")}


def run_by(nothing: None, run: Callable[[], Any]) -> list[tuple[str, int, str]]:
    return sorted(traced(run))


def run_at_import(nothing: None) -> list[tuple[str, int, str]]:
    """The codes that have done their work when the package has been imported, or do some of it."""
    return sorted(imported())


def judge_imported(mutant: Mutant, seed: int, hint: str) -> tuple[str, str]:
    """:func:`judge` for a function that is run when the package is imported."""
    globals()["SECONDS"] = 6 * SECONDS  # all is compiled anew
    file = str(PACKAGE / mutant.path)
    try:
        imported(mutant.tree(), PACKAGE / mutant.path)
    except Exception as error:  # nobody could use it
        return "killed", f"import: {type(error).__name__}: {error}"
    kernel = mg.kernels.jit.Kernel
    own = kernel._file
    changed = {k for k in gc.get_objects() if type(k) is kernel and any(f == file for f, _, _ in reach(k, apart=True))}
    kernel._file = lambda kernel, dtype: None if kernel in changed else own(kernel, dtype)
    asked = [(len(r), i, name, run) for i, (name, r, run) in enumerate(judges(mutant.room, seed)) if _in(file, r)]
    tests = tests_of(mutant, hint, {name for _, _, name, _ in asked})
    return _ask([(name, run) for _, _, name, run in sorted(asked)[: JUDGES[mutant.room]]] + tests, hint)


def _in(file: str, reached: set[tuple[str, int, str]]) -> bool:
    return any(f == file for f, _, _ in reached)


def unsound(mutant: None, subjects: Any) -> list[str]:
    """What the judges find wrong where nothing is."""
    return [f"{name}: {wrong}" for name, _, run in subjects if (wrong := run())]


def within() -> None:
    """From now on this process has SECONDS, or PATIENCE times that where it does nothing, to come here again."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE * SECONDS)


def start(ask: Callable[..., Any], mutant: Mutant | None, *how: Any) -> tuple[int, int]:
    """(process, pipe) of a child that asks."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return child, read
    os.close(read)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    if mutant:
        within()
    try:
        found = ask(mutant, *how)
    except BaseException:  # whatever ends a child, its parent is told
        found = "broken", traceback.format_exc().splitlines()[-1]
    os.write(write, json.dumps(found).encode())
    os._exit(0)


def answer(child: int, pipe: int) -> tuple[Any, float]:
    """What a child has written at its end; one that was killed, by which signal; and the processor's seconds."""
    text = b"".join(iter(lambda: os.read(pipe, 1 << 16), b""))
    os.close(pipe)
    _, status, usage = os.wait4(child, 0)
    seconds = round(usage.ru_utime + usage.ru_stime, 2)
    if text:
        return json.loads(text), seconds
    number = -os.waitstatus_to_exitcode(status)
    verdict = "late" if number == signal.SIGALRM else "killed"
    return (verdict, f"signal {number}: {signal.strsignal(number)}"), seconds


@hypothesis.settings(max_examples=1, database=None)
@hypothesis.given(hypothesis.strategies.none())
def _draw(nothing: None) -> None:
    pass


def first_tests() -> None:
    """What Hypothesis and pytest do at their first test only is done when children are forked."""
    _draw()
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the tests that judge need none
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main([*OPTIONS, "--help"])


def run(todo: list[Mutant], file: Path, processes: int, seed: int, only: str) -> None:
    """Judge them, ``processes`` at a time, appending to the file."""
    subjects = {room: judges(room, seed, only) for room in sorted({m.room for m in todo})}
    keys = {(str(PACKAGE / m.path), m.first, m.name) for m in todo if m.room == "kernels"}
    if only:  # what they run decides, not what they might
        for asked in subjects.values():
            asked[:] = [(n, {tuple(k) for k in answer(*start(run_by, None, run))[0]}, run) for n, _, run in asked]
    early = {(file, line, name) for file, line, name in answer(*start(run_at_import, None))[0]}
    first_tests()
    live = [f for f in gc.get_objects() if type(f) is types.FunctionType and _ours(f)]
    asking = [start(unsound, None, asked) for asked in subjects.values()]
    compiled = Compiled(keys) if keys else None
    for child, pipe in asking:
        wrong, _ = answer(child, pipe)
        if wrong:
            raise SystemExit("nothing was changed, but " + "; ".join(wrong))
    for mutant in todo:  # here, not in every child
        code_of(PACKAGE / mutant.path)
    gc.disable()  # children live for seconds, and would copy what they look through
    gc.freeze()
    running: dict[int, tuple[Mutant, int]] = {}
    queue = list(reversed(todo))
    done, begin, late = 0, time.time(), set[Mutant]()
    hints = defaultdict[tuple[str, str], str](str)  # by what the last fault of a function was killed
    with file.open("a", encoding="utf-8") as out:
        while queue or running:
            while queue and len(running) < processes:
                mutant = queue.pop()
                place, hint = (str(PACKAGE / mutant.path), mutant.first, mutant.name), hints[mutant.path, mutant.name]
                if place in early and mutant.room in JUDGES and not only:
                    child, pipe = start(judge_imported, mutant, seed, hint)
                else:
                    how = compiled if mutant.room == "kernels" else None
                    child, pipe = start(judge, mutant, subjects[mutant.room], live, how, only, hint)
                running[pipe] = mutant, child
            for pipe in select.select(list(running), [], [])[0]:
                mutant, child = running.pop(pipe)
                (verdict, by), seconds = answer(child, pipe)
                if verdict == "late" and mutant not in late:
                    late.add(mutant)
                    queue.insert(0, mutant)
                    continue
                if verdict == "late":
                    verdict, by = "killed", f"{by}, twice"
                if verdict == "killed":
                    hints[mutant.path, mutant.name] = by
                record = {**mutant._asdict(), "key": mutant.key, "verdict": verdict, "by": by, "seconds": seconds}
                del record["tree"]
                out.write(json.dumps(record, ensure_ascii=False) + "\n")
                out.flush()
                done += 1
                if sys.stderr.isatty() or done % 100 == 0:
                    print(f"\r{done}/{len(todo)}  {time.time() - begin:.0f} s", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def results(file: Path) -> dict[str, dict[str, Any]]:
    """The last record of each mutant."""
    return {r["key"]: r for r in map(json.loads, file.read_text(encoding="utf-8").splitlines())}


def table(records: list[dict[str, Any]]) -> None:
    """Print the matrix, room by fault, and the survivors."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for r in records:
        why = EQUIVALENT.get(r["key"])
        if why and r["verdict"] == "survived":
            r["verdict"] = "equivalent"
        elif why and r["verdict"] == "killed" and not why.startswith("other machines"):
            r["verdict"] = "unmasked"
        counts[r["room"], r["fault"]][r["verdict"]] += 1
        counts[r["room"], "all"][r["verdict"]] += 1
    columns = (
        ("killed", "unmasked"),
        ("survived",),
        ("equivalent",),
        ("same code",),
        ("unjudged",),
        ("unmade", "broken"),
    )
    print(f"{'room':<14}{'fault':<16}" + "".join(f"{names[0]:>12}" for names in columns))
    for (room, fault), c in sorted(counts.items(), key=lambda item: (item[0][0], item[0][1] == "all", item[0][1])):
        print(f"{room:<14}{fault:<16}" + "".join(f"{sum(c[name] for name in names):>12}" for names in columns))
    for verdict in ("survived", "unjudged", "broken", "unmade", "unmasked"):
        for r in records:
            if r["verdict"] == verdict:
                where = f"{r['path']}:{r['line']} {r['function']}"
                print(
                    f"\n{verdict} {r['key']}  {where}  [{r['fault']}]  {r['by']}\n  - {r['before']}\n  + {r['after']}"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, help="only so many, drawn with the seed")
    parser.add_argument("--only", default="", help="only mutants whose room/path, function or fault has this")
    parser.add_argument("--every", action="store_true", help="also those whose text is that of another in the function")
    parser.add_argument("--file", type=Path, help="results (default mutants.jsonl; metamorphic.jsonl)")
    parser.add_argument("--processes", type=int, default=2, help="at a time (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples, and of the checks (default 0)")
    parser.add_argument("--metamorphic", action="store_true", help="judged by nothing but networks without tolerance")
    parser.add_argument("--list", action="store_true", help="print them, run none")
    options = parser.parse_args()
    only = "metamorphic" if options.metamorphic else ""
    options.file = options.file or Path(f"{only or 'mutants'}.jsonl")
    chosen, places = [], Counter[str]()
    for m in mutants():
        if options.only in f"{m.room}/{m.path} {m.function} {m.fault}" and (options.every or not places[m.key]):
            chosen.append(m._replace(place=places[m.key]))
        places[m.key] += 1
    if options.sample and options.sample < len(chosen):
        chosen = random.Random(options.seed).sample(chosen, options.sample)
    if options.list:
        for m in chosen:
            print(f"{m.path}:{m.line} {m.function} [{m.fault}]  {m.before}  ->  {m.after}")
        print(f"{len(chosen)} mutants: {dict(Counter(m.room for m in chosen))}")
        return
    known = {}
    if options.file.exists():
        known = results(options.file)
    run([m for m in chosen if m.key not in known], options.file, options.processes, options.seed, only)
    known = results(options.file)
    table([known[m.key] for m in chosen if m.key in known])


if __name__ == "__main__":
    main()
