"""Pages from templates, with drawings inside that follow dark mode and say their values."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from html import escape
from typing import Any

import tomli_w
from jinja2 import Environment, PackageLoader, StrictUndefined

from benchmarks import units
from benchmarks.figures.palette import COLORS, GRID, INK, MUTED, PAPER
from benchmarks.figures.style import Picture
from benchmarks.results.measures import LINKS

_TONES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--line)", PAPER: "var(--card)"}
_TONES |= {color: f"var(--c{place})" for place, color in enumerate(COLORS)}
_TONE = re.compile("|".join(map(re.escape, _TONES)))
_IDS = re.compile(r'(\bid="|href="#|url\(#)')
_HEAD = re.compile(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', re.DOTALL)
_SVG = '<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{}" role="img" aria-label="{}">'
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)


def rendered(template: str, shown: Mapping[str, Any]) -> str:
    """Return a page."""
    return _templates().get_template(template).render(shown)


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("benchmarks.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": units.bytes_text,
        "percent": units.percent_text,
        "toml": tomli_w.dumps,
        "inline_svg": _inline_svg,
        "spots": _spots,
        "data_url": _data_url,
    }
    environment.globals["links"] = LINKS
    return environment


def _spots(picture: Picture) -> str:
    return json.dumps(picture.spots, ensure_ascii=False, separators=(",", ":"))


def _data_url(text: str, kind: str) -> str:
    """Return a text as a link that carries it, so that it is there wherever the page is."""
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"


def _inline_svg(picture: Picture) -> str:
    """Return a drawing to put into a page: the only HTML that is not a template's.

    Its ids get the picture's name in front (two drawings share one page), and its colours
    become the page's own, so that it follows dark mode.
    """
    text = picture.svg[picture.svg.index("<svg") :]
    text = _METADATA.sub("", text)
    text = _IDS.sub(lambda match: f"{match[1]}{picture.name}-", text)
    text = _TONE.sub(lambda match: _TONES[match[0]], text)
    label = escape(picture.alternative)
    return _HEAD.sub(lambda match: _SVG.format(match[1], label), text, count=1).strip()
