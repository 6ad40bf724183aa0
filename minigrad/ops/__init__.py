"""Floor 2: the ops, each one block: formula text, forward formula, a rule for each argument."""

from minigrad.ops import activation, arithmetic, linalg, loss, reduction, shape, update

__all__ = ["activation", "arithmetic", "linalg", "loss", "reduction", "shape", "update"]
