"""Data sets: the digits inside the package, and IDX files (MNIST, Fashion-MNIST) from a folder of the user's."""

from __future__ import annotations

import gzip
import math
import os
import zipfile
import zlib
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

_HELD_OUT = 360
_IDX_DTYPES = MappingProxyType({0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"})


class DataError(ValueError):
    """A data file is missing from the package, or does not hold what it should."""


class Dataset(NamedTuple):
    """Examples to learn from and examples held out: ``x`` (n, features) in [0, 1], ``y`` (n,) of int64 classes."""

    x_train: NDArray[Any]
    y_train: NDArray[np.int64]
    x_test: NDArray[Any]
    y_test: NDArray[np.int64]


def digits(dtype: DTypeLike = "float32") -> Dataset:
    """1797 real handwritten digits of 8×8 pixels, 1437 to learn from and 360 held out.

    ``x`` has shape (n, 64), floats of ``dtype`` k/16 for k = 0 … 16, row by row; ``y`` has shape (n,), int64, 0 … 9.

    The split is stratified and always the same. Each class holds out its share of the 360, rounded down, and the
    classes with the largest remainders one more. ``rng = Generator(PCG64(0))`` then draws class after class, from 0
    to 9: the first of ``rng.permutation(rows of the class)`` are held out. Both parts keep the file's order.

    Raises TypeError where ``dtype`` is no float, DataError where the package's file is missing or damaged.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
    doi 10.24432/C50P49, CC BY 4.0 (the 1797 images that scikit-learn ships).

    >>> d = digits()
    >>> d.x_train.shape, d.x_train.dtype, d.x_test.shape
    ((1437, 64), dtype('float32'), (360, 64))
    """
    images, labels = _read_digits(Path(__file__).with_name("digits.npz"))
    x, y = _scaled(images, 16, dtype), labels.astype(np.int64)
    held_out = _stratified(y, _HELD_OUT)
    return Dataset(x[~held_out], y[~held_out], x[held_out], y[held_out])


def idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The array in an IDX file, the format of MNIST; gzip is recognised by its content.

    Any shape; dtype uint8, int8, int16, int32, float32 or float64, as the file says, in the machine's byte order.

    Raises FileNotFoundError where there is no such file, and DataError where it is not IDX, is cut short, or goes on
    after its last element.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "labels")
    ...     path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    ...     idx(path)
    11
    array([7, 2, 1], dtype=uint8)
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}: give the path of an IDX file, plain or gzip") from None
    if raw.startswith(b"\x1f\x8b"):
        try:
            raw = gzip.decompress(raw)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path} is a damaged gzip file: {error}") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _IDX_DTYPES or raw[3] > 32:
        raise DataError(
            f"{path} is not an IDX file: it begins with {raw[:4].hex(' ') or 'nothing'}, "
            "but 00 00, an IDX type (08 for uint8) and the number of axes are needed"
        )
    dtype, start = np.dtype(_IDX_DTYPES[raw[2]]), 4 + 4 * raw[3]
    if len(raw) < start:
        raise DataError(f"{path} is cut short: {raw[3]} axes need a header of {start} bytes, but it has {len(raw)}")
    shape = tuple(int(n) for n in np.frombuffer(raw[4:start], ">u4"))
    need = math.prod(shape) * dtype.itemsize
    if len(raw) - start != need:
        fault = "is cut short" if len(raw) - start < need else "goes on after its last element"
        raise DataError(
            f"{path} {fault}: shape {shape} of {dtype.name} needs {need} bytes of data, but it has {len(raw) - start}"
        )
    return np.ndarray(shape, dtype, raw, start).astype(dtype.newbyteorder("="))


def mnist(folder: str | os.PathLike[str], dtype: DTypeLike = "float32") -> Dataset:
    """MNIST, Fashion-MNIST or another set of the same form, from the folder that holds its four files.

    These are ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
    ``t10k-labels-idx1-ubyte``, each also with ``.idx`` for ``-idx``, and with ``.gz`` at the end. ``x`` has shape
    (n, 784), floats of ``dtype`` k/255; ``y`` has shape (n,), int64.

    Raises FileNotFoundError where a file is missing; DataError where one is damaged, or where images and labels differ
    in number; TypeError where ``dtype`` is no float. Nothing is downloaded.

    Example: ``x_train, y_train, x_test, y_test = mnist("fashion")``
    """
    x_train, y_train = _pair(Path(folder), "train", dtype)
    x_test, y_test = _pair(Path(folder), "t10k", dtype)
    return Dataset(x_train, y_train, x_test, y_test)


def _read_digits(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            images, labels = file["images"], file["labels"]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is missing or damaged ({error}): install minigrad again") from error
    if images.shape != (1797, 8, 8) or labels.shape != (1797,) or not images.dtype == labels.dtype == np.uint8:
        raise DataError(f"{path} holds {images.shape} and {labels.shape}, not the 1797 digits: install minigrad again")
    return images, labels


def _stratified(y: NDArray[np.int64], held_out: int) -> NDArray[np.bool_]:
    rng = np.random.Generator(np.random.PCG64(0))
    counts = np.bincount(y)
    share, remainder = np.divmod(counts * held_out, len(y))
    largest = np.argsort(-remainder, kind="stable")
    share[largest[: held_out - share.sum()]] += 1
    mask = np.zeros(len(y), np.bool_)
    for label, n in enumerate(share):
        mask[rng.permutation(np.flatnonzero(y == label))[:n]] = True
    return mask


def _pair(folder: Path, part: str, dtype: DTypeLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    x_path, y_path = _find(folder, f"{part}-images", "idx3-ubyte"), _find(folder, f"{part}-labels", "idx1-ubyte")
    images, labels = idx(x_path), idx(y_path)
    for path, array, ndim in ((x_path, images, 3), (y_path, labels, 1)):
        if array.ndim != ndim or array.dtype != np.uint8:
            raise DataError(f"{path} should have {ndim} axes of uint8, but has shape {array.shape} of {array.dtype}")
    if len(images) != len(labels):
        raise DataError(f"{x_path} has {len(images)} images, but {y_path} has {len(labels)} labels")
    return _scaled(images, 255, dtype), labels.astype(np.int64)


def _find(folder: Path, stem: str, kind: str) -> Path:
    names = [f"{stem}{joint}{kind}{end}" for end in ("", ".gz") for joint in "-."]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{folder} has none of {', '.join(names)}: name the folder that holds the four files of MNIST or Fashion-MNIST"
    )


def _scaled(images: NDArray[np.uint8], top: int, dtype: DTypeLike) -> NDArray[Any]:
    dtype = np.dtype(dtype)
    if dtype.kind != "f":
        raise TypeError(f"dtype is {dtype.name}, but images are scaled to [0, 1] and need a float dtype")
    rows, columns = images.shape[1:]
    return np.divide(images.reshape(len(images), rows * columns), top, dtype=dtype)
