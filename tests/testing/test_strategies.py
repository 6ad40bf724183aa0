"""What the strategies promise of every draw, how they shrink, and how little they reject."""

import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.statistics import collector

import minigrad as mg
from minigrad import init, nn, optim, testing
from minigrad.testing import strategies as mst
from minigrad.testing.samples import GAP
from minigrad.testing.strategies.arrays import SPECIALS
from minigrad.testing.strategies.programs import drawable

PATIENT = timedelta(seconds=20)  # see test_metamorphic
RELU = mg.reals(-3, 3, kinks=(0.0,))
CLIP = mg.reals(-2, 2, kinks=(-1.0, 0.5))
TOP = mg.reals(-2, 2, distinct=True)
DOMAINS = [mg.reals(-2, 2), RELU, CLIP, TOP, mg.reals(0.1, 3), mg.integers(0, 2), mg.bools()]
AIMS = ["smooth", "anywhere", "kinks", "specials"]


# Arrays


@given(st.sampled_from(DOMAINS), st.data())
def test_smooth_arrays_stay_away_from_kinks_and_ties(domain, data):
    a = data.draw(mst.arrays(domain))
    assert np.all((a >= domain.low) & (a <= domain.high))
    assert a.dtype.kind == domain.kind
    if a.dtype.kind == "f":
        assert all(np.all(np.abs(a - k) >= 0.99 * GAP) for k in domain.kinks)
    if domain.distinct:
        values = np.sort(a.astype(np.float64), axis=None)
        assert np.all(np.diff(values) > (domain.high - domain.low) / (8 * max(1, a.size)))


@given(st.sampled_from([RELU, CLIP, TOP]), st.sampled_from([(3,), (4, 5), ()]), st.data())
def test_arrays_aimed_at_kinks_are_at_them(domain, shape, data):
    a = data.draw(mst.arrays(domain, shape, aim="kinks"))
    if domain.kinks:
        near = np.min([np.abs(a - a.dtype.type(k)) for k in domain.kinks], axis=0)
        assert np.all(near <= 2 * np.spacing(a.dtype.type(1)))
    else:
        assert len(np.unique(a)) <= 3


def test_every_special_value_turns_up():
    seen = set()

    @settings(max_examples=50, derandomize=True, database=None)
    @given(mst.arrays(RELU, (4, 5), aim="specials"))
    def collect(a):
        seen.update(map(str, a.astype(np.float32).flat))

    collect()
    assert seen == {str(np.float32(v)) for v in SPECIALS}


@given(mst.layouts(), mst.arrays(), mst.arrays(RELU, (3, 4)))
def test_layouts_keep_the_numbers(name, a, matrix):
    for given_ in (a, matrix):
        laid = mst.LAYOUTS[name](given_)
        assert (laid.shape, laid.dtype) == (given_.shape, given_.dtype)
        assert np.array_equal(laid, given_)
    flags = mst.LAYOUTS[name](matrix).flags
    expected = {
        "C": flags.c_contiguous and flags.writeable,
        "Fortran": flags.f_contiguous,
        "strided": not (flags.c_contiguous or flags.f_contiguous),
        "reversed": not (flags.c_contiguous or flags.f_contiguous),
        "read-only": not flags.writeable,
        "broadcast": not flags.writeable,
        "unaligned": not flags.aligned,
    }
    assert expected[name]


@given(st.integers(1, 4).flatmap(mst.broadcastable_shapes))
def test_broadcastable_shapes_broadcast(shapes):
    np.broadcast_shapes(*shapes)


@given(mst.tensors(RELU, layout=mst.layouts()))
def test_tensors_are_leaves(t):
    assert t.is_leaf
    assert t.requires_grad
    (t * t).sum().backward()
    assert np.array_equal(t.grad.data, 2 * t.data)


# Programs


@settings(max_examples=2 * settings().max_examples)
@given(mst.programs())
def test_programs_are_finite_and_their_code_runs(program):
    with np.errstate(all="raise", under="ignore"):
        values = program.values(*program.inputs)
    result = program(*program.inputs)
    assert all(np.isfinite(v).all() for v in values.values())
    scope = {"mg": mg, "np": np}
    exec(str(program), scope)
    assert scope["program"](*program.inputs).tobytes() == result.tobytes()
    on_tensors = program(*program.leaves())
    assert on_tensors.data.tobytes() == result.tobytes()
    if on_tensors.requires_grad:
        on_tensors.backward()


