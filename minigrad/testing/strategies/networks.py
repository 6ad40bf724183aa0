"""Networks, optimizers and training runs as Hypothesis strategies."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from minigrad import init, nn, optim
from minigrad.engine.tensor import Tensor, tensor
from minigrad.ops import loss as losses
from minigrad.testing.units import (
    Hidden,
    assert_twins,
    first_of_class,
    hidden_layers,
    randomise,
)

Array = NDArray[Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]
Dtype = Literal["float32", "float64"]

#: Sizes of layers and batches. Through BLAS, layers of 13 inputs or fewer never round by position: most have more.
WIDTHS = st.integers(1, 300)
INPUTS = st.one_of(WIDTHS, *[st.integers(33, 300)] * 3)

# Without orthogonal: on a busy machine the threads of LAPACK took 3 s for what takes milliseconds.
INITIALIZERS = (
    init.xavier_uniform(),
    init.xavier_normal(),
    init.kaiming_uniform(),
    init.kaiming_normal(),
    init.lecun_uniform(),
    init.lecun_normal(),
    init.truncated_normal(0.0, 0.1),
    init.default(),
)

_Target = tuple[str, Callable[[np.random.Generator, tuple[int, int], str], Array]]
#: Each loss with how its targets are drawn: (code, function of (rng, shape, dtype)).
_REAL: _Target = (
    "rng.standard_normal({shape}).astype({dtype!r})",
    lambda rng, shape, d: rng.standard_normal(shape).astype(d),
)
_UNIT: _Target = ("rng.random({shape}).astype({dtype!r})", lambda rng, shape, d: rng.random(shape).astype(d))
_CLASS: _Target = ("rng.integers(0, {outputs}, {rows})", lambda rng, shape, d: rng.integers(0, shape[1], shape[0]))
_TARGETS = (
    ("mse_loss", _REAL),
    ("l1_loss", _REAL),
    ("huber_loss", _REAL),
    ("bce_with_logits", _UNIT),
    ("cross_entropy", _CLASS),
)
LOSSES = tuple(name for name, _ in _TARGETS)


def _call(made: Any, first: str = "") -> str:
    """The code of a functools.partial's call."""
    options = [f"{key}={value!r}" for key, value in made.keywords.items()]
    return f"{made.func.__name__}({', '.join([first] * bool(first) + options)})"


def activations() -> st.SearchStrategy[Callable[[], nn.Module]]:
    """Makers of elementwise activations, options included: every one of ``nn``.

    >>> from hypothesis import find
    >>> find(activations(), lambda make: make.keywords)()
    LeakyReLU(slope=0.25)
    """
    plain = (nn.Tanh, nn.ReLU, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Softplus)
    return st.sampled_from(
        [
            *map(functools.partial, plain),
            functools.partial(nn.LeakyReLU, slope=0.25),
            functools.partial(nn.ELU, alpha=0.5),
            functools.partial(nn.GELU, approximate="tanh"),
        ]
    )


def initializers() -> st.SearchStrategy[init.Initializer]:
    """Initializers that break symmetry and keep signals near their size, for ``weight_init``.

    >>> from hypothesis import find
    >>> find(initializers(), lambda rule: "normal" in repr(rule))
    xavier_normal(gain=1.0)
    """
    return st.sampled_from(INITIALIZERS)


@st.composite
def optimizers(draw: Draw) -> Callable[[Sequence[Tensor]], optim.Optimizer]:
    """Makers of optimizers: every class of ``optim``, by the options that its signature has.

    >>> from hypothesis import find
    >>> find(optimizers(), lambda make: make.keywords.get("nesterov"))
    functools.partial(<class 'minigrad.optim.optimizers.SGD'>, lr=0.01, momentum=0.5, nesterov=True)
    """
    kinds = [getattr(optim, name) for name in sorted(optim.__all__, reverse=True)]  # SGD before Adam
    kinds = [k for k in kinds if isinstance(k, type) and issubclass(k, optim.Optimizer) and k is not optim.Optimizer]
    kind = draw(st.sampled_from(kinds))
    options: dict[str, Any] = {"lr": draw(st.sampled_from([0.01, 0.001, 0.03]))}
    momentum, nesterov = draw(st.sampled_from([(0.0, False), (0.5, False), (0.9, False), (0.5, True), (0.9, True)]))
    chosen = {"momentum": momentum, "nesterov": nesterov}
    chosen |= {
        "betas": draw(st.sampled_from([None, (0.5, 0.75)])),
        "weight_decay": draw(st.sampled_from([None, 0.125])),
    }
    known = inspect.signature(kind).parameters
    options |= {name: value for name, value in chosen.items() if value and name in known}
    return functools.partial(kind, **options)


