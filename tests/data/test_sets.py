import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minigrad import data
from minigrad.data import sets

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def as_idx(a):
    """The bytes of an IDX file, written down independently of the reader."""
    header = struct.pack(f">BBBB{a.ndim}I", 0, 0, CODES[a.dtype.name], a.ndim, *a.shape)
    return header + a.astype(a.dtype.newbyteorder(">")).tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("idx")


class TestDigits:
    def test_they_are_the_ones_that_scikit_learn_ships(self, requires):
        ours = sets._read_digits(Path(sets.__file__).with_name("digits.npz"))
        theirs = requires("sklearn.datasets").load_digits()
        assert (ours[0] == theirs.images).all()
        assert (ours[1] == theirs.target).all()

    def test_shapes_and_values(self):
        x_train, y_train, x_test, y_test = data.digits()
        assert (x_train.shape, y_train.shape, x_test.shape, y_test.shape) == ((1437, 64), (1437,), (360, 64), (360,))
        x, y = np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        assert (x.min(), x.max()) == (0, 1)
        assert (16 * x == np.rint(16 * x)).all()
        assert (np.unique(y) == np.arange(10)).all()

    def test_each_class_holds_out_its_share(self):
        _, y_train, _, y_test = data.digits()
        held_out, everything = np.bincount(y_test), np.bincount(y_train) + np.bincount(y_test)
        assert held_out.sum() == 360
        assert everything.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
        assert (abs(held_out - 360 * everything / 1797) < 1).all()

    def test_every_image_is_in_one_part(self):
        x_train, _, x_test, _ = data.digits()
        assert len(np.unique(np.concatenate([x_train, x_test]), axis=0)) == 1797

    def test_the_split_is_the_documented_one(self):
        images, labels = sets._read_digits(Path(sets.__file__).with_name("digits.npz"))
        rng = np.random.Generator(np.random.PCG64(0))
        exact = [360 * int(n) / 1797 for n in np.bincount(labels)]
        counts = [int(e) for e in exact]
        for label in sorted(range(10), key=lambda c: counts[c] - exact[c])[: 360 - sum(counts)]:
            counts[label] += 1
        rows = [rng.permutation(np.flatnonzero(labels == c))[: counts[c]] for c in range(10)]
        rows = np.sort(np.concatenate(rows))
        assert np.array_equal(data.digits().x_test, images[rows].reshape(360, 64) / np.float32(16))
        assert rows[:8].tolist() == [5, 9, 12, 14, 16, 17, 19, 23]  # the same in every version of NumPy

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_dtype(self, dtype):
        d = data.digits(dtype)
        assert d.x_train.dtype == d.x_test.dtype == dtype
        assert np.array_equal(d.x_test, data.digits().x_test)

    def test_a_dtype_that_is_no_float(self):
        with pytest.raises(TypeError, match=r"dtype is int64, but images .* need a float"):
            data.digits("int64")

    def test_calls_share_no_memory(self):
        data.digits().x_train[:] = 7
        assert data.digits().x_train.max() == 1

    def test_missing_file(self, tmp_path):
        with pytest.raises(data.DataError, match=r"digits\.npz is missing or damaged .*: install minigrad again$"):
            sets._read_digits(tmp_path / "digits.npz")

    @given(st.data())
    def test_damaged_file(self, folder, draw):
        whole = Path(sets.__file__).with_name("digits.npz").read_bytes()
        path = folder / "digits.npz"
        path.write_bytes(whole[: draw.draw(st.integers(0, len(whole) - 1))])
        with pytest.raises(data.DataError, match="install minigrad again"):
            sets._read_digits(path)

    def test_another_file(self, tmp_path):
        np.savez(tmp_path / "digits.npz", images=np.zeros((3, 8, 8), np.uint8), labels=np.zeros(3, np.uint8))
        with pytest.raises(data.DataError, match=r"\(3, 8, 8\) and \(3,\), not the 1797 digits"):
            sets._read_digits(tmp_path / "digits.npz")

    def test_it_is_cited(self):
        text = Path(sets.__file__).with_name("digits.txt").read_text(encoding="utf-8")
        for source in (text, data.digits.__doc__):
            assert all(word in source for word in ("Alpaydin", "Kaynak", "1998", "10.24432/C50P49", "CC BY 4.0"))


