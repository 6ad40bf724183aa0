import functools
import json
import os
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import checkpoint, cli, kernels
from minigrad.lab import studies


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch, requires):
    requires("safetensors")
    monkeypatch.chdir(tmp_path)


SMALL = ["train", "--hidden", "8", "--batch-size", "200", "--dropout", "0.1"]


def run(capsys, *words):
    status = cli.main(list(words))
    out, err = capsys.readouterr()
    return status, out, err


def idx(folder, pixels=6, images=20):
    """The four files of a tiny MNIST."""
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (images, pixels, pixels))
        data = rng.integers(0, 256, images * pixels * pixels, np.uint8).tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + data)
        labels = (np.arange(images) % 4).astype(np.uint8).tobytes()
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1]) + images.to_bytes(4, "big") + labels)
    return str(folder)


def test_train_resume_eval(capsys):
    status, out, err = run(capsys, *SMALL, "--epochs", "4", "--out", "whole")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[:3] for line in lines[:-1]] == [["epoch", str(i), "loss"] for i in range(1, 5)]
    assert lines[-1].startswith("64-8-10 relu, ")
    assert "held-out accuracy" in lines[-1]

    assert run(capsys, *SMALL, "--epochs", "2", "--out", "half")[0] == 0
    status, out, err = run(capsys, "train", "--resume", "half", "--epochs", "4", "--out", "resumed", "--quiet")
    assert (status, err, len(out.splitlines())) == (0, "", 1)
    half, resumed, whole = (Path(name).read_bytes() for name in ("half", "resumed", "whole"))
    assert half != resumed == whole

    status, out, err = run(capsys, "eval", "whole")
    accuracy = lines[-2].split()[-1]
    assert (status, out, err) == (0, f"whole: held-out accuracy {accuracy} of 360 images\n", "")
    assert sorted(os.listdir()) == ["half", "resumed", "whole"]


@pytest.mark.parametrize("optimizer", cli.OPTIMIZERS)
def test_every_optimizer_learns(capsys, optimizer):
    lr = "0.1" if optimizer in ("sgd", "momentum") else "0.01"
    words = ["--optimizer", optimizer, "--lr", lr, "--epochs", "4", "--activation", "tanh", "--init", "xavier_normal"]
    status, out, _ = run(capsys, "train", "--hidden", "16", "--batch-size", "32", *words)
    losses = [float(line.split()[3]) for line in out.splitlines()[:-1]]
    assert status == 0
    assert losses[-1] < 0.5 * losses[0]
    assert os.listdir() == ["minigrad-digits.safetensors"]


def test_a_folder_of_idx_files(capsys, tmp_path):
    folder = idx(tmp_path)
    assert run(capsys, *SMALL, "--data", folder, "--epochs", "1", "--out", "net")[0] == 0
    assert checkpoint.read("net").metadata["config"]["inputs"] == 36
    assert run(capsys, "eval", "net")[0] == 0
    status, _, err = run(capsys, "eval", "net", "--data", "digits")
    assert (status, err) == (1, "minigrad: the images have 64 pixels, but net takes 36\n")


