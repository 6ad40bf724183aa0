"""XOR: four points, four hidden units, and why they must not begin equal (Dive into Deep Learning §3.8, §3.15.2).

The answer is 1 where exactly one of two inputs is 1. No line separates these points from the others, so a hidden
layer is needed; four tanh units suffice. The same network is trained from three beginnings:

- random weights: it learns all four answers;
- all zeros: tanh 0 = 0, so the outgoing weights get no gradient; they are 0, so the incoming ones get none either;
  and with two answers of each kind the output bias has nothing to prefer. Not a bit of the network ever moves, and the
  loss stays at log 2;
- all ones: the four units stay one unit, which also treats both inputs alike. The output goes one way, up or down, as
  their sum goes 0, 1, 2; but the answers go 0, 1, 0. At best three of the four can be right.
"""

import math

import numpy as np

import minigrad as mg
from minigrad import nn, optim

x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32")
t = np.array([[0], [1], [1], [0]], "float32")


def train(weight_init, bias_init, steps=500):
    hidden = nn.Linear(2, 4, weight_init=weight_init, bias_init=bias_init)
    output = nn.Linear(4, 1, weight_init=weight_init, bias_init=bias_init)
    net = nn.Sequential(hidden, nn.Tanh(), output).initialize(seed=0)
    opt = optim.Adam(net.parameters(), lr=0.05)
    for _ in range(steps):
        loss = mg.bce_with_logits(net(x), t)
        opt.zero_grad()
        loss.backward()
        opt.step()
    with mg.no_grad():
        return net, loss.item(), mg.sigmoid(net(x)).numpy()[:, 0]


print("                    " + "".join(f"   {a:.0f} xor {b:.0f}" for a, b in x) + "      loss")
results = {}
for name, inits in {"random": ("xavier_uniform", 0.0), "zeros": (0.0, 0.0), "ones": (1.0, 0.0)}.items():
    results[name] = net, loss, p = train(*inits)
    print(f"begins with {name:<8}" + "".join(f"{value:10.3f}" for value in p) + f"{loss:10.4f}")

answers = t[:, 0] == 1
_, loss, p = results["random"]
assert np.array_equal(p > 0.5, answers), "XOR is not learned"
net, loss, p = results["zeros"]
assert abs(loss - math.log(2)) < 1e-6, "the loss is not log 2"
assert not any(array.any() for array in net.state_dict().values()), "a zero has moved"
net, loss, p = results["ones"]
assert len({row.tobytes() for row in net[0].weight.data}) == 1, "the hidden units are no longer equal"
assert p[1] == p[2], "the inputs should be treated alike"
assert p[0] <= p[1] <= p[3] or p[0] >= p[1] >= p[3], "the output should go one way"
assert np.sum((p > 0.5) == answers) <= 3, "one unit should not learn XOR"
