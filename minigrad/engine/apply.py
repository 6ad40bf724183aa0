"""What happens when an op is called: it runs, and is recorded if need be; or it writes, and the write is counted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.engine.state import _STATE, PACKAGE, State, current, user_site
from minigrad.engine.tape import Node
from minigrad.engine.tensor import Tensor

if TYPE_CHECKING:
    from minigrad.engine.op import Op

_F32, _F64 = np.dtype(np.float32), np.dtype(np.float64)
_ndarray = np.ndarray
_frame = sys._getframe
_new = Tensor.__new__
_new_node = Node.__new__
_next_seq = State.sequence.__next__
_NUMBERS = (bool, int, float)


def apply(op: Op, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Run an op on tensors, arrays and numbers: a tensor comes out if one went in, and is recorded if need be."""
    state = _STATE.get(None) or current()
    if op.writes:
        return write(op, args, options, state)
    values: list[Any] = []
    parents: list[Any] = []
    tensors = mixed = False
    dtype: Any = None
    mask, bit, constants = 0, 1, 0
    data: Any
    for arg in args:
        if isinstance(arg, Tensor):
            tensors = True
            data = arg._data
            kind = data.dtype
            if (node := arg.node) is None:
                constants += arg.cell[0]
                parents.append(arg)
            else:
                mask |= bit
                parents.append(node)
                if node.op is None:
                    constants += node.cells[0][0]
        else:
            data = arg if arg is None or type(arg) is _ndarray else _convert(op, arg)
            kind = dtype if arg is None else getattr(data, "dtype", None)
            parents.append(data)
        values.append(data)
        if kind is not dtype:
            if kind is _F32 or kind is _F64:
                mixed = mixed or dtype is not None
                dtype = kind
            elif kind is None or kind.kind == "f" or not op.integral & bit:
                mixed = True
        bit += bit
    if op.checks_letters:
        op._check(values)
    kernels = state.kernels
    clean = op.takes_any_shape and not mixed and dtype is not None and kernels != ""
    if clean:
        try:
            run: Any = op.kernel if kernels == "own" else op.blas or op.kernel
            out = run(*values, **options)
        except (ValueError, IndexError, TypeError) as error:
            raise op._explain(error, values) from None
        outs = out if type(out) is tuple else (out if type(out) is _ndarray else np.asarray(out),)
        out = outs[0]
    else:
        outs = op.run(_plain(values, state), options, kernels)
        out = outs[0]
    if not tensors:
        return out
    result = _new(Tensor)
    result._data, result.node, result.cell = out, None, [0]
    if op.view and out.base is not None and isinstance(args[0], Tensor):
        result.cell = args[0].cell
    if mask and state.grad and op.differentiable:
        plan = op._plans.get(mask if not op.sequence else (mask, bit)) or op._plan(parents)
        if plan.residuals and len(outs) <= len(op.residuals):
            values = _with_residuals(op, values, options, outs)
        else:
            values.extend(outs)
        cells = []
        version = 0
        for arg in plan.inputs(args):
            if isinstance(arg, Tensor):
                cells.append(arg.cell)
                version += arg.cell[0]
        if plan.output:
            version += result.cell[0]
            cells.append(result.cell)
        saved = plan.pick(values)
        frame = _frame(2)
        if state.site is not None and frame.f_code.co_filename.startswith(PACKAGE):
            site = state.site
        else:
            site = user_site(frame)
        result.node = node = _new_node(Node)  # written out: a call of __init__ costs a tenth of recording an op
        node.op, node.parents, node.options, node.plan, node.saved = op, parents, options, plan, saved
        node.cells, node.version, node.shape, node.dtype = cells, version, out.shape, out.dtype
        node.site, node.path, node.clean, node.seq = site, state.path, clean, _next_seq()
        if constants:
            node.constants = constants
        if state.record:
            node.value = out.copy()
    if state.observer is not None:
        state.observer.ran(op, args, options, result, outs)
    return result


def _plain(values: list[Any], state: State) -> list[Any]:
    """An observer's own kinds of float, if it looks inside, as floats: to NumPy only these have no dtype."""
    if state.observer is None or not state.observer.looks_inside:
        return values
    return [float(value) if isinstance(value, float) else value for value in values]


def _with_residuals(op: Op, values: list[Any], options: dict[str, Any], outs: tuple[Any, ...]) -> list[Any]:
    """Arguments, output and residuals; those that no kernel gave, by their formulas."""
    found = list(outs)
    known = dict(zip(op.arrays, values, strict=True)) | options
    for rule in list(op.residuals.values())[len(outs) - 1 :]:
        found.append(rule.fn(*[known[name] for name in rule.names]))
    return [*values, *found]


def _convert(op: Op, arg: Any) -> Any:
    """A number as it is; anything else as an array of numbers, or TypeError."""
    if isinstance(arg, np.generic):
        return np.asarray(arg)  # a kernel's bits, as for any array
    if isinstance(arg, _NUMBERS):
        return arg
    try:
        array = np.asarray(arg)
    except (ValueError, TypeError, RuntimeError):
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{op.name}: need tensors, arrays or numbers, got {type(arg).__name__}")
    return array


def write(op: Op, args: tuple[Any, ...], options: dict[str, Any], state: State) -> Any:
    """Run an op that writes some of its arguments in place, and count the writes."""
    values: list[Any] = []
    for arg in args:
        if isinstance(arg, Tensor):
            values.append(arg._data)
        else:
            values.append(arg if arg is None or type(arg) is _ndarray else _convert(op, arg))
    for position in op.written:
        target = args[position]
        if isinstance(target, Tensor):
            if (target.node is not None and target.node.op is not None) or not values[position].flags.writeable:
                raise _unwritable(op, position, target)
        elif target is not None:
            raise _unwritable(op, position, target)
    op.write(_plain(values, state), options, state.kernels)
    for position in op.written:
        target = args[position]
        if target is not None:
            target.cell[0] += 1
    if state.observer is not None:
        state.observer.ran(op, args, options, args[op.written[0]], ())
    return args[op.written[0]]


def _unwritable(op: Op, position: int, target: Any) -> Exception:
    what = f"{op.name}: {op.arrays[position]}"
    if not isinstance(target, Tensor):
        return TypeError(f"{what} is written, so it must be a tensor, not {type(target).__name__}")
    if target.node is not None and target.node.op is not None:
        return RuntimeError(f"{what} was computed by {target.node.op.name}; only leaves and constants can be written")
    return ValueError(f"{what} {target.shape} is read-only memory; copy it with mg.tensor first")
