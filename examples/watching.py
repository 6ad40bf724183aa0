"""Why does it not learn? Looking at a training run, and at many (D2L §3.15, applied).

Eight relu layers on real digits, with PyTorch's default initialization and plain gradient descent: the loss stays
where it is. `lab.watch` looks at every 20th step, while the loop is as it was; no bit of it changes. Read its table
from the left to the right: *varying*, what depends on the input, falls from layer to layer; *backward*, the gradient,
falls on the way back; and the *update* of the first layers, relative to their weights, is hundreds of times smaller
than that of the last.

The same network with Kaiming's initialization, compiled: between the steps that are looked at, native code runs.

Last, `lab.sweep`: a network for each cell of a grid, with the gains that theory predicts and those that were measured.
The deeper, the more the beginning decides. (Here by two threads; by default it is a process for each core, and with
a path it goes on where it was interrupted. Dask's, loky's and MPI's executors will do as well.)
"""

from concurrent.futures import ThreadPoolExecutor

import minigrad as mg
from minigrad import data, init, lab, nn, optim

digits = data.digits()
he = init.kaiming_normal(nonlinearity="relu")


def network(weight_init=None, bias_init=None):
    hidden = [nn.Linear(64, 64, weight_init=weight_init, bias_init=bias_init) for _ in range(7)]
    layers = [part for layer in hidden for part in (layer, nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(64, 10)).initialize(seed=0)


net = network()
opt = optim.SGD(net.parameters(), lr=0.1)
with lab.watch(net, every=20, report=print) as seen:
    for epoch in range(2):
        for x, y in data.batches(digits.x_train, digits.y_train, batch_size=32, seed=0, epoch=epoch):
            loss = mg.cross_entropy(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
print(f"PyTorch's default: loss {loss.item():.3f} after {seen.step} steps\n{seen.table()}")
first, last = (next(r for r in seen.records if r.step == 80 and r.layer == layer) for layer in ("0", "14"))
assert loss.item() > 2.2, "it should not have learned anything"
assert first.ratio < last.ratio / 100, "the first layer hardly moves"
assert [r.varying for r in seen.records if r.step == 0 and r.op == "relu"][-1] < 1e-5, "the signal should be gone"

net = network(he, 0.0)
opt = optim.SGD(net.parameters(), lr=0.1)


@mg.compile
def step(x, y):
    loss = mg.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss


with lab.watch(net, every=20, report=print) as seen:
    history = step.run(digits.x_train, digits.y_train, batch_size=32, epochs=2, seed=0)
print(f"\nKaiming: loss {history.losses[-1].mean():.3f} in the second epoch\n{seen.table()}")
assert history.losses[-1].mean() < 1.5, "it should learn"
assert seen.step == 90

grid = {"activation": ["relu"], "weight_init": ["default", he], "depth": [2, 8], "width": [64], "seed": [0]}
with ThreadPoolExecutor(2) as executor:
    result = lab.sweep(grid, executor=executor, bias_init="default", epochs=4)
print(f"\n{result}")
right = {(r.weight_init, r.depth): r.accuracy for r in result.records}
assert min(right["default", 2], right[repr(he), 2], right[repr(he), 8]) > 0.7 > 0.3 > right["default", 8]
