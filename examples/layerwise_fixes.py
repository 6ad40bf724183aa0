"""If layers diverge, can it be mended afterwards? (Dive into Deep Learning §5.4, exercise 4, which names LARS.)

Seven relu layers without biases, of four scales, trained by plain gradient descent and with three remedies:

- LARS (You et al. 2017, without its momentum): each layer takes a step in proportion to the norm of its weights,
  p ← p − η ‖p‖ / ‖ḡ‖ ḡ. Whatever factor a layer's gradient vanished or exploded by is divided out.
- Clipping the norm of all gradients together (Pascanu et al. 2013): it bounds the step, but the layer with the largest
  gradient decides it for all.
- Normalisation: the output of each layer is brought to mean 0 and variance 1 over the batch (Ioffe & Szegedy 2015,
  without their trained scale).

*Unbalanced* is the network with Kaiming's weights, but for factors 2⁸ and 2⁻⁸ in turn. It is the same function, to
the bit; yet its gradients differ by 2¹⁶ from layer to layer, and plain descent breaks it. LARS does not even notice:
weights and gradients of a layer have inverse factors, and its path is that of the balanced network, to the bit again.

So *scales* can be mended by layer afterwards, which is what the exercise is after. It is too simple to stop there:
where all layers are too *small*, or too *large*, it is the signal that is wrong, not the gradients alone. LARS moves
the layers again, but it needs gradients that say where to, and gets nowhere. Normalisation mends the signal; with
large weights it then learns slowly, because the larger the weights, the less a step turns them. The two together work
in every row. And nothing brings back what float32 has rounded to 0.
"""

import numpy as np

import minigrad as mg
from minigrad import data, init, nn, optim

digits = data.digits()
DEPTH, WIDTH, EPOCHS = 6, 32, 6
kaiming = init.kaiming_normal(nonlinearity="relu")
SCALES = {
    "Kaiming": [1.0] * DEPTH,
    "unbalanced": [2.0**8, 2.0**-8] * (DEPTH // 2),
    "too small": [2.0**-3] * DEPTH,
    "too large": [2.0**3] * DEPTH,
}


class Normalise(nn.Module):
    """Mean 0 and variance 1 of each unit over the batch."""

    def forward(self, x):
        mean, variance = mg.mean(x, axis=0, keepdims=True), mg.var(x, axis=0, keepdims=True)
        return (x - mean) / mg.sqrt(variance + 1e-12)


def network(scales, normalise):
    layers = []
    for i in range(DEPTH):
        layers.append(nn.Linear(WIDTH if i else 64, WIDTH, bias=False, weight_init=kaiming))
        layers += [Normalise()] if normalise else []
        layers.append(nn.ReLU())
    net = nn.Sequential(*layers, output=nn.Linear(WIDTH, 10, bias=False)).initialize(seed=0)
    for layer, scale in zip([part for part in net if isinstance(part, nn.Linear)], scales, strict=False):
        layer.weight.data = layer.weight.data * np.float32(scale)
    return net


def lars(params, rate=0.02):
    """The step of LARS, written with ops, so that it can be compiled like any optimizer."""
    for p in params:
        size, slope = mg.norm(p), mg.norm(p.grad)
        local = mg.where(slope > 0, rate * size / mg.where(slope > 0, slope, 1.0), 0.0)
        mg.assign(p, p.detach() - local * p.grad)


def train(scales, remedy):
    net = network(scales, remedy in ("normalised", "both"))
    opt = optim.SGD(net.parameters(), lr=0.05)

    @mg.compile
    def step(x, y):
        loss = mg.cross_entropy(net(x), y)
        net.zero_grad()
        loss.backward()
        if remedy in ("LARS", "both"):
            lars(net.parameters())
        else:
            if remedy == "clipped":
                optim.clip_grad_norm(net.parameters(), 1.0)
            opt.step()
        return loss

    with np.errstate(all="ignore"):
        mg.cross_entropy(net(digits.x_train[:128]), digits.y_train[:128]).backward()
        first = float(np.linalg.norm(net[0].weight.grad.data.astype("float64")))
        step.run(digits.x_train, digits.y_train, batch_size=64, epochs=EPOCHS)
        with mg.no_grad():
            scores = net(digits.x_test).numpy()
    return first, (scores.argmax(axis=1) == digits.y_test).mean(), scores.tobytes()


remedies = ("plain", "clipped", "LARS", "normalised", "both")
print(f"{DEPTH} relu layers of {WIDTH}: held-out accuracy after {EPOCHS} epochs, and the first layer's gradient before")
print(f"{'':<16}" + "".join(f"{name:>16}" for name in remedies))
found = {}
for name, scales in SCALES.items():
    found |= {(name, remedy): train(scales, remedy) for remedy in remedies}
    print(f"  {name:<14}" + "".join(f"{found[name, r][1]:9.1%}{found[name, r][0]:7.0e}" for r in remedies))

assert found["unbalanced", "plain"][1] < 0.2 < 0.5 < found["Kaiming", "plain"][1], "plain descent should break"
assert found["unbalanced", "LARS"][2] == found["Kaiming", "LARS"][2], "LARS should not notice a power of two"
assert all(found[name, r][1] < 0.3 for name in ("too small", "too large") for r in ("plain", "clipped", "LARS"))
assert all(found[name, "both"][1] > 0.8 for name in SCALES), "the two together should work"
