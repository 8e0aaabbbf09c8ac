"""The report: self-contained, deterministic, well-formed, and working in a browser."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from benchmarks.report import pages
from benchmarks.report.table import table_csv
from benchmarks.report.write import write_report
from benchmarks.results.loading import load_folders
from benchmarks.results.rows import comparison_table
from server.health import write_failure
from server.records import Failure
from tests.benchmarks.conftest import edit_summary

Make = Callable[..., Path]

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-sync", "--disable-background-networking", "--disable-component-update"),
    "--enable-logging=stderr",
]


class Page(HTMLParser):
    """What the tests ask of a page: balanced tags, ids, references, labels."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.labels: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        table = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in table:
            self.ids.append(table["id"] or "")
        if tag == "svg":
            self.labels.append(table.get("aria-label") or "")
        for key in ("href", "src", "xlink:href", "srcset", "action"):
            if key in table:
                self.references.append(table[key] or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


@pytest.fixture(scope="module")
def comparison(make_comparison: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_comparison(tmp_path_factory.mktemp("report") / "noniid")
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def one_run(make_run: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("report") / "run")
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def swept(make_run: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "sweep"
    for place, density in enumerate((0.05, 0.2, 0.5)):
        cell, sweep = folder / "cells" / f"mpfl-{density}", {"prune.density": density}
        points = [(n * (500 + place), 0.2 * n + 0.05 * place) for n in range(1, 5)]
        make_run(cell, sweep=sweep, points=points)
    make_run(folder / "cells" / "fedavg", "fedavg")
    write_report(folder)
    return folder


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing, where a test is about words and tables."""
    for name in ("curve_pictures", "cost_pictures", "pruning_pictures", "byte_pictures"):
        monkeypatch.setattr(pages, name, lambda *_: [])
    for name in ("partition_map", "spread_over_clients", "error_picture", "target_bars"):
        monkeypatch.setattr(pages, name, lambda *_: None)


@pytest.fixture(params=["comparison", "one_run", "swept"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def test_the_page_is_well_formed_and_loads_nothing(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    inside = {f"#{name}" for name in page.ids}
    for reference in page.references:
        assert reference.startswith(("data:", "#")), reference  # no file that a mail leaves behind
        assert not reference.startswith("#") or reference in inside, reference
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {f"#{n}" for n in page.ids}
    assert not re.search(r"@import|<link(?! rel=\"icon\" href=\"data:)|<script src", text)
    assert len(text.encode()) < 5_000_000


def test_the_page_carries_the_table_and_the_configuration(comparison: Path) -> None:
    page = Page((comparison / "report.html").read_text())
    files = [r.partition("base64,")[2] for r in page.references if "base64," in r]
    carried = {base64.b64decode(text) for text in files}
    assert (comparison / "table.csv").read_bytes() in carried
    assert (comparison / "comparison.toml").read_bytes() in carried


def test_every_drawing_has_a_text_alternative(folder: Path) -> None:
    page = Page((folder / "report.html").read_text())
    assert len(page.labels) >= 7
    assert all(len(label) > 20 for label in page.labels)


def test_every_figure_is_a_file_too(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    names = re.findall(r'data-file="([^"]+)"', text)
    files = [f"{name}.{kind}" for name in names for kind in ("svg", "png", "pdf")]
    assert sorted(files) == sorted(path.name for path in (folder / "figures").iterdir())


def test_figures_fit_one_printed_column_in_readable_print(folder: Path) -> None:
    for file in (folder / "figures").glob("*.svg"):
        text = file.read_text()
        width = float(re.findall(r'width="([\d.]+)pt"', text)[0]) / 72 * 25.4
        assert width == pytest.approx(85, abs=0.2), file.name
        box = re.findall(rb"/MediaBox \[ ?0 0 ([\d.]+)", file.with_suffix(".pdf").read_bytes())
        assert float(box[0]) / 72 * 25.4 == pytest.approx(width, abs=0.2)
        # Glyphs are drawn at 1/100 of their size in points.
        sizes = {float(scale) * 100 for scale in re.findall(r"scale\((0\.0\d+) -", text)}
        assert min(sizes, default=7) >= 6, file.name


def test_drawings_in_the_page_follow_dark_mode(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert "prefers-color-scheme: dark" in text
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "var(--ink)" in drawings
    assert not re.search(r"#1b1f24|#fefefe|#000000|#ffffff", drawings)


def test_the_same_folder_gives_the_same_report(comparison: Path) -> None:
    files = [path for path in sorted(comparison.rglob("*")) if path.is_file()]
    before = [path.read_bytes() for path in files]
    write_report(comparison)
    assert [path.read_bytes() for path in files] == before
    assert [path for path in sorted(comparison.rglob("*")) if path.is_file()] == files


@pytest.mark.usefixtures("without_figures")
def test_times_do_not_reach_the_tables(make_comparison: Make, tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "c", seeds=1, methods=("fedavg", "mpfl"))
    write_report(folder)
    before = [(folder / name).read_bytes() for name in ("table.csv", "table.tex")]
    for cell in (folder / "cells").iterdir():
        edit_summary(cell, seconds=1234.5, peak_memory_bytes=1)
    write_report(folder)
    assert [(folder / name).read_bytes() for name in ("table.csv", "table.tex")] == before
    assert "20 min 3" in (folder / "report.html").read_text()


@pytest.mark.usefixtures("without_figures")
def test_the_result_tells_the_path_and_the_rows(make_comparison: Make, tmp_path: Path) -> None:
    comparison = make_comparison(tmp_path / "c", seeds=1)
    result = write_report(comparison)
    assert result.path == comparison / "report.html"
    assert result.rows == comparison_table(load_folders([comparison])[0])
    assert table_csv(result.rows) == (comparison / "table.csv").read_text()


@pytest.mark.usefixtures("without_figures")
def test_the_comparison_chooses_baseline_and_margin(make_comparison: Make, tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "c", seeds=1, methods=("fedavg", "mpfl"))
    (folder / "comparison.toml").write_text('[compare]\nbaseline = "mpfl"\nmargin = 0.1\n')
    rows = {row.method: row for row in write_report(folder).rows}
    assert rows["fedavg"].ratio is not None
    assert rows["fedavg"].ratio.mean > 5
    assert "to target, against mpfl" in (folder / "report.html").read_text()


def test_html_is_made_by_templates_alone() -> None:
    for file in Path(pages.__file__).parent.glob("*.py"):
        assert set(re.findall(r"</?(\w+)[ >]", file.read_text())) <= {"svg", "metadata"}, file


@pytest.mark.usefixtures("without_figures")
def test_a_template_does_not_pass_over_what_it_was_not_given(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("benchmarks.report.tables.Cell.key")
    with pytest.raises(UndefinedError, match="key"):
        write_report(make_run(tmp_path / "run"))


@pytest.mark.usefixtures("without_figures")
def test_names_are_escaped(make_run: Make, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", '<script>alert("x")</script> & co', method="mpfl")
    text = write_report(folder).path.read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text
    assert Page(text).open == []


@pytest.mark.usefixtures("without_figures")
def test_several_folders_need_somewhere_to_write(make_run: Make, tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name, name, method="mpfl") for name in ("a", "b")]
    with pytest.raises(ValueError, match="folder to write to"):
        write_report(folders)
    result = write_report(folders, tmp_path / "out")
    assert result.path == tmp_path / "out" / "report.html"
    assert [row.method for row in result.rows] == ["a", "b"]
    assert not (tmp_path / "a" / "report.html").exists()


@pytest.mark.usefixtures("without_figures")
def test_unfinished_cells_are_named(make_comparison: Make, tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "c", seeds=1, methods=("fedavg", "mpfl"))
    (folder / "cells" / "mpfl__seed0" / "summary.json").unlink()
    text = write_report(folder).path.read_text()
    assert "Not finished, and not in any figure: mpfl__seed0." in text


@pytest.mark.usefixtures("without_figures")
def test_where_nothing_came_to_a_result_the_page_says_so(
    make_comparison: Make, tmp_path: Path
) -> None:
    folder = make_comparison(tmp_path / "c", seeds=1, methods=("fedavg", "mpfl"))
    cells = folder / "cells"
    health = json.loads((cells / "fedavg__seed0" / "summary.json").read_text())["health"]
    edit_summary(cells / "fedavg__seed0", health={**health, "failed": "diverged"})
    (cells / "mpfl__seed0" / "summary.json").unlink()
    write_failure(cells / "mpfl__seed0", Failure(label="mpfl", seed=0, sweep={}, error="no reply"))
    assert "No run came to a result." in write_report(folder).path.read_text()


@pytest.mark.usefixtures("without_figures")
def test_a_ledger_that_does_not_add_up_is_said(make_run: Make, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "fedavg")
    lines = (folder / "ledger.csv").read_text().splitlines()
    (folder / "ledger.csv").write_text("\n".join(lines[:-1]) + "\n")
    assert "its rounds to" in write_report(folder).path.read_text()


PROBE = """
<script>
const names = () => [...document.querySelector("table.sortable").tBodies[0].rows]
  .map((row) => row.cells[0].dataset.value).join();
const buttons = document.querySelectorAll("table.sortable th button");
const find = (text) => [...buttons].find((button) => button.textContent === text);
const seen = [];
if (find("total bytes")) {
  find("test accuracy").click(); seen.push(names());
  find("test accuracy").click(); seen.push(names());
  find("bytes to target").click(); seen.push(names());
}
const drawing = document.querySelector("[data-spots]");
const [x, y, text] = JSON.parse(drawing.dataset.spots)[0];
const box = drawing.querySelector("svg").getBoundingClientRect();
const scale = box.width / drawing.querySelector("svg").viewBox.baseVal.width;
const at = { clientX: box.left + x * scale, clientY: box.top + y * scale, bubbles: true };
drawing.dispatchEvent(new PointerEvent("pointermove", at));
const shown = document.querySelector(".tip");
seen.push(String(!shown.hidden && shown.textContent === text && text.length > 20));
drawing.dispatchEvent(new PointerEvent("pointerleave", {}));
seen.push(String(shown.hidden));
seen.push(document.documentElement.scrollWidth - document.documentElement.clientWidth);
document.title = seen.join("|");
</script>
"""


FRAME = """
<iframe style="width:{width}px; height:900px; border:0" srcdoc="{page}"></iframe>
<script>
addEventListener("load", () => {{
  const inside = document.querySelector("iframe").contentDocument;
  const heads = [...inside.querySelectorAll(".first th button")];
  const right = (text) => heads.filter((head) => head.textContent === text)
    .map((head) => head.closest("th").getBoundingClientRect().right);
  document.title = JSON.stringify([...right("bytes to target"), ...right("total bytes")]);
}});
</script>
"""


def opened(page: Path, scratch: Path, width: int) -> subprocess.CompletedProcess[str]:
    """Open a page in a browser, which writes what became of it."""
    return subprocess.run(
        [
            str(CHROMIUM),
            *FLAGS,
            f"--user-data-dir={scratch / 'profile'}",
            f"--window-size={width},900",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
@pytest.mark.parametrize("width", [390, 768])
def test_the_columns_that_matter_are_in_view(comparison: Path, tmp_path: Path, width: int) -> None:
    page = html.escape((comparison / "report.html").read_text())
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width, page=page))
    title = re.search(r"<title>(.*?)</title>", opened(frame, tmp_path, 1000).stdout)
    assert title is not None
    places = json.loads(title[1])
    assert len(places) == 2
    assert all(0 < place <= width for place in places)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
@pytest.mark.parametrize("width", [390, 768, 1440])
def test_a_browser_opens_it_without_an_error_and_sorts(
    folder: Path, tmp_path: Path, width: int
) -> None:
    page = folder / "report.html"
    probe = tmp_path / "probe.html"
    probe.write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    done = opened(probe, tmp_path, width)
    # Pages of the browser's own (chrome://) may complain: about a slow machine, say.
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert [line for line in said if "source: chrome://" not in line] == []
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    *orders, told, hidden, overflow = title[1].split("|")
    assert overflow == "0"
    assert (told, hidden) == ("true", "true")
    if orders:
        rows = {row.method: row for row in comparison_table(load_folders([folder])[0])}
        rising = sorted(rows, key=lambda name: rows[name].accuracy.mean)
        assert orders[0] == ",".join(rising)
        assert orders[1] == ",".join(rising[::-1])
        known = [name for name in rows if rows[name].bytes_to_target is not None]
        known.sort(key=lambda name: rows[name].bytes_to_target or 0)
        assert orders[2].split(",")[: len(known)] == known
