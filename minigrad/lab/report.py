"""The page of ``minigrad lab``: studies as one HTML file, which needs no network, no script and nothing installed."""

from __future__ import annotations

import base64
import io
import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from html import escape
from importlib import resources
from typing import Any

from minigrad.checkpoint import replace, writable
from minigrad.lab.pictures import new_figure
from minigrad.lab.studies import DEFAULT, Column, Panel, Picture, Setup, Study, Table

#: Of the curves; they are seen on light and on dark paper.
COLOURS = ("#3b82c4", "#d9622b", "#1f9d78", "#c66fae", "#c2931c", "#87898c")
#: What is drawn in INK is in the page's own, by its scheme.
INK, LIGHT, DARK = "#123456", "#3a3733", "#c9c4ba"
#: Inches, at 10 pt: what a phone shows in its own size.
SIZE = 3.5, 2.7


def save(studies: Sequence[Study], path: str | os.PathLike[str], setup: Setup = DEFAULT) -> None:
    """Write the page, whole or not at all. Raises as :func:`page`; OSError where the file cannot be written."""
    replace(writable(path), page(studies, setup).encode())


def page(studies: Sequence[Study], setup: Setup = DEFAULT) -> str:
    """The studies as one HTML page: report.html with its sections of these names, filled with tables and pictures.

    Raises ImportError, which says what to install, without matplotlib.
    """
    template = resources.files("minigrad.lab").joinpath("report.html").read_text(encoding="utf-8")
    sections = {name: text for text, name in re.findall(r'(?s)(<section id="(\w+)">.*?</section>)', template)}
    head, foot = template.split("<main>")[0], template.split("</main>")[1]
    parts = {"contents": "".join(f'<li><a href="#{study.name}">{_prose(study.title)}</a></li>' for study in studies)}
    parts["setup"] = (
        f"Random networks of {setup.depth} layers and {setup.width} units, {setup.seeds} of each kind; "
        f"{setup.epochs} epochs of training; seed {setup.seed}."
    )
    for study in studies:
        parts |= {f"table {table.name}": _table(table) for table in study.tables}
        parts |= {f"picture {picture.name}": _picture(picture) for picture in study.pictures}
    text = "\n\n".join([f"{head}<main>", *(sections[study.name] for study in studies), f"</main>{foot}"])
    return re.sub(r"\{\{(.*?)\}\}", lambda slot: parts[slot[1]], text)


def _table(table: Table) -> str:
    rows = "".join(_bodies(table))
    note = f"<figcaption>{escape(table.note)}</figcaption>" if table.note else ""
    return (
        f'<figure id="table-{table.name}"><div class="scroll" tabindex="0" role="region" aria-label="Table">'
        f"<table><thead>{''.join(_head(table))}</thead>{rows}</table></div>"
        f"<figcaption>{_prose(table.caption)}</figcaption>{note}</figure>"
    )


def _head(table: Table) -> Iterator[str]:
    """One row of names; where columns belong together, two."""
    grouped, cells = any(column.group for column in table.columns), []
    for group, columns in table.groups():
        if group:
            cells.append(
                f'<th scope="colgroup" colspan="{len(columns)}" class="group"><span>{_prose(group)}</span></th>'
            )
        else:
            cells += [_name(column, ' rowspan="2"' if grouped else "") for column in columns]
    yield f"<tr>{''.join(cells)}</tr>"
    if grouped:
        yield f"<tr>{''.join(_name(column) for column in table.columns if column.group)}</tr>"


def _name(column: Column, more: str = "") -> str:
    return f'<th scope="col"{more}{"" if column.spec else _WORD}>{escape(column.name)}</th>'


_WORD = ' class="word"'


def _bodies(table: Table) -> Iterator[str]:
    """Rows; those with the same first cell are one body, and it is said once."""
    groups = [list(rows) for _, rows in itertools.groupby(table.cells(), key=lambda row: row[0])]
    if len(groups) == len(table.rows):
        groups = [table.cells()]
    for rows in groups:
        span = len(rows) if len(groups) > 1 else 1
        lines = []
        for i, (first, *rest) in enumerate(rows):
            scope = f'rowgroup" rowspan="{span}' if span > 1 else "row"
            head = f'<th scope="{scope}">{_prose(first)}</th>' if span == 1 or not i else ""
            lines.append(f"<tr>{head}{''.join(map(_cell, rest, table.columns[1:]))}</tr>")
        yield f"<tbody>{''.join(lines)}</tbody>"


def _cell(text: str, column: Column) -> str:
    kind = _WORD if not column.spec else ' class="theory"' if column.name.endswith("predicted") else ""
    return f"<td{kind}>{_prose(text) if not column.spec else escape(text.replace('-', '−'))}</td>"


def _prose(text: str) -> str:
    return escape(text, quote=False).replace("'", "’")


def _picture(picture: Picture) -> str:
    colours = dict(zip(picture.labels, COLOURS, strict=False))
    images = []
    for panel in picture.panels:
        svg = draw(panel, colours)
        light, dark = (
            "data:image/svg+xml;base64," + base64.b64encode(svg.replace(INK, ink).encode()).decode()
            for ink in (LIGHT, DARK)
        )
        what = picture.alt
        if isinstance(panel, Panel):
            what = f"{panel.title}: {panel.ylabel or 'values'} over {panel.xlabel}, lines for {', '.join(colours)}"
        images.append(
            f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
            f'<img src="{light}" alt="{escape(what)}"></picture>'
        )
    names = "".join(f'<li><i style="--line: {c}"></i>{_prose(name)}</li>' for name, c in colours.items())
    names += '<li><i class="theory"></i>predicted</li>' if picture.theory else ""
    legend = f'<ul class="legend">{names}</ul>' if names else ""
    return (
        f'<figure id="picture-{picture.name}"><div class="panels" style="--n: {min(len(images), 3)}" role="group" '
        f'aria-label="{escape(picture.alt)}">{"".join(images)}</div>{legend}'
        f"<figcaption>{_prose(picture.caption)}</figcaption></figure>"
    )


def draw(panel: Panel | Callable[[], Any], colours: dict[str, str]) -> str:
    """A panel as SVG on no ground, its text as paths, so that it looks the same everywhere; equal bytes each time."""
    new_figure(*SIZE)  # says what to install
    import matplotlib as mpl

    style: Any = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    style |= {
        "font.family": ["STIXGeneral", "DejaVu Sans"],
        "mathtext.fontset": "stix",
        "font.size": 11.5,
        "axes.titlesize": 12.5,
    }
    style |= {"svg.hashsalt": "minigrad", "svg.fonttype": "path", "axes.unicode_minus": True}
    style |= {"axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.7, "savefig.dpi": 150}
    with mpl.rc_context(style):
        figure = _curves(panel, colours) if isinstance(panel, Panel) else panel()
        figure.set_size_inches(*SIZE)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return re.sub(r"(?s)<\?xml.*?(?=<svg)", "", out.getvalue())


def _curves(panel: Panel, colours: dict[str, str]) -> Any:
    figure = new_figure(*SIZE)
    axes = figure.subplots()
    for curve in panel.curves:
        style = (
            {"color": INK, "ls": (0, (4, 3)), "lw": 0.8} if curve.theory else {"color": colours[curve.label], "lw": 2}
        )
        axes.plot(curve.x, curve.y, **style, solid_capstyle="round")
    axes.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel, **panel.axes)
    axes.margins(x=0.02)
    return figure
