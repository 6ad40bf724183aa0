"""``mg.compile``: a function that is recorded once, and replayed as long as what it depends on is what it was."""

from __future__ import annotations

import functools
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, SupportsIndex

import numpy as np

from minigrad.compiler.program import Array, Program
from minigrad.compiler.recording import NOT_MINE, Recording, detached, flatten, rebuild
from minigrad.engine.state import _STATE, State, current
from minigrad.engine.tensor import Tensor, native
from minigrad.kernels.random import integer, permutation

#: How many recordings one function keeps; the oldest goes first.
RECORDINGS = 32


#: Seconds of native code after which a run comes back to Python.
_PERIOD = 0.1


class CompileError(RuntimeError):
    """A replay differs from the step that was recorded (``verify=True``)."""


def compile(fn: Callable[..., Any] | None = None, **options: bool) -> Any:
    """Record a function when it is first called, and replay it natively from then on; a decorator, too.

    The function may do what it likes with tensors: forward, ``backward()``, ``opt.zero_grad()``, ``opt.step()``,
    any op. Every call gives the same bits as without the decorator: results, parameters, optimizer state, ``.grad``.

    Arguments are tensors or arrays, of any layout, and arrive as tensors; Python floats, which may change from call to
    call; and ints, bools, strings, None, and tuples, lists and dicts of all these. Another shape, dtype, int or string
    is another recording, and so is a change in what the function uses: the training mode and attributes of modules and
    optimizers, the memory of parameters, the number that a name in the closure stands for. What else Python does in the
    function (printing, counting, drawing from ``np.random``) happens while it is recorded, and not again. Results are
    constants, and the caller's own. Each thread has recordings of its own; a copy of a compiled function has none yet.

    verify: run every call without the recording as well, and raise :class:`CompileError` if a bit differs.
    debug: no memory is used twice, and what nothing needs any more is filled with NaN.
    copies: let a result be written where it would be copied to (default: True).

    Raises TraceError, naming the line, where the function reads a value (``bool``, ``float``, ``.item()``,
    ``.numpy()``) or writes an argument; and whatever the function raises.

    >>> import minigrad as mg
    >>> @mg.compile
    ... def double(x):
    ...     return x + x
    >>> double(mg.tensor([1.0, 2.0])), double(mg.tensor([3.0, 4.0]))
    (tensor([2., 4.]), tensor([6., 8.]))
    """
    if fn is None:
        return lambda fn: Compiled(fn, **options)
    return Compiled(fn, **options)


class Progress(NamedTuple):
    """How far a run is: in which epoch, how many of its steps are done, and the losses of these."""

    epoch: int
    step: int
    steps: int
    losses: Array


class History(NamedTuple):
    """What a run gave: the results of all steps, (epochs, steps); zeros if these are not one number each."""

    losses: Array


class _OfThread(threading.local):
    """The recordings of one thread: the memory in which they run is theirs."""

    def __init__(self) -> None:
        self.recordings: list[Recording] = []


