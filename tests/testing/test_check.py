"""``minigrad check``: what it finds in a file and in the package, what it prints and writes, and its exit status."""

import json
import os
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import minigrad as mg
from minigrad import cli, init, nn, optim
from minigrad.kernels import jit
from minigrad.testing import results, subjects
from minigrad.testing.report import Property
from minigrad.testing.subjects import Subject, collect

NORM = '''
import minigrad as mg


@mg.op("y = x / √(Σ x² / n)", shapes="...n->...n", x=mg.reals(0.5, 2))
def rms_norm(x):
    """Each row divided by its root mean square."""
    return x / mg.sqrt(mg.mean(x * x, -1, True))


@rms_norm.vjp("x", "x̄ = (ȳ − y Σ ȳ y / n) / r")
def _(g, x, y):
    return (g - y * mg.mean(g * y)) / mg.sqrt(mg.mean(x * x, -1, True))
'''
HALF = '''
import minigrad as mg

@mg.op("y = x²", x=mg.reals(-2, 2))
def half(x):
    """The square of x."""
    return x * x

@half.vjp("x", "x̄ = x ȳ")
def _(g, x):
    return g * x
'''
MENDED = NORM.replace("mg.mean(g * y)", "mg.mean(g * y, -1, True)")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(text) is the name of a file with this text, in the current folder; what it declares is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = {*mg.REGISTRY}
    names = []

    def make(text, name=None):
        names.append(name or f"mine_{len(names)}")
        Path(f"{names[-1]}.py").write_text(text, encoding="utf-8")
        return f"{names[-1]}.py"

    def forget():
        for name in names:
            if getattr(sys.modules.get(name), "__file__", None) == str(tmp_path / f"{name}.py"):
                del sys.modules[name]
        for name in {*mg.REGISTRY} - known:
            del mg.REGISTRY[name]

    make.forget = forget
    yield make
    forget()


def run(capsys, *words):
    status = cli.main(["check", *words])
    out, err = capsys.readouterr()
    return status, out, err


# What there is


def test_the_package_is_there_whole():
    found = collect()
    names = {kind: {s.name for s in found if s.kind == kind} for kind in ("op", "module", "initializer", "optimizer")}
    assert names["op"] == {name for name, op in mg.REGISTRY.items() if op.__module__.startswith("minigrad.")}
    kinds = {nn.Module: "module", init.Rule: "initializer", optim.Optimizer: "optimizer"}
    for room in (nn, init, optim):
        for name in room.__all__:
            thing = getattr(room, name)
            for base, kind in kinds.items():
                if isinstance(thing, type) and issubclass(thing, base) and thing is not base:
                    assert name in names[kind]
    assert len({(s.kind, s.name) for s in found}) == len(found)


OTHER = "from minigrad import nn\nshared = nn.Linear(2, 3)\n"
MIXED = '''
import numpy as np
import minigrad as mg
from minigrad import init, nn, optim
from minigrad.nn import Tanh
from other_things import shared

@mg.op("y = 2 x", x=mg.reals(-2, 2))
def _doubled(x):
    """Twice x."""
    return x + x

class Block(nn.Module):
    def __init__(self, n=3):
        self.a, self.b = nn.Linear(n, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.b(mg.tanh(self.a(x)))

class Between(nn.Module):
    example_inputs = (np.ones((2, 3)), np.array([[1.0, 2.0, 4.0]] * 2))

    def forward(self, x, y, scale=2.0):
        return (x + y) * scale

class Sized(nn.Module):
    def __init__(self, n):
        self.n = n

    def forward(self, x):
        return x

class _Hidden(nn.Module):
    pass

sized = again = Sized(2)
Base = nn.Sequential

class Fresh(optim.SGD):
    def __init__(self, params, lr):
        super().__init__(params, lr)

class Ready(optim.SGD):
    def __init__(self, params):
        super().__init__(params, 0.1)

class Strange(optim.SGD):
    def __init__(self, params, lr, shape):
        super().__init__(params, lr)

def halves(rng, shape, fan_in, fan_out, dtype):
    return np.full(shape, 0.5, dtype)

def no_initializer(shape, rng):
    return None

class Drawn:
    def __call__(self, rng, shape, fan_in, fan_out, dtype):
        return rng.uniform(size=shape).astype(dtype)

drawn = Drawn()
given = init.xavier_uniform(0.5)
number = 3
array = np.zeros(3)
'''


