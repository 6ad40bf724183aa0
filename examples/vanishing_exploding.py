"""Signals in a deep network: which initialization carries them through thirty layers? (D2L §3.15.1 and §3.15.3)

Real digits go into 30 layers of width 64. On the way up, the table has the mean square of what leaves the first, the
middle and the last layer; on the way down, the norm of the gradient of those layers' weights, for a random cotangent
of norm 1 at the output, which stands for any loss. Three activations times four ways to begin:

- N(0, 0.01²) is too small: signals shrink in each layer. With sigmoid the outputs look healthy, because σ(0) = ½, but
  they have forgotten the input, and no gradient comes back.
- N(0, 1) is too large. Relu multiplies the mean square by 32 in each layer. Tanh hides it, because it saturates at
  ±1, but its gradients explode on the way down. Sigmoid, saturated as well, happens to come near a balance.
- Xavier (variance 2 / (fan in + fan out)) keeps linear layers in balance, and tanh nearly so. Relu halves the mean
  square each time: 2⁻³⁰. Sigmoid, whose slope is never above ¼, loses a factor 4 or more of the gradient: 4⁻³⁰.
- Kaiming (variance 2 / fan in) returns the factor 2 to relu, and tanh takes it too. For sigmoid it is not enough.

A weight's gradient is what came up to it times what comes down to it. So with relu all layers vanish or explode alike,
as in thirty_layers.py; and that example says why this one runs in float64.
"""

import numpy as np

from minigrad import data, init, nn

DEPTH, WIDTH, ROWS = 30, 64, 128
SHOWN = (0, DEPTH // 2 - 1, DEPTH - 1)
x = data.digits("float64").x_train[:ROWS]
x /= np.sqrt((x * x).mean())  # the mean square of the input is 1
cotangent = np.random.default_rng(0).standard_normal((ROWS, WIDTH))
cotangent /= np.linalg.norm(cotangent)

activations = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
inits = {
    "N(0, 0.01^2)": init.normal(std=0.01),
    "N(0, 1)": init.normal(std=1.0),
    "xavier": init.xavier_normal(),
    "kaiming": init.kaiming_normal(nonlinearity="relu"),
}


def signals(activation, weight_init):
    """Mean squares of the outputs, and norms of the weight gradients, of the layers to be shown."""
    layers = [nn.Linear(WIDTH, WIDTH, weight_init=weight_init, bias_init=0.0, dtype="float64") for _ in range(DEPTH)]
    nn.Sequential(*layers).initialize(seed=0)
    h, squares = x, []
    for layer in layers:
        h = activation(layer(h))
        squares.append((h.data**2).mean())
    h.backward(cotangent)
    norms = [np.linalg.norm(layer.weight.grad) for layer in layers]
    return [squares[i] for i in SHOWN], [norms[i] for i in SHOWN]


print(f"{'':<22}  {'mean square of the outputs':^29}   {'norm of the weight gradients':^29}")
print(f"{'':<22}  " + "   ".join(["".join(f"{f'layer {i + 1}':>9} " for i in SHOWN)] * 2))
found = {}
for name, activation in activations.items():
    for how, weight_init in inits.items():
        found[name, how] = up, down = signals(activation(), weight_init)
        cells = "   ".join("".join(f"{value:9.1e} " for value in values) for values in (up, down))
        print(f"{name:<8} {how:<13}  {cells}")
    print()

for name in activations:
    assert found[name, "N(0, 0.01^2)"][1][0] < 1e-25, f"{name}: small weights should leave no gradient"
for how in ("xavier", "kaiming"):
    assert found["sigmoid", how][1][0] < 1e-12, "sigmoid should lose the gradient"
assert 0.2 < found["sigmoid", "N(0, 0.01^2)"][0][2] < 0.3, "sigmoid should look healthy"
assert 1e-3 < found["sigmoid", "N(0, 1)"][1][0] < 1, "sigmoid should come near a balance"
assert found["relu", "N(0, 1)"][0][2] > 1e30, "relu should explode upwards"
assert found["tanh", "N(0, 1)"][0][2] < 1, "tanh should look healthy"
assert found["tanh", "N(0, 1)"][1][0] > 1e6, "tanh should explode downwards"
assert found["relu", "xavier"][0][2] < 1e-6, "relu should lose a factor 2 in each layer"
for how in inits:
    assert 0.05 < found["relu", how][1][0] / found["relu", how][1][2] < 20, "relu layers should fare alike"
for case in (("tanh", "xavier"), ("relu", "kaiming"), ("tanh", "kaiming")):
    up, down = found[case]
    assert all(1e-2 < square < 1e2 for square in up), f"{case}: the signal is not carried up"
    assert 1e-2 < down[0] / down[2] < 1e2, f"{case}: the gradient is not carried down"