@dataclass(frozen=True)
class Network:
    """A drawn multi-layer perceptron: ``build()`` makes it, ``str`` is its code."""

    sizes: tuple[int, ...]
    activations: tuple[Any, ...]  # functools.partial of a module class, one for each hidden layer
    weight_init: Any
    bias_init: Any
    bias: bool
    dtype: str
    dropout: float
    seed: int

    def build(self) -> nn.Sequential:
        """The module, with its parameters drawn from ``seed``."""
        layers: list[nn.Module] = []
        for i, (n, m) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            layers.append(nn.Linear(n, m, self.bias, **self._how(), dtype=self.dtype))
            if i < len(self.activations):
                layers.append(self.activations[i]())
                if self.dropout:
                    layers.append(nn.Dropout(self.dropout))
        return nn.Sequential(*layers).initialize(self.seed)

    def _how(self) -> dict[str, Any]:
        how = {"weight_init": self.weight_init, "bias_init": self.bias_init if self.bias else None}
        return {name: value for name, value in how.items() if value is not None}

    def __str__(self) -> str:
        def shown(rule: Any) -> str:
            return repr(rule) if isinstance(rule, float) else f"init.{rule!r}"

        how = [f"{name}={shown(rule)}" for name, rule in self._how().items()]
        how = ["False"] * (not self.bias) + how + [f"dtype={self.dtype!r}"] * (self.dtype != "float32")
        parts = []
        for i, (n, m) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            parts.append(f"nn.Linear({', '.join([str(n), str(m), *how])})")
            if i < len(self.activations):
                parts.append(f"nn.{_call(self.activations[i])}")
                if self.dropout:
                    parts.append(f"nn.Dropout({self.dropout})")
        return f"nn.Sequential({', '.join(parts)}).initialize({self.seed})"

    __repr__ = __str__

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


@st.composite
def networks(
    draw: Draw,
    inputs: st.SearchStrategy[int] = INPUTS,
    hidden: st.SearchStrategy[int] | None = None,
    outputs: st.SearchStrategy[int] | None = None,
    dtypes: Sequence[Dtype] = ("float32", "float64"),
    dropout: Sequence[float] = (0.0,),
    activation: st.SearchStrategy[Any] | None = None,
) -> Network:
    """Multi-layer perceptrons of one to three hidden layers, of any activations and initializers.

    Sizes run from 1 to 300 (outputs to 40), most inputs above 32, where position-dependent kernels show.

    >>> from hypothesis import find
    >>> find(networks(), lambda net: len(net.sizes) > 3)
    nn.Sequential(nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 1)).initialize(0)
    """
    # layers as one list, and no draw that depends on another: Hypothesis recombines its examples
    layer = st.tuples(WIDTHS if hidden is None else hidden, activations() if activation is None else activation)
    middle = draw(st.lists(layer, min_size=1, max_size=3))
    sizes = (draw(inputs), *[width for width, _ in middle], draw(st.integers(1, 40) if outputs is None else outputs))
    acts = tuple(act for _, act in middle)
    bias, shift = draw(st.sampled_from([True, True, True, False])), draw(st.sampled_from([None, 0.5]))
    if any(act.func is nn.ReLU for act in acts):
        shift = 1.0  # with it they seldom die, whatever their width
    rule = draw(st.sampled_from([None, *INITIALIZERS]))
    dtype, rate, seed = draw(st.sampled_from(dtypes)), draw(st.sampled_from(dropout)), draw(st.integers(0, 2**16))
    return Network(sizes, acts, rule, shift, bias, dtype, rate, seed)


@dataclass
class Training:
    """A network with its optimizer, inputs, and the loss of its outputs."""

    net: nn.Module
    optimizer: optim.Optimizer
    x: Tensor
    loss: Callable[[Any], Any]

    def step(self) -> float:
        """One step; the loss before it."""
        value = self.loss(self.net(self.x))
        self.optimizer.zero_grad()
        value.backward()
        self.optimizer.step()
        return float(value.item())


@dataclass(frozen=True)
class Run:
    """A drawn training run: ``build()`` makes all that it needs, ``str`` is its code."""

    network: Network
    optimizer: Any
    loss: str
    batch: int
    steps: int
    seed: int

    def build(self) -> Training:
        rng, net = np.random.default_rng(self.seed), self.network.build()
        shape, dtype = (self.batch, self.network.sizes[-1]), self.network.dtype
        x = tensor(rng.standard_normal((self.batch, self.network.sizes[0])).astype(dtype))
        target = dict(_TARGETS)[self.loss][1](rng, shape, dtype)
        return Training(net, self.optimizer(list(net.parameters())), x, lambda y: getattr(losses, self.loss)(y, target))

    def train(self) -> Iterator[float]:
        """Train a network from the start; yields the loss before each step."""
        training = self.build()
        for _ in range(self.steps):
            yield training.step()

    def __str__(self) -> str:
        rows, outputs, dtype = self.batch, self.network.sizes[-1], self.network.dtype
        target = dict(_TARGETS)[self.loss][0].format(shape=(rows, outputs), rows=rows, outputs=outputs, dtype=dtype)
        return "\n".join(
            [
                f"rng = np.random.default_rng({self.seed})",
                f"net = {self.network}",
                f"opt = optim.{_call(self.optimizer, 'net.parameters()')}",
                f"x = mg.tensor(rng.standard_normal({rows, self.network.sizes[0]}).astype({dtype!r}))",
                f"target = {target}",
                f"for _ in range({self.steps}):",
                f"    loss = mg.{self.loss}(net(x), target)",
                "    opt.zero_grad()",
                "    loss.backward()",
                "    opt.step()",
            ]
        )

    __repr__ = __str__

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


