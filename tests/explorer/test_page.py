"""The page of a tape: what is in it, and what a browser shows of it, step by step."""

import itertools
import json
import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.engine.archive import walk
from minigrad.explorer.page import CELLS, matrix, summary


def leaf(array, name=""):
    return mg.tensor(np.asarray(array), requires_grad=True, name=name)


def fan_out():
    """Small arrays; x is used three times, once twice by one op."""
    x = leaf(np.random.default_rng(0).normal(size=(2, 3)).astype("f4"), "x")
    y = mg.tanh(x)
    return (x * x + y * 0.5 - mg.exp(y)).sum()


def network(width=6, twins=False):
    """A network with its data; all hidden units of twins are equal, and stay so."""
    first, last = nn.Linear(8, width), nn.Linear(width, 3)
    if twins:
        first = nn.Linear(8, width, weight_init=0.1, bias_init=0.0)
        last = nn.Linear(width, 3, weight_init=np.repeat([[-0.1], [0.0], [0.1]], width, axis=1))
    net = nn.Sequential(hidden=first, tanh=nn.Tanh(), output=last).initialize(0)
    rng = np.random.default_rng(1)
    return net, rng.normal(size=(40, 8)).astype("f4"), rng.integers(0, 3, 40)


def written(page):
    """The data of a page."""
    return json.loads(re.search(r'id="data">(.*)</script>', page.read_text(encoding="utf-8"))[1])


# What is in it


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "?"])
def test_small_arrays_are_in_it_to_the_bit(dtype):
    array = (np.random.default_rng(0).normal(size=(4, 7)) * 10.0 ** np.arange(-3, 4)).astype(dtype)
    found = json.loads(json.dumps(summary(array, 10**6)))["numbers"]
    assert np.array(found).astype(dtype).tobytes() == array.tobytes()


def test_what_is_no_number_is_a_text():
    array = np.array([np.nan, np.inf, -np.inf, -0.0], "f4")
    assert summary(array, 10**6)["numbers"] == ["NaN", "Infinity", "-Infinity", -0.0]


