"""The pytest plugin: a fixture that checks an op of your own in one line, and a marker that makes many tests of it.

The fixture fails with all that is wrong, each property with its counterexample::

    def test_cube(check_op):
        check_op(cube)

With the marker, such a test of one op becomes a test for each property, test_cube[first], test_cube[second] and so
on, which is skipped where the property does not apply::

    @pytest.mark.check_op(examples=50, seed=1)
    def test_cube(check_op):
        check_op(cube)

Examples and seed are those of :func:`minigrad.testing.check_op`, which needs Hypothesis. Every pytest in the
environment loads the plugin, as a copy that lies outside the package (minigrad_pytest): it imports nothing of minigrad
before an op is to be checked. Where minigrad is not installed, it is there with ``-p minigrad.testing.plugin``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from minigrad.testing.report import Report


def pytest_configure(config: pytest.Config) -> None:
    line = "check_op(examples=20, seed=0): a test for each property of the one op that the fixture check_op checks"
    config.addinivalue_line("markers", line)


def _how(marker: pytest.Mark | None) -> dict[str, int]:
    """The arguments of the marker. Raises TypeError for others."""

    def named(examples: int = 20, seed: int = 0) -> dict[str, int]:
        return {"examples": examples, "seed": seed}

    return named(*marker.args, **marker.kwargs) if marker else named()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("check_op")
    if marker is None:
        return
    try:
        _how(marker)
        from minigrad.testing.laws import LAWS

        if "check_op" not in metafunc.fixturenames:
            raise TypeError("it is marked check_op, but does not ask for the fixture check_op")
    except (TypeError, ImportError) as error:
        raise pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {error}") from None
    metafunc.parametrize("check_op", [*LAWS, "power"], indirect=True)


@pytest.fixture
def check_op(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """check_op(op, examples=20, seed=0): fail with every property that the op lacks; returns the report."""
    only: str | None = getattr(request, "param", None)
    usual = _how(request.node.get_closest_marker("check_op"))

    def check(op: Any, **how: int) -> Report:
        __tracebackhide__ = True
        from minigrad.testing.ops import report

        found = report(op, **usual | how, only=only)
        if failing := [f"{p.name}: {p.detail}" for p in found.properties if p.verdict == "fail"]:
            pytest.fail("\n\n".join([found.subject, *failing]))
        if only and all(p.verdict == "n/a" for p in found.properties):
            pytest.skip(found.properties[0].detail)
        return found

    return check
