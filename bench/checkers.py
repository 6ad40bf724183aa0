"""The gradient checkers of several frameworks on the same faulty and right functions: kills and false alarms.

python bench/checkers.py [--all]      (prints the table of the README; --all: a line for each function as well)

Every function has a rule of its own for each argument, written once in words that all frameworks have, and given to
each as its own kind of custom rule: ``mg.op``, ``torch.autograd.Function``, ``jax.custom_vjp``, HIPS autograd's
``primitive``. Inputs are float64 and checkers have their documented defaults; "fwd" modes are left out, because such
rules have none; order 2 where a function names it. A faulty function is *killed* when it is not accepted; a right one
is *blamed* when it is rejected. minigrad may also say *kink* or *noise*: not accepted, but not blamed either, and
counted on its own. Functions whose fault is to overwrite an array are left out (–) where arrays cannot be written.
What has no checker, or is not installed, is named as SKIPPED.
"""

import functools
import importlib
import sys
import warnings
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

RNG = np.random.default_rng(0)
X = np.array([0.3, -1.2, 0.7])
POSITIVE = np.array([0.4, 1.3, 2.2])
A, B = RNG.normal(size=(3, 3)), RNG.normal(size=(3, 3))
LARGE = RNG.normal(size=1000)
ONE = np.ones(1000)
ONE[617] = 1.5
DIFFERENCE = np.eye(4, 5, 1) - np.eye(4, 5)
TWICE = np.array([[1.0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]])  # takes the second entry twice
LAST = np.array([[1.0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]])
HALF = np.diag([1.0, 0, 1])


@dataclass
class Function:
    """A function, its rules (xp, g, *arguments) -> cotangent, where it is checked, and to what order."""

    name: str
    forward: object
    rules: tuple
    at: tuple
    order: int = 1
    writes: bool = False  # the fault is that an array is overwritten, which some frameworks have no way to do
    around: object = None  # f of (xp, the function, x): what is checked, if it is not the function alone


def elementwise(name, f, slope, x=X, order=1):
    return Function(name, f, (lambda xp, g, x: g * slope(xp, x),), (np.asarray(x),), order)


def linear(name, matrix, adjoint, x):
    """y = M x, with a rule by another matrix."""
    return Function(name, lambda xp, x: xp.matmul(xp.array(matrix), x),
                    (lambda xp, g, x: xp.matmul(xp.array(adjoint), g),), (np.asarray(x),))  # fmt: skip


def overwrites(xp, g, x):
    g *= xp.cos(x)
    return g


def overwrites_x(xp, g, x):
    out = g * 2 * x
    x += 1
    return out


def sine(xp, x):
    return xp.sin(x)


def square(xp, x):
    return x * x


def product(xp, a, b):
    return xp.matmul(a, b)


def total(xp, x):
    return xp.sum(x * x)


def sigmoid(xp, x):
    return 1 / (1 + xp.exp(-x))


