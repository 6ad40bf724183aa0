"""What the kernel tests compare with."""

import numpy as np


def same(a, b):
    """Equal dtype, shape and bytes, any NaN equal to any NaN."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    word = f"u{a.itemsize}"
    return bool(np.all((a.ravel().view(word) == b.ravel().view(word)) | (np.isnan(a) & np.isnan(b)).ravel()))


def layouts(x):
    """Arrays equal to ``x`` in other clothes."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    backwards = np.flip(x).copy()
    frozen = x.copy()
    frozen.flags.writeable = False
    return [np.asfortranarray(x), wide[..., ::2], np.flip(backwards), frozen]


def tree(terms, operation=np.add, neutral=-0.0, empty=0.0):
    """The promised order, stated with scalars."""
    kind = terms.dtype.type
    blocks = []
    for start in range(0, len(terms), 1024):
        lanes = [kind(neutral)] * 16
        for i, term in enumerate(terms[start : start + 1024]):
            lanes[i % 16] = operation(lanes[i % 16], term)
        for half in (8, 4, 2, 1):
            lanes = [operation(lanes[i], lanes[i + half]) for i in range(half)]
        blocks += lanes
    while len(blocks) > 1:
        pairs = [blocks[i : i + 2] for i in range(0, len(blocks), 2)]
        blocks = [operation(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return blocks[0] if blocks else kind(empty)
