"""The only place that talks to Numba: flags, cache, and how a kernel is called.

A *kernel* is a C function of words: pointers to flat arrays or strided matrices, and int64 numbers.
It allocates nothing, raises nothing and returns nothing. The eager engine calls it with NumPy arrays;
a compiled program calls the very same machine code, by its address, with the words that it planned::

    @kernel("TT", ints=1)              # two pointers to the kernel's float type, one int64
    def double(x, y, n):
        for i in range(n):
            y[i] = x[i] + x[i]

    double[x.dtype](x, y, x.size)      # x, y: flat C-contiguous arrays
    double.address(np.float32)         # void (*)(float *, float *, int64_t)

Operand codes, one letter an array, in the order of the parameters:

====  ==========================================  =====================================================
code  array                                       words
====  ==========================================  =====================================================
T     1-D, C-contiguous, the kernel's float type  pointer
i     1-D, C-contiguous, int64                    pointer
b     1-D, C-contiguous, bool                     pointer
u     1-D, C-contiguous, uint64                   pointer
d     1-D, C-contiguous, float64 always           pointer
M     2-D, any strides, the kernel's float type   pointer, rows, columns, 2 strides
B     3-D, any strides, the kernel's float type   pointer, matrices, rows, columns, 3 strides
====  ==========================================  =====================================================

Strides are in elements. The ``ints`` follow all the arrays.
"""

from __future__ import annotations

import functools
import hashlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import caching, cgutils, config
from numba.core.ccallback import CFunc
from numba.core.dispatcher import Dispatcher
from numba.extending import NativeValue, intrinsic, models, register_model, unbox

#: False under NUMBA_DISABLE_JIT: kernels cannot run then, and ops run by their formulas.
AVAILABLE = not config.DISABLE_JIT

# No fastmath flag: every one of them would let the compiler change bits. Contraction is written out, with fma.
FLAGS = MappingProxyType({"error_model": "numpy", "boundscheck": False})

#: Decorator for functions that kernels call.
function = numba.njit(**FLAGS)

_FLOATS = MappingProxyType({np.dtype(np.float32): types.float32, np.dtype(np.float64): types.float64})
_ELEMENTS = MappingProxyType({"i": types.int64, "b": types.boolean, "u": types.uint64, "d": types.float64})
_NDIM = MappingProxyType({"M": 2, "B": 3})


def _element(code: str, dtype: np.dtype[Any]) -> Any:
    return _ELEMENTS.get(code) or _FLOATS[dtype]


