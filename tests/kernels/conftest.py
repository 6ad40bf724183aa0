"""Kernels need Numba's compiler; without it these tests have nothing to run."""

import sys
from pathlib import Path

import numpy as np
import pytest

from minigrad.kernels import jit

sys.path.insert(0, str(Path(__file__).parent))  # for kernel_tools


def pytest_collection_modifyitems(items):
    if not jit.AVAILABLE:
        for item in items:
            if "tests/kernels" in item.path.as_posix():
                item.add_marker(pytest.mark.skip(reason="NUMBA_DISABLE_JIT is set: kernels are not compiled"))


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