FAULTY = (
    elementwise("wrong sign", sine, lambda xp, x: -xp.cos(x)),
    elementwise("missing factor", square, lambda xp, x: x),
    elementwise("zero", sine, lambda xp, x: 0 * x),
    elementwise("output saved for input", sine, lambda xp, x: xp.cos(xp.sin(x))),
    elementwise("off by a hundredth", sine, lambda xp, x: 1.01 * xp.cos(x)),
    elementwise("off by a thousandth", sine, lambda xp, x: 1.001 * xp.cos(x)),
    elementwise("off by a thousandth, slopes of 1e8", lambda xp, x: 1e8 * xp.sin(x), lambda xp, x: 1.001e8 * xp.cos(x)),
    elementwise("wrong sign, slopes of 1e-6", lambda xp, x: 1e-6 * xp.sin(x), lambda xp, x: -1e-6 * xp.cos(x)),
    elementwise("missing factor at 1e-8", square, lambda xp, x: x, 1e-8 * X),
    elementwise("missing factor at 1e8", square, lambda xp, x: x, 1e8 * X),
    elementwise("wrong in the tail only", lambda xp, x: xp.log(1 + xp.exp(x)),
                lambda xp, x: xp.where(x > 20, 0 * x, sigmoid(xp, x)), [0.5, 25.0, -1.0]),
    elementwise("wrong side of a threshold", lambda xp, x: xp.where(x > 0, x, 0.1 * x),
                lambda xp, x: xp.where(x > 0, 0.1 + 0 * x, 1 + 0 * x)),
    elementwise("numbers in float32 inside, and wrong by half", lambda xp, x: xp.narrow(xp.sin(x)),
                lambda xp, x: 1.5 * xp.cos(x)),
    elementwise("close to a kink, and wrong", lambda xp, x: xp.abs(x), lambda xp, x: 1 + 0 * x, [1e-5, -1e-5]),
    Function("swapped transposition", product, (lambda xp, g, a, b: xp.matmul(g, b),
             lambda xp, g, a, b: xp.matmul(a.T, g)), (A, B)),
    Function("factors in the wrong order", product, (lambda xp, g, a, b: xp.matmul(g, b.T),
             lambda xp, g, a, b: xp.matmul(g, a.T)), (A, B)),
    Function("argument for argument", lambda xp, a, b: a * b, (lambda xp, g, a, b: g * a, lambda xp, g, a, b: g * a),
             (X, POSITIVE)),
    Function("no rule for the second argument", lambda xp, a, b: a * b,
             (lambda xp, g, a, b: g * b, lambda xp, g, a, b: 0 * b), (X, POSITIVE)),
    Function("one entry of a thousand", total, (lambda xp, g, x: g * 2 * x * xp.array(ONE),), (LARGE,)),
    Function("one entry of a thousand by a hundredth", total,
             (lambda xp, g, x: g * 2 * x * xp.array(1 + (ONE - 1) / 50),), (LARGE,)),
    Function("forgotten scale of a mean", lambda xp, x: xp.sum(x) / 3, (lambda xp, g, x: g * (1 + 0 * x),), (X,)),
    Function("wrong axis", lambda xp, x: xp.matmul(xp.array(np.ones(3)), x),
             (lambda xp, g, x: xp.matmul(g.reshape((3, 1)), xp.array(np.ones((1, 3)))),), (A,)),
    Function("missing sum over a broadcast", lambda xp, a, b: a * xp.sum(b),
             (lambda xp, g, a, b: g * xp.sum(b), lambda xp, g, a, b: g[:1] * a[:1]), (X, POSITIVE[:1])),
    linear("off-by-one slice", DIFFERENCE, np.roll(DIFFERENCE.T, 1, 0), np.arange(5.0)),
    linear("repeated index, = for +=", TWICE, LAST.T, X),
    linear("kernel not flipped", np.tri(3) + np.eye(3), np.tri(3) + np.eye(3), X),
    linear("an entry is dropped", np.eye(3), HALF, X),
    Function("not linear in the cotangent", sine, (lambda xp, g, x: g * g * xp.cos(x),), (X,)),
    Function("absolute cotangent", sine, (lambda xp, g, x: xp.abs(g) * xp.cos(x),), (X,)),
    Function("mean of the cotangents", sine, (lambda xp, g, x: xp.sum(g) / 3 * xp.cos(x) + 0 * g,), (X,)),
    Function("overwritten cotangent", sine, (overwrites,), (X,), 1, True),
    Function("overwritten cotangent that is shared", sine, (overwrites,), (X,), 1, True, lambda xp, f, x: x + f(x)),
    Function("overwritten input", square, (overwrites_x,), (X,), 1, True),
    Function("both of a tie get all", lambda xp, x: xp.max(x),
             (lambda xp, g, x: g * xp.where(x < xp.max(x), 0 * x, 1 + 0 * x),), (np.array([1.0, 1.0, 0.0]),)),
    elementwise("detached second derivative", lambda xp, x: x * x * x,
                lambda xp, x: 3 * xp.detach(x) * xp.detach(x), X, 2),
    elementwise("half of the second derivative", square, lambda xp, x: x + xp.detach(x), X, 2),
    Function("detached cotangent", lambda xp, x: x * x, (lambda xp, g, x: 2 * x * xp.detach(g),), (X,), 2, False,
             lambda xp, f, x: f(f(x))),
    elementwise("zero, on a sample where the slope is zero", lambda xp, x: xp.where(x > 0, x, 0 * x),
                lambda xp, x: 0 * x, [-1.0, -2.0]),
)  # fmt: skip