def test_what_a_file_defines(write):
    write(OTHER, "other_things")
    found = collect([write(MIXED)])
    assert [(s.kind, s.name) for s in found] == [
        ("op", "_doubled"),
        ("module", "Block"),
        ("module", "Between"),
        ("module", "Sized"),
        ("module", "sized"),
        ("optimizer", "Fresh"),
        ("optimizer", "Ready"),
        ("optimizer", "Strange"),
        ("initializer", "halves"),
        ("initializer", "Drawn"),
        ("initializer", "drawn"),
        ("initializer", "given"),
    ]
    for subject in found:
        properties = list(subject.properties())
        assert [p for p in properties if p.verdict == "fail"] == [], subject.name
        unmade = [Property("made", "n/a", "it cannot be made without arguments")]
        assert (properties == unmade) == (subject.name in ("Sized", "Strange")), subject.name


def test_a_module_that_does_not_take_what_was_guessed_says_how_to_give_inputs(write):
    text = "class Wide(nn.Module):\n    def forward(self, x, y, scale=1.0):\n        return x[:, 9] + y\n"
    (found,) = collect([write("from minigrad import nn\n" + text)])[0].properties()
    assert (found.name, found.verdict) == ("runs", "fail")
    assert found.detail.endswith(
        "called with 2 of normal numbers of shape (5, 4): an attribute example_inputs = (x,) says others"
    )


def test_a_module_that_raises_when_it_is_made(write):
    text = "from minigrad import nn\nclass Bad(nn.Module):\n    def __init__(self):\n        raise KeyError('no')\n"
    assert list(collect([write(text)])[0].properties()) == [Property("made", "fail", "KeyError: 'no'")]


def test_a_law_of_ones_own_is_tested(write):
    text = """
        from minigrad import init
        def narrow(rng, shape, fan_in, fan_out, dtype):
            return rng.uniform(-0.9, 0.9, shape).astype(dtype)
        narrow.law = lambda shape, fan_in, fan_out: init.Uniform(-1.0, 1.0)
    """
    failing = {
        p.name for p in collect([write(re.sub("^ {8}", "", text, flags=re.M))])[0].properties() if p.verdict == "fail"
    }
    assert {"distribution", "variance"} <= failing


def test_a_file_twice_and_two_names(write):
    name = write(MENDED + "\nwith open('ran', 'a') as file:\n    file.write('once')\n")
    assert len(collect([name, name, "tanh", "tanh"])) == 2
    assert len(collect([name])) == 1
    assert Path("ran").read_text() == "once", "a file that is imported already is not run again"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("tahn", "there is nothing to check that is called 'tahn'; did you mean tanh"),
        ("Liner", "did you mean Linear"),
        ("qqqqq", "minigrad ops lists the ops, and a file ends in .py"),
        ("none.py", "there is no file none.py"),
        ("raises.py", "raises.py:3: ZeroDivisionError: division by zero"),
        ("calls.py", "calls.py:3: ValueError: tensor: "),
        ("syntax.py", "syntax.py:2: SyntaxError: "),
        ("leaves.py", "leaves.py:2: SystemExit: 0"),
        ("json.py", "json.py cannot be imported, because another module is called json"),
        ("empty.py", "empty.py defines no op, module, initializer or optimizer"),
        ("tanh --profile quik", "unknown profile 'quik'; did you mean quick?"),
        ("tanh --seed -1", "-1 is not an integer of at least 0"),
        ("tanh --json nowhere/a.json", "there is no folder"),
        ("tanh --junit .", ". is not a file, so nothing can be written there"),
        ("tanh --sed 3", "unknown option --sed"),
    ],
)
def test_bad_usage_is_one_sentence_and_status_2(capsys, write, words, message):
    write("import os\n\n1 / 0\n", "raises")
    write("import minigrad as mg\ndef f():\n    return mg.tensor([[1], [1, 2]])\n\nf()\n", "calls")
    write("x = 1\ny = = 2\n", "syntax")
    write("\nraise SystemExit(0)\n", "leaves")
    write("x = 1\n", "json")
    write("from minigrad.nn import Linear\nx = 1\n", "empty")
    before = sorted(os.listdir())
    status, out, err = run(capsys, *words.split())
    assert (status, out) == (2, "")
    assert message in err
    assert err.startswith("minigrad check: ")
    assert err.count("\n") == 1
    assert sorted(os.listdir()) == before