def prepare(tmp_path):
    assert cli.main([*SMALL, "--epochs", "1", "--out", "good", "--quiet"]) == 0
    whole = (tmp_path / "good").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-1])
    (tmp_path / "text").write_text("hello, this is no checkpoint")
    checkpoint.save("bare", mg.nn.Linear(2, 2))
    found = checkpoint.read("good")
    checkpoint.save("other", cli.network(found.metadata["config"] | {"hidden": (9,)}), metadata=found.metadata)
    for key, value in (
        ("hidden", [-1]),
        ("activation", "tahn"),
        ("classes", "x"),
        ("optimizer", "adma"),
        ("seed", "x"),
    ):
        changed = {**found.metadata, "config": found.metadata["config"] | {key: value}}
        checkpoint.save(f"bad {key}", mg.nn.Linear(2, 2), metadata=changed)
    broken = tmp_path / "broken"
    broken.mkdir()
    idx(broken)
    (broken / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03\0\0")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("", 2, "say what to do: train, eval, ops, explain, explore, lab, check or warmup"),
        ("trian", 2, "unknown command 'trian'; did you mean train?"),
        ("train --epcohs 3", 2, "unknown option --epcohs; did you mean --epochs?"),
        ("train --activation tahn", 2, "unknown activation 'tahn'; did you mean tanh?"),
        ("train --init xavier", 2, "unknown initializer 'xavier'; did you mean xavier_"),
        ("train --optimizer adma", 2, "unknown optimizer 'adma'; did you mean adam?"),
        ("train --hidden 8,x", 2, "'x' is not a layer's size"),
        ("train --hidden 0", 2, "0 is not a layer's size"),
        ("train --lr nan", 2, "nan is not a positive number"),
        ("train --epochs 0", 2, "0 is not an integer of at least 1"),
        ("train --dropout 1", 2, "1 is not in [0, 1)"),
        ("train --seed -1", 2, "-1 is not an integer of at least 0"),
        ("train --data nowhere", 1, "there is no folder nowhere"),
        ("train --data .", 1, "has none of train-images"),
        ("train --data broken", 1, "is cut short"),
        ("train --out nowhere/net", 1, "there is no folder"),
        ("train --out broken", 1, "broken is not a file"),
        ("train --optimizer sgd --lr 1e30 --epochs 1 --out x", 1, "try a smaller --lr; nothing was written"),
        ("train --resume none", 1, "there is no checkpoint none"),
        ("train --resume good --epochs 1", 1, "has seen 1 epochs already"),
        ("train --resume good --hidden 9 --epochs 2", 1, "--hidden was 8 in good and cannot change"),
        ("train --resume bare", 1, "bare does not say which network it holds"),
        ("train --resume other --epochs 2", 1, "other holds no state of an optimizer"),
        ("eval", 2, "the following arguments are required: file"),
        ("eval none", 1, "there is no checkpoint none"),
        ("eval cut", 1, "cut is not a safetensors file, or is cut short"),
        ("eval text", 1, "text is not a safetensors file, or is cut short"),
        ("eval other", 1, "'0.weight' has shape (9, 64), need (8, 64)"),
        ("eval bad_hidden", 1, "bad hidden does not say which network"),
        ("eval bad_activation", 1, "bad activation does not say which network"),
        ("train --resume bad_optimizer", 1, "bad optimizer does not say which network"),
        ("train --resume bad_seed", 1, "bad seed does not say which network"),
        ("eval bad_classes", 1, "bad classes does not say which network"),
        ("lab fan", 2, "unknown study 'fan'; did you mean fans?"),
        ("lab --dpeth 3", 2, "unknown option --dpeth; did you mean --depth?"),
        ("lab --depth 1", 2, "1 is not an integer of at least 2"),
        ("lab --seeds x", 2, "'x' is not an integer of at least 1"),
        ("lab --seed -1", 2, "-1 is not an integer of at least 0"),
        ("lab -o nowhere/page", 1, "there is no folder"),
        ("lab -o broken", 1, "broken is not a file"),
        ("ops tahn", 1, "there is no op 'tahn'; did you mean tanh?"),
    ],
)
def test_bad_input_is_one_sentence(capsys, tmp_path, words, status, message):
    prepare(tmp_path)
    before = sorted(os.listdir())
    capsys.readouterr()
    got, out, err = run(capsys, *[word.replace("_", " ") for word in words.split()])
    assert got == status
    assert message in err
    assert err.startswith("minigrad")
    assert err.count("\n") == 1
    assert "epoch " not in out
    assert sorted(os.listdir()) == before


def test_without_safetensors_nothing_is_trained(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    status, out, err = run(capsys, *SMALL)
    assert (status, out) == (1, "")
    assert err == "minigrad: checkpoints need safetensors: pip install 'minigrad[cli]'\n"


def test_an_interrupt_leaves_no_file(tmp_path):
    command = [sys.executable, "-u", "-m", "minigrad", *SMALL, "--epochs", "100000"]
    env = {**os.environ, "PYTHONPATH": str(Path(mg.__file__).parents[1])}
    default = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # background jobs ignore it
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=default
    )
    try:
        assert process.stdout.readline().startswith("epoch")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err == "minigrad: interrupted, nothing was written\n"
    assert os.listdir() == []


def width(line):
    return sum(not unicodedata.combining(c) for c in line)


def test_the_page_of_ops(capsys):
    status, out, _ = run(capsys, "ops")
    lines = out.splitlines()
    assert status == 0
    assert {line.split()[0] for line in lines if not line.startswith(" ")} == set(mg.REGISTRY)
    assert [line for line in lines if width(line) > 100] == []
    tanh = lines.index(next(line for line in lines if line.startswith("tanh ")))
    assert lines[tanh].split() == ["tanh", "y", "=", "tanh", "x", "kernel"]
    assert lines[tanh + 1].split() == ["for", "x", *"x̄ = ȳ (1 + y)(1 − y)".split(), "saves", "y", "kernel"]
    status, out, _ = run(capsys, "ops", "cross_entropy")
    assert status == 0
    assert mg.REGISTRY["cross_entropy"].__doc__.split(".")[0] in " ".join(out.split())


