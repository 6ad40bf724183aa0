"""How a notebook shows tensors, modules and programs; a tape shows itself (``Tape.svg``)."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from typing import Any

import numpy as np

from minigrad.compiler.program import Program
from minigrad.engine.tensor import Tensor
from minigrad.explorer.page import matrix, summary
from minigrad.nn.module import Module

#: Red, green and blue of the numbers above 0, and of those below; nothing of either is seen of a 0.
ABOVE, BELOW = (31, 102, 179), (128, 124, 118)
#: Pixels of the longer side of a heat map, and the most of one cell.
SIDE, CELL = 256, 10


def tensor_html(tensor: Tensor) -> str:
    """Its numbers if there are no more than 256; else a heat map, and minimum, mean, maximum and norm."""
    facts = [f"tensor {tensor.dtype} {tensor.shape}", tensor.name]
    if tensor.node is not None:
        facts.append("requires a gradient" if tensor.node.op is None else f"of {tensor.node.op.name}")
    found = summary(tensor._data, 10**6)
    if "numbers" in found:
        body = _pre(np.array2string(tensor._data, separator=", "))
    else:
        body = _image(*matrix(found))
        facts += [
            f"{name} {float(x):.4g}" for name, x in zip(("min", "mean", "max", "norm"), found["stats"], strict=True)
        ]
    return f"<div>{html.escape(' · '.join(filter(None, facts)))}</div>{body}"


def module_html(module: Module) -> str:
    """Its parameters and buffers: name, shape, dtype, how many numbers."""
    rows = [(name, str(t.shape), str(t.dtype), f"{t.size:,}") for name, t in module._tensors().items()]
    total = sum(p.size for p in module.parameters())
    cells = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div>{type(module).__name__}: {total:,} numbers to train</div><table>{cells}</table>"


def program_html(program: Program) -> str:
    """The text that ``print(program)`` shows, as wide as it is."""
    return _pre(str(program))


def _pre(text: str) -> str:
    return f'<pre style="white-space:pre;overflow-x:auto">{html.escape(text)}</pre>'


def _image(cells: np.ndarray[Any, Any], top: float) -> str:
    """A matrix of cells as a PNG, a pixel for each, scaled up by the browser."""
    share = np.where(np.isfinite(cells), cells, top) / (top or 1.0)
    pixels = np.empty((*cells.shape, 4), np.uint8)
    pixels[..., :3] = np.where(share[..., None] < 0, BELOW, ABOVE)
    pixels[..., 3] = np.rint(255 * np.abs(share))
    pixels[~np.isfinite(cells)] = 194, 24, 91, 255
    rows, columns = cells.shape
    parts = (
        (b"IHDR", struct.pack(">2I5B", columns, rows, 8, 6, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))),
        (b"IEND", b""),
    )
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()
    wide, high = (n * max(1, min(CELL, SIDE // n)) for n in (columns, rows))
    style = f"width:{wide}px;height:{high}px;image-rendering:pixelated"
    return f'<img src="data:image/png;base64,{data}" style="{style}" alt="heat map">'


# The floors beneath compute, and this one draws.
for _kind, _show in ((Tensor, tensor_html), (Module, module_html), (Program, program_html)):
    setattr(_kind, "_repr_html_", _show)  # noqa: B010  # no class declares it
