"""Activations as modules: each calls the op of its name."""

from __future__ import annotations

from typing import Any

from minigrad.nn.module import Module
from minigrad.ops import activation, reduction


class Tanh(Module):
    """y = tanh x."""

    def forward(self, x: Any) -> Any:
        return activation.tanh(x)


class Sigmoid(Module):
    """y = 1 / (1 + e⁻ˣ)."""

    def forward(self, x: Any) -> Any:
        return activation.sigmoid(x)


class ReLU(Module):
    """y = max(x, 0)."""

    def forward(self, x: Any) -> Any:
        return activation.relu(x)


class LeakyReLU(Module):
    """y = x if x > 0 else slope x."""

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = slope

    def forward(self, x: Any) -> Any:
        return activation.leaky_relu(x, self.slope)


class ELU(Module):
    """y = x if x > 0 else alpha (eˣ − 1)."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: Any) -> Any:
        return activation.elu(x, self.alpha)


class SELU(Module):
    """The ELU that keeps mean 0 and variance 1 (Klambauer et al. 2017)."""

    def forward(self, x: Any) -> Any:
        return activation.selu(x)


class GELU(Module):
    """y = x Φ(x), exact ("none") or by tanh ("tanh")."""

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU: approximate must be 'none' or 'tanh', got {approximate!r}")
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        return activation.gelu(x, self.approximate)


class SiLU(Module):
    """y = x / (1 + e⁻ˣ)."""

    def forward(self, x: Any) -> Any:
        return activation.silu(x)


class Softplus(Module):
    """y = log(1 + eˣ)."""

    def forward(self, x: Any) -> Any:
        return activation.softplus(x)


class Softmax(Module):
    """y = eˣ / Σ eˣ along ``axis``."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        return reduction.softmax(x, self.axis)


class LogSoftmax(Module):
    """y = x − log Σ eˣ along ``axis``."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        return reduction.log_softmax(x, self.axis)
