"""The only place that talks to Numba: flags, cache, and how a kernel is called.

A *kernel* is a C function of words: pointers to flat arrays or strided matrices, and int64 numbers.
It allocates nothing, raises nothing and returns nothing. The eager engine calls it with NumPy arrays;
a compiled program calls the very same machine code, by its address, with the words that it planned::

    @kernel("TT*", ints=1)             # two pointers to the kernel's number type, one int64; y is written
    def double(x, y, n):
        for i in range(n):
            y[i] = x[i] + x[i]

    double[x.dtype](x, y, x.size)      # x, y: C-contiguous arrays
    double.address(np.float32)         # void (*)(float *, float *, int64_t)
    double.replay(np.float32)          # void (*)(int64_t words[3])

Operand codes, one letter an array, in the order of the parameters; a star behind it: the kernel writes it.

====  ==========================================  =====================================================
code  array                                       words
====  ==========================================  =====================================================
T     C-contiguous, the kernel's number type      pointer
i     C-contiguous, int64                         pointer
b     C-contiguous, bool                          pointer
u     C-contiguous, uint64                        pointer
d     C-contiguous, float64 always                pointer
e     int64, one element, always written: 0 if    pointer
      the operands are good, and else nothing
      more is promised of what is written
M     2-D, any strides, the kernel's number type  pointer, rows, columns, 2 strides
B     3-D, any strides, the kernel's number type  pointer, matrices, rows, columns, 3 strides
====  ==========================================  =====================================================

Strides are in elements. The ``ints`` follow all the arrays. A "v" behind all codes: Python passes any number of
objects there, of which the kernel gets the addresses, as an int64 array, and their number.

What a function of arrays launches can be recorded instead of run: see :func:`recorded`.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config, registry
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import _FunctionCompiler  # type: ignore[attr-defined]  # its stub hides it
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

#: False under NUMBA_DISABLE_JIT: kernels cannot run then, and ops run by their formulas.
AVAILABLE = not config.DISABLE_JIT

# No fastmath flag: every one of them would let the compiler change bits. Contraction is written out, with fma.
FLAGS = MappingProxyType({"error_model": "numpy", "boundscheck": False})


class _Library(JITCodeLibrary):
    """A function's LLVM IR. It is optimized and becomes machine code once, as part of a whole kernel.

    Passes over each function before that would take a quarter of the time of large ones, for no better code.
    """

    def _optimize_functions(self, ll_module: Any) -> None:
        pass

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True

    def machine_code(self) -> bytes:
        """Object code of this function, as a kernel, and of all that it calls."""
        self.finalize()
        super()._optimize_final_module()
        return bytes(self._codegen._tm.emit_object(self._final_module))


class _Compiler(_FunctionCompiler):
    """Numba's compiler without what Python would need to call the function: wrappers and machine code of its own.

    With them, and each function optimized before it becomes part of another, ``gemm.py`` would take 25 s for 11.
    """

    def _compile_core(self, args: Any, return_type: Any) -> Any:
        typing, target = self.targetdescr.typing_context, self.targetdescr.target_context
        flags = Flags()
        self.targetdescr.options.parse_as_flags(flags, self.targetoptions)
        flags.no_cpython_wrapper = flags.no_cfunc_wrapper = flags.no_compile = True
        flags.enable_pyobject = False
        library = _Library(target.codegen(), self.py_func.__qualname__)
        result = compile_extra(typing, target, self.py_func, args, return_type, flags, self.locals, library)
        name = dict[Any, Any]().__getitem__  # callers are lowered by it: a built-in function like no other, which fails
        target.insert_user_function(name, result.fndesc, [library])
        return result._replace(entry_point=name)


def function(body: Callable[..., Any], **options: Any) -> Any:
    """Decorator for functions that kernels call."""
    dispatcher = numba.njit(**FLAGS, **options)(body)
    if AVAILABLE:
        dispatcher._compiler = _Compiler(body, registry.cpu_target, dispatcher.targetoptions, {}, Compiler)
    return dispatcher


#: The same, for large ones with one caller: they are compiled with it, and not by themselves before.
inlined = functools.partial(function, inline="always")

_TYPES = MappingProxyType(
    {np.dtype(np.float32): types.float32, np.dtype(np.float64): types.float64, np.dtype(np.int64): types.int64}
)
_ELEMENTS = MappingProxyType(
    {"i": types.int64, "e": types.int64, "b": types.boolean, "u": types.uint64, "d": types.float64, "v": types.int64}
)
_NDIM = MappingProxyType({"M": 2, "B": 3})

_FOLDER = Path(__file__).parent

Array = np.ndarray[Any, Any]


@functools.cache
def cpu_features() -> frozenset[str]:
    """What the CPU that kernels are compiled for can do; NUMBA_CPU_NAME and NUMBA_CPU_FEATURES are honoured."""
    if config.CPU_FEATURES is not None:
        return frozenset(name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+"))
    if config.CPU_NAME not in (None, "host"):
        return frozenset()
    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


@functools.cache
def stamp() -> str:
    """A digest of all that decides a kernel's machine code: every file of this folder, the compiler, flags and CPU.

    A kernel's own source is not enough: functions that it calls, in other files, are compiled into it.
    """
    compiler = numba.__version__, llvmlite.__version__, sys.implementation.cache_tag, sorted(FLAGS.items())
    settings = int(config.OPT), config.LOOP_VECTORIZE, config.SLP_VECTORIZE
    cpu = llvm.get_process_triple(), config.CPU_NAME or llvm.get_host_cpu_name(), sorted(cpu_features())
    digest = hashlib.sha256(repr((compiler, settings, cpu)).encode())
    for path in sorted(_FOLDER.glob("*.py")):
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


# Where the fields of a PyArrayObject are, in bytes (NumPy C API, PyArrayObject_fields): after the object's header, of
# which the last word is its type.
DATA = object.__basicsize__
TYPE, NDIM, SHAPE, STRIDES, DTYPE, ARRAY_FLAGS = DATA - 8, DATA + 8, DATA + 16, DATA + 24, DATA + 40, DATA + 48


_WORD, _POINTER = ir.IntType(64), ir.IntType(8).as_pointer()
_FASTCALL = ir.FunctionType(_POINTER, [_POINTER, _POINTER.as_pointer(), _WORD])


def _add_entries(module: ir.Module, compiled: Any, codes: str, ints: int, itemsize: int) -> None:
    """Add the three ways into a compiled function: ``kernel``, ``replay``, and ``launch``, which Python calls.

    ``kernel`` is a C function of words, without Numba's channel for errors: nothing raises. ``replay`` takes these
    words from an array. ``launch`` takes arrays and ints. It is of CPython's kind METH_FASTCALL, with None for self:
    ``PyObject *(PyObject *self, PyObject *const *args, Py_ssize_t)``. Reading an array's fields here costs 5 ns;
    Numba's own unboxing costs 75 for each array.
    """
    context, description = compiled.target_context, compiled.fndesc
    native = context.declare_function(module, description)
    words = [_WORD] * len(description.argtypes)
    kernel = ir.Function(module, ir.FunctionType(ir.VoidType(), words), "kernel")
    kernel.attributes.add("noinline")  # there is one copy of the code
    builder = ir.IRBuilder(kernel.append_basic_block())
    arguments = [
        builder.inttoptr(word, context.get_value_type(kind)) if isinstance(kind, types.CPointer) else word
        for word, kind in zip(kernel.args, description.argtypes, strict=True)
    ]
    context.call_conv.call_function(builder, native, description.restype, description.argtypes, arguments)
    builder.ret_void()

    replay = ir.Function(module, ir.FunctionType(ir.VoidType(), [_WORD.as_pointer()]), "replay")
    builder = ir.IRBuilder(replay.append_basic_block())
    table = replay.args[0]
    builder.call(kernel, [builder.load(builder.gep(table, [ir.Constant(_WORD, i)])) for i in range(len(words))])
    builder.ret_void()

    to_int = ir.Function(module, ir.FunctionType(_WORD, [_POINTER]), "PyLong_AsLongLong")
    own = ir.Function(module, ir.FunctionType(ir.VoidType(), [_POINTER]), "Py_IncRef")
    launch = ir.Function(module, _FASTCALL, "launch")
    none, operands, count = launch.args
    builder = ir.IRBuilder(launch.append_basic_block())
    values = []
    fixed = codes.removesuffix("v") + "n" * ints
    for i, code in enumerate(fixed):
        operand = builder.load(builder.gep(operands, [ir.Constant(_WORD, i)]))
        if code == "n":
            values.append(builder.call(to_int, [operand]))
            continue
        values += _array_words(builder, operand, _NDIM.get(code, 0), itemsize)
    if codes.endswith("v"):
        rest = builder.sub(count, ir.Constant(_WORD, len(fixed)))
        pointers = builder.alloca(_WORD, rest)
        with cgutils.for_range(builder, rest) as loop:
            operand = builder.load(builder.gep(operands, [builder.add(loop.index, ir.Constant(_WORD, len(fixed)))]))
            builder.store(builder.ptrtoint(operand, _WORD), builder.gep(pointers, [loop.index]))
        values += [builder.ptrtoint(pointers, _WORD), rest]
    builder.call(kernel, values)
    builder.call(own, [none])
    builder.ret(none)


def _peek(builder: Any, address: Any, offset: int) -> Any:
    """The word ``offset`` bytes from an address on."""
    place = builder.gep(address, [ir.Constant(_WORD, offset)])
    return builder.load(builder.bitcast(place, _WORD.as_pointer()))


def _array_words(builder: Any, array: Any, axes: int, itemsize: int) -> list[Any]:
    """The words of an array with so many axes, none for a flat one."""
    words = [_peek(builder, array, DATA)]
    if axes:
        shape, strides = (builder.inttoptr(_peek(builder, array, field), _POINTER) for field in (SHAPE, STRIDES))
        words += [_peek(builder, shape, 8 * axis) for axis in range(axes)]
        words += [builder.sdiv(_peek(builder, strides, 8 * axis), ir.Constant(_WORD, itemsize)) for axis in range(axes)]
    return words


def _add_maker(module: ir.Module, dtype: np.dtype[Any], most: int) -> None:
    """Add ``make``, which Python calls with two arrays, to the entries of a kernel "MMM*" that multiplies matrices.

    It returns the product, or None, and nothing is done, unless both are plain (no subclass) matrices of ``dtype``
    that fit, for less than ``most`` multiplications. Looking and making the result in Python takes twice as long as
    all of this at 16 x 16 x 16.
    """
    kernel = module.get_global("kernel")
    names = "PyArray_Type", f"numpy.{dtype.name}"
    array_type, number_type = (ir.GlobalVariable(module, ir.IntType(8), name) for name in names)
    kind = ir.FunctionType(_POINTER, [_POINTER] * 2 + [ir.IntType(32)] + [_POINTER] * 3 + [ir.IntType(32), _POINTER])
    new = ir.Function(module, kind, "PyArray_NewFromDescr")
    own = module.get_global("Py_IncRef")
    make = ir.Function(module, _FASTCALL, "make")
    none, operands, _ = make.args
    builder = ir.IRBuilder(make.append_basic_block())
    sizes = builder.bitcast(builder.alloca(_WORD, 2), _POINTER)
    null, refuse = ir.Constant(_POINTER, None), make.append_basic_block("refuse")

    def need(condition: Any) -> None:
        further = make.append_basic_block()
        builder.cbranch(condition, further, refuse)
        builder.position_at_end(further)

    arrays = [builder.load(builder.gep(operands, [ir.Constant(_WORD, i)])) for i in (0, 1)]
    for array in arrays:
        for field, wanted in ((TYPE, array_type), (DTYPE, number_type)):
            need(builder.icmp_unsigned("==", _peek(builder, array, field), builder.ptrtoint(wanted, _WORD)))
        axes = builder.trunc(_peek(builder, array, NDIM), ir.IntType(32))
        need(builder.icmp_unsigned("==", axes, ir.Constant(ir.IntType(32), 2)))
    a, b = (_array_words(builder, array, 2, dtype.itemsize) for array in arrays)
    m, depth, n = a[1], b[1], b[2]
    need(builder.icmp_signed("==", a[2], depth))
    need(builder.icmp_signed("<", builder.mul(builder.mul(m, depth), n), ir.Constant(_WORD, most)))
    for i, size in enumerate((m, n)):
        place = builder.gep(sizes, [ir.Constant(_WORD, 8 * i)])
        builder.store(size, builder.bitcast(place, _WORD.as_pointer()))
    builder.call(own, [number_type])  # the array takes this reference over
    zero = ir.Constant(ir.IntType(32), 0)
    out = builder.call(new, [array_type, number_type, ir.Constant(zero.type, 2), sizes, null, null, zero, null])
    with builder.if_then(builder.icmp_unsigned("!=", out, null)):  # else there is no memory, and the error is set
        builder.call(kernel, [*a, *b, *_array_words(builder, out, 2, dtype.itemsize)])
    builder.ret(out)
    builder.position_at_end(refuse)
    builder.call(own, [none])
    builder.ret(none)


def _numpy_symbols(dtype: np.dtype[Any]) -> list[tuple[str, int]]:
    """What :func:`_add_maker` needs of NumPy, by name and address: as C extensions find it, in its table (2.0)."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.argtypes, get.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_void_p
    capsule = np._core._multiarray_umath._ARRAY_API  # type: ignore[attr-defined]  # its stubs leave it out
    table = ctypes.cast(get(capsule, None), ctypes.POINTER(ctypes.c_int64))
    return [("PyArray_Type", table[2]), ("PyArray_NewFromDescr", table[94]), (f"numpy.{dtype.name}", id(dtype))]