@functools.cache
def stamp() -> str:
    """A digest of all that decides a kernel's machine code, but for what Numba's own cache key holds.

    Numba's key has the signature, the CPU and the kernel's own bytecode. It misses the functions that
    the kernel calls, globals and flags (numba issues 1833, 8851), so every file of this folder is in here.
    """
    digest = hashlib.sha256(repr((numba.__version__, llvmlite.__version__, sorted(FLAGS.items()))).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def cache_directory() -> Path | None:
    """Where compiled kernels are kept, or None (with one warning) where nothing can be written.

    ``NUMBA_CACHE_DIR`` if it is set, else the user's cache directory.
    """
    root = config.CACHE_DIR or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(root) / "minigrad" / stamp()
    try:
        path.mkdir(parents=True, exist_ok=True)
        (probe := path / f".probe-{os.getpid()}").touch()
        probe.unlink()
    except OSError as error:
        warnings.warn(
            f"minigrad cannot write its kernel cache ({error}): kernels are compiled anew in every process. "
            "Set NUMBA_CACHE_DIR to a directory that can be written.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return path


class _Locator(caching._CacheLocator):
    def __init__(self, py_func: Any) -> None:
        self._py_file, self._name = py_func.__code__.co_filename, py_func.__module__

    def get_cache_path(self) -> str:
        return str(cache_directory())

    def get_source_stamp(self) -> str:
        return stamp()

    def get_disambiguator(self) -> str:
        return str(self._name)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator:
        return cls(py_func)


class _Storage(caching.CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _Cache(caching.FunctionCache):
    _impl_class = _Storage


def _cached(compilable: Any, py_func: Any) -> Any:
    if cache_directory() is not None:
        compilable._cache = _Cache(py_func)
    return compilable


@intrinsic
def _call(typingctx: Any, address: Any, words: Any) -> Any:
    signature = types.void(address, words)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        function = ir.FunctionType(ir.VoidType(), [word] * len(signature.args[1]))
        pointer = builder.inttoptr(args[0], function.as_pointer())
        builder.call(pointer, cgutils.unpack_tuple(builder, args[1]))
        return context.get_dummy_value()

    return signature, codegen


class _Operand(types.Type):
    """A NumPy array as a bare object pointer: Numba's own unboxing costs 75 ns an array, reading its fields 5."""


_operand = _Operand("numpy array")
register_model(_Operand)(models.OpaqueModel)


@unbox(_Operand)
def _as_pointer(typ: Any, obj: Any, c: Any) -> Any:
    return NativeValue(obj)


# Where data, dimensions and strides are in a PyArrayObject, in bytes (NumPy C API, PyArrayObject_fields):
# after the object header and, for the two latter, the data pointer and the padded number of dimensions.
_DATA = object.__basicsize__
_SHAPE, _STRIDES = _DATA + 16, _DATA + 24


@intrinsic(prefer_literal=True)
def _field(typingctx: Any, array: Any, place: Any, axis: Any) -> Any:
    """The data pointer (axis -1), or one of the numbers that the pointer at ``place`` leads to."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word, byte = ir.IntType(64), ir.IntType(8)
        at = builder.gep(args[0], [ir.Constant(word, place.literal_value)], source_etype=byte)
        value = builder.load(builder.bitcast(at, word.as_pointer()))
        if axis.literal_value < 0:
            return value
        numbers = builder.inttoptr(value, word.as_pointer())
        return builder.load(builder.gep(numbers, [ir.Constant(word, axis.literal_value)]))

    return types.int64(array, place, axis), codegen


@functools.cache
def _launcher(codes: str, ints: int, dtype: np.dtype[Any]) -> Any:
    """A compiled function (address, *arrays, *ints) that turns its arguments into words and calls the address.

    One for each pattern of operands, shared by all kernels of that pattern. It has a single signature,
    which takes any array, so that a call costs about 150 ns whatever it is given.
    """
    arrays, numbers = [f"a{i}" for i in range(len(codes))], [f"n{i}" for i in range(ints)]
    words = []
    for name, code in zip(arrays, codes, strict=True):
        words.append(f"_field({name}, {_DATA}, -1)")
        axes = range(_NDIM.get(code, 0))
        words += [f"_field({name}, {_SHAPE}, {axis})" for axis in axes]
        words += [f"_field({name}, {_STRIDES}, {axis}) // {dtype.itemsize}" for axis in axes]
    source = f"def launch(address, {', '.join(arrays + numbers)}):\n    _call(address, ({', '.join(words + numbers)},))"
    namespace: dict[str, Any] = {"_call": _call, "_field": _field, "__name__": __name__}
    exec(source, namespace)
    namespace["launch"].__qualname__ = f"launch_{codes}{ints}_{dtype.name}"  # constants are no part of the cache key
    launch: Dispatcher = numba.njit(**FLAGS)(namespace["launch"])
    _cached(launch, namespace["launch"])
    launch.compile(types.void(types.int64, *[_operand] * len(codes), *[types.int64] * ints))
    (result,) = launch.overloads.values()
    return result.entry_point  # past the dispatcher, which looks up the type of each argument: a third of the time


class Kernel(dict[Any, Callable[..., None]]):
    """A kernel in its two precisions: ``kernel[dtype](*arrays, *ints)`` runs it.

    Compiled on first use for a dtype, and cached on disk. The caller answers for shapes, contiguity,
    dtypes, and for arrays being NumPy arrays: nothing is checked here, not even that.
    """

    def __init__(self, body: Callable[..., None], codes: str, ints: int) -> None:
        super().__init__()
        self.body, self.codes, self.ints = body, codes, ints
        self.__name__, self.__doc__ = body.__name__, body.__doc__

    @functools.cache  # noqa: B019 (kernels live as long as the process)
    def compiled(self, dtype: np.dtype[Any]) -> CFunc:
        """The C function for ``dtype`` (float32 or float64)."""
        words: list[Any] = []
        for code in self.codes:
            words += [types.CPointer(_element(code, dtype))] + [types.int64] * (2 * _NDIM.get(code, 0))
        signature = types.void(*words, *[types.int64] * self.ints)
        function = CFunc(self.body, (signature.args, signature.return_type), locals={}, options=dict(FLAGS))
        _cached(function, self.body)
        function.compile()
        return function

    def address(self, dtype: Any) -> int:
        """The address of the C function for ``dtype``, for callers that lay out the words themselves."""
        return int(self.compiled(np.dtype(dtype)).address or 0)

    def __missing__(self, dtype: np.dtype[Any]) -> Callable[..., None]:
        launch = functools.partial(_launcher(self.codes, self.ints, dtype), self.address(dtype))
        self[dtype] = launch
        return launch

    __hash__ = object.__hash__  # type: ignore[assignment]  # a kernel is itself, not its table

    def __repr__(self) -> str:
        return f"<kernel {self.__name__} {self.codes}{self.ints}>"


def kernel(codes: str, ints: int) -> Callable[[Callable[..., None]], Kernel]:
    """Declare a kernel: see the module's docstring for the operand codes."""
    return lambda body: Kernel(body, codes, ints)
