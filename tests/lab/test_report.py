"""The studies of ``minigrad lab``: that their tables hold what the instruments say, and what their page is."""

import base64
import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest

from minigrad import init, lab
from minigrad.kernels import jit
from minigrad.lab import report, studies
from minigrad.lab.studies import Setup

SMALL = Setup(depth=6, width=16, seeds=2, epochs=1, seed=0)


@pytest.fixture(scope="module")
def found():
    return {study.name: study for study in studies.run(setup=SMALL)}


@pytest.fixture(scope="module")
def page(found, requires, tmp_path_factory):
    requires("matplotlib")
    path = tmp_path_factory.mktemp("page") / "lab.html"
    report.save(list(found.values()), path, SMALL)
    return path


class Tree(HTMLParser):
    """(tag, attributes) of all elements, and the texts of table cells by the figure that they are in."""

    VOID = ("meta", "link", "img", "source", "br")

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.tables, self.figure = [], [], {}, ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        if tag == "figure":
            self.figure = attrs["id"]
        if tag in ("td", "th") and "tbody" in self.open:
            self.tables.setdefault(self.figure, []).append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th") and "tbody" in self.open:
            self.tables[self.figure][-1] += data


def rows(study, name):
    return next(table for table in study.tables if table.name == name).rows


# What is in the tables


def test_gains_are_those_of_propagate(found):
    table = {tuple(row[:2]): row[2:] for row in rows(found["propagation"], "gains")}
    assert len(table) == 20
    for activation, name, rule in (
        ("tanh", "He", init.kaiming_normal()),
        ("relu", "PyTorch's default", init.default()),
    ):
        r = lab.propagate(depth=6, width=16, activation=activation, weight_init=rule, seeds=2)
        forward = [r.forward_predicted, r.forward_gain, r.forward_error]
        assert [*table[activation, name]] == [*forward, r.backward_predicted, r.backward_gain, r.backward_error, r.chi]


def test_what_varies_dies_where_the_second_moment_lives():
    """relu with PyTorch's default: healthy by its moments, and 20 layers up there is nothing of the input left."""
    (study,) = studies.run(["propagation"], Setup(depth=20, width=32, seeds=2))
    last = rows(study, "information")[-1]
    assert last[0] == "20"
    assert min(last[1:3]) > 1e-4
    assert max(last[3:5]) < 1e-13
    assert study.tables[1].note.startswith("Verdict: carries no information from layer ")


def test_xavier_is_a_compromise(found):
    for fan_in, fan_out, *factors in rows(found["fans"], "fans"):
        total = fan_in + fan_out
        expected = [1, fan_out / fan_in, 2 * fan_in / total, 2 * fan_out / total]
        assert factors[::2] == pytest.approx(expected)
        assert factors[1::2] == pytest.approx(factors[::2], rel=0.4)


def test_orthogonal_weights_keep_all_directions(found):
    table = {tuple(row[:2]): row[2:] for row in rows(found["jacobian"], "jacobian")}
    assert table["linear", "orthogonal"] == pytest.approx([1, 1, 0, 0, 0, 0], abs=1e-9)
    assert min(table["linear", "Gaussian"][2:4]) > 0.5


def test_phases_are_told_and_seen():
    (study,) = studies.run(["phase"], Setup(depth=12, width=64, seeds=16))
    table = rows(study, "phase")
    assert [row[1] for row in table] == ["ordered", "ordered", "critical", "chaotic", "chaotic"]
    for _, _, q, q_seen, chi, chi_seen, *_ in table:
        assert q_seen == pytest.approx(q, rel=0.2)
        assert chi_seen == pytest.approx(chi, rel=0.2)
    ends = {row[0]: row[1:] for row in rows(study, "critical")}
    assert ends["relu"][:2] == pytest.approx([2**0.5, 0], abs=1e-6)
    assert np.isnan(ends["sigmoid"]).all()


def test_twins_stay_and_noise_parts_them(found):
    table = {row[0]: row[1:] for row in rows(found["symmetry"], "units")}
    assert {case: row[3] for case, row in table.items()} == {
        "constant": 1,
        "nearly constant": 30,
        "random": 30,
        "one perturbed unit": 2,
        "dropout 0.5": 30,
        "random weights out": 30,
    }
    assert table["constant"][4] == 0
    assert all(row[2] == 0 for row in rows(found["symmetry"], "drift"))


@pytest.mark.skipif(not jit.AVAILABLE, reason="NUMBA_DISABLE_JIT is set: 24 networks train for minutes")
def test_initialization_decides_what_sgd_learns():
    (study,) = studies.run(["training"], Setup(epochs=6))
    table = {tuple(row[:2]): row[2:] for row in rows(study, "training")}
    last = {name: table["relu", name][3] for name in studies.INITIALIZERS}
    assert last["He"] < last["Xavier"] < last["PyTorch's default"]
    assert last["PyTorch's default"] == pytest.approx(np.log(10), abs=0.02)
    for predicted, measured, *_ in table.values():
        assert measured == pytest.approx(predicted, abs=0.6)


