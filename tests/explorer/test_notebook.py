"""What a notebook shows: pictures that are well-formed, and hold the numbers."""

import base64
import re
import struct
import zlib
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.kernels import jit

SVG = "{http://www.w3.org/2000/svg}"


def balanced(text):
    """Whether every tag that is opened is closed, in order."""
    open_tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, _: open_tags.append(tag) if tag != "img" else None
    parser.handle_endtag = lambda tag: open_tags.pop() == tag or pytest.fail(f"</{tag}> closes another")
    parser.feed(text)
    return open_tags == []


def network():
    return nn.Sequential(first=nn.Linear(3, 4), tanh=nn.Tanh(), second=nn.Linear(4, 2)).initialize(0)


def test_a_tape_is_a_picture_with_an_arc_for_each_operand():
    tape = mg.Tape.of(mg.mse_loss(network()(np.ones((5, 3), "f4")), np.ones((5, 2), "f4")))
    picture = ElementTree.fromstring(tape.svg())
    arcs = {(p, node) for node in tape for p in node.parents if isinstance(p, mg.Node)}
    assert len(picture.findall(f"{SVG}path")) == len(arcs)
    assert len(picture.findall(f"{SVG}circle")) == len(tape)
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert {"first.weight", "y = tanh x", "tanh(%4)", "first"} <= {*texts}
    assert not any("|ḡ|" in text for text in texts)
    norms = [
        text.text for text in ElementTree.fromstring(tape.backward().svg()).iter(f"{SVG}text") if "|ḡ|" in text.text
    ]
    assert len(norms) == len(tape)
    assert tape._repr_svg_() == tape.svg()


def test_a_long_tape_is_a_small_picture():
    x = mg.tensor([1.0, 2.0], requires_grad=True, name="<x>")
    h = x
    for _ in range(1000):
        h = mg.tanh(h * x)
    picture = ElementTree.fromstring(mg.Tape.of(h.sum()).svg())
    assert len(list(picture.iter(f"{SVG}text"))) < 60
    assert "<x>" in [text.text for text in picture.iter(f"{SVG}text")]


def test_a_small_tensor_is_its_numbers():
    text = mg.tensor([[0.5, -2.0]], requires_grad=True, name="<w>")._repr_html_()
    assert balanced(text)
    assert "float32 (1, 2) · &lt;w&gt; · requires a gradient" in text
    assert "[[ 0.5, -2. ]]" in text


def test_a_large_tensor_is_a_heat_map():
    array = np.random.default_rng(0).normal(size=(20, 30))
    array[2, 3] = np.nan
    text = mg.from_numpy(array)._repr_html_()
    assert balanced(text)
    png = base64.b64decode(re.search('base64,([^"]*)', text)[1])
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + data)
        chunks[kind], at = data, at + 12 + size
    assert struct.unpack(">2I", chunks[b"IHDR"][:8]) == (30, 20)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(20, 1 + 30 * 4)
    pixels = rows[:, 1:].reshape(20, 30, 4)
    size = np.abs(array) / np.nanmax(np.abs(array))
    size[2, 3] = 1
    assert np.abs(pixels[..., 3] / 255 - size).max() < 0.01
    seen = size > 0.02
    assert ((pixels[..., 2] > 150) == (array > 0))[seen].all()


def test_a_module_lists_what_it_trains():
    text = network()._repr_html_()
    assert balanced(text)
    assert "Sequential: 26 numbers to train" in text
    assert "<td>first.weight</td><td>(4, 3)</td><td>float32</td><td>12</td>" in text


@pytest.mark.skipif(not jit.AVAILABLE, reason="without kernels nothing is recorded")
def test_a_program_is_its_text():
    double = mg.compile(lambda x: x + x)
    double(mg.tensor([1.0]))
    text = double.program._repr_html_()
    assert balanced(text)
    assert "add" in text
