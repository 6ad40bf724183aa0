"""Several lanes at once: a vector type for Numba, and formulas that read alike for one lane and for many.

A *formula* is a Python function on :class:`Term`, an LLVM value with operators. Kernels call it on scalars
(``float32``, ``float64``) or on :class:`Lanes`; all lanes go through the same instructions, so an element's
bits depend neither on its position nor on the width of the machine's vectors::

    @formula
    def axpy(a, x, y):
        return fma(a, x, y)            # in a kernel: axpy(s[0], load(x, i, n), load(y, i, n))

Nothing here knows a fast-math flag: what is written is what is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from minigrad.kernels.jit import cpu_features, function

_I32, _I64 = ir.IntType(32), ir.IntType(64)


#: Bytes in one native vector of the CPU that kernels are compiled for. Speed depends on it, bits never do.
VECTOR_BYTES = 64 if "avx512f" in cpu_features() else 32 if "avx" in cpu_features() else 16


class Lanes(types.Type):
    """The Numba type of ``count`` lanes of ``element`` (float32 or float64)."""

    def __init__(self, element: types.Float, count: int) -> None:
        self.element, self.count = element, count
        super().__init__(name=f"Lanes({element} x {count})")


def _float(element: types.Float) -> ir.Type:
    return ir.DoubleType() if element.bitwidth == 64 else ir.FloatType()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Lanes) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(_float(fe_type.element), fe_type.count))


def native(element: types.Float) -> int:
    """Lanes of ``element`` in a native vector."""
    return VECTOR_BYTES // (element.bitwidth // 8)


class Term:
    """An LLVM value, scalar or vector, float or integer, with Python's operators. Comparisons give masks."""

    __slots__ = ("builder", "value")

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder, self.value = builder, value

    # -- what it is

    @property
    def type(self) -> ir.Type:
        return self.value.type

    @property
    def element(self) -> ir.Type:
        return self.type.element if isinstance(self.type, ir.VectorType) else self.type

    @property
    def is_float(self) -> bool:
        return isinstance(self.element, ir.FloatType | ir.DoubleType)

    @property
    def double(self) -> bool:
        """Whether an element has 64 bits: picks between the tables of the two precisions."""
        return isinstance(self.element, ir.DoubleType) or self.element == _I64

    def shaped(self, element: ir.Type) -> ir.Type:
        """The type with as many lanes as this one, of ``element``."""
        return ir.VectorType(element, self.type.count) if isinstance(self.type, ir.VectorType) else element

    # -- making others

    def like(self, number: Any) -> Term:
        """``number`` (rounded once to the element type) in every lane; a Term of scalars is spread."""
        if isinstance(number, Term):
            return self._spread(number)
        value = ir.Constant(self.element, float(number) if self.is_float else int(number))
        if isinstance(self.type, ir.VectorType):
            value = ir.Constant(self.type, [value] * self.type.count)
        return Term(self.builder, value)

    def _spread(self, other: Term) -> Term:
        value = other.value
        if isinstance(self.type, ir.VectorType) and not isinstance(value.type, ir.VectorType):
            one = self.builder.insert_element(ir.Constant(self.type, ir.Undefined), value, ir.Constant(_I32, 0))
            zeros = ir.Constant(ir.VectorType(_I32, self.type.count), None)
            value = self.builder.shuffle_vector(one, ir.Constant(self.type, ir.Undefined), zeros)
        return Term(self.builder, value)

    def call(self, name: str, *others: Any) -> Term:
        """``llvm.<name>`` of this and others of the same type."""
        kind = f"f{64 if self.double else 32}" if self.is_float else f"i{self.element.width}"
        if isinstance(self.type, ir.VectorType):
            kind = f"v{self.type.count}{kind}"
        values = [self.value, *(self.like(other).value for other in others)]
        callee = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(self.type, [self.type] * len(values)), f"llvm.{name}.{kind}"
        )
        return Term(self.builder, self.builder.call(callee, values))

    def bits(self) -> Term:
        """The same bits as integers."""
        return Term(self.builder, self.builder.bitcast(self.value, self.shaped(_I64 if self.double else _I32)))

    def floats(self) -> Term:
        """The same bits as floats."""
        kind = ir.DoubleType() if self.double else ir.FloatType()
        return Term(self.builder, self.builder.bitcast(self.value, self.shaped(kind)))

    def to_float(self) -> Term:
        """Integers converted to floats of the same size."""
        kind = ir.DoubleType() if self.double else ir.FloatType()
        return Term(self.builder, self.builder.sitofp(self.value, self.shaped(kind)))

    def widened(self) -> Term:
        """float32 as float64."""
        return self if self.double else Term(self.builder, self.builder.fpext(self.value, self.shaped(ir.DoubleType())))

    def narrowed(self) -> Term:
        """float64 rounded to float32."""
        return Term(self.builder, self.builder.fptrunc(self.value, self.shaped(ir.FloatType())))

    # -- arithmetic

    def _operate(self, float_name: str, int_name: str, other: Any, swap: bool = False) -> Term:
        if isinstance(other, Term) and isinstance(other.type, ir.VectorType) > isinstance(self.type, ir.VectorType):
            self = other.like(self)
        a, b = self, self.like(other)
        if swap:
            a, b = b, a
        operation = getattr(self.builder, float_name if self.is_float else int_name)
        return Term(self.builder, operation(a.value, b.value))

    def __add__(self, other: Any) -> Term:
        return self._operate("fadd", "add", other)

    def __sub__(self, other: Any) -> Term:
        return self._operate("fsub", "sub", other)

    def __rsub__(self, other: Any) -> Term:
        return self._operate("fsub", "sub", other, swap=True)

    def __mul__(self, other: Any) -> Term:
        return self._operate("fmul", "mul", other)

    def __truediv__(self, other: Any) -> Term:
        return self._operate("fdiv", "sdiv", other)

    def __rtruediv__(self, other: Any) -> Term:
        return self._operate("fdiv", "sdiv", other, swap=True)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Term:
        return Term(self.builder, self.builder.fneg(self.value))

    def __abs__(self) -> Term:
        return self.call("fabs")

    def __and__(self, other: Any) -> Term:
        return self._operate("and_", "and_", other)

    def __or__(self, other: Any) -> Term:
        return self._operate("or_", "or_", other)

    def __xor__(self, other: Any) -> Term:
        return self._operate("xor", "xor", other)

    def __lshift__(self, other: Any) -> Term:
        return self._operate("shl", "shl", other)

    def __rshift__(self, other: Any) -> Term:
        return self._operate("ashr", "ashr", other)

    # -- comparison: false where either side is NaN, but for !=

    def _compare(self, sign: str, other: Any) -> Term:
        b = self.builder
        compare = b.icmp_signed if not self.is_float else b.fcmp_unordered if sign == "!=" else b.fcmp_ordered
        return Term(b, compare(sign, self.value, self.like(other).value))

    def __lt__(self, other: Any) -> Term:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Term:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Term:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Term:
        return self._compare(">=", other)

    def __eq__(self, other: Any) -> Term:  # type: ignore[override]  # lanes compare to a mask
        return self._compare("==", other)

    def __ne__(self, other: Any) -> Term:  # type: ignore[override]  # the same
        return self._compare("!=", other)

    __hash__ = None  # type: ignore[assignment]  # as Python does beside __eq__


