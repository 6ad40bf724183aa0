"""Worker threads for what is large enough: a pool of the process's own, which no bit depends on.

Work is cut where nothing is summed over, so each part writes elements of its own. The workers are Python threads that
run machine code without the interpreter's lock; no threading layer of a compiler is involved, so there is none to
clash with a fork, with another library, or with other threads that do the same.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import SupportsIndex

_VARIABLE = "MINIGRAD_NUM_THREADS"


def _available() -> int:
    """The cores that this process may use, or what the environment variable says."""
    text = os.environ.get(_VARIABLE, "")
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{_VARIABLE} is {text!r}, but must be a number of threads, 1 or more")
        return int(text)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool:
    """So many threads: the caller and ``size`` − 1 workers, which start when they are first needed."""

    def __init__(self) -> None:
        self.size = _available()
        self._workers: ThreadPoolExecutor | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """A child process has none of its parent's threads."""
        self._workers = None

    def resize(self, size: int) -> None:
        workers, self._workers, self.size = self._workers, None, size
        if workers is not None:
            workers.shutdown(wait=False)  # what was submitted is still done

    def run(self, parts: Sequence[Callable[[], None]]) -> None:
        """Run all parts; this thread does the first, and any that no worker has begun when it is done."""
        workers = self._workers
        if workers is None:
            workers = self._workers = ThreadPoolExecutor(max(1, self.size - 1), thread_name_prefix="minigrad")
        here, there = [parts[0]], []
        for part in parts[1:]:
            try:
                there.append((workers.submit(part), part))
            except RuntimeError:  # the pool was resized meanwhile, or the interpreter is shutting down
                here.append(part)
        for part in here:
            part()
        for future, part in there:
            if future.cancel():
                part()
            else:
                future.result()


POOL = Pool()


def set_num_threads(count: SupportsIndex) -> None:
    """How many threads large work may use, from now on and in the whole process; 1 is serial.

    Large are matrix products from 16 million multiplications, and in compiled steps what is elementwise, optimizers
    among it, from a quarter of a million elements.

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