class TestIdx:
    @given(
        st.sampled_from(sorted(CODES)).flatmap(
            lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
        ),
        st.booleans(),
    )
    def test_round_trip(self, folder, a, zipped):
        path = folder / "round-trip"
        path.write_bytes(gzip.compress(as_idx(a)) if zipped else as_idx(a))
        b = data.idx(str(path))
        assert (b.shape, b.dtype, b.tobytes()) == (a.shape, a.dtype, a.tobytes())
        assert b.dtype.isnative
        assert b.flags.writeable

    @given(st.data(), st.booleans())
    def test_cut_short(self, folder, draw, zipped):
        whole = as_idx(np.arange(12, dtype=np.int16).reshape(3, 4))
        whole = gzip.compress(whole) if zipped else whole
        path = folder / "short"
        path.write_bytes(whole[: draw.draw(st.integers(0, len(whole) - 1))])
        with pytest.raises(data.DataError, match=r"short (is cut short|is not an IDX file|is a damaged gzip file)"):
            data.idx(path)

    @given(st.binary(max_size=40))
    def test_noise(self, folder, noise):
        path = folder / "noise"
        path.write_bytes(noise)
        try:
            a = data.idx(path)
        except data.DataError:
            return
        assert as_idx(a) == noise

    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            (b"", "is not an IDX file: it begins with nothing, but"),
            (b"\x89PNG....", "is not an IDX file: it begins with 89 50 4e 47, but"),
            (b"\0\0\x0a\x01\0\0\0\0", "is not an IDX file: it begins with 00 00 0a 01, but"),
            (b"\0\0\x08\x03\0\0\0\x02", "is cut short: 3 axes need a header of 16 bytes, but it has 8"),
            (b"\0\0\x0b\x01\0\0\0\x02abc", r"is cut short: shape \(2,\) of int16 needs 4 bytes of data, but it has 3"),
            (b"\0\0\x08\x01\0\0\0\x02abc", r"goes on after its last element: shape \(2,\) of uint8 needs 2 .* has 3"),
            (b"\0\0\x08\x03" + b"\xff" * 12 + b"abc", r"is cut short: shape \(4294967295, 4294967295, 4294967295\)"),
            (b"\x1f\x8b\x08abc", "is a damaged gzip file: "),
        ],
    )
    def test_bad_files(self, tmp_path, raw, message):
        path = tmp_path / "file"
        path.write_bytes(raw)
        with pytest.raises(data.DataError, match=message) as info:
            data.idx(path)
        assert str(info.value).startswith(str(path))

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"there is no file .*nowhere: give the path"):
            data.idx(tmp_path / "nowhere")


class TestMnist:
    @staticmethod
    def write(folder, joint="-", end="", **changes):
        rng = np.random.default_rng(5)
        arrays = {
            "train_images": rng.integers(0, 256, (7, 28, 28), np.uint8),
            "train_labels": rng.integers(0, 10, 7, np.uint8),
            "t10k_images": rng.integers(0, 256, (3, 28, 28), np.uint8),
            "t10k_labels": rng.integers(0, 10, 3, np.uint8),
        } | changes
        for name, a in arrays.items():
            kind = "idx3" if name.endswith("images") else "idx1"
            raw = as_idx(a)
            path = folder / f"{name.replace('_', '-')}{joint}{kind}-ubyte{end}"
            path.write_bytes(gzip.compress(raw) if end else raw)
        return arrays

    @pytest.mark.parametrize("joint", ["-", "."])
    @pytest.mark.parametrize("end", ["", ".gz"])
    def test_four_files(self, tmp_path, joint, end):
        arrays = self.write(tmp_path, joint, end)
        d = data.mnist(tmp_path)
        assert (d.x_train.dtype, d.y_train.dtype) == (np.float32, np.int64)
        assert np.array_equal(d.x_train, arrays["train_images"].reshape(7, 784) / np.float32(255))
        assert np.array_equal(d.x_test, arrays["t10k_images"].reshape(3, 784) / np.float32(255))
        assert np.array_equal(d.y_train, arrays["train_labels"])
        assert np.array_equal(d.y_test, arrays["t10k_labels"])
        assert data.mnist(str(tmp_path), dtype=np.float64).x_test.dtype == np.float64

    def test_a_file_is_missing(self, tmp_path):
        self.write(tmp_path)
        (tmp_path / "t10k-labels-idx1-ubyte").unlink()
        with pytest.raises(FileNotFoundError, match=r"none of t10k-labels-idx1-ubyte, .*: name the folder"):
            data.mnist(tmp_path)

    def test_the_folder_is_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"nowhere has none of train-images"):
            data.mnist(tmp_path / "nowhere")

    def test_counts_differ(self, tmp_path):
        self.write(tmp_path, t10k_labels=np.zeros(4, np.uint8))
        with pytest.raises(data.DataError, match=r"t10k-images\S+ has 3 images, but \S+ has 4 labels"):
            data.mnist(tmp_path)

    def test_labels_where_images_should_be(self, tmp_path):
        self.write(tmp_path, train_images=np.zeros(7, np.uint8))
        with pytest.raises(data.DataError, match=r"train-images\S+ should have 3 axes of uint8, but has shape \(7,\)"):
            data.mnist(tmp_path)
