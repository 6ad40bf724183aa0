"""The rules of the house, read from the syntax trees. Each check is tried on planted violations as well."""

import ast
import functools
import re
import subprocess
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in (ROOT / "minigrad").rglob("*.py")}

FLOORS = {"kernels": 0, "engine": 1, "ops": 2, "compiler": 3}
FLOORS |= dict.fromkeys(("init", "nn", "optim", "data", "checkpoint"), 4)
FLOORS |= dict.fromkeys(("testing", "lab", "explorer", "cli"), 5)
TOP = 6  # __init__ and __main__, above every room

# The registry, the State with the counter that all its copies share, and the worker threads, which are the process's
# own and which no bit depends on. TABLES: constants, annotated Final.
STATE = {
    (f"minigrad/{file}.py", name)
    for file, name in (
        ("engine/op", "REGISTRY"),
        ("engine/state", "_STATE"),
        ("engine/state", "sequence"),
        ("engine/state", "changes"),
        ("kernels/pool", "POOL"),
    )
}
TABLES = {  # sample inputs in op declarations
    ("minigrad/ops/loss.py", "REDUCTIONS"),
    ("minigrad/ops/reduction.py", "AXES"),
    ("minigrad/ops/reduction.py", "ONE_AXIS"),
    ("minigrad/ops/reduction.py", "INDICES"),
    ("minigrad/ops/reduction.py", "SPREADS"),
}

MUTABLE = set("list dict set bytearray defaultdict OrderedDict Counter deque ChainMap count cycle iter local".split())
MUTABLE |= set("ContextVar WeakKeyDictionary WeakValueDictionary WeakSet SimpleNamespace StringIO BytesIO".split())
MUTABLE |= set("Lock RLock Random RandomState Generator default_rng".split())
MUTABLE |= set("Pool ThreadPoolExecutor ProcessPoolExecutor Thread".split())
MUTABLE |= set("fromkeys copy deepcopy array zeros ones empty full arange linspace".split())

FLAGS = {"fastmath", "error_model", "boundscheck", "parallel", "nogil", "cache"}
DECORATORS = {"njit", "jit", "cfunc", "vectorize", "guvectorize", "stencil", "jit_module", "generated_jit"}

ENTRIES = {"pyproject.toml", "minigrad", "tests", "examples", "bench", "README.md", "LICENSE"}


parse = functools.cache(ast.parse)


def room(path):
    """'engine' for minigrad/engine/op.py, 'cli' for minigrad/cli.py, None for the top of the package."""
    name = PurePosixPath(path).parts[1].removesuffix(".py")
    return None if name in ("__init__", "__main__") else name


def imports(path, source):
    """(line, dotted name) of everything that a file imports, relative names resolved, wherever the import stands."""
    package = PurePosixPath(path).parent.parts
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            known = node.args and isinstance(node.args[0], ast.Constant)
            name = str(node.args[0].value) if known else "?"
            yield node.lineno, ".".join(package) + name if name.startswith(".") else name


def called(node):
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)


def imports_upwards(path, source):
    here = room(path)
    floor = FLOORS.get(here, TOP)
    if here and here not in FLOORS:
        yield f"{path}: the room {here} has no floor"
    for line, name in imports(path, source):
        first, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if (first == "minigrad" and FLOORS.get(target, TOP) > floor) or name == "?":
            yield f"{path}:{line}: {here} (floor {floor}) imports {name}"


def own_statements(body):
    """The statements that run when a module is imported, those of class bodies included."""
    for node in body:
        yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from own_statements(getattr(node, field, []))


def is_mutable(node):
    match node:
        case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp() | ast.SetComp() | ast.GeneratorExp():
            return True
        case ast.Tuple(elts=parts) | ast.BoolOp(values=parts):
            return any(map(is_mutable, parts))
        case ast.IfExp(body=one, orelse=other) | ast.BinOp(left=one, right=other):
            return is_mutable(one) or is_mutable(other)
        case ast.NamedExpr(value=inner) | ast.Starred(value=inner):
            return is_mutable(inner)
        case ast.Call():
            return called(node) in MUTABLE
    return False