RIGHT = (
    elementwise("sine", sine, lambda xp, x: xp.cos(x)),
    elementwise("sine, twice", sine, lambda xp, x: xp.cos(x), X, 2),
    elementwise("cube, twice", lambda xp, x: x * x * x, lambda xp, x: 3 * x * x, X, 2),
    Function("product of matrices", product, (lambda xp, g, a, b: xp.matmul(g, b.T),
             lambda xp, g, a, b: xp.matmul(a.T, g)), (A, B), 2),
    Function("a thousand entries", total, (lambda xp, g, x: g * 2 * x,), (LARGE,)),
    elementwise("square at 1e8", square, lambda xp, x: 2 * x, 1e8 * X),
    elementwise("cube at 1e4, twice", lambda xp, x: x * x * x, lambda xp, x: 3 * x * x, 1e4 * X, 2),
    elementwise("logarithm at 1e-8", lambda xp, x: xp.log(x), lambda xp, x: 1 / x, 1e-8 * POSITIVE),
    elementwise("root at 1e-8", lambda xp, x: xp.sqrt(x), lambda xp, x: 0.5 / xp.sqrt(x), 1e-8 * POSITIVE),
    elementwise("reciprocal at 1e-4", lambda xp, x: 1 / x, lambda xp, x: -1 / (x * x), 1e-4 * POSITIVE),
    elementwise("sine of 1e5 x", lambda xp, x: xp.sin(1e5 * x), lambda xp, x: 1e5 * xp.cos(1e5 * x)),
    elementwise("sine at 1e5", sine, lambda xp, x: xp.cos(x), 1e5 * X),
    elementwise("exponential at 30", lambda xp, x: xp.exp(x), lambda xp, x: xp.exp(x), 30 + X),
    elementwise("slopes of 1e8", lambda xp, x: 1e8 * xp.sin(x), lambda xp, x: 1e8 * xp.cos(x)),
    elementwise("slopes of 1e-8", lambda xp, x: 1e-8 * xp.sin(x), lambda xp, x: 1e-8 * xp.cos(x)),
    elementwise("next to a pole", lambda xp, x: 1 / (x - 1), lambda xp, x: -1 / ((x - 1) * (x - 1)), [1 + 1e-5]),
    elementwise("next to a kink", lambda xp, x: xp.abs(x), lambda xp, x: xp.where(x > 0, 1 + 0 * x, -1 + 0 * x),
                [1e-7, -1e-7]),
    elementwise("a thousandth from a kink", lambda xp, x: xp.where(x > 0, x, 0 * x),
                lambda xp, x: xp.where(x > 0, 1 + 0 * x, 0 * x), [1e-3, -1e-3]),
    elementwise("beside a large constant", lambda xp, x: 1e8 + xp.sin(x), lambda xp, x: xp.cos(x)),
    elementwise("saturated", sigmoid, lambda xp, x: xp.exp(-x) / ((1 + xp.exp(-x)) * (1 + xp.exp(-x))), [0.5, 30.0]),
    elementwise("numbers in float32 inside", lambda xp, x: xp.narrow(xp.sin(x)), lambda xp, x: xp.cos(x)),
    elementwise("noise of 1e-9 inside", lambda xp, x: xp.sin(x) + 1e-9 * xp.sin(1e12 * x), lambda xp, x: xp.cos(x)),
)  # fmt: skip


# Each is given (xp, wrap, check): the words, what makes a function of the framework from a Function, and the verdict.


def by_minigrad():
    import minigrad as mg
    from minigrad.testing import gradcheck

    xp = SimpleNamespace(
        sin=mg.sin, cos=mg.cos, exp=mg.exp, log=mg.log, sqrt=mg.sqrt, abs=mg.abs, where=mg.where, sum=mg.sum,
        writable=True, max=mg.max, matmul=mg.matmul, array=lambda a: a,
        narrow=lambda x: mg.astype(mg.astype(x, "float32"), "float64"),
        detach=lambda x: x.detach() if isinstance(x, mg.Tensor) else x,
    )  # fmt: skip

    def wrap(f):
        def two(a, b):
            return f.forward(xp, a, b)

        def one(a):
            return f.forward(xp, a)

        call = one if len(f.rules) == 1 else two
        call.__name__, call.__doc__ = f"function_{len(mg.REGISTRY)}", f.name
        op = mg.op("y = f")(call)
        for name, rule in zip("ab", f.rules, strict=False):
            if call is one:
                op.vjp(name, "x̄ = …")(functools.partial(lambda rule, g, a: rule(xp, g, a), rule))
            else:
                op.vjp(name, "x̄ = …")(functools.partial(lambda rule, g, a, b: rule(xp, g, a, b), rule))
        return op

    return xp, wrap, lambda f, at, order: gradcheck(f, list(at), order).verdict


def by_torch():
    import torch

    xp = SimpleNamespace(
        sin=torch.sin, cos=torch.cos, exp=torch.exp, log=torch.log, sqrt=torch.sqrt, abs=torch.abs, where=torch.where,
        writable=True, sum=torch.sum, max=torch.max, matmul=torch.matmul, array=torch.tensor,
        narrow=lambda x: x.to(torch.float32).to(torch.float64), detach=lambda x: x.detach(),
    )  # fmt: skip

    def wrap(f):
        class Case(torch.autograd.Function):
            @staticmethod
            def forward(ctx, *args):
                ctx.save_for_backward(*args)
                return f.forward(xp, *args)

            @staticmethod
            def backward(ctx, g):
                return tuple(rule(xp, g, *ctx.saved_tensors) for rule in f.rules)

        return Case.apply

    def check(f, at, order):
        inputs = [torch.tensor(a, requires_grad=True) for a in at]
        torch.autograd.gradcheck(f, inputs)
        if order == 2:
            torch.autograd.gradgradcheck(f, inputs)

    return xp, wrap, check


