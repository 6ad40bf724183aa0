"""Every op of the package, every law, on drawn samples."""

import pytest

import minigrad as mg

from . import laws

OPS = [name for name, op in mg.REGISTRY.items() if op.__module__.startswith("minigrad.")]


@pytest.mark.parametrize(("law", "name"), [(law, n) for law in laws.LAWS for n in OPS if laws.applies(n, law)])
def test_law(law, name):
    laws.check(name, law)


@pytest.mark.parametrize("name", OPS)
def test_samples_have_power(name):
    """Among a few samples each argument has a derivative that is not all zero, or is written."""
    laws.power(name)


@pytest.mark.parametrize("name", OPS)
def test_docstrings_are_sentences(name):
    text = mg.REGISTRY[name].__doc__.strip()
    assert text.endswith((".", "…")) or ">>>" in text
