"""The ``minigrad`` command: train, eval, ops, explain, explore, lab, check and warmup."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import functools
import inspect
import itertools
import operator
import re
import runpy
import sys
import textwrap
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np

from minigrad import checkpoint, data, init, kernels, nn, optim
from minigrad.compiler import Compiled, Progress
from minigrad.engine.op import REGISTRY, Op, Rule
from minigrad.engine.state import no_grad, observe
from minigrad.engine.tensor import Tensor, from_numpy
from minigrad.explorer import Film, explain, explore
from minigrad.kernels import jit
from minigrad.lab import pictures, report, studies
from minigrad.ops.loss import cross_entropy
from minigrad.testing import results, subjects
from minigrad.testing.results import Result

ACTIVATIONS: MappingProxyType[str, type[nn.Module]] = MappingProxyType(
    {
        "tanh": nn.Tanh,
        "relu": nn.ReLU,
        "leaky_relu": nn.LeakyReLU,
        "elu": nn.ELU,
        "selu": nn.SELU,
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "softplus": nn.Softplus,
        "sigmoid": nn.Sigmoid,
        "identity": nn.Identity,
    }
)
OPTIMIZERS: MappingProxyType[str, Callable[..., optim.Optimizer]] = MappingProxyType(
    {
        "sgd": optim.SGD,
        "momentum": functools.partial(optim.SGD, momentum=0.9),
        "adam": optim.Adam,
        "adamw": optim.AdamW,
    }
)

#: Chosen by five-fold validation within the 1437 training images: 98.4 % ± 0.3. The held-out images chose nothing.
DEFAULTS: MappingProxyType[str, Any] = MappingProxyType(
    {
        "data": "digits",
        "hidden": (256, 128),
        "activation": "relu",
        "init": "kaiming_uniform",
        "optimizer": "adamw",
        "lr": 0.001,
        "epochs": 40,
        "batch_size": 32,
        "dropout": 0.3,
        "seed": 0,
    }
)
#: What --resume may change.
FREE = ("lr", "epochs")


class UserError(Exception):
    """Something that the user can mend: one sentence."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence, exit status 2; with the nearest command for one that is unknown."""
        if found := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            message = f"unknown command {found[1]!r}" + _nearest(found[1], re.findall(r"\w+", found[2]))
        self.exit(2, f"{self.prog}: {message}\n")

    def unknown(self, argument: str) -> NoReturn:
        """Say that an argument is not known, with the nearest option."""
        names = [name for name in self._option_string_actions if name.startswith("--")]
        self.error(f"unknown option {argument}" + _nearest(argument.split("=")[0], names))


def _nearest(name: str, names: Any) -> str:
    near = difflib.get_close_matches(name, list(names), 1)
    return f"; did you mean {near[0]}?" if near else f": there are {', '.join(names)}"


def _one_of(what: str, names: Any) -> Callable[[str], str]:
    def choose(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"unknown {what} {text!r}{_nearest(text, names)}")
        return text

    return choose