def where(mask: Term, a: Any, b: Any) -> Term:
    """``a`` where the mask is true, else ``b``; one of them must be a Term of the mask's shape."""
    shape = a if isinstance(a, Term) and (not isinstance(b, Term) or not isinstance(b.type, ir.VectorType)) else b
    return Term(mask.builder, mask.builder.select(mask.value, shape.like(a).value, shape.like(b).value))


def _opaque_mask(builder: Any, places: list[bool]) -> Any:
    """A constant mask of 64-byte vectors of which the compiler knows nothing: it makes insertions of blends else."""
    mask = ir.Constant(ir.VectorType(ir.IntType(1), len(places)), places)
    found = builder.asm(ir.FunctionType(mask.type, [mask.type]), "", "=^Yk,0", [mask], side_effect=False)
    found.attributes.add("readnone")  # so that one serves a whole loop
    return found


def turned(builder: Any, kind: Any, addresses: list[Any], count: int) -> list[Any]:
    """The first ``count`` columns of the rows at ``addresses``, a row for each lane: a transposition in registers.

    A row's pieces of 16 bytes, which ``count`` must fill, are read one after the other, because rows may evict each
    other from the cache. Where vectors have 64 bytes those of most rows are read two at once and shuffled, those of
    others blended, so that both ports of AVX-512 are busy: a matrix times a vector takes 0.85 of the time in float32
    and 0.8 in float64, on an Emerald Rapids.
    """
    chunk = 2 if isinstance(kind, ir.DoubleType) else 4
    lanes, align = len(addresses), 16 // chunk
    four = lanes == 4 * chunk

    def shuffle(x: Any, y: Any, places: list[int]) -> Any:
        return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(_I32, len(places)), places))

    def pair(x: Any, y: Any, size: int, side: int) -> Any:
        """``size`` elements of x, then of y, and so on, from ``side`` on in each 16 bytes: one instruction."""
        starts = range(side, side + chunk // 2, size)
        inside = [start + i + other for start in starts for other in (0, lanes) for i in range(size)]
        return shuffle(x, y, [start + i for start in range(0, lanes, chunk) for i in inside])

    def joined(pieces: Any) -> Any:
        while len(pieces) > 1:
            size = 2 * pieces[0].type.count
            pieces = [shuffle(x, y, list(range(size))) for x, y in zip(pieces[::2], pieces[1::2], strict=True)]
        return pieces[0]

    def blended(pieces: Any) -> Any:
        """The same for four pieces of 16 bytes, each spread from memory over its place."""
        wide = [shuffle(piece, piece, [j % chunk for j in range(lanes)]) for piece in pieces]
        total = wide[0]
        for i in (1, 2, 3):
            total = builder.select(_opaque_mask(builder, [j // chunk == i for j in range(lanes)]), wide[i], total)
        return total

    read = []
    for i, address in enumerate(addresses):
        size = 2 * chunk if four and i % chunk < 3 and count % (2 * chunk) == 0 else chunk
        piece = ir.VectorType(kind, size).as_pointer()
        places = [builder.gep(address, [ir.Constant(_I64, start)]) for start in range(0, count, size)]
        read.append([builder.load(builder.bitcast(place, piece), align=align) for place in places])

    def sixteen_bytes(i: int) -> list[Any]:
        """16 bytes each of the rows that are i modulo ``chunk``, for each 16 bytes of a row."""
        found = []
        for pieces in zip(*read[i::chunk], strict=True):
            if pieces[0].type.count == chunk:
                found.append(blended(pieces) if four and VECTOR_BYTES == 64 else joined(pieces))
            else:
                x, y = joined(pieces[:2]), joined(pieces[2:])
                found += [shuffle(x, y, [j for j in range(2 * lanes) if j // chunk % 2 == side]) for side in (0, 1)]
        return found

    columns = []
    for rows in zip(*[sixteen_bytes(i) for i in range(chunk)], strict=True):
        if chunk == 4:
            pairs = [pair(rows[i], rows[i + 1], 1, side) for i in (0, 2) for side in (0, 2)]
            rows = (pairs[0], pairs[2], pairs[1], pairs[3])
        columns += [
            pair(rows[i], rows[i + 1], chunk // 2, side) for i in range(0, chunk, 2) for side in (0, chunk // 2)
        ]
    return columns


def lookup(columns: Sequence[tuple[float, ...]], index: Term, double: bool = True) -> list[Term]:
    """The entry at ``index`` of each column of a constant table, as float64 or float32.

    Where a column has 32 float32 it is two registers of AVX-512. Elsewhere the rows lie in memory, whole pieces of 16
    bytes, and each lane reads its own.
    """
    b = index.builder
    kind = ir.DoubleType() if double else ir.FloatType()
    if not double and len(columns[0]) == 32 and _is_native_avx512(index):
        whole = [ir.Constant(ir.VectorType(kind, 16), list(c[i : i + 16])) for c in columns for i in (0, 16)]
        function = ir.FunctionType(whole[0].type, [whole[0].type, index.type, whole[0].type])
        callee = cgutils.get_or_insert_function(b.module, function, "llvm.x86.avx512.vpermi2var.ps.512")
        pairs = zip(whole[::2], whole[1::2], strict=True)
        return [Term(b, b.call(callee, [low, index.value, high])) for low, high in pairs]
    entries = [ir.Constant(kind, entry) for row in zip(*columns, strict=True) for entry in row]
    table = cgutils.global_constant(b, "minigrad.table", ir.Constant(ir.ArrayType(kind, len(entries)), entries))
    table.align = 64
    memory, starts = b.bitcast(table, ir.IntType(8).as_pointer()), index * (len(columns) * (8 if double else 4))

    def place(start: Any) -> Any:
        return b.bitcast(b.gep(memory, [start]), kind.as_pointer())

    if not isinstance(index.type, ir.VectorType):
        first = place(starts.value if index.double else b.zext(starts.value, _I64))
        return [Term(b, b.load(b.gep(first, [ir.Constant(_I64, i)]))) for i in range(len(columns))]
    words = b.bitcast(starts.value, ir.VectorType(_I64, index.type.count // (1 if index.double else 2)))
    rows = []
    for i in range(words.type.count):  # lanes leave a vector slowly: of two that share a word, one way for both
        word = b.extract_element(words, ir.Constant(_I32, i))
        halves = [b.and_(word, ir.Constant(_I64, 2**32 - 1)), b.lshr(word, ir.Constant(_I64, 32))]
        rows += [place(word)] if index.double else [place(half) for half in halves]
    return [Term(b, column) for column in turned(b, kind, rows, len(columns))]


def _is_native_avx512(x: Term) -> bool:
    bits = 64 if x.double else 32
    return VECTOR_BYTES == 64 and isinstance(x.type, ir.VectorType) and x.type.count * bits == 512


def scalef(x: Term, n: Term) -> Term | None:
    """x 2^n, rounded once, n a float that holds an integer: one instruction of AVX-512; None elsewhere."""
    if not _is_native_avx512(x):
        return None
    b = x.builder
    kind, mask = ("pd", ir.IntType(8)) if x.double else ("ps", ir.IntType(16))
    function = ir.FunctionType(x.type, [x.type, x.type, x.type, mask, _I32])
    callee = cgutils.get_or_insert_function(b.module, function, f"llvm.x86.avx512.mask.scalef.{kind}.512")
    return Term(b, b.call(callee, [x.value, n.value, x.value, ir.Constant(mask, -1), ir.Constant(_I32, 4)]))


def _join(builder: ir.IRBuilder, args: list[Any], values: list[Any]) -> list[Term]:
    """The arguments of a formula as Terms of one shape and precision: that of the first Lanes, or else the first."""
    main = next((i for i, arg in enumerate(args) if isinstance(arg, Lanes)), 0)
    shape = Term(builder, values[main])
    terms = []
    for value in values:
        term = Term(builder, value)
        if term.double != shape.double:  # a Python float among float32
            term = term.narrowed() if term.double else term.widened()
        terms.append(shape.like(term))
    return terms


def formula(text: Callable[..., Term]) -> Callable[..., Any]:
    """Let kernels call ``text``, a Python function on Terms. It stays what it is: other formulas call it, too."""

    class Template(AbstractTemplate):
        key = text

        def generic(self, args: Any, kws: Any) -> Any:
            main = next((arg for arg in args if isinstance(arg, Lanes)), args[0])
            return signature(main, *args)

    def lower(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return text(*_join(builder, sig.args, values)).value

    infer_global(text, types.Function(Template))
    lower_builtin(text, types.VarArg(types.Any))(lower)
    return text


@formula
def fma(a: Term, b: Term, c: Term) -> Term:
    """a b + c, rounded once."""
    shape = next((t for t in (a, b, c) if isinstance(t.type, ir.VectorType)), a)
    return shape.like(a).call("fma", b, c)


# -- memory: p is a pointer (numba CPointer) to floats, positions count elements


def _vector_pointer(builder: Any, pointer: Any, position: Any, vector: ir.Type) -> Any:
    return builder.bitcast(builder.gep(pointer, [position]), vector.as_pointer())


def first_lanes(builder: Any, count: Any, lanes: int) -> Any:
    """A mask of the first ``count`` (an i64, any value) of ``lanes``."""
    full = ir.Constant(_I64, lanes)
    clipped = builder.select(builder.icmp_signed("<", count, full), count, full)
    limit = Term(builder, builder.trunc(clipped, _I32))
    iota = ir.Constant(ir.VectorType(_I32, lanes), list(range(lanes)))
    return (Term(builder, iota) < limit).value


def _alignment(vector: ir.VectorType) -> int:
    return 8 if isinstance(vector.element, ir.DoubleType) else 4


def _suffix(vector: ir.VectorType) -> str:
    return f"v{vector.count}f{8 * _alignment(vector)}.p0"


def masked_load(builder: Any, address: Any, mask: Any, fill: Any) -> Any:
    """Lanes under the mask from ``address`` (a pointer to the vector); the others from ``fill``."""
    vector = fill.type
    kind = ir.FunctionType(vector, [vector.as_pointer(), _I32, mask.type, vector])
    callee = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.{_suffix(vector)}")
    return builder.call(callee, [address, ir.Constant(_I32, _alignment(vector)), mask, fill])


def masked_store(builder: Any, value: Any, address: Any, mask: Any) -> None:
    """Write the lanes under the mask."""
    vector = value.type
    kind = ir.FunctionType(ir.VoidType(), [vector, vector.as_pointer(), _I32, mask.type])
    callee = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.{_suffix(vector)}")
    builder.call(callee, [value, address, ir.Constant(_I32, _alignment(vector)), mask])


def loading(lanes: Callable[[types.Float], int]) -> Any:
    """An intrinsic like ``load`` for so many lanes of an element."""

    def load(typingctx: Any, p: Any, i: Any, n: Any, fill: Any = 0.0) -> Any:
        result = Lanes(p.dtype, lanes(p.dtype))
        fill = types.float64 if isinstance(fill, float) else fill  # an argument left out is no type, but its value

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            vector = context.get_value_type(result)
            address = _vector_pointer(builder, args[0], args[1], vector)
            left = builder.sub(args[2], args[1])
            blank = ir.Constant(vector, ir.Undefined)
            filling = _join(builder, [result, sig.args[3]], [blank, args[3]])[1]
            with builder.if_else(builder.icmp_signed(">=", left, ir.Constant(_I64, result.count)), likely=True) as (
                whole,
                part,
            ):
                with whole:
                    full = builder.load(address, align=_alignment(vector))
                    whole_block = builder.block
                with part:
                    mask = first_lanes(builder, left, result.count)
                    rest = masked_load(builder, address, mask, filling.value)
                    part_block = builder.block
            value = builder.phi(vector)
            value.add_incoming(full, whole_block)
            value.add_incoming(rest, part_block)
            return value

        return result(p, types.int64, types.int64, fill), codegen

    return intrinsic(load)


#: load(p, i, n, fill=0.0) -> a native vector of p[i:], where positions from n on are ``fill`` and are not read.
load = loading(native)
#: The same, always 16 lanes.
load16 = loading(lambda element: 16)
#: The same, four native vectors side by side.
load4 = loading(lambda element: 4 * native(element))


@intrinsic
def store(typingctx: Any, p: Any, i: Any, n: Any, lanes: Any) -> Any:
    """Write lanes to p[i:], none at n or beyond."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer, position, end, value = args
        address = _vector_pointer(builder, pointer, position, value.type)
        left = builder.sub(end, position)
        with builder.if_else(builder.icmp_signed(">=", left, ir.Constant(_I64, lanes.count)), likely=True) as (
            whole,
            part,
        ):
            with whole:
                builder.store(value, address, align=_alignment(value.type))
            with part:
                masked_store(builder, value, address, first_lanes(builder, left, lanes.count))
        return context.get_dummy_value()

    return types.void(p, types.int64, types.int64, lanes), codegen


#: Bytes of an output from which on it is written past the caches: no cache would keep it until it is read.
STREAMED = 1 << 25


def _is_far(builder: Any, n: Any, size: int) -> Any:
    return builder.icmp_signed(">=", n, ir.Constant(_I64, STREAMED // size))


def prefetch(builder: Any, pointer: Any) -> None:
    """Ask for a cache line ahead of its use; the address need not exist, and near memory costs next to nothing."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
    callee = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    to_read_everywhere_data = [ir.Constant(_I32, v) for v in (0, 3, 1)]
    builder.call(callee, [builder.bitcast(pointer, byte), *to_read_everywhere_data])


@intrinsic
def ask(typingctx: Any, p: Any, i: Any) -> Any:
    """:func:`prefetch` of p[i]."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        prefetch(builder, builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(p, types.int64), codegen


@function
def parts(n: Any, size: Any) -> Any:
    """How many parts hold n if none has more than ``size``: their quotient, rounded up."""
    return (n + size - 1) // size


@intrinsic
def call(typingctx: Any, address: Any, words: Any) -> Any:
    """Call the C function void(int64_t *) at an address; ``words`` may be an address, too."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = ir.IntType(64).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer])
        given = builder.inttoptr(args[1], pointer) if sig.args[1] == types.int64 else args[1]
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [given])
        return context.get_dummy_value()

    return types.void(types.int64, words), codegen


@intrinsic
def atomic_add(typingctx: Any, p: Any, i: Any, number: Any) -> Any:
    """Add to p[i], which other threads may add to as well; what it was before."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.gep(args[0], [args[1]]), args[2], "monotonic")

    return types.int64(p, types.int64, types.int64), codegen


@intrinsic
def atomic_read(typingctx: Any, p: Any, i: Any) -> Any:
    """p[i]; what another thread had written before it wrote this by :func:`atomic_write` can be seen afterwards."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(builder.gep(args[0], [args[1]]), "acquire", 8)

    return types.int64(p, types.int64), codegen


@intrinsic
def atomic_write(typingctx: Any, p: Any, i: Any, number: Any) -> Any:
    """p[i] = number, after all that this thread has written: see :func:`atomic_read`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], builder.gep(args[0], [args[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(p, types.int64, types.int64), codegen


@intrinsic
def atomic_turn(typingctx: Any, p: Any, i: Any, before: Any, after: Any) -> Any:
    """If p[i] is ``before``, make it ``after``, in order with all that this thread reads and writes; whether it was."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.gep(args[0], [args[1]])
        pair = builder.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 1)

    return types.boolean(p, types.int64, types.int64, types.int64), codegen


@intrinsic
def pause(typingctx: Any) -> Any:
    """Let the other thread of a core go first, in a loop that waits."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if llvm.get_process_triple().startswith(("x86", "i686")):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen


def opaque(builder: Any, value: Any) -> Any:
    """The same value, of which the compiler knows nothing: an empty line of assembly, for any machine."""
    return builder.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], side_effect=False)


def forget_memory(builder: Any) -> None:
    """Let the compiler forget what it has read, so that it reads it again: an empty line of assembly, too."""
    builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], side_effect=True)


def keep_rolled(builder: Any, branch: Any) -> None:
    """Say of the branch that closes a loop: its body is long enough as it is."""
    module = builder.module
    rule = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    loop = ir.MDValue(module, [], str(len(module.metadata)))
    loop.operands = (loop, rule)  # LLVM knows a loop by its node, and the node by its naming itself
    branch.set_metadata("llvm.loop", loop)


@intrinsic
def first_step(typingctx: Any, p: Any, n: Any) -> Any:
    """How far to go from p[0] to the next vector: to an aligned one where n elements are streamed, else its width."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        size, lanes = p.dtype.bitwidth // 8, native(p.dtype)
        inside = builder.and_(builder.ptrtoint(args[0], _I64), ir.Constant(_I64, VECTOR_BYTES - 1))
        aligned = builder.udiv(builder.sub(ir.Constant(_I64, VECTOR_BYTES), inside), ir.Constant(_I64, size))
        far = _is_far(builder, args[1], size)
        whole = builder.icmp_unsigned("==", builder.urem(inside, ir.Constant(_I64, size)), ir.Constant(_I64, 0))
        return builder.select(builder.and_(far, whole), aligned, ir.Constant(_I64, lanes))

    return types.int64(p, types.int64), codegen


@intrinsic
def put(typingctx: Any, p: Any, i: Any, n: Any, lanes: Any) -> Any:
    """``store`` for outputs that are not read soon: where p has ``STREAMED`` bytes, past the caches.

    For loops whose first step is ``first_step``, and the others a vector's width.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer, position, end, value = args
        address = _vector_pointer(builder, pointer, position, value.type)
        far = _is_far(builder, end, p.dtype.bitwidth // 8)
        inside = builder.and_(builder.ptrtoint(address, _I64), ir.Constant(_I64, VECTOR_BYTES - 1))
        aligned = builder.icmp_unsigned("==", inside, ir.Constant(_I64, 0))
        left = builder.sub(end, position)
        fits = builder.icmp_signed(">=", left, ir.Constant(_I64, lanes.count))
        with builder.if_else(fits, likely=True) as (whole, part):
            with whole, builder.if_else(builder.and_(far, aligned), likely=False) as (past, near):
                with past:
                    written = builder.store(value, address, align=VECTOR_BYTES)
                    written.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_I32, 1)]))
                with near:
                    builder.store(value, address, align=_alignment(value.type))
            with part:
                masked_store(builder, value, address, first_lanes(builder, left, lanes.count))
        return context.get_dummy_value()

    return types.void(p, types.int64, types.int64, lanes), codegen


@intrinsic
def width(typingctx: Any, p: Any) -> Any:
    """How many lanes ``load`` gives for this pointer."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(_I64, native(p.dtype))

    return types.int64(p), codegen


@intrinsic
def spread(typingctx: Any, number: Any, lanes: Any) -> Any:
    """A number in every lane of a vector like ``lanes``."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _join(builder, sig.args, args)[0].value

    return lanes(number, lanes), codegen


@intrinsic
def lane(typingctx: Any, lanes: Any, index: Any) -> Any:
    """One lane as a scalar."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.extract_element(args[0], builder.trunc(args[1], _I32))

    return lanes.element(lanes, types.int64), codegen


@intrinsic
def unit(typingctx: Any, lanes: Any, index: Any) -> Any:
    """1 in lane ``index``, which may lie outside, and 0 elsewhere, in a vector like ``lanes``."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word, end = ir.IntType(lanes.element.bitwidth), ir.Constant(_I64, lanes.count)
        place = builder.select(builder.icmp_unsigned("<", args[1], end), args[1], end)
        place = place if word.width == 64 else builder.trunc(place, word)
        numbers = Term(builder, ir.Constant(ir.VectorType(word, lanes.count), list(range(lanes.count))))
        here = (numbers == Term(builder, place)).value
        return builder.uitofp(here, args[0].type)

    return lanes(lanes, types.int64), codegen


@intrinsic
def offset(typingctx: Any, p: Any, elements: Any) -> Any:
    """The pointer ``elements`` further on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return p(p, types.int64), codegen


@intrinsic
def behind(typingctx: Any, p: Any) -> Any:
    """How many elements p lies behind a place that is ``VECTOR_BYTES`` aligned."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.and_(builder.ptrtoint(args[0], _I64), ir.Constant(_I64, VECTOR_BYTES - 1))
        return builder.udiv(place, ir.Constant(_I64, p.dtype.bitwidth // 8))

    return types.int64(p), codegen


@function
def aligned(p: Any) -> Any:
    """The first place at or behind p that is ``VECTOR_BYTES`` aligned: vectors from there lie in one line each."""
    return offset(p, -behind(p) % width(p))


@intrinsic(prefer_literal=True)
def scratch(typingctx: Any, p: Any, vectors: Any) -> Any:
    """A pointer like ``p`` to room for so many (a literal) native vectors on the stack."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element = _float(p.dtype)
        with builder.goto_entry_block():
            room = builder.alloca(ir.ArrayType(element, native(p.dtype) * vectors.literal_value))
            room.align = 64
        return builder.bitcast(room, element.as_pointer())

    return p(p, vectors), codegen


def fold(combine: Callable[[Term, Term], Term]) -> Any:
    """An intrinsic that combines 16 lanes into one: l with l + 8, then l + 4, l + 2, l + 1."""

    def fold16(typingctx: Any, lanes: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value, half = args[0], lanes.count // 2
            while half:
                blank = ir.Constant(value.type, ir.Undefined)
                low, high = (
                    builder.shuffle_vector(
                        value, blank, ir.Constant(ir.VectorType(_I32, half), list(range(start, start + half)))
                    )
                    for start in (0, half)
                )
                value = combine(Term(builder, low), Term(builder, high)).value
                half //= 2
            return builder.extract_element(value, ir.Constant(_I32, 0))

        return lanes.element(lanes), codegen

    return intrinsic(fold16)