class Compiled:
    """A function with its recordings: see :func:`compile`."""

    def __init__(self, fn: Callable[..., Any], verify: bool = False, debug: bool = False, copies: bool = True) -> None:
        if not callable(fn):
            raise TypeError(f"compile: need a function, got {type(fn).__name__}")
        functools.update_wrapper(self, fn)
        self.fn, self.verify, self.debug, self.copies = fn, verify, debug, copies
        self._own = _OfThread()
        self._last: Recording | None = None

    @property
    def recordings(self) -> list[Recording]:
        """Those of this thread, the one that ran last first."""
        return self._own.recordings

    def __reduce__(self) -> Any:
        return Compiled, (self.fn, self.verify, self.debug, self.copies)

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        bound = Compiled(self.fn.__get__(instance), self.verify, self.debug, self.copies)
        vars(instance)[self.fn.__name__] = bound  # each instance has recordings of its own
        return bound

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        state = _STATE.get(None) or current()
        if (recordings := self._own.recordings) and not kwargs and not self.verify:
            result = recordings[0].call(args, state)
            if result is not NOT_MINE:
                return result
        return self._find(args, kwargs, state)

    @property
    def program(self) -> Program:
        """What ran last in this thread, or was recorded last in any; print it. RuntimeError before the first call."""
        found = next(iter(self.recordings), self._last)
        if found is None:
            raise RuntimeError(f"{self.fn.__name__} has not been called yet, or without kernels: nothing is recorded")
        return found.program

    def _find(self, args: tuple[Any, ...], kwargs: dict[str, Any], state: State) -> Any:
        if state.kernels != "own" or not state.grad or (state.observer is not None and not state.observer.unseen(1)):
            return self._plain(args, kwargs)  # other modes, and steps inside steps, are not replayed
        leaves: list[Any] = []
        structure = flatten((args, kwargs), leaves)
        arrays, numbers, key = _sort(self.fn.__name__, structure, leaves)
        recordings = self.recordings
        for i, recording in enumerate(recordings):
            if recording.key == key and not recording.guard.changed():
                recording.free()
                recordings.insert(0, recordings.pop(i))
                if self.verify:
                    return self._verify(recording, arrays, numbers, args, kwargs)
                recording.numbers = numbers
                return recording.replay(arrays)
        if len(recordings) == RECORDINGS:
            why = recordings[0].difference(key)
            warnings.warn(
                f"{self.fn.__name__} has been recorded {RECORDINGS} times, now because {why} changed; the oldest "
                "recording is dropped. Pass what changes as a float or a tensor, or leave it outside",
                RuntimeWarning,
                stacklevel=3,
            )
            recordings.pop()
        recording, result = Recording.of(self.fn, structure, leaves, arrays, key, self.debug, self.copies)
        recordings.insert(0, recording)
        self._last = recording
        return result

    def run(
        self,
        *data: Any,
        batch_size: SupportsIndex,
        epochs: SupportsIndex = 1,
        shuffle: bool = True,
        seed: SupportsIndex = 0,
        start: SupportsIndex = 0,
        callback: Callable[[Progress], Any] | None = None,
    ) -> History:
        """Call the function with batch after batch of ``data``, whole epochs in native code.

        data: arrays or tensors with one first axis of examples, (n, …) each, one for each argument. To the bit it is
        ``for e in range(start, start + epochs): for batch in data.batches(…, seed=seed, epoch=e): step(*batch)``, with
        the batches of :func:`minigrad.data.batches`, the last one smaller where ``batch_size`` does not divide n.
        ``callback`` is called about ten times a second, and after each epoch, with a :class:`Progress`; then, too,
        Ctrl-C ends the run, at the end of a step.

        Raises ValueError where there are no examples or their numbers differ, or for a number out of range; TypeError
        for what is no integer.

        >>> import minigrad as mg, numpy as np
        >>> total = mg.tensor([0.0])
        >>> @mg.compile
        ... def step(x):
        ...     mg.assign(total, total + mg.sum(x))
        ...     return mg.sum(x)
        >>> step.run(np.arange(6.0, dtype="float32"), batch_size=4, epochs=2).losses.tolist(), total.tolist()
        ([[14.0, 1.0], [8.0, 7.0]], [30.0])
        """
        arrays = [np.asarray(native(x._data if isinstance(x, Tensor) else np.asarray(x)), order="C") for x in data]
        if not arrays or any(x.ndim == 0 for x in arrays):
            raise ValueError("run: need arrays with a first axis of examples")
        n = len(arrays[0])
        if any(len(x) != n for x in arrays):
            raise ValueError(f"run: the arrays have {', '.join(str(len(x)) for x in arrays)} examples")
        if n == 0:
            raise ValueError(f"run: there are no examples: the first array has shape {arrays[0].shape}")
        size, rounds = integer("batch_size", batch_size, 1), integer("epochs", epochs, 0)
        first, seed = integer("start", start, 0), integer("seed", seed, 0)
        steps, whole = -(-n // size), n // size
        structure = ("tuple", (("tuple", ("",) * len(arrays)), ("dict", (), ())))
        key = (structure, tuple([("array", x.dtype, (size, *x.shape[1:])) for x in arrays]))
        losses: Array = np.zeros((rounds, steps), np.float32)
        chunk, told = 1, time.perf_counter()
        order = np.arange(n)
        loop = None  # of the recording, as long as no Python has run since it was found to be the right one
        for epoch in range(rounds):
            if shuffle:
                order = permutation(n, seed, first + epoch)
            done = 0
            while done < steps:
                begin = time.perf_counter()
                if loop is None and done < whole and (recording := self._native(key)) is not None:
                    loop = recording.loop(arrays, size)
                count, observer = min(chunk, whole - done), current().observer
                if loop is not None and count and observer is not None:
                    count = observer.unseen(count)
                if loop is None or not count:
                    count, loop = 1, None
                    result = self(*[x.take(order[done * size : (done + 1) * size], axis=0) for x in arrays])
                    if isinstance(result, Tensor) and result.size == 1:
                        losses = losses if losses.dtype == result.dtype else losses.astype(result.dtype)
                        losses[epoch, done] = result._data.reshape(())
                else:
                    loop(order, done, done + count, losses[epoch])
                done += count
                now = time.perf_counter()
                if loop is not None and now > begin:
                    chunk = max(1, int(count * _PERIOD / (now - begin)))
                if callback is not None and (now - told >= _PERIOD or done == steps):
                    told, loop = now, None
                    callback(Progress(first + epoch, done, steps, losses[epoch, :done]))
        return History(losses)

    def _plain(self, args: Any, kwargs: Any) -> Any:
        """Call the function; it gets tensors for arrays, as in a recording."""
        leaves: list[Any] = []
        structure = flatten((args, kwargs), leaves)
        given = [Tensor(native(x)) if type(x) is np.ndarray else x for x in leaves]
        args, kwargs = rebuild(structure, iter(given))
        return self.fn(*args, **kwargs)

    def _native(self, key: Any) -> Recording | None:
        """The recording whose steps can follow each other without Python, if there is one for this key."""
        state = current()
        if self.verify or state.kernels != "own" or not state.grad:
            return None
        found = next((r for r in self.recordings if r.key == key and not r.guard.changed()), None)
        return found if found is not None and found.executor.single is not None and found.fixed else None

    def _verify(self, recording: Recording, arrays: list[Array], numbers: list[float], args: Any, kwargs: Any) -> Any:
        """Replay, and run the function on the state as it was: they must agree."""
        recording.numbers = numbers
        before = recording.snapshot()
        replayed = recording.replay(arrays)
        after = recording.snapshot()
        recording.restore(before)
        result = detached(self._plain(args, kwargs))
        mine: list[Any] = []
        flatten(replayed, mine)
        others: list[Any] = []
        flatten(result, others)
        for i, (a, b) in enumerate(zip(mine, others, strict=True)):
            if isinstance(a, Tensor) and not _same(a._data, b._data):
                raise CompileError(f"{self.fn.__name__}: result {i} differs from that without the recording")
        for (name, a), (_, b) in zip(after, recording.snapshot(), strict=True):
            if not _same(a, b):
                raise CompileError(f"{self.fn.__name__}: {name} differs from what it is without the recording")
        return result

    def __repr__(self) -> str:
        return f"<compiled {self.fn.__name__}, {len(self.recordings)} recordings>"


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) & _signs(a, b) | (a != a) & (b != b)).all())