@settings(max_examples=max(5, settings().max_examples // 4), deadline=PATIENT)
@given(mst.programs([op for op in drawable() if op.differentiable and op is not mg.sign], lines=4))
def test_programs_have_right_gradients(program):
    """Op graphs without jumps of a registry whose rules are right: gradcheck never calls one wrong."""
    leaves = program.leaves()
    if program(*leaves).requires_grad:
        learns = [i for i, leaf in enumerate(leaves) if leaf.requires_grad]

        def f(*inputs):
            given_ = list(program.inputs)
            for i, x in zip(learns, inputs, strict=True):
                given_[i] = x
            return program(*given_)

        # rounded: at an entry of 1e-16 gradcheck was seen to call a right gradient wrong
        report = testing.gradcheck(f, [program.inputs[i].astype(np.float64).round(6) for i in learns])
        assert report.verdict != "wrong", report


@settings(max_examples=max(5, settings().max_examples // 2), deadline=PATIENT)
@given(mst.programs())
def test_programs_compiled_have_the_same_bits(program):
    if not program(*program.leaves()).requires_grad:
        return

    def gradients(*leaves):
        loss = program(*leaves)
        loss.backward()
        return loss

    eager, leaves = program.leaves(), program.leaves()
    expected, compiled = gradients(*eager), mg.compile(gradients)
    for _ in range(2):
        for leaf in leaves:
            leaf.grad = None
        loss = compiled(*leaves)
        assert loss.data.tobytes() == expected.data.tobytes()
        for a, b in zip(eager, leaves, strict=True):
            assert (a.grad is None) == (b.grad is None)
            assert a.grad is None or a.grad.data.tobytes() == b.grad.data.tobytes()


@pytest.mark.parametrize("op", drawable(), ids=lambda op: op.name)
def test_programs_reach_every_op(op):
    once = settings(max_examples=10, phases=[Phase.generate], derandomize=True, database=None)
    program = find(mst.programs([op], lines=1), lambda p: True, settings=once)
    assert op in [line.op for line in program.lines]


@pytest.mark.parametrize("wrong", [mg.assign, "free"])
def test_an_op_that_no_program_can_call_is_refused(wrong):
    if wrong == "free":

        @mg.op("y = x", shapes="free")
        def wrong(x):
            return x

    with pytest.raises(ValueError, match=r"writes its arguments|has shapes=\"free\" and no cases"):
        find(mst.programs([wrong]), lambda p: True)


def test_a_program_of_ones_own_ops():
    @mg.op("y = x³", x=mg.reals(-2, 2))
    def test_strategies_cube(x):
        """The third power."""
        return x * x * x

    program = find(mst.programs([test_strategies_cube]), lambda p: p.lines[-1].args == ("v0",) and not p.inputs[0].ndim)
    assert str(program).splitlines()[2:] == [
        "    v0 = mg.REGISTRY['test_strategies_cube'](x0)",
        "    v1 = mg.REGISTRY['test_strategies_cube'](v0)",
        "    return v1",
    ]


# Networks and runs


def test_the_code_of_a_run_trains_as_it_does():
    @settings(max_examples=10, deadline=PATIENT)
    @given(mst.runs(mst.networks(dropout=(0.0, 0.5)), loss=st.sampled_from(mst.LOSSES[:-1])))
    def agrees(run):
        scope = {"mg": mg, "np": np, "nn": nn, "init": init, "optim": optim}
        exec(str(run), scope)
        assert [*run.train()][-1] == scope["loss"].item()

    agrees()


@settings(deadline=PATIENT)
@given(mst.runs())
def test_live_runs_are_finite_and_move(run):
    training = run.build()
    before = [p.data.copy() for p in training.net.parameters()]
    losses = [training.step() for _ in range(run.steps)]
    after = [p.data for p in training.net.parameters()]
    assert np.isfinite(losses).all()
    assert all(np.isfinite(a).all() for a in after)
    assert not np.array_equal(before[0], after[0]), "the first layer has not moved"


# How little is rejected, and how small it gets

EVERY = {
    **{f"arrays, {aim}": mst.arrays(CLIP, aim=aim, layout=mst.layouts()) for aim in AIMS},
    "arrays, distinct": mst.arrays(TOP),
    "broadcastable shapes": mst.broadcastable_shapes(3),
    "programs": mst.programs(),
    "networks": mst.networks(),
    "optimizers": mst.optimizers(),
    "runs": mst.runs(),
    "symmetric states": mst.symmetric_states(),
    "symmetric states of live runs": mst.symmetric_states(mst.runs()),
}


def counted(strategy, examples):
    """How many examples Hypothesis calls valid, and how many invalid: rejected by assume or a filter.

    What it calls overrun is left out: recombined examples that it gives up before they are drawn, which are a tenth
    for st.lists(st.integers()) as well.
    """

    @settings(max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def draw(_):
        pass

    found = []
    with collector.with_value(found.append):
        draw()
    statuses = [case["status"] for stats in found for case in stats["generate-phase"]["test-cases"]]
    return statuses.count("valid"), statuses.count("invalid")


@pytest.mark.parametrize("name", EVERY)
def test_fewer_than_one_in_twenty_is_rejected(name):
    valid, invalid = counted(EVERY[name], 2 * settings().max_examples)
    assert valid > 0
    assert invalid < 0.05 * (valid + invalid)


def test_what_rejects_much_is_seen():
    valid, invalid = counted(st.integers(0, 9).filter(lambda n: n % 3), 40)
    assert invalid > 0.05 * (valid + invalid)


def test_hypothesis_is_imported_only_when_asked_for():
    code = """
import sys, minigrad.testing
assert not {"hypothesis", "pytest"} & {*sys.modules}
sys.modules["hypothesis"] = None
import minigrad.testing.strategies
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: minigrad.testing.strategies needs Hypothesis: pip install hypothesis" in found.stderr
