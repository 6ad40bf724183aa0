"""Every op of the package, every law, on drawn samples."""

import numpy as np
import pytest
from hypothesis import given, settings

import minigrad as mg

from . import laws

OPS = [name for name, op in mg.REGISTRY.items() if op.__module__.startswith("minigrad.")]
READING = [name for name in OPS if not mg.REGISTRY[name].writes]
DIFFERENTIABLE = [name for name in READING if mg.REGISTRY[name].differentiable]


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize("law", laws.LAWS)
def test_law(law, name):
    laws.check(name, law)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_samples_have_power(name):
    """Among a few samples each argument has a derivative that is not all zero."""
    moving = set()

    @settings(max_examples=20, derandomize=True)
    @given(laws.samples(mg.REGISTRY[name], laws.SMALL, laws.DOUBLE))
    def collect(s):
        for i, gradient in zip(s.active, laws.pull(s, s.cotangent()), strict=True):
            if np.any(gradient):
                moving.add(s.names[i])

    collect()
    assert moving == (set() if name in laws.CONSTANT else set(mg.REGISTRY[name].rules) or set(mg.REGISTRY[name].arrays))
