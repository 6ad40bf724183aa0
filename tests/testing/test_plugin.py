"""The pytest plugin, in a pytest of its own: from the package, and from the copy that is installed beside it."""

import importlib.metadata
import shutil
from pathlib import Path

import pytest

from minigrad import REGISTRY, testing
from minigrad.kernels import jit
from minigrad.testing import plugin
from minigrad.testing.laws import LAWS

pytest_plugins = "pytester"

RULE = """
import minigrad as mg

@mg.op("y = a b²", a=mg.reals(-2, 2), b=mg.reals(-2, 2))
def plugged(a, b):
    "a times the square of b."
    return a * b * b

@plugged.vjp("a", "ā = b² ȳ")
def _(g, b):
    return b * b * g

@plugged.vjp("b", "b̄ = 2 a b ȳ")
def _(g, a, b):
    return {rule}
"""
RIGHT, WRONG = RULE.format(rule="2 * a * b * g"), RULE.format(rule="2 * a * g * abs(b)")
"""The sign of b is lost: right for every b above 0."""
TESTS = """
import pytest

def test_fixture(check_op):
    assert "plugged" in str(check_op(plugged, examples=8))

@pytest.mark.check_op(examples=8)
def test_marked(check_op):
    check_op(plugged)
"""


COUNTEREXAMPLE = [
    "E * first: the derivative by b of y is * by the rule, * by differences",
    "E * plugged(a, b), where",
    "E * a = * (float64, shape *)",
    "E * b = -* (float64, shape *)",
]


@pytest.fixture
def run(pytester):
    """run(text of a test file, options of pytest) in this process, with the plugin, installed or not."""
    pytester.makeini("[pytest]\naddopts = --strict-markers -p minigrad.testing.plugin\nfilterwarnings = error\n")

    def run(text, *options):
        pytester.makepyfile(text)
        known = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"  # by this file
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-W", known, *options)

    yield run
    REGISTRY.pop("plugged", None)


def test_a_right_op_passes(run):
    result = run(RIGHT + TESTS, "-v", "-rP")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] + outcomes["skipped"] == len(LAWS) + 2
    assert outcomes.keys() <= {"passed", "skipped", "warnings"}
    assert outcomes["passed"] > outcomes["skipped"]
    result.stdout.fnmatch_lines(["*::test_fixture PASSED*", "*::test_marked[[]writes] SKIPPED (it writes no*"])


def test_each_property_of_a_wrong_op_fails_with_its_counterexample(run):
    result = run(WRONG + TESTS)
    assert result.parseoutcomes()["failed"] == 4
    result.stdout.fnmatch_lines(
        [
            "*test_fixture*",
            '>*assert "plugged" in str(check_op(plugged, examples=8))',
            "E * Failed: plugged: y = a b²",
            *COUNTEREXAMPLE,
            "E * second: *",
            "*test_marked[[]first]*",
            ">*check_op(plugged)",
            "E * Failed: plugged: y = a b²",
            *COUNTEREXAMPLE,
            "*test_marked[[]second]*",
        ]
    )
    assert "plugin.py" not in result.stdout.str(), "no line of the plugin's own in what a person reads"


def test_one_property_alone(run):
    result = run(WRONG + TESTS, "-k", "marked and pure")
    assert result.parseoutcomes() == {"passed": 1, "deselected": len(LAWS) + 1}


def test_examples_and_seed_are_those_asked_for(run, monkeypatch):
    asked = []

    def spy(op, examples, seed, only):
        asked.append((op, examples, seed, only))
        return testing.Report(op, [testing.Property("pure", "pass")])

    monkeypatch.setattr("minigrad.testing.ops.report", spy)
    run("""
        import pytest

        def test_plain(check_op):
            check_op("tanh")
            check_op("exp", examples=3, seed=4)

        @pytest.mark.check_op(7, seed=3)
        def test_marked(check_op):
            check_op("sin")
    """)
    assert asked == [
        ("tanh", 20, 0, None),
        ("exp", 3, 4, None),
        *[("sin", 7, 3, name) for name in (*LAWS, "power")],
    ]


@pytest.mark.parametrize(
    ("marker", "arguments", "message"),
    [
        ("check_op(example=3)", "check_op", "*::test_marked: *unexpected keyword argument 'example'*"),
        ("check_op", "", "*::test_marked: it is marked check_op, but does not ask for the fixture check_op"),
    ],
)
def test_a_wrong_marker_is_one_sentence(run, marker, arguments, message):
    result = run(f"import pytest\n@pytest.mark.{marker}\ndef test_marked({arguments}): ...\n")
    assert result.parseoutcomes() == {"errors": 1}
    result.stdout.fnmatch_lines([message])
    assert "Traceback" not in result.stdout.str()


def test_a_wrong_op_is_an_error_of_the_test(run):
    result = run("def test_it(check_op):\n    check_op('tahn')\n")
    assert result.parseoutcomes() == {"failed": 1}
    result.stdout.fnmatch_lines(["E *ValueError: check_op: there is no op 'tahn'; did you mean 'tanh'?"])


def test_the_marker_and_the_fixture_are_listed(run):
    run("", "--markers").stdout.fnmatch_lines(["@pytest.mark.check_op(examples=20, seed=0): *"])
    run("", "--fixtures").stdout.fnmatch_lines(
        ["check_op -- *", "*check_op(op, examples=20, seed=0): fail with every*"]
    )


IDLE = """
import sys

def test_idle():
    assert sys.modules.keys().isdisjoint({"minigrad", "numba", "numpy", "hypothesis"})
"""


def test_a_copy_outside_the_package_is_idle_unless_used(pytester):
    shutil.copy(plugin.__file__, pytester.path / "copy_of_plugin.py")
    pytester.syspathinsert()
    pytester.makepyfile(test_idle=IDLE)
    options = ("-p", "copy_of_plugin", "-p", "no:cacheprovider")
    assert pytester.runpytest_subprocess(*options, "test_idle.py").parseoutcomes() == {"passed": 1}


def test_the_entry_point_loads_the_copy(pytester, monkeypatch):
    """And -p with the module's name is the same plugin, not a second one."""
    points = [p for p in importlib.metadata.entry_points(group="pytest11") if p.name == "minigrad.testing.plugin"]
    if not points:
        pytest.skip("minigrad was installed before it had a pytest plugin: install it again")
    assert {p.value for p in points} == {"minigrad_pytest"}
    installed = Path(points[0].load().__file__)
    assert installed.read_text("utf-8") == Path(plugin.__file__).read_text("utf-8"), "install minigrad again"
    pytester.makepyfile(test_idle=IDLE, test_ops=RIGHT + TESTS)
    if cache := jit.AVAILABLE and jit.cache_directory():  # pytester moves the home, where else it would be
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(cache.parents[1]))
    assert pytester.runpytest_subprocess("test_idle.py").parseoutcomes() == {"passed": 1}
    outcomes = pytester.runpytest_subprocess("test_ops.py", "-p", "minigrad.testing.plugin").parseoutcomes()
    assert outcomes["passed"] + outcomes["skipped"] == len(LAWS) + 2