@global_compiler_lock
def _compile(body: Callable[..., None], codes: str, ints: int, dtype: np.dtype[Any], makes: int) -> bytes:
    """Object code with the entries ``kernel``, ``replay`` and ``launch``, and ``make`` if ``makes``."""
    words: list[Any] = []
    for code in codes.removesuffix("v"):
        element = _ELEMENTS.get(code) or _TYPES[dtype]
        words += [types.CPointer(element)] + [types.int64] * (2 * _NDIM.get(code, 0))
    words += [types.int64] * ints
    if codes.endswith("v"):
        words += [types.CPointer(types.int64), types.int64]
    compiler = _Compiler(body, registry.cpu_target, dict(FLAGS), {}, Compiler)
    compiled = compiler.compile(tuple(words), types.void)
    library = compiled.library
    module = library.create_ir_module("entries")
    _add_entries(module, compiled, codes, ints, dtype.itemsize)
    if makes:
        _add_maker(module, dtype, makes)
    library.add_ir_module(module)
    # The body becomes part of ``kernel``: words passed on through the stack would cost 25 cycles a call.
    native = library._final_module.get_function(compiled.fndesc.mangled_name)
    native.linkage = "internal"
    native.add_function_attribute("alwaysinline")
    return library.machine_code()


class _MethodDef(ctypes.Structure):
    """PyMethodDef of CPython's C API."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_METH_FASTCALL = 0x0080


class _Loaded(NamedTuple):
    """A kernel's machine code in memory: its addresses, what Python calls, and what must stay alive meanwhile."""

    address: int
    replay: int
    launch: Callable[..., None]
    make: Any
    alive: tuple[Any, ...]


