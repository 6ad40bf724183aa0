"""Compiled steps: the same bits as without, whatever changes between the calls."""

import copy
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from compiler_tools import ACTIVATIONS, LOSSES, OPTIMIZERS, assert_same, batch, state, task
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn


def both(calls, **options):
    """Run calls (functions of net, opt, step) on a plain and on a compiled task; their results and states agree."""
    nets = []
    for wrap in (lambda f: f, mg.compile):
        net, opt, step = task(**options)
        step = wrap(step)
        results = [call(net, opt, step) for call in calls]
        nets.append((results, state(net, opt), step))
    assert [np.asarray(r.data).tobytes() for r in nets[0][0] if r is not None] == [
        np.asarray(r.data).tobytes() for r in nets[1][0] if r is not None
    ]
    assert_same(nets[0][1], nets[1][1])
    return nets[1][2]


ANYTHING = {
    "sizes": st.lists(st.integers(1, 20), min_size=0, max_size=3).map(lambda inner: (5, *inner, 3)),
    "activation": st.sampled_from(ACTIVATIONS),
    "loss": st.sampled_from(sorted(LOSSES)),
    "optimizer": st.sampled_from(sorted(OPTIMIZERS)),
    "rate": st.sampled_from([0.0, 0.3]),
    "clip": st.sampled_from([None, 0.1]),
}


@given(options=st.fixed_dictionaries(ANYTHING), rows=st.integers(1, 9), steps=st.integers(2, 8))
def test_the_same_bits_as_without(options, rows, steps):
    step = both([call(i, rows) for i in range(steps)], **options)
    assert len(step.recordings) == 1


