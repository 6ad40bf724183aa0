"""check_op on ops that a user wrote: right ones pass, wrong ones show why; what does not apply says so."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import testing
from minigrad.kernels import jit
from minigrad.testing.laws import finite, together
from minigrad.testing.ops import properties, report
from minigrad.testing.samples import Sample

from ..ops.laws import LAWS

ROOT = Path(__file__).parents[2]


def declare(b=lambda g, y, s: g * y * (1 - s), **how):
    """A gated linear unit with this rule for b, and what else is given to the declaration."""

    @mg.op("y = a σ(b)", a=mg.reals(-2, 2), b=mg.reals(-3, 3), **how)
    def tested_glu(a, b):
        """Gated linear unit.

        >>> tested_glu(2.0, 0.0).item()
        1.0
        """
        return a * mg.sigmoid(b)

    tested_glu.fn.__globals__["tested_glu"] = tested_glu
    tested_glu.residual("s", "s = σ(b)")(lambda b: mg.sigmoid(b))
    tested_glu.vjp("a", "ā = ȳ s")(lambda g, s: g * s)
    tested_glu.vjp("b", "b̄ = ȳ y (1 − s)")(b)
    return tested_glu


def verdicts(op, **how):
    return {p.name: p.verdict for p in testing.check_op(op, **how).properties}


def test_a_users_op_passes_with_every_law_that_there_is():
    report = testing.check_op(declare())
    assert report, report
    assert [p.name for p in report.properties] == [*LAWS, "power"]
    missing = {p.name: p.detail for p in report.properties if p.verdict == "n/a"}
    off = {} if jit.AVAILABLE else {"compiled": "kernels are off (NUMBA_DISABLE_JIT)"}
    assert missing == {
        **dict.fromkeys(["writes", "refuses"], "it writes nothing"),
        **dict.fromkeys(["kernels", "specials", "ties"], "it has no kernel of its own"),
        **off,
    }


def test_a_counterexample_that_a_person_can_read():
    report = testing.check_op(declare(b=lambda g, y, s: g * y * s))
    assert not report
    assert {p.name for p in report.properties if p.verdict == "fail"} == {"first", "second", "together"}
    lines = next(p.detail for p in report.properties if p.name == "first").splitlines()
    assert re.fullmatch(r"the derivative by b of y is \S+ by the rule, \S+ ± \S+ by differences", lines[0])
    assert lines[1] == "tested_glu(a, b), where"
    assert len(lines) == 4
    for line, name in zip(lines[2:], "ab", strict=True):
        label, _, value = line.strip().partition(" = ")
        assert label == name
        assert value.endswith(" (float64, shape ())")
        assert len(value.split()[0]) <= 5, "a number of two decimals at most"
    shown = str(report).splitlines()
    assert shown[0] == "tested_glu: y = a σ(b)"
    margins = {len(x) - len(x.lstrip()) for x in shown if "where" in x or "a = " in x or "b = " in x}
    assert len(margins) == 2, "all lines of a counterexample begin below the first one"


def test_the_same_seed_gives_the_same_report():
    wrong = declare(b=lambda g, y, s: g * y * s)
    one, two = (str(testing.check_op(wrong, seed=3)) for _ in range(2))
    assert one == two
    names = [p.name for p in properties(wrong, seed=3, shrink=False) if p.verdict == "fail"]
    assert names == ["first", "second", "together"]


def test_an_op_of_the_package_by_name():
    assert testing.check_op("tanh", examples=5)
    with pytest.raises(ValueError, match="no op 'tanhh'; did you mean 'tanh'"):
        testing.check_op("tanhh")
    with pytest.raises(TypeError, match="need an op"):
        testing.check_op(np.tanh)


def test_what_does_not_apply_says_so():
    details = {p.name: p.detail for p in testing.check_op("eq", examples=4).properties if p.verdict == "n/a"}
    assert details["first"] == details["second"] == "it is declared not to be differentiable"
    assert "power" not in details
    details = {p.name: p.detail for p in testing.check_op("assign", examples=4).properties if p.verdict == "n/a"}
    assert details["first"] == "it writes p in place, which has no derivative"
    details = {p.name: p.detail for p in testing.check_op("dropout", examples=4).properties if p.verdict == "n/a"}
    assert set(details) >= {"positions", "rows"}
    assert all(details.values())


def test_the_laws_apply_where_they_should():
    for op in mg.REGISTRY.values():
        applying = {law for law in LAWS if not LAWS[law].unless(op)}
        assert applying >= {"documented", "pure", "precision", "layouts"}
        assert ({"writes", "refuses"} <= applying) == bool(op.writes)
        for law in ("first", "second", "linear", "graph"):
            assert (law in applying) == (op.differentiable and not op.writes)
        if jit.AVAILABLE:
            assert "compiled" in applying
            assert {"kernels", "specials"} <= applying or op.kernel is None


@pytest.mark.skipif(not jit.AVAILABLE, reason="kernels are off")
def test_a_compiled_write_of_several_dtypes():
    recorded, eager = (mg.tensor(np.ones(3, np.float32)) for _ in "12")
    d, h = np.full(3, 0.5), np.array([0.1, 0, 0, 0, 0])
    step = mg.compile(lambda: mg.REGISTRY["sgd"](recorded, d, h=h))
    for _ in range(2):
        step()
        mg.REGISTRY["sgd"](eager, d, h=h)
    assert recorded.tolist() == eager.tolist()


@pytest.mark.parametrize(("share", "verdict"), [(0.5, "pass"), (0.0, "pass"), (1.0, "fail"), (-0.5, "fail")])
def test_of_equal_operands_a_gradient_may_go_to_one_or_to_both_but_adds_up(share, verdict):
    """All to the one (0 to it, the other's rule the same here) would be right of each alone: the sum must be 1."""

    @mg.op("y = max(a, b)", a=mg.reals(-2, 2, distinct=True), b=mg.reals(-2, 2, distinct=True))
    def tested_larger(a, b):
        """The larger."""
        return np.maximum(a, b)

    tested_larger.vjp("a", "ā = ȳ [a > b] + share ȳ [a = b]")(
        lambda g, a, b: g * (mg.gt(a, b) + share * mg.eq(a, b)),
    )
    tested_larger.vjp("b", "b̄ = ȳ [b > a] + (1 − |share|) ȳ [a = b]")(
        lambda g, a, b: g * (mg.gt(b, a) + (1 - share if share < 1 else 1) * mg.eq(a, b)),
    )
    assert only(tested_larger, "kinks") == verdict
    assert only(tested_larger, "first") == "pass"


def test_a_steep_op_without_kinks_is_blamed_for_none():
    @mg.op("y = sin 1000 x", x=mg.reals(-2, 2))
    def tested_steep(x):
        """A wave that is short beside the distance of its samples."""
        return mg.sin(1000 * x)

    tested_steep.vjp("x", "x̄ = 1000 ȳ cos 1000 x")(lambda g, x: g * (1000 * mg.cos(1000 * x)))
    assert only(tested_steep, "kinks") == "pass"


def only(op, law):
    (found,) = report(op, 20, 0, law).properties
    return found.verdict


def test_infinite_slopes_of_both_signs_add_up_to_nan_by_right():
    """Those of xᵖ at 0 do, where x is broadcast; what is NaN by itself is still seen."""

    def check(op):
        for seed in range(100):  # of these, the 79th has x = 0, two tiny p, and cotangents of two signs
            finite(Sample(op, [np.ones(()), np.ones(2)], {}, seed))

    check(mg.pow)
    with pytest.raises(AssertionError, match=r"the gradient of b is NaN, where y is finite: at a = .*, b = "):
        check(declare(b=lambda g, y, s: g * y * (1 - s) + 0 / y))


def test_the_last_bits_of_what_cancels_are_nobodys_fault():
    """All of a and b move alike at 0, so that a − b stands still, and its gradients add up to their rounding."""
    for seed in (6, 19, 62):
        together(Sample(mg.sub, [np.ones(()), np.ones(2)], {}, seed))


@pytest.mark.parametrize(("compare", "verdict"), [(np.equal, "pass"), (lambda a, b: np.equal(a, a), "fail")])
def test_without_derivatives_each_argument_still_has_a_say(compare, verdict):
    @mg.op("y = [a = b]", differentiable=False, a=mg.reals(-2, 2), b=mg.reals(-2, 2))
    def tested_equal(a, b):
        """Whether equal."""
        return compare(a, b)

    assert only(tested_equal, "power") == verdict


@pytest.mark.parametrize(("floating", "verdict"), [(np.float64, "pass"), (np.asarray, "fail")])
def test_of_integers_alone_nothing_wraps_around(floating, verdict):
    @mg.op("y = √|a − b|", shapes="free", differentiable=False, cases=[(((5,), (5,)), {})])
    def tested_distance(a, b):
        """The root of a distance."""
        whole = np.result_type(a, b).kind != "f"
        return np.sqrt(np.abs((floating(a) if whole else a) - b))

    assert only(tested_distance, "integers") == verdict


def test_a_right_op_that_mixes_along_a_letter_and_refuses_empty_rows_passes():
    @mg.op("y = x / √(Σ x² / n)", shapes="...n->...n", x=mg.reals(0.5, 2))
    def tested_norm(x):
        """Each row divided by its root mean square."""
        return x / mg.sqrt(mg.mean(x * x, -1, True))

    def rule(g, x, y):
        return (g - y * mg.mean(g * y, -1, True)) / mg.sqrt(mg.mean(x * x, -1, True))

    tested_norm.vjp("x", "x̄ = (ȳ − y Σ ȳ y / n) / r")(lambda g, x, y: rule(g, x, y) + 1)
    assert not testing.check_op(tested_norm)
    tested_norm.vjp("x", "x̄ = (ȳ − y Σ ȳ y / n) / r")(rule)
    report = testing.check_op(tested_norm, examples=60)
    assert report, report


def test_an_op_that_cannot_be_sampled_says_what_is_missing():
    @mg.op("y = Σ x", shapes="free")
    def tested_free(x, axis):
        """Sum."""
        return mg.sum(x, axis)

    (found,) = testing.check_op(tested_free).properties
    assert found.verdict == "fail"
    assert "cases=[(((3, 4),), {})]" in found.detail


def test_an_op_that_raises_fails_with_its_error():
    @mg.op("y = x")
    def tested_raising(x):
        """Raises."""
        raise RuntimeError("no such thing")

    report = testing.check_op(tested_raising, examples=2)
    found = {p.name: p.detail for p in report.properties if p.verdict == "fail"}
    assert found["pure"].startswith("RuntimeError: no such thing\ntested_raising(x), where\n")


def test_a_wrong_example_in_the_docstring():
    @mg.op("y = x + 1", x=mg.reals(-2, 2))
    def tested_example(x):
        """One more.

        >>> 1 + 1
        3
        """
        return x + 1

    found = {p.name: p.detail for p in testing.check_op(tested_example, examples=2).properties if p.verdict == "fail"}
    assert found == {"example": "    1 + 1\nExpected:\n    3\nGot:\n    2"}


FILE = """
import sys
{before}
import minigrad as mg
from minigrad import testing

@mg.op("y = x³", x=mg.reals(-2, 2))
def cube(x):
    "Cube."
    return x * x * x

@cube.vjp("x", "x̄ = 3 x² ȳ")
def _(g, x):
    return 3 * x * g

{after}
"""


def run(folder, before="", after=""):
    file = folder / "ops_of_mine.py"
    file.write_text(FILE.format(before=before, after=after), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-X", "utf8", str(file)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=120)
    assert [p.name for p in folder.iterdir()] == [file.name], "nothing is left behind"
    return done


def test_a_file_outside_the_package_is_checked_and_nothing_is_written(tmp_path):
    done = run(tmp_path, after="print(testing.check_op(cube))")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "first       fail" in done.stdout
    assert "cube(x), where" in done.stdout


def test_without_hypothesis_everything_else_works_and_check_op_says_what_to_install(tmp_path):
    after = "assert testing.gradcheck(mg.tanh, 0.5)\ntesting.check_op(cube)"
    done = run(tmp_path, before="sys.modules['hypothesis'] = None", after=after)
    assert done.stderr.strip().endswith(
        "ImportError: check_op draws its samples with Hypothesis: pip install hypothesis"
    )
