"""An op of your own with a bug that a test of yours may well miss: found, shown, and mended (needs Hypothesis).

Root mean square normalization divides each row by √(mean x²), as many language models do. The derivative takes a mean
over the row as well. In the rule below that mean runs over everything, which makes no difference for a single row:
a finite difference on one vector, the test that most of us would write, agrees to all digits.

``testing.check_op`` derives its samples from the declaration, here from the letters "...n->...n": it tries batches,
too. What fails comes with the smallest sample that it could find.
"""

import numpy as np

import minigrad as mg
from minigrad import testing


@mg.op("y = x / √(Σ x² / n)", shapes="...n->...n", x=mg.reals(0.5, 2))
def rms_norm(x):
    """Each row divided by its root mean square."""
    return x / mg.sqrt(mg.mean(x * x, -1, True))


@rms_norm.vjp("x", "x̄ = (ȳ − y Σ ȳ y / n) / r")
def _(g, x, y):
    return (g - y * mg.mean(g * y)) / mg.sqrt(mg.mean(x * x, -1, True))


def norm_of_row(x):
    return rms_norm(x) @ np.array([1.0, 2.0, 3.0])


row = np.array([0.5, 1.0, 2.0])
gradient = mg.grad(norm_of_row)(row).numpy()
steps = 1e-6 * np.eye(3)
differences = [(norm_of_row(row + h) - norm_of_row(row - h)).item() / 2e-6 for h in steps]
print("one row, by the rule:       ", np.round(gradient, 6))
print("one row, by differences:    ", np.round(differences, 6))
assert np.allclose(gradient, differences, atol=1e-8), "on a single row the wrong rule is right"

report = testing.check_op(rms_norm, examples=40)
failing = {p.name: p.detail for p in report.properties if p.verdict == "fail"}
print(f"\ncheck_op says no, by {len(failing)} properties: {', '.join(failing)}. The first:\n")
print(failing["first"])
print("\nand the rows of a batch know of each other:\n")
print(failing["rows"])
assert not report
assert "rms_norm(x), where" in failing["first"]


@rms_norm.vjp("x", "x̄ = (ȳ − y Σ ȳ y / n) / r")
def _(g, x, y):
    return (g - y * mg.mean(g * y, -1, True)) / mg.sqrt(mg.mean(x * x, -1, True))


report = testing.check_op(rms_norm)
print("\nwith the mean over each row:\n")
print(report)
assert report, "the corrected rule passes"
