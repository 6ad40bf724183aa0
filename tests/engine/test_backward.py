"""The walk: what it gives, what it leaves alone, and what it refuses."""

import asyncio
import itertools
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad.engine.state import Observer, mode
from minigrad.kernels import jit


def leaf(*values, dtype=np.float64):
    return mg.tensor(np.array(values, dtype), requires_grad=True)


# Accumulation and ownership


def test_gradients_accumulate_until_they_are_dropped():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    (x * 3).sum().backward()
    assert x.grad.tolist() == [5.0, 7.0]
    x.grad = None
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_a_tensor_used_often_gets_the_sum():
    x = leaf(2.0)
    (x * x * x + x).sum().backward()
    assert x.grad.tolist() == [13.0]


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: x + y,
        lambda x, y: x.reshape(2, 2) + y.reshape(2, 2),
        lambda x, y: mg.concatenate([x, y]),
        lambda x, y: mg.stack([x, y]),
        lambda x, y: mg.identity(x) + mg.copy(y),
        lambda x, y: x[::-1] + y,
        lambda x, y: mg.where(np.ones(4, bool), x, y),
    ],
)
@pytest.mark.parametrize("seed", ["sum", "whole"])
def test_gradients_own_their_memory(f, seed):
    x, y = leaf(1.0, 2.0, 3.0, 4.0), leaf(5.0, 6.0, 7.0, 8.0)
    out = f(x, y)
    g = np.ones(out.shape)
    if seed == "sum":
        out.sum().backward()
    else:
        out.backward(g)
    assert not np.shares_memory(x.grad.data, y.grad.data)
    assert not np.shares_memory(x.grad.data, g)
    assert x.grad.data.flags.writeable
    before = y.grad.data.copy()
    x.grad.data[...] = 7
    assert y.grad.data.tobytes() == before.tobytes()
    assert g.tolist() == np.ones(out.shape).tolist()


def test_a_kept_gradient_and_a_leafs_share_no_memory():
    x = leaf(1.0, 2.0)
    y = mg.identity(x)
    y.retain_grad()
    y.sum().backward()
    assert not np.shares_memory(x.grad.data, y.grad.data)
    assert y.grad.tolist() == [1.0, 1.0]


def test_a_loss_that_is_a_leaf():
    x = leaf(3.0)
    g = np.array([2.0])
    x.backward(g)
    assert x.grad.tolist() == [2.0]
    assert not np.shares_memory(x.grad.data, g)


def test_the_seed_is_cast_to_the_losss_dtype():
    x = leaf(1.0, 2.0, dtype=np.float32)
    (x * x).backward([1, 2])
    assert x.grad.dtype == np.float32
    assert x.grad.tolist() == [2.0, 8.0]


# The iterator


def test_steps_walks_one_op_at_a_time_and_commits_at_the_end():
    x = leaf(1.0, 2.0)
    walk = mg.steps((x * x).sum())
    names = []
    for step in walk:
        names.append(step.node.op.name if step.node.op else "leaf")
        assert x.grad is None, "gradients come when the walk is complete"
    assert names == ["sum", "mul", "leaf"]
    assert x.grad.tolist() == [2.0, 4.0]


def test_an_interrupted_walk_leaves_gradients_alone():
    x = leaf(1.0)
    (x * 2).sum().backward()
    walk = mg.steps((x * x).sum())
    next(walk)
    next(walk)
    walk.close()
    assert x.grad.tolist() == [2.0]


def test_steps_show_cotangents_and_contributions():
    x = leaf(3.0)
    first, *_ = mg.steps((x * x).sum())
    assert first.cotangent == 1.0
    assert [(node.op.name, g.tolist()) for node, g in first.contributions] == [("mul", [1.0])]


def test_an_exception_in_a_rule_leaves_gradients_alone(monkeypatch):
    x, y = leaf(1.0), leaf(2.0)
    (x + y).sum().backward()

    def broken(g, y):
        raise ArithmeticError("no")

    rule = mg.exp.rules["x"]
    monkeypatch.setitem(mg.exp.rules, "x", mg.exp._rule("x", rule.formula, broken, None))
    mg.exp._plans.clear()
    loss = (mg.exp(x) * y).sum()
    with pytest.raises(ArithmeticError):
        loss.backward()
    mg.exp._plans.clear()
    assert x.grad.tolist() == y.grad.tolist() == [1.0]


