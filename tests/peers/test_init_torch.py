"""Initializers beside torch.nn.init: the same distributions by a two-sample test, the same gains and fans."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import init

SHAPE = (150, 400)  # not square: swapped fans must show
CASES = {
    "uniform_": (-0.5, 1.5),
    "normal_": (0.5, 2.0),
    "trunc_normal_": (0.5, 2.0, -2.0, 3.0),
    "xavier_uniform_": (1.5,),
    "xavier_normal_": (1.5,),
    "kaiming_uniform_": (math.sqrt(5),),
    "kaiming_normal_": (0.0, "fan_out", "relu"),
    "sparse_": (0.3, 0.5),
}


def distance(a, b):
    """Kolmogorov and Smirnov's, between two samples of one size."""
    a, b = np.sort(a, axis=None), np.sort(b, axis=None)
    both = np.concatenate([a, b])
    return np.abs(np.searchsorted(a, both, "right") - np.searchsorted(b, both, "right")).max() / a.size


def samples(torch, name):
    ours = getattr(init, name)(mg.tensor(np.zeros(SHAPE)), *CASES[name], rng=np.random.default_rng(1)).data
    torch.manual_seed(1)
    theirs = torch.zeros(SHAPE, dtype=torch.float64)
    getattr(torch.nn.init, name)(theirs, *CASES[name])
    return ours, theirs.numpy()


# each sample is within √(ln(4/α) / 2n) of its distribution, with α = 1e-9
BOUND = 2 * math.sqrt(math.log(4e9) / (2 * math.prod(SHAPE)))


@pytest.mark.parametrize("name", CASES)
def test_the_same_distribution(requires, name):
    ours, theirs = samples(requires("torch"), name)
    assert distance(ours, theirs) < BOUND
    assert distance(1.25 * ours, theirs) > BOUND, "a wrong scale would not be seen"


def test_orthogonal(requires):
    torch = requires("torch")
    torch.manual_seed(1)
    seeds = range(2000)
    ours = [init.orthogonal_(mg.tensor(np.zeros((3, 5))), rng=np.random.default_rng(i)).data[1, 2] for i in seeds]
    theirs = [torch.nn.init.orthogonal_(torch.zeros(3, 5, dtype=torch.float64))[1, 2].item() for _ in seeds]
    bound = 2 * math.sqrt(math.log(4e9) / (2 * len(seeds)))
    assert distance(np.array(ours), np.array(theirs)) < bound < distance(np.abs(ours), np.array(theirs))


def test_gains_and_fans(requires):
    torch = requires("torch")
    for name in ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert init.gain(name) == torch.nn.init.calculate_gain(name)
    assert init.gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)
    for shape in ((3, 7), (4, 3, 5, 2)):
        assert init.fans(shape) == torch.nn.init._calculate_fan_in_and_fan_out(torch.zeros(shape))
