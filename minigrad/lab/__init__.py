"""The laboratory: what theory says of a network, seen to happen.

>>> from minigrad import lab
>>> lab.blas_drift(steps=2, inputs=5, hidden=4)[-1].own
0.0
"""

from minigrad.lab.drift import Spread, blas_drift

__all__ = ["Spread", "blas_drift"]
