"""Nodes own their parents; a tape is the ordered list of the nodes behind a result."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.engine.listing import listing
from minigrad.engine.state import State, current, line_of

if TYPE_CHECKING:
    from minigrad.engine.op import Op, Plan
    from minigrad.engine.tensor import Tensor


class Node:
    """One op that happened, or a leaf (``op`` is None).

    ``parents`` holds, for each array argument, its node, or the constant itself. Never the output tensor: a graph has
    no cycles, and dies by reference count with the last tensor that needs it.
    """

    __slots__ = (
        "__dict__",  # what few nodes have
        "__weakref__",
        "cells",  # write counters of the memory that is saved
        "clean",  # whether the kernel ran on the arguments as they were, so that the rules' kernels can
        "dtype",
        "op",
        "options",
        "parents",
        "path",  # dotted path of the module that ran
        "plan",  # which rules backward runs, and where their arguments are
        "saved",  # the arrays that the rules name; None once backward has dropped them
        "seq",
        "shape",
        "site",  # (code object, instruction offset) of the user's line
        "version",  # sum of the cells, when the op ran
    )
    grad: Tensor | None = None  # the gradient, for leaves and kept nodes
    keep = False  # whether backward leaves a gradient here
    name = ""
    checksums: list[int] | None = None  # of what was saved, if somebody checks it
    constants = 0  # sum of the write counters of constants and leaves among the parents, when the op ran
    value: np.ndarray[Any, Any] | None = None  # a leaf's array; any node's under record()

    op: Op | None
    parents: Sequence[Any]
    options: dict[str, Any]
    plan: Plan | None
    saved: Sequence[Any] | None
    cells: Sequence[list[int]]
    version: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    site: tuple[CodeType, int] | str | None
    path: str
    clean: bool
    seq: int

    @classmethod
    def leaf(cls, array: np.ndarray[Any, Any], cell: list[int]) -> Node:
        """A node for a tensor that no op made; ``apply`` makes the others."""
        node = cls()
        node.op, node.parents, node.options, node.plan, node.saved = None, (), {}, None, ()
        node.cells, node.version, node.shape, node.dtype = (cell,), cell[0], array.shape, array.dtype
        node.site, node.path, node.clean, node.seq = None, "", False, next(State.sequence)
        node.value = array
        return node

    @property
    def written(self) -> bool:
        """Whether the library has written to memory that this node saved."""
        return sum([cell[0] for cell in self.cells]) != self.version

    @property
    def outdated(self) -> bool:
        """Whether the library has written to a leaf or constant since this op used it."""
        now = 0
        for p in self.parents:
            if type(p) is Node:
                now += p.cells[0][0] if p.op is None else 0
            elif hasattr(p, "cell"):
                now += p.cell[0]
        return now != self.constants

    @property
    def where(self) -> str:
        """The user's ``file:line``, or an empty text."""
        return line_of(self.site)

    def __repr__(self) -> str:
        return f"<node {self.seq}: {self.op.name if self.op else self.name or 'leaf'} {self.shape}>"