def _number(kind: type, need: str, holds: Callable[[Any], bool]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {need}") from None
        if not holds(value):
            raise argparse.ArgumentTypeError(f"{text} is not {need}")
        return value

    return convert


def _sizes(text: str) -> tuple[int, ...]:
    convert = _number(int, "a layer's size (like 128,64)", lambda n: n >= 1)
    return tuple(convert(part) for part in text.split(",")) if text.strip() else ()


def _shown(value: Any) -> str:
    """A value as it would be typed."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _parser() -> _Parser:
    parser = _Parser(prog="minigrad", description="Train a small network, evaluate it, and look at the ops.")
    commands = parser.add_subparsers(dest="command", parser_class=_Parser)
    count = _number(int, "an integer of at least 1", lambda n: n >= 1)

    train = commands.add_parser("train", help="train an MLP", argument_default=argparse.SUPPRESS)

    def option(name: str, kind: Callable[[str], Any], text: str) -> None:
        train.add_argument(name, type=kind, help=f"{text} (default: {_shown(DEFAULTS[name[2:].replace('-', '_')])})")

    option("--data", str, '"digits", or a folder with the four IDX files of MNIST or Fashion-MNIST')
    option("--hidden", _sizes, "sizes of the hidden layers")
    option("--activation", _one_of("activation", ACTIVATIONS), ", ".join(ACTIVATIONS))
    option("--init", _one_of("initializer", init.NAMES), f"how weights begin: {', '.join(init.NAMES)}")
    option("--optimizer", _one_of("optimizer", OPTIMIZERS), ", ".join(OPTIMIZERS))
    option("--lr", _number(float, "a positive number", lambda x: 0 < x < float("inf")), "learning rate")
    option("--epochs", count, "passes over the training images, those before --resume included")
    option("--batch-size", count, "images in a step")
    option("--dropout", _number(float, "in [0, 1)", lambda x: 0 <= x < 1), "rate, after each hidden layer")
    option("--seed", _number(int, "an integer of at least 0", lambda n: n >= 0), "of weights, order and dropout")
    out = "minigrad-digits.safetensors"
    train.add_argument("--out", default=out, help=f"checkpoint to write (default: {out})")
    train.add_argument("--resume", metavar="FILE", default=None, help="go on from a checkpoint, with its options")
    train.add_argument("--quiet", action="store_true", default=False, help="print the summary line only")
    train.set_defaults(run=_train, parser=train)

    evaluate = commands.add_parser("eval", help="accuracy of a checkpoint on held-out images")
    evaluate.add_argument("file", help="checkpoint that train wrote")
    evaluate.add_argument("--data", default=None, help="digits, or a folder (default: that of the training)")
    evaluate.set_defaults(run=_eval, parser=evaluate)

    ops = commands.add_parser("ops", help="every op: formula, derivatives, what each saves")
    ops.add_argument("name", nargs="?", help="one op, with its description")
    ops.set_defaults(run=_ops, parser=ops)

    page = commands.add_parser("explain", help="one op: derivatives to second order, sources, an example in numbers")
    page.add_argument("name", help="the op")
    page.set_defaults(run=_explain, parser=page)

    seen = commands.add_parser("explore", help="run a script and show the tape of its last backward as an HTML page")
    seen.add_argument("script", help="the Python file; compiled steps run eagerly in it")
    seen.add_argument("-o", "--out", default="tape.html", help="page to write (default: tape.html)")
    seen.add_argument("--film", metavar="STEPS", type=count, help="show the first backward passes instead, as a film")
    seen.set_defaults(run=_explore, parser=seen)
    kinds = "\n".join(f"  {name:13}{(f.__doc__ or '').strip()}" for name, f in studies.STUDIES.items())
    lab = commands.add_parser(
        "lab",
        help="initialization and deep networks: theory beside measurements, and a page with pictures",
        description="Theory of initialization beside measurements: prints tables, writes a page with pictures.",
        epilog=f"studies:\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    lab.add_argument("studies", nargs="*", metavar="STUDY", help="those below (default: all of them)")
    lab.add_argument("-o", "--out", default="lab.html", help="page to write (default: lab.html)")
    lab.add_argument("--tables", action="store_true", help="print the tables only: no page, no need of matplotlib")
    for name, least, text in (
        ("depth", 2, "layers of a random network"),
        ("width", 2, "units of its layers"),
        ("seeds", 1, "random networks of each kind"),
        ("epochs", 1, "of training on the digits"),
        ("seed", 0, "of everything that is drawn"),
    ):
        need = _number(int, f"an integer of at least {least}", functools.partial(operator.le, least))
        default = studies.Setup._field_defaults[name]
        lab.add_argument(f"--{name}", type=need, default=default, help=f"{text} (default: {default})")
    lab.set_defaults(run=_lab, parser=lab)

    check = commands.add_parser(
        "check",
        help="the property suite, on minigrad or on a file of your own",
        description=subjects.__doc__,
        epilog="Exit status: 0 if all properties hold, 1 if one fails, 2 if nothing could be checked.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("what", nargs="*", metavar="FILE_OR_OP", help="a .py file, or a name of the package")
    profile = _one_of("profile", subjects.PROFILES)
    check.add_argument(
        "--profile", type=profile, default="quick", help=f"{', '.join(subjects.PROFILES)} (default: quick)"
    )
    natural = _number(int, "an integer of at least 0", lambda n: n >= 0)
    check.add_argument("--seed", type=natural, default=0, help="of all that is drawn (default: 0)")
    check.add_argument("--json", metavar="FILE", help="write what was found as JSON")
    check.add_argument("--junit", metavar="FILE", help="the same as JUnit's XML")
    check.set_defaults(run=_check, parser=check)

    warmup = commands.add_parser("warmup", help="compile all kernels into the cache, so that nothing waits later")
    warmup.add_argument("--quiet", action="store_true", help="print the summary line only")
    warmup.set_defaults(run=_warmup, parser=warmup)
    parser.set_defaults(
        parser=parser,
        run=lambda options: parser.error(
            "say what to do: train, eval, ops, explain, explore, lab, check or warmup (--help explains)"
        ),
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 1 for a mistake in the input, 2 in the options, 130 for Ctrl-C.

    ``check`` returns 1 for a property that fails, and 2 for all mistakes.
    """
    try:
        options, unknown = _parser().parse_known_args(argv)
        if unknown:
            options.parser.unknown(unknown[0])
        status: int | None = options.run(options)
        sys.stdout.flush()
    except SystemExit as end:
        return int(end.code or 0)
    except KeyboardInterrupt:
        print("minigrad: interrupted, nothing was written", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has gone: nobody to tell
        with contextlib.suppress(OSError):
            sys.stdout.close()
        return 1
    except (UserError, checkpoint.CheckpointError, data.DataError, OSError, ImportError) as error:
        print(f"minigrad: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return status or 0


# Training


def network(config: dict[str, Any]) -> nn.Sequential:
    """The MLP that a checkpoint's metadata, or the options of ``train``, describe."""
    layers: list[nn.Module] = []
    sizes = [config["inputs"], *config["hidden"], config["classes"]]
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        if i:
            layers.append(ACTIVATIONS[config["activation"]]())
            if config["dropout"]:
                layers.append(nn.Dropout(config["dropout"]))
        layers.append(nn.Linear(fan_in, fan_out, weight_init=config["init"]))
    return nn.Sequential(*layers)


def _load_data(where: str) -> data.Dataset:
    if where == "digits":
        return data.digits()
    if not Path(where).is_dir():
        raise UserError(f"there is no folder {where}, and the only data set inside minigrad is digits")
    sets = data.mnist(where)
    if not len(sets.y_train) or not len(sets.y_test):
        raise UserError(f"there are no images in {where}")
    return sets


def _configured(found: checkpoint.Checkpoint, name: str) -> dict[str, Any]:
    """The options in a checkpoint's metadata, checked."""
    config = dict(found.metadata.get("config") or {})
    try:
        config["hidden"] = tuple(config["hidden"])
        network(config)
        known = config["optimizer"] in OPTIMIZERS and isinstance(found.metadata["epoch"], int)
        known = known and all(type(config[name]) is type(value) for name, value in DEFAULTS.items())
    except (KeyError, TypeError, ValueError):
        known = False
    if not known:
        raise UserError(f"{name} does not say which network it holds: it was not written by minigrad train")
    return config


def _train(options: argparse.Namespace) -> None:
    given = {name: value for name, value in vars(options).items() if name in DEFAULTS}
    checkpoint.target(options.out)
    found, done = None, 0
    config: dict[str, Any] = {**DEFAULTS, **given}
    if options.resume is not None:
        found = checkpoint.read(options.resume)
        saved, done = _configured(found, options.resume), found.metadata["epoch"]
        for name, value in given.items():
            if name not in FREE and value != saved[name]:
                flag = "--" + name.replace("_", "-")
                raise UserError(f"{flag} was {_shown(saved[name])} in {options.resume} and cannot change")
        config = saved | given
        if config["epochs"] <= done:
            raise UserError(f"{options.resume} has seen {done} epochs already: ask for more with --epochs")
    sets = _load_data(config["data"])
    config |= {"inputs": sets.x_train.shape[1], "classes": int(max(sets.y_train.max(), sets.y_test.max())) + 1}
    net = network(config).initialize(config["seed"])
    opt = OPTIMIZERS[config["optimizer"]](net.parameters(), config["lr"])
    if found is not None:
        checkpoint.restore(found, net, opt, options.resume)
        opt.lr = config["lr"]
    epochs, n = config["epochs"] - done, len(sets.y_train)
    step, right = _step(net, opt), 0.0
    with np.errstate(all="ignore"), _progress(epochs, options.quiet) as advance:

        def report(at: Progress) -> None:
            nonlocal right
            advance(at.epoch - done + at.step / at.steps)
            if at.step < at.steps:
                return
            sizes = np.diff([*range(0, n, config["batch_size"]), n])
            loss = float(np.dot(at.losses.astype(np.float64), sizes) / n)
            if not np.isfinite([loss, *(np.sum(p.data) for p in net.parameters())]).all():
                raise UserError(
                    f"the numbers overflowed in epoch {at.epoch + 1}: try a smaller --lr; nothing was written"
                )
            right = accuracy(net, sets.x_test, sets.y_test)
            net.train()
            if not options.quiet:
                print(f"epoch {at.epoch + 1:3}  loss {loss:.4f}  held-out accuracy {right:.2%}")

        net.train()
        start = time.perf_counter()
        order = {"batch_size": config["batch_size"], "seed": config["seed"], "start": done}
        step.run(sets.x_train, sets.y_train, epochs=epochs, callback=report, **order)
    seconds = time.perf_counter() - start
    checkpoint.save(options.out, net, opt, {"config": config, "epoch": config["epochs"]})
    sizes = "-".join(str(n) for n in (config["inputs"], *config["hidden"], config["classes"]))
    print(
        f"{sizes} {config['activation']}, {config['optimizer']}, seed {config['seed']}, {config['epochs']} epochs: "
        f"held-out accuracy {right:.2%} of {len(sets.y_test)} images, {seconds:.1f} s, wrote {options.out}"
    )


def _step(net: nn.Module, opt: optim.Optimizer) -> Compiled:
    """The training step."""

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss: Tensor = cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    return Compiled(step)


def accuracy(net: nn.Module, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    """The share of x (n, features) whose largest logit is the class y (n,); the network goes to evaluation."""
    net.eval()
    with no_grad():
        right = sum(
            int((net(from_numpy(x[i : i + 1024])).data.argmax(1) == y[i : i + 1024]).sum())
            for i in range(0, len(y), 1024)
        )
    return right / len(y)


@contextlib.contextmanager
def _progress(total: int, quiet: bool, what: str = "epoch") -> Iterator[Callable[[float], None]]:
    """A bar, if there is a terminal to draw on and rich to draw with."""
    try:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        quiet = True
    if quiet or not sys.stdout.isatty():
        yield lambda done: None
        return
    columns = (TextColumn(what + " {task.completed:.0f}/{task.total}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)


def _eval(options: argparse.Namespace) -> None:
    found = checkpoint.read(options.file)
    config = _configured(found, options.file)
    net = network(config)
    checkpoint.restore(found, net, name=options.file)
    sets = _load_data(options.data or config["data"])
    if sets.x_test.shape[1] != config["inputs"]:
        raise UserError(f"the images have {sets.x_test.shape[1]} pixels, but {options.file} takes {config['inputs']}")
    right = accuracy(net, sets.x_test, sets.y_test)
    print(f"{options.file}: held-out accuracy {right:.2%} of {len(sets.y_test)} images")


def _warmup(options: argparse.Namespace) -> None:
    start = time.perf_counter()
    if not jit.AVAILABLE:
        raise UserError("NUMBA_DISABLE_JIT is set: there are no kernels to compile")
    with _progress(kernels.count(), options.quiet, "kernel") as advance:
        for i, _ in enumerate(kernels.warm_up(), 1):
            advance(i)
    where = jit.cache_directory()
    kept = f"kept in {where}" if where else "not kept: no directory for them can be written"
    print(f"{kernels.count()} kernels ready after {time.perf_counter() - start:.1f} s, {kept}")


# The page of ops

_COLUMNS = (16, 57, 17, 6)


def _pad(text: str, width: int) -> str:
    """Filled with spaces to a width on the screen, where combining marks take no room."""
    return text + " " * (width - sum(not unicodedata.combining(c) for c in text))


def _row(*cells: str) -> str:
    """Cells in columns, as lines of at most 100 characters: what is too long for its column goes on below."""
    wrapped = [textwrap.wrap(cell, width, drop_whitespace=False) for cell, width in zip(cells, _COLUMNS, strict=True)]
    lines = itertools.zip_longest(*wrapped, fillvalue="")
    return "\n".join(" ".join(map(_pad, line, _COLUMNS)).rstrip() for line in lines)


def _saves(rule: Rule) -> str:
    names = [name for name, is_array in zip(rule.names, rule.arrays, strict=True) if is_array and name != "g"]
    return ", ".join(names) or "nothing"


def _lines(op: Op) -> Iterator[str]:
    kind = f"writes {', '.join(op.writes)}" if op.writes else "" if op.differentiable else "no gradient"
    yield _row(op.name, op.formula, kind, "kernel" if op.kernel else "")
    for residual in op.residuals.values():
        yield _row("", residual.formula, "residual", "")
    for name, rule in op.rules.items():
        yield _row(f"  for {name}", rule.formula, f"saves {_saves(rule)}", "kernel" if rule.kernel else "")
    if op.differentiable and not op.rules:
        yield _row("", "differentiated through its formula", f"saves {', '.join(op.arrays)}", "")


def _ops(options: argparse.Namespace) -> None:
    if options.name is None:
        for op in REGISTRY.values():
            print("\n".join(_lines(op)))
        return
    if options.name not in REGISTRY:
        raise UserError(f"there is no op {options.name!r}{_nearest(options.name, REGISTRY)}")
    op = REGISTRY[options.name]
    print("\n".join(_lines(op)))
    print(f"\n{op.name}{inspect.signature(op.fn)}, shapes: {op.shapes}\n")
    print(textwrap.indent(inspect.cleandoc(op.__doc__ or ""), "    "))


def _explain(options: argparse.Namespace) -> None:
    if options.name not in REGISTRY:
        raise UserError(f"there is no op {options.name!r}{_nearest(options.name, REGISTRY)}")
    print(explain(options.name))


# The page of a script


def _explore(options: argparse.Namespace) -> None:
    script, out = Path(options.script), Path(options.out)
    if not script.is_file():
        raise UserError(f"there is no file {script}")
    if not out.parent.is_dir():
        raise UserError(f"there is no folder {out.parent} to write {out.name} in")
    film = Film(options.film or 1, last=options.film is None)
    path, words = sys.path, sys.argv
    sys.path, sys.argv = [str(script.resolve().parent), *path], [str(script)]
    try:
        with observe(film):
            runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise UserError(f"{script} ended with exit status {end.code}; nothing was written") from None
    except Exception:  # the script's own, shown whole
        traceback.print_exc()
        raise UserError(f"{script} raised an error; nothing was written") from None
    finally:
        sys.path, sys.argv = path, words
    if not film:
        raise UserError(f"{script} ran no backward, so there is no tape to show")
    explore(film, out)
    what = "its last backward" if options.film is None else f"{len(film)} with the tape of the first"
    print(f"{script}: {what}, of {film.walks} in all, wrote {out}")


# The laboratory


def _lab(options: argparse.Namespace) -> None:
    for name in options.studies:
        if name not in studies.STUDIES:
            options.parser.error(f"unknown study {name!r}{_nearest(name, studies.STUDIES)}")
    if not options.tables:
        try:
            pictures.new_figure(1, 1)  # before anything is computed
        except ImportError as error:
            options.parser.error(f"{error}; or ask for the --tables alone")
        checkpoint.writable(options.out)
    setup = studies.Setup(**{name: getattr(options, name) for name in studies.Setup._fields})
    names = list(dict.fromkeys(options.studies)) or list(studies.STUDIES)
    found, start = [], time.perf_counter()
    with _progress(len(names), False, "study") as advance:
        for study in studies.run(names, setup, advance):
            found.append(study)
            print(f"{study}\n\n", flush=True)
    wrote = ""
    if not options.tables:
        report.save(found, options.out, setup)
        wrote = f", wrote {options.out} ({Path(options.out).stat().st_size / 1e6:.1f} MB)"
    print(f"{', '.join(names)}: {time.perf_counter() - start:.1f} s{wrote}")


# Checks


def _check(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        options.parser.error("the table needs rich: pip install 'minigrad[cli]'")
    try:
        found = subjects.collect(options.what)
        places = {name: checkpoint.writable(path) for name in ("json", "junit") if (path := getattr(options, name))}
        done: list[Result] = []
        with np.errstate(all="ignore"), _progress(len(found), False, "subject") as advance:
            for subject in found:
                done.append(results.checked(subject, options.profile, options.seed))
                advance(len(done))
        if "json" in places:
            checkpoint.replace(places["json"], results.to_json(done, options.profile, options.seed))
        if "junit" in places:
            checkpoint.replace(places["junit"], results.to_junit(done))
    except (subjects.CollectError, checkpoint.CheckpointError, ImportError, OSError) as error:
        options.parser.error(" ".join(str(error).split()))
    table = Table("", "property", "examples", "verdict", "", box=None, pad_edge=False)
    for kind in dict.fromkeys(result.subject.kind for result in done):
        for row in _tally(kind, [result for result in done if result.subject.kind == kind]):
            table.add_row(*row)
        table.add_section()
    Console(width=None if sys.stdout.isatty() else 100, markup=False, highlight=False).print(table)
    failing = results.failures(done)
    for subject, found_wrong in failing:
        print(f"\n{subject.kind} {subject.name} ({subject.source}) fails by {found_wrong.name}:")
        print(textwrap.indent(found_wrong.detail, "    "))
    verdicts = [p.verdict for result in done for p in result.properties]
    counts = f"{verdicts.count('pass')} hold, {len(failing)} fail, {verdicts.count('n/a')} do not apply"
    how = f"{options.profile}, seed {options.seed}, {time.perf_counter() - start:.1f} s"
    print(f"\n{len(verdicts)} properties of {len(done)}: {counts}; {how}")
    return 1 if failing else 0


def _tally(kind: str, done: Sequence[Result]) -> Iterator[tuple[str, str, str, str, str]]:
    """For each property of subjects of a kind: label (once), property, examples, verdict, and what there is to say."""
    label = f"{kind} {done[0].subject.name}" if len(done) == 1 else f"{len(done)} {kind}s"
    for name in dict.fromkeys(p.name for result in done for p in result.properties):
        found = [(result.subject.name, p) for result in done for p in result.properties if p.name == name]
        count = {verdict: sum(p.verdict == verdict for _, p in found) for verdict in ("fail", "pass", "n/a")}
        verdict = next(verdict for verdict, n in count.items() if n)
        if len(done) == 1:
            said = found[0][1].detail if verdict == "n/a" else "see below" if verdict == "fail" else ""
        else:
            said = ", ".join(f"{n} {verdict}" for verdict, n in count.items() if n)
            if count["fail"]:
                said += ": " + ", ".join(owner for owner, p in found if p.verdict == "fail")
        yield label, name, str(sum(p.examples for _, p in found)), verdict, said
        label = ""