@st.composite
def runs(
    draw: Draw,
    network: st.SearchStrategy[Network] | None = None,
    optimizer: st.SearchStrategy[Any] | None = None,
    loss: st.SearchStrategy[str] | None = None,
    batch: st.SearchStrategy[int] = WIDTHS,
    steps: st.SearchStrategy[int] | None = None,
    live: bool = True,
) -> Run:
    """Training runs: network, optimizer, loss, data and steps; if ``live``, such that gradients are finite and reach
    the first layer.

    >>> from hypothesis import find
    >>> print(find(runs(loss=st.just("cross_entropy"), live=False), lambda run: True))
    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 2)).initialize(0)
    opt = optim.SGD(net.parameters(), lr=0.01)
    x = mg.tensor(rng.standard_normal((1, 1)).astype('float32'))
    target = rng.integers(0, 2, 1)
    for _ in range(1):
        loss = mg.cross_entropy(net(x), target)
        opt.zero_grad()
        loss.backward()
        opt.step()
    """
    name = draw(st.sampled_from(LOSSES) if loss is None else loss)
    if network is None:
        # a single class has nothing to learn
        network = networks(outputs=st.integers(2, 40) if name == "cross_entropy" else None)
    found = st.builds(
        Run,
        network,
        optimizers() if optimizer is None else optimizer,
        st.just(name),
        batch,
        st.integers(1, 5) if steps is None else steps,
        st.integers(0, 2**16),
    )
    run: Run = draw(found.filter(_is_live) if live else found)
    return run


def _is_live(run: Run) -> bool:
    training = run.build()
    training.loss(training.net(training.x)).backward()
    found = [p.grad.data for p in training.net.parameters() if p.grad is not None]
    return all(np.isfinite(g).all() for g in found) and bool(found[0].any())


# Symmetric states


@dataclass(frozen=True)
class Symmetric:
    """A run that starts with twins: the units of a layer with one label have equal weights in, bias, weights out and
    optimizer state; all else is random. ``classes``: a label for each unit of each hidden layer."""

    run: Run
    classes: tuple[tuple[int, ...], ...]
    warm: int  # steps that the optimizer has made, with random symmetric gradients
    seed: int

    @functools.cached_property
    def layers(self) -> list[Hidden]:
        training = self.run.build()
        return hidden_layers(training.net, training.x)

    def build(self) -> Training:
        training = self.run.build()
        rng = np.random.default_rng(self.seed)
        randomise(training.net, self.layers, self._first(), rng, training.optimizer, self.warm)
        return training

    def _first(self) -> list[Any]:
        return [first_of_class(labels) for labels in self.classes]

    def assert_twins(self, training: Training, when: str) -> None:
        """Raise AssertionError, naming two units and a number, unless all twins are still twins."""
        assert_twins(training.net, training.optimizer, self.layers, self._first(), when)


@st.composite
def symmetric_states(draw: Draw, run: st.SearchStrategy[Run] | None = None, most: int = 5) -> Symmetric:
    """Runs that start from an arbitrary symmetric state, up to ``most`` classes of units in each hidden layer.

    >>> from hypothesis import find
    >>> state = find(symmetric_states(), lambda s: len(set(s.classes[0])) > 1)
    >>> state.classes, state.run.network
    (((0, 1),), nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)).initialize(0))
    >>> training = state.build()
    >>> loss = training.step()
    >>> state.assert_twins(training, "after one step")
    """
    drawn = draw(runs(live=False) if run is None else run)
    rng, kinds = np.random.default_rng(seed := draw(st.integers(0, 2**16))), draw(st.integers(1, most))
    classes = []
    for width in drawn.network.sizes[1:-1]:
        # every class has a unit; the others are at random places
        kinds = min(kinds, width)
        labels = np.concatenate([np.arange(kinds), rng.integers(0, kinds, width - kinds)])
        classes.append(tuple(rng.permutation(labels).tolist()))
    return Symmetric(drawn, tuple(classes), draw(st.integers(0, 5)), seed)
