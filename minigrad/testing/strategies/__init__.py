"""Hypothesis strategies for arrays, op graphs, networks and training runs. Needs Hypothesis (the extra ``test``).

All draw what shrinks to small things that can be read: ``hypothesis.find`` in the examples shows the smallest.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401
except ImportError:
    raise ImportError("minigrad.testing.strategies needs Hypothesis: pip install hypothesis") from None

from minigrad.testing.bits import LAYOUTS
from minigrad.testing.strategies.arrays import (
    arrays,
    broadcastable_shapes,
    layouts,
    numbers,
    shapes,
    tensors,
)
from minigrad.testing.strategies.networks import (
    INPUTS,
    LOSSES,
    WIDTHS,
    Network,
    Run,
    Symmetric,
    Training,
    activations,
    initializers,
    networks,
    optimizers,
    runs,
    symmetric_states,
)
from minigrad.testing.strategies.programs import Line, Program, programs

__all__ = [
    "INPUTS",
    "LAYOUTS",
    "LOSSES",
    "WIDTHS",
    "Line",
    "Network",
    "Program",
    "Run",
    "Symmetric",
    "Training",
    "activations",
    "arrays",
    "broadcastable_shapes",
    "initializers",
    "layouts",
    "networks",
    "numbers",
    "optimizers",
    "programs",
    "runs",
    "shapes",
    "symmetric_states",
    "tensors",
]
