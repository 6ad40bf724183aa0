"""The stub of Tensor's attached methods against what the ops attach."""

import ast
import inspect
from pathlib import Path

import minigrad as mg
from minigrad.engine import methods, tensor


def stubbed(source):
    (found,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return {
        node.name: [arg.arg for arg in node.args.args[1:] + node.args.kwonlyargs]
        for node in found.body
        if isinstance(node, ast.FunctionDef)
    }


def attached():
    own = ast.parse(Path(tensor.__file__).read_text(encoding="utf-8"))
    written = {node.name for node in ast.walk(own) if isinstance(node, ast.FunctionDef)}
    standard = {
        "__module__",
        "__doc__",
        "__slots__",
        "__weakref__",
        "__array_ufunc__",
        "__hash__",
        "_data",
        "cell",
        "node",
    }
    return set(vars(mg.Tensor)) - written - standard


def test_the_stub_lists_what_is_attached():
    stub = stubbed(Path(methods.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    assert set(stub) == attached()
    for name, parameters in stub.items():
        if name in mg.REGISTRY and name != "reshape":
            assert parameters == list(mg.REGISTRY[name].__signature__.parameters)[1:], name
    assert stub["backward"] == list(inspect.signature(mg.Tensor.backward).parameters)[1:]


def test_a_missing_line_is_seen():
    assert set(stubbed("class Methods:\n    def tanh(self): ...")) != attached()
