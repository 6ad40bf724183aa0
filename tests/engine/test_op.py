"""Declaring an op outside the package: one block, and it is a first-class citizen."""

import re

import numpy as np
import pytest

import minigrad as mg

from ..ops import laws


@mg.op("y = a x³", x=mg.reals(-2, 2), cases=[(((3,),), {}), (((3,),), {"scale": 2.0})])
def cube(x, scale=1.0):
    """Cube, elementwise."""
    return scale * (x * x * x)


@cube.vjp("x", "x̄ = 3 a x² ȳ")
def _(g, x, scale):
    return 3 * scale * x * x * g


@mg.op("y = x / (1 + |x|)", x=mg.reals(-2, 2, kinks=[0.0]))
def softsign(x):
    """Differentiated through its formula: there is no rule."""
    return x / (1 + mg.abs(x))


@mg.op("Y = A diag(d) B", shapes="...nk,k,...km->...nm", a=mg.reals(-2, 2), d=mg.reals(-2, 2), b=mg.reals(-2, 2))
def sandwich(a, d, b):
    """Product with a diagonal in the middle, through its formula."""
    return mg.matmul(a * d, b)


@mg.op("y = log Σ eˣ", shapes="...n->...", x=mg.reals(-2, 2))
def smooth_max(x):
    """With a residual: the softmax, which the rule names."""
    return mg.logsumexp(x, -1)


@smooth_max.residual("p", "p = softmax x")
def _(x):
    return mg.softmax(x)


@smooth_max.vjp("x", "x̄ = p ȳ")
def _(g, p):
    return p * mg.expand_dims(g, -1)


@pytest.mark.parametrize("name", ["cube", "softsign", "sandwich", "smooth_max"])
@pytest.mark.parametrize("law", laws.LAWS)
def test_a_users_op_obeys_the_laws(name, law):
    laws.check(name, law)


def test_options_by_name_and_by_position():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    assert cube(x).tolist() == [1.0, 8.0]
    assert cube(x, 2.0).tolist() == cube(x, scale=2.0).tolist() == cube(scale=2.0, x=x).tolist() == [2.0, 16.0]
    cube(x, scale=2.0).sum().backward()
    assert x.grad.tolist() == [6.0, 24.0]


def test_arrays_go_in_and_out_as_arrays():
    assert isinstance(cube(np.ones(3)), np.ndarray)
    assert isinstance(cube(mg.tensor(1.0)), mg.Tensor)
    assert isinstance(cube(2.0), np.ndarray)


def test_only_what_rules_name_is_saved():
    x, w = mg.tensor([[1.0, 2.0]], requires_grad=True), mg.tensor([[3.0], [4.0]])
    node = (x @ w).node
    assert [a is w.data for a in node.saved] == [True]
    assert not (x + 1.0).node.saved
    y = mg.tanh(x)
    assert [a is y.data for a in y.node.saved] == [True]


def test_a_rule_that_needs_no_gradient_does_not_run():
    @mg.op("y = a b", shapes="elementwise")
    def careful(a, b):
        """Only its first rule may run here."""
        return a * b

    @careful.vjp("a", "ā = ȳ b")
    def _(g, b):
        return g * b

    @careful.vjp("b", "b̄ = ȳ a")
    def _(g, a):
        raise AssertionError("b needs no gradient")

    a = mg.tensor(2.0, requires_grad=True)
    careful(a, mg.tensor(3.0)).backward()
    assert a.grad.item() == 3.0


def test_wrong_declarations():
    with pytest.raises(TypeError, match="rule for x names 'z', which is none of"):

        @cube.vjp("x", "x̄ = ?")
        def _(g, z):
            return g

    with pytest.raises(TypeError, match="no array argument 'scale'"):
        cube.vjp("scale", "?")
    with pytest.raises(TypeError, match="there is an op tanh already"):

        @mg.op("y = x")
        def tanh(x):
            return x

    with pytest.raises(TypeError, match="domain is given for 'z'"):

        @mg.op("y = x", z=mg.reals(0, 1))
        def stray(x):
            return x

    with pytest.raises(TypeError, match="unknown infix '%'"):

        @mg.op("y = a % b", infix="%")
        def stray_modulo(a, b):
            return a

    assert "stray" not in mg.REGISTRY


def test_wrong_calls_name_the_op_and_the_nearest_option():
    x = mg.tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=r"cube: .*did you mean 'scale'"):
        cube(x, scael=2)
    with pytest.raises(TypeError, match=r"sum: .*did you mean 'keepdims'"):
        x.sum(keepdim=True)
    with pytest.raises(TypeError, match="cube: "):
        cube()
    with pytest.raises(TypeError, match="cube: need tensors, arrays or numbers, got str"):
        cube("x")
    with pytest.raises(TypeError, match="cube: need tensors, arrays or numbers, got object"):
        cube(object())
    with pytest.raises(ValueError, match="concatenate: need at least one array"):
        mg.concatenate([])


