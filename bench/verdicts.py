"""The labelled confusion matrix of ``testing.gradcheck``: every op × seeds × dtypes × scales 1e-8 … 1e8.

python bench/verdicts.py [SEEDS [PROCESSES]]      (50 for the whole, or in parts, 0:10; minutes each on one core)

Samples are drawn from an op's declaration (shapes, domains, cases), and the floating-point arguments scaled; one is
kept where value and gradient are finite and not all zero. Labels: *right*, the rule as it is; *all* and *one*, with a
relative error of a thousandth planted in the gradient of every entry, or of one whose gradient is not zero; *kink*, an
op's declared kink, or a tie. *Unresolved* counts what is called correct but for entries that the report says are too
small beside f. A sample is *rough* with a condition number κ = |x ∂y/∂x| / |y| of 1e6 or more in an entry, or an entry
within a thousandth of a kink, or of a tie; *flat* where an entry changes nothing by more than 1e-6 of the largest
output that it moves: there it is the derivative that is badly conditioned, as values of f tell it; else *calm*. Exit
status 1, and a list, if a calm sample is misjudged, a right one anywhere called wrong, or a kink no kink.
"""

import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

import minigrad as mg
from minigrad.testing import gradcheck

SCALES = 10.0 ** np.arange(-8, 9, 2)
DTYPES = (np.float32, np.float64)
VERDICTS = ("correct", "unresolved", "wrong", "kink", "noise")
SMOOTH = ("elu", "clip")  # at their declared kinks, with the default options: elu' is continuous, clip has no edge
LIMIT = 1e6  # of a condition number
NEAR = 1e-3  # of a kink or of a tie, relatively


@mg.op("y = x", shapes="elementwise")
def scaled(x, factor):
    """x, with a derivative that is wrong by a factor."""
    return x * 1


@scaled.vjp("x", "x̄ = factor ȳ")
def _(g, factor):
    return g * factor


def samples(op, rng, dtype, scale):
    """(arguments, options) of an op, from its declaration."""
    shapes, options = op.cases[rng.integers(len(op.cases))] if op.cases else ([None], {})
    if op.shapes == "elementwise":
        shapes = [(3,)] * len(op.arrays)
    elif op.letters is not None and not op.cases:
        size = {c: int(rng.integers(1, 4)) for c in op.letters.text if c.isalpha()}
        shapes = [tuple(size[c] for c in term.replace("...", "")) for term in op.letters.inputs]
    names = [op.arrays[0]] * len(shapes) if op.sequence else op.arrays
    args = []
    for name, shape in zip(names, shapes, strict=True):
        d = op.domains.get(name, mg.reals(-2, 2))
        if shape is None:
            args.append(None)
        elif d.kind == "f":
            args.append(np.asarray(rng.uniform(d.low, d.high, shape) * scale, dtype))
        else:
            args.append(rng.integers(int(d.low), int(d.high) + 1, shape).astype(bool if d.kind == "b" else np.int64))
    return args, dict(options)


class Case:
    """f of the floating-point arguments of one op that have a rule, at one sample."""

    def __init__(self, op, args, options):
        self.op, self.args, self.options = op, args, options
        names = [op.arrays[0]] * len(args) if op.sequence else op.arrays
        derived = op.differentiable and not op.rules
        self.places = [
            i
            for i, (a, name) in enumerate(zip(args, names, strict=True))
            if isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.size and (derived or name in op.rules)
        ]
        self.at = [args[i] for i in self.places]
        self.known = {}  # f by its arguments' bytes: faulty rules are asked where the right one was
        self.domains = [op.domains.get(names[i], mg.reals(-2, 2)) for i in self.places]

    def __call__(self, *active, factors=None):
        plain = all(a.node is None for a in active)
        key = b"".join([a.data.tobytes() for a in active]) if plain else None
        if factors is not None and key in self.known:
            return mg.from_numpy(self.known[key])
        if factors is not None and not plain:  # factors change derivatives alone
            active = map(scaled, active, factors)
        args = list(self.args)
        for i, a in zip(self.places, active, strict=True):
            args[i] = a
        y = self.op(args, **self.options) if self.op.sequence else self.op(*args, **self.options)
        if plain:
            self.known[key] = y.data.copy()
        return y

    def jacobian(self):
        """(y, J) in float64: y flat, J of shape (outputs, entries)."""
        y, pullback = mg.vjp(self, *[np.float64(a) for a in self.at])
        rows = [pullback(row.reshape(y.shape)) for row in np.eye(y.size)]
        return y.data.ravel(), np.array([np.concatenate([g.data.ravel() for g in row]) for row in rows])

    def near(self):
        """Whether an entry is close to a kink of the op, or, where they must differ, to another entry."""
        distinct = [a.ravel() for a, d in zip(self.at, self.domains, strict=True) if d.distinct]
        x = np.sort(np.concatenate(distinct or [np.zeros(0)]))
        ties = np.any(np.diff(x) < NEAR * np.abs(x).max(initial=0))
        points = {k for d in self.domains for k in d.kinks}
        return ties or any(np.any(np.abs(a - k) < NEAR * max(1, abs(k))) for a in self.at for k in points)


