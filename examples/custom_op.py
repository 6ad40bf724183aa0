"""An op of your own in one block: the gated linear unit, y = a σ(b) (Dauphin et al. 2017).

An op is its formula, and one rule for each argument that has a derivative. The names of a rule's parameters say what
is saved for it: here the output y, and a residual s = σ(b), which is computed once for both rules. That is all; it
now runs, broadcasts, is recorded, has derivatives of every order, and stands on the tape like any other op.

You will see its derivatives, the second ones too, beside finite differences. Then a layer of it in a small network
that learns to multiply two numbers (a gate multiplies, so this is easy), and that network's tape.
"""

import numpy as np

import minigrad as mg
from minigrad import nn, optim


@mg.op("y = a σ(b)", a=mg.reals(-2, 2), b=mg.reals(-3, 3))
def glu(a, b):
    """Gated linear unit, elementwise: a passes as far as the gate σ(b) is open."""
    return a * mg.sigmoid(b)


@glu.residual("s", "s = σ(b)")
def _(b):
    return mg.sigmoid(b)


@glu.vjp("a", "ā = ȳ s")
def _(g, s):
    return g * s


@glu.vjp("b", "b̄ = ȳ y (1 − s)")
def _(g, y, s):
    return g * y * (1 - s)


class GLU(nn.Module):
    def __init__(self, in_features, out_features):
        self.value, self.gate = (nn.Linear(in_features, out_features, dtype="float64") for _ in range(2))

    def forward(self, x):
        return glu(self.value(x), self.gate(x))


def central(f, x, h=1e-5):
    """The derivative of each element of f(x) with respect to the same element of x, by a finite difference."""
    return (f(x + h) - f(x - h)) / (2 * h)


rng = np.random.default_rng(0)
a, b = rng.uniform(-2, 2, (2, 5))
first = [mg.grad(lambda a, b: glu(a, b).sum(), i)(a, b).numpy() for i in (0, 1)]
second = mg.grad(lambda b: mg.grad(lambda b: glu(a, b).sum())(b).sum())(b).numpy()
print("derivative       by the rules, at five points                by finite differences")
for name, exact, approximate in (
    ("dy/da", first[0], central(lambda a: glu(a, b), a)),
    ("dy/db", first[1], central(lambda b: glu(a, b), b)),
    ("d2y/db2", second, central(mg.grad(lambda b: glu(a, b).sum()), b).numpy()),
):
    cells = ["".join(f"{v:9.5f}" for v in values) for values in (exact, approximate)]
    print(f"{name:<8}" + " ".join(cells))
    assert np.abs(exact).min() > 1e-4, "a test on zeros would see nothing"
    assert np.abs(exact - approximate).max() < 1e-9, f"{name} is wrong"

x = rng.uniform(-1, 1, (64, 2))
product = x[:, :1] * x[:, 1:]
net = nn.Sequential(GLU(2, 8), nn.Linear(8, 1, dtype="float64")).initialize(seed=0)
opt = optim.Adam(net.parameters(), lr=0.03)
losses = []
for _ in range(500):
    loss = mg.mse_loss(net(x), product)
    opt.zero_grad()
    loss.backward()
    opt.step()
    losses.append(loss.item())

print(f"\nlearning to multiply: mean squared error {losses[0]:.4f} at the start, {losses[-1]:.1e} after 500 steps")
print(f"0.5 times -0.8 is {net(np.array([[0.5, -0.8]])).item():.3f}, says the network; its tape:")
tape = mg.Tape.of(loss)
print(tape)
assert losses[-1] < 1e-3 < 0.05 < losses[0], "the network has not learned to multiply"
assert [node.op.name for node in tape if node.op] == ["linear", "linear", "glu", "linear", "mse_loss"]
