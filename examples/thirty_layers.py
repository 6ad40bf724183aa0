"""Thirty layers of one unit each: products that vanish and explode (Dive into Deep Learning §3.15.1).

With one weight w in every layer, no bias and no activation, the output for the input 1 is w³⁰: 1.07e-21 for w = 0.2
and 9.31e20 for w = 5. The gradient of each weight is the product of the other 29, that is the output divided by w:
training would either not move these weights at all, or throw them away in one step.

That is mathematics; the number format has its own limits, and finds them earlier. The first table has the output and
all 30 gradients in three dtypes: float16 has lost everything long before layer 30. The second says how deep the chain
can be before the output is exactly 0, or infinite. One layer more, and all its gradients are, too.
"""

import math

import numpy as np

import minigrad as mg
from minigrad import nn


def chain(weight, depth, dtype):
    """The output of ``depth`` one-unit layers for the input 1, and the gradients of all their weights."""
    layers = [nn.Linear(1, 1, bias=False, weight_init=weight, dtype=dtype) for _ in range(depth)]
    net = nn.Sequential(*layers)
    with np.errstate(over="ignore"):  # overflow is what we came to see
        y = net(mg.tensor([[1.0]], dtype))
        y.backward()
    return y.item(), [layer.weight.grad.item() for layer in layers]


def limit(weight, dtype):
    """The first depth whose output is 0 or inf, by bisection."""
    low, high = 1, 512
    while high - low > 1:
        middle = (low + high) // 2
        lost = chain(weight, middle, dtype)[0] in (0.0, math.inf)
        low, high = (low, middle) if lost else (middle, high)
    return high


dtypes = ("float16", "float32", "float64")
print("weight   dtype          output       the 30 gradients: from ... to      output / weight")
for weight in (0.2, 5.0):
    for dtype in dtypes:
        y, gradients = chain(weight, 30, dtype)
        low, high = min(gradients), max(gradients)
        print(f"{weight:6}   {dtype}   {y:15.9g}   {low:15.9g} ... {high:<15.9g} {y / weight:15.9g}")
        if dtype == "float16":
            assert {y, *gradients} == {0.0 if weight < 1 else math.inf}, "float16 holds such numbers after all"
        else:
            np.testing.assert_allclose(y, weight**30, rtol=40 * np.finfo(dtype).eps)
            np.testing.assert_allclose(gradients, y / weight, rtol=40 * np.finfo(dtype).eps)
    assert f"{y:.3g}" == ("1.07e-21" if weight < 1 else "9.31e+20"), "the book has other numbers"

print("\nlayers until the output is       float16   float32   float64")
for weight, what, expected in ((0.2, "0", [11, 65, 463]), (5.0, "inf", [7, 56, 442])):
    depths = [limit(weight, dtype) for dtype in dtypes]
    print(f"  {what:<3} with the weight {weight}   " + "".join(f"{depth:10}" for depth in depths))
    for dtype, depth in zip(dtypes, depths, strict=True):
        assert chain(weight, depth - 1, dtype)[0] not in (0.0, math.inf), "lost a layer earlier"
        assert set(chain(weight, depth + 1, dtype)[1]) == {0.0 if weight < 1 else math.inf}, "a gradient survived"
    assert depths == expected
