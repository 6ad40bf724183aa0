import csv
import json
import math
import multiprocessing
import os
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

import minigrad as mg
from minigrad import data, init, lab

digits = data.digits()
FEW = data.Dataset(digits.x_train[:64], digits.y_train[:64], digits.x_test[:50], digits.y_test[:50])
GRID = {
    "activation": ["tanh", "relu"],
    "weight_init": ["xavier_normal", 0.0],
    "depth": [2],
    "width": [8],
    "seed": [0, 3],
}


class Here(Executor):
    """Computes at once, and counts; ``before(i)`` may raise what an executor raises."""

    def __init__(self, before=lambda i: None):
        self.before, self.count = before, 0

    def submit(self, fn, *args):
        future = Future()
        try:
            self.before(self.count)
            future.set_result(fn(*args))
        except Exception as error:
            future.set_exception(error)
        self.count += 1
        return future


def run(grid=GRID, executor=None, **options):
    return lab.sweep(grid, executor=executor or Here(), dataset=FEW, **options)


def same(a, b):
    assert [r[:5] for r in a.records] == [r[:5] for r in b.records]
    assert [r.error for r in a.records] == [r.error for r in b.records]
    np.testing.assert_array_equal([r[5:-1] for r in a.records], [r[5:-1] for r in b.records])


def test_what_a_cell_is():
    """Beside the same network, trained by hand, and propagate."""
    grid = {"activation": ["relu"], "weight_init": [init.kaiming_normal()], "depth": [2], "width": [9], "seed": [4]}
    (found,) = run(grid, epochs=3, lr=0.05, batch_size=20).records
    he = init.kaiming_normal()
    sizes = [(64, 9), (9, 9), (9, 10)]
    layers = [mg.nn.Linear(n, m, weight_init=he, bias_init=0.0) for n, m in sizes]
    a, b, c = layers
    net = mg.nn.Sequential(mg.nn.Flatten(), a, mg.nn.ReLU(), b, mg.nn.ReLU(), c).initialize(4)
    opt = mg.optim.SGD(net.parameters(), lr=0.05)
    for epoch in range(3):
        losses = []
        for x, y in data.batches(FEW.x_train, FEW.y_train, batch_size=20, seed=4, epoch=epoch):
            loss = mg.cross_entropy(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.data)
    with mg.no_grad():
        right = (net(FEW.x_test).numpy().argmax(axis=1) == FEW.y_test).mean()
    gains = lab.propagate(depth=2, width=9, activation="relu", weight_init=he, seeds=range(4, 5))
    assert found[:5] == ("relu", repr(he), 2, 9, 4)
    assert found[5:7] == (np.mean(losses), right)
    assert found[7:] == (*gains[1:3], *gains[4:6], "")


def test_the_order_is_the_grids_and_the_table_is_readable(tmp_path):
    result = run()
    names = [(r.activation, r.weight_init, r.seed) for r in result.records]
    assert names == [
        (a, w, s) for a in GRID["activation"] for w in ("xavier_normal", "constant(value=0.0)") for s in (0, 3)
    ]
    assert all(math.isnan(r.forward_gain) == (r.weight_init != "xavier_normal") for r in result.records)
    assert all(len(line) <= 100 for line in str(result).splitlines())
    assert len(str(result).splitlines()) == 9
    rows = list(csv.DictReader(result.to_csv(tmp_path / "s.csv").splitlines()))
    assert [float(row["loss"]) for row in rows] == [r.loss for r in result.records]
    assert (tmp_path / "s.csv").read_text(encoding="utf-8") == result.to_csv()


def test_threads_and_the_order_of_completion():
    told = []
    with ThreadPoolExecutor(4) as threads:
        same(run(executor=threads, report=told.append), run())
        assert threads.submit(lambda: 1).result() == 1, "it stays open"
    assert {r[:5] for r in told} == {r[:5] for r in run().records}


def test_processes_of_ones_own_run_kernels_by_one_thread():
    few = {"width": [8], "depth": [2]}
    before = mg.get_num_threads()
    mg.set_num_threads(3)
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            same(run(few, pool), run(few))
            assert pool.submit(mg.get_num_threads).result() == 1
            assert pool.submit(os.getpid).result() != os.getpid()
        assert mg.get_num_threads() == 3
    finally:
        mg.set_num_threads(before)


def test_processes_by_default():
    grid = {"width": [8], "depth": [2]}
    same(lab.sweep(grid, dataset=FEW), run(grid))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", ["loky", "distributed"])
