"""Programs: what is pruned, how it is checked, planned and printed."""

import numpy as np
import pytest
from compiler_tools import batch, task
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.compiler.plan import plan, rounded
from minigrad.compiler.program import Call, Program, Ref, Root


def program(**options):
    _, _, step = task(**options)
    step = mg.compile(step)
    step(*batch(0))
    return step.program


def test_a_training_step_needs_no_python():
    for optimizer in ("sgd", "momentum", "adam"):
        for rate in (0.0, 0.5):
            calls = program(optimizer=optimizer, rate=rate).calls
            assert [c.op.name for c in calls if c.launches is None and not c.view] == []


def test_what_nobody_needs_is_not_done():
    f = mg.compile(lambda x: (mg.exp(x), mg.tanh(x) + 1)[0])
    f(mg.tensor([1.0]))
    assert [c.op.name for c in f.program.calls] == ["exp"]


def test_the_text_of_a_program():
    text = str(program(optimizer="adam"))
    lines = text.splitlines()
    assert any("linear(argument 0, layers.0.weight, layers.0.bias)" in line and "tools.py:" in line for line in lines)
    assert any("Y = X Wᵀ + b" in line and "float32 (6, 7)" in line and "gemm" in line for line in lines)
    assert any(line.startswith("layers.1.weight.grad") for line in lines)
    assert "without reuse" in lines[-1]
    with pytest.raises(RuntimeError, match="has not been called yet, or without kernels"):
        _ = mg.compile(lambda x: x).program


def test_operations_are_counted():
    f = mg.compile(lambda x, w: mg.matmul(x, w))
    f(np.zeros((3, 4)), np.zeros((4, 5)))
    assert f.program.calls[0].flops == 2 * 3 * 4 * 5


def straight(sizes, spans):
    """A program of temporaries with these sizes, each made at the first call of its span and read at the last."""
    roots = [Root("temporary", size) for size in sizes]
    refs = [Ref(root, 0, (root.size,), (1,), np.dtype("uint8")) for root in roots]
    calls = []
    for i in range(max(last for _, last in spans) + 1):
        made = tuple(ref for ref, (first, _) in zip(refs, spans, strict=True) if first == i)
        read = tuple(ref for ref, (_, last) in zip(refs, spans, strict=True) if last == i)
        calls.append(Call(mg.REGISTRY["copy"], read, {}, made, (), None, ""))
    return Program(calls, [], [], [], []), roots


spans = st.tuples(st.integers(0, 8), st.integers(1, 5)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(st.tuples(st.integers(1, 500), spans), min_size=1, max_size=20))
def test_a_plan_lets_no_two_lives_share_a_byte(items):
    sizes, lives = [size for size, _ in items], [span for _, span in items]
    made, roots = straight(sizes, lives)
    plan(made)
    for i, (a, (first, last)) in enumerate(zip(roots, lives, strict=True)):
        assert a.place % 64 == 0
        assert a.place + a.size <= made.arena
        for b, (begins, ends) in list(zip(roots, lives, strict=True))[:i]:
            apart = a.place + rounded(a.size) <= b.place or b.place + rounded(b.size) <= a.place
            assert apart or last < begins or ends < first
    assert made.arena <= made.unplanned


def test_a_plan_uses_memory_again():
    made, _ = straight([64] * 10, [(i, i + 1) for i in range(10)])
    plan(made)
    assert (made.arena, made.unplanned) == (128, 640)
    plan(made, reuse=False)
    assert made.arena == 640


def test_check_refuses_what_is_read_before_it_is_written():
    made, _ = straight([64, 64], [(0, 1), (1, 2)])
    made.check()
    made.calls.reverse()
    with pytest.raises(AssertionError, match="before it is written"):
        made.check()


def test_check_refuses_a_write_to_an_argument():
    root = Root("input", 8, index=0)
    ref = Ref(root, 0, (1,), (8,), np.dtype("float64"))
    call = Call(mg.REGISTRY["tick"], (ref,), {}, (), (ref,), None, "")
    with pytest.raises(AssertionError, match="writes the argument"):
        Program([call], [root], [], [], []).check()


def test_a_plan_of_a_deep_network_is_at_most_half():
    made = program(sizes=(5, *[16] * 30, 3))
    assert 2 * made.arena <= made.unplanned


@pytest.mark.parametrize("threads", [1, 2])
def test_large_products_are_native_and_shared_by_threads(threads):
    """(m, k) = (600, 700) times (700, 128) is above the size from which blocks are copied, and threads pay."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((600, 700)).astype("f4"), rng.standard_normal((128, 700)).astype("f4")
    before = mg.get_num_threads()
    mg.set_num_threads(threads)
    try:
        f = mg.compile(lambda x, w: mg.linear(x, w))
        first, again = f(x, w), f(x, w)
        (call,) = f.program.calls
        assert [launch.apart for launch in call.launches] == [False] + [threads > 1] * threads
        assert first.data.tobytes() == again.data.tobytes() == mg.linear(x, w).tobytes()
        mg.set_num_threads(3 - threads)
        assert f(x, w).data.tobytes() == first.data.tobytes()
        assert len(f.recordings) == 2
    finally:
        mg.set_num_threads(before)