def mutable_state(path, source):
    tree = parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield f"{path}:{node.lineno}: global {', '.join(node.names)}"
    for node in own_statements(tree.body):
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None or not is_mutable(node.value):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        final = isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).startswith("Final")
        allowed = {name for file, name in (STATE | TABLES if final else STATE) if file == path} | {
            "__all__",
            "__slots__",
        }
        for name in sorted(names - allowed):
            yield f"{path}:{node.lineno}: {name} is module-level mutable state (a tuple or a MappingProxyType is not)"


def numba_flags(path, source):
    if path == "minigrad/kernels/jit.py":
        return
    tree = parse(source)
    aliases = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.partition(".")[0] == "numba"
    }
    found = [
        (line, name) for line, name in imports(path, source) if re.match(rf"numba\b.*\b({'|'.join(DECORATORS)})$", name)
    ]
    for node in ast.walk(tree):
        match node:
            case ast.Call(keywords=keywords):
                found += [(node.lineno, k.arg + "=") for k in keywords if k.arg in FLAGS]
            case ast.Constant(value=str(text)) if text in FLAGS - {"parallel", "cache"}:
                found.append((node.lineno, repr(text)))
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if name in aliases and attr in DECORATORS:
                found.append((node.lineno, f"{name}.{attr}"))
            case ast.Assign(targets=[ast.Attribute(value=owner)]) if ast.unparse(owner).endswith("config"):
                found.append((node.lineno, f"{ast.unparse(node.targets[0])} ="))
    for line, what in sorted(found):
        yield f"{path}:{line}: {what} belongs in kernels/jit.py"


def untested(sources, tests):
    """Rooms without tests/<room>/test_*.py or tests/test_<room>.py."""
    for name in sorted({room(path) for path in sources} - {None}):
        if not any(re.fullmatch(rf"tests/(test_{name}\.py|{name}/(.+/)?test_\w+\.py)", test) for test in tests):
            yield f"{name} has no tests"


def stray_entries(files):
    first = {PurePosixPath(file).parts[0] for file in files}
    yield from sorted(name for name in first if name not in ENTRIES and not name.startswith("."))


def machine_paths(path, text):
    for number, line in enumerate(text.splitlines(), 1):
        if found := re.search(r"(?<![\w.\-/}>)])/(work|root|home|Users|mnt)(?=/|\W|$)|\b[A-Z]:\\Users", line):
            yield f"{path}:{number}: {found[0]} is a path of somebody's machine"


