"""Every op explains itself, with numbers that are its own."""

import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import cli
from minigrad.explorer.explain import source
from minigrad.kernels import jit

OPS = [name for name, op in mg.REGISTRY.items() if op.__module__.startswith("minigrad.")]


def section(page, title):
    return re.search(rf"^{title}\n((?:  .*\n|\n(?=  ))*)", page + "\n", re.MULTILINE)[1]


@pytest.mark.parametrize("name", OPS)
def test_every_op_of_the_package(name):
    op, page = mg.REGISTRY[name], mg.explain(name)
    assert page.startswith(f"{name}: {op.formula}\n")
    for argument, rule in op.rules.items():
        assert f"for {argument}: {rule.formula}" in section(page, "derivatives")
    assert "def " in section(page, "formula and kernel")
    assert "(its source is not in a file)" not in page
    assert "none: the declaration" not in page
    if op.rules and op.differentiable:
        assert section(page, "second order").strip()


@pytest.mark.parametrize(
    ("name", "kernel"), [("tanh", "def tanh(x: Term)"), ("matmul", "def matmul("), ("sum", "def ")]
)
def test_the_kernel_shown_is_the_one_that_runs(name, kernel):
    if not jit.AVAILABLE:
        pytest.skip("there are no kernels")
    assert kernel in source(mg.REGISTRY[name].kernel)


def test_the_numbers_are_right():
    page = section(mg.explain("square"), "example")
    x, y, first = (
        np.array([float(v) for v in re.search(rf"^  {name} = \[(.*)\]", page, re.MULTILINE)[1].split(",")])
        for name in ("x", "y", "x̄")
    )
    np.testing.assert_allclose(y, x * x, atol=1e-6)
    np.testing.assert_allclose(first, 2 * x, atol=1e-6)
    assert "along (1, 1, …): [2., 2., 2.]" in page


def test_the_second_order_is_the_rule_s_own_formula():
    text = section(mg.explain("tanh"), "second order")
    assert "mul(" in text
    assert "tanh.x" not in text


@pytest.mark.parametrize(("name", "slope"), [("relu", "[0., 0., 0.]"), ("leaky_relu", "[[0.01, 0.01,")])
def test_a_kink_shows_what_the_rule_gives_there(name, slope):
    assert f"x = 0: the rule gives {slope}" in section(mg.explain(name), "at kinks")


def test_an_op_of_your_own():
    @mg.op("y = x³", x=mg.reals(-2, 2))
    def explained_cube(x):
        """The third power."""
        return x * x * x

    @explained_cube.vjp("x", "x̄ = 3 x² ȳ")
    def _(g, x):
        return 3 * x * x * g

    try:
        page = mg.explain(explained_cube)
        assert page == mg.explain("explained_cube")
        for part in ("The third power.", "x̄ = 3 x² ȳ", "saves x", "return 3 * x * x * g", "return x * x * x"):
            assert part in page
        assert "along (1, 1, …): [" in page
    finally:
        del mg.REGISTRY["explained_cube"]


def test_an_unknown_op_is_met_with_the_nearest(capsys):
    with pytest.raises(ValueError, match="did you mean 'tanh'"):
        mg.explain("tahn")
    assert cli.main(["explain", "tahn"]) == 1
    assert "did you mean tanh?" in capsys.readouterr().err


def test_the_command_prints_the_page(capsys):
    assert cli.main(["explain", "tanh"]) == 0
    assert capsys.readouterr().out == mg.explain("tanh") + "\n"
