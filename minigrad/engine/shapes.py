"""What a declaration says of an op's arguments: where they may be sampled, and how their shapes agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Domain:
    """Where an argument may be sampled: numbers in [low, high], away from ``kinks`` and, if ``distinct``, from ties."""

    low: float = -2.0
    high: float = 2.0
    kinks: tuple[float, ...] = ()
    distinct: bool = False
    kind: str = "f"  # "f" floats, "i" integers in [low, high], "b" bools


def reals(low: float, high: float, kinks: Sequence[float] = (), distinct: bool = False) -> Domain:
    """Real numbers between two bounds; ``kinks`` are points without a derivative."""
    return Domain(low, high, tuple(kinks), distinct)


def integers(low: int, high: int) -> Domain:
    """Integers from ``low`` to ``high``, both included."""
    return Domain(low, high, kind="i")


def bools() -> Domain:
    """False or True."""
    return Domain(0, 1, kind="b")


@dataclass
class Shapes:
    """Shapes by letters, as in ``"...nk,...km->...nm"``; ``?`` after an operand: it may be None."""

    text: str
    inputs: list[str] = field(init=False)
    output: str = field(init=False)

    def __post_init__(self) -> None:
        left, self.output = self.text.split("->")
        self.inputs = [term.rstrip("?") for term in left.split(",")]

    def check(self, op: str, names: Sequence[str], shapes: Sequence[tuple[int, ...] | None]) -> None:
        """Raise ValueError, naming the op, its operands and the letter that disagrees."""
        sizes: dict[str, tuple[int, str]] = {}
        batches: list[tuple[int, ...]] = []
        for name, term, shape in zip(names, self.inputs, shapes, strict=True):
            if shape is None:
                continue
            letters = term.replace("...", "")
            fixed = len(letters)
            if len(shape) < fixed or (len(shape) > fixed and "..." not in term):
                need = "at least " * ("..." in term) + f"{fixed} ax{'i' if fixed == 1 else 'e'}s ({', '.join(letters)})"
                raise ValueError(f"{op}: {name} needs {need}, got shape {shape}")
            if "..." in term:
                batches.append(shape[: len(shape) - fixed])
            for letter, size in zip(letters, shape[len(shape) - fixed :], strict=True):
                known, where = sizes.setdefault(letter, (size, f"{name} {shape}"))
                if known != size:
                    raise ValueError(f"{op}: {letter} is {known} in {where} but {size} in {name} {shape}")
        try:
            np.broadcast_shapes(*batches)
        except ValueError:
            shown = ", ".join(f"{n} {s}" for n, s in zip(names, shapes, strict=True) if s is not None)
            raise ValueError(f"{op}: the leading axes of {shown} do not broadcast") from None