@pytest.fixture(scope="module")
def files():
    """What is or could be committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        out = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"not a checkout that git can list ({error})")
    return [name for name in out.split("\0") if (ROOT / name).is_file()]


@pytest.mark.parametrize("check", [imports_upwards, mutable_state, numba_flags])
def test_the_package(check):
    assert SOURCES
    assert [fault for path, source in sorted(SOURCES.items()) for fault in check(path, source)] == []


def test_every_room_has_tests():
    tests = [p.relative_to(ROOT).as_posix() for p in (ROOT / "tests").rglob("*.py")]
    assert list(untested(SOURCES, tests)) == []


def test_the_top_level(files):
    assert list(stray_entries(files)) == []


def test_no_path_of_a_machine(files):
    found = []
    for name in files:
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += machine_paths(name, text) if name != "tests/test_house.py" else []
    assert found == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("minigrad/kernels/gemm.py", "from ..engine import Tensor"),
        ("minigrad/kernels/gemm.py", "def f():\n    from minigrad.ops import matmul"),
        ("minigrad/engine/op.py", "from .. import ops"),
        ("minigrad/engine/op.py", "import minigrad.ops.linalg as linalg"),
        ("minigrad/ops/linalg.py", "try:\n    from minigrad import compiler\nexcept ImportError: pass"),
        ("minigrad/compiler/deep/plan.py", "from ...nn import Module"),
        ("minigrad/init.py", "from .lab import propagate"),
        ("minigrad/nn/linear.py", "import minigrad as mg"),
        ("minigrad/nn/linear.py", "from minigrad import tensor"),
        ("minigrad/nn/linear.py", "importlib.import_module('minigrad.lab')"),
        ("minigrad/nn/linear.py", "importlib.import_module(name)"),
        ("minigrad/cli.py", "from . import __version__"),
        ("minigrad/attic.py", ""),
    ],
)
def test_an_import_that_goes_up_is_caught(path, source):
    assert list(imports_upwards(path, source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("minigrad/kernels/gemm.py", "import numba\nfrom .jit import kernel\nfrom . import simd"),
        (
            "minigrad/ops/linalg.py",
            "from ..kernels import gemm\nfrom .. import kernels\nfrom minigrad.engine.op import op",
        ),
        ("minigrad/nn/linear.py", "from .. import init, ops\nfrom .module import Module"),
        ("minigrad/__init__.py", "from . import lab\nfrom .engine import tensor"),
        ("minigrad/__main__.py", "from .cli import main\nimport minigrad"),
    ],
)
def test_an_import_that_goes_down_is_not(path, source):
    assert list(imports_upwards(path, source)) == []


@pytest.mark.parametrize(
    "source",
    [
        "x = []",
        "X: dict[str, int] = {}",
        "X: Final = {'a': 1}",
        "x = {i for i in range(3)}",
        "class A:\n    cache = {}",
        "a, b = (), {}",
        "x = y = collections.defaultdict(list)",
        "x = ContextVar('x')",
        "if True:\n    x = set()",
        "try:\n    pass\nexcept ValueError:\n    with a:\n        x = dict()",
        "x = np.zeros(3)",
        "x = ({},)",
        "x = a or []",
        "x = itertools.count()",
        "x = None\ndef f():\n    global x\n    x = 1",
        "REGISTRY = {}",
        "_STATE = ContextVar('s')",
        "POOL = Pool()",
    ],
)
def test_mutable_state_is_caught(source):
    assert list(mutable_state("minigrad/engine/tensor.py", source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("minigrad/engine/op.py", "REGISTRY: dict[str, Op] = {}"),
        ("minigrad/engine/state.py", "_STATE = ContextVar('s')"),
        ("minigrad/nn/a.py", "X = MappingProxyType({'a': 1})\nY = frozenset({1})\nZ = (1, 2)\nF = tuple([1])"),
        ("minigrad/nn/a.py", "__all__ = ['a']"),
        ("minigrad/nn/a.py", "@functools.cache\ndef f():\n    x = []\n    return x"),
    ],
)
def test_constants_and_local_state_are_not(path, source):
    assert list(mutable_state(path, source)) == []


@pytest.mark.parametrize(
    "source",
    [
        "from numba import njit",
        "import numba\n@numba.njit\ndef f(): pass",
        "import numba as nb\nf = nb.vectorize(g)",
        "from numba.core.decorators import jit as j",
        "function(fastmath=True)",
        "kernel('T', ints=1, cache=False)",
        "options = {'error_model': 'python'}",
        "numba.config.THREADING_LAYER = 'omp'",
    ],
)
def test_a_numba_flag_is_caught(source):
    assert list(numba_flags("minigrad/kernels/gemm.py", source))
    assert list(numba_flags("minigrad/kernels/jit.py", source)) == []


def test_numba_without_flags_is_not():
    source = "from numba.extending import intrinsic\nfrom .jit import kernel\n@intrinsic\ndef f(): pass"
    assert list(numba_flags("minigrad/kernels/simd.py", source)) == []


def test_a_room_without_tests_is_caught():
    sources = [
        "minigrad/__init__.py",
        "minigrad/nn/linear.py",
        "minigrad/init.py",
        "minigrad/lab/a.py",
        "minigrad/cli.py",
    ]
    tests = ["tests/nn/test_linear.py", "tests/test_init.py", "tests/lab/conftest.py", "tests/test_client.py"]
    assert list(untested(sources, tests)) == ["cli has no tests", "lab has no tests"]


def test_a_stray_entry_is_caught():
    assert list(stray_entries(["minigrad/__init__.py", ".ci/run", "notes.md", "src/a.py"])) == ["notes.md", "src"]


@pytest.mark.parametrize("text", ["see /work/main", "cd /root", "open('/home/me/x')", "`/Users/me`", r"C:\Users\me"])
def test_a_path_of_a_machine_is_caught(text):
    assert list(machine_paths("README.md", f"first line\n{text}"))


@pytest.mark.parametrize("text", ["https://example.org/home/a", "homework/work", "a/root", "1/works", "/workers"])
def test_other_slashes_are_not(text):
    assert list(machine_paths("README.md", text)) == []
