"""What the observer slot costs a training step: empty, beside a build without its branches; and with detect_anomaly.

    python bench/anomaly.py

The build without is this package, copied, with every branch on an observer cut out of the syntax trees of what eager
steps run. Processes of both builds take turns; each gives the median of its steps, and the medians of those are
compared.
"""

import ast
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "minigrad"
FILES = ["engine/apply.py", "engine/backward.py", "engine/tensor.py", "nn/module.py", "optim/optimizers.py"]
TURNS = 7
STEP = """
import contextlib, statistics, sys, time
import numpy as np
import minigrad as mg
from minigrad import nn, optim

width, watch, steps = int(sys.argv[1]), sys.argv[2] == "on", int(sys.argv[3])
net = nn.Sequential(nn.Linear(64, width), nn.Tanh(), nn.Linear(width, 10)).initialize(0)
opt = optim.SGD(net.parameters(), lr=0.01)
x, y = np.random.default_rng(0).normal(size=(32, 64)).astype("f4"), np.arange(32) % 10
times = []
with mg.detect_anomaly() if watch else contextlib.nullcontext():
    for _ in range(steps):
        start = time.perf_counter()
        loss = mg.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        times.append(time.perf_counter() - start)
print(statistics.median(times[steps // 10:]) * 1e6)
"""


class Cut(ast.NodeTransformer):
    """Cuts out what only an observer needs."""

    def __init__(self) -> None:
        self.count = 0

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
        self.generic_visit(node)
        if "observer" in ast.unparse(node.test):
            self.count += 1
            return node.orelse or None
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        test = ast.unparse(node.test)
        if "observer" in test:
            self.count += 1
            return node.body if "is None" in test else node.orelse
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        kept = [value for value in node.values if "observer" not in ast.unparse(value)]
        self.count += len(node.values) - len(kept)
        return kept[0] if len(kept) == 1 else ast.BoolOp(node.op, kept)


def without(folder: Path) -> None:
    """A copy of the package in ``folder``, without the observer's branches."""
    shutil.copytree(PACKAGE, folder / "minigrad")
    for name in FILES:
        file, cut = folder / "minigrad" / name, Cut()
        tree = cut.visit(ast.parse(file.read_text(encoding="utf-8")))
        file.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
        assert cut.count, f"there is no branch on an observer in {name}"


def measure(root: Path, *args: object) -> float:
    command = [sys.executable, "-c", STEP, *map(str, args)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        without(Path(folder))
        print("median µs of a step   no branches       off  ratio        on  ratio")
        for width, steps in ((64, 3000), (512, 600)):
            turns = [
                (
                    measure(Path(folder), width, "off", steps),
                    measure(PACKAGE.parent, width, "off", steps),
                    measure(PACKAGE.parent, width, "on", steps),
                )
                for _ in range(TURNS)
            ]
            cut, off, on = map(statistics.median, zip(*turns, strict=True))
            print(f"64-{width:<4}-10, batch 32  {cut:11.1f} {off:9.1f} {off / cut:6.3f} {on:9.1f} {on / off:6.2f}")


if __name__ == "__main__":
    main()
