"""``step.run``: whole epochs, to the bit what the loop in Python does."""

import _thread
import importlib
import itertools
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from compiler_tools import assert_same, batch, state, task
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import data


@pytest.fixture
def clock(monkeypatch):
    """``clock(tick)``: the clock that runs look at goes on by so many seconds whenever it is read; it returns them."""

    def start(tick):
        readings = (k * tick for k in itertools.count())
        told = []
        fake = SimpleNamespace(perf_counter=lambda: told.append(next(readings)) or told[-1])
        monkeypatch.setattr(importlib.import_module("minigrad.compiler.step"), "time", fake)
        return told

    return start


def loop(step, x, y, epochs, **options):
    return np.array(
        [[step(*rows).item() for rows in data.batches(x, y, **options, epoch=epoch)] for epoch in range(epochs)]
    )


@given(
    n=st.integers(1, 30),
    size=st.integers(1, 12),
    epochs=st.integers(1, 3),
    shuffle=st.booleans(),
    seed=st.integers(0, 9),
    optimizer=st.sampled_from(["sgd", "adam"]),
    rate=st.sampled_from([0.0, 0.2]),
    clip=st.sampled_from([None, 0.1]),
)
def test_the_same_bits_as_the_loop(n, size, epochs, shuffle, seed, optimizer, rate, clip):
    x, y = batch(0, rows=n)
    net, opt, step = task(optimizer=optimizer, rate=rate, clip=clip)
    losses = loop(step, x, y, epochs, batch_size=size, shuffle=shuffle, seed=seed)
    other, other_opt, step = task(optimizer=optimizer, rate=rate, clip=clip)
    history = mg.compile(step).run(x, y, batch_size=size, epochs=epochs, shuffle=shuffle, seed=seed)
    assert history.losses.tolist() == losses.tolist()
    assert_same(state(net, opt), state(other, other_opt))


def test_gradients_that_a_callback_keeps_stay_as_they_were(clock):
    clock(0.0)
    net, _, step = task()
    kept = []

    def callback(progress):
        kept.extend((p.grad, p.grad.data.copy()) for p in net.parameters())

    mg.compile(step).run(*batch(0, rows=24), batch_size=6, epochs=4, callback=callback)
    assert len(kept) == 4 * len(list(net.parameters()))
    for gradient, then in kept:
        assert gradient.data.tobytes() == then.tobytes()


def test_a_callback_sees_progress_and_may_change_the_learning_rate(clock):
    clock(0.0)
    x, y = batch(0, rows=20)
    net, opt, step = task()
    seen = []

    def callback(progress):
        seen.append((progress.epoch, progress.step, progress.steps, len(progress.losses)))
        opt.lr = 0.05 / (1 + progress.epoch)

    mg.compile(step).run(x, y, batch_size=6, epochs=3, callback=callback)
    assert seen == [(0, 4, 4, 4), (1, 4, 4, 4), (2, 4, 4, 4)]
    other, other_opt, step = task()
    for epoch in range(3):
        loop(lambda *rows: step(*rows), x, y, 1, batch_size=6) if epoch == 0 else [
            step(*rows) for rows in data.batches(x, y, 6, epoch=epoch)
        ]
        other_opt.lr = 0.05 / (1 + epoch)
    assert_same(state(net, opt), state(other, other_opt))


def test_a_callback_within_an_epoch_comes_ten_times_a_second(clock):
    x, y = batch(0, rows=200)
    readings, seen = clock(0.03), []
    net, opt, step = task()

    def callback(progress):
        seen.append((readings[-1], progress.step))
        assert np.all(progress.losses > 0)

    mg.compile(step).run(x, y, batch_size=4, epochs=1, callback=callback)
    assert len(seen) > 2
    assert seen[-1][1] == 50
    times = [0.0, *[now for now, _ in seen[:-1]]]
    assert all(0.1 <= b - a < 0.16 for a, b in itertools.pairwise(times))
    other, other_opt, step = task()
    loop(step, x, y, 1, batch_size=4)
    assert_same(state(net, opt), state(other, other_opt))


