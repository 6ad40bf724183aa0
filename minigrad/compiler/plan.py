"""Where the intermediate results of a program lie: in one arena, whose bytes are used again."""

from __future__ import annotations

import bisect

from minigrad.compiler.program import Program, Root

ALIGNMENT = 64  # a cache line, and the widest vector


def plan(program: Program, reuse: bool = True) -> None:
    """Give every temporary its place: the largest first, each at the lowest offset that is free while it lives.

    Without ``reuse`` no two share a byte.
    """
    lives = program.lifetimes()
    placed: list[tuple[int, int, int, int]] = []  # start, end, first, last; sorted
    for root in sorted(lives, key=lambda root: (-root.size, lives[root])):
        first, last = lives[root]
        size = rounded(root.size)
        place = 0
        for start, end, begins, ends in placed:
            if reuse and (ends < first or begins > last):
                continue
            if start - place >= size:
                break
            place = max(place, end)
        root.place = place
        bisect.insort(placed, (place, place + size, first, last))
    program.arena = max((end for _, end, _, _ in placed), default=0)
    program.unplanned = sum(rounded(root.size) for root in lives)


def rounded(size: int) -> int:
    """Up to a multiple of the alignment; at least one."""
    return max(-(-size // ALIGNMENT), 1) * ALIGNMENT


def dead_after(program: Program) -> dict[int, list[Root]]:
    """Which temporaries end at each call."""
    ends: dict[int, list[Root]] = {}
    for root, (_first, last) in program.lifetimes().items():
        ends.setdefault(last, []).append(root)
    return ends
