"""Tapes of every op, run again: from their leaves, and from JSON, to the bit."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg

from .laws import leaves_of, samples

OPS = [
    op for op in mg.REGISTRY.values() if op.differentiable and not op.writes and op.__module__.startswith("minigrad")
]


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@given(st.data())
def test_every_op_comes_back_from_json_with_its_bits(data):
    op = data.draw(st.sampled_from(OPS))
    sample = data.draw(samples(op))
    leaves = leaves_of(sample)
    out = sample(leaves)
    if not isinstance(out, mg.Tensor) or not out.requires_grad:
        return
    tape = mg.Tape.of(out)
    text = tape.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    twin = mg.Tape.from_json(text)
    for node, (value, other) in zip(
        tape, zip(tape.values().values(), twin.values().values(), strict=True), strict=True
    ):
        assert same(value, other), node
    assert str(twin) == str(tape)
    g = sample.cotangent()
    ours, theirs = tape.backward(g).cotangents, twin.backward(g).cotangents
    out.backward(g)
    for node, other in zip(tape, twin, strict=True):
        if node.op is None and node.grad is not None:
            assert same(node.grad.data, ours[node])
            assert same(node.grad.data, theirs[other])


def test_a_second_derivative_comes_back_with_its_bits():
    x = mg.tensor([[0.3, -1.2]], requires_grad=True)
    mg.assign(x, [[0.4, -1.3]])
    g = mg.cross_entropy(mg.tanh(x) * x, np.array([1]))  # saves a residual
    g.backward(create_graph=True)
    tape = mg.Tape.of((x.grad * x.grad).sum())
    assert any(getattr(n.op, "known", None) is not None for n in tape)
    twin = mg.Tape.from_json(tape.to_json())
    for value, other in zip(tape.values().values(), twin.values().values(), strict=True):
        assert same(value, other)


def test_options_of_every_kind_come_back():
    x = mg.tensor(np.arange(24.0).reshape(2, 3, 4), requires_grad=True)
    y = x[..., None, 1:, [0, 2]].astype("float32") * np.inf
    tape = mg.Tape.of(mg.clip(y, -1.0, 5.0))
    twin = mg.Tape.from_json(tape.to_json())
    assert same(twin.values()[twin[-1]], tape.values()[tape[-1]])


def test_backward_of_a_tape_leaves_the_gradients_alone_and_runs_after_one_that_freed_it():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    loss = (x * x).sum()
    loss.backward()
    assert mg.Tape.of(loss).backward().cotangents[x.node].tolist() == [2.0, 4.0]
    assert x.grad.tolist() == [2.0, 4.0]


def test_a_leaf_written_before_its_use_is_not_lost():
    x = mg.tensor([1.0], requires_grad=True)
    mg.assign(x, 5.0)
    tape = mg.Tape.of(x * x)
    assert tape.values()[x.node].tolist() == [5.0]
    assert mg.Tape.from_json(tape.to_json()).backward([1.0]).cotangents
    mg.assign(x, 6.0)
    with pytest.raises(RuntimeError, match=r"mg\.record"):
        tape.values()


@pytest.mark.parametrize("what", ["leaf", "constant"])
def test_after_a_write_it_says_that_values_are_lost(what):
    x, c = mg.tensor([1.0], requires_grad=True), mg.tensor([2.0])
    tape = mg.Tape.of(x * c)
    mg.assign(x if what == "leaf" else c, 5.0)
    for use in (tape.to_json, tape.backward):
        with pytest.raises(RuntimeError, match=r"mg\.record"):
            use()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "this is no tape"),
        ("[]", "this is no tape"),
        ('{"minigrad tape": 99, "nodes": []}', "format 99"),
        (
            '{"minigrad tape": 1, "nodes": [{"op": "unheard", "name": "", "path": "", "where": "", "inputs": []}]}',
            "no op 'unheard'",
        ),
    ],
)
def test_other_texts_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        mg.Tape.from_json(text)
