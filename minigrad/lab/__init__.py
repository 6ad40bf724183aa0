"""The laboratory: what theory says of a network, seen to happen.

>>> from minigrad import lab
>>> lab.blas_drift(steps=2, inputs=5, hidden=4)[-1].own
0.0
>>> lab.propagate(depth=20, width=50, activation="sigmoid", weight_init="xavier_normal", seeds=3).verdict[:27]
'carries no information from'
"""

from minigrad.lab.drift import Spread, blas_drift
from minigrad.lab.meanfield import Critical, PhaseDiagram, correlation_moment, critical, fixed_point
from minigrad.lab.propagation import Jacobian, Layer, Propagation, propagate
from minigrad.lab.sweeping import Outcome, Sweep, sweep
from minigrad.lab.symmetry import Class, DistinctUnits, SymmetryRecord, SymmetryRun, Twins, distinct_units, symmetry_run
from minigrad.lab.watching import Record, Trouble, Watch, watch

__all__ = [
    "Class",
    "Critical",
    "DistinctUnits",
    "Jacobian",
    "Layer",
    "Outcome",
    "PhaseDiagram",
    "Propagation",
    "Record",
    "Spread",
    "Sweep",
    "SymmetryRecord",
    "SymmetryRun",
    "Trouble",
    "Twins",
    "Watch",
    "blas_drift",
    "correlation_moment",
    "critical",
    "distinct_units",
    "fixed_point",
    "propagate",
    "sweep",
    "symmetry_run",
    "watch",
]
