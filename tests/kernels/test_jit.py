import os
import platform
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

from minigrad.kernels import elementwise, jit
from minigrad.kernels.jit import kernel

FOLDER = Path(jit.__file__).parent


def run(root, code, **environment):
    """What a process prints that finds ``minigrad`` in ``root``: the folder that it runs in comes first."""
    environment = {**os.environ, "PYTHONPATH": str(root), **environment}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_editing_any_file_changes_the_stamp(tmp_path):
    """The stamp names the folder of the cache, so a kernel whose callee was edited is compiled anew."""
    (tmp_path / "minigrad").mkdir()
    (tmp_path / "minigrad" / "__init__.py").touch()
    copy = tmp_path / "minigrad" / "kernels"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "__init__.py").write_text("")
    code = (
        "import sys\nfrom pathlib import Path\nfrom minigrad.kernels import jit\nprint(jit.stamp())\n"
        "for path in sorted(Path(jit.__file__).parent.glob('*.py')):\n"
        "    text = path.read_text(); path.write_text(text + '#'); jit.stamp.cache_clear(); print(jit.stamp())\n"
        "    path.write_text(text)\n"
        "jit.stamp.cache_clear(); print(jit.stamp())"
    )
    first, *edited, last = run(tmp_path, code).split()
    assert first == last
    assert len({first, *edited}) == 1 + len(list(copy.glob("*.py")))


def test_an_edited_callee_in_another_file_is_seen_at_once(tmp_path):
    (tmp_path / "minigrad").mkdir()
    (tmp_path / "minigrad" / "__init__.py").touch()
    copy = tmp_path / "minigrad" / "kernels"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    code = "import numpy as np\nfrom minigrad.kernels import elementwise as e\nprint(e.exp(np.full(2, -2000.0))[1])"
    cache = str(tmp_path / "cache")
    assert float(run(tmp_path, code, NUMBA_CACHE_DIR=cache)) == 0
    callee = copy / "vector_math.py"
    text = callee.read_text()
    assert text.count("where(none, -1.0, r) + 1.0") == 1
    callee.write_text(text.replace("where(none, -1.0, r) + 1.0", "where(none, 4.0, r) + 1.0"))
    assert float(run(tmp_path, code, NUMBA_CACHE_DIR=cache)) == 5


def test_importing_compiles_nothing_and_works_without_the_compiler(tmp_path):
    (tmp_path / "minigrad").mkdir()
    (tmp_path / "minigrad" / "__init__.py").touch()
    shutil.copytree(FOLDER, tmp_path / "minigrad" / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from minigrad.kernels import jit, elementwise; print(jit.AVAILABLE, len(elementwise.tanh.kernel))"
    assert run(tmp_path, code, NUMBA_DISABLE_JIT="1") == "False 0"
    assert run(tmp_path, code, NUMBA_DISABLE_JIT="0") == "True 0"


@pytest.fixture(scope="module")
def native():
    return run(FOLDER.parents[1], HASHES)


HASHES = (
    "import numpy as np, hashlib\nfrom minigrad.kernels import elementwise as e, reduction as r, gemm\n"
    "rng = np.random.default_rng(0); x = rng.standard_normal((67, 301)).astype('f4'); h = hashlib.sha256()\n"
    "for a in (e.tanh(x), r.sum(x, (0,)), r.softmax(x, 1), gemm.matmul(x, x.T)): h.update(a.tobytes())\n"
    "x = rng.integers(0, 2**32, 50000, 'u4').view('f4')\n"
    "for f in (e.exp, e.expm1, e.log, e.tanh, e.sigmoid, e.erf, e.gelu, e.sin):\n"
    "    with np.errstate(all='ignore'): h.update(np.nan_to_num(f(x)).tobytes())\n"
    "for m, k, n in ((1, 40, 600), (2, 33, 257), (39, 600, 1), (15, 1024, 16), (61, 700, 150), (9, 5, 3)):\n"
    "    a, b = (rng.standard_normal(s).astype('f4') for s in ((m, k), (k, n)))\n"
    "    for y in (b, np.asfortranarray(b)): h.update(gemm.matmul(a, y).tobytes())\n"
    "print(h.hexdigest())"
)


@pytest.mark.parametrize(
    ("cpu", "features"),
    [("haswell", "+avx,+avx2,+fma,+sse4.2,+bmi,+bmi2"), ("sandybridge", "+avx,+sse4.2"), ("x86-64", "+sse2")],
)
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="other processors have other names")
def test_bits_do_not_depend_on_the_vector_width(native, cpu, features):
    """With vectors of 32 and of 16 bytes, and by calls of the C library where there is no fused multiply-add."""
    assert len(native) == 64
    assert run(FOLDER.parents[1], HASHES, NUMBA_CPU_NAME=cpu, NUMBA_CPU_FEATURES=features) == native


