"""The studies of ``minigrad lab``: each composes the laboratory's instruments, and returns tables and pictures as data.

The story that they tell is that of Dive into Deep Learning, §3.15; the page (report.html) has it in words.
"""

from __future__ import annotations

import functools
import itertools
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from minigrad import data, init, nn, optim
from minigrad.compiler import Compiled
from minigrad.engine.state import no_grad
from minigrad.engine.tensor import Tensor, from_numpy
from minigrad.lab.meanfield import PhaseDiagram, critical, critical_line, fixed_point
from minigrad.lab.propagation import propagate
from minigrad.lab.symmetry import symmetry_run
from minigrad.ops.loss import cross_entropy


class Setup(NamedTuple):
    """How large: ``seeds`` random networks of each kind, with ``depth`` layers of ``width`` units; training epochs."""

    depth: int = 30
    width: int = 256
    seeds: int = 20
    epochs: int = 20
    seed: int = 0

    def draws(self, share: int = 1) -> range:
        """The seeds of random networks, or one in ``share`` of them; those of another ``seed`` are others."""
        count = max(self.seeds // share, 1)
        return range(self.seed * self.seeds, self.seed * self.seeds + count)


DEFAULT = Setup()


class Column(NamedTuple):
    """A column of a table: its name, how its values are formatted, and what it belongs to with its neighbours."""

    name: str
    spec: str = ""
    group: str = ""


class Table(NamedTuple):
    """Rows of values; prints as text, at most 100 columns wide. ``note``: what was said in words."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    note: str = ""

    def cells(self) -> list[list[str]]:
        """The rows as texts.

        >>> Table("", "", [Column("n"), Column("x", "+.1f")], [(1, 2.0), (2, -math.inf), (3, math.nan)]).cells()
        [['1', '+2.0'], ['2', '-∞'], ['3', '-']]
        """
        return [[_text(value, c.spec) for value, c in zip(row, self.columns, strict=True)] for row in self.rows]

    def groups(self) -> list[tuple[str, list[Column]]]:
        """Neighbouring columns that belong together, and to what; "" for those that stand alone."""
        return [(group, list(columns)) for group, columns in itertools.groupby(self.columns, key=lambda c: c.group)]

    def __str__(self) -> str:
        """As text.

        >>> print(Table("", "Two.", [Column("n"), Column("x", ".1f", "size"), Column("y", "d", "size")], [("a", 1, 2)]))
        Two.
        <BLANKLINE>
            size
           ──────
        n    x  y
        ─────────
        a  1.0  2
        """
        body = self.cells()
        widths = [max(map(len, texts)) for texts in zip([c.name for c in self.columns], *body, strict=True)]
        above, rule, at = "", "", 0
        for group, columns in self.groups():
            members = range(at, at + len(columns))
            wide = sum(widths[i] for i in members) + 2 * (len(columns) - 1)
            if group and wide < len(group):
                widths[at] += len(group) - wide
                wide = len(group)
            above += f"{group:^{wide}}  "
            rule += ("─" if group else " ") * wide + "  "
            at += len(columns)

        def line(cells: Sequence[str]) -> str:
            aligned = zip(cells, self.columns, widths, strict=True)
            return "  ".join(f"{text:{'>' if c.spec else '<'}{width}}" for text, c, width in aligned).rstrip()

        head = [above.rstrip(), rule.rstrip()] if above.strip() else []
        lines, before = [*head, line([c.name for c in self.columns]), "─" * (sum(widths) + 2 * (at - 1))], None
        for first, *rest in body:
            lines.append(line(["" if first == before else first, *rest]))
            before = first
        texts = [textwrap.fill(text, 100) for text in (self.caption, self.note) if text]
        return "\n".join([texts[0], "", *lines, *(["", texts[1]] if self.note else [])])


def _text(value: Any, spec: str) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "-" if math.isnan(value) else "∞" if value > 0 else "-∞"
    text = format(value, spec)
    return format(0.0, spec) if text.startswith("-") and float(text) == 0 else text


class Curve(NamedTuple):
    """A line through points; equal labels have one colour, and what is theory is dashed."""

    label: str
    x: Any  # (n,) numbers
    y: Any
    theory: bool = False


class Panel(NamedTuple):
    """Curves in one frame; ``axes``: further properties of matplotlib's axes."""

    title: str
    xlabel: str
    ylabel: str
    curves: Sequence[Curve]
    axes: Mapping[str, Any] = MappingProxyType({})


class Picture(NamedTuple):
    """Panels beside each other, each a :class:`Panel` or a function that gives a matplotlib Figure."""

    name: str
    caption: str
    alt: str
    panels: Sequence[Panel | Callable[[], Any]]

    @property
    def labels(self) -> list[str]:
        """Those of the measured curves, in order: one colour each."""
        curves = itertools.chain.from_iterable(p.curves for p in self.panels if isinstance(p, Panel))
        return list(dict.fromkeys(curve.label for curve in curves if not curve.theory))

    @property
    def theory(self) -> bool:
        """Whether one of the panels has a curve of theory."""
        return any(curve.theory for panel in self.panels if isinstance(panel, Panel) for curve in panel.curves)


class Study(NamedTuple):
    """What one study found. Prints as its tables."""

    name: str
    title: str
    tables: list[Table]
    pictures: list[Picture]

    def __str__(self) -> str:
        return "\n\n".join([self.title.upper(), *map(str, self.tables)])


Advance = Callable[[float], Any]

HE = init.kaiming_normal()
INITIALIZERS: MappingProxyType[str, Any] = MappingProxyType(
    {
        "N(0, 0.01²)": init.normal(std=0.01),
        "PyTorch's default": init.default(),
        "Xavier": init.xavier_normal(),
        "He": HE,
    }
)
ACTIVATIONS = ("linear", "tanh", "relu", "sigmoid", "erf")
#: The training study: layers, their width, learning rates of SGD and Adam. Chosen so that 20 epochs tell all four
#: beginnings of relu apart; batches of 32.
LAYERS, UNITS, RATE, ADAM_RATE = 10, 64, 0.02, 0.001


def propagation(setup: Setup, advance: Advance) -> Study:
    """How far signals get up and gradients get down: activation × initializer, and what only looks healthy."""
    shape: dict[str, Any] = {"depth": setup.depth, "width": setup.width}
    found = {}
    for activation, (name, rule) in itertools.product(ACTIVATIONS, INITIALIZERS.items()):
        found[activation, name] = propagate(
            **shape, activation=activation, weight_init=rule, bias_init=0.0, seeds=setup.draws()
        )
        advance(len(found) / (len(ACTIVATIONS) * len(INITIALIZERS) + 1))
    columns = [Column("activation"), Column("initializer")]
    for group in ("forward gain", "backward gain"):
        columns += [Column("predicted", "+.2f", group), Column("measured", "+.2f", group), Column("±", ".2f", group)]
    columns.append(Column("χ₁", ".3f"))
    kinds = ("predicted", "gain", "error")
    rows = [
        (*key, *(getattr(r, f"{way}_{what}") for way in ("forward", "backward") for what in kinds), r.chi)
        for key, r in found.items()
    ]
    grid = Table(
        "gains",
        f"Powers of ten that a second moment gains over {setup.depth} layers of {setup.width} units: signals from the "
        f"first layer to the last, gradients from the last to the first. {setup.seeds} networks each, no biases; "
        "± is one standard error.",
        columns,
        rows,
    )
    steps = list(range(1, setup.depth + 1))
    panels = []
    for (what, ylabel), activation in itertools.product(
        (("forward", "E[z²]"), ("backward", "E[(∂L/∂z)²] / last layer's")), ("tanh", "relu", "sigmoid")
    ):
        curves = []
        for name in INITIALIZERS:
            layers = found[activation, name].layers
            for theory, suffix in ((False, ""), (True, "_predicted")):
                curves.append(Curve(name, steps, [getattr(row, what + suffix) for row in layers], theory))
        panels.append(Panel(f"{activation}, {what}", "layer", ylabel, curves, {"yscale": "log", "ylim": (1e-30, 1e3)}))
    layers_picture = Picture(
        "layers",
        "Second moments, layer by layer. A straight line on this scale is a constant factor per layer, and thirty "
        "factors make a power. Theory lies on what was measured, but for a scatter of order 1/√width: it is exact only "
        "for infinitely wide layers. What leaves a frame below has fallen under 10⁻³⁰. Sigmoid's signals look healthy "
        "under every rule, and none of its gradients is.",
        "Six line charts: forward and backward second moments over the layers for tanh, relu and sigmoid, a line for "
        "each of the four initializers, with the prediction dashed on top of it.",
        panels,
    )
    lost = propagate(**shape, activation="relu", weight_init="default", bias_init="default", seeds=setup.draws())
    advance(1.0)
    columns = [Column("layer")]
    for group, spec in (("second moment", ".1e"), ("varies with input", ".1e"), ("correlation", ".6f")):
        columns += [Column("predicted", spec, group), Column("measured", spec, group)]
    chosen = sorted({0, *range(4, setup.depth - 1, 5), setup.depth - 1})
    rows = [tuple(lost.layers[i])[:7] for i in chosen]
    healthy = Table(
        "information",
        "PyTorch's default, weights and biases, with relu. Second moment: E[z²] of a layer. Varies with input: the "
        "part of it that differs from one input to another. Correlation: of two different inputs.",
        columns,
        rows,
        f"Verdict: {lost.verdict}.",
    )
    parts = [
        Curve(label, steps, [getattr(row, what + suffix) for row in lost.layers], bool(suffix))
        for label, what in (("second moment", "forward"), ("varies with the input", "varying"))
        for suffix in ("", "_predicted")
    ]
    floor = Picture(
        "floor",
        "The biases keep the second moment up while everything that came from the input dies: a network can look "
        "healthy, and answer the same to every question. Theory, dashed, knows both.",
        "Line chart over the layers: the second moment levels off, the part that varies with the input falls steadily "
        "by many orders of magnitude.",
        [Panel("relu, PyTorch's default with biases", "layer", "E[·]", parts, {"yscale": "log"})],
    )
    z = np.linspace(-6, 6, 1201)
    functions = {name: init.value_and_slope(init.function(name), z) for name in ("sigmoid", "tanh", "relu")}
    slopes = Picture(
        "slopes",
        "Three activations and their slopes. A gradient is multiplied by the slope in every layer: sigmoid's is 1/4 at "
        "most and vanishes on both sides, tanh's is 1 in one point, relu's is 1 or 0.",
        "Two line charts over z from −6 to 6: sigmoid, tanh and relu, and their derivatives.",
        [
            Panel(
                title,
                "z",
                "",
                [Curve(k, z, v[i]) for k, v in functions.items()],
                {"ylim": (-1.2, 2), "xticks": range(-6, 7, 3)},
            )
            for i, title in enumerate(("φ(z)", "φ′(z)"))
        ],
    )
    return Study("propagation", "Vanishing and exploding", [grid, healthy], [slopes, layers_picture, floor])


def fans(setup: Setup, advance: Advance) -> Study:
    """What Xavier's compromise does where a layer has more inputs than outputs, or fewer."""
    rules = {"LeCun": init.lecun_normal(), "Xavier": init.xavier_normal()}
    shapes = [(256, 256), (512, 128), (128, 512), (784, 10)]
    columns = [Column("in", "d", "fan"), Column("out", "d", "fan")]
    for name, way, what in itertools.product(rules, ("up", "down"), ("predicted", "measured")):
        columns.append(Column(what, ".2f", f"{name}, {way}"))
    rows = []
    for fan_in, fan_out in shapes:
        row: list[Any] = [fan_in, fan_out]
        for rule in rules.values():
            variance = rule.law((fan_out, fan_in), fan_in, fan_out).variance
            up, down = [], []
            for seed in setup.draws():
                rng = np.random.default_rng(seed)
                w = init.draw(rule, rng, (fan_out, fan_in), fan_in, fan_out, np.dtype(np.float64))
                up.append(np.mean((rng.standard_normal((8, fan_in)) @ w.T) ** 2))
                down.append(np.mean((rng.standard_normal((8, fan_out)) @ w) ** 2))
            row += [fan_in * variance, float(np.mean(up)), fan_out * variance, float(np.mean(down))]
        rows.append(row)
        advance(len(rows) / len(shapes))
    table = Table(
        "fans",
        "One linear layer: the factor by which it multiplies a signal's second moment on its way up, and a gradient's "
        "on its way down. Predicted: fan in × Var w, and fan out × Var w. LeCun: Var w = 1/fan in.",
        columns,
        rows,
    )
    return Study("fans", "Xavier's compromise", [table], [])


def jacobian(setup: Setup, advance: Advance) -> Study:
    """Products of random matrices: singular values, and why orthogonal ones differ from Gaussian ones."""
    # Squares of singular values scatter as √(depth / width): a third of the depth, and all the networks.
    depth, width, seeds = max(setup.depth // 3, 2), max(setup.width // 2, 2), setup.draws()
    columns = [Column("activation"), Column("weights")]
    for group, spec in (("mean s²", ".2f"), ("spread of s²", ".2f")):
        columns += [Column("predicted", spec, group), Column("measured", spec, group)]
    columns += [Column(name, ".2f", "Lyapunov exponent") for name in ("largest", "median")]
    rows, panels = [], []
    cases = (("linear", 1.0), ("tanh", 1.0), ("relu", math.sqrt(2)))
    for activation, gain in cases:
        curves = []
        for name, rule in (
            ("Gaussian", HE if gain > 1 else init.lecun_normal()),
            ("orthogonal", init.orthogonal(gain)),
        ):
            net: dict[str, Any] = {"depth": depth, "width": width, "activation": activation, "weight_init": rule}
            found = propagate(**net, seeds=seeds, jacobian=True).jacobian
            assert found is not None
            values, growth = np.sqrt(np.mean(found.singular_values**2, axis=0)), found.lyapunov
            rows.append(
                (
                    *(activation, name, found.mean_square_predicted, found.mean_square, found.spread_predicted),
                    *(found.spread, float(growth[0]), float(np.median(growth))),
                )
            )
            curves.append(Curve(name, [(i + 0.5) / len(values) for i in range(len(values))], values))
            advance(len(rows) / (2 * len(cases)))
        panels.append(Panel(activation, "share of directions", "s", curves, {"yscale": "log", "ylim": (1e-8, 1e2)}))
    table = Table(
        "jacobian",
        f"The Jacobian of {depth} layers of {width} units, {len(seeds)} networks each: the mean of its squared "
        "singular values s², their variance over that mean squared, and the growth of log s per layer. Predicted: the "
        "mean field, and free probability.",
        columns,
        rows,
    )
    picture = Picture(
        "singular",
        "Singular values of the whole network, largest first. The mean of s² is the same for both kinds of weights; "
        "what differs is who gets it: with Gaussian weights few directions pass and the others die. Orthogonal "
        "weights let all of them pass a linear network, and no rule for weights undoes what relu shuts.",
        "Three line charts for linear, tanh and relu: sorted singular values on a logarithmic scale; the orthogonal "
        "ones are flat for linear, the Gaussian ones fall steeply.",
        panels,
    )
    return Study("jacobian", "Products of matrices", [table], [picture])


def phase(setup: Setup, advance: Advance) -> Study:
    """Order and chaos: where q settles and by what factor gradients grow, over the sizes of weights and biases."""
    shown = ("tanh", "relu", "sigmoid")
    diagrams = []
    for what in shown:
        diagrams.append(critical(what))
        advance(len(diagrams) / 9)
    edge = critical_line("tanh", [0.5])[0]
    start = min(setup.depth // 3, setup.depth - 2)
    rows = []
    for sigma_w in (0.5, 1.0, edge.sigma_w, 2.0, 3.0):
        q, chi = fixed_point("tanh", sigma_w, edge.sigma_b)
        weights = init.variance_scaling(sigma_w**2, distribution="normal")
        bias = init.normal(std=edge.sigma_b)
        net: dict[str, Any] = {"depth": setup.depth, "width": setup.width, "activation": "tanh"}
        layers = propagate(**net, weight_init=weights, bias_init=bias, seeds=setup.draws(4)).layers
        growth = (layers[start].backward / layers[-2].backward) ** (1 / max(setup.depth - 2 - start, 1))
        name = "critical" if abs(chi - 1) < 1e-6 else "ordered" if chi < 1 else "chaotic"
        last = layers[-1]
        rows.append((sigma_w, name, q, last.forward, chi, growth, last.correlation_predicted, last.correlation))
        advance((3 + len(rows)) / 9)
    columns = [Column("σ_w", ".3f"), Column("phase")]
    for group, spec in (("q*", ".3f"), ("χ₁", ".3f"), ("correlation", ".4f")):
        columns += [Column("predicted", spec, group), Column("measured", spec, group)]
    table = Table(
        "phase",
        f"tanh with σ_b = {edge.sigma_b:.3f}, across the critical line. q*: where a layer's second moment settles. χ₁: "
        f"the factor of a gradient's second moment per layer, measured from layer {setup.depth - 1} down to "
        f"{start + 1}. Correlation: of two inputs after {setup.depth} layers.",
        columns,
        rows,
    )
    ends = []
    for what in ACTIVATIONS:
        line = critical_line(what, [1e-4, 0.1, 1.0])
        stable = [point for point in line if point.stable]
        best = min(stable, key=lambda point: point.sigma_b) if stable else None
        ends.append((what, *((best.sigma_w, best.sigma_b, best.q) if best else (math.nan,) * 3)))
    critical_table = Table(
        "critical",
        "Where a deep network begins best: the point of the critical line with the smallest biases, among q* = 0.0001, "
        "0.1 and 1. Sigmoid has none there that is stable.",
        [Column("activation"), Column("σ_w", ".4f"), Column("σ_b", ".4f"), Column("q*", ".4f")],
        ends,
    )
    picture = Picture(
        "diagrams",
        "log₁₀ χ₁ at the fixed point: blue is ordered (gradients vanish, inputs become alike), red is chaotic "
        "(gradients explode, inputs become strangers), and the black line is critical. For relu it is one point, He's "
        "√2 without biases. All of sigmoid is blue. Theory ends with width: a finite network is a random walk about "
        "these factors, which widens as depth / width.",
        "Three maps over the deviations of weights and biases for tanh, relu and sigmoid, coloured by log10 of chi 1, "
        "with the critical line.",
        [functools.partial(_map, diagram) for diagram in diagrams],
    )
    return Study("phase", "Order and chaos", [table, critical_table], [picture])


def _map(diagram: PhaseDiagram) -> Any:
    """Its picture without a legend, the cells as one image: browsers show seams between many."""
    figure = diagram.plot()
    axes = figure.axes[0]
    axes.set(title=diagram.name, xlabel=r"$\sigma_w$", ylabel=r"$\sigma_b$")
    figure.axes[1].set_ylabel(r"$\log_{10}\,\chi_1$")
    axes.collections[0].set_rasterized(True)
    if legend := axes.get_legend():
        legend.remove()
    return figure


def symmetry(setup: Setup, advance: Advance) -> Study:
    """Hidden units that begin alike: how many there are while training goes on, and what parts them."""
    run = symmetry_run(steps=45 * setup.epochs, seed=setup.seed, blas=True)
    advance(1.0)
    rows, panels = [], []
    cases = {case: list(records) for case, records in itertools.groupby(run.records, key=lambda record: record.case)}
    for case, records in cases.items():
        found = {record.step: record.units for record in records}
        last = records[-1]
        rows.append(
            (case, *(found.get(step, last.units) for step in (0, 1, 16)), last.units, last.spread, last.accuracy)
        )
    for title, what, ylabel, axes in (
        ("distinct units", "units", f"of {run.hidden}", {"yscale": "log"}),
        ("accuracy", "accuracy", "of 360 held-out digits", {"ylim": (0, 1)}),
    ):
        curves = [Curve(case, [r.step for r in rs], [getattr(r, what) for r in rs]) for case, rs in cases.items()]
        panels.append(Panel(title, "steps", ylabel, curves, {"xscale": "symlog", **axes}))
    counts = Table(
        "units",
        f"64–{run.hidden}–10 with tanh on the digits, Adam: distinct hidden units after so many steps, counted to the "
        "bit, and after the last step the largest difference of a weight to unit 0's, and the held-out accuracy.",
        [
            Column("beginning"),
            *(Column(f"{step}", "d", "units after step") for step in (0, 1, 16)),
            Column(f"{run.records[-1].step}", "d", "units after step"),
            Column("spread", ".1e"),
            Column("accuracy", ".1%"),
        ],
        rows,
    )
    twins = Table(
        "twins",
        "H twins beside one unit whose learning rates are scaled by 1/H (in) and H (out), 100 steps of SGD in float64. "
        "Predicted: no difference.",
        [
            Column("H", "d"),
            Column("moved", ".2f", "scores"),
            Column("predicted", ".0f", "difference"),
            Column("measured", ".1e", "difference"),
        ],
        [(row.units, row.moved, 0.0, row.gap) for row in run.twins],
    )
    drift = Table(
        "drift",
        "The largest difference between constant-initialised twins in a weight, where theory says 0: with minigrad's "
        "kernels, whose rounding knows no position, and through BLAS, whose last bit depends on the column.",
        [
            Column("steps", "d"),
            Column("predicted", ".0f"),
            Column("own kernels", ".1e", "measured"),
            Column("BLAS", ".1e", "measured"),
        ],
        [(row.step, 0.0, row.own, row.blas) for row in run.drift if row.step >= 8],
    )
    picture = Picture(
        "units",
        "From a constant, thirty units stay one for ever, and learn what one unit can. One perturbed unit makes two. "
        "Noise of 10⁻⁶, dropout, or random weights out are enough to part all of them within a step, and they end as "
        "good as random ones. Where lines lie on each other the last one is seen.",
        "Two line charts over training steps for six beginnings: the number of distinct units, and the accuracy.",
        panels,
    )
    return Study("symmetry", "Units that are one", [counts, twins, drift], [picture])


def training(setup: Setup, advance: Advance) -> Study:
    """What it is worth: training curves on the digits by initializer, with SGD, and with Adam beside it."""
    digits = data.digits()
    chosen = ("relu", "tanh", "sigmoid")
    rows, panels = [], []
    for activation in chosen:
        curves = []
        for name, rule in INITIALIZERS.items():
            net = _network(activation, rule, setup.seed)
            before = propagate(net, digits.x_train[:64])
            losses, accuracy = _trained(net, optim.SGD(net.parameters(), RATE), digits, setup)
            other = _network(activation, rule, setup.seed)
            _, with_adam = _trained(other, optim.Adam(other.parameters(), ADAM_RATE), digits, setup)
            row = (activation, name, before.backward_predicted, before.backward_gain)
            rows.append((*row, losses[0], losses[-1], accuracy, with_adam))
            curves.append(Curve(name, range(1, setup.epochs + 1), losses))
            advance(len(rows) / (len(chosen) * len(INITIALIZERS)))
        panels.append(Panel(activation, "epoch", "loss", curves, {"yscale": "log", "ylim": (5e-3, 4)}))
    table = Table(
        "training",
        f"{LAYERS} layers of {UNITS} units on the digits. Backward gain: powers of ten before the first step, from the "
        f"last layer to the first. Loss: the mean over the first and the last of {setup.epochs} epochs, SGD with the "
        f"rate {RATE}. Accuracy: held out, after SGD and after Adam with the rate {ADAM_RATE}.",
        [
            Column("activation"),
            Column("initializer"),
            Column("predicted", "+.2f", "backward gain"),
            Column("measured", "+.2f", "backward gain"),
            Column("first", ".3f", "loss"),
            Column("last", ".3f", "loss"),
            Column("SGD", ".1%", "accuracy"),
            Column("Adam", ".1%", "accuracy"),
        ],
        rows,
    )
    picture = Picture(
        "losses",
        "The loss of each epoch, SGD, the same rate everywhere. A flat line at ln 10 ≈ 2.3 is a network that gives all "
        "ten digits the same odds. One run each: the order of the lines is the finding, not their third digit.",
        "Three line charts for relu, tanh and sigmoid: training loss by epoch, a line for each initializer.",
        panels,
    )
    return Study("training", "What it is worth", [table], [picture])


def _network(activation: str, rule: Any, seed: int) -> nn.Sequential:
    kinds = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
    bias = "default" if isinstance(rule, init.default) else 0.0
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise([64, *[UNITS] * (LAYERS - 1), 10]):
        layers += [nn.Linear(fan_in, fan_out, weight_init=rule, bias_init=bias), kinds[activation]()]
    return nn.Sequential(*layers[:-1]).initialize(seed)


def _trained(net: nn.Sequential, opt: optim.Optimizer, digits: data.Dataset, setup: Setup) -> tuple[list[float], float]:
    """The mean loss of each epoch, and the accuracy on the held-out digits."""

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss: Tensor = cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    order: dict[str, Any] = {"batch_size": 32, "epochs": setup.epochs, "seed": setup.seed}
    losses = Compiled(step).run(digits.x_train, digits.y_train, **order).losses.mean(axis=1)
    with no_grad():
        right = net(from_numpy(digits.x_test)).data.argmax(axis=1) == digits.y_test
    return [float(loss) for loss in losses], float(right.mean())


STUDIES: MappingProxyType[str, Callable[[Setup, Advance], Study]] = MappingProxyType(
    {f.__name__: f for f in (propagation, fans, jacobian, phase, symmetry, training)}
)


def run(names: Sequence[str] = (), setup: Setup = DEFAULT, advance: Advance = lambda done: None) -> Iterator[Study]:
    """The studies of these names, or all, one after the other. ``advance`` is told how many are done, with fractions.

    Raises ValueError for a name that is not in ``STUDIES``.

    >>> (study,) = run(["fans"], Setup(seeds=2))
    >>> [[round(x, 9) for x in row[2:6:2]] for row in study.tables[0].rows[:2]]
    [[1.0, 1.0], [1.0, 0.25]]
    """
    if unknown := [name for name in names if name not in STUDIES]:
        raise ValueError(f"there is no study {unknown[0]!r}: there are {', '.join(STUDIES)}")
    for done, name in enumerate(names or STUDIES):
        with np.errstate(all="ignore"):  # what vanishes and explodes is what we came to see
            study = STUDIES[name](setup, functools.partial(_told, advance, done))
        yield study


def _told(advance: Advance, done: int, share: float) -> None:
    advance(done + share)
