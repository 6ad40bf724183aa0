"""Each example, run as a reader would run it: a process of its own, where warnings are errors."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FEWEST = 8  # a glob that finds nothing would pass

each = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


def run(folder, *arguments):
    # a process: an op that an example declares must not stay in this one's registry
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-X", "utf8", "-W", "error", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=120)


def outside(source):
    """What a source uses that is not minigrad's public face, NumPy or the standard library."""
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
        names = [name for name in names if name.partition(".")[0] not in sys.stdlib_module_names]
        names = [name for name in names if name not in {"minigrad", "numpy"}]
        names += [node.attr] if isinstance(node, ast.Attribute) and node.attr.startswith("_") else []
        yield from (f"line {node.lineno}: {name}" for name in names)


def test_they_are_found():
    assert len(EXAMPLES) >= FEWEST


@pytest.mark.intense
@each
def test_it_runs(path, tmp_path):
    done = run(tmp_path, path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.strip()
    assert not list(tmp_path.iterdir()), "an example leaves nothing behind"
    # the lines of a printed tape or program end with a place in a file, and are wider
    assert not [x for x in done.stdout.splitlines() if len(x) > 100 and not re.search(r"\.py:\d+$|^%", x)]


# A run of its tapes: each of the first TAPES losses is written as JSON, read, and compared; then the example ends.
REPLAY = """
import runpy, sys
import minigrad as mg

def check(loss):
    tape = mg.Tape.of(loss)
    twin = mg.Tape.from_json(tape.to_json())
    for a, b in zip(tape.values().values(), twin.values().values(), strict=True):
        if (a.dtype, a.shape, a.tobytes()) != (b.dtype, b.shape, b.tobytes()):
            sys.exit(f"a value differs: {a} {b}")
    seen.append(len(tape))
    if len(seen) == 3:
        raise SystemExit(0)

def checking(walk):
    return lambda loss, *args, **options: (check(loss), walk(loss, *args, **options))[1]

seen, mg.Tensor.backward, mg.steps = [], checking(mg.Tensor.backward), checking(mg.steps)
try:
    runpy.run_path(sys.argv[1], run_name="__main__")
finally:
    print("tapes:", seen)
"""
FAST = {"custom_op", "mlp"}


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=() if path.stem in FAST else pytest.mark.intense) for path in EXAMPLES],
)
def test_its_tapes_come_back_from_json_with_their_bits(path, tmp_path):
    done = run(tmp_path, "-c", REPLAY, path)
    assert done.returncode == 0, done.stderr
    if "backward()" in path.read_text(encoding="utf-8"):
        assert re.search(r"tapes: \[\d", done.stdout), "no tape was seen"


@each
def test_it_explains_itself_and_asserts_its_claims(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]


@each
def test_it_uses_nothing_private(path):
    assert not list(outside(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("source", ["from minigrad.engine import op", "import torch", "x._data", "from . import a"])
def test_private_use_is_seen(source):
    assert list(outside(source))


@pytest.mark.parametrize("source", ["print(1)\nassert 1 > 2", "import warnings\nwarnings.warn('odd')"])
def test_a_failing_example_is_seen(source, tmp_path):
    example = tmp_path / "example.py"
    example.write_text(source, encoding="utf-8")
    assert run(tmp_path, example).returncode != 0