# What is found


def test_a_subtle_bug_is_found_with_a_counterexample_and_the_mended_file_passes(capsys, write):
    name = write(NORM)
    status, out, err = run(capsys, name, "--json", "found.json", "--junit", "found.xml")
    assert (status, err) == (1, "")
    whole = json.loads(Path("found.json").read_text("utf-8"))
    failing = [p for p in whole["subjects"][0]["properties"] if p["verdict"] == "fail"]
    assert {"first", "rows"} <= {p["name"] for p in failing}
    assert whole["passed"] is False
    for p in failing:
        assert f"op rms_norm ({name}) fails by {p['name']}:\n    " in out
        assert "\n".join("    " + line for line in p["detail"].splitlines()) in out
    first = next(p["detail"] for p in failing if p["name"] == "first")
    assert re.match(
        r"the derivative by x.* of y.* is \S+ by the rule, \S+ ± \S+ by differences\nrms_norm\(x\), where\n", first
    )
    assert len(first.splitlines()) <= 8
    suites = ElementTree.fromstring(Path("found.xml").read_text("utf-8"))
    assert suites[0].attrib["failures"] == str(len(failing))
    told = [case for case in suites.iter("testcase") if case.find("failure") is not None]
    assert [case.find("failure").text for case in told] == [p["detail"] for p in failing]

    write.forget()
    Path(name).write_text(MENDED, encoding="utf-8")
    status, out, err = run(capsys, name)
    assert (status, err) == (0, "")
    assert " 0 fail," in out
    assert "fails by" not in out


@pytest.mark.skipif(not jit.AVAILABLE, reason="the README shows the numbers of kernels")
def test_the_readme_shows_this_file_and_what_is_found(capsys, write):
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    assert f"```python{NORM}```" in readme
    _, out, _ = run(capsys, write(NORM, "my_ops"))
    shown = readme.partition("```text\nop rms_norm")[2].partition("```")[0]
    plain = [re.sub(r"± \S+", "±", text) for text in (shown, out)]
    assert len(shown.splitlines()) == 4
    assert plain[0] in plain[1]


def test_the_table(capsys, write):
    status, out, _ = run(capsys, "Identity", "zeros", "tanh", "Tanh")
    assert status == 0
    rows = [re.split(r"  +", line.strip()) for line in out.splitlines()]
    assert ["op tanh", "documented", "1", "pass"] in rows
    assert ["example", "0", "n/a", "the docstring has none"] in rows
    assert ["2 modules", "runs", "2", "pass", "2 pass"] in rows
    assert ["same seed, same bytes", "2", "pass"] in rows
    assert max(map(len, out.splitlines())) <= 100
    assert re.search(r"\d+ properties of 4: \d+ hold, 0 fail, \d+ do not apply; quick, seed 0, \S+ s\n$", out)


def test_the_same_seed_writes_the_same_json(capsys, write):
    name = write(HALF)
    for file in "ab":
        run(capsys, name, "zeros", "--seed", "5", "--json", file)
    a, b = (Path(file).read_text("utf-8") for file in "ab")
    assert a == b
    assert json.loads(a)["seed"] == 5


def test_seed_and_profile_reach_check_op(monkeypatch):
    asked = []
    monkeypatch.setattr("minigrad.testing.ops.properties", lambda *how: asked.append(how) or [])
    assert list(collect(["tanh"])[0].properties("ci", 7)) == []
    assert asked == [(mg.tanh, 100, 7)]