# Twice


def test_a_second_backward_says_what_to_do():
    x = leaf(1.0)
    loss = mg.exp(x).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match=r"freed by an earlier backward; pass retain_graph=True"):
        loss.backward()
    assert x.grad.tolist() == [np.e]


def test_retain_graph_allows_it():
    x = leaf(2.0)
    loss = (x * x).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert x.grad.tolist() == [8.0]


def test_create_graph_differentiates_again_and_again():
    x = leaf(2.0)
    y = (x**4).sum()
    for expected in (32.0, 48.0, 48.0, 24.0):
        x.grad = None
        y.backward(create_graph=True)
        y = x.grad.sum()
        assert y.item() == pytest.approx(expected, rel=1e-14)
    x.grad = None


def test_retain_grad_and_its_errors():
    x = leaf(2.0)
    y = x * x
    y.retain_grad()
    (y * 3).sum().backward()
    assert y.grad.tolist() == [3.0]
    assert x.grad.tolist() == [12.0]
    with pytest.raises(RuntimeError, match="retain_grad"):
        mg.tensor(1.0).retain_grad()


def test_an_unkept_intermediate_has_no_gradient():
    x = leaf(2.0)
    y = x * x
    y.sum().backward()
    assert y.grad is None


# Off


def test_detach_shares_memory_and_stops_the_gradient():
    x = leaf(2.0)
    y = x * x
    assert np.shares_memory(y.detach().data, y.data)
    (y.detach() * x).sum().backward()
    assert x.grad.tolist() == [4.0]


def test_no_grad_is_a_block_and_a_decorator():
    x = leaf(2.0)
    with mg.no_grad():
        assert not (x * x).requires_grad
    assert (x * x).requires_grad

    @mg.no_grad()
    def f(x):
        return x * x

    for _ in range(2):
        assert not f(x).requires_grad
    assert (x * x).requires_grad


def test_no_grad_ends_with_an_exception():
    x = leaf(2.0)
    with pytest.raises(KeyError), mg.no_grad():
        raise KeyError
    assert (x * x).requires_grad


def test_modes_do_not_leak_into_threads():
    x, seen, inside, leave = leaf(2.0), [], threading.Event(), threading.Event()

    def quiet():
        with mg.no_grad():
            inside.set()
            leave.wait(10)
            seen.append((x * x).requires_grad)

    thread = threading.Thread(target=quiet)
    thread.start()
    inside.wait(10)
    assert (x * x).requires_grad
    leave.set()
    thread.join()
    assert seen == [False]


def test_modes_do_not_leak_into_tasks():
    x = leaf(2.0)

    async def loud():
        await asyncio.sleep(0)
        return (x * x).requires_grad

    async def quiet():
        with mg.no_grad():
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return (x * x).requires_grad

    async def both():
        return await asyncio.gather(quiet(), loud(), quiet(), loud())

    assert asyncio.run(both()) == [False, True, False, True]


