"""Networks: modules that own parameters.

>>> import minigrad as mg
>>> net = Sequential(Linear(64, 32), Tanh(), output=Linear(32, 10)).initialize(seed=0)
>>> net
Sequential(
  0: Linear(in_features=64, out_features=32)
  1: Tanh()
  output: Linear(in_features=32, out_features=10)
)
>>> [name for name, _ in net.named_parameters()]
['0.weight', '0.bias', 'output.weight', 'output.bias']
"""

from minigrad.nn.activations import (
    ELU,
    GELU,
    SELU,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from minigrad.nn.layers import Dropout, Flatten, Identity, Linear, Sequential
from minigrad.nn.module import Buffer, Module, Parameter

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Buffer",
    "Dropout",
    "Flatten",
    "Identity",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]
