"""A training step as one native call: record it, read what was recorded, replay it, and get the same bits.

You will see the program of a small network's training step, a line for each op: values go forward, cotangents come
back, parameters are written. Then the same training three ways (in Python, called, and whole epochs natively): the
times differ, the losses do not, to the last bit. At last a step that cannot be recorded, and what minigrad says of it.
"""

import textwrap
import time

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim

digits = data.digits()
EPOCHS, BATCH = 40, 32


def task():
    """A training step, of a network of its own."""
    net = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)).initialize(seed=0)
    opt = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def step(x, y):
        loss = mg.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    return step


def loop(step):
    """All epochs in Python: the losses."""
    return [
        step(mg.tensor(x), y).item()
        for epoch in range(EPOCHS)
        for x, y in data.batches(digits.x_train, digits.y_train, BATCH, seed=0, epoch=epoch)
    ]


def run(step):
    """The same, by the step itself."""
    return step.run(digits.x_train, digits.y_train, batch_size=BATCH, epochs=EPOCHS, seed=0).losses.ravel().tolist()


step = mg.compile(task())
step(digits.x_train[:BATCH], digits.y_train[:BATCH])
print(step.program if step.recordings else "without kernels nothing is recorded", end="\n\n")

losses = {}
for name, way, step in (
    ("in Python", loop, task()),
    ("called", loop, mg.compile(task())),
    ("native epochs", run, mg.compile(task())),
):
    start = time.perf_counter()
    losses[name] = way(step)
    each = (time.perf_counter() - start) / len(losses[name])
    print(f"{name:14} {1e6 * each:6.1f} µs a step, last loss {losses[name][-1]:.9f}")
assert losses["in Python"] == losses["called"] == losses["native epochs"], "the bits must agree"

careless = mg.compile(lambda x: x if x.sum() > 0 else -x)
try:
    careless(np.ones(3))
except mg.TraceError as error:
    where, _, what = str(error).partition(": ")
    print(f"\nA step that asks for a value, line {where.rpartition(':')[2]}:\n{textwrap.fill(what, 100)}")