def _load(name: str, code: bytes) -> _Loaded:
    """Make object code runnable, in an engine of its own, where its symbols meet no other kernel's."""
    machine = llvm.Target.from_default_triple().create_target_machine(codemodel="jitdefault")
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.argtypes, new.restype = (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p), ctypes.py_object
    methods, calls = [], {}
    for entry in ("launch", "make"):
        if address := engine.get_function_address(entry):
            methods.append(_MethodDef(name.encode(), address, _METH_FASTCALL, None))
            calls[entry] = new(ctypes.addressof(methods[-1]), None, None)
    address, replay = (engine.get_function_address(entry) for entry in ("kernel", "replay"))
    return _Loaded(address, replay, calls["launch"], calls.get("make"), (engine, methods))


class Kernel(dict[Any, Callable[..., None]]):
    """A kernel for each number type: ``kernel[dtype](*arrays, *ints)`` runs it; float32, float64, some for int64.

    Compiled on first use for a dtype, and cached on disk. The caller answers for the number of arguments, shapes,
    contiguity, dtypes, and for arrays being NumPy arrays: nothing is checked here, not even that.

    Within a kernel that declares it in ``uses``, ``other(*words)`` calls the machine code of another one, in the
    precision of its first pointer: what large kernels share is compiled once.

    The last word of an ``elementwise`` kernel is a number of elements, more than any of its options has: those of each
    array that has so many depend on nothing but their like in the others, so that a part of them can be had alone.

    One that ``makes`` products of two matrices is at ``kernel[itemsize](a, b)`` what makes the result as well, or
    returns None: see :func:`_add_maker`.
    """

    def __init__(
        self, body: Callable[..., None], codes: str, ints: int, uses: Sequence[Kernel], elementwise: bool, makes: int
    ) -> None:
        super().__init__()
        self.body, self.codes, self.ints, self.uses = body, codes.replace("*", ""), ints, tuple(uses)
        self.elementwise, self.makes = elementwise, makes
        ends = [codes[i : i + 2] for i, code in enumerate(codes) if code != "*"]
        self.writes = tuple(["*" in end or end[0] == "e" for end in ends])
        self.__name__, self.__doc__ = body.__name__, body.__doc__
        _let_kernels_call(self)

    def __call__(self, *words: Any) -> None:
        raise TypeError(f"{self!r}: only kernels call it so; take kernel[dtype]")

    def symbol(self, dtype: str) -> str:
        """The name by which other kernels' code knows this one's."""
        return f"{self.body.__module__}.{self.body.__qualname__}.{dtype}"

    def _file(self, dtype: np.dtype[Any]) -> Path | None:
        """Where the object code is kept; nowhere for kernels outside this folder, which the stamp does not know."""
        if Path(self.body.__code__.co_filename).parent != _FOLDER:
            return None
        folder = cache_directory()
        return folder and folder / self.symbol(dtype.name)

    @global_compiler_lock  # one thread after the other: machine code that is loaded twice is freed once
    @functools.cache  # noqa: B019 (kernels live as long as the process)
    def compiled(self, dtype: np.dtype[Any]) -> _Loaded:
        """The machine code for ``dtype`` (float32 or float64)."""
        for other in self.uses:
            llvm.add_symbol(other.symbol(dtype.name), other.address(dtype))
        if self.makes:
            for name, address in _numpy_symbols(dtype):
                llvm.add_symbol(name, address)
        file = self._file(dtype)
        code = file and _read(file)
        if not code:
            code = _compile(self.body, self.codes, self.ints, dtype, self.makes)
            if file:
                _write(file, code)
        return _load(self.__name__, code)

    @functools.cache  # noqa: B019 (the same)
    def address(self, dtype: Any) -> int:
        """The address of the C function for ``dtype``, for callers that lay out the words themselves."""
        return self.compiled(np.dtype(dtype)).address

    @functools.cache  # noqa: B019 (the same)
    def replay(self, dtype: Any) -> int:
        """The address of the C function that takes its words from an array of int64."""
        return self.compiled(np.dtype(dtype)).replay

    def words(self, operands: Sequence[Any], address: Callable[[Array], int]) -> list[int]:
        """The words for these operands (arrays, then ints); ``address`` gives that of an array's first element."""
        words: list[int] = []
        for array, code in zip(operands, self.codes, strict=False):
            words.append(address(array))
            if code in _NDIM:
                words += [*array.shape, *(stride // array.itemsize for stride in array.strides)]
        return words + [int(number) for number in operands[len(self.codes) :]]

    def unlocked(self, *operands: Any) -> Callable[[], None]:
        """``self[dtype](*operands)`` as a :class:`Part`."""
        kinds = [x.dtype for x, code in zip(operands, self.codes, strict=False) if code not in _ELEMENTS]
        dtype = kinds[0] if kinds else np.dtype(np.float64)  # any: its words are the same
        if isinstance(dtype, _Recording):
            return dtype.record(self, operands, apart=True)
        return Part(self.replay(dtype), self.words(operands, address_of), operands)

    def __missing__(self, key: np.dtype[Any] | _Recording | int) -> Callable[..., Any]:
        if isinstance(key, _Recording):
            recording = key
            return lambda *operands: recording.record(self, operands)()
        if not isinstance(key, int):
            self[key] = self.compiled(key).launch
        else:
            self[key] = self.compiled(np.dtype(f"f{key}")).make if key in (4, 8) else lambda a, b: None
        return self[key]

    __hash__ = object.__hash__  # type: ignore[assignment]  # a kernel is itself, not its table
    __eq__ = object.__eq__  # the same

    def __repr__(self) -> str:
        return f"<kernel {self.__name__} {self.codes}{self.ints}>"


def address_of(array: Array) -> int:
    """Of the first element. (``array.ctypes.data``, ten times as fast.)"""
    return ctypes.c_int64.from_address(id(array) + DATA).value


class Part:
    """A call of a kernel that any thread can make, and that leaves the interpreter's lock to others meanwhile.

    It is the C function void(int64_t *) at ``address``, of the words at the address ``words``.
    """

    __slots__ = ("_alive", "address", "words")
    _kind = ctypes.CFUNCTYPE(None, ctypes.c_int64)

    def __init__(self, address: int, words: Sequence[int], operands: Any) -> None:
        table = np.array(words, np.int64)
        self.address, self.words, self._alive = address, address_of(table), (table, operands)

    def __call__(self) -> None:
        self._kind(self.address)(self.words)


class Launch(NamedTuple):
    """One call of a kernel; its operands are arrays, then ints. Neighbours that are ``apart`` may run at once."""

    kernel: Kernel
    dtype: np.dtype[Any]
    operands: tuple[Any, ...]
    apart: bool


class _Recording:
    """Stands for a dtype, so that ``kernel[dtype](…)`` comes here."""

    __slots__ = ("dtype", "launches")

    def __init__(self, dtype: np.dtype[Any], launches: list[Launch]) -> None:
        self.dtype, self.launches = dtype, launches

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    def record(self, kernel: Kernel, operands: tuple[Any, ...], apart: bool = False) -> Callable[[], None]:
        for array, code in zip(operands, kernel.codes, strict=False):
            if code == "e":
                array.fill(0)
        plain = [x.view(np.ndarray) if isinstance(x, np.ndarray) else x for x in operands]
        self.launches.append(Launch(kernel, self.dtype, tuple(plain), apart))
        return lambda: None


class _Recorded(np.ndarray):
    """An array whose dtype says that launches are recorded. Its views and transposes are such arrays, too."""

    launches: list[Launch]

    def __array_finalize__(self, source: Any) -> None:
        if source is not None:
            self.launches = getattr(source, "launches", [])

    @property
    def dtype(self) -> Any:
        return _Recording(np.ndarray.dtype.__get__(self), self.launches)


def recorded(function: Callable[..., Any], values: Sequence[Any], options: dict[str, Any]) -> tuple[Any, list[Launch]]:
    """(``function(*values, **options)``, the launches of kernels for the arrays among ``values``), running no kernel.

    The function sees arrays that it may reshape and transpose, and outputs that nobody fills. What it computes in
    NumPy it computes of whatever these arrays hold, so the caller must see to it that each operand of a launch is an
    argument, or was written by a launch before.
    """
    launches: list[Launch] = []
    arguments = []
    kinds = {value.dtype.kind for value in values if isinstance(value, np.ndarray)}
    kind = "f" if "f" in kinds else "i"
    for value in values:
        if isinstance(value, np.ndarray) and value.dtype in _TYPES and value.dtype.kind == kind:
            value = value.view(_Recorded)
            value.launches = launches  # type: ignore[attr-defined]  # it is _Recorded now
        arguments.append(value)
    with np.errstate(all="ignore"):
        return function(*arguments, **options), launches


def _let_kernels_call(kernel: Kernel) -> None:
    """Tell Numba what ``kernel(*words)`` means."""

    class Template(AbstractTemplate):
        key = kernel

        def generic(self, args: Any, kws: Any) -> Any:
            return signature(types.void, *args)

    def lower(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        dtype = next(kind.dtype for kind in sig.args if isinstance(kind, types.CPointer))
        words = [
            builder.ptrtoint(value, _WORD)
            if isinstance(kind, types.CPointer)
            else context.cast(builder, value, kind, types.int64)
            for value, kind in zip(values, sig.args, strict=True)
        ]
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [_WORD] * len(words)), kernel.symbol(str(dtype))
        )
        builder.call(function, words)
        return context.get_dummy_value()

    infer_global(kernel, types.Function(Template))
    lower_builtin(kernel, types.VarArg(types.Any))(lower)


def _read(file: Path) -> bytes | None:
    """Object code from the cache, or None where the file is missing or not whole."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest, code = content[:32], content[32:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(file: Path, code: bytes) -> None:
    """Keep object code for other processes, in one move: several may write at once. A full disk is no error."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        temporary.write_bytes(hashlib.sha256(code).digest() + code)
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)


def kernel(
    codes: str, ints: int, uses: Sequence[Kernel] = (), elementwise: bool = False, makes: int = 0
) -> Callable[[Callable[..., None]], Kernel]:
    """Declare a kernel: see the module's docstring for the operand codes, and :class:`Kernel` for the rest.

    ``uses``: the kernels that it calls. ``makes``: it multiplies two matrices; those of less than so many
    multiplications without Python's help.
    """
    return lambda body: Kernel(body, codes, ints, uses, elementwise, makes)