def test_text_fits_and_names_both_sides(found):
    for study in found.values():
        lines = str(study).splitlines()
        assert max(map(len, lines)) <= 100
        assert any("predicted" in line and "measured" in line for line in lines)
        assert not any(line.endswith(" ") for line in lines)
    assert str(found["propagation"]).count("\nrelu ") == 1


def test_the_seed_decides(found):
    one, two = (list(studies.run(["jacobian"], SMALL._replace(seed=seed))) for seed in (0, 1))
    assert str(one[0]) == str(found["jacobian"]) != str(two[0])


def test_progress_is_told_and_unknown_studies_are_refused():
    told = []
    list(studies.run(["fans", "jacobian"], SMALL, told.append))
    assert told == sorted(told)
    assert {1.0, 2.0} <= set(told)
    with pytest.raises(ValueError, match="no study 'fan'"):
        list(studies.run(["fan"]))


# What the page is


def test_the_page_needs_nothing_else(page):
    text = page.read_text(encoding="utf-8")
    tree = Tree(text)
    ids = [attrs["id"] for _, attrs in tree.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in tree.elements:
        assert tag != "script"
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("src", "srcset", "href"):
            if name in attrs:
                assert attrs[name].startswith("data:") or attrs[name][1:] in ids
        if tag == "img":
            assert len(attrs["alt"]) > 20
    assert "{{" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert {name for tag, a in tree.elements if tag == "section" for name in [a["id"]]} == set(studies.STUDIES)


def test_the_page_has_the_tables(page, found):
    tables = Tree(page.read_text(encoding="utf-8")).tables
    for table in (table for study in found.values() for table in study.tables):
        cells, before = [], None
        for first, *rest in table.cells():
            cells += [*([first] if first != before else []), *rest]
            before = first
        assert [text.replace("−", "-").replace("’", "'") for text in tables[f"table-{table.name}"]] == cells


def test_pictures_are_drawn_in_both_inks(page, found):
    tree = Tree(page.read_text(encoding="utf-8"))
    panels = sum(len(picture.panels) for study in found.values() for picture in study.pictures)
    light, dark = (
        [a[name] for tag, a in tree.elements if tag == kind] for kind, name in (("img", "src"), ("source", "srcset"))
    )
    assert len(light) == len(dark) == panels
    for one, two in zip(light, dark, strict=True):
        one, two = (base64.b64decode(data.partition("base64,")[2]).decode() for data in (one, two))
        assert one.replace(report.LIGHT, report.DARK) == two != one
        assert report.INK not in one
        assert ET.fromstring(one).tag.endswith("svg")


def test_a_page_of_one_study_and_equal_bytes_each_time(requires):
    requires("matplotlib")
    text, again = (report.page(list(studies.run(["fans"], SMALL)), SMALL) for _ in range(2))
    assert text == again
    assert re.findall(r'<section id="(\w+)"', text) == ["fans"]
    assert re.findall(r'href="#(\w+)"', text) == ["fans"]


def test_without_matplotlib_an_older_page_stays(tmp_path, monkeypatch, found):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    path = tmp_path / "lab.html"
    path.write_text("older")
    with pytest.raises(ImportError, match=r"pictures need matplotlib: pip install 'minigrad\[cli\]'"):
        report.save([found["training"]], path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("lab.html", "older")]


# What a browser shows


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_read_on_desks_and_phones(page, visit, width, scheme):
    chromium = visit(page, scheme, width)
    chromium.wait_for_function("[...document.images].every(i => i.complete)")
    assert chromium.evaluate("document.documentElement.scrollWidth") <= width
    images = chromium.evaluate(
        "[...document.images].map(i => [i.naturalWidth, i.width, i.getBoundingClientRect().right])"
    )
    assert len(images) > 10
    for natural, shown, right in images:
        assert natural > 0
        assert shown > 0.75 * natural  # letters of 11.5 pt
        assert right <= width
    paper, ink = (
        sum(map(int, re.findall(r"\d+", chromium.evaluate(f"getComputedStyle(document.body).{what}"))))
        for what in ("backgroundColor", "color")
    )
    assert (ink - paper > 400) if scheme == "dark" else (paper - ink > 400)
    drawn = chromium.evaluate("atob(document.images[0].currentSrc.split('base64,')[1])")
    assert (report.DARK in drawn) == (scheme == "dark")
    small = (
        "[...document.querySelectorAll('p, td, th, figcaption, li')].map(x => parseFloat(getComputedStyle(x).fontSize))"
    )
    assert min(chromium.evaluate(small)) >= 13
