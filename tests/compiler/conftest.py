"""Compiled steps replay kernels; without Numba's compiler there is nothing to replay."""

import sys
from pathlib import Path

import pytest

from minigrad.kernels import jit

sys.path.insert(0, str(Path(__file__).parent))  # for compiler_tools


def pytest_collection_modifyitems(items):
    if not jit.AVAILABLE:
        for item in items:
            if "tests/compiler" in item.path.as_posix():
                item.add_marker(pytest.mark.skip(reason="NUMBA_DISABLE_JIT is set: nothing is compiled"))
