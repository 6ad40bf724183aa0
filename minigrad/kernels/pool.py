"""Worker threads for what is large enough: a pool of the process's own, which no bit depends on.

Work is cut where nothing is summed over, so each part writes elements of its own. The workers are Python threads that
run machine code without the interpreter's lock; no threading layer of a compiler is involved, so there is none to
clash with a fork, with another library, or with other threads that do the same.

A worker and the thread that gives it work share a *box*, an int64 array: the box's state, and the two words of a
``Part``. A worker that has nothing to do looks at its box for a while, in machine code, before it sleeps: to wake a
thread takes 0.05 ms, as long as much of what is worth sharing. Whoever turns the state from POSTED to TAKEN does the
work, so that the thread that has posted it need not wait for a worker that is late.

Large work needs *room*, memory for what it copies together. The pool keeps it for the next: memory that goes back to
the system comes again page by page, zeroed, which was a third of the time of a product of 511 x 511 x 511.
"""

from __future__ import annotations

import atexit
import contextlib
import operator
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from minigrad.kernels.jit import Part, kernel
from minigrad.kernels.simd import atomic_read, atomic_turn, atomic_write, call, pause

Array = NDArray[Any]
_VARIABLE = "MINIGRAD_NUM_THREADS"
_ANY = np.dtype(np.float64)  # these kernels have no number type


def _available() -> int:
    """The cores that this process may use, or what the environment variable says."""
    text = os.environ.get(_VARIABLE, "")
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{_VARIABLE} is {text!r}, but must be a number of threads, 1 or more")
        return int(text)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_IDLE, _POSTED, _TAKEN, _ASLEEP, _END = range(5)

#: Room of more bytes is not kept: such pieces the C library gets from the system, and gives back, each time (glibc).
_KEPT = 32 << 20
#: How often a thread looks before it does something else; a look is a pause of 20 to 60 ns on x86.
_LOOKS = 5000


@kernel("i*", ints=1)
def _serve(box: Any, looks: Any) -> None:
    """Do the work that is posted, until none was for so many looks (the state is ASLEEP then), or it is END."""
    left = looks
    while atomic_read(box, 0) != _END:
        if atomic_turn(box, 0, _POSTED, _TAKEN):
            call(box[1], box[2])
            atomic_write(box, 0, _IDLE)
            left = looks
        elif left == 0 and atomic_turn(box, 0, _IDLE, _ASLEEP):
            return
        left -= left > 0
        pause()


@kernel("i*i*", ints=1)
def _put(box: Any, before: Any, state: Any) -> None:
    """Set the state of a box whose work is done; ``before`` is what it was: IDLE, or ASLEEP, as it stays meanwhile."""
    before[0] = _IDLE
    if not atomic_turn(box, 0, _IDLE, state):
        before[0] = _ASLEEP
        atomic_write(box, 0, state)


@kernel("i*i*", ints=1)
def _finish(box: Any, state: Any, looks: Any) -> None:
    """Do the work that no worker has taken, or wait, for so many looks, until it is done; the state then."""
    if atomic_turn(box, 0, _POSTED, _TAKEN):
        call(box[1], box[2])
        atomic_write(box, 0, _IDLE)
    while looks > 0 and atomic_read(box, 0) == _TAKEN:
        looks -= 1
        pause()
    state[0] = atomic_read(box, 0)


class _Worker:
    """A thread, and its box."""

    def __init__(self) -> None:
        self.box, self.seen = np.zeros(3, np.int64), np.zeros(1, np.int64)
        self._wake = threading.Semaphore(0)
        self._finish = _finish.unlocked(self.box, self.seen, _LOOKS)
        self._thread = threading.Thread(target=self._work, name="minigrad", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        serve = _serve.unlocked(self.box, _LOOKS)
        while self.box[0] != _END:
            serve()
            if self.box[0] != _END:
                self._wake.acquire()

    def _tell(self, state: int) -> None:
        _put[_ANY](self.box, self.seen, state)
        if self.seen[0] == _ASLEEP:
            self._wake.release()

    def post(self, part: Part) -> None:
        self.finish()  # what an interrupt may have left
        self._part = part  # its memory stays
        self.box[1], self.box[2] = part.address, part.words
        self._tell(_POSTED)

    def finish(self) -> None:
        """See to it that the work is done."""
        self._finish()
        while self.seen[0] == _TAKEN:
            time.sleep(0)  # the worker may need this thread's core
            self._finish()

    def dismiss(self) -> None:
        """Let the thread end."""
        self.finish()
        self._tell(_END)
        self._thread.join()


class Pool:
    """So many threads: the caller and ``size`` − 1 workers, which start when they are first needed."""

    def __init__(self) -> None:
        self.size = _available()
        self._rooms: list[Array] = []
        self._forget()
        atexit.register(self.resize, 1)  # no thread may run machine code when that is freed
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """A child process has none of its parent's threads."""
        self._workers: list[_Worker] = []
        self._busy = threading.Lock()

    def resize(self, size: int) -> None:
        with self._busy:
            workers, self._workers, self.size = self._workers, [], size
        for worker in workers:
            worker.dismiss()

    def _hire(self, count: int) -> None:
        """Have so many workers, or as many as can be had."""
        with contextlib.suppress(RuntimeError):  # the system, or the end of the process, allows no more threads
            while len(self._workers) < count:
                self._workers.append(_Worker())

    def borrow(self, size: int, dtype: np.dtype[Any]) -> Array:
        """Room for so many numbers, whatever they are, until it is lent again: see :meth:`give_back`."""
        try:
            room = self._rooms.pop()
        except IndexError:
            room = np.empty(0, np.uint8)
        if room.size < size * dtype.itemsize:
            room = np.empty(size * dtype.itemsize, np.uint8)
        return room[: size * dtype.itemsize].view(dtype)

    def give_back(self, rooms: Iterable[Array]) -> None:
        """Take room back that nothing works in any more."""
        whole: list[Any] = [room.base for room in rooms]
        self._rooms.extend(room for room in whole if room.size <= _KEPT)

    def run(self, parts: Sequence[Callable[[], None]]) -> None:
        """Run all parts: this thread the first, workers the others, as far as there are any and they have time.

        While other threads' parts are run, or if a part is no machine code, this thread runs them all.
        """
        shared = all(isinstance(part, Part) for part in parts) and self._busy.acquire(blocking=False)
        if not shared:
            for part in parts:
                part()
            return
        posted = []
        try:
            self._hire(min(len(parts), self.size) - 1)
            rest: list[Any] = list(parts[1:])
            for worker in self._workers[: len(rest)]:
                posted.append(worker)
                worker.post(rest.pop(0))
            for part in (parts[0], *rest):
                part()
        finally:
            try:
                for worker in posted:
                    worker.finish()
            finally:
                self._busy.release()


POOL = Pool()


def set_num_threads(count: SupportsIndex) -> None:
    """How many threads large work may use, from now on and in the whole process; 1 is serial.

    Large are matrix products from 33 million multiplications, and in compiled steps what is elementwise, optimizers
    among it, from 65,536 elements.

    The default is MINIGRAD_NUM_THREADS, or as many cores as the process may use. Bits are the same for any number.
    Raises TypeError for what is no integer, ValueError below 1.

    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    number = operator.index(count)
    if number < 1:
        raise ValueError(f"set_num_threads: need at least 1 thread, got {number}")
    POOL.resize(number)


def get_num_threads() -> int:
    """How many threads large work may use."""
    return POOL.size