def _signs(a: Array, b: Array) -> Any:
    return np.signbit(a) == np.signbit(b) if a.dtype.kind == "f" else True


def _sort(name: str, structure: Any, leaves: Sequence[Any]) -> tuple[list[Array], list[float], Any]:
    """Arrays (C-contiguous), floats, and what a recording is made for: kinds, shapes, dtypes, and other values."""
    arrays: list[Array] = []
    numbers: list[float] = []
    key: list[Any] = []
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and leaf.node is not None:
            if leaf.node.op is not None:
                raise TypeError(
                    f"{name}: argument {i} was computed by {leaf.node.op.name} and requires a gradient, which does not "
                    "flow through a compiled step: detach() it, or compute it inside"
                )
            key.append(("leaf", id(leaf)))  # its recording keeps it alive
        elif isinstance(leaf, Tensor | np.ndarray):
            array = leaf._data if isinstance(leaf, Tensor) else leaf
            if array.dtype.kind not in "biuf":
                raise TypeError(f"{name}: argument {i} is an array of {array.dtype}: need numbers")
            array = np.asarray(native(array), order="C")
            arrays.append(array)
            key.append(("array", array.dtype, array.shape))
        elif type(leaf) is float:
            numbers.append(leaf)
            key.append(("number",))
        else:
            try:
                hash(leaf)
            except TypeError:
                raise TypeError(f"{name}: argument {i} is a {type(leaf).__name__}, which cannot be compared") from None
            key.append(("value", type(leaf), leaf))
    return arrays, numbers, (structure, tuple(key))
