"""The tensor: an array, and the node that made it."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.engine.methods import Methods
from minigrad.engine.state import _STATE, State
from minigrad.engine.tape import Node

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def native(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array with NumPy's own dtype object, which the engine knows by identity: an unpickled array has a copy."""
    for dtype in _FLOATS:
        if array.dtype is not dtype and array.dtype == dtype:
            return array.view(dtype)
    return array


class Tensor(Methods):
    """An array with the node of the tape that it came from.

    ``node`` is None for a constant; a leaf (made by ``mg.tensor(…, requires_grad=True)``) has a node without an op,
    and that node holds its gradient. ``cell`` counts the writes to the memory, and is shared by all its views.
    Arithmetic and methods are the ops: each op attaches its own when it is declared.
    """

    __slots__ = ("__weakref__", "_data", "cell", "node")
    __array_ufunc__ = None  # ndarray + Tensor defers to Tensor
    __hash__ = object.__hash__

    def __init__(self, data: np.ndarray[Any, Any], node: Node | None = None, cell: list[int] | None = None) -> None:
        self._data = data
        self.node = node
        self.cell = [0] if cell is None else cell

    @property
    def data(self) -> np.ndarray[Any, Any]:
        """The array itself, not a copy. Writing to it is not seen by the tape; use ops or optimizers for that."""
        return self._read()

    @data.setter
    def data(self, array: np.ndarray[Any, Any]) -> None:
        if self.node is not None and self.node.op is not None:
            raise RuntimeError(f"data: this tensor was computed by {self.node.op.name}; only a leaf can be rebound")
        if not isinstance(array, np.ndarray):
            raise TypeError(f"data: need an ndarray, got {type(array).__name__}")
        State.changes[0] += 1
        requires_grad = self.node is not None
        self._data, self.node, self.cell = native(array), None, [self.cell[0] + 1]
        if requires_grad:
            self.requires_grad_()

    def _read(self) -> np.ndarray[Any, Any]:
        """The array, for someone who may look at its values: an observer is told."""
        state = _STATE.get(None)
        if state is not None and state.observer is not None:
            state.observer.reads(self)
        return self._data

    def numpy(self) -> np.ndarray[Any, Any]:
        """The array itself, for a tensor that needs no gradient (else: ``t.detach().numpy()``)."""
        return self.__array__()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if self.node is not None:
            raise RuntimeError(
                "this tensor requires a gradient, which NumPy would lose: use t.detach().numpy() or t.data"
            )
        return np.array(self._read(), dtype, copy=copy)

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self._data.shape
        return shape

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self._data.dtype
        return dtype

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    @property
    def requires_grad(self) -> bool:
        return self.node is not None

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Turn this leaf's gradient on or off, and return the leaf. Raises TypeError for integers and bools."""
        if self.node is not None and self.node.op is not None:
            raise RuntimeError(f"requires_grad_: this tensor was computed by {self.node.op.name}; use detach()")
        if not requires_grad:
            self.node = None
        elif self.node is None:
            if self._data.dtype.kind != "f":
                raise TypeError(
                    f"a tensor of dtype {self._data.dtype} cannot require a gradient: only floating-point numbers have "
                    "one; convert it first, for example with astype('float32')"
                )
            self.node = Node.leaf(self._data, self.cell)
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded op computed this tensor."""
        return self.node is None or self.node.op is None

    @property
    def name(self) -> str:
        return self.node.name if self.node is not None else ""

    @name.setter
    def name(self, name: str) -> None:
        if self.node is None:
            raise RuntimeError("name: only a tensor that is on a tape (requires_grad) has a name")
        self.node.name = name

    @property
    def grad(self) -> Tensor | None:
        """The gradient accumulated by backward (a constant tensor of this shape and dtype), or None."""
        if self.node is None:
            return None
        state = _STATE.get(None)
        if state is not None and state.observer is not None:
            state.observer.gradient(self.node, write=False)
        return self.node.grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if self.node is None:
            if value is None:
                return
            raise RuntimeError("grad: this tensor does not require a gradient")
        if value is not None and (value.shape != self.shape or value.dtype != self.dtype):
            raise ValueError(f"grad: need {self.dtype} {self.shape}, got {value.dtype} {value.shape}")
        state = _STATE.get(None)
        if state is not None and state.observer is not None:
            state.observer.gradient(self.node, write=True)
        self.node.grad = value

    def retain_grad(self) -> None:
        """Have backward leave the gradient of this computed tensor in ``.grad``, as it does for leaves."""
        if self.node is None:
            raise RuntimeError("retain_grad: this tensor does not require a gradient")
        self.node.keep = True

    def detach(self) -> Tensor:
        """A constant that shares this tensor's memory."""
        return Tensor(self._data, None, self.cell)

    def item(self) -> Any:
        """The only element, as a Python number. Raises ValueError if there are more."""
        if self._data.size != 1:
            raise ValueError(f"item: need one element, got shape {self.shape}")
        return self._read().item()

    def tolist(self) -> Any:
        return self._read().tolist()

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise ValueError(
                f"the truth of a tensor of shape {self.shape} is ambiguous: use (t != 0).any() or compare one element"
            )
        return bool(self._read().item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self._data.dtype.kind not in "iu":
            raise TypeError(f"a tensor of dtype {self.dtype} is no index")
        return int(self.item())

    def __len__(self) -> int:
        if not self._data.ndim:
            raise TypeError("a tensor without axes has no length")
        return len(self._data)

    def __repr__(self) -> str:
        text = np.array2string(self._data, separator=", ", prefix="tensor(")
        extras = "" if self._data.dtype == np.float32 else f", dtype={self._data.dtype}"
        if self.node is not None:
            extras += ", requires_grad=True" if self.node.op is None else f", op={self.node.op.name}"
        return f"tensor({text}{extras})"


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, name: str = "") -> Tensor:
    """A new leaf tensor with a copy of ``data``.

    Python numbers, and lists of them, become float32 (bools stay bool); arrays and tensors keep their dtype;
    ``dtype`` overrides both. Raises TypeError for what is no array of numbers, and for a gradient asked of integers.

    >>> import minigrad as mg
    >>> mg.tensor([[1.0, 2.0]], requires_grad=True)
    tensor([[1., 2.]], requires_grad=True)
    """
    if isinstance(data, Tensor):
        data = data._read()
    try:
        array = native(np.array(data, dtype))
    except ValueError as error:
        raise ValueError(f"tensor: {error}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"tensor: need numbers, got {array.dtype} from {type(data).__name__}")
    if dtype is None and not isinstance(data, np.ndarray | np.generic) and array.dtype.kind != "b":
        array = array.astype(np.float32)
    result = Tensor(array)
    if requires_grad:
        result.requires_grad_()
    if name:
        result.name = name
    return result


def from_numpy(array: np.ndarray[Any, Any], requires_grad: bool = False) -> Tensor:
    """A leaf tensor that shares the memory of ``array``.

    >>> import numpy as np, minigrad as mg
    >>> a = np.zeros(2)
    >>> t = mg.from_numpy(a)
    >>> a[0] = 1.0
    >>> t
    tensor([1., 0.], dtype=float64)
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: need an ndarray, got {type(array).__name__}; use mg.tensor to convert")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"from_numpy: need numbers, got dtype {array.dtype}")
    result = Tensor(native(np.asarray(array)))
    return result.requires_grad_() if requires_grad else result
