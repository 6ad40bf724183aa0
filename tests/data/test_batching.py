import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import data

sizes, seeds, epochs = st.integers(0, 300), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)


class TestPermutation:
    @given(sizes, seeds, epochs)
    def test_holds_each_row_once(self, n, seed, epoch):
        order = data.permutation(n, seed, epoch)
        assert order.dtype == np.int64
        assert np.array_equal(np.sort(order), np.arange(n))

    @given(sizes, seeds, epochs)
    def test_depends_on_its_three_numbers_alone(self, n, seed, epoch):
        before = data.permutation(n, seed, epoch)
        np.random.default_rng(1).random(n)
        data.permutation(n + 1, seed, epoch + 1)
        assert np.array_equal(before, data.permutation(np.int64(n), seed, epoch))
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
        assert np.array_equal(before, rng.permutation(n))

    # Two orders of 30 rows agree by chance once in 2e32.
    @given(st.integers(30, 300), st.lists(st.tuples(seeds, epochs), min_size=2, max_size=5, unique=True))
    def test_seeds_and_epochs_differ(self, n, keys):
        assert len({data.permutation(n, seed, epoch).tobytes() for seed, epoch in keys}) == len(keys)

    def test_is_the_same_in_every_version_of_numpy(self):
        assert data.permutation(8, seed=0, epoch=0).tolist() == [2, 4, 3, 6, 5, 0, 1, 7]

    @pytest.mark.parametrize("name", ["n", "seed", "epoch"])
    def test_bad_numbers(self, name):
        good = {"n": 5, "seed": 0, "epoch": 0}
        with pytest.raises(ValueError, match=f"{name} is -1, but must be at least 0"):
            data.permutation(**good | {name: -1})
        with pytest.raises(TypeError, match=rf"{name} is 1\.5, but must be an integer"):
            data.permutation(**good | {name: 1.5})


class TestBatches:
    @given(st.integers(1, 300), st.integers(1, 320), st.booleans(), seeds, epochs)
    def test_an_epoch_is_every_example_once(self, n, batch_size, shuffle, seed, epoch):
        X, y = np.arange(2.0 * n).reshape(n, 2), np.arange(n)
        parts = list(data.batches(X, y, batch_size, shuffle, seed, epoch))
        assert [len(p) for p, _ in parts] == [len(p) for _, p in parts]
        assert all(len(p) == batch_size for p, _ in parts[:-1])
        assert len(parts) == -(-n // batch_size)
        order = data.permutation(n, seed, epoch) if shuffle else y
        assert np.array_equal(np.concatenate([p for p, _ in parts]), X[order])
        assert np.array_equal(np.concatenate([p for _, p in parts]), order)

    @pytest.mark.parametrize("shuffle", [True, False])
    def test_batches_are_contiguous_copies(self, shuffle):
        X, y = np.asfortranarray(np.ones((6, 3), np.float32)), np.ones(6, np.int64)
        for X_batch, y_batch in data.batches(X, y, 4, shuffle):
            assert X_batch.flags.c_contiguous
            assert (X_batch.dtype, y_batch.dtype) == (np.float32, np.int64)
            X_batch[:], y_batch[:] = 7, 7
        assert X.max() == y.max() == 1

    def test_lists_will_do(self):
        assert [y.tolist() for _, y in data.batches([[1.0], [2.0], [3.0]], [1, 2, 3], 2, shuffle=False)] == [
            [1, 2],
            [3],
        ]

    @pytest.mark.parametrize(
        ("n", "m", "changes", "error", "message"),
        [
            (0, 0, {}, ValueError, r"no examples: X has shape \(0, 2\), y has shape \(0,\)"),
            (3, 4, {}, ValueError, "X has 3 examples, but y has 4"),
            (3, 3, {"batch_size": 0}, ValueError, "batch_size is 0, but must be at least 1"),
            (3, 3, {"batch_size": -2}, ValueError, "batch_size is -2, but must be at least 1"),
            (3, 3, {"batch_size": 2.0}, TypeError, r"batch_size is 2\.0, but must be an integer"),
            (3, 3, {"batch_size": None}, TypeError, "batch_size is None, but must be an integer"),
            (3, 3, {"seed": -1}, ValueError, "seed is -1, but must be at least 0"),
            (3, 3, {"epoch": 0.5}, TypeError, r"epoch is 0\.5, but must be an integer"),
        ],
    )
    def test_bad_input_is_refused_at_the_call(self, n, m, changes, error, message):
        with pytest.raises(error, match=message):
            data.batches(np.zeros((n, 2)), np.zeros(m), **{"batch_size": 2} | changes)

    def test_scalars_are_no_data(self):
        with pytest.raises(ValueError, match=r"shapes \(\) and \(3,\)"):
            data.batches(1.0, np.zeros(3), 2)