def test_help(capsys):
    status, out, _ = run(capsys, "train", "--help")
    assert status == 0
    assert "256,128" in out


def test_the_defaults_are_good(capsys):
    """After 8 epochs of 40, and against a bound far below what they reach, so that luck decides nothing."""
    status, out, _ = run(capsys, "train", "--epochs", "8", "--quiet")
    assert status == 0
    assert float(out.split("accuracy ")[1].split("%")[0]) > 94


def test_warmup(capsys):
    status, out, err = run(capsys, "warmup")
    if kernels.jit.AVAILABLE:
        assert (status, err) == (0, "")
        assert out.startswith(f"{kernels.count()} kernels ready after ")
        assert str(kernels.jit.cache_directory()) in out
    else:
        assert (status, out) == (1, "")
        assert "NUMBA_DISABLE_JIT is set" in err


SCRIPT = """
import sys
import minigrad as mg
import beside
x = mg.tensor([1.0, 2.0], requires_grad=True, name="x")
for k in range(3):
    x.grad = None
    (x * x * float({by})).sum().backward()
print("done", __name__, sys.argv[1:])
"""


@pytest.mark.parametrize(("words", "frames"), [([], [[0, 0]]), (["--film", "2"], [[0, 0], [2, 4]])])
def test_explore_runs_a_script_and_shows_its_backward(capsys, tmp_path, words, frames):
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "beside.py").write_text("")
    (folder / "script.py").write_text(SCRIPT.format(by="k" if words else "2 - k"))
    path = list(sys.path)
    status, out, err = run(capsys, "explore", "scripts/script.py", "-o", "page.html", *words)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "done __main__ []"
    assert out.splitlines()[1].endswith("of 3 in all, wrote page.html")
    assert sys.path == path
    content = json.loads(Path("page.html").read_text(encoding="utf-8").split('id="data">')[1].split("</script>")[0])
    assert [frame["cotangents"][0]["numbers"] for frame in content["frames"]] == frames
    assert content["places"][1][0] == "script.py:8"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise ValueError('no')", "raised an error; nothing was written"),
        ("raise SystemExit(3)", "ended with exit status 3; nothing was written"),
        ("x = 1", "ran no backward, so there is no tape to show"),
        (None, "there is no file script.py"),
    ],
)
def test_explore_says_why_there_is_no_page(capsys, source, message):
    if source is not None:
        Path("script.py").write_text(source)
    status, out, err = run(capsys, "explore", "script.py")
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].startswith("minigrad: ")
    assert message in err
    assert ("ValueError: no" in err) == ("ValueError" in (source or ""))
    assert not Path("tape.html").exists()


def test_lab(capsys, requires):
    requires("matplotlib")
    words = ["lab", "fans", "jacobian", "--depth", "6", "--width", "8", "--seeds", "2", "-o", "page.html"]
    status, out, err = run(capsys, *words)
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 100
    assert out.startswith("XAVIER'S COMPROMISE\n")
    assert "predicted  measured" in out
    assert out.splitlines()[-1].startswith("fans, jacobian: ")
    assert "wrote page.html (" in out.splitlines()[-1]
    assert os.listdir() == ["page.html"]
    assert Path("page.html").read_bytes().startswith(b"<!doctype html>")
    again, other = (run(capsys, *words[:-2], "--tables", *more)[1].splitlines()[:-1] for more in ((), ("--seed", "1")))
    assert again == out.splitlines()[:-1] != other


def test_lab_without_matplotlib(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, out, err = run(capsys, "lab", "fans")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "pictures need matplotlib: pip install 'minigrad[cli]'; or ask for the --tables alone" in err
    status, out, err = run(capsys, "lab", "fans", "--tables", "--seeds", "2")
    assert (status, err, os.listdir()) == (0, "", [])
    assert "LeCun, up" in out


def test_lab_help_names_the_studies(capsys):
    status, out, _ = run(capsys, "lab", "--help")
    assert status == 0
    assert [name for name in studies.STUDIES if f"\n  {name} " not in out] == []
