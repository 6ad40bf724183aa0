import numpy as np
import pytest
from kernel_tools import layouts, same

from minigrad.kernels import random
from minigrad.ops.activation import random_bits

KEYS = [(0, 0), (3, 5), (2**40 + 5, 2**35 + 7), (2**62, 9), (-3, 2**31), (1, -2)]


def kept(x, key, count, threshold, scale=1.5):
    return random.dropout(x, np.array([key]), np.array([count]), threshold, scale)


@pytest.mark.parametrize(("key", "count"), KEYS)
def test_words_are_those_of_the_formula(key, count, dtype):
    """Whole pieces of any machine's vectors, and what is left; numbers of more than 32 bits; of either sign."""
    words = random_bits(key, count, 200)
    for size in (0, 1, 4, 5, 6, 7, 15, 16, 17, 31, 32, 33, 64, 130, 200):
        x = -np.arange(1, size + 1).astype(dtype)
        for threshold in (2**30, 2**31 + 12345, 3 * 2**30):
            want = np.where(words[:size] >= threshold, x * dtype.type(1.5), dtype.type(0))
            assert same(kept(x, key, count, threshold), want)


def test_a_word_at_the_threshold_is_kept(dtype):
    words, x = random_bits(1, 2, 200), np.ones(200, dtype)
    for threshold in (0, *map(int, words), *(int(word) + 1 for word in words), 2**32 - 1):
        assert (kept(x, 1, 2, threshold) != 0).tolist() == (words >= threshold).tolist()


def test_the_scale_is_rounded_once_and_nothing_is_left_of_what_is_dropped(dtype):
    scale, words = 1 / (1 - 0.3), random_bits(8, 0, 64) >= 2**31
    x = np.array([0.1, -0.0, np.inf, np.nan, 1e-40, -7.3, -np.inf, 3.3] * 8).astype(dtype)
    assert same(kept(x, 8, 0, 2**31, scale), np.where(words, x * dtype.type(scale), dtype.type(0)))


def test_words_go_by_the_order_of_elements_whatever_the_layout(dtype, rng):
    x = rng.standard_normal((7, 12)).astype(dtype)
    before, want = x.copy(), kept(x, 5, 6, 2**31)
    assert want.shape == x.shape
    assert want.ravel().tobytes() == kept(x.ravel(), 5, 6, 2**31).tobytes()
    for other in layouts(x):
        assert same(kept(other, 5, 6, 2**31), want)
    assert same(x, before)