M = mg.tensor(np.ones((3, 4)))

SHAPES = {
    "matmul: k is 4 in a (3, 4) but 5 in b (5, 2)": lambda: M @ np.ones((5, 2)),
    "matmul: k is 4 in a (3, 4) but 5 in b (5,)": lambda: M @ np.ones(5),
    "matmul: k is 3 in a (3,) but 5 in b (5, 2)": lambda: mg.tensor(np.ones(3)) @ np.ones((5, 2)),
    "matmul: need at least one axis, got a (3, 4) and b (); use * to scale": lambda: M @ 2.0,
    "matmul: the leading axes of a (2, 3, 4), b (3, 4, 5) do not broadcast": lambda: mg.matmul(
        np.ones((2, 3, 4)), np.ones((3, 4, 5))
    ),
    "linear: k is 4 in x (3, 4) but 5 in w (2, 5)": lambda: mg.linear(M, np.ones((2, 5))),
    "linear: m is 2 in w (2, 4) but 3 in b (3,)": lambda: mg.linear(M, np.ones((2, 4)), np.ones(3)),
    "linear: w needs 2 axes (m, k), got shape (4,)": lambda: mg.linear(M, np.ones(4)),
    "add: a (3, 4), b (3,) do not broadcast": lambda: M + np.ones(3),
    "where: c (3, 4), a (2,), b () do not broadcast": lambda: mg.where(M > 0, np.ones(2), 0.0),
    "concatenate: ": lambda: mg.concatenate([M, np.ones((3, 4, 1))]),
    "reshape: ": lambda: M.reshape(5, 5),
    "mse_loss: the operands must have one shape, got (3, 4) and (3,)": lambda: mg.mse_loss(M, np.ones(3)),
    "cross_entropy: n is 3 in logits (3, 4) but 2 in target (2,)": lambda: mg.cross_entropy(M, np.array([0, 1])),
    "cross_entropy: c is 4 in logits (3, 4) but 2 in weight (2,)": lambda: mg.cross_entropy(
        M, np.array([0, 1, 2]), np.ones(2)
    ),
}


MODES = {"kernels": lambda attempt: attempt, "formulas": mg.formulas()}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("message", SHAPES)
def test_shape_errors_name_the_op_the_operands_and_the_letter(message, mode):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        MODES[mode](SHAPES[message])()


VALUES = [
    (IndexError, "class 4 in row 1", lambda: mg.cross_entropy(M, np.array([0, 4, 1]))),
    (IndexError, "class -1 in row 0", lambda: mg.cross_entropy(M, np.array([-1, 3, 1]))),
    (TypeError, "holds NaN", lambda: mg.cross_entropy(M, np.array([0, np.nan, 1]))),
    (TypeError, "integer classes", lambda: mg.cross_entropy(M, np.ones(3))),
    (ValueError, "batch is empty", lambda: mg.cross_entropy(np.ones((0, 4)), np.ones(0, int))),
    (ValueError, "did you mean 'mean'", lambda: mg.cross_entropy(M, np.array([0, 3, 1]), reduction="men")),
    (ValueError, "did you mean 'none'", lambda: mg.mse_loss(M, M, reduction="non")),
    (ValueError, "batch is empty", lambda: mg.mse_loss(np.ones(0), np.ones(0))),
    (IndexError, "one_hot: classes must lie in 0 … 2", lambda: mg.one_hot(np.array([0, 3]), 3)),
    (IndexError, "one_hot: classes must lie in 0 … 2", lambda: mg.one_hot(np.array([0, -1]), 3)),
    (IndexError, "getitem: ", lambda: M[5]),
    (IndexError, "take: ", lambda: mg.take(M, np.array([4]), 0)),
    (TypeError, "take: need integer indices", lambda: mg.take(M, np.array([1.0]), 0)),
    (ValueError, "max: there is nothing to reduce", lambda: mg.max(np.ones((0, 2)), 0)),
    (ValueError, "mean: there is nothing to reduce", lambda: mg.mean(np.ones((0, 2)))),
    (ValueError, "var: ddof 1 needs more than 1 elements", lambda: mg.var(np.ones(1), ddof=1)),
    (ValueError, "gelu: approximate must be 'none' or 'tanh'", lambda: mg.gelu(M, "erf")),
    (ValueError, "sum: axis 2 is out of bounds", lambda: M.sum(2)),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kind", "message", "attempt"), VALUES, ids=[m for _, m, _ in VALUES])
def test_wrong_values_are_refused(kind, message, attempt, mode):
    with pytest.raises(kind, match=message):
        MODES[mode](attempt)()