def test_executors_of_others(which, requires):
    found = requires(which)
    if which == "loky":
        same(run(executor=found.get_reusable_executor(1)), run())
        found.get_reusable_executor().shutdown()
    else:
        with found.Client(n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
            same(run(executor=client.get_executor()), run())


def test_a_cell_that_raises(tmp_path):
    """It is an outcome, the others go on; the next call tries it again, and only it."""

    class Fickle(init.Rule):
        fails = True

        def __call__(self, rng, shape, fan_in, fan_out, dtype):
            if self.fails and fan_in == 64 and shape[0] == 7:
                raise RuntimeError("no\nmemory")
            return rng.standard_normal(shape).astype(dtype)

        def __repr__(self):
            return "fickle()"

    path, grid = tmp_path / "sweep.jsonl", {"weight_init": [Fickle()], "width": [6, 7, 8]}
    result = run(grid, path=path)
    assert [r.error for r in result.records] == ["", "RuntimeError: no memory", ""]
    assert math.isnan(result.records[1].loss)
    assert "RuntimeError: no memory" in str(result)
    Fickle.fails = False
    again = run(grid, executor := Here(), path=path)
    assert executor.count == 1
    assert [r.error for r in again.records] == ["", "", ""]
    run(grid, executor := Here(), path=path)
    assert executor.count == 0


def test_it_goes_on_where_it_was_interrupted(tmp_path):
    whole = run()
    for stop in (0, 5):
        path, seen = tmp_path / f"{stop}.jsonl", []

        def interrupt(outcome, seen=seen, stop=stop):
            seen.append(outcome)
            if len(seen) > stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(path=path, report=interrupt)
        executor = Here()
        same(run(executor=executor, path=path), whole)
        assert executor.count == 8 - (stop + 1)


def test_a_file_cut_at_any_byte(tmp_path):
    """What a crash leaves: the file, or less. Whole lines count, and the result is the same."""
    grid = {"weight_init": ["xavier_normal", 0.0], "width": [4], "depth": [1], "seed": [0, 1]}
    path, whole = tmp_path / "sweep.jsonl", run(grid)
    run(grid, path=path)
    content = path.read_bytes()
    assert content.count(b"\n") == 5
    for line in content.splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    for cut in {0, 1, 5, len(content) - 1, len(content), *range(7, len(content), 119)}:
        path.write_bytes(content[:cut])
        executor = Here()
        same(run(grid, executor, path=path), whole)
        assert executor.count == 4 - max(content[:cut].count(b"\n") - 1, 0)
        assert sorted(path.read_bytes().splitlines()) == sorted(content.splitlines())


@pytest.mark.parametrize(
    ("grid", "options", "what"),
    [
        ({**GRID, "seed": [0, 3, 4]}, {}, r"seed is \[0, 3\], here \[0, 3, 4\]"),
        ({**GRID, "weight_init": ["xavier_normal", 1.0]}, {}, "weight_init"),
        (GRID, {"lr": 0.2}, "lr is 0.1, here 0.2"),
        (GRID, {"epochs": 3}, "epochs"),
        (GRID, {"bias_init": "default"}, "bias_init"),
    ],
)
def test_another_sweep_is_noticed(tmp_path, grid, options, what):
    path = tmp_path / "sweep.jsonl"
    run(path=path)
    content = path.read_bytes()
    with pytest.raises(ValueError, match=what):
        run(grid, executor := Here(), path=path, **options)
    other = FEW._replace(x_train=FEW.x_train[:, ::-1])
    with pytest.raises(ValueError, match="dataset is crc32"):
        lab.sweep(GRID, executor=executor, dataset=other, path=path)
    assert executor.count == 0
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", ["my notes", "my notes\n", "[1]\n", '{"sweep": 2}\n', '{"swe'])
def test_a_file_of_somebody_elses_is_left_alone(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_text(content)
    if content == '{"swe':
        run(path=path)
        return
    with pytest.raises(ValueError, match="none of a sweep"):
        run(path=path)
    assert path.read_text() == content


def test_a_damaged_line(tmp_path):
    path = tmp_path / "sweep.jsonl"
    run(path=path)
    lines = path.read_text().splitlines(keepends=True)
    for bad in ("}{\n", "[]\n", '{"loss": 1}\n', lines[2].replace('"loss": ', '"loss": "a", "b": ')):
        path.write_text("".join([*lines[:2], bad, *lines[3:]]))
        with pytest.raises(ValueError, match=r"line 3 of .* is no outcome"):
            run(path=path)


def test_an_executor_that_loses_cells(tmp_path):
    def broken(i):
        if i in (2, 3):
            raise OSError("a worker died")

    path = tmp_path / "sweep.jsonl"
    with pytest.raises(RuntimeError, match=r"lost 2 of 8 cells \(OSError: a worker died\); the others are kept"):
        run(executor=Here(broken), path=path)
    with pytest.raises(RuntimeError, match="nothing is kept without a path"):
        run(executor=Here(broken))
    same(run(executor=(executor := Here()), path=path), run())
    assert executor.count == 2


@pytest.mark.parametrize(
    ("grid", "error", "what"),
    [
        ({"activations": ["tanh"]}, ValueError, "no axis 'activations'; did you mean 'activation'"),
        ({"activation": "tanh"}, TypeError, "needs a list of values, got 'tanh'"),
        ({"seed": 3}, TypeError, "needs a list"),
        ({"activation": ["tanhh"]}, ValueError, "did you mean 'tanh'"),
        ({"activation": [mg.tanh]}, TypeError, "an activation is a name"),
        ({"weight_init": ["xavier"]}, ValueError, "unknown initializer"),
        ({"weight_init": [lambda *args: None]}, ValueError, "give it a __repr__"),
        ({"weight_init": [0, 0.0]}, ValueError, "twice"),
        ({"depth": []}, ValueError, "depth has no values"),
        ({"depth": [0]}, ValueError, "sweep: depth is 0, but must be at least 1"),
        ({"width": [1.5]}, TypeError, "width is 1.5"),
        ({"seed": [-1]}, ValueError, "seed is -1"),
    ],
)
def test_bad_grids(tmp_path, grid, error, what):
    with pytest.raises(error, match=what):
        run(grid, path=tmp_path / "sweep.jsonl")
    assert not list(tmp_path.iterdir())


def test_bad_settings(tmp_path):
    for options in ({"epochs": 0}, {"batch_size": 0}, {"bias_init": "nothing"}):
        with pytest.raises(ValueError, match=next(iter(options)) if "bias_init" not in options else "nothing"):
            run(path=tmp_path / "sweep.jsonl", **options)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        run(executor=(executor := Here()), path=tmp_path / "nowhere" / "sweep.jsonl")
    assert executor.count == 0
    assert [r.error[:10] for r in run({"width": [8]}, lr=-1.0).records] == ["ValueError"]
