"""A tape that is run again: from what its leaves hold now, or from JSON, which holds all that is needed.

Both call the ops of the tape on its leaves with the same kernels, so every value has the same bits.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.engine.apply import apply
from minigrad.engine.backward import Formula, Step, steps
from minigrad.engine.op import REGISTRY, Op
from minigrad.engine.state import mode
from minigrad.engine.tape import Node, Tape
from minigrad.engine.tensor import Tensor

FORMAT = 1


def again(tape: Tape) -> Tape:
    """The same tape on nodes of its own, with everything saved. Raises RuntimeError if a leaf was written since."""
    found: dict[Node, Tensor] = {}
    for node in tape.nodes:
        if node.op is None:
            found[node] = _leaf(node.value, node)
        else:
            inputs = [found[p] if type(p) is Node else p for p in tape.inputs(node)]
            found[node] = _run(node.op, inputs, node.options, node)
    return Tape(tuple(_node(t) for t in found.values()))


def walk(tape: Tape, gradient: Any = None) -> list[Step]:
    """The steps of backward along a copy of this tape, told of its own nodes; ``.grad`` is not touched."""
    copy = again(tape)
    own = dict(zip(copy.nodes, tape.nodes, strict=True))
    root = Tensor(np.empty(copy[-1].shape, copy[-1].dtype), copy[-1])
    with mode(observer=None):
        return [Step(own[node], g, [(own[p], new) for p, new in sent]) for node, g, sent in steps(root, gradient)]


def cotangents(tape: Tape, gradient: Any = None) -> dict[Node, np.ndarray[Any, Any]]:
    """The cotangent of every node between the last one and the leaves, in the order of the tape."""
    walked = {step.node: step.cotangent for step in walk(tape, gradient)}
    return {node: np.array(walked[node]) for node in tape.nodes if node in walked}


def _run(op: Op, inputs: Sequence[Any], options: dict[str, Any], like: Any) -> Tensor:
    with mode(grad=True, observer=None, path=like.path):
        result: Tensor = apply(op, tuple(inputs), options)
    _node(result).site, _node(result).name = like.site, like.name
    return result


def _leaf(array: Any, like: Any) -> Tensor:
    result = Tensor(array).requires_grad_()
    result.name, _node(result).path = like.name, like.path
    return result


def _node(t: Tensor) -> Node:
    assert t.node is not None
    return t.node


# JSON


def dump(tape: Tape) -> str:
    """See :meth:`Tape.to_json`."""
    number = {node: i for i, node in enumerate(tape.nodes)}
    lines = []
    for node in tape.nodes:
        line: dict[str, Any] = {"name": node.name, "path": node.path, "where": node.where}
        if node.op is None:
            line["value"] = _encode(node.value)
        else:
            line["op"] = node.op.name
            if isinstance(node.op, Formula):
                line |= {"op": node.op.rule.op.name, "rule": node.op.rule.argument, "known": _encode(node.op.known)}
            line["inputs"] = [
                {"node": number[p]} if type(p) is Node else _encode(p._data if isinstance(p, Tensor) else p)
                for p in tape.inputs(node)
            ]
            line["options"] = {key: _encode(value) for key, value in node.options.items()}
        lines.append(line)
    return json.dumps({"minigrad tape": FORMAT, "nodes": lines}, ensure_ascii=False, allow_nan=False)


class _Line:
    """What a line of a file says of where it stood."""

    def __init__(self, line: dict[str, Any]) -> None:
        self.name, self.path, self.site = line["name"], line["path"], line["where"] or None


def load(text: str) -> Tape:
    """See :meth:`Tape.from_json`."""
    try:
        content = json.loads(text)
        version, lines = content["minigrad tape"], content["nodes"]
    except (ValueError, KeyError, TypeError):
        raise ValueError("from_json: this is no tape: need the text that Tape.to_json gave") from None
    if version != FORMAT:
        raise ValueError(f"from_json: this tape has format {version}; need {FORMAT}")
    found: list[Tensor] = []
    for line in lines:
        if "op" not in line:
            found.append(_leaf(_decode(line["value"]), _Line(line)))
            continue
        if line["op"] not in REGISTRY:
            raise ValueError(f"from_json: there is no op {line['op']!r}: declare it before the tape is read")
        op = REGISTRY[line["op"]]
        if "rule" in line:
            known = _decode(line["known"])
            op = Formula((op.rules if known is None else op.residuals)[line["rule"]], known)
        inputs = [found[x["node"]] if isinstance(x, dict) and "node" in x else _decode(x) for x in line["inputs"]]
        options = {key: _decode(value) for key, value in line["options"].items()}
        found.append(_run(op, inputs, options, _Line(line)))
    return Tape(tuple(_node(t) for t in found))


def _encode(value: Any) -> Any:
    """A value as JSON: what JSON has no word for is an object with one key, which names its kind."""
    match value:
        case np.ndarray():
            little = np.asarray(value, value.dtype.newbyteorder("<"), order="C")
            data = base64.b64encode(little.tobytes()).decode()
            return {"array": data, "dtype": little.dtype.str, "shape": list(value.shape)}
        case float() if not math.isfinite(value):
            return {"float": repr(float(value))}
        case None | bool() | int() | str():
            return value
        case float():
            return float(value)
        case np.integer() | np.floating() | np.bool_():
            return {"scalar": _encode(np.asarray(value))}
        case tuple():
            return {"tuple": [_encode(v) for v in value]}
        case list():
            return [_encode(v) for v in value]
        case slice():
            return {"slice": [_encode(v) for v in (value.start, value.stop, value.step)]}
        case np.dtype():
            return {"dtype": value.str}
        case type():
            return {"dtype": np.dtype(value).str}
    if value is Ellipsis:
        return {"ellipsis": True}
    raise TypeError(f"to_json: an option of type {type(value).__name__} has no form in JSON")


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(v) for v in value]
    if not isinstance(value, dict):
        return value
    match next(iter(value)):
        case "array":
            flat = np.frombuffer(base64.b64decode(value["array"]), value["dtype"])
            dtype = np.dtype(value["dtype"]).newbyteorder("=")
            return flat.astype(np.dtype(dtype.name)).reshape(value["shape"])
        case "float":
            return float(value["float"])
        case "scalar":
            return _decode(value["scalar"])[()]
        case "tuple":
            return tuple(_decode(v) for v in value["tuple"])
        case "slice":
            return slice(*[_decode(v) for v in value["slice"]])
        case "dtype":
            return np.dtype(np.dtype(value["dtype"]).name)
    return Ellipsis