class Tape:
    """The Wengert list of a result: its nodes in the order in which they happened, leaves included. Immutable.

    >>> import minigrad as mg
    >>> x = mg.tensor(2.0, requires_grad=True, name="x")
    >>> [node.op.name for node in mg.Tape.of(mg.tanh(x * x)) if node.op]
    ['mul', 'tanh']
    """

    __slots__ = ("cotangents", "nodes")

    def __init__(self, nodes: tuple[Node, ...], cotangents: Mapping[Node, np.ndarray[Any, Any]] | None = None) -> None:
        self.nodes = nodes
        self.cotangents: Mapping[Node, np.ndarray[Any, Any]] = cotangents or MappingProxyType({})

    @classmethod
    def of(cls, result: Tensor) -> Tape:
        """The tape behind a tensor. Raises RuntimeError if nothing was recorded for it."""
        if result.node is None:
            raise RuntimeError("this tensor has no tape: it does not depend on a tensor that requires a gradient")
        return cls.behind(result.node)

    @classmethod
    def behind(cls, *roots: Node) -> Tape:
        seen = set(roots)
        nodes = list(seen)
        for node in nodes:  # grows while it is walked
            for parent in node.parents:
                if type(parent) is Node and parent not in seen:
                    seen.add(parent)
                    nodes.append(parent)
        nodes.sort(key=operator.attrgetter("seq"))
        return cls(tuple(nodes))

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, index: int) -> Node:
        return self.nodes[index]

    def values(self) -> dict[Node, np.ndarray[Any, Any]]:
        """Every node's value, replayed from the leaves with the same kernels, so with the same bits.

        Raises RuntimeError if a leaf or constant was written since; where ``with mg.record():`` kept the values of
        all that used it, the written leaf alone is missing.
        """
        lost = {
            p for n in self.nodes if n.outdated for p in n.parents if type(p) is Node and p.op is None and p.written
        }
        values: dict[Node, np.ndarray[Any, Any]] = {}
        for node in self.nodes:
            if node in lost:
                continue
            if node.value is not None:
                values[node] = node.value
                continue
            inputs = [values.get(p) if type(p) is Node else getattr(p, "_data", p) for p in self.inputs(node)]
            assert node.op is not None
            values[node] = node.op.run(inputs, node.options, current().kernels)[0]
        return values

    def inputs(self, node: Node) -> Sequence[Any]:
        """An op's inputs: nodes, and constants. Raises RuntimeError if a leaf or constant was written since its use."""
        if node.outdated:
            what = node.name or (node.op.name if node.op else "a leaf")
            raise RuntimeError(
                f"{what} {node.shape}: a leaf or constant was written after it was used, so its old value is lost: "
                "compute the result inside `with mg.record():` to keep values"
            )
        return node.parents

    def backward(self, gradient: Any = None) -> Tape:
        """This tape with the cotangents of its last line, ``gradient`` (1 for one element), in ``cotangents``.

        The tape is run again for it: also after a backward that has freed it, and ``.grad`` is not touched.
        Raises RuntimeError if a leaf or constant was written since; ValueError as ``Tensor.backward``.

        >>> import minigrad as mg
        >>> x = mg.tensor(3.0, requires_grad=True, name="x")
        >>> tape = mg.Tape.of(x * x).backward()
        >>> tape.cotangents[x.node].item(), x.grad
        (6.0, None)
        """
        from minigrad.engine.archive import cotangents  # it runs ops, which stand on tapes

        return Tape(self.nodes, MappingProxyType(cotangents(self, gradient)))

    def to_json(self) -> str:
        """Everything needed to run this tape again: ops, options, constants, leaves; arrays as little-endian base64.

        Raises RuntimeError if a leaf or constant was written since, TypeError for an option that JSON cannot hold.
        """
        from minigrad.engine.archive import dump

        return dump(self)

    @classmethod
    def from_json(cls, text: str) -> Tape:
        """Run the tape that :meth:`to_json` wrote: in the same mode (kernels or formulas), with the same bits.

        Raises ValueError for another text, or an op that is not declared.

        >>> import minigrad as mg
        >>> tape = mg.Tape.of(mg.tanh(mg.tensor(0.5, requires_grad=True)))
        >>> twin = mg.Tape.from_json(tape.to_json())
        >>> [a.tobytes() == b.tobytes() for a, b in zip(tape.values().values(), twin.values().values())]
        [True, True]
        """
        from minigrad.engine.archive import load

        return load(text)

    def __str__(self) -> str:
        return listing(self)

    def svg(self) -> str:
        """The tape as a picture: a line for each op, as in the text, and an arc from each operand to its result.

        After ``tape.backward()`` also the norm of each cotangent. A notebook shows a tape so.

        >>> import minigrad as mg
        >>> picture = mg.Tape.of(mg.tanh(mg.tensor(0.5, requires_grad=True))).svg()
        >>> picture[:4], "y = tanh x" in picture
        ('<svg', True)
        """
        from minigrad.engine.picture import picture  # few need it

        return picture(self)

    _repr_svg_ = svg
