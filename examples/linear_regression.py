"""Linear regression where the right answer is known (Dive into Deep Learning §3.3).

We make up 1000 examples y = X w + b + noise, forget w and b, and ask minibatch SGD for them. Starting from almost
nothing, three passes over the data bring both back to within the noise: as near to the truth as the best straight
line, the least squares solution, can be. The loss stops at the variance of the noise, 0.01² = 1e-4, because what is
left of y then is noise, and no weights explain that.
"""

import numpy as np

import minigrad as mg
from minigrad import data, init, nn, optim

w_true, b_true, noise = np.array([2.0, -3.4], "float32"), 4.2, 0.01
rng = np.random.default_rng(0)
X = rng.standard_normal((1000, 2), "float32")
y = (X @ w_true + b_true + noise * rng.standard_normal(1000, "float32"))[:, None]

net = nn.Linear(2, 1, weight_init=init.normal(std=0.01), bias_init=0.0).initialize(seed=0)
opt = optim.SGD(net.parameters(), lr=0.03)


def row(label, loss, w, b):
    print(f"{label:<14} {loss:>9}   {w[0]:8.5f} {w[1]:8.5f}   {b:7.5f}")


print(f"{'':<14} {'loss':>9}   {'w':^17}   {'b':^7}")
for epoch in range(4):
    if epoch:
        for X_batch, y_batch in data.batches(X, y, batch_size=10, seed=0, epoch=epoch):
            loss = mg.mse_loss(net(X_batch), y_batch)
            opt.zero_grad()
            loss.backward()
            opt.step()
    with mg.no_grad():
        total = mg.mse_loss(net(X), y).item()
    w, b = net.weight.data[0], net.bias.item()
    row(f"epoch {epoch}" if epoch else "at the start", f"{total:.2e}", w, b)

*w_best, b_best = np.linalg.lstsq(np.column_stack([X, np.ones(1000)]), y[:, 0])[0]
row("least squares", "", w_best, b_best)
row("the truth", "", w_true, b_true)

assert np.abs(w - w_true).max() < 0.003, "the weights are not recovered"
assert abs(b - b_true) < 0.003, "the bias is not recovered"
assert np.abs(w - w_best).max() < 0.002, "least squares finds another line"
assert 0.9 * noise**2 < total < 1.1 * noise**2, "the loss is not the variance of the noise"