def test_profiles_try_more():
    for (subject,) in map(collect, (["ge"], ["zeros"], ["SGD"])):
        counts = [sum(p.examples for p in subject.properties(profile)) for profile in ("quick", "ci")]
        assert counts[1] > 1.5 * counts[0]


def test_what_fails_in_one_run_fails():
    def check(seed):
        yield Property("odd", "fail" if seed == 4 else "pass" if seed % 2 else "n/a", f"seed {seed}", 10)

    found = list(subjects._repeated(check, subjects.Profile(1, 3, 1), 1))
    assert found == [Property("odd", "fail", "seed 4", 30)]
    assert list(subjects._repeated(check, subjects.Profile(1, 3, 1), 0)) == [Property("odd", "pass", "seed 1", 30)]


def test_other_seeds_draw_other_weights():
    seeds = set()

    def spy(rng, shape, fan_in, fan_out, dtype):
        w = rng.uniform(-1, 1, shape)
        seeds.add(float(w.flat[0]) if w.size else None)
        return w.astype(dtype)

    spy.law = lambda shape, fan_in, fan_out: init.Uniform(-1.0, 1.0)
    drawn = []
    for seed in (0, 1):
        seeds.clear()
        assert all(p.verdict != "fail" for p in subjects._initializer("spy", spy, "").properties(seed=seed))
        drawn.append({*seeds})
    assert len(drawn[0] & drawn[1]) < 40 < 150 < len(drawn[0] - drawn[1])


# What is written


def strange(detail):
    subject = Subject("op", "a<b", "x.py", lambda profile, seed: [])
    return [results.Result(subject, (Property("first", "fail", detail), Property("second", "n/a", detail)), (1.5, 0.5))]


@pytest.mark.parametrize("detail", ["a\x00b\x1b[0m", "lone \udc80", "<&>\"'", "ȳ → x̄\nsecond line", "\ufffe"])
def test_whatever_a_failure_says_can_be_read_back(detail):
    suite = ElementTree.fromstring(results.to_junit(strange(detail)))[0]
    assert suite.attrib == {
        "name": "op a<b (x.py)", "tests": "2", "failures": "1", "skipped": "1", "errors": "0", "time": "2.000",
    }  # fmt: skip
    failed, skipped = suite
    assert failed.attrib == {"classname": "x.py.op.a<b", "name": "first", "time": "1.500"}
    plain = detail.isprintable() or "\n" in detail
    assert (failed[0].text == detail) == plain
    assert failed[0].attrib["message"] == failed[0].text.splitlines()[0]
    assert skipped[0].tag == "skipped"
    whole = json.loads(results.to_json(strange(detail), "quick", 0))
    assert whole["subjects"][0]["properties"][0]["detail"] == detail


def test_a_failure_to_write_leaves_the_old_file(capsys, write, monkeypatch):
    Path("old.json").write_text("old")
    write("", "unused")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    status, _, err = run(capsys, "Identity", "--json", "old.json")
    assert (status, err) == (2, "minigrad check: [Errno 28] No space left on device\n")
    assert sorted(os.listdir()) == ["old.json", "unused.py"]
    assert Path("old.json").read_text() == "old"


def test_without_rich_it_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.table", None)
    assert run(capsys, "tanh") == (2, "", "minigrad check: the table needs rich: pip install 'minigrad[cli]'\n")


def test_without_hypothesis_it_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    status, out, err = run(capsys, "tanh")
    assert (status, out) == (2, "")
    assert err == "minigrad check: check_op draws its samples with Hypothesis: pip install hypothesis\n"


def test_help_says_what_is_taken_from_a_file(capsys):
    status, out, _ = run(capsys, "--help")
    assert status == 0
    assert "example_inputs" in out
    assert "FILE_OR_OP" in out
    assert "Exit status: 0 if all properties hold" in out


@pytest.mark.intense
def test_the_whole_package_passes(capsys):
    status, out, _ = run(capsys)
    assert status == 0, out
