"""Data as plain NumPy arrays: real digits to start with, a reader for more, and minibatches.

>>> from minigrad import data
>>> d = data.digits()
>>> d.x_train.shape, d.y_train.shape, d.x_test.shape
((1437, 64), (1437,), (360, 64))
>>> [len(y) for _, y in data.batches(d.x_train, d.y_train, batch_size=512)]
[512, 512, 413]
"""

from minigrad.data.batching import batches, permutation
from minigrad.data.sets import DataError, Dataset, digits, idx, mnist

__all__ = ["DataError", "Dataset", "batches", "digits", "idx", "mnist", "permutation"]