def test_a_graph_may_be_built_by_several_threads():
    x, parts = leaf(2.0), []
    threads = [threading.Thread(target=lambda: parts.append(mg.exp(x * 1.0))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    mg.stack(parts).sum().backward()
    assert x.grad.tolist() == pytest.approx([4 * np.exp(2.0)])


# Writes


@pytest.mark.parametrize(
    "written",
    [
        lambda x: x,
        lambda x: x.detach(),
        lambda x: x.detach().reshape(2, 1),
        lambda x: x.detach()[:1],
        lambda x: x.detach().reshape(2, 1).T.detach(),
    ],
)
def test_a_write_to_what_was_saved_is_an_error(written):
    x = leaf(1.0, 2.0)
    loss = (x * x).sum()
    mg.assign(written(x), 5.0)
    with pytest.raises(RuntimeError, match=r"memory that mul \(.*test_backward.py:\d+\) saved was written"):
        loss.backward()
    assert x.grad is None


def test_a_write_to_a_saved_constant_is_an_error():
    x, c = leaf(1.0, 2.0), mg.tensor(np.array([1.0, 2.0]))
    loss = (x * c).sum()
    mg.assign(c, 0.0)
    with pytest.raises(RuntimeError, match="was written"):
        loss.backward()


def test_a_write_to_what_was_not_saved_is_none():
    x, c = leaf(1.0, 2.0), mg.tensor(np.array([1.0, 2.0]))
    loss = (x + c).sum()
    mg.assign(c, 0.0)
    mg.assign(x, 0.0)
    loss.backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_a_write_before_the_use_is_none():
    x = leaf(1.0, 2.0)
    mg.assign(x, 3.0)
    (x * x).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]


# Refusals


def test_refusals():
    x = leaf(1.0, 2.0)
    with pytest.raises(ValueError, match=r"shape \(2,\).*sum\(\)"):
        (x * x).backward()
    with pytest.raises(ValueError, match=r"gradient has shape \(3,\), the tensor \(2,\)"):
        (x * x).backward(np.ones(3))
    with pytest.raises(RuntimeError, match="does not depend on a tensor that requires a gradient"):
        mg.tensor(1.0).backward()
    with pytest.raises(TypeError, match="int64 cannot require a gradient"):
        mg.tensor(np.arange(3), requires_grad=True)
    with pytest.raises(TypeError, match="bool cannot require a gradient"):
        mg.tensor([True], requires_grad=True)
    with pytest.raises(RuntimeError, match="was computed by mul"):
        (x * x).requires_grad_()
    with pytest.raises(ValueError, match="need float64"):
        x.grad = mg.tensor([1.0, 2.0])
    with pytest.raises(TypeError, match="no rule gives a gradient for weight"):
        mg.cross_entropy(leaf(1.0, 2.0).reshape(1, 2), np.array([0]), leaf(1.0, 1.0))


def test_a_refused_walk_changes_nothing():
    x = leaf(1.0)
    old, new = mg.exp(x), mg.tanh(x)
    old.sum().backward()
    x.grad = None
    with pytest.raises(RuntimeError, match="freed"):
        (mg.sin(new) + old).sum().backward()
    assert x.grad is None
    new.sum().backward()
    assert x.grad.tolist() == pytest.approx([1 - np.tanh(1.0) ** 2])


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("observed", [False, True])
def test_gradients_share_no_memory(create_graph, observed):
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    seed = mg.tensor(np.ones(2))
    with mode(observer=Observer() if observed else None):
        (x + y).backward(seed, create_graph=create_graph)
    arrays = [x.grad.data, y.grad.data, seed.data]
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))


@pytest.mark.skipif(not jit.AVAILABLE, reason="kernels are off: the user's is not called")
def test_a_users_kernel_of_the_wrong_shape_is_refused():
    x = leaf(1.0, 2.0)
    twice = mg.op("y = 2 x", kernel=lambda x: 2 * x, x=mg.reals(-1, 1))(twice_by_formula)
    twice.vjp("x", "x̄ = 2 ȳ", kernel=lambda g: 2 * g[:1])(lambda g: 2 * g)
    with pytest.raises(ValueError, match="does not broadcast"):
        twice(x).backward(np.ones(2))
    assert x.grad is None


def test_a_users_kernel_may_give_a_number():
    double = mg.op("y = 2 x", kernel=lambda x: 2 * x, x=mg.reals(-1, 1))(twice_by_formula)
    double.vjp("x", "x̄ = 2 ȳ", kernel=lambda g: 2 * g)(lambda g: 2 * g)
    x = mg.tensor(3.0, requires_grad=True)
    y = double(x)
    y.backward()
    assert (type(y.data), type(x.grad.data), y.item(), x.grad.item()) == (np.ndarray, np.ndarray, 6.0, 2.0)


def twice_by_formula(x):
    """Double."""
    return 2 * x
