"""A training as a film, in which twins are seen to part (Dive into Deep Learning §3.15.2, in pictures).

Eight tanh units begin with the same weights, and stay one unit: every picture of the page marks them as twins, equal to
the last bit. Before step 10 a single weight of one unit is moved, by a tenth. From there on the film shows two kinds of
units: the other seven are twins to the end.

`python film.py training.html` keeps the page: open it, drag the upper slider through the training and the lower one
through a step, forward and backward; "Network" shows all parameters, gradients and hidden units at once.
"""

import sys
import tempfile

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim

STEPS, NUDGE = 50, 10

digits = data.digits()
by_class = np.repeat(np.linspace(-0.1, 0.1, 10)[:, None], 8, axis=1)
net = nn.Sequential(
    hidden=nn.Linear(64, 8, weight_init=0.05, bias_init=0.0),
    tanh=nn.Tanh(),
    output=nn.Linear(8, 10, weight_init=by_class, bias_init=0.0),
)
opt = optim.Adam(net.parameters(), lr=0.03)


def kinds():
    """How many of the hidden units have bytes of their own."""
    return len({row.tobytes() for row in np.column_stack([net.hidden.weight.data, net.hidden.bias.data])})


with (
    tempfile.TemporaryDirectory() as folder,
    mg.film(sys.argv[1] if sys.argv[1:] else f"{folder}/training.html", steps=STEPS) as film,
):
    for step, (x, y) in enumerate(data.batches(digits.x_train, digits.y_train, batch_size=24, seed=0)):
        if step == STEPS:
            break
        if step == NUDGE:
            assert kinds() == 1
            weight = net.hidden.weight.data.copy()
            weight[3, 20] += 0.1
            mg.assign(net.hidden.weight, weight)
        loss = mg.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()

assert kinds() == 2
apart = np.abs(net.hidden.weight.data[3] - net.hidden.weight.data[0]).max()
print(f"{len(film)} steps filmed; the unit of which one weight was moved by 0.1 is now {apart:.2f} away")
