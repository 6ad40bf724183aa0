import os
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import checkpoint, nn, optim


@pytest.fixture(autouse=True)
def _safetensors(requires):
    requires("safetensors")


def mlp(hidden=5, dtype="float32"):
    return nn.Sequential(nn.Linear(4, hidden, dtype=dtype), nn.Dropout(0.5), out=nn.Linear(hidden, 3, dtype=dtype))


def trained(steps=3):
    net = mlp().initialize(0)
    opt = optim.Adam(net.parameters())
    return go_on(net, opt, steps)


def go_on(net, opt, steps):
    x, y = np.linspace(-1, 1, 8, dtype="f4").reshape(2, 4), np.array([0, 2])
    for _ in range(steps):
        opt.zero_grad()
        mg.cross_entropy(net(mg.from_numpy(x)), y).backward()
        opt.step()
    return net, opt


def bytes_of(net, opt=None):
    state = net.state_dict() | ({} if opt is None else opt.state_dict())
    return {name: array.tobytes() for name, array in state.items()}


def test_resumed_is_uninterrupted(tmp_path):
    path = tmp_path / "net.safetensors"
    net, opt = trained(3)
    checkpoint.save(path, net, opt, metadata={"epoch": 3, "hidden": [5], "note": "a b"})
    fresh = mlp()
    fresh_opt = optim.Adam(fresh.parameters(), lr=7.0)
    assert checkpoint.load(path, fresh, fresh_opt) == {"epoch": 3, "hidden": [5], "note": "a b"}
    assert bytes_of(fresh, fresh_opt) == bytes_of(net, opt)
    assert bytes_of(*go_on(fresh, fresh_opt, 4)) == bytes_of(*trained(7))
    assert os.listdir(tmp_path) == ["net.safetensors"]


def test_any_reader_of_safetensors_can_read_it(tmp_path, requires):
    net = nn.Sequential(nn.Linear(3, 2)).initialize(0)
    net.order = nn.Parameter(np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    net.number = nn.Parameter(2.0)
    checkpoint.save(tmp_path / "a", net)
    arrays = requires("safetensors.numpy").load_file(tmp_path / "a")
    assert arrays["order"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arrays["number"].shape == ()
    assert arrays["0.weight"].tobytes() == net[0].weight.data.tobytes()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: mlp(6), r"'0\.weight' has shape \(5, 4\), need \(6, 4\)"),
        (lambda: nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, 3)), r"'2\.weight' is missing"),
        (lambda: nn.Sequential(nn.Linear(4, 5)), r"'1\.key' is not known here"),
    ],
)
def test_another_architecture_writes_nothing(tmp_path, other, words):
    checkpoint.save(tmp_path / "a", *trained())
    net = other()
    before = bytes_of(net)
    with pytest.raises(checkpoint.CheckpointError, match=words):
        checkpoint.load(tmp_path / "a", net)
    assert bytes_of(net) == before


def test_an_optimizer_that_does_not_fit_leaves_the_network_alone(tmp_path):
    net, opt = trained()
    checkpoint.save(tmp_path / "a", net, opt)
    checkpoint.save(tmp_path / "bare", net)
    fresh = mlp()
    before = bytes_of(fresh)
    for path, other, words in [
        ("a", optim.SGD(fresh.parameters(), 0.1, momentum=0.9), r"'0\.momentum' is missing"),
        ("a", optim.AdamW(fresh.parameters()), "belongs to Adam"),
        ("bare", optim.Adam(fresh.parameters()), "no state of an optimizer"),
    ]:
        with pytest.raises(checkpoint.CheckpointError, match=words):
            checkpoint.load(tmp_path / path, fresh, other)
        assert bytes_of(fresh) == before


def test_a_damaged_file(tmp_path):
    net, opt = trained()
    path = tmp_path / "a"
    checkpoint.save(path, net, opt)
    whole = path.read_bytes()
    for size in [0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        before = bytes_of(net)
        with pytest.raises(checkpoint.CheckpointError, match="not a safetensors file, or is cut short"):
            checkpoint.load(path, net, opt)
        assert bytes_of(net) == before
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        checkpoint.load(tmp_path / "none", net)


def test_a_file_of_somebody_else(tmp_path, requires):
    requires("safetensors.numpy").save_file({"w": np.ones(2)}, tmp_path / "a")
    with pytest.raises(checkpoint.CheckpointError, match="none that minigrad wrote"):
        checkpoint.read(tmp_path / "a")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError("disk full")])
@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch, where, stop):
    path = tmp_path / "a"
    net, opt = trained()
    checkpoint.save(path, net)
    old = path.read_bytes()

    def fail(*args):
        raise stop

    monkeypatch.setattr(os, where, fail)
    with pytest.raises(stop if isinstance(stop, type) else OSError):
        checkpoint.save(path, *go_on(net, opt, 1))
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a"]


def test_where_it_cannot_be_written(tmp_path):
    net = nn.Linear(1, 1)
    with pytest.raises(checkpoint.CheckpointError, match="is not a file"):
        checkpoint.save(tmp_path, net)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        checkpoint.save(tmp_path / "no" / "a", net)
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path / "a", net, metadata={"x": object()})
    with pytest.raises(checkpoint.CheckpointError, match="is not a file"):
        checkpoint.save(os.devnull, net)
    assert os.listdir(tmp_path) == []


def test_a_link_is_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    checkpoint.save(tmp_path / "link", nn.Linear(1, 1))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").is_file()


def test_without_safetensors(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"pip install 'minigrad\[cli\]'"):
        checkpoint.save(tmp_path / "a", nn.Linear(1, 1))
