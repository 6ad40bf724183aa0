"""Backpropagation by hand, beside the tape (Dive into Deep Learning §5.3, with numbers).

A network with one hidden layer, h = tanh(X W₁ᵀ + b₁), o = h W₂ᵀ + b₂, and the loss L = Σ (o − t)² / (n outputs).
Going back from L, each line takes the cotangent of its result, ȳ = ∂L/∂y, and sends one to each of its operands:

    ō  = 2 (o − t) / (n outputs)         the loss
    W̄₂ = ōᵀ h,  b̄₂ = Σ ō,  h̄ = ō W₂      the second layer: a matrix product has two matrix products for a derivative
    z̄  = h̄ (1 + h)(1 − h)                tanh, elementwise
    W̄₁ = z̄ᵀ X,  b̄₁ = Σ z̄                 the first layer

You will see the tape with the norm of every cotangent, then the walk itself, one op at a time, and each step's result
beside the line that was derived by hand, in NumPy.
"""

import numpy as np

import minigrad as mg
from minigrad import nn

rng = np.random.default_rng(0)
x, t = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
net = nn.Sequential(
    first=nn.Linear(3, 4, dtype="float64"), tanh=nn.Tanh(), second=nn.Linear(4, 2, dtype="float64")
).initialize(seed=0)
loss = mg.mse_loss(net(x), t)
tape = mg.Tape.of(loss).backward()
print(tape)

w1, b1, w2, b2 = (p.data for p in net.parameters())
h = np.tanh(x @ w1.T + b1)
o = h @ w2.T + b2
by_hand = {}
by_hand["second"] = o_bar = 2 * (o - t) / o.size
by_hand["second.weight"], by_hand["second.bias"] = o_bar.T @ h, o_bar.sum(0)
by_hand["tanh"] = h_bar = o_bar @ w2
by_hand["first"] = z_bar = h_bar * (1 + h) * (1 - h)
by_hand["first.weight"], by_hand["first.bias"] = z_bar.T @ x, z_bar.sum(0)

print("\nbackward: line, the norm of its cotangent, and how far the one derived by hand is from it")
checked = set()
for step in mg.steps(loss):
    name = step.node.name or step.node.path
    op = step.node.op.name if step.node.op else "parameter"
    if name not in by_hand:
        print(f"{op:<12}{name:<15}{np.linalg.norm(step.cotangent):10.6f}")
        continue
    off = np.abs(step.cotangent - by_hand[name]).max()
    print(f"{op:<12}{name:<15}{np.linalg.norm(step.cotangent):10.6f}   {off:.0e}")
    assert off < 1e-15, f"the cotangent of {name} is not what was derived"
    assert np.abs(step.cotangent).max() > 1e-3, "a derivation of zeros would prove nothing"
    assert (tape.cotangents[step.node] == step.cotangent).all(), "the tape has other bits than the walk"
    checked.add(name)

assert checked == set(by_hand), "a line that was derived is not on the tape"
for name, p in net.named_parameters():
    assert np.abs(p.grad.numpy() - by_hand[name]).max() < 1e-15
