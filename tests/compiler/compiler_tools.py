"""A task to train, and how to compare two runs of it."""

import itertools

import numpy as np

import minigrad as mg
from minigrad import nn, optim

OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "decay": lambda p: optim.SGD(p, lr=0.1, weight_decay=0.01),
    "momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9),
    "nesterov": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
}
ACTIVATIONS = ["tanh", "relu", "sigmoid", "gelu", "silu", "elu", "selu", "softplus", "leaky_relu"]
LOSSES = {
    "cross_entropy": lambda out, y: mg.cross_entropy(out, y),
    "mse": lambda out, y: mg.mse_loss(out, mg.one_hot(y, 3)),
    "huber": lambda out, y: mg.huber_loss(out, mg.one_hot(y, 3)),
    "mean of squares": lambda out, y: ((out - mg.one_hot(y, 3)) ** 2).mean(),
}


class Net(nn.Module):
    """An MLP with any activation, dropout after each hidden layer."""

    def __init__(self, sizes, activation, rate):
        self.layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.drops = [nn.Dropout(rate) for _ in self.layers[1:]] if rate else []
        self.activation = activation

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i + 1 < len(self.layers):
                x = getattr(mg, self.activation)(x)
                x = self.drops[i](x) if self.drops else x
        return x


def task(seed=0, sizes=(5, 7, 3), activation="tanh", loss="cross_entropy", optimizer="sgd", rate=0.0, clip=None):
    """(net, opt, step) of a task whose data is :func:`batch`."""
    net = Net(sizes, activation, rate).initialize(seed)
    opt = OPTIMIZERS[optimizer](net.parameters())

    def step(x, y):
        value = LOSSES[loss](net(x), y)
        opt.zero_grad()
        value.backward()
        if clip:
            optim.clip_grad_norm(opt.params, clip)
        opt.step()
        return value

    return net, opt, step


def batch(i, rows=6, features=5):
    rng = np.random.default_rng([i, rows])
    return rng.standard_normal((rows, features)).astype("float32"), rng.integers(0, 3, rows)


def state(net, opt):
    arrays = {f"net.{k}": v for k, v in net.state_dict().items()} | {f"opt.{k}": v for k, v in opt.state_dict().items()}
    for name, p in net.named_parameters():
        arrays[f"{name}.grad"] = None if p.grad is None else p.grad.data.copy()
    return arrays


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert (a[name] is None) == (b[name] is None), name
        assert a[name] is None or a[name].tobytes() == b[name].tobytes(), name
