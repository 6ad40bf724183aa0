"""What is recorded, how it reads, and when it dies."""

import gc
import inspect
import weakref
from contextlib import contextmanager

import numpy as np
import pytest

import minigrad as mg


@contextmanager
def collector_off():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive():
    return sum(type(o) is mg.Node for o in gc.get_objects())


def leaf(*values, dtype=np.float64, name=""):
    return mg.tensor(np.array(values, dtype), requires_grad=True, name=name)


def test_a_tape_is_in_order_and_each_node_is_there_once():
    x = leaf(2.0)
    a = x * x
    b = mg.tanh(a)
    c = a + b * a
    tape = mg.Tape.of(c)
    assert [n.op.name if n.op else "leaf" for n in tape] == ["leaf", "mul", "tanh", "mul", "add"]
    assert [n.seq for n in tape] == sorted(n.seq for n in tape)
    assert len(tape) == 5
    assert tape[-1] is c.node
    for i, node in enumerate(tape):
        assert all(parent in tape.nodes[:i] for parent in node.parents if isinstance(parent, mg.Node))


def test_it_reads_with_formula_shape_name_and_the_users_line():
    x = leaf(1.0, 2.0, name="x")
    y = mg.tanh(x * 3.0)
    line = inspect.currentframe().f_lineno - 1
    loss = y.sum()
    text = str(mg.Tape.of(loss))
    for part in (
        "x",
        "tanh(%1)",
        "mul(%0 x, 3.0)",
        "y = tanh x",
        "float64",
        "(2,)",
        f"{__file__.rsplit('/', 1)[-1]}:{line}",
    ):
        assert part in text
    assert y.node.where == f"{__file__}:{line}"
    assert len(text.splitlines()) == 4


def test_values_are_replayed_to_the_bit_also_after_backward():
    x = leaf(*np.linspace(-2, 2, 7))
    a = mg.tanh(x * 1.1)
    loss = (a * a).sum()
    expected = [x.data, (x * 1.1).data, a.data, (a * a).data, loss.data]
    tape = mg.Tape.of(loss)
    loss.backward()
    for value, known in zip(tape.values().values(), expected, strict=True):
        assert value.tobytes() == known.tobytes()


def test_replay_after_a_write_says_so_unless_values_were_kept():
    x = leaf(1.0, 2.0)
    y = mg.exp(x)
    with mg.record():
        kept = mg.exp(x)
    before = y.data.copy()
    mg.assign(x, 0.0)
    with pytest.raises(RuntimeError, match=r"mg\.record"):
        mg.Tape.of(y).values()
    assert mg.Tape.of(kept).values()[kept.node].tobytes() == before.tobytes()


def test_a_constant_has_no_tape():
    with pytest.raises(RuntimeError, match="no tape"):
        mg.Tape.of(mg.tensor(1.0))


def test_inference_outside_no_grad_leaves_no_node():
    w, b = leaf(1.0, 2.0), leaf(0.5, 0.5)
    with collector_off():
        before = alive()
        for _ in range(1000):
            mg.tanh(np.ones((3, 2)) * w + b).sum()
        assert alive() == before


def test_a_graph_dies_with_its_loss():
    x = leaf(1.0, 2.0)
    with collector_off():
        before = alive()
        y = mg.exp(x)
        loss = (y * mg.tanh(y)).sum()
        ghost = weakref.ref(y.node)
        del y
        assert alive() == before + 4
        loss.backward(create_graph=True)
        (x.grad * x.grad).sum().backward()
        x.grad = None
        assert ghost() is not None
        del loss
        assert ghost() is None
        assert alive() == before


def test_an_output_dies_when_only_the_graph_needs_no_more_of_it():
    x = leaf(1.0)
    y = x * 2.0
    ghost = weakref.ref(y)
    z = y + 1.0
    del y
    assert ghost() is None, "nodes hold arrays and parents, never their own output tensor"
    assert z.requires_grad


def test_backward_drops_what_was_saved():
    x = leaf(1.0, 2.0)
    y = mg.exp(x)
    array = weakref.ref(y.data)
    node, loss = y.node, y.sum()
    del y
    assert array() is not None
    loss.backward()
    assert array() is None
    assert node.op.name == "exp"


@pytest.mark.parametrize("transform", ["plain", "create_graph", "no loss"])
def test_a_long_chain_needs_no_stack(transform):
    x = leaf(1.0)
    with collector_off():
        y = x
        for _ in range(100_000):
            y = y + 0.0
        if transform != "no loss":
            y.sum().backward(create_graph=transform == "create_graph")
            assert x.grad.tolist() == [1.0]
            x.grad = None
        del y  # a hundred thousand nodes die one after the other
        assert alive() < 1000


def test_stacked_diamonds_take_each_node_once():
    x = leaf(1.0)
    y = x
    for _ in range(1000):
        y = 0.5 * (y + y)
    visited = sum(1 for _ in mg.steps(y.sum()))
    assert visited == 2002
    assert x.grad.tolist() == [1.0]


def test_nothing_is_recorded_that_needs_no_gradient():
    x = leaf(1.0)
    assert not (mg.tensor(1.0) + 1).requires_grad
    assert not (x > 0).requires_grad
    assert not x.detach().requires_grad
    assert (x * 2).node.parents[1] == 2
    assert (x * 2).is_leaf is False
    assert mg.tensor(1.0).is_leaf
