"""Two ways to begin: PyTorch's default, and Xavier (Dive into Deep Learning §3.15.2.1 and §3.15.2.2, English §5.4.2).

**The default** of a linear layer is U(±1/√fan_in), for weights and biases. The book says that it is usually good
enough. Its variance is 1/(3 fan_in), a third of what preserves a linear signal and a sixth of what relu needs. A few
layers do not mind. In thirty, the signal is gone; and with the biases drawn as well, it is worse than gone: moments
look healthy, because the biases keep them up, but hardly anything of them depends on the input any more. Look at
*varying* below, not at *forward*, and read the verdict.

**Xavier** asks for fan_in σ² = 1 on the way up and fan_out σ² = 1 on the way down, and takes the middle:
σ² = 2 / (fan_in + fan_out). The book derives it and adds that the variance of outputs is not affected by the number of
inputs, nor that of gradients by the number of outputs. For equal fans that is so. For others neither is: the ratios
are 2 fan_in / (fan_in + fan_out) and 2 fan_out / (fan_in + fan_out), as measured below. It is a compromise, as its
authors say.

The derivation assumes no nonlinearity. Exact is that the shape of the distribution plays no role: uniform and normal
weights do the same. But relu halves the mean square, and a sigmoid, whose slope is at most ¼ and whose mean is ½, is
as far from linear as that.
"""

import math

import numpy as np

import minigrad as mg
from minigrad import init, lab, nn

rng = np.random.default_rng(0)
law = init.default().law((256, 64), 64, 256)
print(f"PyTorch's default for 64 inputs: U{law.support}, variance {law.variance:.6f} = 1 / {1 / law.variance:.0f}")
assert math.isclose(law.variance, 1 / (3 * 64))

print("\nrelu, width 128, log10 gain of 30 layers       up    theory      down    theory")
cells = {
    "default, no bias": ("default", 0.0),
    "default, with bias": ("default", "default"),
    "Kaiming": ("kaiming_normal", 0.0),
}
found = {}
for name, (weights, biases) in cells.items():
    found[name] = r = lab.propagate(activation="relu", weight_init=weights, bias_init=biases, seeds=3, width=128)
    gains = r.forward_gain, r.forward_predicted, r.backward_gain, r.backward_predicted
    print(f"  {name:<38}" + "".join(f"{gain:10.2f}" for gain in gains))
layer = found["default, with bias"].layers[19]
print(f"\n  with bias, layer 20: forward {layer.forward:.1e}, of it varying with the input {layer.varying:.1e}")
print(f"  {found['default, with bias'].verdict}"[:100])
assert found["default, no bias"].forward_gain < -20, "a sixth in each layer"
assert layer.forward > 1e-3 > 1e-14 > layer.varying, "it looks healthy, and says nothing"
assert abs(found["Kaiming"].forward_gain) < 1, "Kaiming should keep it"

print("\nXavier, one linear layer       up    2 in/(in+out)        down    2 out/(in+out)")
for fan_in, fan_out in ((256, 256), (1024, 64), (64, 1024)):
    for name, rule in {"uniform": init.xavier_uniform(), "normal": init.xavier_normal()}.items():
        linear = nn.Linear(fan_in, fan_out, bias=False, weight_init=rule, dtype="float64")
        nn.Sequential(linear).initialize(seed=0)
        x = mg.tensor(rng.standard_normal((500, fan_in)), requires_grad=True)
        y = linear(x)
        g = rng.standard_normal(y.shape)
        y.backward(g)
        up, down = np.mean(y.data**2) / np.mean(x.data**2), np.mean(x.grad.data**2) / np.mean(g**2)
        theory = 2 * fan_in / (fan_in + fan_out), 2 * fan_out / (fan_in + fan_out)
        what = f"{fan_in} -> {fan_out} {name}"
        print(f"  {what:<22} {up:10.3f} {theory[0]:14.3f} {down:13.3f} {theory[1]:15.3f}")
        np.testing.assert_allclose((up, down), theory, rtol=0.05)

print("\nXavier, 30 layers of 128: log10 gain          up    theory      down    theory")
for activation, least, most in (("linear", -1, 1), ("tanh", -2, 0), ("relu", -10, -8), ("sigmoid", -2, 1)):
    r = lab.propagate(activation=activation, weight_init="xavier_normal", seeds=3, width=128)
    gains = r.forward_gain, r.forward_predicted, r.backward_gain, r.backward_predicted
    print(f"  {activation:<33}" + " " * 2 + "".join(f"{gain:10.2f}" for gain in gains))
    assert least < r.forward_gain < most, f"{activation}: {r.forward_gain}"
    assert (r.backward_gain < -30) == (activation == "sigmoid"), "a sigmoid, and it alone, loses the gradient"
