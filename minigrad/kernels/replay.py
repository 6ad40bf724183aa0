"""Walking a recorded program: kernels one after the other, without entering Python.

A program is an int64 array. It begins with the number of its *patches*, three words each: which argument, the
position of a word, a number of bytes; the word becomes the address of the argument's data plus these bytes. The
instructions follow, ``[address, length, words…]``: the address is that of a kernel's ``replay``, the length counts all
three. Two addresses are none: END, and CHECK, whose word is the address of an int64 that must be 0, or else the
walk ends.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minigrad.kernels.jit import ARRAY_FLAGS, DATA, DTYPE, NDIM, SHAPE, TYPE, function, kernel
from minigrad.kernels.simd import call, offset

END, CHECK = 0, 1

_WORD = ir.IntType(64)


@intrinsic
def _peek(typingctx: Any, address: Any) -> Any:
    """The int64 at an address."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], _WORD.as_pointer()))

    return types.int64(types.int64), codegen


@intrinsic
def _move(typingctx: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy bytes between addresses that do not overlap."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, byte, _WORD, ir.IntType(1)])
        copy = builder.module.globals.get("llvm.memcpy.p0.p0.i64") or ir.Function(
            builder.module, kind, "llvm.memcpy.p0.p0.i64"
        )
        target, source, size = args
        builder.call(
            copy, [builder.inttoptr(target, byte), builder.inttoptr(source, byte), size, ir.Constant(ir.IntType(1), 0)]
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def _copy_of(bits: int) -> Any:
    """An intrinsic that copies so many bits from one address, of any alignment, to another."""

    def copy(typingctx: Any, target: Any, source: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind = ir.VectorType(ir.IntType(32), bits // 32).as_pointer()
            value = builder.load(builder.inttoptr(args[1], kind), align=1)
            builder.store(value, builder.inttoptr(args[0], kind), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return intrinsic(copy)


_copy_half, _copy_word, _copy_words = _copy_of(32), _copy_of(64), _copy_of(512)


@function
def _copy(target: Any, source: Any, size: Any) -> None:
    """``_move`` for the rows of a batch, which are short: the library's function takes longer to choose its way."""
    at = 0
    if size <= 4096:
        while at + 64 <= size:
            _copy_words(target + at, source + at)
            at += 64
        while at + 8 <= size:
            _copy_word(target + at, source + at)
            at += 8
        if at + 4 <= size:
            _copy_half(target + at, source + at)
            at += 4
    if at < size:
        _move(target + at, source + at, size - at)


@kernel("", ints=3)
def move(target: Any, source: Any, size: Any) -> None:
    """Copy ``size`` bytes from one address to another; they do not overlap."""
    _move(target, source, size)


@function
def _walk(code: Any) -> Any:
    """Run the instructions; the position where the walk ended: that of END, or of a CHECK that failed."""
    i = 1 + 3 * code[0]
    while code[i] != END:
        if code[i] == CHECK:
            if _peek(code[i + 2]) != 0:
                break
        else:
            call(code[i], offset(code, i + 2))
        i += code[i + 1]
    return i


@function
def _patch(code: Any, arguments: Any) -> None:
    for patch in range(1, 1 + 3 * code[0], 3):
        code[code[patch + 1]] = _peek(arguments[code[patch]] + DATA) + code[patch + 2]


@kernel("i*v", ints=0)
def patch(code: Any, arguments: Any, count: Any) -> None:
    """Patch the addresses of the arguments into a program."""
    _patch(code, arguments)


@kernel("i*i*", ints=0)
def walk(code: Any, ended: Any) -> None:
    """Run a program that has been patched. ``ended``: see :func:`_walk`."""
    ended[0] = _walk(code)


@kernel("i*i*v", ints=0)
def replay(code: Any, ended: Any, arguments: Any, count: Any) -> None:
    """Patch the addresses of the arguments into a program, and run it. ``ended``: see :func:`_walk`."""
    _patch(code, arguments)
    ended[0] = _walk(code)


@function
def _agree(words: Any, table: Any, objects: Any) -> Any:
    """Whether memory and objects are what two tables say.

    ``words``: how many words of memory to look at, then the address of each and what must be there. ``table``: how many
    of the objects are arrays to look at, their type, how many others there are, and the most references that each of
    those may have; then for each of the arrays its dtype's address, its number of axes and their sizes. They must be
    C-contiguous and aligned (NPY_ARRAY_C_CONTIGUOUS, 0x1, and NPY_ARRAY_ALIGNED, 0x100).
    """
    for k in range(1, 1 + 2 * words[0], 2):
        if _peek(words[k]) != words[k + 1]:
            return False
    at = 4
    for k in range(table[0]):
        array, ndim = objects[k], table[at + 1]
        if _peek(array + TYPE) != table[1] or _peek(array + DTYPE) != table[at]:
            return False
        if (_peek(array + NDIM) & 0xFFFFFFFF) != ndim or (_peek(array + ARRAY_FLAGS) & 0x101) != 0x101:
            return False
        sizes = _peek(array + SHAPE)
        for axis in range(ndim):
            if _peek(sizes + 8 * axis) != table[at + 2 + axis]:
                return False
        at += 2 + ndim
    for k in range(table[0], table[0] + table[2]):  # noqa: SIM110 (Numba compiles no generator)
        if (_peek(objects[k]) & 0xFFFFFFFF) > table[3]:
            return False
    return True


@function
def _put_first(objects: Any, arguments: Any, count: Any) -> None:
    for k in range(count):
        objects[k] = arguments[k]


@kernel("iii*i*v", ints=0)
def agree(words: Any, table: Any, ended: Any, objects: Any, arguments: Any, count: Any) -> None:
    """ended[0] = 0 if the tables hold (see :func:`_agree`), else -1. ``objects`` begins with the arguments then."""
    _put_first(objects, arguments, count)
    ended[0] = 0 if _agree(words, table, objects) else -1


@kernel("iii*i*i*v", ints=0)
def replay_if_agreed(words: Any, table: Any, ended: Any, objects: Any, code: Any, arguments: Any, count: Any) -> None:
    """:func:`replay`, of ``objects``, if the tables hold (see :func:`agree`), else only ended[0] = -1."""
    _put_first(objects, arguments, count)
    if _agree(words, table, objects):
        _patch(code, objects)
        ended[0] = _walk(code)
    else:
        ended[0] = -1


@function
def _run_on(order: Any, begin: Any, count: Any) -> Any:
    """Whether these entries of ``order`` are consecutive numbers."""
    for i in range(begin + 1, begin + count):  # noqa: SIM110 (Numba compiles no generator)
        if order[i] != order[i - 1] + 1:
            return False
    return True


@function
def _gather(data: Any, arrays: Any, order: Any, begin: Any, count: Any) -> None:
    """Copy the examples order[begin], order[begin + 1], … to the memory of the batch: see :func:`replay_batches`."""
    for k in range(0, 4 * arrays, 4):
        source, target, size = data[k], data[k + 1], data[k + 2]
        for row in range(count):
            _copy(target + row * size, source + order[begin + row] * size, size)


@kernel("i*i*iii", ints=6)
def replay_batches(
    code: Any, ended: Any, order: Any, data: Any, results: Any,
    begin: Any, end: Any, batch: Any, arrays: Any, result: Any, places: Any,
) -> None:  # fmt: skip
    """Run a program for the batches from ``begin`` to ``end``, or to the first that a CHECK ends.

    Batch b holds the examples order[b batch], order[b batch + 1], … ``data``: for each of ``arrays`` arrays, the
    address of its examples, that of memory for a batch, the bytes of an example, and a word to work with. The program
    reads examples that follow each other where they are, if ``places`` is not 0; others, and a batch that a CHECK has
    ended, are copied. ``results``: the addresses of the program's result, which has ``result`` bytes, and of an array
    of results, one a batch. ended[1] becomes the number of the first batch that did not run.
    """
    for b in range(begin, end):
        first = b * batch
        inside = places != 0 and _run_on(order, first, batch)
        if not inside:
            _gather(data, arrays, order, first, batch)
        for k in range(0, 4 * arrays, 4):
            data[k + 3] = data[k] + order[first] * data[k + 2] if inside else data[k + 1]
        for patch in range(1, 1 + 3 * code[0], 3):
            if code[patch] < arrays:
                code[code[patch + 1]] = data[4 * code[patch] + 3] + code[patch + 2]
        ended[0] = _walk(code)
        ended[1] = b
        if code[ended[0]] != END:
            if inside:
                _gather(data, arrays, order, first, batch)
            return
        if result:
            _move(results[1] + b * result, results[0], result)
    ended[1] = end
