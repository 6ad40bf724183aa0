"""Derivatives as functions of functions: each is a walk, or a walk over a walk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.engine.backward import cotangents, identity
from minigrad.engine.op import REGISTRY
from minigrad.engine.state import mode
from minigrad.engine.tensor import Tensor, tensor

Function = Callable[..., Any]


def _inputs(args: Sequence[Any], positions: Sequence[int], what: str) -> tuple[list[Any], list[Tensor], bool]:
    """The arguments with those at ``positions`` watched; the watched ones; whether someone differentiates us."""
    arguments = list(args)
    graph = False
    for position in positions:
        if not -len(args) <= position < len(args):
            raise ValueError(f"{what}: argnums names argument {position}, but there are {len(args)}")
        arg = arguments[position]
        source = arg if isinstance(arg, Tensor) else tensor(arg)
        if source.dtype.kind != "f":
            raise TypeError(
                f"{what}: argument {position} has dtype {source.dtype}; only floating-point numbers have a gradient"
            )
        graph = graph or source.requires_grad
        arguments[position] = identity(source) if source.requires_grad else Tensor(source._data).requires_grad_()
    return arguments, [arguments[position] for position in positions], graph


def _output(out: Any, what: str) -> Tensor:
    if isinstance(out, Tensor):
        return out
    raise TypeError(f"{what}: the function must return a tensor, got {type(out).__name__}")


def _pull(out: Tensor, g: Any, inputs: Sequence[Tensor], graph: bool, retain: bool = False) -> list[Tensor]:
    """The cotangents of the inputs, zero where the output does not depend on them."""
    nodes = {x.node for x in inputs if x.node is not None}
    with mode(grad=graph):
        found = {} if out.node is None else cotangents(out.node, g, nodes, graph, retain or graph)
    results = []
    for x in inputs:
        value = None if x.node is None else found.get(x.node)
        value = np.zeros(x.shape, x.dtype) if value is None else value
        results.append(value if isinstance(value, Tensor) else Tensor(value))
    return results


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0, *, create_graph: bool | None = None) -> Function:
    """A function that returns (f(*args), gradient): f must return one number; see :func:`grad`.

    >>> import minigrad as mg
    >>> mg.value_and_grad(lambda x: x * x)(3.0)
    (tensor(9.), tensor(6.))
    """
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def wrapped(*args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
        with mode(grad=True):
            arguments, inputs, outer = _inputs(args, positions, "grad")
            out = _output(f(*arguments, **kwargs), "grad")
        if out.size != 1:
            raise ValueError(
                f"grad: the function must return one number, got shape {out.shape}; use jacobian, or sum it"
            )
        graph = outer if create_graph is None else create_graph
        gradients = _pull(out, np.ones(out.shape, out.dtype), inputs, graph)
        value = out if graph else out.detach()
        return value, gradients[0] if isinstance(argnums, int) else tuple(gradients)

    return wrapped


def grad(f: Function, argnums: int | Sequence[int] = 0, *, create_graph: bool | None = None) -> Function:
    """A function that returns the gradient of f with respect to the arguments at ``argnums``.

    Arguments may be tensors, arrays or numbers; an int argnums gives a tensor, a sequence a tuple. ``.grad`` is never
    touched. The gradient is itself differentiable where an argument requires a gradient (as in ``grad(grad(f))``), or
    always with create_graph=True.
    Raises TypeError for integer arguments, ValueError if f does not return one number.

    >>> import minigrad as mg
    >>> mg.grad(mg.grad(lambda x: x * x * x))(2.0)
    tensor(12.)
    """
    both = value_and_grad(f, argnums, create_graph=create_graph)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return wrapped


def vjp(f: Function, *primals: Any) -> tuple[Tensor, Callable[[Any], tuple[Tensor, ...]]]:
    """(f(*primals), pullback), where pullback(ȳ) gives the cotangent of each primal, and may be called again.

    >>> import minigrad as mg
    >>> y, pullback = mg.vjp(mg.tanh, mg.tensor([0.0, 0.0]))
    >>> pullback([1.0, 2.0])
    (tensor([1., 2.]),)
    """
    with mode(grad=True):
        arguments, inputs, graph = _inputs(primals, range(len(primals)), "vjp")
        out = _output(f(*arguments), "vjp")

    def pullback(g: Any) -> tuple[Tensor, ...]:
        seed = g if isinstance(g, Tensor) else Tensor(np.asarray(g, out.dtype))
        if seed.shape != out.shape:
            raise ValueError(f"vjp: the cotangent has shape {seed.shape}, the output {out.shape}: they must be equal")
        return tuple(_pull(out, seed, inputs, graph or seed.requires_grad, retain=True))

    return (out if graph else out.detach()), pullback


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """(f(*primals), its directional derivative along the tangents): the vjp of the vjp.

    >>> import minigrad as mg
    >>> mg.jvp(lambda x: x * x, (3.0,), (1.0,))
    (tensor(9.), tensor(6.))
    """
    if len(primals) != len(tangents):
        raise ValueError(f"jvp: {len(primals)} primals but {len(tangents)} tangents")
    with mode(grad=True):
        arguments, inputs, graph = _inputs(primals, range(len(primals)), "jvp")
        out = _output(f(*arguments), "jvp")
        # u ↦ Jᵀu is linear, so its own vjp, taken anywhere, is v ↦ Jv.
        u = Tensor(np.zeros(out.shape, out.dtype)).requires_grad_()
        pulled = _pull(out, u, inputs, True)
        total = None
        for x, cotangent, tangent in zip(inputs, pulled, tangents, strict=True):
            v = tangent if isinstance(tangent, Tensor) else Tensor(np.asarray(tangent, x.dtype))
            graph = graph or v.requires_grad
            if v.shape != x.shape:
                raise ValueError(f"jvp: a tangent has shape {v.shape}, its primal {x.shape}: they must be equal")
            term = REGISTRY["sum"](cotangent * v)
            total = term if total is None else total + term
    assert total is not None
    (tangent_out,) = _pull(total, np.ones((), total.dtype), [u], graph)
    return (out if graph else out.detach()), tangent_out


def jacobian(f: Function, argnums: int = 0) -> Function:
    """A function that returns the Jacobian of f, of shape ``(*output.shape, *input.shape)``, row by row.

    >>> import minigrad as mg
    >>> mg.jacobian(lambda x: x * x)(mg.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    def wrapped(*args: Any, **kwargs: Any) -> Tensor:
        with mode(grad=True):
            arguments, inputs, graph = _inputs(args, (argnums,), "jacobian")
            out = _output(f(*arguments, **kwargs), "jacobian")
            (x,) = inputs
            rows = []
            for i in range(out.size):
                seed = np.zeros(out.shape, out.dtype)
                seed.reshape(-1)[i] = 1
                rows += _pull(out, seed, [x], graph, retain=True)
        shape = (*out.shape, *x.shape)
        if not rows:
            return Tensor(np.zeros(shape, x.dtype))
        with mode(grad=graph):
            stacked: Tensor = REGISTRY["reshape"](REGISTRY["stack"](rows), shape)
            return stacked

    return wrapped


def hessian(f: Function, argnums: int = 0) -> Function:
    """A function that returns the matrix of second derivatives of f, of shape ``(*input.shape, *input.shape)``.

    >>> import minigrad as mg
    >>> mg.hessian(lambda x: (x * x * x).sum())(mg.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacobian(grad(f, argnums, create_graph=True), argnums)


def hvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Tensor, ...]:
    """The Hessian of f times a vector, without forming the Hessian: the gradient of ⟨∇f, v⟩, one for each primal.

    >>> import minigrad as mg
    >>> mg.hvp(lambda x: (x * x * x).sum(), (mg.tensor([1.0, 2.0]),), ([1.0, 1.0],))
    (tensor([ 6., 12.]),)
    """
    if len(primals) != len(tangents):
        raise ValueError(f"hvp: {len(primals)} primals but {len(tangents)} tangents")
    positions = tuple(range(len(primals)))

    def directional(*args: Any) -> Any:
        gradients = grad(f, positions, create_graph=True)(*args)
        total = None
        for gradient, tangent in zip(gradients, tangents, strict=True):
            v = tangent if isinstance(tangent, Tensor) else Tensor(np.asarray(tangent, gradient.dtype))
            if v.shape != gradient.shape:
                raise ValueError(f"hvp: a tangent has shape {v.shape}, its primal {gradient.shape}: they must be equal")
            term = REGISTRY["sum"](gradient * v)
            total = term if total is None else total + term
        return total

    result: tuple[Tensor, ...] = grad(directional, positions)(*primals)
    return result
