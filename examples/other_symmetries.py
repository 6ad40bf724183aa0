"""Symmetries that need breaking, and some that do not matter (D2L §3.15.4 and §5.4, exercises 1 and 2).

**What exactly is equal** in a layer that begins with one constant? Its units, so the *rows* of its weight and of its
gradient. Not the columns: each input has its own gradient
(but for pixels that are always 0). And it takes two layers: with unequal outgoing weights the
incoming gradients differ from unit to unit at the very first step, and a constant layer trains well. What the book
says of "the hidden layer" holds if the layer above is constant, too.

**Can linear or softmax regression begin with equal weights?** Yes. There are no hidden units that could be exchanged:
each weight belongs to one input and one class. From all zeros it learns as from random weights (the loss is convex).

**Other symmetries** of a network, "besides the permutation of units": each leaves the function as it is, so that the
network could go either way; but only an *initialization that the symmetry leaves alone* is a trap.

- Sign: tanh(−z) = −tanh z, so a unit may change the signs of all its weights, in and out. The fixed point of this
  symmetry is 0: a unit whose weights and biases, in and out, are zero stays so for ever.
- Scale: a relu unit may have its incoming weights doubled and the outgoing ones halved. No start is left alone by
  that, and nothing needs breaking. It leaves a law instead: w·∂w + b·∂b = v·∂v, for each unit.
- Branches: whole networks that are added up, as in an ensemble with one loss, are exchangeable like units. Equal ones
  stay equal to the last bit.
"""

import numpy as np

import minigrad as mg
from minigrad import data, init, nn, optim

digits = data.digits()
by_class = np.repeat(np.linspace(-0.1, 0.1, 10)[:, None], 16, axis=1)


def classes(array):
    return len({row.tobytes() for row in array})


def accuracy(net):
    with mg.no_grad():
        return (net.eval()(digits.x_test).numpy().argmax(axis=1) == digits.y_test).mean()


def train(net, steps=300, lr=0.5):
    opt = optim.SGD(net.parameters(), lr=lr)

    @mg.compile
    def step(x, y):
        loss = mg.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    epochs = -(-steps * 32 // len(digits.x_train))
    step.run(digits.x_train, digits.y_train, batch_size=32, epochs=epochs)
    return accuracy(net)


def hidden(activation, **layers):
    return nn.Sequential(
        hidden=nn.Linear(64, 16, weight_init=0.05, bias_init=0.0), act=activation, output=nn.Linear(16, 10, **layers)
    ).initialize(seed=0)


print("gradient of the hidden weight (16 units, 64 inputs), constant hidden layer: different")
for name, outgoing in {"constant by class": by_class, "random": init.xavier_uniform()}.items():
    net = hidden(nn.Tanh(), weight_init=outgoing)
    mg.cross_entropy(net(digits.x_train[:100]), digits.y_train[:100]).backward()
    gradient = net.hidden.weight.grad.data
    rows, columns, right = classes(gradient), classes(gradient.T), train(net)
    print(f"  outgoing weights {name:<18} rows {rows:3}   columns {columns:3}   then held-out accuracy {right:.1%}")
    assert (rows, right > 0.9) == ((1, False) if name == "constant by class" else (16, True))
    assert columns > 50, "inputs are not units"

print("\nsoftmax regression from              held-out accuracy")
for name, rule in {"zeros": 0.0, "all weights 0.3": 0.3, "random": init.xavier_uniform()}.items():
    right = train(nn.Sequential(nn.Linear(64, 10, weight_init=rule, bias_init=0.0)).initialize(seed=0), lr=0.1)
    print(f"  {name:<30} {right:12.1%}")
    assert right > 0.9, "it has no hidden units, and learns"

net = hidden(nn.Tanh(), weight_init=init.xavier_uniform())
for layer, values in ((net.hidden.weight, init.xavier_uniform()), (net.hidden.bias, init.normal(std=0.1))):
    layer.data = values(np.random.default_rng(1), layer.shape, 64, 16, layer.dtype)
net.hidden.weight.data[3], net.hidden.bias.data[3], net.output.weight.data[:, 3] = 0.0, 0.0, 0.0
before = net(digits.x_test).data.copy()
for array in (net.hidden.weight.data, net.hidden.bias.data, net.output.weight.data.T):
    array[5] *= -1
assert net(digits.x_test).data.tobytes() == before.tobytes(), "a sign should not be seen"
train(net)
zero = [
    int(np.count_nonzero(a)) for a in (net.hidden.weight.data[3], net.hidden.bias.data[3], net.output.weight.data[:, 3])
]
print("\ntanh: the other sign gives the same bits; nonzero numbers in a unit of zeros, trained:", zero)
assert not any(zero), "it should stay zero"

net = hidden(nn.ReLU(), weight_init=init.xavier_uniform()).astype("float64")
net.hidden.weight.data = init.xavier_uniform()(np.random.default_rng(2), (16, 64), 64, 16, np.dtype("float64"))
mg.cross_entropy(net(digits.x_train.astype("float64")), digits.y_train).backward()
w, b, v = (p.data for p in (net.hidden.weight, net.hidden.bias, net.output.weight))
dw, db, dv = (p.grad.data for p in (net.hidden.weight, net.hidden.bias, net.output.weight))
into, out = (w * dw).sum(axis=1) + b * db, (v * dv).sum(axis=0)
print(f"relu: w.dw + b.db = v.dv for each of 16 units, up to {np.abs(into - out).max():.0e} of {np.abs(out).max():.0e}")
np.testing.assert_allclose(into, out, atol=1e-13)


class Sum(nn.Module):
    def __init__(self, *branches):
        self.branches = list(branches)

    def forward(self, x):
        first, *others = [branch(x) for branch in self.branches]
        return sum(others, first)


def branch(seed):
    return nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10)).initialize(seed)


for seeds, expected in (((0, 0, 0), 1), ((0, 0, 1), 2)):
    net = Sum(*map(branch, seeds))
    right = train(net, steps=200, lr=0.1)
    different = len({b"".join(a.tobytes() for a in part.state_dict().values()) for part in net.branches})
    print(f"three branches with the seeds {seeds}, trained: {different} different, held-out accuracy {right:.1%}")
    assert different == expected
