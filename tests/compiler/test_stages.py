"""What several threads share of a program: pieces of elementwise work and products, and never what needs the other."""

import numpy as np
import pytest
from compiler_tools import LOSSES, OPTIMIZERS, assert_same, batch, state, task

import minigrad as mg
from minigrad.compiler import executor
from minigrad.compiler.executor import Code, Stage
from minigrad.compiler.program import Root
from minigrad.kernels import gemm, pool

ORDERS = {
    "first to last": lambda parts: [part() for part in parts],
    "last to first": lambda parts: [part() for part in reversed(parts)],
    "threads": pool.POOL.run,
}


@pytest.fixture(autouse=True)
def _small_is_large(monkeypatch):
    """Threads for work that is not worth it, so that small examples see them."""
    monkeypatch.setattr(executor, "_SHARED", 40)
    monkeypatch.setattr(gemm, "_THREAD", 1 << 18)
    monkeypatch.setattr(gemm, "_LARGE", 1 << 20)
    before = mg.get_num_threads()
    yield
    mg.set_num_threads(before)


def stages(compiled):
    (recording,) = compiled.recordings
    return [part for part in recording.executor.parts if isinstance(part, Stage)]


def kernels(stage):
    return [[launch.kernel.__name__ for launch, _ in share] for share in stage.shares]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_bits_are_those_of_one_thread(optimizer, threads, order, monkeypatch):
    """Whoever is first. 64 × 200 × 130 numbers are enough for a product that threads share."""
    options = {"sizes": (200, 130, 3), "optimizer": optimizer, "rate": 0.25, "clip": 1.0}
    mg.set_num_threads(1)
    net, opt, eager = task(**options)
    mg.set_num_threads(threads)
    other, other_opt, step = task(**options)
    compiled = mg.compile(step)
    monkeypatch.setattr(pool.POOL, "run", ORDERS[order])
    for i in range(4):
        mine = compiled(*batch(i, 64, 200))
        assert eager(*batch(i, 64, 200)).data.tobytes() == mine.data.tobytes()
    assert_same(state(net, opt), state(other, other_opt))
    assert any("_blocked" in share for stage in stages(compiled) for share in kernels(stage))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("order", ORDERS)
def test_losses(loss, order, monkeypatch):
    mg.set_num_threads(3)
    monkeypatch.setattr(pool.POOL, "run", ORDERS[order])
    net, opt, eager = task(loss=loss, activation="gelu")
    other, other_opt, step = task(loss=loss, activation="gelu")
    compiled = mg.compile(step)
    for i in range(3):
        assert eager(*batch(i, 50)).data.tobytes() == compiled(*batch(i, 50)).data.tobytes()
    assert_same(state(net, opt), state(other, other_opt))


@pytest.mark.parametrize(("count", "sizes"), [(127, [127]), (128, [64, 64]), (129, [128, 1]), (1000, [512, 488])])
def test_pieces_are_whole_lines_and_cover_all(count, sizes, monkeypatch):
    """The first of two pieces is a multiple of 64 elements, at least half; 127 elements are too few here."""
    monkeypatch.setattr(executor, "_SHARED", 128)
    mg.set_num_threads(2)
    f = mg.compile(lambda x: mg.leaky_relu(x, 0.25))
    x = np.linspace(-1, 1, count).astype("f4")
    want = mg.leaky_relu(x, 0.25)
    for _ in range(2):
        assert f(x).data.tobytes() == want.tobytes()
    found = [[launch.operands[-1] for launch, _ in share] for stage in stages(f) for share in stage.shares]
    assert found == ([] if len(sizes) == 1 else [[size] for size in sizes])


def test_one_thread_has_one_code():
    mg.set_num_threads(1)
    f = mg.compile(lambda x: mg.tanh(mg.exp(x)))
    f(np.zeros(1000, "f4"))
    (recording,) = f.recordings
    assert recording.executor.single is not None


def test_what_needs_nothing_of_each_other_is_one_stage():
    mg.set_num_threads(2)
    f = mg.compile(lambda x, y: (mg.tanh(x), mg.exp(y), mg.sum(y)))
    x, y = np.zeros(1000, "f4"), np.ones(999, "f4")
    f(x, y)
    (stage,) = stages(f)
    assert kernels(stage) == [["_sum", "tanh_loop", "exp_loop"], ["tanh_loop", "exp_loop"]]