@settings(max_examples=max(3, settings().max_examples // 10), deadline=60_000)  # a thousand eager steps take a second
@given(options=st.fixed_dictionaries(ANYTHING))
def test_a_thousand_steps(options):
    assert len(both([call(i % 7) for i in range(1000)], **options).recordings) == 1


def call(i=0, rows=6):
    return lambda net, opt, step: step(*batch(i, rows))


def act(function):
    def run(net, opt, step):
        function(net, opt)

    return run


#: What a user may do between two calls, and how many recordings there are then.
BETWEEN = {
    "nothing": (lambda net, opt: None, 1),
    "learning rate": (lambda net, opt: setattr(opt, "lr", 0.01), 1),
    "weights loaded": (lambda net, opt: net.load_state_dict({k: v * 2 for k, v in net.state_dict().items()}), 1),
    "initialized": (lambda net, opt: net.initialize(5), 1),
    "optimizer loaded": (lambda net, opt: opt.load_state_dict(opt.state_dict()), 1),
    "gradients dropped": (lambda net, opt: opt.zero_grad(), 1),
    "gradient replaced": (lambda net, opt: setattr(net.layers[0].weight, "grad", None), 1),
    "evaluation": (lambda net, opt: net.eval(), 2),
    "array replaced": (
        lambda net, opt: setattr(net.layers[0].weight, "data", net.layers[0].weight.data * np.float32(2)),
        2,
    ),
    "attribute": (lambda net, opt: setattr(net, "activation", "sigmoid"), 2),
    "equal attribute": (lambda net, opt: setattr(net, "activation", "".join(["ta", "nh"])), 1),
    "other parameters": (
        lambda net, opt: (
            vars(opt).update(params=opt.params[:2], state=opt.state[:2]) or setattr(opt, "slots", opt.slots)
        ),
        2,
    ),
}


@pytest.mark.parametrize("what", sorted(BETWEEN))
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_changes_between_calls(what, optimizer):
    change, count = BETWEEN[what]
    calls = [call(0), call(1), act(change), call(2), call(3)]
    assert len(both(calls, rate=0.25, optimizer=optimizer).recordings) == count


def test_a_layer_that_is_replaced_is_recorded_again():
    def change(net, opt):
        net.layers[1] = nn.Linear(7, 3).initialize(9)
        net.layers = list(net.layers)

    assert len(both([call(0), call(1), act(change), call(2)]).recordings) == 2


def test_shapes_and_dtypes_have_recordings_of_their_own():
    def wide(net, opt, step):
        x, y = batch(3)
        return step(x.astype("float64"), y.astype("int32"))

    step = both([call(0), call(0, rows=3), call(1), wide, call(1, rows=3), wide])
    assert len(step.recordings) == 3


def test_layouts_share_a_recording():
    def layout(function):
        return lambda net, opt, step: step(function(batch(2)[0]), batch(2)[1])

    readonly = batch(2)[0]
    readonly.flags.writeable = False
    step = both(
        [
            call(2),
            layout(np.asfortranarray),
            layout(lambda x: np.repeat(x, 2, 1)[:, ::2]),
            layout(lambda x: x[::-1][::-1]),
            layout(lambda x: readonly),
            layout(lambda x: mg.tensor(x)),
        ]
    )
    assert len(step.recordings) == 1


def test_gradients_carry_on_without_zero_grad():
    def run(wrap):
        net, opt, _ = task()

        @wrap
        def step(x, y):
            mg.cross_entropy(net(x), y).backward()

        for i in range(4):
            step(*batch(i))
        opt.step()
        return state(net, opt)

    assert_same(run(lambda f: f), run(mg.compile))


def test_a_step_that_drops_gradients_drops_them_every_time():
    net, opt, _ = task()
    drop = mg.compile(lambda: opt.zero_grad())
    for _ in range(3):
        mg.cross_entropy(net(mg.tensor(batch(0)[0])), batch(0)[1]).backward()
        drop()
        assert [p.grad for p in net.parameters()] == [None] * 4


def test_a_copy_that_is_written_is_a_copy():
    @mg.compile
    def f(x):
        y = mg.tanh(x)
        z = mg.copy(y)
        mg.assign(z, 0.0)
        return y + z

    x = mg.tensor([0.5, 1.0])
    assert f(x).tolist() == f(x).tolist() == mg.tanh(x).tolist()


def test_a_step_may_use_gradients_from_outside():
    def run(wrap):
        net, opt, _ = task(optimizer="adam")
        update = wrap(opt.step)
        for i in range(4):
            opt.zero_grad()
            x, y = batch(i)
            mg.cross_entropy(net(mg.tensor(x)), y).backward()
            update()
        return state(net, opt)

    assert_same(run(lambda f: f), run(mg.compile))


def test_what_the_caller_holds_is_not_overwritten():
    net, _, step = task()
    step = mg.compile(step)
    losses, gradients, arrays = [], [], []
    for i in range(4):
        losses.append(step(*batch(i)))
        gradients.append(net.layers[0].weight.grad)
        arrays.append(net.layers[1].weight.grad.data[1:])
    copies = [(a.item(), b.data.copy(), c.copy()) for a, b, c in zip(losses, gradients, arrays, strict=True)]
    step(*batch(9))
    assert len({loss.item() for loss in losses}) == 4
    for (loss, g, a), x, y, z in zip(copies, losses, gradients, arrays, strict=True):
        assert (loss, g.tobytes(), a.tobytes()) == (x.item(), y.data.tobytes(), z.tobytes())
    assert gradients[0].data.tobytes() != gradients[1].data.tobytes()


def test_duplicate_and_aliased_arguments():
    f = mg.compile(lambda a, b: a * 2 + b)
    x, y = np.arange(3.0), np.arange(3.0, 6.0)
    assert f(x, x).tolist() == [0.0, 3.0, 6.0]
    assert f(x, y).tolist() == [3.0, 6.0, 9.0]
    assert f(y[:2], y[1:]).tolist() == [10.0, 13.0]


def test_floats_are_inputs_and_other_values_are_guards():
    f = mg.compile(lambda x, scale, power, name: (x * (scale * 2 + 1) if name == "a" else x) ** power)
    x = mg.tensor([1.0, 2.0])
    assert f(x, 1.0, 2, "a").tolist() == [9.0, 36.0]
    assert f(x, 0.5, 2, "a").tolist() == [4.0, 16.0]
    assert len(f.recordings) == 1
    assert f(x, 0.5, 1, "a").tolist() == [2.0, 4.0]
    assert f(x, 0.5, 2, "b").tolist() == [1.0, 4.0]
    assert f(x, 0.5, power=2, name="b").tolist() == [1.0, 4.0]
    assert len(f.recordings) == 4


def test_structures():
    f = mg.compile(lambda xs, names: {"sum": xs[0] + xs[1], "rest": (names["x"] * 1, None, 7)})
    for k in (1.0, 2.0):
        out = f([mg.tensor([k]), mg.tensor([1.0])], {"x": mg.tensor([3.0])})
        assert (out["sum"].tolist(), out["rest"][0].tolist(), out["rest"][1:]) == ([k + 1], [3.0], (None, 7))
    assert len(f.recordings) == 1


FACTOR = 2.0


def test_names_of_the_closure_are_guards(monkeypatch):
    shift = 1.0

    @mg.compile
    def f(x):
        return x * FACTOR + shift

    x = mg.tensor([3.0])
    assert f(x).tolist() == [7.0]
    shift = 2.0
    assert f(x).tolist() == [8.0]
    monkeypatch.setitem(globals(), "FACTOR", 1.0)
    assert f(x).tolist() == [5.0]
    assert len(f.recordings) == 3


def test_methods_of_two_instances():
    class Scale:
        def __init__(self, by):
            self.by = by

        @mg.compile
        def step(self, x):
            return x * self.by

    two, three = Scale(2.0), Scale(3.0)
    x = mg.tensor([1.0])
    assert [two.step(x).item(), three.step(x).item(), two.step(x).item()] == [2.0, 3.0, 2.0]
    two.by = 5.0
    assert [two.step(x).item(), three.step(x).item()] == [5.0, 3.0]


def test_a_compiled_step_inside_another_is_part_of_it():
    inner = mg.compile(lambda x: mg.tanh(x))
    outer = mg.compile(lambda x: inner(x) * 2)
    x = mg.tensor([0.5])
    assert outer(x).tolist() == outer(x).tolist() == (mg.tanh(x) * 2).tolist()
    assert inner.recordings == []


@pytest.mark.parametrize(
    "transform",
    [mg.grad, mg.hessian, lambda f: lambda x: mg.hvp(f, (x,), ([1.0, 2.0, 3.0],))[0], lambda f: lambda x: f(x)],
)
def test_pure_functions(transform):
    f = transform(lambda x: (mg.tanh(x) * x * x).sum())
    g = mg.compile(f)
    for i in range(3):
        x = np.random.default_rng(i).standard_normal(3)
        assert g(mg.tensor(x)).data.tobytes() == f(mg.tensor(x)).data.tobytes()
    assert len(g.recordings) == 1


READS = {
    "bool": lambda x: x if x.sum() > 0 else -x,
    "float": lambda x: x * float(x.sum()),
    "item": lambda x: x * x.sum().item(),
    "numpy": lambda x: x * x.sum().numpy(),
    "asarray": lambda x: x * np.asarray(x),
    "data": lambda x: x * x.data,
    "tolist": lambda x: x * x.tolist()[0],
    "tensor": lambda x: x * mg.tensor(x),
}


@pytest.mark.parametrize("how", sorted(READS))
def test_reading_a_value_is_an_error_that_names_the_line(how):
    f = mg.compile(READS[how])
    with pytest.raises(mg.TraceError, match=rf"test_step\.py:{READS[how].__code__.co_firstlineno}: .*mg\.where"):
        f(mg.tensor([1.0, 2.0]))
    assert f.recordings == []


def test_writing_an_argument_is_an_error():
    f = mg.compile(lambda x: mg.assign(x, 1.0))
    x = mg.tensor([3.0])
    with pytest.raises(mg.TraceError, match=r"assign .* writes argument 0"):
        f(x)
    assert x.tolist() == [3.0]


def test_bad_operands_raise_as_ever_and_nothing_is_updated():
    net, opt, step = task(optimizer="adam")
    step = mg.compile(step)
    step(*batch(0))
    step(*batch(1))
    before = net.state_dict(), opt.state_dict()
    x, y = batch(2)
    y[3] = 3
    with pytest.raises(IndexError, match=r"cross_entropy: class 3 in row 3"):
        step(x, y)
    assert_same(before[0] | before[1], net.state_dict() | opt.state_dict())


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (lambda x: (x * 2).requires_grad_() * 2, TypeError, "argument 0 was computed by mul"),
        (lambda x: object(), None, ""),
        (lambda x: {1, 2}, TypeError, "argument 0 is a set"),
        (lambda x: np.array(["a"]), TypeError, "an array of <U1"),
    ],
)
def test_bad_arguments(bad, error, message):
    f = mg.compile(lambda x: mg.tensor([1.0]) * 2)
    if error is None:
        assert f(bad(mg.tensor([1.0]))).tolist() == [2.0]
    else:
        with pytest.raises(error, match=message):
            f(bad(mg.tensor([1.0])))


