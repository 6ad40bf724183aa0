"""Softmax regression on real handwritten digits (Dive into Deep Learning §3.7, which builds on §3.4).

One linear layer gives each 8×8 image ten scores, one for each digit, and cross entropy turns scores into a loss. It
begins at log 10 = 2.303, because ten zeros say "each digit alike". A linear model already reads most of the digits
that it has never seen; the last figure shows why. Each class has one weight per pixel, so a row of the weight matrix
is a picture: here is the template of the digit 0, with ink wanted where there is "+" and unwanted where there is "-".
"""

import math

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim

digits = data.digits()
net = nn.Linear(64, 10, weight_init=0.0, bias_init=0.0)  # without a hidden layer there is no symmetry to break
opt = optim.SGD(net.parameters(), lr=0.5)


def loss_and_accuracy(x, y):
    with mg.no_grad():
        scores = net(x)
        return mg.cross_entropy(scores, y).item(), float((scores.argmax(axis=1) == y).mean())


start, _ = loss_and_accuracy(digits.x_train, digits.y_train)
print(f"loss at the start: {start:.4f}, and log 10 is {math.log(10):.4f}\n")
print("epoch   training loss   accuracy   held-out accuracy")
for epoch in range(1, 21):
    for x, y in data.batches(digits.x_train, digits.y_train, batch_size=32, seed=0, epoch=epoch):
        loss = mg.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch in (1, 2, 5, 10, 20):
        loss, seen = loss_and_accuracy(digits.x_train, digits.y_train)
        _, held_out = loss_and_accuracy(digits.x_test, digits.y_test)
        print(f"{epoch:5}   {loss:13.4f}   {seen:8.1%}   {held_out:17.1%}")

template = net.weight.data[0].reshape(8, 8)
print("\nthe weights of the digit 0:")
for line in template:
    print("    " + " ".join("+" if w > 0.25 else "-" if w < -0.25 else "." for w in line))

assert abs(start - math.log(10)) < 1e-5, "equal scores do not give log 10"
assert held_out > 0.93, "a linear model reads these digits"
assert loss < 0.15, "the loss did not fall"
assert template[3:5, 3].max() < -0.25 < 0.25 < template[3:5, 1:3].min(), "a zero is a ring around nothing"
assert np.all(net.weight.data[:, 0] == 0), "no image has ink in the corner, so nothing is learned about it"