@pytest.mark.intense
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_bits_do_not_depend_on_the_processor(precision):
    """MINIGRAD_OTHER_PYTHON runs Python with NumPy and Numba on a processor of another kind, or an emulated one."""
    if not (other := os.environ.get("MINIGRAD_OTHER_PYTHON")):
        pytest.skip("MINIGRAD_OTHER_PYTHON names no Python of another processor")
    code = (
        HASHES if precision == "float32" else HASHES.replace("f4", "f8").replace("2**32", "2**64").replace("u4", "u8")
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(FOLDER.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    found = [
        subprocess.run([python, "-c", text], env=environment, capture_output=True, text=True, check=True).stdout
        for python in (sys.executable, other)
        for text in (code, "import platform; print(platform.machine())")
    ]
    assert found[1] != found[3]
    assert found[0] == found[2]


def test_a_kernel_has_an_address_in_each_precision():
    kernel = elementwise.tanh_vjp.kernel
    assert kernel.address(np.float32) != kernel.address(np.float64)
    assert kernel.codes == "TTT"
    assert kernel.ints == 1


RELU = (
    "import numpy as np\nfrom minigrad.kernels import elementwise, jit\n"
    "print(elementwise.relu(np.full(3, 0.5, 'f4'))[2] == 0.5, jit.cache_directory())"
)


@pytest.fixture(scope="module")
def cold(tmp_path_factory):
    """(a folder that was empty, what each of two processes printed that compiled into it at the same time)."""
    folder = tmp_path_factory.mktemp("cache")
    command = [sys.executable, "-c", RELU]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(FOLDER.parents[1])}
    together = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return folder, [process.communicate()[0].strip() for process in together]


def test_cold_processes_may_compile_at_once(cold):
    folder, printed = cold
    (place,) = (folder / "minigrad").iterdir()
    assert printed == [f"True {place}"] * 2
    (file,) = place.iterdir()
    assert file.name == "minigrad.kernels.elementwise.relu_loop.float32"


def test_a_damaged_cache_is_compiled_anew(cold, tmp_path):
    shutil.copytree(cold[0], tmp_path, dirs_exist_ok=True)
    (place,) = (tmp_path / "minigrad").iterdir()
    (file,) = place.iterdir()
    whole = file.read_bytes()
    code = jit._read(file)
    assert code
    assert code in whole
    for damaged in (b"", whole[:100], whole[:-1], whole[:500] + b"?" + whole[501:]):
        file.write_bytes(damaged)
        assert not jit._read(file)
    assert run(FOLDER.parents[1], RELU, NUMBA_CACHE_DIR=str(tmp_path)) == f"True {place}"
    assert file.read_bytes() == whole


def test_where_nothing_can_be_written_there_is_a_warning_and_no_cache(tmp_path):
    (tmp_path / "file").touch()
    code = "import warnings\nwith warnings.catch_warnings(record=True) as found:\n    warnings.simplefilter('always')\n"
    code += textwrap.indent(RELU, "    ") + "\nfor w in found: print(w.category.__name__, w.message)"
    printed, *warned = run(FOLDER.parents[1], code, NUMBA_CACHE_DIR=str(tmp_path / "file")).splitlines()
    assert printed == "True None"
    assert any(text.startswith("RuntimeWarning minigrad cannot write its kernel cache") for text in warned)


def test_a_kernel_from_elsewhere_is_not_cached():
    """The stamp does not know the file that it is in."""

    def twice(x, y, n):
        for i in range(n):
            y[i] = x[i] + x[i]

    kernel = jit.kernel("TT", ints=1)(twice)
    x, y = np.arange(3.0), np.empty(3)
    assert kernel[x.dtype](x, y, 3) is None
    assert y.tolist() == [0, 2, 4]
    assert not [path for path in jit.cache_directory().iterdir() if "twice" in path.name]


def test_threads_that_meet_a_new_kernel_at_once_share_its_code():
    @kernel("T*", ints=0)
    def one(out):
        out[0] = 1.0

    found, start = [], threading.Barrier(4)

    def meet():
        start.wait()
        found.append(one.compiled(np.dtype(np.float32)))

    threads = [threading.Thread(target=meet) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(loaded is found[0] for loaded in found)  # another would be freed while it runs
