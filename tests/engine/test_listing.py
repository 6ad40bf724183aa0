"""How a tape reads: names, what is saved, modules, folds, norms."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.engine.listing import norm


def leaf(*values, name=""):
    return mg.tensor(np.array(values), requires_grad=True, name=name)


def test_modules_head_their_lines_and_parameters_have_names():
    net = nn.Sequential(hidden=nn.Linear(3, 4), tanh=nn.Tanh())
    lines = str(mg.Tape.of(net(mg.tensor(np.ones((5, 3), "f4"))).sum())).splitlines()
    assert [line for line in lines if line.startswith("──")] == ["── hidden", "── tanh", "── outside modules"]
    assert any("linear(const (5, 3), %0 hidden.weight, %1 hidden.bias)" in line for line in lines)


def test_what_is_saved_is_named_with_its_bytes_until_backward_frees_it():
    x = leaf(1.0, 2.0, 3.0)
    y = mg.tanh(x)
    loss = y.sum()
    assert "saves y: 24 B" in str(mg.Tape.of(loss))
    loss.backward()
    assert "freed y" in str(mg.Tape.of(loss))


def test_options_that_are_no_defaults_are_shown():
    text = str(mg.Tape.of(mg.sum(leaf(1.0, 2.0), axis=0)))
    assert "axis=0" in text
    assert "keepdims" not in text


@pytest.mark.parametrize("times", [100, 1000])
def test_equal_blocks_are_folded(times):
    x = leaf(1.0, 2.0, name="x")
    h = x
    for _ in range(times):
        h = mg.tanh(h * x)
        h = h + 0.5
    text = str(mg.Tape.of(h.sum()))
    assert len(text.splitlines()) < 12
    assert f"{times - 1} times in all" in text


@pytest.mark.parametrize("differ", ["constant", "option", "input"])
def test_blocks_that_differ_are_not_folded(differ):
    x = leaf(1.0, 2.0)
    past = [x, x * x]
    for i in range(59):
        if differ == "constant":
            past.append(past[-1] * (1.0 + i))
        elif differ == "option":
            past.append(mg.clip(past[-1], -1.0, float(i)))
        else:
            past.append(mg.add(past[-1], past[i * i % (i + 1) // 2 + 1]))
    h = past[-1]
    assert len(str(mg.Tape.of(h)).splitlines()) == 61


def test_cotangents_show_their_norms():
    x = leaf(3.0, 4.0, name="x")
    (x * x).sum().backward()
    tape = mg.Tape.of((x * x).sum()).backward()
    assert "|ḡ| 10" in str(tape).splitlines()[0]
    assert "|ḡ|" not in str(mg.Tape(tape.nodes))


def test_norms_neither_overflow_nor_hide_a_nan():
    assert norm(np.full(4, 1e300)) == 2e300
    assert norm(np.zeros(3)) == 0
    assert norm(np.zeros((0, 2))) == 0
    assert np.isnan(norm(np.array([1.0, np.nan])))
