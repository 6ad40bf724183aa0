"""What ``minigrad check`` checks: everything in the package, or what a file defines, as subjects with properties.

A file is imported as if it were run: its folder comes first on ``sys.path``. Checked is what it defines itself, under
names without a leading underscore:

- every op that it declares (those, whatever they are called);
- optimizers: subclasses of ``optim.Optimizer``, made with parameters alone, or with ``lr=0.01`` if lr has no default;
- modules: those that it makes, and subclasses of ``nn.Module`` that can be made without arguments. They are called with
  their ``example_inputs``, a tuple, if they have such an attribute; otherwise with normal numbers of shape (5, n) for
  each argument of ``forward`` without a default, n being the in_features of the first ``nn.Linear`` inside, or 4;
- initializers: ``init.Rule`` objects and functions of exactly (rng, shape, fan_in, fan_out, dtype), or whose class has
  such a ``__call__``; and these classes, if they can be made without arguments. A ``law`` that one has is tested, too.

A class that needs arguments is listed, and does not count; bind an object of it to a name to have it checked.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from minigrad import init, nn, optim
from minigrad.engine.op import REGISTRY, Op
from minigrad.testing import modules, ops, optimizers
from minigrad.testing.bits import NotApplicableError, sentence
from minigrad.testing.initializers import check_initializer
from minigrad.testing.report import Property

FORM = ("rng", "shape", "fan_in", "fan_out", "dtype")
LR = 0.01


class Profile(NamedTuple):
    """How much to try: examples of each law of an op, runs of modules and optimizers, draws of an initializer."""

    examples: int
    runs: int
    draws: int


PROFILES = MappingProxyType(
    {"quick": Profile(30, 1, 200), "ci": Profile(100, 3, 400), "intense": Profile(1000, 20, 4000)}
)


class CollectError(ValueError):
    """What was asked for cannot be checked: one sentence."""


@dataclass(frozen=True)
class Subject:
    """One thing to check: ``kind`` is op, module, initializer or optimizer, ``source`` the file, or "minigrad"."""

    kind: str
    name: str
    source: str
    check: Callable[[Profile, int], Iterable[Property]]

    def properties(self, profile: str = "quick", seed: int = 0) -> Iterator[Property]:
        """The properties one by one, as they are found; whatever the subject raises is found, too."""
        try:
            yield from self.check(PROFILES[profile], seed)
        except NotApplicableError as why:
            yield Property("made", "n/a", str(why))
        except ImportError:  # of Hypothesis: nothing that the subject can help
            raise
        except Exception as error:  # of a user's code: it is what was found
            yield Property("made", "fail", sentence(error))


def collect(words: Sequence[str] = ()) -> list[Subject]:
    """The subjects of files (words that end in .py) and names of the package; all of the package without words.

    Raises :class:`CollectError` for a name that nothing has (with the nearest ones), a file that is missing or raises
    (with the line), and one that defines nothing to check.

    >>> [(s.kind, s.name) for s in collect(["tanh", "Tanh"])]
    [('op', 'tanh'), ('module', 'Tanh')]
    """
    ours = list(package())
    found: list[Subject] = []
    for word in dict.fromkeys(words):
        if word.endswith(".py"):
            found += file(word)
        elif named := [subject for subject in ours if subject.name == word]:
            found += named
        else:
            near = difflib.get_close_matches(word, dict.fromkeys(s.name for s in ours), 3)
            hint = (
                f"did you mean {' or '.join(near)}?" if near else "minigrad ops lists the ops, and a file ends in .py"
            )
            raise CollectError(f"there is nothing to check that is called {word!r}; {hint}")
    return found if words else ours


# The package

#: What the classes are made with that need arguments.
_MODULES = MappingProxyType[str, Callable[[], nn.Module]](
    {
        "Linear": lambda: nn.Linear(4, 3),
        "Sequential": lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)),
    }
)
_RULES = MappingProxyType[str, Any]({"constant": 0.5, "array": ((0.0, 1.0, 2.0), (3.0, -4.0, 5.0))})
_OPTIMIZERS = MappingProxyType[str, Callable[..., optim.Optimizer]](
    {
        "SGD": functools.partial(optim.SGD, lr=LR),
        "SGD-momentum": functools.partial(optim.SGD, lr=LR, momentum=0.9),
        "SGD-nesterov": functools.partial(optim.SGD, lr=LR, momentum=0.9, nesterov=True),
        "SGD-decay": functools.partial(optim.SGD, lr=LR, weight_decay=0.01),
        "Adam": functools.partial(optim.Adam, lr=LR),
        "AdamW": functools.partial(optim.AdamW, lr=LR),
    }
)


def package() -> Iterator[Subject]:
    """Every op, layer, activation, initializer and optimizer of minigrad."""
    for op in REGISTRY.values():
        if op.__module__.startswith("minigrad."):
            yield _op(op, "minigrad")
    for name in nn.__all__:
        kind = getattr(nn, name)
        if issubclass(kind, nn.Module) and kind is not nn.Module:
            yield _module(name, _MODULES.get(name, kind), "minigrad")
    for name in init.__all__:
        kind = getattr(init, name)
        if inspect.isclass(kind) and issubclass(kind, init.Rule) and kind is not init.Rule:
            rule = init.get(_RULES[name]) if name in _RULES else kind()
            yield _initializer(name, rule, "minigrad")
    for name, factory in _OPTIMIZERS.items():
        yield _optimizer(name, factory, "minigrad")


def _op(op: Op, source: str) -> Subject:
    return Subject("op", op.name, source, lambda profile, seed: ops.properties(op, profile.examples, seed))


def _initializer(name: str, rule: Any, source: str) -> Subject:
    def check(profile: Profile, seed: int) -> Iterable[Property]:
        return check_initializer(rule() if isinstance(rule, type) else rule, seeds=profile.draws, seed=seed).properties

    return Subject("initializer", name, source, check)


def _optimizer(name: str, factory: Callable[..., Any], source: str) -> Subject:
    def check(profile: Profile, seed: int) -> Iterable[Property]:
        return _repeated(lambda s: optimizers.properties(factory, s), profile, seed)

    return Subject("optimizer", name, source, check)


def _module(name: str, module: Any, source: str) -> Subject:
    def run(seed: int) -> Iterator[Property]:
        inputs, hint = _inputs(module if isinstance(module, nn.Module) else module(), seed)
        for p in modules.properties(modules._Subject(module, inputs, True, seed)):
            yield p._replace(detail=p.detail + hint) if (p.name, p.verdict) == ("runs", "fail") else p

    return Subject("module", name, source, lambda profile, seed: _repeated(run, profile, seed))


def _inputs(module: nn.Module, seed: int) -> tuple[tuple[Any, ...], str]:
    """Inputs for a module, and a hint in case that it does not take them."""
    if (given := getattr(module, "example_inputs", None)) is not None:
        return tuple(given), ""
    width = next((part.in_features for _, part in module.named_modules() if isinstance(part, nn.Linear)), 4)
    parameters = inspect.signature(module.forward).parameters.values()
    count = sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    rng = np.random.default_rng(seed)
    hint = (
        f"\ncalled with {count} of normal numbers of shape (5, {width}): an attribute example_inputs = (x,) says others"
    )
    return tuple([rng.standard_normal((5, width)) for _ in range(count)]), hint


def _repeated(run: Callable[[int], Iterable[Property]], profile: Profile, seed: int) -> Iterable[Property]:
    """The properties over all runs, each with a seed of its own: one that fails in any of them fails."""
    found: dict[str, Property] = {}
    for s in range(seed * profile.runs, (seed + 1) * profile.runs):
        for p in run(s):
            before = found.setdefault(p.name, p._replace(examples=0))
            worst = max(before, p, key=lambda one: ("n/a", "pass", "fail").index(one.verdict))
            found[p.name] = worst._replace(examples=before.examples + p.examples)
    return found.values()


# A file


def file(path: str) -> list[Subject]:
    """The subjects that a file of Python defines; see the top of this module."""
    module, imported = _load(path)
    found = [_op(op, path) for op in REGISTRY.values() if op.__module__ == module.__name__ and _is_from(op.fn, module)]
    seen: list[Any] = []
    for name, thing in vars(module).items():
        if not name.startswith("_") and name not in imported and not any(thing is other for other in seen):
            seen.append(thing)
            found += _subjects(name, thing, module.__name__, path)
    if not found:
        raise CollectError(f"{path} defines no op, module, initializer or optimizer under a public name")
    return found


def _load(path: str) -> tuple[ModuleType, set[str]]:
    """The module of a file, and the names that it got by importing them."""
    where = Path(path).resolve()
    if not where.is_file():
        raise CollectError(f"there is no file {path}")
    name = where.stem
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) != str(where):
        raise CollectError(f"{path} cannot be imported, because another module is called {name}: give it another name")
    spec = importlib.util.spec_from_file_location(name, where)
    assert spec is not None
    assert spec.loader is not None
    module = loaded or importlib.util.module_from_spec(spec)
    try:
        if loaded is None:
            sys.path.insert(0, str(where.parent))
            sys.modules[name] = module
            spec.loader.exec_module(module)
        tree = ast.parse(where.read_bytes())
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise CollectError(f"{path}{_line(error, where)}: {type(error).__name__}: {error}") from error
    aliases = [a for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) for a in node.names]
    return module, {(a.asname or a.name).partition(".")[0] for a in aliases}


def _line(error: BaseException, where: Path) -> str:
    """ ":12", the last line of the file that was running, or that cannot be read."""
    if isinstance(error, SyntaxError) and error.filename == str(where):
        return f":{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(where)]
    return f":{lines[-1]}" if lines else ""


def _is_from(fn: Callable[..., Any], module: ModuleType) -> bool:
    return inspect.getsourcefile(fn) == module.__file__


def _subjects(name: str, thing: Any, module: str, path: str) -> Iterator[Subject]:
    """At most one subject."""
    if isinstance(thing, Op):
        return
    kind = thing if isinstance(thing, type) else type(thing)
    own = thing.__module__ == module if isinstance(thing, type) or inspect.isfunction(thing) else True
    if not own:
        return
    if isinstance(thing, type) and issubclass(thing, optim.Optimizer):
        if _takes(thing, "parameters"):
            yield _optimizer(name, thing, path)
        elif _takes(thing, "parameters", lr=LR):
            yield _optimizer(name, functools.partial(thing, lr=LR), path)
        else:
            yield _unmade("optimizer", name, path)
    elif issubclass(kind, nn.Module):
        yield _unmade("module", name, path) if thing is kind and not _takes(kind) else _module(name, thing, path)
    elif issubclass(kind, init.Rule) or _has_form(thing):
        made = thing is not kind or _takes(kind)
        yield _initializer(name, thing, path) if made else _unmade("initializer", name, path)


def _has_form(thing: Any) -> bool:
    """Whether it is called like an initializer, or is a class of what is."""
    with contextlib.suppress(TypeError, ValueError):  # what has no signature
        names = tuple(inspect.signature(thing.__call__ if isinstance(thing, type) else thing).parameters)
        return names == (("self", *FORM) if isinstance(thing, type) else FORM)
    return False


def _takes(kind: type, *args: Any, **named: Any) -> bool:
    try:
        inspect.signature(kind).bind(*args, **named)
    except TypeError:
        return False
    return True


def _unmade(kind: str, name: str, path: str) -> Subject:
    def check(profile: Profile, seed: int) -> Iterable[Property]:
        raise NotApplicableError("it cannot be made without arguments")

    return Subject(kind, name, path, check)
