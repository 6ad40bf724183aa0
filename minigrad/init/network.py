"""An initialization that acts on a whole network, because it must see what the layers put out."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.engine.state import no_grad
from minigrad.engine.tensor import Tensor, tensor
from minigrad.init.laws import Rng
from minigrad.init.rules import draw, fans, orthogonal
from minigrad.ops.update import assign, scale_


def lsuv(net: Any, batch: Any, *, tolerance: float = 0.1, tries: int = 10, rng: Rng | None = None) -> list[float]:
    """Layer-sequential unit variance (Mishkin & Matas 2016): orthogonal weights, scaled by what they put out.

    ``batch`` (n, …) goes through the network. In the order in which the layers run, each weight is divided by the
    standard deviation of its layer's output until that is within ``tolerance`` of 1, at most ``tries`` times; biases
    begin at 0. Returns the deviations that were reached, one for each layer. Raises ValueError for a network without
    weight matrices, and for a layer whose output is constant.

    >>> import numpy as np
    >>> from minigrad import nn
    >>> net = nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 3))
    >>> batch = np.random.default_rng(0).standard_normal((200, 20)).astype("float32")
    >>> [bool(abs(s - 1) < 0.1) for s in lsuv(net, batch, rng=np.random.default_rng(0))]
    [True, True, True]
    """
    rng = np.random.default_rng() if rng is None else rng
    layers = [(name, m) for name, m in net.named_modules() if getattr(getattr(m, "weight", None), "ndim", 0) == 2]
    if not layers:
        raise ValueError("lsuv: the network has no weight matrices")
    for name, layer in layers:
        weight = layer.weight
        assign(weight, draw(orthogonal(), rng, weight.shape, *fans(weight.shape), weight.dtype, name))
        if getattr(layer, "bias", None) is not None:
            assign(layer.bias, 0)
    x = batch if isinstance(batch, Tensor) else tensor(batch)
    reached = []
    for name, layer in layers:
        for turn in range(tries + 1):
            std = _deviation(net, layer, x)
            if not std > 0:
                raise ValueError(f"lsuv: the output of {name} does not vary over the batch")
            if abs(std - 1) < tolerance or turn == tries:
                break
            scale_(layer.weight, 1 / std)
        reached.append(std)
    return reached


def _deviation(net: Any, layer: Any, x: Tensor) -> float:
    """The standard deviation of what a layer puts out while the network runs."""
    found: list[Any] = []
    forward = type(layer).forward

    def watched(*args: Any, **options: Any) -> Any:
        found.append(forward(layer, *args, **options))
        return found[-1]

    vars(layer)["forward"] = watched
    try:
        with no_grad():
            net(x)
    finally:
        del vars(layer)["forward"]
    if not found:
        raise ValueError("lsuv: a layer with a weight does not run")
    return float(np.std(found[0]._data, dtype=np.float64))
