"""Where an activation is flat, no gradient passes (Dive into Deep Learning §3.15.1, in English §5.4.1.1).

The book plots the sigmoid with its derivative and says that the gradient vanishes where inputs are large, or small.
That is so: the first table has σ′ at a few inputs. What the plot does not show:

- A sigmoid need not be saturated. At its very steepest, at 0, it multiplies a gradient by ¼, and 30 of them in a row by
  4⁻³⁰ = 9e-19. A tanh is a sigmoid that is four times as steep: tanh x = 2 σ(2x) − 1, and its slope at 0 is 1.
- The curve is symmetric, float32 is not. σ(x) comes so close to 1 that the difference from 1 is rounded away, and the
  slope σ (1 − σ) is exactly 0 from x = 17 on; on the other side it is good to −87 and beyond. float16 gives up at 8.
  A loss that takes logits never forms 1 − σ: its gradient, σ − t, is right on both sides.
- Relu does not saturate on one side and has slope exactly 0 on the other. A unit that is negative for all the examples
  gets no gradient, and nothing will ever change that: it is dead, which is worse than slow.

Last, a network of four layers whose weights are 30 times too large, as lab.watch sees it.
"""

import numpy as np

import minigrad as mg
from minigrad import data, init, lab, nn, optim


def slope(function, x, dtype="float64"):
    leaf = mg.tensor(np.array(x, dtype), requires_grad=True)
    function(leaf).backward()
    return leaf.grad.item()


print("x           " + "".join(f"{x:11}" for x in (-20, -8, -2, 0, 2, 8, 20)))
for function in (mg.sigmoid, mg.tanh, mg.relu):
    slopes = [slope(function, x) for x in (-20.0, -8.0, -2.0, 0.0, 2.0, 8.0, 20.0)]
    print(f"{function.name + chr(8242):<12}" + "".join(f"{s:11.2g}" for s in slopes))
assert slope(mg.sigmoid, 0.0) == 0.25, "nowhere is a sigmoid steeper"
assert slope(mg.tanh, 0.0) == 1.0

x = mg.tensor(0.0, "float64", requires_grad=True)
y = x
for _ in range(30):
    y = mg.sigmoid(y)
    y = y - y.detach()  # back to 0, where the next one is steepest
y.backward()
print(f"\nthe gradient through 30 sigmoids, each at its steepest: {x.grad.item():.3g} = 4^-30")
assert x.grad.item() == 4.0**-30

print("\nslope of the sigmoid      x = 5        16        18      -5       -18       -80")
for dtype in ("float64", "float32", "float16"):
    found = [slope(mg.sigmoid, x, dtype) for x in (5.0, 16.0, 18.0, -5.0, -18.0, -80.0)]
    print(f"  {dtype:<18}" + "".join(f"{s:10.2g}" for s in found))
    if dtype == "float32":
        assert found[2] == 0.0 < found[4], "float32 is not symmetric"
wrong = mg.tensor([[30.0]], requires_grad=True)  # far on the wrong side: the target is 0
mg.bce_with_logits(wrong, np.zeros((1, 1), "float32")).backward()
print(f"  a logit of 30 whose target is 0 gets the gradient {wrong.grad.item():g} from bce_with_logits, in float32")
assert slope(mg.sigmoid, 30.0, "float32") == 0.0 < wrong.grad.item(), "the loss should not go through 1 - sigmoid"

digits = data.digits()
print("\nfour layers of 64, weights 30 times Xavier's:")
for activation in (nn.Sigmoid, nn.Tanh):
    layers = [
        part for _ in range(3) for part in (nn.Linear(64, 64, weight_init=init.xavier_normal(30.0)), activation())
    ]
    net = nn.Sequential(*layers, nn.Linear(64, 10)).initialize(seed=0)
    opt = optim.SGD(net.parameters(), lr=0.1)
    with lab.watch(net, report=print) as seen:
        mg.cross_entropy(net(digits.x_train[:64]), digits.y_train[:64]).backward()
        opt.step()
    assert {t.layer for t in seen.troubles if t.kind == "saturated"} == {"1", "3", "5"}, "they should be saturated"
