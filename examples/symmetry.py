"""Units that begin equal stay equal, to the last bit, and what sets them apart (Dive into Deep Learning §3.15.2).

If all hidden units of a layer begin with the same weights, they compute the same values, get the same gradients and
take the same steps: whatever the width, the layer acts as a single unit. So says the book. Here it is an experiment:
30 tanh units on real digits, 300 steps of Adam, and units count as different if any byte of their incoming weights or
bias differs. No tolerance: minigrad rounds each number by its terms and their order, never by its place. (A BLAS does
not. With NumPy's matrix product here, a second unit was seen to appear out of nothing within these 300 steps.)

Then, what breaks the symmetry. Random weights, as everyone uses. One unit with one weight moved to the next float: it
is soon the second unit of the network, which can be seen in the accuracy. Dropout, which hides each unit at other
times. And unequal outgoing weights, which send each unit another gradient: equal incoming weights are not enough.

(Outgoing weights differ from class to class here, not from unit to unit. If they were one constant, the errors of the
ten classes, which sum to 0, would cancel on their way back to the hidden layer.)

Last, "a single unit" is taken at its word: H twins with outgoing weights v follow the path of one unit with H v, if
that one learns H times more slowly on its way in and H times faster on its way out. SGD in float64, equal but for
rounding.
"""

import itertools

import numpy as np

import minigrad as mg
from minigrad import data, init, nn, optim

digits = data.digits("float64")
random, by_class = init.xavier_uniform(), np.linspace(-0.1, 0.1, 10)[:, None]


def network(width, incoming=0.05, outgoing=None, dropout=0.0, dtype="float32"):
    outgoing = np.repeat(by_class, width, axis=1) if outgoing is None else outgoing
    return nn.Sequential(
        hidden=nn.Linear(64, width, weight_init=incoming, bias_init=0.0, dtype=dtype),
        tanh=nn.Tanh(),
        dropout=nn.Dropout(dropout),
        output=nn.Linear(width, 10, weight_init=outgoing, bias_init=0.0, dtype=dtype),
    ).initialize(seed=0)


def minibatches(dtype):
    for epoch in itertools.count():
        yield from data.batches(digits.x_train.astype(dtype), digits.y_train, batch_size=32, seed=0, epoch=epoch)


def train(net, optimizers, steps):
    """Train on the digits, one minibatch at a time; yields the number of steps done, from 1 on."""
    batches = itertools.islice(minibatches(net.hidden.weight.dtype), steps)
    for done, (x, y) in enumerate(batches, 1):
        net.zero_grad()
        mg.cross_entropy(net(x), y).backward()
        for opt in optimizers:
            opt.step()
        yield done


def different_units(layer):
    return len({row.tobytes() for row in np.column_stack([layer.weight.data, layer.bias.data])})


def scores(net):
    with mg.no_grad():
        return net.eval()(digits.x_test.astype(net.hidden.weight.dtype)).numpy()


one_ulp = np.full((30, 64), 0.05, "float32")
one_ulp[7, 30] = np.nextafter(one_ulp[7, 30], np.float32(1))
cases = {
    "all units equal": (network(30), [1, 1, 1, 1]),
    "all weights random": (network(30, random, random), [30, 30, 30, 30]),
    "one unit, one weight, one ulp": (network(30, one_ulp), [2, 2, 2, 2]),
    "dropout 0.5": (network(30, dropout=0.5), [1, 30, 30, 30]),
    "outgoing weights random": (network(30, outgoing=random), [1, 30, 30, 30]),
}
accuracy = {}
print("different units of 30 after   0 steps   1 step   10 steps   300 steps   held-out accuracy")
for name, (net, expected) in cases.items():
    opt = optim.Adam(net.parameters(), lr=0.01)
    counts = [different_units(net.hidden)]
    counts += [different_units(net.hidden) for done in train(net, [opt], 300) if done in (1, 10, 300)]
    accuracy[name] = (scores(net).argmax(axis=1) == digits.y_test).mean()
    print(f"  {name:<29} {counts[0]:5} {counts[1]:8} {counts[2]:10} {counts[3]:11} {accuracy[name]:16.1%}")
    assert counts == expected, f"{name}: {counts} different units"
assert accuracy["all units equal"] < 0.4 < 0.9 < accuracy["all weights random"], "a single unit reads the digits"
assert accuracy["all units equal"] + 0.1 < accuracy["one unit, one weight, one ulp"], "there is no second unit"

print("\nH twins and one unit after 100 steps, held-out digits")
for H in (2, 8, 30, 128):
    many, one = network(H, dtype="float64"), network(1, outgoing=by_class * H, dtype="float64")
    before, lr = scores(many), 0.5 / H
    slow, fast = optim.SGD(one.hidden.parameters(), lr / H), optim.SGD([one.output.weight], lr * H)
    list(train(many, [optim.SGD(many.parameters(), lr)], 100))
    list(train(one, [slow, fast, optim.SGD([one.output.bias], lr)], 100))
    moved, gap = np.abs(scores(many) - before).max(), np.abs(scores(many) - scores(one)).max()
    print(f"  H = {H:<5} scores moved by {moved:.2f}, and differ by {gap:.1e}")
    assert gap < 1e-10 < 0.1 < moved, f"{H} twins are not one unit"
