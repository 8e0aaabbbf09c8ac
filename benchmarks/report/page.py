"""Pieces of HTML: tables, figures, facts and the page around them; every text is escaped here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template

from benchmarks.figures.style import GRID, INK, MUTED, PAPER, Picture

_TONES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--line)", PAPER: "var(--card)"}
_TONE = re.compile("|".join(map(re.escape, _TONES)))
_IDS = re.compile(r'(\bid="|href="#|url\(#)')
_HEAD = re.compile(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', re.DOTALL)
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)


def page(title: str, heading: str, headline: str, notes: Sequence[str], sections: str) -> str:
    """Return the whole self-contained page."""
    return Template(_template("report.html")).substitute(
        title=escape(title),
        heading=escape(heading),
        headline=escape(headline),
        notes="\n".join(f'<p class="note">{escape(note)}</p>' for note in notes),
        sections=sections,
        css=_template("report.css").strip(),
        script=_template("report.js").strip(),
    )


def _template(name: str) -> str:
    return (files("benchmarks.report") / "templates" / name).read_text(encoding="utf-8")


def section(heading: str, body: str) -> str:
    """Return a section with a heading; nothing for an empty body."""
    return f"<section>\n<h2>{escape(heading)}</h2>\n{body}\n</section>\n" if body else ""


def paragraph(text: str) -> str:
    """Return an explanatory paragraph under something."""
    return f'<p class="under">{escape(text)}</p>\n'


def cell(text: str, value: object, small: str = "") -> str:
    """Return a table cell: its text, its sorting value, and an addition in small print."""
    extra = f" <small>{escape(small)}</small>" if small else ""
    return f'<td data-value="{_value(value)}">{escape(text)}{extra}</td>'


def head_cell(text: str) -> str:
    """Return the first cell of a row."""
    return f'<th scope="row" data-value="{escape(text)}">{escape(text)}</th>'


def _value(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.12g}" if isinstance(value, float) else escape(str(value))


def table(
    headings: Sequence[str],
    rows: Sequence[tuple[str, Sequence[str]]],
    label: str,
    *,
    sort: bool = True,
    titled: bool = True,
) -> str:
    """Return a table that scrolls sideways on narrow screens.

    Parameters
    ----------
    headings
        Column headings.
    rows
        Per row its CSS classes and its finished cells.
    label
        What the table holds.
    sort
        Whether a click on a heading sorts.
    titled
        Whether the label stands above the table; screen readers get it anyway.
    """
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in headings)
    body = "\n".join(
        f'<tr class="{classes}">{"".join(cells)}</tr>' if classes else f"<tr>{''.join(cells)}</tr>"
        for classes, cells in rows
    )
    kind = ' class="sortable"' if sort else ""
    title = f'<h3 class="above">{escape(label)}</h3>\n' if titled else ""
    return (
        f'{title}<div class="wide" role="region" aria-label="{escape(label)}" tabindex="0">\n'
        f"<table{kind}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n"
        "</div>\n"
    )


def figure(picture: Picture) -> str:
    """Return a figure with heading, drawing, text alternative and caption."""
    name = escape(picture.name)
    return (
        f"<figure>\n<h3>{escape(picture.title)}</h3>\n{inline_svg(picture)}\n"
        f"<figcaption>{escape(picture.caption)} "
        f'<span class="files"><a href="figures/{name}.svg">SVG</a> '
        f'<a href="figures/{name}.png">PNG</a></span></figcaption>\n</figure>\n'
    )


def figures(pictures: Sequence[Picture]) -> str:
    """Return figures side by side where there is room."""
    if not pictures:
        return ""
    return '<div class="figures">\n' + "".join(map(figure, pictures)) + "</div>\n"


def inline_svg(picture: Picture) -> str:
    """Return a drawing to put into a page.

    Its ids get the picture's name in front (two drawings share one page), and its four tones
    become the page's own, so that it follows dark mode.
    """
    text = picture.svg[picture.svg.index("<svg") :]
    text = _METADATA.sub("", text)
    text = _IDS.sub(lambda match: f"{match[1]}{picture.name}-", text)
    text = _TONE.sub(lambda match: _TONES[match[0]], text)
    label = escape(picture.alternative)
    return _HEAD.sub(
        lambda match: (
            '<svg xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{match[1]}" role="img" aria-label="{label}">'
        ),
        text,
        count=1,
    ).strip()


def facts(pairs: Mapping[str, str]) -> str:
    """Return a grid of short figures."""
    inside = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in pairs.items()
    )
    return f'<dl class="facts">\n{inside}\n</dl>\n'


def folded(summary: str, body: str, opened: bool = False) -> str:
    """Return a part that opens on a click."""
    mark = " open" if opened else ""
    return (
        f"<details{mark}>\n<summary>{escape(summary)}</summary>\n"
        f'<div class="inside">\n{body}</div>\n</details>\n'
    )


def verbatim(text: str) -> str:
    """Return preformatted text."""
    return f'<pre tabindex="0">{escape(text)}</pre>\n'
