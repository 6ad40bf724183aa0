"""The instrument is itself measured: right slopes pass at every scale, slopes wrong by a thousandth fail."""

import numpy as np
import pytest

from minigrad.testing.differences import derivative

CURVES = {
    "sine": (np.sin, np.cos),
    "exponential": (np.exp, np.exp),
    "logarithm": (lambda x: np.log(3 + x), lambda x: 1 / (3 + x)),
    "cube": (lambda x: x**3 + 1, lambda x: 3 * x**2),
    "line": (lambda x: 2 * x - 1, lambda x: 2 + 0 * x),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
}


def agrees(claim, f, step):
    value, error = derivative(f, step)
    return bool(np.all(np.abs(claim - value) <= 10 * error))


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("height", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("width", [1e-3, 1.0, 1e3])
def test_right_passes_and_a_thousandth_fails(curve, height, width):
    f, slope = CURVES[curve]
    x = np.array([-1.3, -0.4, 0.7, 1.1])

    def scaled(t):
        return height * f((width * x + t) / width)

    right = height / width * slope(x)
    assert agrees(right, scaled, 0.02 * width)
    assert not agrees(right * 1.001, scaled, 0.02 * width)
    assert not agrees(-right, scaled, 0.02 * width)
    assert not agrees(right * [1, 1, 1, 1.001], scaled, 0.02 * width), "one wrong entry among right ones"


def test_the_estimate_bounds_the_error_and_is_small():
    x = np.linspace(-2, 2, 101)
    value, error = derivative(lambda t: np.sin(x + t), 0.02)
    assert np.all(np.abs(value - np.cos(x)) <= error)
    assert error.max() < 1e-10


def test_nan_never_agrees_and_nothing_agrees_with_nothing():
    assert not agrees(np.array([np.nan]), lambda t: np.array([t]), 0.02)
    assert agrees(np.zeros((0, 2)), lambda t: np.zeros((0, 2)), 0.02)