def test_an_interrupt_ends_at_a_step_and_keeps_the_state():
    x, y = batch(0, rows=64)
    net, opt, step = task(optimizer="adam")
    compiled = mg.compile(step)
    calls = []

    def callback(progress):
        calls.append(progress.epoch)
        if len(calls) == 2:
            _thread.interrupt_main()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            compiled.run(x, y, batch_size=8, epochs=10**6, callback=callback)
    finally:
        signal.signal(signal.SIGINT, before)
    done = calls[-1] + 1
    other, other_opt, step = task(optimizer="adam")
    steps = round(np.log(opt.h.data[6]) / np.log(0.9)) if opt.h.data[6] > 1e-300 else 0
    assert steps >= 8 * done
    for epoch in range(-(-steps // 8)):
        for i, rows in enumerate(data.batches(x, y, 8, epoch=epoch)):
            if 8 * epoch + i < steps:
                step(*rows)
    assert_same(state(net, opt), state(other, other_opt))


def test_a_class_out_of_range_stops_before_its_step():
    x, y = batch(0, rows=20)
    y[13] = 7
    net, _, step = task()
    with pytest.raises(IndexError, match="class 7 in row 1 of target"):
        mg.compile(step).run(x, y, batch_size=4, shuffle=False)
    other, _, step = task()
    for i in range(3):
        step(x[4 * i : 4 * i + 4], y[4 * i : 4 * i + 4])
    assert_same(net.state_dict(), other.state_dict())


@pytest.mark.parametrize("shuffle", [False, True])
def test_rows_that_a_step_writes_are_those_of_its_beginning(shuffle):
    def task():
        total = mg.tensor([1.0, 2.0, 3.0, 4.0])

        def step(x):
            mg.assign(total, total * 2)
            return mg.sum(x)

        return total, step

    total, step = task()
    history = mg.compile(step).run(total, batch_size=2, epochs=2, shuffle=shuffle)
    other, step = task()
    losses = loop(lambda x, _: step(mg.tensor(x)), other.data, np.zeros(4), 2, batch_size=2, shuffle=shuffle)
    assert history.losses.tolist() == losses.tolist()
    assert total.tolist() == other.tolist() == [16.0, 32.0, 48.0, 64.0]


def test_rows_may_lie_anywhere():
    x = np.frombuffer(b"-" + np.arange(12.0, dtype=np.float32).tobytes(), np.float32, offset=1).reshape(6, 2)
    assert not x.flags.aligned
    x.flags.writeable = False
    step = mg.compile(lambda x: mg.sum(x * x))
    for rows in (x, x.copy(), x[::-1], x.T.copy().T):
        expected = [[(rows[i : i + 2] ** 2).sum().item() for i in (0, 2, 4)]]
        assert step.run(rows, batch_size=2, shuffle=False).losses.tolist() == expected


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.zeros((0, 2)),), {"batch_size": 1}, ValueError, "no examples"),
        ((np.zeros((3, 2)), np.zeros(4)), {"batch_size": 1}, ValueError, "3, 4 examples"),
        ((np.float64(3),), {"batch_size": 1}, ValueError, "first axis"),
        ((), {"batch_size": 1}, ValueError, "first axis"),
        ((np.zeros(3),), {"batch_size": 0}, ValueError, "batch_size is 0"),
        ((np.zeros(3),), {"batch_size": 1.5}, TypeError, "batch_size is 1.5"),
        ((np.zeros(3),), {"batch_size": 1, "epochs": -1}, ValueError, "epochs is -1"),
        ((np.zeros(3),), {"batch_size": 1, "seed": -1}, ValueError, "seed is -1"),
        ((np.zeros(3),), {"batch_size": 1, "seed": -1, "shuffle": False}, ValueError, "seed is -1"),
    ],
)
def test_bad_input(arguments, options, error, message):
    with pytest.raises(error, match=message):
        mg.compile(lambda *xs: xs[0]).run(*arguments, **options)
