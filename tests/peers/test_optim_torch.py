"""Optimizers and initializers against PyTorch's."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import init, nn, optim

CASES = {
    "sgd": (optim.SGD, "SGD", {"lr": 0.05}),
    "sgd, decay": (optim.SGD, "SGD", {"lr": 0.05, "weight_decay": 0.1}),
    "momentum": (optim.SGD, "SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}),
    "nesterov": (optim.SGD, "SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adam": (optim.Adam, "Adam", {"lr": 0.05}),
    "adam, decay": (optim.Adam, "Adam", {"lr": 0.05, "betas": (0.8, 0.99), "eps": 1e-3, "weight_decay": 0.1}),
    "adamw": (optim.AdamW, "AdamW", {"lr": 0.05, "weight_decay": 0.1}),
}


@pytest.fixture
def torch(requires):
    return requires("torch")


@pytest.mark.parametrize("case", CASES)
def test_twenty_steps(torch, case):
    ours, name, options = CASES[case]
    rng = np.random.default_rng(0)
    start, target = [rng.normal(size=s) for s in ((4, 3), (4,))], rng.normal(size=(20, 6, 4))
    x = rng.normal(size=(6, 3))

    mine = [mg.tensor(a, requires_grad=True) for a in start]
    theirs = [torch.tensor(a, requires_grad=True) for a in start]
    opt, peer = ours(mine, **options), getattr(torch.optim, name)(theirs, **options)
    for y in target:
        opt.zero_grad()
        mg.mse_loss(mg.tanh(mg.linear(mg.tensor(x), *mine)), mg.tensor(y)).backward()
        opt.step()
        peer.zero_grad()
        torch.nn.functional.mse_loss(
            torch.tanh(torch.nn.functional.linear(torch.tensor(x), *theirs)), torch.tensor(y)
        ).backward()
        peer.step()
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [1.0, 1e20])
def test_clipping(torch, size):
    gradients = [np.full((3, 2), size), np.full(4, -2 * size)]
    mine = [mg.tensor(np.zeros_like(g), requires_grad=True) for g in gradients]
    theirs = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in gradients]
    for p, q, g in zip(mine, theirs, gradients, strict=True):
        p.grad, q.grad = mg.tensor(g), torch.tensor(g)
    total = torch.nn.utils.clip_grad_norm_(theirs, 0.5)
    np.testing.assert_allclose(optim.clip_grad_norm(mine, 0.5).item(), total.item(), rtol=1e-12)
    for p, q in zip(mine, theirs, strict=True):  # theirs divides by norm + 1e-6
        np.testing.assert_allclose(p.grad.data, q.grad.numpy(), rtol=3e-6 if size == 1 else 1e-12)


def test_gains_and_defaults(torch):
    for name in ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert init.gain(name) == pytest.approx(torch.nn.init.calculate_gain(name), rel=1e-15)
    assert init.gain("leaky_relu", 0.3) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.3), rel=1e-15)
    mine, theirs = nn.Linear(300, 500), torch.nn.Linear(300, 500)
    for a, b in ((mine.weight, theirs.weight.detach()), (mine.bias, theirs.bias.detach())):
        assert a.shape == tuple(b.shape)
        assert float(abs(a.data).max()) == pytest.approx(float(b.abs().max()), rel=0.05)
        assert float(a.data.std()) == pytest.approx(float(b.std()), rel=0.15)
