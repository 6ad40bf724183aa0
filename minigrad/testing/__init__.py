"""Checks for what people write themselves, and for minigrad: instruments that say what they saw.

``gradcheck`` judges one gradient. ``check_op``, ``check_module``, ``check_optimizer`` and ``check_initializer`` derive
from a declaration all that it must satisfy: a report names each property, and whether it holds, fails (with a
counterexample) or does not apply (and why). ``check_op`` needs Hypothesis.

>>> import minigrad as mg
>>> @mg.op("y = a² b", a=mg.reals(-2, 2), b=mg.reals(-2, 2))
... def doc_square_times(a, b):
...     "The square of a, times b."
...     return a * a * b
>>> @doc_square_times.vjp("a", "ā = 2 a b ȳ")
... def _(g, a, b):
...     return 2 * a * b * g
>>> @doc_square_times.vjp("b", "b̄ = a² ȳ")
... def _(g, a):
...     return a * g  # the square is forgotten
>>> report = check_op(doc_square_times)
>>> [p.name for p in report.properties if p.verdict == "fail"]
['first', 'second', 'together']
>>> print(next(p.detail for p in report.properties if p.verdict == "fail"))
the derivative by b of y is 0.5 by the rule, 0.25 ± 7e-14 by differences
doc_square_times(a, b), where
  a = 0.5 (float64, shape ())
  b = -0.9 (float64, shape ())
>>> @doc_square_times.vjp("b", "b̄ = a² ȳ")
... def _(g, a):
...     return a * a * g
>>> bool(check_op(doc_square_times))
True
"""

from minigrad.testing.bits import NotApplicableError
from minigrad.testing.gradcheck import GradientReport, assert_gradients, gradcheck
from minigrad.testing.initializers import check_initializer
from minigrad.testing.metamorphic import check_network
from minigrad.testing.modules import check_module
from minigrad.testing.ops import check_op
from minigrad.testing.optimizers import check_optimizer
from minigrad.testing.report import Property, Report

__all__ = [
    "GradientReport",
    "NotApplicableError",
    "Property",
    "Report",
    "assert_gradients",
    "check_initializer",
    "check_module",
    "check_network",
    "check_op",
    "check_optimizer",
    "gradcheck",
]