def test_what_reads_the_other_is_not():
    mg.set_num_threads(2)
    f = mg.compile(lambda x: mg.tanh(mg.exp(x)))
    f(np.zeros(1000, "f4"))
    assert [kernels(stage) for stage in stages(f)] == [[["exp_loop"]] * 2, [["tanh_loop"]] * 2]


@pytest.mark.parametrize(
    ("read", "written", "taken"),
    [([0], [], True), ([], [0], False), ([1], [], False), ([], [1], False), ([0], [2], True), ([2], [2], True)],
)
def test_a_stage_takes_what_it_does_not_meet(read, written, taken):
    """It reads bytes 0 to 8 and writes bytes 8 to 16 of a memory."""
    stage, memory = Stage(), Root("temporary", 24)
    places = [executor._Span(memory, 8 * i, 8 * i + 8) for i in range(3)]
    stage.add([], [places[0]], [places[1]])
    assert stage.takes([places[i] for i in read], [places[i] for i in written]) is taken
    assert stage.takes([places[i]._replace(memory=None) for i in read], [])


def test_what_reads_a_state_that_the_other_writes_is_not():
    mg.set_num_threads(2)
    p, opt = [], []
    for _ in range(2):
        p.append(mg.tensor(np.linspace(0, 1, 100), requires_grad=True))
        opt.append(mg.optim.SGD(p[-1:], lr=0.5))

    def step(p, opt):
        opt.zero_grad()
        mg.sum(p * p).backward()
        opt.step()
        return mg.exp(p.detach())

    compiled = mg.compile(lambda: step(p[1], opt[1]))
    for _ in range(3):
        assert step(p[0], opt[0]).data.tobytes() == compiled().data.tobytes()
    assert [kernels(stage) for stage in stages(compiled)][-2:] == [[["_sgd"]] * 2, [["exp_loop"]] * 2]


def test_gradients_have_memory_of_their_own():
    """A bias's gradient, one thread's work, belongs to the stage of its weight's."""
    mg.set_num_threads(2)
    _, _, step = task(sizes=(200, 130, 3))
    compiled = mg.compile(step)
    compiled(*batch(0, 64, 200))
    assert [["_sum", "_blocked"], ["_blocked"]] in [kernels(stage) for stage in stages(compiled)]


def test_memory_of_others_may_be_anywhere():
    """Gradients that a step carries on, which belong to others, share no stage with what writes."""
    mg.set_num_threads(2)
    w, v = (mg.tensor(np.linspace(0, 1, 100), requires_grad=True) for _ in range(2))
    opt = mg.optim.SGD([w, v], lr=0.5)

    @mg.compile
    def step():
        opt.step()

    w.grad, v.grad = mg.tensor(np.ones(100)), mg.tensor(w.data)
    step()
    w.grad, v.grad = mg.tensor(np.ones(100)), mg.from_numpy(w.data)
    want = w.data - 0.5
    step()
    assert w.data.tobytes() == want.tobytes()
    assert [kernels(stage) for stage in stages(step)] == [[["_sgd"]] * 2] * 2


def test_a_check_ends_the_program_before_what_follows():
    """A class out of range: the optimizer has not stepped then, whoever shares its work."""
    mg.set_num_threads(2)
    net, _, step = task(sizes=(5, 30, 3))
    compiled = mg.compile(step)
    x, y = batch(0, 50)
    compiled(x, y)
    compiled(x, y)
    before = net.state_dict()
    y[3] = 7
    with pytest.raises(IndexError, match="class"):
        compiled(x, y)
    assert all(net.state_dict()[name].tobytes() == array.tobytes() for name, array in before.items())
    (recording,) = compiled.recordings
    assert any(isinstance(part, Code) and part.checks for part in recording.executor.parts)


def test_what_may_fail_is_in_no_stage():
    mg.set_num_threads(2)
    f = mg.compile(lambda x, z, y: (mg.tanh(x), mg.cross_entropy(z, y)))
    x, z = np.zeros(1000, "f4"), np.zeros((2, 3), "f4")
    f(x, z, np.array([0, 2]))
    with pytest.raises(IndexError, match="class"):
        f(x, z, np.array([0, 3]))