@pytest.mark.parametrize("shape", [(300,), (17, 90), (3, 50, 70), (1, 5000), (5000, 1)])
def test_large_arrays_are_means_of_blocks(shape):
    array = np.random.default_rng(0).normal(size=shape).astype("f4")
    found = summary(array, 10**6)
    rows, columns = found["grid"]
    assert rows * columns <= CELLS
    assert found["stats"] == pytest.approx([array.min(), array.mean(), array.max(), np.linalg.norm(array)], rel=1e-5)
    flat = array.reshape(-1, shape[-1]).astype("f8")
    r, c = ([*(np.arange(k) * n // k), n] for k, n in zip((rows, columns), flat.shape, strict=True))
    means = [[flat[a:b, d:e].mean() for d, e in itertools.pairwise(c)] for a, b in itertools.pairwise(r)]
    cells, top = matrix(found)
    assert top == pytest.approx(np.abs(means).max())
    assert np.abs(cells - means).max() <= top / 253


def test_an_infinite_block_is_marked():
    array = np.ones((40, 40))
    array[3, 5] = np.inf
    cells, _ = matrix(summary(array, 10**6))
    assert np.argwhere(~np.isfinite(cells)).tolist() == [[3, 5]]


def test_twins_are_equal_to_the_bit_but_for_the_sign_of_zero():
    rows = np.array([[1, 2], [1, 2], [np.nan, 0], [-np.nan, 0], [np.nan, -0.0], [1, np.nextafter(2, 3)]])
    assert summary(rows, 10**6, 0)["twins"] == [0, 0, 2, 2, 2, 5]
    assert "twins" not in summary(rows[1:3], 10**6, 0)
    assert summary(rows[:3].T, 10**6, -1)["twins"] == [0, 0, 2]


def test_names_cannot_end_the_data(tmp_path):
    x = leaf([1.0], "</script><!--<script>alert(1)")
    page = mg.explore(x * x, tmp_path / "<b>.html")
    assert written(page)["nodes"][0][1] == "</script><!--<script>alert(1)"
    assert page.read_text(encoding="utf-8").count("<script") == 2
    assert "<title>&lt;b&gt;</title>" in page.read_text(encoding="utf-8")


def test_a_tape_that_backward_freed_is_shown_and_grad_is_not_touched(tmp_path):
    x = leaf([1.0, 2.0], "x")
    loss = (x * x).sum()
    loss.backward()
    before = x.grad
    content = written(mg.explore(loss, tmp_path / "a.html"))
    assert x.grad is before
    assert x.grad.tolist() == content["frames"][0]["cotangents"][0]["numbers"] == [2.0, 4.0]
    assert content == written(mg.explore(mg.Tape.of(loss), tmp_path / "b.html"))
    parts = content["frames"][0]["parts"]
    assert [[part[:2] for part in found] for found in parts] == [[[1, 0], [1, 1]], [[2, 0]], []]


def test_what_cannot_be_shown_is_an_error(tmp_path):
    x = leaf([1.0, 2.0], "x")
    with pytest.raises(ValueError, match="gradient must be given"):
        mg.explore(x * x, tmp_path / "a.html")
    mg.explore(x * x, tmp_path / "a.html", np.ones(2))
    with pytest.raises(RuntimeError, match="no tape"):
        mg.explore(mg.tensor(1.0), tmp_path / "a.html")
    with pytest.raises(RuntimeError, match="no backward ran"), mg.film(tmp_path / "a.html"):
        (x * x).sum()
    loss = (x * x).sum()
    mg.assign(x, x.data + 1)
    with pytest.raises(RuntimeError, match="written after it was used"):
        mg.explore(loss, tmp_path / "a.html")


def train(path, compiled=False, steps=5, **options):
    net, x, y = network(**options)
    opt = optim.Adam(net.parameters(), lr=0.01)

    def step(x, y):
        loss = mg.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    seen = []
    run = mg.compile(step) if compiled else step
    with mg.film(path) as film:
        for _ in range(steps):
            seen.append({name: p.data.copy() for name, p in net.named_parameters()})
            seen[-1]["loss"] = run(mg.tensor(x), mg.tensor(y)).item()
            seen[-1] |= {f"{name}.grad": p.grad.data.copy() for name, p in net.named_parameters()}
    return seen, film


@pytest.mark.parametrize("compiled", [False, True])
def test_a_film_has_the_numbers_of_each_step(tmp_path, compiled):
    seen, film = train(tmp_path / "a.html", compiled)
    content = written(tmp_path / "a.html")
    names = [node[1] for node in content["nodes"]]
    assert len(film) == len(content["frames"]) == len(seen) == 5
    for frame, before in zip(content["frames"], seen, strict=True):
        assert np.float32(frame["values"][-1]["numbers"][0]) == np.float32(before["loss"])
        for i, name in enumerate(names):
            if name in before:
                for kind, array in (("values", before[name]), ("cotangents", before[f"{name}.grad"])):
                    assert np.float32(frame[kind][i]["numbers"]).tobytes() == array.tobytes()


def test_filming_changes_no_bit_of_the_training(tmp_path):
    seen, _ = train(tmp_path / "a.html", steps=4)
    net, x, y = network()
    opt = optim.Adam(net.parameters(), lr=0.01)
    for before in seen:
        for name, p in net.named_parameters():
            assert p.data.tobytes() == before[name].tobytes()
        opt.zero_grad()
        mg.cross_entropy(net(mg.tensor(x)), mg.tensor(y)).backward()
        opt.step()


def test_units_are_rows_of_weights_and_columns_of_what_they_put_out(tmp_path):
    train(tmp_path / "a.html", twins=True)
    content = written(tmp_path / "a.html")
    names = [node[1] for node in content["nodes"]]
    for frame in content["frames"]:
        hidden = frame["values"][names.index("hidden.weight")]
        assert (hidden["twins"], hidden["axis"]) == ([0] * 6, 0)
        assert frame["cotangents"][names.index("hidden.weight")]["twins"] == [0] * 6
        assert "twins" not in frame["values"][names.index("output.weight")]
        (tanh,) = [i for i, node in enumerate(content["nodes"]) if content["ops"][node[0]]["name"] == "tanh"]
        assert (frame["values"][tanh]["twins"], frame["values"][tanh]["axis"]) == ([0] * 6, 1)


def test_another_tape_is_left_out_with_a_warning(tmp_path):
    x = leaf([1.0, 2.0], "x")

    def run():
        with mg.film(tmp_path / "a.html"):
            for f in (mg.tanh, mg.exp, mg.tanh):
                mg.sum(f(x)).backward()

    with pytest.warns(RuntimeWarning, match="1 of 3 backward passes had another tape"):
        run()
    assert len(written(tmp_path / "a.html")["frames"]) == 2


def test_two_walks_along_one_tape_are_two_frames(tmp_path):
    x = leaf([1.0, 2.0], "x")
    loss = mg.sum(mg.tanh(x))
    with mg.film(tmp_path / "a.html") as film:
        loss.backward(retain_graph=True)
        loss.backward()
    assert len(film) == 2


# What a browser shows


@pytest.fixture
def visit(visit):
    """The page of a tape, once it is ready."""

    def ready(path, scheme="light"):
        page = visit(path, scheme)
        page.wait_for_selector("html[data-ready]", timeout=5000)
        return page

    return ready


def shown(page, kind, line):
    """The numbers in the figure of a line, as texts."""
    figures = page.locator(f'#line figure[data-kind="{kind}"][data-line="{line}"]')
    return figures.first.locator("td, .single").evaluate_all("all => all.map(x => x.title)")


def test_every_step_to_the_end_and_back_shows_the_arrays(tmp_path, visit):
    loss = fan_out()
    tape = mg.Tape.of(loss).backward()
    values = tape.values()
    page = visit(mg.explore(loss, tmp_path / "a.html"))
    forward = page.evaluate("forward.map(n => n.index)")
    assert sorted(forward) == list(range(len(tape)))
    order = [*forward, *(i for i in reversed(range(len(tape))) if tape[i].op), 0]
    visited = []
    for step, line in enumerate(order):
        kind = "value" if step < len(tape) else "cotangent"
        array = (values if kind == "value" else tape.cotangents)[tape[line]]
        assert np.float32(shown(page, kind, line)).tobytes() == array.tobytes()
        assert str(array.shape) in page.locator(f'#line figure[data-line="{line}"] .shape').all_inner_texts()
        visited.append(page.inner_text("#line"))
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#time") == str(len(order) - 1)
    assert "sum of 3" in visited[-1]
    for text in reversed(visited):
        assert page.inner_text("#line") == text
        page.keyboard.press("ArrowLeft")
    assert page.input_value("#time") == "0"


def test_contributions_add_up_to_what_is_shown(tmp_path, visit):
    loss = fan_out()
    page = visit(mg.explore(loss, tmp_path / "a.html"))
    page.keyboard.press("End")
    parts = page.locator("#line figure.part").evaluate_all(
        "all => all.map(f => [...f.querySelectorAll('td')].map(x => x.title))"
    )
    total = np.float32(parts[0])
    for part in parts[1:]:
        total = total + np.float32(part)
    assert len(parts) == 3
    assert total.tobytes() == np.float32(shown(page, "cotangent", 0)).tobytes()


def test_an_op_shows_what_it_sends_to_each_operand(tmp_path, visit):
    loss = fan_out()
    tape = mg.Tape.of(loss)
    number = {node: i for i, node in enumerate(tape)}
    page = visit(mg.explore(loss, tmp_path / "a.html"))
    for node, _, contributions in walk(tape):
        page.evaluate("line => go(turn.get(line))", number[node])
        sent = page.locator(".sent + figure").evaluate_all(
            "all => all.map(f => [...f.querySelectorAll('td, .single')].map(x => x.title))"
        )
        assert len(sent) == len(contributions)
        for texts, (_, array) in zip(sent, contributions, strict=True):
            assert np.float32(texts).tobytes() == array.tobytes()


def test_heat_maps_show_statistics_and_cells(tmp_path, visit):
    x = leaf(np.random.default_rng(0).normal(size=(60, 90)).astype("f4"), "x")
    page = visit(mg.explore(mg.tanh(x).mean(), tmp_path / "a.html"))
    stats = np.float64(page.locator("#line figure dd").evaluate_all("all => all.map(x => x.title)"))
    assert stats == pytest.approx([x.data.min(), x.data.mean(), x.data.max(), np.linalg.norm(x.data)], rel=1e-6)
    rgb = np.array(
        page.evaluate(
            "() => { const c = document.querySelector('#line canvas.heat');"
            "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data] }"
        )
    ).reshape(-1, 4)[:, :3]
    cells = np.array(page.evaluate("matrix(TAPE.frames[0].values[0]).cells"))
    blue = rgb[:, 2] - rgb[:, 0]  # values above 0 are blue, those below 0 grey
    assert (blue[cells > 0.2 * cells.max()] > 20).all()
    assert (blue[cells < -0.2 * cells.max()] < 20).all()
    assert (rgb[np.abs(cells) < 0.01 * cells.max()] > 240).all()


def test_it_is_used_without_a_mouse(tmp_path, visit):
    net, x, y = network()
    page = visit(mg.explore(mg.cross_entropy(net(mg.tensor(x)), y), tmp_path / "a.html"))
    focused = []
    for _ in range(14):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.id"))
    wanted = ["search", "theme", "list", "canvas", "fold", "smaller", "larger", "fit", "line", "play", "back", "next"]
    assert [name for name in focused if name in wanted] == wanted
    assert page.evaluate(
        "[...document.querySelectorAll('button, input, [tabindex]')].filter(x => x.offsetParent).every("
        "x => x.textContent.trim() || x.getAttribute('aria-label') || x.labels?.length)"
    )
    page.keyboard.press("/")
    page.keyboard.type("tanh")
    page.keyboard.press("Enter")
    assert page.inner_text("#found") == "1"
    assert page.inner_text("#line h2").split()[1] == "tanh"
    assert page.locator("#list [aria-selected=true]").inner_text().split()[1] == "tanh"
    page.keyboard.press("Escape")
    page.locator("#list").press("Home")
    page.keyboard.press("b")
    assert page.inner_text("#phase").startswith("backward")
    before = page.locator("#list .row").count()
    page.keyboard.press("c")
    assert page.locator("#list [aria-expanded=false]").count() == 3
    assert page.locator("#list .row").count() < before
    page.keyboard.press("c")
    assert page.locator("#list .row").count() == before
    zoom = page.evaluate("camera.zoom")
    page.keyboard.press("+")
    page.wait_for_function("zoom => camera.zoom > 1.2 * zoom", arg=zoom)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_until_one_chooses(tmp_path, visit, scheme):
    page = visit(mg.explore(fan_out(), tmp_path / "a.html"), scheme)

    def is_dark():
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", paper))) < 300

    other = {"light": "dark", "dark": "light"}[scheme]
    assert is_dark() == (scheme == "dark")
    for system in (other, scheme):
        page.emulate_media(color_scheme=system)
        page.wait_for_timeout(100)  # the page is told in its next frame
        assert is_dark() == (system == "dark")
    page.click("#theme")
    for system in (scheme, other):
        page.emulate_media(color_scheme=system)
        page.wait_for_timeout(100)  # the page is told in its next frame
        assert is_dark() == (scheme != "dark")


def test_a_phone_has_one_part_at_a_time_and_nothing_beyond_the_edge(tmp_path, visit):
    net, x, y = network()
    page = visit(mg.explore(mg.cross_entropy(net(mg.tensor(x)), y), tmp_path / "a.html"))
    page.set_viewport_size({"width": 400, "height": 780})
    for name, parts in (("tape", "#tape"), ("graph", "#graph"), ("line", "#side")):
        page.click(f"#views [data-view={name}]")
        visible = page.locator("main > section").evaluate_all(
            "all => all.filter(x => x.offsetParent).map(x => '#' + x.id)"
        )
        assert visible == [parts]
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert page.evaluate(
            "[...document.querySelectorAll('button')].every(x => x.getBoundingClientRect().right <= 400)"
        )


def test_the_graph_is_drawn_and_its_boxes_do_not_overlap(tmp_path, visit):
    net, x, y = network()
    h = mg.tensor(x)
    page = visit(mg.explore(mg.cross_entropy(net(h) + net(h), y), tmp_path / "a.html"))
    boxes = np.array(page.evaluate("nodes.map(n => [n.ax, n.ay, n.ax + n.w, n.ay + n.h])"))
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    for source, target in page.evaluate("edges.map(e => [e.from, e.to])"):
        assert boxes[source][3] < boxes[target][1]
    page.keyboard.press("0")
    page.wait_for_timeout(50)
    target = page.evaluate(
        "() => { const n = nodes.find(n => n.op?.name === 'tanh'), b = canvas.getBoundingClientRect();"
        "return [b.left + b.width / 2 + (n.ax + n.w / 2 - camera.x) * camera.zoom,"
        "b.top + b.height / 2 + (n.ay + n.h / 2 - camera.y) * camera.zoom] }"
    )
    page.mouse.click(*target)
    assert page.inner_text("#line h2").split()[1] == "tanh"


def test_a_film_is_scrubbed_and_twins_are_marked(tmp_path, visit):
    seen, _ = train(tmp_path / "a.html", twins=True)
    page = visit(tmp_path / "a.html")
    assert "6 units act as 1" in page.inner_text("#network")
    page.click(".tabs [data-view=line]")
    page.keyboard.press("Home")
    name = page.inner_text("#line h2").split()[1]
    for before in seen:
        assert np.float32(shown(page, "value", 0)).tobytes() == before[name].tobytes()
        page.keyboard.press("]")
    assert page.inner_text("#when").startswith("step 5 of 5, loss")


LONG = 10_000


def long_tape(size):
    x = leaf(np.random.default_rng(0).normal(size=size).astype("f4"), "x")
    h = x
    for i in range(LONG // 2):
        h = mg.tanh(h + x if i % 7 == 0 else h * 0.99)
    return h.sum()


@pytest.mark.parametrize("size", [3, pytest.param((16, 32), marks=pytest.mark.intense)])
def test_a_long_tape_is_small_and_opens_at_once(tmp_path, visit, size):
    path = mg.explore(long_tape(size), tmp_path / "a.html")
    assert path.stat().st_size < 5e6
    page = visit(path)
    assert float(page.get_attribute("html", "data-ready")) < 2000
    page.evaluate("go(5000)")
    assert page.locator("#list .row").count() < 100
    assert page.locator("#list [aria-selected=true]").count() == 1
    page.keyboard.press("End")
    assert "Gradient" in page.inner_text("#line")