def by_jax():
    import jax
    import jax.test_util

    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    xp = SimpleNamespace(
        sin=jnp.sin, cos=jnp.cos, exp=jnp.exp, log=jnp.log, sqrt=jnp.sqrt, abs=jnp.abs, where=jnp.where, sum=jnp.sum,
        writable=False, max=jnp.max, matmul=jnp.matmul, array=jnp.asarray,
        narrow=lambda x: x.astype("float32").astype("float64"), detach=jax.lax.stop_gradient,
    )  # fmt: skip

    def wrap(f):
        case = jax.custom_vjp(functools.partial(f.forward, xp))
        case.defvjp(lambda *a: (f.forward(xp, *a), a), lambda a, g: tuple(rule(xp, g, *a) for rule in f.rules))
        return case

    def check(f, at, order):
        jax.test_util.check_grads(f, tuple(map(jnp.asarray, at)), order=order, modes=("rev",))

    return xp, wrap, check


def by_autograd():
    import autograd.numpy as anp
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads
    from autograd.tracer import getval

    xp = SimpleNamespace(
        sin=anp.sin, cos=anp.cos, exp=anp.exp, log=anp.log, sqrt=anp.sqrt, abs=anp.abs, where=anp.where, sum=anp.sum,
        writable=True, max=anp.max, matmul=anp.matmul, array=lambda a: a,
        narrow=lambda x: getval(x).astype("float32").astype("float64"), detach=getval,
    )  # fmt: skip

    def wrap(f):
        case = primitive(functools.partial(f.forward, xp))
        defvjp(case, *[lambda y, *a, r=rule: lambda g: r(xp, g, *a) for rule in f.rules])
        return case

    def check(f, at, order):
        np.random.seed(0)  # it draws from NumPy's global generator
        check_grads(f, argnum=tuple(range(len(at))), modes=("rev",), order=order)(*[a.copy() for a in at])

    return xp, wrap, check


CHECKERS = (
    ("minigrad", "minigrad", by_minigrad, "testing.gradcheck"),
    ("PyTorch", "torch", by_torch, "torch.autograd.gradcheck, gradgradcheck"),
    ("JAX", "jax", by_jax, "jax.test_util.check_grads"),
    ("HIPS autograd", "autograd", by_autograd, "autograd.test_util.check_grads"),
)
#: What is no judge: it has no checker, or one that leaves the judgement to its caller.
NONE = (
    ("SciPy", "scipy.optimize.check_grad returns a number, and judges nothing"),
    ("TensorFlow", "tf.test.compute_gradient returns two Jacobians, and judges nothing"),
    ("Chainer", "its last release does not build for this Python"),
    ("MyGrad", "has no public checker"),
    ("tinygrad", "has no checker"),
)


def verdict(f, xp, wrap, check):
    """*correct*, *wrong*, or what else the checker says."""
    if f.writes and not xp.writable:
        return "–"
    case = wrap(f)
    whole = case if f.around is None else functools.partial(f.around, xp, case)
    try:
        return check(whole, [np.array(a) for a in f.at], f.order) or "correct"
    except Exception as error:  # however a checker says that it blames the function
        judged = type(error).__name__ in ("AssertionError", "GradcheckError")
        return "wrong" if judged else f"{type(error).__name__}: {str(error)[:50]}"


def main(show_all):
    warnings.simplefilter("ignore")
    table, lines = [], []
    for name, module, build, _ in CHECKERS:
        try:
            importlib.import_module(module)
        except ImportError as error:
            print(f"SKIPPED: {name} is not installed ({error})")
            continue
        made = build()
        with np.errstate(all="ignore"):
            verdicts = [[verdict(f, *made) for f in functions] for functions in (FAULTY, RIGHT)]
        lines.append(verdicts[0] + verdicts[1])
        table.append((name, [v for v in verdicts[0] if v != "–"], verdicts[1]))
    print(f"| | {' | '.join(name for name, *_ in table)} |\n|---|{'---|' * len(table)}")
    if show_all:
        for f, verdicts in zip(FAULTY + RIGHT, zip(*lines, strict=True), strict=True):
            print(f"| {'right' if f in RIGHT else 'faulty'}: {f.name} | {' | '.join(verdicts)} |")
    rows = {
        "faulty functions killed": [f"{sum(v != 'correct' for v in w)} of {len(w)}" for _, w, _ in table],
        "right functions blamed": [
            f"{sum(v not in ('correct', 'noise', 'kink') for v in r)} of {len(r)}" for *_, r in table
        ],
        "right functions not judged (*noise*, *kink*)": [sum(v in ("noise", "kink") for v in r) for *_, r in table],
    }
    for what, counts in rows.items():
        print(f"| {what} | {' | '.join(map(str, counts))} |")
    print("\n" + "\n".join(f"SKIPPED: {name}: {why}" for name, why in NONE))


if __name__ == "__main__":
    main("--all" in sys.argv[1:])
