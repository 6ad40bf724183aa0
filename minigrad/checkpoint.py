"""Networks and optimizers in safetensors files.

A file holds the network's arrays by their dotted names, the optimizer's by theirs after "optimizer:", and metadata.

>>> import pathlib, tempfile
>>> from minigrad import nn
>>> net = nn.Sequential(nn.Linear(4, 2)).initialize(seed=0)
>>> with tempfile.TemporaryDirectory() as folder:
...     path = pathlib.Path(folder, "net.safetensors")
...     save(path, net, metadata={"epochs": 3})
...     load(path, nn.Sequential(nn.Linear(4, 2)))
{'epochs': 3}
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad.nn.module import Module
from minigrad.optim import Optimizer

_OPTIMIZER = "optimizer:"


class CheckpointError(ValueError):
    """A file is no checkpoint, is damaged, or does not fit the network or the optimizer."""


class Checkpoint(NamedTuple):
    """What a file holds: arrays of the network and of the optimizer (empty if it has none), by name, and metadata."""

    net: dict[str, NDArray[Any]]
    optimizer: dict[str, NDArray[Any]]
    metadata: dict[str, Any]


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError("checkpoints need safetensors: pip install 'minigrad[cli]'") from None
    return safetensors


def save(
    path: str | os.PathLike[str],
    net: Module,
    optimizer: Optimizer | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint, whole or not at all: an older file of that name stays until the new one is complete.

    metadata: values that JSON can hold, by name. Raises ImportError without safetensors, TypeError for other metadata,
    OSError where the file cannot be written, CheckpointError where the path is something other than a file.
    """
    arrays = net.state_dict()
    if taken := [name for name in arrays if name.startswith(_OPTIMIZER)]:
        raise ValueError(f"save: the name {taken[0]!r} is reserved for the optimizer")
    if optimizer is not None:
        arrays |= {_OPTIMIZER + name: array for name, array in optimizer.state_dict().items()}
    # one entry, because safetensors writes several in random order
    content = _safetensors().numpy.save(arrays, {"minigrad": json.dumps(dict(metadata or {}))})
    replace(target(path), content)


def target(path: str | os.PathLike[str]) -> Path:
    """The file that ``save`` would write (links are followed), checked: raises what ``save`` raises for a path."""
    _safetensors()
    try:
        return place(path)
    except IsADirectoryError as error:
        raise CheckpointError(str(error)) from None


def place(path: str | os.PathLike[str]) -> Path:
    """The file that ``replace`` would write (links are followed). Raises OSError, saying why, where it could not."""
    found = Path(os.path.realpath(path))
    if found.exists() and not found.is_file():
        raise IsADirectoryError(f"{path} is not a file, so nothing can be written there")
    if not found.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {found.parent} to write {found.name} in")
    if not os.access(found.parent, os.W_OK):
        raise PermissionError(f"the folder {found.parent} cannot be written")
    return found


def replace(path: Path, content: bytes) -> None:
    """Put the content there in one move; a failure or an interrupt leaves no trace."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def read(path: str | os.PathLike[str]) -> Checkpoint:
    """What a checkpoint holds, for those who have no network yet.

    Raises ImportError without safetensors, FileNotFoundError where there is no such file, CheckpointError where it is
    no checkpoint of minigrad's, or is cut short.
    """
    safetensors = _safetensors()
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            text = file.metadata() or {}
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118  # it is no dict
    except (safetensors.SafetensorError, OSError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a safetensors file, or is cut short ({error})") from None
    try:
        metadata = dict(json.loads(text["minigrad"]))
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path} is a safetensors file, but none that minigrad wrote") from None
    optimizer = {name[len(_OPTIMIZER) :]: a for name, a in arrays.items() if name.startswith(_OPTIMIZER)}
    return Checkpoint({n: a for n, a in arrays.items() if not n.startswith(_OPTIMIZER)}, optimizer, metadata)


def load(path: str | os.PathLike[str], net: Module, optimizer: Optimizer | None = None) -> dict[str, Any]:
    """Write a checkpoint into a network, and an optimizer if given; returns the metadata.

    Everything is checked before anything is written. Raises as :func:`read`, and CheckpointError, naming what differs,
    for a checkpoint of another architecture, or one without the state of this kind of optimizer.
    """
    found = read(path)
    restore(found, net, optimizer, str(path))
    return found.metadata


def restore(found: Checkpoint, net: Module, optimizer: Optimizer | None = None, name: str = "the checkpoint") -> None:
    """Write what :func:`read` gave into a network, and an optimizer if given. Raises CheckpointError as ``load``."""
    if optimizer is not None and not found.optimizer:
        raise CheckpointError(f"{name} holds no state of an optimizer")
    try:
        net.check_state_dict(found.net)
        if optimizer is not None:
            optimizer.check_state_dict(found.optimizer)
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{name} does not fit: {error}") from None
    net.load_state_dict(found.net)
    if optimizer is not None:
        optimizer.load_state_dict(found.optimizer)