def test_a_leaf_argument_gets_its_gradient():
    @mg.compile
    def f(x):
        (x * x).sum().backward()

    x, y = (mg.tensor([3.0], requires_grad=True) for _ in range(2))
    for _ in range(3):
        f(x)
    f(y)
    assert (x.grad.tolist(), y.grad.tolist()) == ([18.0], [6.0])


def test_other_modes_run_the_function():
    f = mg.compile(lambda x: x * 2)
    x = mg.tensor([1.0])
    with mg.no_grad():
        assert f(x).tolist() == [2.0]
    with mg.formulas():
        assert f(x).tolist() == [2.0]
    assert f.recordings == []


def test_a_counter_in_python_is_noticed():
    class Counting(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return x * 2

    net = Counting()
    with pytest.warns(RuntimeWarning, match="an attribute of Counting changed"):
        mg.compile(lambda x: net(x))(mg.tensor([1.0]))


def test_too_many_recordings_are_told():
    f = mg.compile(lambda x: x * 2)
    with warnings.catch_warnings():
        for n in range(1, 33):
            f(np.zeros(n))
    with pytest.warns(RuntimeWarning, match=r"argument 0 \(was float64 \(32,\), now float64 \(33,\)\)"):
        f(np.zeros(33))


def test_verify_finds_what_a_recording_froze():
    rng = np.random.default_rng(0)
    f = mg.compile(lambda x: x * rng.standard_normal(2), verify=True)
    x = mg.tensor([1.0, 2.0])
    f(x)
    with pytest.raises(mg.CompileError, match="result 0 differs"):
        f(x)


@pytest.mark.parametrize(
    "options", [{"verify": True}, {"debug": True}, {"copies": False}, {"debug": True, "copies": False}]
)
@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_options_change_no_bit(options, optimizer):
    states = []
    for wrap in (lambda f: f, lambda f: mg.compile(f, **options)):
        net, opt, step = task(optimizer=optimizer, rate=0.2, clip=0.5)
        step = wrap(step)
        losses = [step(*batch(i)).item() for i in range(6)]
        states.append(state(net, opt) | {"losses": np.array(losses)})
    assert_same(*states)


def test_a_users_optimizer_schedule_and_running_mean():
    """Ten lines each, of public ops: they are recorded like everything else."""

    class Sign:
        def __init__(self, params, lr):
            self.params, self.lr, self.count = list(params), mg.tensor(lr), mg.tensor(np.zeros(1, "int64"))

        def step(self):
            mg.assign(self.count, self.count + 1)
            rate = self.lr / (1 + 0.1 * mg.astype(self.count, "float32"))
            for p in self.params:
                mg.assign(p, p.detach() - rate * mg.sign(p.grad))
                p.grad = None

    def run(wrap):
        net = nn.Linear(5, 3).initialize(0)
        opt, mean = Sign(net.parameters(), 0.1), nn.Buffer([0.0])

        @wrap
        def step(x, y):
            loss = mg.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            mg.assign(mean, 0.9 * mean + 0.1 * loss.detach())
            return loss

        for i in range(5):
            step(*batch(i))
        return net.state_dict() | {"mean": mean.data.copy(), "count": opt.count.data.copy()}

    assert_same(run(lambda f: f), run(mg.compile))


def test_a_learning_rate_that_a_step_computes():
    def run(wrap):
        net, opt, _ = task(optimizer="adam")

        @wrap
        def step(x, y, progress):
            opt.lr = 0.01 * (1 - progress)
            loss = mg.cross_entropy(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            return loss

        for i in range(5):
            step(*batch(i), i / 5)
        return state(net, opt), step

    (a, _), (b, step) = run(lambda f: f), run(mg.compile)
    assert_same(a, b)
    assert len(step.recordings) == 1


def test_writes_are_counted_for_tapes_outside():
    net, _, step = task()
    step = mg.compile(step)
    step(*batch(0))
    loss = mg.cross_entropy(net(mg.tensor(batch(1)[0])), batch(1)[1])
    step(*batch(1))
    with pytest.raises(RuntimeError, match="was written after it ran"):
        loss.backward()


def test_threads_may_call_one_function_at_once():
    """What a replay leaves in its memory, another thread's must not overwrite before the result is taken."""
    w = mg.tensor(np.random.default_rng(0).standard_normal((8, 8)))
    f = mg.compile(lambda x: mg.sum(mg.tanh(x @ w), -1))
    inputs = [mg.tensor(np.full((4, 8), i / 10)) for i in range(4)]
    due = [f.fn(x).data.tobytes() for x in inputs]
    f(inputs[0])
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = pool.map(lambda i: {f(inputs[i]).data.tobytes() for _ in range(1000)}, range(4))
            assert [*found] == [{one} for one in due]
    finally:
        sys.setswitchinterval(before)
    assert len(f.recordings) == 1
    assert len(f.program.calls) == 3


def test_a_program_can_be_printed_by_another_thread():
    f = mg.compile(lambda x: x + x)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(f, mg.tensor([1.0])).result()
    assert f.recordings == []
    assert "add" in str(f.program)


def test_a_copied_module_has_steps_of_its_own():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter([2.0])

        @mg.compile
        def forward(self, x):
            return self.weight * x

    one, x = Scaled(), mg.tensor([1.0])
    one(x)
    other = copy.deepcopy(one)
    mg.assign(other.weight, [5.0])
    assert (one(x).item(), other(x).item(), one(x).item()) == (2.0, 5.0, 2.0)