def kind(y, jacobian, x):
    """How well the sample is conditioned, both ways."""
    moved = jacobian[:, jacobian.any(0)] != 0
    change = np.abs(jacobian * x)[:, jacobian.any(0)]
    if not (np.where(moved, change, 0) < LIMIT * np.abs(y)[:, None]).all(where=moved & (change > 0)):
        return "rough"
    largest = np.where(moved, np.abs(y)[:, None], 0).max(0)
    return "flat" if ((change > 0).any(0) & (change.max(0) < largest / LIMIT)).any() else "calm"


def judge(op, seed, dtype, scale):
    """(label, verdict, text) for each of what one sample is given as."""
    rng = np.random.default_rng([seed, SCALES.tolist().index(scale)])
    args, options = samples(op, rng, dtype, scale)
    case = Case(op, args, options)
    if not case.at:
        return
    y, jacobian = case.jacobian()
    x = np.concatenate([np.float64(a).ravel() for a in case.at])
    if not (y.size and np.isfinite(y).all() and np.isfinite(jacobian).all() and jacobian.any()):
        return
    how = "rough" if case.near() else kind(y, jacobian, x)
    where = f"{op.name} {options or ''} seed {seed} {np.dtype(dtype)} scale {scale:g}"
    yield f"right, {how}", gradcheck(case, case.at), where
    one = np.ones(x.size)
    one[rng.choice(np.flatnonzero(jacobian.any(0)))] = 1.001
    ends = np.cumsum([a.size for a in case.at])[:-1]
    for label, factor in (("all", np.full(x.size, 1.001)), ("one", one)):
        factors = [p.reshape(a.shape) for p, a in zip(np.split(factor, ends), case.at, strict=True)]
        yield f"{label}, {how}", gradcheck(partial(case, factors=factors), case.at), where


def kinks(op):
    """The same, at an op's declared kinks and at ties."""
    for dtype in DTYPES:
        points = {k for d in op.domains.values() if d.kind == "f" for k in d.kinks}
        if len(op.arrays) == 1 and op.name not in SMOOTH:
            for k in points:
                yield "kink", gradcheck(op, [np.asarray([k, 1.7], dtype)]), f"{op.name} at its kink {k}"
        if any(d.distinct for d in op.domains.values()):
            tied = [np.asarray([1.25, 1.25], dtype)] * len(op.arrays)
            yield "kink", gradcheck(op, tied), f"{op.name} at a tie"


def missed(label, report):
    """Whether a sample is not judged as it is labelled."""
    what, _, how = label.partition(", ")
    due = {"right": "correct", "all": "wrong", "one": "wrong", "kink": "kink"}[what]
    return report.verdict != due and (how in ("calm", "") or (what == "right" and report.verdict == "wrong"))


def row(name, seeds):
    """The counts of one op, and what is missed."""
    op, table, found = mg.REGISTRY[name], Counter(), []
    with np.errstate(all="ignore"):
        cases = [c for s in seeds for t in DTYPES for scale in SCALES for c in judge(op, s, t, scale)]
        for label, report, where in cases + (list(kinks(op)) if 0 in seeds else []):
            table[label, "unresolved" if report and report.unresolved else report.verdict] += 1
            if missed(label, report):
                found.append(f"{label}: {where}: {str(report).splitlines()[0]}")
    return table, found


def matrix(seeds, processes=1):
    """The table over the whole registry, and what is missed."""
    names = [
        name for name, op in sorted(mg.REGISTRY.items()) if op.differentiable and not op.writes and op is not scaled
    ]
    table, misses = Counter(), []
    with ProcessPoolExecutor(processes) as pool:
        for counts, found in pool.map(row, names, [seeds] * len(names)):
            table += counts
            misses += found
    return table, misses


def main(seeds, processes):
    first, _, end = seeds.rpartition(":")
    table, misses = matrix(range(int(first or 0), int(end)), processes)
    print(f"{f'seeds {seeds}':16}" + "".join(f"{v:>12}" for v in VERDICTS))
    for label in sorted({label for label, _ in table}):
        print(f"{label:16}" + "".join(f"{table[label, v]:12}" for v in VERDICTS))
    shown = Counter(text.partition(" seed")[0] + ": " + text.rpartition("scale ")[2][:60] for text in misses)
    print(*(f"{n:5}  {text}" for text, n in shown.most_common(40)), sep="\n")
    return bool(misses)


if __name__ == "__main__":
    sys.exit(main((sys.argv[1:] or ["1"])[0], int((sys.argv[2:] or [1])[0])))
